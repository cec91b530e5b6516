"""The forms in which others publish fitted solvers, and the modules that read them. Imports no torch.

A module has `looks_like(path)`, `read(path, model, **options)` -> tableaux, and SOURCE, where its authors' code and files are.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s4s.errors import S4SError, shown

if TYPE_CHECKING:
    from s4s.models.load import Outline
    from s4s.tableau import Tableau

FORMS = {
    "dyweight": "s4s.export.zoo.dyweight",
    "epd": "s4s.export.zoo.epd",
    "neural_solver": "s4s.export.zoo.neural_solver",
    "gas": "s4s.export.zoo.gas",
    "optimal_steps": "s4s.export.zoo.optimal_steps",
    "gits": "s4s.export.zoo.gits",
}


def reader(form: str) -> Any:
    """The module that reads a form.

    Raises:
        S4SError: if the form is not known, or its module is not there.
    """
    if form not in FORMS:
        raise S4SError(f"unknown form of a published solver {shown(form)}; known: {', '.join(there())}")
    try:
        return import_module(FORMS[form])
    except ModuleNotFoundError as error:
        if error.name != FORMS[form]:
            raise
        raise S4SError(f"this version of s4s does not read the form {form}; it reads {', '.join(there())}") from error


def there() -> list[str]:
    """The forms whose modules are there."""
    folder = Path(__file__).parent
    return [form for form, module in FORMS.items() if (folder / f"{module.rpartition('.')[2]}.py").is_file()]


def form_of(path: str | Path) -> str | None:
    """The form that a file has, by a look at it; None if it has none of these."""
    return next((form for form in there() if Path(path).is_file() and reader(form).looks_like(Path(path))), None)


def read_published(path: str | Path, outline: Outline, form: str | None = None, **options: Any) -> list[Tableau]:
    """The solvers of a file as its authors publish it, for a model.

    Args:
        path: the file.
        outline: the model that they are for, as `s4s.models.load.load_outline` gives it.
        form: a name in FORMS; by default what the file looks like.
        options: of that form's reader, such as `guidance`; those that are None are left out.
    Returns:
        tableaux whose meta says the repository, commit, paper, licence and file.
    Raises:
        S4SError: if the form is not known or not recognised, has no such option, or the file cannot be read as one.
    """
    form = form or form_of(path)
    if form is None:
        raise S4SError(f"{path}: none of the forms {', '.join(there())}, or no such file; say which by the form")
    module = reader(form)
    given = {name: value for name, value in options.items() if value is not None}
    takes = [*inspect.signature(module.read).parameters][2:]
    for name in given:
        if name not in takes:
            raise S4SError(f"{path}: solvers of the form {form} have no option {name}; allowed: {', '.join(takes) or 'none'}")
    about = {**module.SOURCE.meta(), "file": Path(path).name, "form": form}
    if isinstance(given.get("guidance"), int | float):
        about["guidance"] = float(given["guidance"])
    found = module.read(Path(path), outline, **given)
    if not found:
        raise S4SError(f"{path}: holds no solver of the form {form} with these options")
    return [tableau.with_meta(**{**about, **tableau.meta}) for tableau in found]

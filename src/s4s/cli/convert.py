"""s4s convert: schedules and fitted solvers that others have published become tableaux."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s4s.cli.checks import check_folder
from s4s.errors import S4SError
from s4s.export.zoo.forms import FORMS

if TYPE_CHECKING:
    from s4s.models.load import Outline
    from s4s.tableau import Tableau

LD3_GUESSES = {"unipc": ("order", "variant"), "dpmpp": ("order",), "ipndm": ("order",), "ddim": ()}  # its files do not say


def convert(
    schedule: Annotated[
        Path, typer.Argument(help="LD3's .pt file, a text or JSON file with lists, or another published solver's file.")
    ],
    model: Annotated[str, typer.Option(help="The model: a name in config/models, or a path of its YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder for the tableaux, nfe~N.json each.")],
    solver: Annotated[
        str | None, typer.Option(help="Classical solver to run on levels, by default dpmpp; docs/solvers.md has them.")
    ] = None,
    order: Annotated[int | None, typer.Option(help="Its order, where it has one; by default its own or LD3's.")] = None,
    variant: Annotated[str | None, typer.Option(help="Its variant, such as bh1 or bh2; by default its own or LD3's.")] = None,
    form: Annotated[
        str | None,
        typer.Option(
            help=f"ld3, levels or times, or of a published solver {', '.join(FORMS)}; by default what the file looks like."
        ),
    ] = None,
    pick: Annotated[str | None, typer.Option(help="Of several named lists, the one with this name.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help="The guidance scale that it is for; the meta says it.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="A further option of the form, NAME=VALUE; may be given several times.")
    ] = None,
) -> None:
    """Make solvers of what others have published: schedules of LD3, GITS, Align Your Steps or your own; fitted solvers.

    LD3's files become its own samplers: unipc, dpmpp, ipndm, or ddim for its euler. What is guessed of a file is said.
    `s4s zoo list` shows published solvers, and `s4s zoo show NAME` the command that converts each.

    Examples:

    `s4s convert best_v2.pt --model cifar10 --solver unipc --order 3 --out ld3`

    `s4s convert ays.txt --model sd15 --order 2 --out ays`, with a line [999, 850, 736, ...] in ays.txt

    `s4s convert network-snapshot-000010.pkl --model cifar10 --out dyweight`
    """
    from s4s.export.zoo.forms import form_of, read_published
    from s4s.models.load import load_outline
    from s4s.models.provenance import check, made_for
    from s4s.schedules.imported import FORMS as SCHEDULES
    from s4s.tableau import Tableau

    check_folder("--out", out)
    if form is not None and form not in (*SCHEDULES, *FORMS):
        raise S4SError(f"--form {form}: unknown; known: {', '.join((*SCHEDULES, *FORMS))}")
    outline = load_outline(model)
    given = {"solver": solver, "order": order, "variant": variant, "pick": pick, **_options(option or [])}
    form = form or form_of(schedule)
    if form in FORMS:
        found, token = read_published(schedule, outline, form, guidance=guidance, **given), form
    elif option:
        raise S4SError(f"--option {option[0]}: schedules have no further options; {', '.join(FORMS)} may have some")
    else:
        token = solver or "dpmpp"
        found = _of_schedules(schedule, outline, token, order, variant, form, pick)
    about = {} if guidance is None else {"guidance": guidance}
    tableaux: dict[int, Tableau] = {}
    for tableau in found:
        if tableau.nfe in tableaux:
            raise S4SError(f"{schedule}: several solvers with {tableau.nfe} evaluations; --pick one, or convert them apart")
        check(tableau, outline, f"model {outline.name}")
        tableaux[tableau.nfe] = tableau.with_meta(**made_for(outline), **about, token=f"{token}-{schedule.stem}")
    for nfe, tableau in tableaux.items():
        path = out / f"nfe~{nfe}.json"
        if path.exists() and Tableau.load(path).as_json() != tableau.as_json():
            raise S4SError(f"{path} is there and another solver; give another --out, or remove it")
    for nfe, tableau in tableaux.items():
        tableau.save(out / f"nfe~{nfe}.json")
        print(out / f"nfe~{nfe}.json")


def _options(texts: list[str]) -> dict[str, Any]:
    """NAME=VALUE by name; a value is true or false, a number, or text."""
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise S4SError(f"--option {text}: must be NAME=VALUE, such as resolution=1024")
        found[name] = value == "true" if value in ("true", "false") else value
        for number in (int, float):
            with suppress(ValueError):
                found[name] = number(value)
                break
    return found


def _of_schedules(
    schedule: Path, outline: Outline, solver: str, order: int | None, variant: str | None, form: str | None, pick: str | None
) -> list[Tableau]:
    """A classical solver on each of a file's schedules; what was guessed is said."""
    from s4s.schedules.imported import NAMED, read_schedule
    from s4s.solvers import solver as make
    from s4s.solvers.as_ld3 import AS_LD3, as_ld3
    from s4s.solvers.first_evaluation import scaled_start

    options: dict[str, Any] = {name: value for name, value in (("order", order), ("variant", variant)) if value is not None}
    found = read_schedule(schedule, outline, form, pick)
    tableaux = {}
    notes = []
    for entry in found:
        if entry.form == "ld3" and (solver in AS_LD3 or entry.conditioning is not None):
            try:
                times = outline.path if entry.timed else None
                tableau = as_ld3(solver, entry.levels, entry.conditioning, times, order, variant)
            except S4SError as error:
                raise S4SError(f"{schedule}: {error}") from error
            guessed = {name: tableau.meta["options"].get(name) for name in LD3_GUESSES[solver] if name not in options}
            if guessed:
                which, ways = (" and ".join(pattern.format(*pair) for pair in guessed.items()) for pattern in ("{} {}", "--{}"))
                notes.append(f"{which}, as LD3's configs have it for {AS_LD3[solver]}; say another one with {ways}")
        else:
            tableau = make(solver, entry.levels, path=outline.path, **options)
        if entry.guess:
            notes.append(f"read as {entry.guess}" + ("" if entry.form == "ld3" else "; --form levels or times says otherwise"))
        if (first := float(entry.levels[0])) < outline.s_max:
            notes.append(f"starts at noise level {first:.6g}: the noise of level {outline.s_max:.6g} is scaled down to it")
        if tableau.nfe in tableaux:
            names = ", ".join(entry.name for entry in found if entry.name)
            choose = f"--pick one of {names}" if names else f"keep one of them, or {NAMED} and --pick one"
            raise S4SError(f"{schedule}: several lists with {tableau.nfe} evaluations; {choose}")
        tableaux[tableau.nfe] = scaled_start(tableau, outline.s_max)
    for note in dict.fromkeys(notes):
        print(f"note: {schedule}: {note}", file=sys.stderr)
    return [*tableaux.values()]

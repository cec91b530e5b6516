"""s4s convert: schedules that others have published become tableaux."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from s4s.cli.checks import check_folder
from s4s.errors import S4SError

NAMED = "write a name on the line before each"


def convert(
    schedule: Annotated[Path, typer.Argument(help="LD3's .pt file, or a text or JSON file with lists of levels or times.")],
    model: Annotated[str, typer.Option(help="The model: a name in config/models, or a path of its YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder for the tableaux, nfe~N.json each.")],
    solver: Annotated[str, typer.Option(help="Classical solver to run on the levels; docs/solvers.md has them.")] = "dpmpp",
    order: Annotated[int | None, typer.Option(help="Its order, where it has one; by default the solver's own, 3 or 4.")] = None,
    form: Annotated[str | None, typer.Option(help="ld3, levels or times; by default what the file looks like.")] = None,
    pick: Annotated[str | None, typer.Option(help="Of several named lists, the one with this name.")] = None,
) -> None:
    """Make solvers of a schedule that its authors have published: LD3, GITS, Align Your Steps, or a list of your own.

    Examples:

    `s4s convert best_v2.pt --model cifar10 --solver unipc --order 3 --out ld3`

    `s4s convert ays.txt --model sd15 --order 2 --out ays`, with a line [999, 850, 736, ...] in ays.txt
    """
    import torch

    from s4s.models.load import load_outline
    from s4s.models.provenance import check, made_for
    from s4s.schedules.imported import read_schedule
    from s4s.solvers import solver as make
    from s4s.tableau import Tableau

    check_folder("--out", out)
    outline = load_outline(model)
    options: dict[str, Any] = {} if order is None else {"order": order}
    found = read_schedule(schedule, form, outline.path)
    chosen = [entry for entry in found if pick in (None, entry.name)]
    names = ", ".join(entry.name for entry in found if entry.name)
    if not chosen:
        there = names or f"only lists without a name ({NAMED})"
        raise S4SError(f"{schedule}: no list named {pick!r}; there are {there}")
    tableaux = {}
    for entry in chosen:
        if (first := float(entry.levels[0])) > outline.s_max:
            whole = bool((entry.levels == entry.levels.round()).all())
            times = " (times of a table, if these are some, are not this model's)" if whole else ""
            raise S4SError(
                f"{schedule}: {entry.name or 'the list'} starts at noise level {first:.6g}, but model {outline.name} covers "
                f"{outline.s_max:.6g} to {outline.s_min:.6g}{times}; take a schedule for it, or set s_max in its YAML file"
            )
        tableau = make(solver, entry.levels, start=outline.s_max, path=outline.path, **options)
        if entry.conditioning is not None:
            if not torch.allclose(tableau.eval_levels, tableau.levels[:-1], rtol=1e-6):
                raise S4SError(
                    f"{schedule} has a second list, conditioning levels, but {solver} evaluates between "
                    "levels too; take a solver with one evaluation a level, such as dpmpp or unipc"
                )
            tableau = replace(tableau, eval_levels=entry.conditioning)
        if tableau.nfe in tableaux:
            choose = f"--pick one of {names}" if names else f"keep one of them, or {NAMED} and --pick one"
            raise S4SError(f"{schedule}: several lists with {tableau.nfe} evaluations; {choose}")
        check(tableau, outline, f"model {outline.name}")
        tableaux[tableau.nfe] = tableau.with_meta(**made_for(outline), token=f"{solver}-{schedule.stem}")
    for nfe, tableau in tableaux.items():
        path = out / f"nfe~{nfe}.json"
        if path.exists() and Tableau.load(path).as_json() != tableau.as_json():
            raise S4SError(f"{path} is there and another solver; give another --out, or remove it")
    for nfe, tableau in tableaux.items():
        tableau.save(out / f"nfe~{nfe}.json")
        print(out / f"nfe~{nfe}.json")

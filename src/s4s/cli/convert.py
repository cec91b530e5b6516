"""s4s convert: schedules that others have published become tableaux."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from s4s.cli.checks import check_folder
from s4s.errors import S4SError

LD3_GUESSES = {"unipc": ("order", "variant"), "dpmpp": ("order",), "ipndm": ("order",), "ddim": ()}  # its files do not say


def convert(
    schedule: Annotated[Path, typer.Argument(help="LD3's .pt file, or a text or JSON file with lists of levels or times.")],
    model: Annotated[str, typer.Option(help="The model: a name in config/models, or a path of its YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder for the tableaux, nfe~N.json each.")],
    solver: Annotated[str, typer.Option(help="Classical solver to run on the levels; docs/solvers.md has them.")] = "dpmpp",
    order: Annotated[int | None, typer.Option(help="Its order, where it has one; by default its own or LD3's.")] = None,
    variant: Annotated[str | None, typer.Option(help="Its variant, such as bh1 or bh2; by default its own or LD3's.")] = None,
    form: Annotated[str | None, typer.Option(help="ld3, levels or times; by default what the file looks like.")] = None,
    pick: Annotated[str | None, typer.Option(help="Of several named lists, the one with this name.")] = None,
) -> None:
    """Make solvers of a schedule that its authors have published: LD3, GITS, Align Your Steps, or a list of your own.

    LD3's files become its own samplers: unipc, dpmpp, ipndm, or ddim for its euler. What is guessed of a file is said.

    Examples:

    `s4s convert best_v2.pt --model cifar10 --solver unipc --order 3 --out ld3`

    `s4s convert ays.txt --model sd15 --order 2 --out ays`, with a line [999, 850, 736, ...] in ays.txt
    """
    from s4s.models.load import load_outline
    from s4s.models.provenance import check, made_for
    from s4s.schedules.imported import NAMED, read_schedule
    from s4s.solvers import solver as make
    from s4s.solvers.as_ld3 import AS_LD3, as_ld3
    from s4s.solvers.first_evaluation import scaled_start
    from s4s.tableau import Tableau

    check_folder("--out", out)
    outline = load_outline(model)
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
        tableau = scaled_start(tableau, outline.s_max)
        check(tableau, outline, f"model {outline.name}")
        tableaux[tableau.nfe] = tableau.with_meta(**made_for(outline), token=f"{solver}-{schedule.stem}")
    for note in dict.fromkeys(notes):
        print(f"note: {schedule}: {note}", file=sys.stderr)
    for nfe, tableau in tableaux.items():
        path = out / f"nfe~{nfe}.json"
        if path.exists() and Tableau.load(path).as_json() != tableau.as_json():
            raise S4SError(f"{path} is there and another solver; give another --out, or remove it")
    for nfe, tableau in tableaux.items():
        tableau.save(out / f"nfe~{nfe}.json")
        print(out / f"nfe~{nfe}.json")

"""s4s export: a folder that other programs load a solver from, with its card."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from s4s.cli.checks import check_folder
from s4s.errors import S4SError

Files = Annotated[list[Path], typer.Argument(help="Files of one solver, or its folder results/tableaux/MODEL/SOLVER.")]
Scores = Annotated[Path | None, typer.Option(help="results/tables/scores.csv, for the card.")]
Licence = Annotated[str, typer.Option(help="The solver's licence, as model hubs spell it: apache-2.0, cc0-1.0, ...")]

export = typer.Typer(no_args_is_help=True, help="Write a solver as other programs load it.", rich_markup_mode="markdown")


@export.command()
def diffusers(
    tableaux: Files,
    out: Annotated[Path, typer.Option(help="The folder to write: scheduler_config.json and README.md, the card.")],
    like: Annotated[
        Path | None, typer.Option(help="The model's own scheduler, or its whole pipeline: a folder of diffusers.")
    ] = None,
    scores: Scores = None,
    licence: Licence = "unknown",
    repo: Annotated[
        str | None, typer.Option(help="The repository on the hub that it goes to, owner/name, for the card.")
    ] = None,
    base_model: Annotated[str | None, typer.Option(help="The model's own repository on the hub, for the card.")] = None,
) -> None:
    """Write a scheduler for diffusers' pipelines, with a card for a model hub.

    Without **--like** noise schedule and prediction type are those that the tableau says its model has.

    Example: `s4s export diffusers results/tableaux/sd15/s4s_alt --like stable-diffusion-v1-5 --out s4s-sd15`,
    then `pipe.scheduler = s4s.S4SScheduler.from_pretrained("s4s-sd15")`
    """
    from s4s.export.collection import read_tableaux
    from s4s.export.scheduler import S4SScheduler
    from s4s.files.atomic import write_text

    check_folder("--out", out)
    found = read_tableaux(tableaux)
    scheduler = S4SScheduler.from_tableau(list(found.values()), like=None if like is None else _config(like))
    page = scheduler.card(repo, base_model, licence, scores)
    scheduler.save_pretrained(out)
    write_text(out / "README.md", page)
    print(f"{out}: {', '.join(map(str, found))} steps")


@export.command()
def comfyui(
    tableaux: Files,
    out: Annotated[Path, typer.Option(help="ComfyUI's own folder, which has custom_nodes and models.")],
    scores: Scores = None,
    licence: Licence = "unknown",
) -> None:
    """Put the node "S4S Solver" and a solver's files into ComfyUI, whose Python needs this package too (docs/pipelines.md).

    Files go to models/s4s/MODEL/SOLVER, with a card, and take the place of those of the same name there.

    Example: `s4s export comfyui results/tableaux/sd15/s4s_alt --out ComfyUI`
    """
    from s4s.export.card import COMFYUI, card
    from s4s.export.collection import read_tableaux
    from s4s.files.atomic import write_text

    found = read_tableaux(tableaux)
    names = {str(tableau.meta.get(key) or "") for tableau in found.values() for key in ("model", "token")}
    if wrong := [name for name in names if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name)]:
        raise S4SError(
            f"a solver's meta must name its model and itself (token), in letters, digits and _.-, not {wrong[0]!r}, for the "
            "folder in ComfyUI; Tableau.with_meta(model=..., token=...) does so"
        )
    for needed in ("custom_nodes", "models"):
        if not (out / needed).is_dir():
            raise S4SError(f"{out}: has no folder {needed}; --out is the folder that ComfyUI was installed in")
        check_folder("--out", out / needed)
    first = next(iter(found.values()))
    folder = out.joinpath("models", "s4s", first.meta["model"], first.meta["token"])
    there = read_tableaux(folder) if any(folder.glob("*.json")) else {}
    page = card(dict(sorted({**there, **found}.items())), COMFYUI, licence, scores)
    node = files("s4s.export").joinpath("comfyui", "__init__.py").read_text(encoding="utf-8")
    for nfe, tableau in found.items():
        tableau.save(folder / f"nfe~{nfe}.json")
        print(folder / f"nfe~{nfe}.json")
    write_text(folder / "README.md", page)
    write_text(out / "custom_nodes" / "s4s" / "__init__.py", node)


def _config(folder: Path) -> dict[str, object]:
    from s4s.models.pipelines.diffusers_folder import read_scheduler

    for place in (folder, folder / "scheduler"):
        if (place / "scheduler_config.json").is_file():
            return read_scheduler(place)
    raise S4SError(
        f"{folder}: no scheduler_config.json there, nor in its folder scheduler; give a scheduler's or a pipeline's folder"
    )

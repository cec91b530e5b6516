"""What people read of the zoo: the facts of an entry, its commands, and docs/zoo.md."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from s4s.errors import S4SError
from s4s.files.plain_text import Written, in_one_line, markdown, markdown_table
from s4s.models.published_solvers import Entry, Score, entries

HEAD = """# The zoo: solvers that others have published

Made from resources/zoo by `python -m s4s.export.zoo > docs/zoo.md`; a test fails when it drifts.

Others have published solvers that they fitted to known models. Here each is a tableau, by an exact conversion that is held
against its authors' own sampling loop on a small network (float64, to 1e-10). Where the licence of the numbers allows, they
come with s4s:

    pipe.scheduler = s4s.S4SScheduler.from_tableau("zoo:ays-sd15", pipe.scheduler)  # or "zoo:NAME/NFE" for one of several
    tableau = s4s.export.zoo.zoo_tableau("zoo:gits-cifar10/6", s4s.load_model("cifar10"))

Where no licence is stated, or one that forbids it, you get a copy of your own and convert it with `s4s convert`; the commands
are below, and `s4s zoo show NAME` prints them. `s4s zoo list` is this table. A converted file's meta says where its numbers
come from. A solver for a network on another path, or with another range of noise levels, is refused; whether it was fitted for
your weights and your guidance nobody can see, so look at the column "model".

In a comparison a published solver is a definition: `gits_published: {tableau: "zoo:gits-cifar10"}`, or your converted files,
`{tableau: {cifar10: "zoo/dyweight-cifar10/nfe~{nfe}.json"}}`. `snakemake published --configfile config/paper.yaml` compares
ours with all of them; cells whose files are not there are left out, and the plan names them.

Figures are their authors' or others', not measured here; those of several sources are no comparison. The column NFE counts all
evaluations of a run, those at the same time each, and one for a step where guidance needs two passes. Figures have the NFE of
their source.
"""


def facts(entry: Entry) -> dict[str, str]:
    """What a person wants to know, by its name; only what is known."""
    found = {
        "name": f"zoo:{entry.name}",
        "method": entry.method,
        "model": entry.model,
        "in config/models": ", ".join(entry.config),
        "evaluations": counts(entry.nfe),
        "guidance": "" if entry.guidance is None else f"{entry.guidance:g}",
        "network": ", ".join(f"{key} {value}" for key, value in entry.path.items()),
        "ships": "yes" if entry.ships else "no",
        "licence": entry.licence,
        "paper": entry.paper,
        "repository": entry.repository,
        "commit": entry.commit or "",
        "files": entry.files,
        **{f"published, {source}": figures for source, figures in by_source(entry).items()},
        "note": entry.note,
    }
    return {key: in_one_line(value) for key, value in found.items() if value}


def counts(numbers: Sequence[int]) -> str:
    """Numbers of evaluations in words: "3 to 9" where none is left out."""
    whole = len(numbers) > 3 and all(later == earlier + 1 for earlier, later in pairwise(numbers))
    return f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers))


def by_source(entry: Entry) -> dict[str, str]:
    """Published figures in a line for each source: "FID 8.38 (NFE 5), 4.88 (6)"."""
    sources: dict[str, list[Score]] = {}
    for score in entry.figures:
        sources.setdefault(score.source, []).append(score)
    return {source: _line(sorted(scores, key=lambda score: (score.measure, score.nfe))) for source, scores in sources.items()}


def _line(scores: list[Score]) -> str:
    measures: dict[str, list[str]] = {}
    for score in scores:
        parts = measures.setdefault(score.measure, [])
        parts.append(f"{score.value:g} ({'' if parts else 'NFE '}{score.nfe})")
    return "; ".join(f"{measure} {', '.join(parts)}" for measure, parts in measures.items())


def commands(entry: Entry) -> list[str]:
    """How to get it: its commands, or a line of Python where its numbers ship."""
    if not entry.ships:
        return entry.commands
    model = f's4s.load_model("{entry.config[0]}")' if entry.config else "denoiser"
    which = f"zoo:{entry.name}" + (f"/{entry.nfe[0]}" if len(entry.nfe) > 1 else "")
    found = [f'tableau = s4s.export.zoo.zoo_tableau("{which}", {model})']
    if entry.path.get("path") != "edm" or entry.path.get("sigma_data") == 1:  # networks in pixels have no pipeline
        found.insert(0, f'pipe.scheduler = s4s.S4SScheduler.from_tableau("zoo:{entry.name}", pipe.scheduler)')
    return found


def page() -> str:
    """The whole of docs/zoo.md."""
    known = entries()
    if not known:
        raise S4SError("resources/zoo has no entries; restore the folder")
    head = ("name", "model", "method", "NFE", "published", "licence", "command")
    rows = [
        (
            Written(f"[{entry.name}](#{entry.name.replace('.', '')})"),
            entry.model,
            f"{entry.method} ({entry.paper})",
            counts(entry.nfe),
            Written("<br>".join(f"{markdown(figures)}: {markdown(source)}" for source, figures in by_source(entry).items())),
            entry.licence,
            Written(f"`{commands(entry)[-1]}`"),
        )
        for entry in known.values()
    ]
    return "\n\n".join([HEAD.strip(), markdown_table(head, rows, ":---"), *map(_section, known.values())]) + "\n"


def _section(entry: Entry) -> str:
    about = facts(entry)
    lines = [f"* {markdown(key)}: {markdown(about[key])}" for key in about if key not in ("name", "method", "model", "note")]
    parts = [f"## {entry.name}", markdown(f"{entry.method}, for {entry.model}. {entry.note}".strip()), "\n".join(lines)]
    return "\n\n".join([*parts, "\n".join(f"    {line}" for line in commands(entry))])

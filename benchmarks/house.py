"""The structure of a checkout in numbers: entries at the top of the package, arrows between rooms, lines.

    python benchmarks/house.py [CHECKOUT ...]

A room is a file or folder at the top of src/s4s; an arrow joins two rooms of which one imports from the other, within functions
too, but for type checks alone. Arrows in circles join rooms that import each other, directly or around.
"""

from __future__ import annotations

import argparse
import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

# rooms by how far up they are: a room imports from those before it alone
ORDER: list[tuple[str, ...]] = [
    ("errors",),
    ("files",),
    ("jobs",),
    ("tableau",),
    ("models",),
    ("sampling", "schedules"),
    ("solvers",),
    ("metrics",),
    ("learning",),
    ("study",),
    ("reporting", "export"),
    ("cli",),
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
Arrows = dict[tuple[str, str], list[str]]


def rooms(package: Path) -> set[str]:
    """Names of the files and folders at the top that hold code, but for __init__."""
    found = {path.stem for path in package.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    return found - {"__init__"}


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules that code imports; registries name theirs in strings."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("s4s."):
            yield node.value.partition(":")[0]
        yield from imported(node)


def arrows(package: Path) -> Arrows:
    """(room, other room) -> what is imported where."""
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    there = rooms(package)
    for file in sorted(package.rglob("*.py")):
        room = file.relative_to(package).parts[0].removesuffix(".py")
        for name in imported(ast.parse(file.read_text())) if room in there else ():
            other = (*name.split("."), "")[1]
            if name.startswith("s4s.") and other in there - {room}:
                found[room, other].append(f"{file.relative_to(package)} imports {name}")
    return dict(found)


def upward(found: Arrows) -> list[str]:
    """Imports against the order."""
    return [line for (room, other), lines in found.items() if RANK[other] >= RANK[room] for line in lines]


def in_circles(found: Arrows) -> int:
    """Number of arrows whose start can be reached from their end."""
    reach = {room: {other for start, other in found if start == room} for room in {room for arrow in found for room in arrow}}
    for middle in reach:
        for others in reach.values():
            if middle in others:
                others |= reach[middle]
    return sum(room in reach[other] for room, other in found)


def lines(*folders: Path) -> int:
    """Lines of code and comments in some folders' Python files and rules."""
    return sum(
        len(path.read_text().splitlines()) for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".smk")
    )


def main() -> None:
    """Print a table, a column a checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).parents[1]])
    columns = []
    for checkout in parser.parse_args().checkouts:
        package = checkout / "src/s4s"
        found = arrows(package)
        ordered = RANK.keys() >= rooms(package)
        columns.append(
            {
                "entries at the top of src/s4s": len([*package.glob("[!_]*"), *package.glob("__init__.py")]),
                "arrows between them": len(found),
                "arrows in circles": in_circles(found),
                "imports against the order": len(upward(found)) if ordered else "no order",
                "lines of src": lines(checkout / "src"),
                "lines of rules and workflow": lines(checkout / "rules", checkout / "workflow"),
            }
        )
    for name in columns[0]:
        print(f"| {name} | {' | '.join(str(column[name]) for column in columns)} |")


if __name__ == "__main__":
    main()

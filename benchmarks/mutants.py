"""Small faults in the package and the rules, one at a time, and whether the tests that reach them fail.

    python benchmarks/mutants.py --map                                        once: which tests call which functions
    python benchmarks/mutants.py --seed 24 --count 40 --out build/mutants.json    goes on where it was stopped
    python benchmarks/mutants.py --out build/mutants.json --report            the table in Markdown
    python benchmarks/mutants.py --out build/mutants.json --note 17 "equivalent: both bounds are the same number there"

A mutant is one changed expression or one deleted statement in `src/s4s` or `workflow/scripts`, or one changed line of `rules`.
They are drawn by a recorded seed, in turn from each room of the package, the scripts and the rules, at most one a function.
Each is applied in a copy of the tracked files, where the tests that call the changed function run, cheapest file first, until
one fails; if none does, the tests of the file's other functions run too, and what then still passes is a survivor. It says
that something is not tested, or that the mutant is equivalent, which only a reader can tell: `--note` keeps what they found.

The map of tests to functions (build/reach.json) is made by running each test file once under a tracer of calls, in the
processes that tests start too (benchmarks/reach); it is kept for test files that are as they were. `--only` and `--tests` limit
sources and test files, to try it.
"""

import argparse
import ast
import copy
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
REACH = ROOT / "build/reach.json"
TRACER = ROOT / "benchmarks/reach"
MARKERS = "not suite and not nightly"


@dataclass
class Mutant:
    """One change, and what became of it.

    Attributes:
        start, end: bytes of the file that are replaced.
        function: first line of the innermost function around it; 0 for none.
        status: "" (not run yet), caught, timeout (caught too) or survived.
        by: the test that failed.
        tests: number of tests that were chosen.
    """

    file: str
    line: int
    function: int
    kind: str
    start: int
    end: int
    before: str
    after: str
    status: str = ""
    by: str = ""
    seconds: float = 0.0
    tests: int = 0
    note: str = ""


NEGATIONS = {
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn,
    ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
BOUNDARIES = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.MatMult: ast.Add,
}  # fmt: skip


def changed(node: ast.AST) -> Iterator[tuple[str, ast.AST | None]]:
    """The mutants of one node: their kind, and the node instead; None for a statement that goes."""
    other = copy.deepcopy(node)
    if isinstance(other, ast.Compare):
        for kind, instead in (("comparison", NEGATIONS), ("boundary", BOUNDARIES)):
            if type(node.ops[0]) in instead:  # type: ignore[attr-defined]
                other.ops[0] = instead[type(node.ops[0])]()  # type: ignore[attr-defined]
                yield kind, other
    elif isinstance(other, ast.BinOp) and type(other.op) in ARITHMETIC and not _is_text(other):
        other.op = ARITHMETIC[type(other.op)]()
        yield "arithmetic", other
    elif isinstance(other, ast.BoolOp):
        other.op = ast.Or() if isinstance(other.op, ast.And) else ast.And()
        yield "and, or", other
    elif isinstance(other, ast.UnaryOp) and isinstance(other.op, ast.Not):
        yield "dropped not", other.operand
    elif isinstance(other, ast.UnaryOp) and isinstance(other.op, ast.USub) and not isinstance(other.operand, ast.Constant):
        yield "dropped minus", other.operand
    elif isinstance(other, ast.Constant) and isinstance(other.value, bool):
        yield "constant", ast.Constant(not other.value)
    elif isinstance(other, ast.Constant) and isinstance(other.value, int | float):
        yield "constant", ast.Constant(other.value + 1)
    elif isinstance(other, ast.If | ast.IfExp | ast.While):
        yield "negated condition", ast.UnaryOp(ast.Not(), other.test)
    elif isinstance(other, ast.Return) and isinstance(other.value, ast.Tuple) and len(other.value.elts) > 1:
        elements = other.value.elts
        elements[0], elements[1] = elements[1], elements[0]
        yield "swapped results", other
    elif isinstance(other, ast.AugAssign | ast.Raise | ast.Continue | ast.Break) or (
        isinstance(other, ast.Expr) and isinstance(other.value, ast.Call)
    ):
        yield "deleted statement", None


def _is_text(node: ast.BinOp) -> bool:
    sides = (node.left, node.right)
    return any(
        isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str)) for side in sides
    )


def of_python(file: str) -> list[Mutant]:
    """All mutants of a Python file; types, docstrings and texts are left alone."""
    data = (ROOT / file).read_bytes()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: list[Mutant] = []

    def visit(node: ast.AST, function: int) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        for kind, instead in changed(node):
            at = node.test if kind == "negated condition" else node  # type: ignore[attr-defined]
            start = starts[at.lineno - 1] + at.col_offset  # type: ignore[attr-defined]
            end = starts[at.end_lineno - 1] + at.end_col_offset  # type: ignore[attr-defined]
            text = "pass" if instead is None else ast.unparse(ast.fix_missing_locations(instead))
            after = f"({text})" if isinstance(instead, ast.expr) else text
            before = data[start:end].decode()
            if not (file.endswith("__init__.py") and function == 0):
                found.append(Mutant(file, at.lineno, function, kind, start, end, before, after))  # type: ignore[attr-defined]
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "bases", "keywords" if isinstance(node, ast.ClassDef) else ""):
                continue
            if isinstance(node, ast.JoinedStr):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child, function)

    visit(ast.parse(data), 0)
    return found


IN_RULES = (  # what is looked for on a line of a rule, what takes its place, and what that is called
    (re.compile(r"^ +\w+=.*,$"), "", "dropped line"),
    (re.compile(r"==|!="), {"==": "!=", "!=": "=="}, "comparison"),
    (re.compile(r"\bnot (?!in\b)"), "", "dropped not"),
    (re.compile(r"\b(?:and|or)\b(?=[^\"]*$)"), {"and": "or", "or": "and"}, "and, or"),
    (re.compile(r"\{(?:wildcards\.)?(?:model|solver|nfe)\}"), {"model": "solver", "solver": "nfe", "nfe": "model"}, "wildcard"),
    (re.compile(r"(?<=[=(\[ ])\d+(?=[,)\]]|$)"), None, "constant"),
)


def of_rules(file: str) -> list[Mutant]:
    """All mutants of a file of rules, line by line."""
    found, position, inside = [], 0, ""
    for number, line in enumerate((ROOT / file).read_bytes().splitlines(keepends=True), 1):
        text = line.decode().rstrip("\n")
        if section := re.match(r"    (?:    )?(\w+):(?!=)", text):
            inside = section[1]
        if not text.lstrip().startswith(("#", '"""')):
            for pattern, instead, kind in IN_RULES:
                if kind == "dropped line" and inside not in ("input", "output", "params", "resources"):
                    continue
                for match in pattern.finditer(text):
                    before = match[0]
                    if instead is None:
                        after = str(int(before) + 1)
                    elif isinstance(instead, str):
                        after = instead
                    else:
                        after = re.sub("|".join(instead), lambda word: instead[word[0]], before)  # noqa: B023
                    start = position + len(text[: match.start()].encode())
                    found.append(Mutant(file, number, 0, kind, start, start + len(before.encode()), before, after))
        position += len(line)
    return found


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def tracked() -> list[str]:
    return git("ls-files").splitlines()


def room(file: str) -> str:
    """What mutants are drawn from in turn."""
    parts = Path(file).parts
    return parts[2] if parts[0] == "src" and len(parts) > 3 else "top" if parts[0] == "src" else parts[0]


def draw(seed: int, count: int, only: str) -> list[Mutant]:
    """Mutants in turn from each room, at most one a function (a file of rules: a line)."""
    sites = defaultdict(list)
    for file in tracked():
        if file.startswith(only) and file.startswith(("src/s4s/", "workflow/scripts/")) and file.endswith(".py"):
            sites[room(file)] += of_python(file)
        elif file.startswith(only) and file.startswith("rules/"):
            sites[room(file)] += of_rules(file)
    rng, chosen, places = random.Random(seed), [], set()
    for own in sites.values():
        rng.shuffle(own)
    while len(chosen) < count and any(sites.values()):
        for name in sorted(sites):
            while sites[name] and len(chosen) < count:
                mutant = sites[name].pop()
                place = (mutant.file, mutant.function or mutant.line)
                if place not in places:
                    places.add(place)
                    chosen.append(mutant)
                    break
    return chosen


# Which tests reach a function


@dataclass
class Reach:
    """What the tests of one file call.

    Attributes:
        digest: of the test file.
        calls: test -> file -> first lines of its functions.
        seconds: what each test took, traced.
    """

    digest: str
    calls: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def test_files(only: list[str]) -> list[str]:
    files = [file for file in tracked() if re.fullmatch(r"tests/test_\w+\.py", file)]
    return [file for file in files if not only or file in only]


def environment(folder: Path, **more: str) -> dict[str, str]:
    path = [str(folder / "src"), *([str(TRACER)] if "S4S_REACH" in more else [])]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("S4S_")}
    return {**inherited, "PYTHONPATH": os.pathsep.join(path), **more}


def make_map(only: list[str]) -> dict[str, Reach]:
    """The map of all test files, of which the unchanged ones are known; kept after each file."""
    REACH.parent.mkdir(exist_ok=True)
    known = {name: Reach(**entry) for name, entry in json.loads(REACH.read_text()).items()} if REACH.exists() else {}
    for file in test_files(only):
        digest = hashlib.sha256((ROOT / file).read_bytes()).hexdigest()
        if file in known and known[file].digest == digest:
            continue
        print(f"tracing {file}", flush=True)
        known[file] = traced(file, digest)
        REACH.write_text(json.dumps({name: asdict(entry) for name, entry in known.items()}))
    return known


def traced(file: str, digest: str) -> Reach:
    """Run a test file under the tracer."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.touch()
        command = [sys.executable, "-m", "pytest", "-q", "-p", "reach", "-p", "no:cacheprovider", "-m", MARKERS, file]
        subprocess.run(command, cwd=ROOT, env=environment(ROOT, S4S_REACH=str(log)), capture_output=True)
        calls: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        fixtures, passed, seconds = defaultdict(set), set(), {}
        for line in log.read_text().splitlines():
            by, what, number = line.split("\t")
            if what.startswith("fixture "):
                fixtures[by].add(what)
            elif what == "outcome":
                passed |= {by} if number == "passed" else set()
            elif what == "seconds":
                seconds[by] = float(number)
            else:
                calls[by][what].add(int(number))
    found = Reach(digest)
    for test in sorted(passed):
        own: dict[str, set[int]] = defaultdict(set)
        for caller in [test, *fixtures[test]]:
            for name, lines in calls.get(caller, {}).items():
                own[name] |= lines
        found.calls[test] = {name: sorted(lines) for name, lines in own.items()}
        found.seconds[test] = seconds[test]
    return found


def chosen_tests(mutant: Mutant, known: dict[str, Reach]) -> tuple[list[str], list[str]]:
    """The tests that call the mutant's function, and those that call another of its file; cheapest test file first."""
    near, far = defaultdict(list), defaultdict(list)
    for file, reach in known.items():
        for test, calls in reach.calls.items():
            if mutant.file in calls:
                at_once = mutant.function == 0 or mutant.function in calls[mutant.file]
                (near if at_once else far)[file].append(test)

    def cheapest_first(groups: dict[str, list[str]]) -> list[str]:
        cost = {file: sum(known[file].seconds[test] for test in tests) for file, tests in groups.items()}
        return [test for file in sorted(groups, key=lambda file: cost[file]) for test in groups[file]]

    return cheapest_first(near), cheapest_first(far)


# Runs


def run_tests(folder: Path, tests: list[str], known: dict[str, Reach]) -> tuple[str, str]:
    """Status and the first test that fails."""
    if not tests:
        return "survived", ""
    seconds = sum(reach.seconds[test] for reach in known.values() for test in tests if test in reach.seconds)
    (folder / "tests.txt").write_text("\n".join(tests))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", MARKERS, "@tests.txt"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    run = subprocess.Popen(command, cwd=folder, env=environment(folder), **pipes)  # type: ignore[call-overload]
    try:
        output, _ = run.communicate(timeout=120 + 5 * seconds)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        return "timeout", ""
    if run.returncode == 0:
        return "survived", ""
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    return "caught", failed[1] if failed else output.strip().splitlines()[-1][:120]


def copy_of_tracked(folder: Path) -> None:
    for file in tracked():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, folder / file)
    os.symlink(ROOT / ".venv", folder / ".venv")


def run(mutants: list[Mutant], known: dict[str, Reach], keep) -> None:  # type: ignore[no-untyped-def]
    """Run what has no status yet, and keep the state after each."""
    with tempfile.TemporaryDirectory(prefix="s4s-mutants-") as name:
        folder = Path(name)
        copy_of_tracked(folder)
        collect = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *known]
        done = subprocess.run(collect, cwd=folder, env=environment(folder), capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"error: without a mutant the tests cannot be collected\n{done.stdout[-2000:]}")
        for number, mutant in enumerate(mutants, 1):
            if mutant.status:
                continue
            path, began = folder / mutant.file, time.monotonic()
            original = (ROOT / mutant.file).read_bytes()
            if original[mutant.start : mutant.end].decode() != mutant.before:
                sys.exit(f"error: {mutant.file} is another than when mutants were drawn; draw them again with another --out")
            path.write_bytes(original[: mutant.start] + mutant.after.encode() + original[mutant.end :])
            near, far = chosen_tests(mutant, known)
            status, by = run_tests(folder, near, known)
            if status == "survived":
                status, by = run_tests(folder, far, known)
            path.write_bytes(original)
            mutant.status, mutant.by, mutant.tests = status, by, len(near)
            mutant.seconds = round(time.monotonic() - began, 1)
            keep()
            print(f"{number} of {len(mutants)}: {mutant.file}:{mutant.line} {mutant.kind}: {status} {by}", flush=True)


def report(state: dict) -> str:
    """Markdown: how many of each kind were caught, and every survivor."""
    mutants = [Mutant(**entry) for entry in state["mutants"]]
    ran = [mutant for mutant in mutants if mutant.status]
    survivors = [mutant for mutant in ran if mutant.status == "survived"]
    lines = [f"Seed {state['seed']}, commit {state['commit']}: {len(ran) - len(survivors)} of {len(ran)} mutants caught.", ""]
    lines += ["| room | mutants | caught |", "|:---|---:|---:|"]
    for name in sorted({room(mutant.file) for mutant in ran}):
        own = [mutant for mutant in ran if room(mutant.file) == name]
        lines.append(f"| {name} | {len(own)} | {sum(mutant.status != 'survived' for mutant in own)} |")
    lines += ["", "| survivor | change | tests that reach it | what it says |", "|:---|:---|---:|:---|"]
    for mutant in survivors:
        change = " → ".join(f"`{' '.join(text.split())}`" for text in (mutant.before, mutant.after or " "))
        place = f"{mutants.index(mutant) + 1}. {mutant.file}:{mutant.line}"
        lines.append(f"| {place} | {mutant.kind}: {change.replace('|', chr(92) + '|')} | {mutant.tests} | {mutant.note} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=24)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--out", type=Path, default=ROOT / "build/mutants.json", help="state of the run")
    parser.add_argument("--map", action="store_true", help="only find out which tests call which functions")
    parser.add_argument("--only", default="", help="beginning of the sources' paths")
    parser.add_argument("--tests", nargs="*", default=[], help="test files; by default all")
    parser.add_argument("--report", action="store_true", help="only print the table")
    parser.add_argument("--note", nargs=2, metavar=("NUMBER", "TEXT"), help="only keep what a survivor says")
    args = parser.parse_args()
    state = json.loads(args.out.read_text()) if args.out.exists() else {}
    if args.note:
        state["mutants"][int(args.note[0]) - 1]["note"] = args.note[1]
        args.out.write_text(json.dumps(state, indent=1))
        return
    if args.report:
        print(report(state))
        return
    known = make_map(args.tests)
    if args.map:
        return
    if args.tests:
        known = {file: reach for file, reach in known.items() if file in args.tests}
    if not state:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip()
        state = {"seed": args.seed, "count": args.count, "commit": commit}
        state["mutants"] = [asdict(mutant) for mutant in draw(args.seed, args.count, args.only)]
    elif (state["seed"], state["count"]) != (args.seed, args.count):
        sys.exit(f"error: {args.out} is of seed {state['seed']} and {state['count']} mutants; give another --out")
    mutants = [Mutant(**entry) for entry in state["mutants"]]

    def keep() -> None:
        state["mutants"] = [asdict(mutant) for mutant in mutants]
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(state, indent=1))

    keep()
    run(mutants, known, keep)
    print(report(state))


if __name__ == "__main__":
    main()

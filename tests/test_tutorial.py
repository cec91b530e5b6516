"""docs/tutorial.ipynb runs from top to bottom, and its outputs are those that it shows.

python -m tests.test_tutorial runs it and writes its outputs into it.
"""

import re
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs/tutorial.ipynb"


def executed(folder):
    """The notebook with new outputs; what it writes goes into a folder."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    options = {"timeout": 600, "record_timing": False, "kernel_name": "python3"}
    return NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, **options).execute()


def outputs(notebook):
    """The text that each cell prints, and the number of its pictures."""
    return [
        (
            "".join(output["text"] for output in cell.outputs if output.output_type == "stream" and output.name == "stdout"),
            sum("image/png" in output.get("data", {}) for output in cell.outputs),
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def without_numbers(outputs):
    """Seconds, last digits and digests differ from machine to machine."""
    return [(re.sub(r"[\da-f]{16}|[\d.,]+(e-\d+)?", "#", text), pictures) for text, pictures in outputs]


@pytest.mark.suite
def test_the_tutorial_runs_and_shows_what_it_computes(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # threads of a core that other tests use wait for each other
    found, shown = outputs(executed(tmp_path)), outputs(nbformat.read(NOTEBOOK, as_version=4))
    assert without_numbers(found) == without_numbers(shown)
    text = "\n".join(text for text, _ in found)
    errors = {name: float(re.search(rf"^{name} +([\d.]+) ±", text, re.MULTILINE)[1]) for name in ("dpmpp", "ipndm", "learned")}
    assert errors["learned"] < 0.5 * min(errors["dpmpp"], errors["ipndm"])
    assert sum(pictures for _, pictures in found) == 3
    assert "times nearer than the pipeline's own" in text
    written = {path.name for path in (tmp_path / "build/my-solver").iterdir()}
    assert {"nfe~5.json", "scheduler_config.json", "README.md", "nfe~5.png"} <= written


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed(folder), NOTEBOOK)

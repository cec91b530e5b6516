"""Writes tests/golden/galaxygrad.json with galaxygrad's own network: scores of a small one, and of the six published ones.

    pip install jax==0.10.2 equinox==0.13.8 einops && pip download --no-deps galaxygrad==0.1.9 && unzip galaxygrad-0.1.9-*.whl
    python -m tests.galaxygrad_golden --galaxygrad galaxygrad

It needs JAX but not torch; the package itself is not imported, only the file of its network.
"""

import argparse
import importlib.util
import json
import tempfile
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden/galaxygrad.json"
TIMES = (0.01, 0.7, 9.5)
PUBLISHED = {"hsc_ScoreNet32": 32, "hsc_ScoreNet64": 64, "ZTF_ScoreNet32": 32, "ZTF_ScoreNet64": 64, "lsst_ScoreNet60": 60,
             "quasar_lens72": 72}  # fmt: skip


def module_at(path: Path):
    """The module in a file, without the package around it: here that would import torch, there JAX's ODE solvers."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def main() -> None:
    import equinox
    import jax

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--galaxygrad", required=True, type=Path, help="folder of the package, out of its wheel")
    folder = parser.parse_args().galaxygrad
    models, builder = module_at(folder / "models_eqx.py"), module_at(Path(__file__).parent / "builders/galaxygrad.py")

    def scores(file, size, *widths):
        network = models.ScoreNet((1, size, size), *widths, builder.T_1, key=jax.random.PRNGKey(0))
        network = equinox.tree_deserialise_leaves(str(file), network)
        x = builder.noisy(size)
        return [[[float(value) for value in network(row, t).ravel()[::37]] for row in x] for t in TIMES]

    small = builder.write(Path(tempfile.mkdtemp()) / "small.eqx", builder.arrays())
    found = {"small": scores(small, builder.SIZE, builder.PATCH, builder.CHANNELS, *builder.WIDTHS[0], len(builder.WIDTHS))}
    for name, size in PUBLISHED.items():
        found[name] = scores(folder / f"eqx_{name}.eqx", size, 4, 64, 512, 512, 4)
    GOLDEN.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

"""Writes tests/golden/edm.json with the original code: outputs of small networks, and what the full-size ones hold.

    git clone https://github.com/NVlabs/edm && python -m tests.edm_golden --edm edm

It also reads the original's own pickles with our code and compares the outputs.
"""

import argparse
import json
import pickle
import sys
import tempfile
from pathlib import Path

import torch

from tests.builders import edm
from tests.builders.weights import fill, fingerprint

GOLDEN = Path(__file__).parent / "golden/edm.json"
LEVELS = [0.01, 0.4, 3.0, 60.0]


def inputs(arguments: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """y, s and labels that every side is run on."""
    size = arguments["img_resolution"]
    y = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    s = torch.tensor(LEVELS)
    classes = arguments.get("label_dim", 0)
    return y * (1 + s)[:, None, None, None], s, torch.arange(4) % classes if classes else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edm", required=True, help="checkout of NVlabs/edm")
    sys.path.insert(0, parser.parse_args().edm)
    from training import networks

    import s4s

    golden = {"outputs": {}, "names": [], "full": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, (preconditioning, architecture, changes) in edm.TINY.items():
            original = fill(getattr(networks, preconditioning)(**edm.recorded(preconditioning, architecture, changes)))
            if preconditioning == "VPPrecond":  # in float32 its time is off by 1e-4, which shows in the outputs
                single = original.sigma_inv
                original.sigma_inv = lambda s, single=single: single(s.double()).float()
            y, s, labels = inputs(changes)
            one_hot = None if labels is None else torch.nn.functional.one_hot(labels, changes["label_dim"])
            output = original(y, s, one_hot)
            golden["outputs"][name] = [float(f"{value:.8g}") for value in output.flatten().tolist()]
            original.__dict__.pop("sigma_inv", None)
            path = Path(folder) / f"{name}.pkl"
            with path.open("wb") as file:
                pickle.dump({"ema": original}, file, protocol=4)
            golden["names"] = sorted({*golden["names"], *edm.names_asked_for(path)})
            description = Path(folder) / f"{name}.yaml"
            description.write_text(f"{{name: tiny, kind: edm, path: {path.name}}}")
            ours = s4s.load_model(description)(y, s, labels)
            for row, level in enumerate(LEVELS):
                difference, largest = (ours - output)[row].abs().max().item(), output[row].abs().max().item()
                print(f"{name}, s = {level}: largest difference {difference:.2e}, largest value {largest:.3g}")
    for name, (preconditioning, architecture, changes) in edm.FULL.items():
        with torch.device("meta"):
            original = getattr(networks, preconditioning)(**edm.recorded(preconditioning, architecture, changes))
        golden["full"][name] = fingerprint(original.model)
        print(f"{name}: {golden['full'][name]['parameters']:,} parameters")
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()

"""YAML files of a small model in each format of weights."""

from pathlib import Path

import yaml

from tests.builders import edm, features, latent_diffusion, pipelines

PIXELS = ("edm-ddpmpp", "edm-adm")
OF_TEXT = ("stable_diffusion_3", "single_file")
NAMES = (*PIXELS, *latent_diffusion.TINY, *OF_TEXT)


def write(name: str, folder: Path) -> Path:
    """The YAML file of a model; its weights and feature network are in the same folder."""
    if name in PIXELS:
        values = {"kind": "edm", "path": str(edm.write(name, folder / f"{name}.pkl"))}
    elif name in latent_diffusion.TINY:
        values = latent_diffusion.description(name, latent_diffusion.write(name, folder / f"{name}.ckpt"))
    elif name == "single_file":
        (folder / "single").mkdir()
        values = pipelines.write_single_file(folder / "single/sd.ckpt")
    else:
        values = pipelines.write(name, folder / name / "folder")
    if name == "stable_diffusion_3":
        values["study"] = {"teacher": {"ahead": 1}}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**values, "name": name, "features": features.write_small(folder / "features")}))
    return path

"""Weights that depend on nothing but a tensor's name and shape, so that two programs can make the same network."""

import hashlib

import numpy as np
import torch


def weights_of(name: str, shape) -> torch.Tensor:
    """Normal numbers of a sensible scale for a weight; near 1 for a scale, near 0 for a shift."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    values = torch.from_numpy(np.random.Generator(np.random.Philox(key=key)).standard_normal(tuple(shape)).astype("float32"))
    if len(shape) > 1:
        return values / np.sqrt(np.prod(shape[1:]))
    return 0.2 * values + (1.0 if name.endswith("weight") else 0.0)


def fill(module: torch.nn.Module, prefix: str = "") -> torch.nn.Module:
    """Every parameter of a network; buffers are kept but for random ones."""
    parameters = {name for name, _ in module.named_parameters()}
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name in parameters:
                tensor.copy_(weights_of(prefix + name, tensor.shape))
            elif name.endswith("freqs"):
                tensor.copy_(4 * weights_of(prefix + name, tensor.shape))
    return module.eval().requires_grad_(False)


def fingerprint(module: torch.nn.Module) -> dict:
    """Number of parameters, and a checksum over the names and shapes of all tensors."""
    lines = sorted(f"{name} {list(tensor.shape)}" for name, tensor in module.state_dict().items())
    return {
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "keys": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
    }

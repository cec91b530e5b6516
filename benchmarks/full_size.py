"""The paper's models at full size with random weights: parameters, FLOPs, memory, and on a GPU the speed and memory of a fit.

    python benchmarks/full_size.py                 # counts, on any machine in seconds
    python benchmarks/full_size.py --run cifar10   # on a GPU: teacher, fit and samples of one model, timed; all without a name

On a GPU the weights are random, so the numbers say nothing of quality; they say how long each part takes and how much memory it
needs. The memory without one is that of weights and activations of one evaluation of a whole batch in float32, followed tensor
by tensor without computing anything; libraries need some more. The throughput in config/models/*.yaml is ASSUMED over the FLOPs
here until it is measured.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.flop_counter import FlopCounterMode

import s4s
from s4s.learning.teacher import TeacherPairs, make_pairs
from s4s.models.conditions import ClassLabels
from s4s.models.edm.denoiser import EDMDenoiser, EDMPreconditioning
from s4s.models.edm.networks import DhariwalUNet, SongUNet
from s4s.models.latent_diffusion import empty_first_stage, empty_unet
from s4s.models.model_files import read_model_file
from s4s.models.paths import VPDiscrete
from s4s.models.predicting import PredictingDenoiser
from s4s.models.seeds import sample_seeds

from diffusers import UNet2DConditionModel  # isort: skip

ASSUMED = 2e13  # FLOP/s of one data-centre GPU in float32 with TF32 products, for plans
MODELS = ("cifar10", "ffhq", "afhqv2", "imagenet64", "lsun_bedrooms", "imagenet256", "stable_diffusion")


def network(name: str) -> torch.nn.Module:
    """The network of a model with its published configuration."""
    if name in ("cifar10", "ffhq", "afhqv2"):
        size, multipliers = (32, [2, 2, 2]) if name == "cifar10" else (64, [1, 2, 2, 2])
        return SongUNet(img_resolution=size, in_channels=3, out_channels=3, augment_dim=9, channel_mult=multipliers)
    if name == "imagenet64":
        return DhariwalUNet(img_resolution=64, in_channels=3, out_channels=3, label_dim=1000)
    if name == "stable_diffusion":
        widths = (320, 640, 1280, 1280)
        return UNet2DConditionModel(sample_size=64, block_out_channels=widths, cross_attention_dim=768, attention_head_dim=8)
    return empty_unet(read_model_file(name).unet)


def inputs(name: str, rows: int) -> tuple[torch.Tensor, torch.Tensor, dict]:
    """A state, a time and what the network is conditioned on."""
    shape = {"cifar10": (3, 32, 32), "stable_diffusion": (4, 64, 64)}.get(name, (3, 64, 64))
    width = {"imagenet256": (1, 512), "stable_diffusion": (77, 768)}.get(name)
    arguments = {} if width is None else {"encoder_hidden_states": torch.zeros(rows, *width)}
    if name == "imagenet64":
        arguments = {"class_labels": torch.zeros(rows, dtype=torch.long)}
    return torch.randn(rows, *shape), torch.full((rows,), 0.5), arguments


def flops(name: str) -> tuple[int, int]:
    """Parameters, and floating-point operations for one state (two a multiplication with an addition)."""
    with torch.device("meta"):
        net = network(name)
        x, t, arguments = inputs(name, 1)
        with FlopCounterMode(display=False) as counter:
            net(x, t, **arguments)
    return sum(p.numel() for p in net.parameters()), counter.get_total_flops()


def memory(name: str, rows: int) -> float:
    """GiB of weights and activations at the peak of one evaluation without gradients, `rows` states at a time."""
    with FakeTensorMode():
        net = network(name).eval()
        x, t, arguments = inputs(name, rows)
        tracker = MemTracker()
        tracker.track_external(x, t, *arguments.values())
        with torch.no_grad(), tracker:
            net(x, t, **arguments)
        return sum(kinds["Total"] for kinds in tracker.get_tracker_snapshot("peak").values()) / 2**30


def shipped_batch(name: str) -> int:
    """States at a time through the network with the shipped settings."""
    model = read_model_file("sd14" if name == "stable_diffusion" else name)
    return model.block * (2 if model.guided() else 1)


def denoiser(name: str, device: torch.device) -> s4s.Denoiser:
    """A denoiser with random weights, guided as in the paper."""
    net = network(name).to(device).eval().requires_grad_(False)
    x, _, _ = inputs(name, 1)
    shape = tuple(x.shape[1:])
    if name in ("cifar10", "ffhq", "afhqv2", "imagenet64"):
        labels = ClassLabels(1000) if name == "imagenet64" else None
        return EDMDenoiser(net, EDMPreconditioning(0.5), name=name, shape=shape, s_min=0.002, s_max=80.0, conditioning=labels)
    betas = (0.00085, 0.012) if name == "stable_diffusion" else (0.0015, 0.0195)
    path = VPDiscrete.scaled_linear(*betas)
    embedding, guidance, decoder = None, 1.0, None
    if name == "imagenet256":
        table = torch.nn.Sequential(torch.nn.Embedding(1001, 512), torch.nn.Unflatten(1, (1, -1))).to(device)
        embedding, guidance = ClassLabels(1000, argument="encoder_hidden_states", embedding=table), 2.0
    if name == "stable_diffusion":
        text = torch.nn.Sequential(torch.nn.Embedding(2, 77 * 768), torch.nn.Unflatten(1, (77, 768))).to(device)
        embedding, guidance = ClassLabels(1, argument="encoder_hidden_states", embedding=text), 7.5
    else:
        stage = empty_first_stage(read_model_file(name).first_stage).to(device).eval().requires_grad_(False)
        decoder = lambda latents: stage.decode(latents).sample  # noqa: E731
    first, last = path.s_of_t(torch.tensor([0.0, 999.0], dtype=torch.float64)).tolist()
    return PredictingDenoiser(
        lambda x, t, **arguments: net(x, t, **arguments).sample, path, "epsilon", name=name, shape=shape, s_min=first,
        s_max=last, device=device, conditioning=embedding, guidance=guidance, decoder=decoder,
    )  # fmt: skip


def timed(label: str, rows: int, work) -> object:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    result = work()
    torch.cuda.synchronize()
    seconds, peak = time.perf_counter() - start, torch.cuda.max_memory_allocated() / 2**30
    print(
        f"  {label}: {seconds:.1f} s, {rows / seconds:.1f} states a second through the network, peak {peak:.1f} GiB", flush=True
    )
    return result


def run(name: str, batch_size: int) -> None:
    """Teacher pairs, a fit of 4 iterations at NFE 5, and samples."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    model = denoiser(name, torch.device("cuda"))
    teacher = s4s.solver("unipc", s4s.levels("logsnr", 10, model), order=3)
    make_pairs(model, teacher, sample_seeds("train", batch_size), batch_size)  # warm-up
    print(f"{name}, {torch.cuda.get_device_name()}, batch size {batch_size}", flush=True)
    rows = 2 * batch_size * 10 * model.passes

    def teach() -> TeacherPairs:
        splits = (make_pairs(model, teacher, sample_seeds(split, 2 * batch_size), batch_size) for split in ("train", "val"))
        return TeacherPairs(*splits)

    pairs = timed("teacher pairs", 2 * rows, teach)
    settings = s4s.FitSettings(distance="l1", iterations=4, validate_every=2)
    levels = s4s.levels("time_quadratic", 5, model)
    start = time.perf_counter()
    torch.cuda.reset_peak_memory_stats()
    result = s4s.fit(model, pairs, "lms", levels, base="ipndm", settings=settings, batch_size=batch_size)
    seconds, peak = time.perf_counter() - start, torch.cuda.max_memory_allocated() / 2**30
    print(f"  fit: {seconds:.1f} s, {result.evaluations * model.passes / seconds:.1f} states a second, peak {peak:.1f} GiB")
    y_0 = torch.as_tensor(pairs.val.y_0[:4], device="cuda")
    timed("decoding", 4, lambda: model.decode(y_0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs="*", metavar="MODEL", help=f"on a GPU; {', '.join(MODELS)}; all by default")
    parser.add_argument("--batch-size", type=int, default=16)
    arguments = parser.parse_args()
    if arguments.run is not None:
        for name in arguments.run or MODELS:
            run(name, arguments.batch_size)
        return
    print(f"model              parameters  GFLOP a state  states/s at {ASSUMED / 1e12:.0f} TFLOP/s  states at a time    GiB")
    for name in MODELS:
        (parameters, operations), rows = flops(name), shipped_batch(name)
        speed, peak = ASSUMED / operations, memory(name, rows)
        print(f"{name:<17} {parameters:>11,} {operations / 1e9:>14.1f} {speed:>23.0f} {rows:>17} {peak:>6.1f}", flush=True)


if __name__ == "__main__":
    main()

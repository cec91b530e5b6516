"""What our sampling loop costs beyond the network calls: as ratios to those calls and to diffusers' scheduler loop, in one run.

Needs diffusers. Both loops take the same steps on the same levels with a network that costs nothing, in turn, so that drift of
the machine hits both; medians are printed. Neither time includes the preparation: making the tableau, scheduler.set_timesteps.
The network of the last column is a U-Net of the size of EDM's for CIFAR-10 (55.7 M parameters), timed on its own.

python benchmarks/sampling_overhead.py
python benchmarks/sampling_overhead.py --device cuda --dtype float16
"""

import argparse
import functools
import itertools
import statistics
import time

import diffusers
import torch

import s4s.metrics.fid  # noqa: F401  # lets torchvision, which diffusers imports, load beside a CPU-only torch
from s4s.models.denoiser import Denoiser
from s4s.sampling import sample
from s4s.solvers import solver

SHAPES = {(3, 32, 32): (1, 64, 512), (4, 64, 64): (1, 16)}
# The network's output is the denoised state, as in ours, so that diffusers has nothing to convert.
MULTISTEP = {"prediction_type": "sample", "final_sigmas_type": "sigma_min", "lower_order_final": True}
DDIM = functools.partial(diffusers.DDIMScheduler, prediction_type="sample", clip_sample=False, set_alpha_to_one=False)
DPMPP = functools.partial(diffusers.DPMSolverMultistepScheduler, algorithm_type="dpmsolver++", **MULTISTEP)
UNIPC = functools.partial(diffusers.UniPCMultistepScheduler, solver_type="bh2", predict_x0=True, **MULTISTEP)
SOLVERS = {
    "DDIM": (DDIM(steps_offset=1), "ddim", {}),
    "DPM-Solver++(2M)": (DPMPP(solver_order=2), "dpmpp", {"order": 2, "lower_order_final": True}),
    "DPM-Solver++(3M)": (DPMPP(solver_order=3), "dpmpp", {"order": 3, "lower_order_final": True}),
    "UniPC-3": (UNIPC(solver_order=3), "unipc", {"order": 3, "variant": "bh2", "lower_order_final": True}),
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: cuda where there is one")
parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32", help="of states and network")
# diffusers lowers the order of the last steps below 15 evaluations only, and order 3 needs 3
parser.add_argument("--nfe", type=int, choices=range(3, 15), metavar="3..14", default=10, help="evaluations in a run")
parser.add_argument("--repeats", type=int, default=50, help="runs of each loop that the median is taken of")
parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of torch")
parser.add_argument("--network-batch-limit", type=int, help="largest batch the network is timed at; default: 8 on a CPU")
args = parser.parse_args()
torch.set_num_threads(args.threads)
diffusers.utils.logging.set_verbosity_error()
device, dtype = torch.device(args.device), getattr(torch, args.dtype)
limit = args.network_batch_limit or (8 if device.type == "cpu" else 512)
synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None


class Free(Denoiser):
    """A network that costs nothing: it hands out tensors made beforehand, a different one at each evaluation of a run."""

    def __init__(self, outputs):
        self.outputs = itertools.cycle(outputs)
        self.shape, self.device, self.dtype = outputs[0].shape[1:], outputs[0].device, outputs[0].dtype

    def __call__(self, y, s, condition=None):
        return next(self.outputs)


def scheduler_loop(network, x, scheduler):
    """What a diffusers pipeline does."""
    for t in scheduler.timesteps:
        output = network(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(output, t, x, return_dict=False)[0]
    return x


def levels_of(scheduler):
    """sigma/alpha at each step and at the end."""
    if hasattr(scheduler, "sigmas"):
        return scheduler.sigmas.double()
    alpha_squared = [*scheduler.alphas_cumprod[scheduler.timesteps.cpu()], scheduler.final_alpha_cumprod]
    return (1 / torch.stack(alpha_squared).double() - 1).sqrt()


def seconds(action):
    """Wall-clock time until the device is done."""
    synchronize()
    start = time.perf_counter()
    action()
    synchronize()
    return time.perf_counter() - start


def loop_seconds(scheduler, kind, options, shape, batch):
    """Median seconds per evaluation of our loop and of diffusers'."""
    network = Free([torch.randn(batch, *shape, device=device).to(dtype) for _ in range(args.nfe)])
    x_T = torch.randn(batch, *shape, device=device).to(dtype)
    scheduler.set_timesteps(args.nfe, device=device)
    levels = levels_of(scheduler)
    alpha = (1 + levels**2).rsqrt()
    tableau, y_T = solver(kind, levels, **options), x_T / float(alpha[0])
    # a ratio of times means little unless both compute the same; this warms both up as well
    ours, theirs = sample(network, y_T, tableau) * float(alpha[-1]), scheduler_loop(network, x_T, scheduler)
    difference = float(torch.dist(ours.float(), theirs.float()) / theirs.float().norm())
    assert difference < 10 * torch.finfo(dtype).eps, f"{kind}: ours and diffusers differ by {difference:.1e}"
    times = []
    for _ in range(args.repeats):
        scheduler.set_timesteps(args.nfe, device=device)  # as every pipeline must: the scheduler remembers its last run
        times.append((seconds(lambda: sample(network, y_T, tableau)), seconds(lambda: scheduler_loop(network, x_T, scheduler))))
    return [statistics.median(column) / args.nfe for column in zip(*times, strict=True)]


@functools.cache
def unet(channels):
    """248 channels come closest to EDM's number of parameters, with its depth and its attention at half resolution."""
    model = diffusers.UNet2DModel(
        in_channels=channels, out_channels=channels, block_out_channels=(248, 248, 248), layers_per_block=4, norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return model.to(device, dtype).eval()


@functools.cache
def network_seconds(shape, batch):
    """Median seconds of a network call, per sample."""
    x = torch.randn(batch, *shape, device=device).to(dtype)
    unet(shape[0])(x, 500)  # warms up
    return statistics.median(seconds(lambda: unet(shape[0])(x, 500)) for _ in range(3)) / batch


name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
parameters = sum(p.numel() for p in unet(3).parameters())
print(
    f"{name}, {args.threads} threads, {args.dtype}, NFE {args.nfe}, torch {torch.__version__}, "
    f"diffusers {diffusers.__version__}, network of {parameters / 1e6:.1f} M parameters, "
    f"timed at batches up to {limit} (beyond: in proportion); making tableaux and set_timesteps are not counted\n"
)
print("| solver | shape | batch | ours (µs/evaluation) | diffusers (µs/evaluation) | ours / diffusers | ours / network |")
print("|:---|:---|---:|---:|---:|---:|---:|")
with torch.inference_mode():
    for label, setup in SOLVERS.items():
        for shape, batch in ((shape, batch) for shape, batches in SHAPES.items() for batch in batches):
            ours, theirs = loop_seconds(*setup, shape, batch)
            network = network_seconds(shape, min(batch, limit)) * batch
            channels, height, width = shape
            print(
                f"| {label} | {height}x{width}x{channels} | {batch} | {ours * 1e6:.1f} | {theirs * 1e6:.1f} "
                f"| {ours / theirs:.2f} | {ours / network:.1e} |",
                flush=True,
            )

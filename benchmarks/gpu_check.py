"""What only a GPU can say: its tests, and full-size networks with random weights in pipelines of their own, timed and fitted.

    python benchmarks/gpu_check.py                    # on a GPU, in 8 minutes at most; `make gpu-check`
    python benchmarks/gpu_check.py --only sdxl flux   # these networks alone, without the tests
    python benchmarks/gpu_check.py --device cpu --tiny

Of each network: the speed of an evaluation, the peak of memory, a fit at NFE 4 with a small plan, and a run of the pipeline
with the solver. The weights are random, so nothing here says how good a solver is. Where time is short, the rest is not run,
and the table says so. It is written to build/gpu_check.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch

import s4s
from s4s.errors import one_line

ROOT = Path(__file__).parents[1]
FLOW, NFE, MARGIN = "FlowMatchEulerDiscreteScheduler", 4, 15  # seconds that are kept for the table
TINY = dict(num_attention_heads=2, attention_head_dim=8, num_layers=1)


def autoencoder(channels: int) -> Any:
    """A small decoder with the sizes of a large one: eight times smaller latents."""
    widths = dict(block_out_channels=(32,) * 4, latent_channels=channels, down_block_types=("DownEncoderBlock2D",) * 4)
    return diffusers.AutoencoderKL(up_block_types=("UpDecoderBlock2D",) * 4, shift_factor=0.0, **widths)


def sdxl(tiny: bool) -> tuple[Any, dict[str, Any]]:
    """stable-diffusion-xl-base-1.0's UNet, 1024 x 1024, guided."""
    widths, width = ((32, 32, 64), 32) if tiny else ((320, 640, 1280), 2048)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8 if tiny else 128, block_out_channels=widths, layers_per_block=1 if tiny else 2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=width,
        attention_head_dim=(2, 2, 2) if tiny else (5, 10, 20), transformer_layers_per_block=(1, 1, 1) if tiny else (1, 2, 10),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=4 if tiny else 256,
        projection_class_embeddings_input_dim=12 + 24 if tiny else 2816,
    )  # fmt: skip
    betas = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1)
    pipe = diffusers.StableDiffusionXLPipeline(
        vae=autoencoder(4), text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None, unet=unet,
        scheduler=diffusers.EulerDiscreteScheduler(**betas), add_watermarker=False,
    )  # fmt: skip
    size = 64 if tiny else 1024
    return pipe, {**texts(77, width, 12 if tiny else 1280, negative=True), "height": size, "width": size, "guidance_scale": 5.0}


def sd3(tiny: bool) -> tuple[Any, dict[str, Any]]:
    """stable-diffusion-3-medium's transformer, 1024 x 1024, guided."""
    sizes = dict(num_layers=24, num_attention_heads=24, caption_projection_dim=1536, pos_embed_max_size=192)
    small = {**TINY, "joint_attention_dim": 40, "caption_projection_dim": 16, "pooled_projection_dim": 20, "sample_size": 8}
    network = diffusers.SD3Transformer2DModel(**small if tiny else sizes)
    pipe = diffusers.StableDiffusion3Pipeline(
        transformer=network, scheduler=flow(3.0), vae=autoencoder(16), text_encoder=None, tokenizer=None, text_encoder_2=None,
        tokenizer_2=None, text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip
    size, widths = (64, (40, 20)) if tiny else (1024, (4096, 2048))
    return pipe, {**texts(333, *widths, negative=True), "height": size, "width": size, "guidance_scale": 7.0}


def flux(tiny: bool) -> tuple[Any, dict[str, Any]]:
    """FLUX.1-dev's transformer, 12 billion parameters, 1024 x 1024, with guidance as an input."""
    small = {**TINY, "attention_head_dim": 16, "num_single_layers": 1, "joint_attention_dim": 40, "pooled_projection_dim": 20,
             "axes_dims_rope": (4, 4, 8)}  # fmt: skip
    network = diffusers.FluxTransformer2DModel(guidance_embeds=True, **small if tiny else {})
    pipe = diffusers.FluxPipeline(
        transformer=network, scheduler=flow(3.0, use_dynamic_shifting=True), vae=autoencoder(16), text_encoder=None,
        tokenizer=None, text_encoder_2=None, tokenizer_2=None,
    )  # fmt: skip
    size, widths = (64, (40, 20)) if tiny else (1024, (4096, 768))
    return pipe, {**texts(512, *widths), "height": size, "width": size, "guidance_scale": 3.5}


def wan(tiny: bool) -> tuple[Any, dict[str, Any]]:
    """Wan2.1-T2V-1.3B's transformer, 17 frames of 480 x 832, guided."""
    small = {**TINY, "attention_head_dim": 12, "text_dim": 40, "ffn_dim": 32, "freq_dim": 16}
    sizes = dict(num_attention_heads=12, ffn_dim=8960, num_layers=30)
    vae = diffusers.AutoencoderKLWan(base_dim=8, z_dim=16, num_res_blocks=1)
    pipe = diffusers.WanPipeline(
        transformer=diffusers.WanTransformer3DModel(**small if tiny else sizes), scheduler=flow(3.0), vae=vae,
        text_encoder=None, tokenizer=None,
    )  # fmt: skip
    sizes_of = dict(height=32, width=32, num_frames=5) if tiny else dict(height=480, width=832, num_frames=17)
    return pipe, {**texts(226, 40 if tiny else 4096, negative=True), **sizes_of, "guidance_scale": 5.0}


NETWORKS: dict[str, Callable[[bool], tuple[Any, dict[str, Any]]]] = {"wan": wan, "sd3": sd3, "sdxl": sdxl, "flux": flux}


def flow(shift: float, **options: Any) -> Any:
    """The scheduler of rectified flow."""
    return getattr(diffusers, FLOW)(shift=shift, **options)


def texts(tokens: int, width: int, pooled: int | None = None, negative: bool = False) -> dict[str, torch.Tensor]:
    """Embeddings of four prompts that no encoder has seen."""
    made = {}
    for name in ("", "negative_") if negative else ("",):
        made[f"{name}prompt_embeds"] = torch.randn(4, tokens, width)
        if pooled is not None:
            made[f"{name}pooled_prompt_embeds"] = torch.randn(4, pooled)
    return made


def checked(name: str, device: torch.device, tiny: bool, limit: float) -> str:
    """A row of the table. The fit is left out where it would take more than `limit` seconds."""
    dtype, begun = torch.bfloat16, time.perf_counter()
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with device:
            pipe, call = NETWORKS[name](tiny)
    finally:
        torch.set_default_dtype(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    network = getattr(pipe, "transformer", None) or pipe.unet
    parameters = sum(p.numel() for p in network.parameters())
    from s4s.export.pipeline_plan import PLANS, duration, timed

    denoiser = s4s.from_pipeline(pipe, name=name, **call)
    each = timed(denoiser)
    denoiser.close()
    left, needed = limit - (time.perf_counter() - begun), each * PLANS[0].evaluations([NFE])
    fit = run = f"not run: about {duration(needed)}, {duration(max(left, 0))} left"
    if needed < left:
        start = time.perf_counter()
        scheduler = s4s.fit_pipeline(pipe, nfe=NFE, budget=3 * needed + 5, distilled=True, name=name, **call)
        fit = f"{time.perf_counter() - start:.1f} s"
        pipe.scheduler = scheduler
        first = {key: value[:1] if isinstance(value, torch.Tensor) else value for key, value in call.items()}
        start = time.perf_counter()
        found = pipe(**first, num_inference_steps=NFE, output_type="latent")[0]
        run = f"{time.perf_counter() - start:.2f} s" if bool(found.isfinite().all()) else "not finite"
    peak = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if device.type == "cuda" else ""
    return f"| {name} | {parameters / 1e6:,.0f} M | {denoiser.passes} | {1e3 * each:.1f} | {peak} | {fit} | {run} |"


def tests(limit: float) -> str:
    """One line: what the GPU's tests gave."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "tests"]
    try:
        done = subprocess.run(command, cwd=ROOT, timeout=limit, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        return f"FAILED: not finished in {limit:.0f} s"
    print(done.stdout[-4000:], flush=True)
    return ("" if done.returncode == 0 else "FAILED: ") + (done.stdout.strip().splitlines() or ["nothing said"])[-1]


def main() -> int:
    """Returns 0 if nothing failed, or nothing could be run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, help="these networks, and not the tests")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all of it (default 8)")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument(
        "--tiny", action="store_true", help="small networks instead, and not the tests: whether this program works"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build/gpu_check.md", help="the table (default build/gpu_check.md)")
    args = parser.parse_args()
    chosen = args.only or list(NETWORKS)
    if args.device == "cuda" and not torch.cuda.is_available():
        print(f"not run: no CUDA device. On one it runs the tests marked gpu, then {', '.join(chosen)} at full size, in "
              f"{args.minutes:g} minutes at most, and writes {args.out}.")  # fmt: skip
        return 0
    device, end = torch.device(args.device), time.monotonic() + 60 * args.minutes
    where = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    lines = [f"{where}, torch {torch.__version__}, diffusers {diffusers.__version__}, bfloat16, random weights"]
    failed = False
    if not (args.only or args.tiny):
        lines += ["", f"Tests marked gpu: {tests(0.4 * 60 * args.minutes)}"]
        failed = "FAILED" in lines[-1]
    lines += ["", "| network | parameters | passes | an evaluation of one state (ms) | peak (GiB) | fit at NFE 4 | run |",
              "|:---|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    for n, name in enumerate(chosen):
        left = end - time.monotonic() - MARGIN
        share = left / (len(chosen) - n)
        try:
            row = checked(name, device, args.tiny, share) if left > 0 else f"| {name} | not run: no time left | | | | | |"
        except Exception as error:  # what a network of another kind raises; the others are to be run
            row, failed = f"| {name} | FAILED: {type(error).__name__}: {one_line(error)[:200]} | | | | | |", True
        if device.type == "cuda":
            torch.cuda.empty_cache()
        print(row, flush=True)
        lines.append(row)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n".join(lines) + "\n")
    print(f"written: {args.out}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

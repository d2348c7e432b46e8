"""Everything that needs an NVIDIA GPU, in one go: python -m benchmarks.gpu. Checks first, then times, then JSON lines.

Needs torch with CUDA, and neither av nor open_clip. Not run yet: no GPU has been at hand.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import harness
from benchmarks.gpu_kernels import attention_on_gpu, build_cuda, gpu_tests_pass, small_operators_on_gpu
from benchmarks.harness import append, provenance, side_by_side
from hoiclip.model import HOICLIP, ModelConfig
from hoiclip.training.assemble import hoi_samples, hoi_task, vocabulary_of
from hoiclip.training.hoi_task import HoiTask
from hoiclip.training.log import read_log
from hoiclip.training.loop import Surroundings, Trainer
from hoiclip.training.recipe import read_recipe

SIZES = ((480, 640), (800, 1088))
TOLERANCE = 5e-4
"""fp32 on two devices, through 35 layers with random weights."""
LOSS_TOLERANCE = 1e-3
"""Relative; batch norm and focal loss sum in another order on the GPU."""
RECIPE = Path("drawn_detector.toml")


def inputs(height_px: int, width_px: int, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, height_px, width_px, generator=generator)
    padding = torch.zeros(1, height_px, width_px, dtype=torch.bool)
    padding[:, :, -width_px // 10 :] = True
    clip_images = torch.randn(1, 3, 224, 224, generator=generator)
    images = images * ~padding[:, None]
    return images.to(device), padding.to(device), clip_images.to(device)


def full_model() -> HOICLIP:
    """The official layout with seeded random weights."""
    torch.manual_seed(0)
    return HOICLIP(ModelConfig()).requires_grad_(False).eval()


def model_on_gpu(rounds: int) -> bool:
    """Eager fp32 and fp16 autocast on the GPU against eager fp32 on the CPU."""
    torch.backends.cudnn.allow_tf32 = False
    on_cpu, on_gpu = full_model(), full_model().cuda()
    good = True
    for height_px, width_px in SIZES:
        cpu_inputs, gpu_inputs = (inputs(height_px, width_px, device) for device in ("cpu", "cuda"))
        with torch.inference_mode():
            expected = on_cpu(*cpu_inputs).hoi_logits
            error = float((on_gpu(*gpu_inputs).hoi_logits.cpu() - expected).abs().max())
        good &= error < TOLERANCE

        def eager(half: bool, arguments: tuple[torch.Tensor, ...] = gpu_inputs) -> None:
            with torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=half):
                on_gpu(*arguments)
            torch.cuda.synchronize()

        times = side_by_side({"fp32": lambda: eager(False), "fp16 autocast": lambda: eager(True)}, rounds, warmup=5)
        for name, samples in times.items():
            append(
                "gpu",
                {
                    "benchmark": "model_on_gpu",
                    "device": torch.cuda.get_device_name(),
                    "input": f"{height_px}x{width_px}",
                    "precision": name,
                    **harness.statistics(samples),
                    "fp32_max_abs_logit_difference_to_cpu": error,
                    "within_tolerance": error < TOLERANCE,
                    **provenance("torch"),
                },
            )
    return good


def training_on_gpu(steps: int, folder: Path) -> bool:
    """The drawn detector's recipe: the first loss against the CPU's, then bf16 steps as `hoiclip train` makes them."""
    recipe = read_recipe(RECIPE, **{"schedule.steps": steps, "schedule.warmup_steps": 10})
    vocabulary = vocabulary_of(recipe)
    samples = hoi_samples(recipe, vocabulary)
    exact = replace(recipe, optimizer=replace(recipe.optimizer, precision="fp32"))
    batch = HoiTask.collate([samples[number] for number in range(recipe.optimizer.batch_size)])
    losses = {
        device: float(hoi_task(exact, vocabulary).to(device).train()(batch.to(device)).total.detach())
        for device in ("cpu", "cuda")
    }
    error = abs(losses["cuda"] - losses["cpu"]) / losses["cpu"]
    here = Surroundings(folder=folder, device=torch.device("cuda"), workers=max(1, (os.cpu_count() or 2) - 1))
    Trainer(recipe, hoi_task(recipe, vocabulary), samples, here).train()
    lines = [line for line in read_log(folder) if line["kind"] == "train"]
    tenth = max(1, steps // 10)
    first, last = (statistics.mean(line["total"] for line in part) for part in (lines[:tenth], lines[-tenth:]))
    good = error < LOSS_TOLERANCE and last < first
    append(
        "gpu",
        {
            "benchmark": "training_on_gpu",
            "device": torch.cuda.get_device_name(),
            "recipe": recipe.name,
            "precision": recipe.optimizer.precision,
            "batch": recipe.optimizer.batch_size,
            "steps": steps,
            "median_pictures_per_s": statistics.median(line["pictures_per_s"] for line in lines),
            "first_loss_relative_difference_to_cpu": error,
            "loss_of_first_tenth": first,
            "loss_of_last_tenth": last,
            "good": good,
            **provenance("torch"),
        },
    )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--steps", type=int, default=200, help="of training")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks.gpu: expected an NVIDIA GPU, torch sees none; install a CUDA build of torch", file=sys.stderr)
        return 5
    with tempfile.TemporaryDirectory() as folder:
        with_cuda = build_cuda(Path(folder) / "cuda")
        good = [
            gpu_tests_pass(),
            attention_on_gpu(with_cuda),
            small_operators_on_gpu(),
            model_on_gpu(arguments.rounds),
            training_on_gpu(arguments.steps, Path(folder) / "training"),
        ]
    return 0 if all(good) else 6


if __name__ == "__main__":
    sys.exit(main())

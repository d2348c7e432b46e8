"""Everything that needs an NVIDIA GPU, in one go: python -m benchmarks.gpu. Checks first, then times, then JSON lines.

Needs torch with CUDA, and neither av nor open_clip. Not run yet: no GPU has been at hand.
"""

from __future__ import annotations

import argparse
import sys

import torch

from benchmarks.harness import append, provenance, side_by_side, statistics
from hoiclip.model import HOICLIP, ModelConfig

SIZES = ((480, 640), (800, 1088))
TOLERANCE = 5e-4
"""fp32 on two devices, through 35 layers with random weights."""


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
                    **statistics(samples),
                    "fp32_max_abs_logit_difference_to_cpu": error,
                    "within_tolerance": error < TOLERANCE,
                    **provenance("torch"),
                },
            )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks.gpu: expected an NVIDIA GPU, torch sees none; install a CUDA build of torch", file=sys.stderr)
        return 5
    return 0 if model_on_gpu(arguments.rounds) else 6


if __name__ == "__main__":
    sys.exit(main())

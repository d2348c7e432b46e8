"""The full model on every backend against eager torch, side by side: python -m benchmarks.backends [--size 480x640].

Weights are the golden ones of the tests: the official ResNet-50 layout, no download.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import append, provenance, side_by_side, statistics
from hoiclip_engine.backends import BACKENDS, installed, load_backend
from hoiclip_engine.preprocess import ModelInput
from tests.golden.models import GoldenModels
from tests.golden.rule import PUBLIC_SALT, golden_image

REFERENCE = "torch"


def golden_input(height_px: int, width_px: int) -> ModelInput:
    """A picture that fills its canvas."""
    return ModelInput(
        detector_bchw=golden_image("bench/img", height_px, width_px, PUBLIC_SALT)[None],
        mask_bhw=np.zeros((1, height_px, width_px), np.bool_),
        clip_bchw=golden_image("bench/clip", 224, 224, PUBLIC_SALT)[None],
        image_hw=((height_px, width_px),),
        original_hw=((height_px, width_px),),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="480x640", help="height x width in pixels, multiples of 32")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    height_px, width_px = map(int, arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        model = GoldenModels(Path(folder)).file("hico", PUBLIC_SALT)
        engines = {name: load_backend(name, model, (height_px, width_px)) for name in BACKENDS if installed(name)}
        picture = golden_input(height_px, width_px)
        reference = engines[REFERENCE](picture)
        errors = {
            name: float(np.abs(engine(picture).hoi_logits - reference.hoi_logits).max())
            for name, engine in engines.items()
        }
        times = side_by_side({name: lambda e=engine: e(picture) for name, engine in engines.items()}, arguments.rounds)
    origin = provenance("torch", "openvino", "onnxruntime")
    for name, samples in times.items():
        append(
            "backends",
            {
                "benchmark": "backends",
                "backend": name,
                "model": "golden hico, ResNet-50, ViT-B/32",
                "input": arguments.size,
                "batch": 1,
                "precision": "fp32",
                **statistics(samples),
                "times_as_fast_as_torch": round(float(np.median(times[REFERENCE]) / np.median(samples)), 3),
                "max_abs_logit_difference": errors[name],
                **origin,
            },
        )


if __name__ == "__main__":
    main()

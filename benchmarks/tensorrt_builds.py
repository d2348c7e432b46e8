"""Engines of the full model by TensorRT-RTX, which needs no GPU to build: python -m benchmarks.tensorrt_builds

Weights are the golden ones of the tests (the official ResNet-50 layout, no download), attention is plain operators, and
calibration pictures are golden noise: the lines say that it builds, how long it takes and what is in it, nothing of
accuracy. The peak is that of this process so far, the model included. Layers are those of the parsed network, before
the builder fuses them.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import append, provenance
from hoiclip_engine.export import exported_graph
from hoiclip_engine.precision import Precision
from hoiclip_engine.precision.reduce import Inputs, reduced
from hoiclip_engine.tensorrt_build import BuildRequest
from hoiclip_engine.tensorrt_process import build_apart
from tests.golden.models import GoldenModels
from tests.golden.rule import PUBLIC_SALT, golden_image

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


def pictures(canvas_hw: tuple[int, int], count: int) -> list[Inputs]:
    """Golden noise that fills the canvas."""
    return [
        {
            "images": golden_image(f"bench/img{index}", *canvas_hw, PUBLIC_SALT)[None],
            "padding": np.zeros((1, *canvas_hw), np.bool_),
            "clip_images": golden_image(f"bench/clip{index}", 224, 224, PUBLIC_SALT)[None],
        }
        for index in range(count)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Build engines of the full model with TensorRT-RTX.")
    parser.add_argument("--size", default="480x640", help="height x width in pixels, multiples of 32")
    parser.add_argument("--gpu", default="SM89", help="compute capability to build for")
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="default: all")
    parser.add_argument("--pictures", type=int, default=4, help="to calibrate with")
    asked = parser.parse_args()
    height_px, width_px = map(int, asked.size.split("x"))
    samples = pictures((height_px, width_px), asked.pictures)
    profile = {name: (value.shape,) * 3 for name, value in samples[0].items()}
    with tempfile.TemporaryDirectory() as folder:
        exported = exported_graph(GoldenModels(Path(folder)).file("hico", PUBLIC_SALT), (height_px, width_px))
        for precision in asked.precision or PRECISIONS:
            started, graph = time.perf_counter(), exported
            if precision != "fp32":
                (room := Path(folder) / precision).mkdir()
                graph = reduced(exported, "tensorrt", precision, samples, room)
            convert_s = round(time.perf_counter() - started, 1)
            request = BuildRequest(
                library="tensorrt-rtx", graph=graph, profile=profile, compute_capabilities=(asked.gpu,)
            )
            started = time.perf_counter()
            built = build_apart(request)
            append(
                "tensorrt_builds",
                {
                    "benchmark": "tensorrt_builds", "library": "tensorrt-rtx", "gpu": asked.gpu,
                    "model": "golden hico, ResNet-50, ViT-B/32", "attention": "plain", "input": asked.size, "batch": 1,
                    "precision": precision, "convert_s": convert_s, "build_s": round(time.perf_counter() - started, 1),
                    "graph_mb": round(sum(f.stat().st_size for f in graph.parent.glob(f"{graph.stem}.*")) / 1e6, 1),
                    "convert_peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1),
                    "engine_mb": round(len(built.engine) / 1e6, 1),
                    "layers": {kind: sum(counts.values()) for kind, counts in built.layers.items()},
                    "precisions": {k: n for k, n in built.layers.items() if k in ("CONVOLUTION", "MATRIX_MULTIPLY",
                                   "NORMALIZATION", "SOFTMAX", "QUANTIZE", "DEQUANTIZE")},
                    **provenance("tensorrt_rtx_cu13", "nvidia-modelopt", "onnx", "onnxruntime"),
                },
            )  # fmt: skip


if __name__ == "__main__":
    main()

"""Engines of the full model by TensorRT-RTX, which needs no GPU to build: python -m benchmarks.tensorrt_builds

Weights are the golden ones of the tests (the official ResNet-50 layout, no download), attention is plain operators, and
calibration images are golden noise: the lines record that it builds, the time it takes and its layers, nothing of
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
from hoiclip_engine.backends.base import Precision
from hoiclip_engine.backends.tensorrt.build_process import build_in_subprocess
from hoiclip_engine.backends.tensorrt.builder import EngineBuildRequest
from hoiclip_engine.cache.artifacts import exported_graph
from hoiclip_engine.quantization.modelopt import GraphInputs
from hoiclip_engine.quantization.quantize import quantize_graph
from tests.golden.models import GoldenModels
from tests.golden.rule import PUBLIC_SALT, golden_image

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


def images(padded_hw: tuple[int, int], count: int) -> list[GraphInputs]:
    """Golden noise of the padded size."""
    return [
        {
            "images": golden_image(f"bench/img{index}", *padded_hw, PUBLIC_SALT)[None],
            "padding": np.zeros((1, *padded_hw), np.bool_),
            "clip_images": golden_image(f"bench/clip{index}", 224, 224, PUBLIC_SALT)[None],
        }
        for index in range(count)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Build engines of the full model with TensorRT-RTX.")
    parser.add_argument("--size", default="480x640", help="height x width in pixels, multiples of 32")
    parser.add_argument("--gpu", default="SM89", help="compute capability to build for")
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="default: all")
    parser.add_argument("--pictures", dest="images", type=int, default=4, help="calibration images")
    args = parser.parse_args()
    height_px, width_px = map(int, args.size.split("x"))
    samples = images((height_px, width_px), args.images)
    profile = {name: (value.shape,) * 3 for name, value in samples[0].items()}
    with tempfile.TemporaryDirectory() as folder:
        exported = exported_graph(GoldenModels(Path(folder)).file("hico", PUBLIC_SALT), (height_px, width_px))
        for precision in args.precision or PRECISIONS:
            started, graph = time.perf_counter(), exported
            if precision != "fp32":
                (out := Path(folder) / precision).mkdir()
                graph = quantize_graph(exported, "tensorrt", precision, samples, out)
            convert_s = round(time.perf_counter() - started, 1)
            request = EngineBuildRequest(
                library="tensorrt-rtx", graph=graph, profile=profile, compute_capabilities=(args.gpu,)
            )
            started = time.perf_counter()
            built = build_in_subprocess(request)
            append(
                "tensorrt_builds",
                {
                    "benchmark": "tensorrt_builds", "library": "tensorrt-rtx", "gpu": args.gpu,
                    "model": "golden hico, ResNet-50, ViT-B/32", "attention": "plain", "input": args.size, "batch": 1,
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

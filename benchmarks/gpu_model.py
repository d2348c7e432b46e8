"""The whole model on an NVIDIA GPU: the torch backend in all its precisions against eager fp32, side by side.

Part of benchmarks/gpu.py. Every call goes from arrays of the host to arrays of the host, as in a stream. The time of
the GPU alone for a replay is measured by its own clock; the fraction of the arithmetic limit refers to it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import harness
from benchmarks.gpu_limits import gpu_limits
from benchmarks.harness import append, provenance, side_by_side
from hoiclip.core.model_file import load_model_file
from hoiclip.model import HOICLIP, ModelConfig, Prediction
from hoiclip.model.gpu_inference import prepare_for_gpu
from hoiclip_engine.backends.torch_backend import HALF_DTYPES, EagerModel
from hoiclip_engine.backends.torch_cuda_graph import GraphedModel
from hoiclip_kernels import dispatch

DEVICE = "cuda"
SIZES = (((480, 640), (480, 640)), ((800, 1066), (800, 1088)))
"""Sizes of images, and their padded sizes."""
REQUIRED_SPEEDUP = 10.0
"""Of fp16 in a graph over eager fp32, at 800x1066 and batch 1."""
TOLERANCE = {"fp32": 5e-4, "fp16": 0.05, "bf16": 0.4}
"""Of a logit. fp32 on two devices sums in other orders, through 35 layers; logits are cosines times 14, of which fp16
keeps 11 bits and bf16 8 at each of some hundred roundings. A random model measured 0.015 in bf16 on a CPU."""
Answer = dict[str, NDArray[np.float32]]
Call = Callable[[], Answer]


def full_model(path: Path | None) -> HOICLIP:
    """The model of the file, or the official layout with seeded random weights."""
    if path is not None:
        return load_model_file(path).build()
    torch.manual_seed(0)
    return HOICLIP(ModelConfig()).requires_grad_(False).eval()


def image(size_hw: tuple[int, int], padded_hw: tuple[int, int], clip_px: int) -> tuple[NDArray[Any], ...]:
    """Detector image, mask and CLIP image: noise, zero on the padding."""
    rng = np.random.default_rng(0)
    images = np.zeros((1, 3, *padded_hw), np.float32)
    padding = np.ones((1, *padded_hw), np.bool_)
    images[..., : size_hw[0], : size_hw[1]] = rng.standard_normal((3, *size_hw), np.float32)
    padding[:, : size_hw[0], : size_hw[1]] = False
    return images, padding, rng.standard_normal((1, 3, clip_px, clip_px), np.float32)


def operations(config: ModelConfig, padded_hw: tuple[int, int]) -> int:
    """Operations of one inference, a product and a sum being two; without the 0.3 % inside the fused attention."""
    with torch.device("meta"):
        model = HOICLIP(config).eval()
        arguments = [torch.from_numpy(array).to("meta") for array in image(padded_hw, padded_hw, config.clip_image_px)]
    model.interaction_decoder.form = "projected"
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*arguments)
    return int(counter.get_total_flops())


def compiled_call(model: HOICLIP, arrays: tuple[NDArray[Any], ...]) -> Call:
    """The prepared module by torch.compile in fp16, with its own graphs."""
    module = torch.compile(prepare_for_gpu(model, torch.float16, DEVICE), mode="reduce-overhead", dynamic=False)

    def call() -> Answer:
        images, padding, clip_images = (torch.from_numpy(array).to(DEVICE) for array in arrays)
        with torch.inference_mode():
            outputs = module(images.half(), padding, clip_images.half())
            return {name: out.float().cpu().numpy() for name, out in zip(Prediction._fields, outputs, strict=True)}

    return call


def replay_ms(model: GraphedModel, rounds: int) -> float:
    """Median milliseconds of the GPU for one replay."""
    samples = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.inference_mode(), torch.cuda.stream(model._stream):
            begin.record()
            model.replay()
            end.record()
        end.synchronize()
        samples.append(begin.elapsed_time(end))
    return float(statistics.median(samples))


def agreement(found: Answer, expected: Answer, top: int = 100) -> float:
    """Fraction of the best slots and HOIs, by the product of HOI and object probability, that are in both answers."""

    def best(answer: Answer) -> set[int]:
        hoi, objects = (1 / (1 + np.exp(-answer[name][0])) for name in ("hoi_logits", "object_logits"))
        return set(np.argsort(-(hoi * objects[:, :-1].max(-1, keepdims=True)), axis=None)[:top].tolist())

    return len(best(found) & best(expected)) / top


def model_on_gpu(rounds: int, path: Path | None, compiled: bool) -> bool:
    """Eager fp32, and on the same arrays fp16 autocast, fp16 and bf16 graphs, and torch.compile."""
    torch.backends.cudnn.allow_tf32 = False
    good = [_measure_size(*sizes, rounds, path, compiled) for sizes in SIZES]
    return all(good)


def _measure_size(
    size_hw: tuple[int, int], padded_hw: tuple[int, int], rounds: int, path: Path | None, compiled: bool
) -> bool:
    eager = EagerModel(full_model(path), DEVICE)
    config = eager._module.config
    arrays = image(size_hw, padded_hw, config.clip_image_px)
    graphs = {name: GraphedModel(full_model(path), padded_hw, dtype, DEVICE) for name, dtype in HALF_DTYPES.items()}

    def autocast() -> Answer:
        with torch.autocast(DEVICE, torch.float16):
            return eager(*arrays)

    calls: dict[str, Call] = {"fp32 eager": lambda: eager(*arrays), "fp16 autocast": autocast}
    calls |= {f"{name} graph": lambda model=model: model(*arrays) for name, model in graphs.items()}  # type: ignore[misc]
    if compiled:
        calls["fp16 torch.compile"] = compiled_call(full_model(path), arrays)
    answers = {name: call() for name, call in calls.items()}
    on_cpu = EagerModel(full_model(path), "cpu")(*arrays)
    times = side_by_side(calls, rounds, warmup=5)
    work, limit, good = operations(config, padded_hw), gpu_limits(), True
    for name, samples in times.items():
        precision = name.split()[0]
        expected = on_cpu if precision == "fp32" else answers["fp32 eager"]
        error = float(np.abs(answers[name]["hoi_logits"] - expected["hoi_logits"]).max())
        good &= error < TOLERANCE[precision]
        graph = graphs.get(precision) if name.endswith("graph") else None
        alone = None if graph is None else replay_ms(graph, rounds)
        fraction = None if limit is None or alone is None else work / limit.half_operations_per_s / (alone / 1e3)
        append(
            "gpu",
            {
                "benchmark": "model_on_gpu",
                "device": torch.cuda.get_device_name(),
                "model": "random" if path is None else path.stem,
                "input": "x".join(map(str, size_hw)),
                "canvas": "x".join(map(str, padded_hw)),
                "batch": 1,
                "precision": name,
                **harness.statistics(samples),
                "times_as_fast_as_fp32_eager": round(float(np.median(times["fp32 eager"]) / np.median(samples)), 3),
                "asked": REQUIRED_SPEEDUP if name == "fp16 graph" and size_hw[0] == 800 else None,
                "gpu_alone_ms": alone and round(alone, 4),
                "giga_operations": round(work / 1e9, 1),
                "share_of_arithmetic_limit": fraction and round(fraction, 4),
                "capture_failed": None if graph is None else not graph.graphed,
                "kernels": {name: dispatch.used.get(name) for name in ("dual_attention", "bias_relu")},
                "max_abs_logit_difference": error,
                "difference_to": "fp32 on the CPU" if precision == "fp32" else "fp32 on the GPU",
                "top_100_agreement": agreement(answers[name], expected),
                "within_tolerance": error < TOLERANCE[precision],
                **provenance("torch"),
            },
        )
    return good and all(model.graphed for model in graphs.values())

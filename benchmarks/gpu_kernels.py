"""The operators on an NVIDIA GPU: dual_attention against torch's own attention, and the small ones against the CPU.

Part of benchmarks/gpu.py. Everything is timed as the replay of a CUDA graph, as an engine runs it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_limits import gpu_limits
from benchmarks.harness import append, provenance
from hoiclip_kernels import cuda_library
from hoiclip_kernels.dual_attention import DualAttentionArguments, cuda_impl, example_inputs, reference, triton_impl
from hoiclip_kernels.pair_decode import example_inputs as scores
from hoiclip_kernels.pair_decode import pair_decode
from hoiclip_kernels.pair_nms import example_inputs as rows
from hoiclip_kernels.pair_nms import pair_nms
from hoiclip_kernels.preprocess import Plan, preprocess
from hoiclip_kernels.preprocess import example_inputs as frame

ROOT = Path(__file__).resolve().parent.parent
CELLS = (300, 1100, 1400)
BATCHES = (1, 8)
REQUIRED_SPEEDUP = 1.3
"""Of dual_attention over the fastest way in torch."""
TOLERANCE = 4e-3
"""As in tests/kernels/test_triton.py."""
Attend = Callable[[], tuple[Tensor, Tensor]]


def build_cuda(folder: Path) -> bool:
    """Builds the CUDA operators for this machine, where nvcc and cmake are."""
    if shutil.which("nvcc") is None or shutil.which("cmake") is None:
        return False
    for command in (["cmake", "-S", str(ROOT), "-B", str(folder)], ["cmake", "--build", str(folder), "-j"]):
        subprocess.run(command, check=True, stdout=sys.stderr)
    os.environ[cuda_library.VARIABLE] = str(folder / cuda_library.NAME)
    return True


def torch_ways(a: DualAttentionArguments) -> dict[str, Attend]:
    """Ways of a user of torch."""
    mask = None if a.padding2 is None else ~a.padding2[:, None, None, :]

    def two() -> tuple[Tensor, Tensor]:
        first = F.scaled_dot_product_attention(a.q, a.k1, a.v1)
        return first, F.scaled_dot_product_attention(a.q, a.k2, a.v2, attn_mask=mask)

    missing = a.k2.shape[2] - a.k1.shape[2]
    seen1 = torch.ones(a.q.shape[0], 1, 1, a.k1.shape[2], dtype=torch.bool, device=a.q.device)
    seen2 = torch.ones_like(seen1[..., :1]).expand(-1, -1, -1, a.k2.shape[2]) if mask is None else mask
    both = torch.cat([F.pad(seen1, (0, missing)), seen2])

    def concatenated() -> tuple[Tensor, Tensor]:
        keys, values = (
            torch.cat([F.pad(a.k1, (0, 0, 0, missing)), a.k2]),
            torch.cat([F.pad(a.v1, (0, 0, 0, missing)), a.v2]),
        )
        out = F.scaled_dot_product_attention(torch.cat([a.q, a.q]), keys, values, attn_mask=both)
        first, second = out.chunk(2)
        return first, second

    return {"two calls": two, "two calls compiled": torch.compile(two), "one concatenated call": concatenated}


def our_ways(a: DualAttentionArguments, with_cuda: bool) -> dict[str, Attend]:
    out = torch.empty_like(a.q), torch.empty_like(a.q)

    def by(function: Callable[..., None]) -> Attend:
        def attend() -> tuple[Tensor, Tensor]:
            function(*a, out)
            return out

        return attend

    ways = {"triton": by(triton_impl.dual_attention)}
    return {**ways, "cuda": by(cuda_impl.dual_attention)} if with_cuda else ways


def graph_ms(call: Callable[[], object], replays: int = 200) -> float:
    """Median milliseconds of a replay; several replays per sample, so that launching the graph does not count."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(5):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(20):
            call()
    samples = []
    for _ in range(replays // 20):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        graph.replay()
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        samples.append(begin.elapsed_time(end) / 20)
    return float(statistics.median(samples))


def attention_on_gpu(with_cuda: bool) -> bool:
    """fp16 at several sizes, with and without padding: errors against the reference, times against torch."""
    good = True
    for batch in BATCHES:
        for cells in CELLS:
            for padded in (None, cells // 10):
                a = example_inputs(batch, cells=cells, padded=padded, dtype=torch.float16, device="cuda")
                expected = torch.empty_like(a.q), torch.empty_like(a.q)
                reference.dual_attention(*a, expected)
                ours, theirs = our_ways(a, with_cuda), torch_ways(a)
                errors = {
                    name: max(float((x - y).abs().max()) for x, y in zip(attend(), expected, strict=True))
                    for name, attend in {**ours, **theirs}.items()
                }
                good &= max(errors.values()) < TOLERANCE
                times = {name: graph_ms(attend) for name, attend in {**theirs, **ours}.items()}
                best = min(times[name] for name in theirs)
                key = next((k for k in triton_impl.chosen if k[2] == tuple(a.q.shape) and k[4] == cells), None)
                append(
                    "gpu",
                    {
                        "benchmark": "dual_attention",
                        "device": torch.cuda.get_device_name(),
                        "batch": batch,
                        "cells": cells,
                        "padded": padded,
                        "precision": "fp16",
                        "ms": {name: round(value, 5) for name, value in times.items()},
                        "times_as_fast_as_best_of_torch": {name: round(best / times[name], 3) for name in ours},
                        "asked": REQUIRED_SPEEDUP,
                        "max_abs_error": errors,
                        "tiles": triton_impl.chosen.get(key) if key else None,
                        "share_of_limit": {name: limit_fractions(a, times[name]) for name in ours},
                        **provenance("torch", "triton"),
                    },
                )
    return good


def limit_fractions(a: DualAttentionArguments, ms: float) -> dict[str, float] | None:
    """Fractions of memory bandwidth and of arithmetic, if every tensor is moved once; None for an unknown GPU."""
    limit = gpu_limits()
    if limit is None:
        return None
    moved = sum(tensor.numel() * tensor.element_size() for tensor in (a.q, a.q, a.q, a.k1, a.v1, a.k2, a.v2))
    batch, heads, queries, depth = a.q.shape
    operations = 4 * batch * heads * queries * depth * (a.k1.shape[2] + a.k2.shape[2])
    return {
        "bandwidth": round(moved / limit.bytes_per_s / (ms / 1e3), 4),
        "arithmetic": round(operations / limit.half_operations_per_s / (ms / 1e3), 4),
    }


def _on_gpu(inputs: Iterable[Any]) -> list[Any]:
    return [torch.from_numpy(value).cuda() if isinstance(value, np.ndarray) else value for value in inputs]


def small_operators_on_gpu() -> bool:
    """Compares Triton with the CPU's answer, and times both."""
    good = True
    decode: tuple[Any, ...] = (*scores(64, 600, 81), 100)
    nms: tuple[Any, ...] = (*rows(100), 0.7, 1.0, 0.5)
    plan = Plan((720, 1280), (360, 640), (480, 640), 224)
    image = frame(plan.source_hw)
    decode_gpu, nms_gpu, image_gpu = _on_gpu(decode), _on_gpu(nms), _on_gpu([image])[0]
    cases: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "pair_decode": (lambda: pair_decode(*decode), lambda: pair_decode(*decode_gpu)),
        "pair_nms": (lambda: (pair_nms(*nms),), lambda: (pair_nms(*nms_gpu),)),
        "preprocess": (lambda: preprocess(image, plan), lambda: preprocess(image_gpu, plan)),
    }
    for name, (on_cpu, on_device) in cases.items():
        same = all(
            np.array_equal(ours.cpu().numpy(), theirs) for ours, theirs in zip(on_device(), on_cpu(), strict=True)
        )
        good &= same
        append(
            "gpu",
            {
                "benchmark": name,
                "device": torch.cuda.get_device_name(),
                "equal_to_cpu": same,
                "triton_ms": round(wall_ms(on_device), 4),
                "numba_ms": round(wall_ms(on_cpu), 4),
                **provenance("torch", "triton"),
            },
        )
    return good


def wall_ms(call: Callable[[], object], rounds: int = 50) -> float:
    """Median of whole calls, the way to the GPU and back included."""
    samples = []
    for _ in range(rounds + 5):
        started = time.perf_counter()
        call()
        torch.cuda.synchronize()
        samples.append((time.perf_counter() - started) * 1e3)
    return statistics.median(samples[5:])


def gpu_tests_pass() -> bool:
    """The tests marked gpu, none of them skipped for want of one."""
    # What the engine's tests share needs av; those of the torch backend do without it.
    wanted = [["tests/kernels"], ["--noconftest", "tests/engine/test_torch_backend.py"]]
    if importlib.util.find_spec("av") is not None:
        wanted.append(["tests/engine/test_device_frames.py", "tests/engine/test_http_and_stdin_sources.py"])
    environment = {**os.environ, "HOICLIP_REQUIRE_GPU": "1"}
    codes = [
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *tests],
            cwd=ROOT, env=environment, stdout=sys.stderr, check=False,
        ).returncode
        for tests in wanted
    ]  # fmt: skip
    passed = not any(codes)
    append(
        "gpu",
        {
            "benchmark": "gpu tests",
            "device": torch.cuda.get_device_name(),
            "passed": passed,
            **provenance("torch", "triton"),
        },
    )
    return passed

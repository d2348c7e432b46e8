"""Operators against the code they replace, on the CPU, in one run: python -m benchmarks.kernels.

Prints a table and appends JSON lines. Ratios are medians of the ratios of neighbours in time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from torch import Tensor, nn

from benchmarks.harness import append, provenance, side_by_side, statistics
from benchmarks.official_rule import official_rule
from hoiclip.model.attention import Attention, merge_heads
from hoiclip_engine.cli.console import results, table
from hoiclip_kernels.dual_attention import Form, attend_memories
from hoiclip_kernels.dual_attention.graph import exported_as
from hoiclip_kernels.pair_decode import example_inputs, pair_decode
from hoiclip_kernels.pair_nms import pair_nms
from hoiclip_kernels.preprocess import Nv12, Plan, preprocess
from hoiclip_kernels.preprocess import example_inputs as example_frame

WIDTH, HEADS, QUERIES, TOKENS, LAYERS = 768, 8, 64, 50, 3
CELLS = (150, 200, 300, 450, 600, 850, 1100, 1400)
Calls = dict[str, Callable[[], object]]
Row = tuple[str, str, str, str]


def preprocess_calls() -> Calls:
    """1280 × 720 padded to 480 × 640, and the 224 px image for CLIP."""
    plan = Plan((720, 1280), (360, 640), (480, 640), 224)
    frame, nv12 = example_frame(plan.source_hw), example_frame(plan.source_hw, nv12=True)
    assert isinstance(nv12, Nv12)
    return {
        "PIL": lambda: preprocess(frame, plan, implementation="reference"),
        "numba": lambda: preprocess(frame, plan, implementation="numba"),
        "numba from NV12": lambda: preprocess(nv12, plan, implementation="numba"),
    }


def scoring_calls(crowded: bool) -> Calls:
    """The best hundred of 64 × 600 and their duplicates; crowded: few classes, at few places."""
    hoi_prob, object_prob, object_of_hoi, class_of_hoi, classes, _ = example_inputs(64, 600, 81)
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 300, (2, 6 if crowded else 64, 2))
    if crowded:
        hoi_prob[:, 8:] *= 0.1
        places = places[:, rng.integers(0, 6, 64)]
    low = (places + rng.normal(0, 4, (2, 64, 2))).reshape(128, 2)
    boxes = np.concatenate([low, low + 150 + rng.normal(0, 4, (128, 2))], axis=1).astype(np.float32)

    def ours() -> list[tuple[int, int]]:
        found = pair_decode(hoi_prob, object_prob, object_of_hoi, class_of_hoi, classes, None, 100)
        rows = pair_nms(boxes[found.query_n], boxes[found.query_n + 64], found.class_n, found.score_n, 0.7, 1.0, 0.5)
        return list(zip(found.query_n[rows].tolist(), found.class_n[rows].tolist(), strict=True))

    def theirs() -> list[tuple[int, int]]:
        query, klass = official_rule(hoi_prob, object_prob, object_of_hoi, boxes)
        return list(zip(query.tolist(), klass.tolist(), strict=True))

    assert ours() == theirs()
    return {"NumPy": theirs, "numba": ours}


class CrossAttentions(nn.Module):
    """The cross-attentions of an interaction decoder, one after the other."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form: Form = form
        torch.manual_seed(0)
        self.layers = nn.ModuleList(Attention(WIDTH, HEADS) for _ in range(LAYERS))

    def forward(self, t: Tensor, tokens: Tensor, memory: Tensor, padding: Tensor) -> Tensor:
        for layer in self.layers:
            assert isinstance(layer, Attention)
            attended = attend_memories(layer.project(t, 0), tokens, memory, layer.key_value(), padding, form=self.form)
            t = t + layer.out(merge_heads(attended[0])) + layer.out(merge_heads(attended[1]))
        return t


def _rows(generator: torch.Generator, count: int) -> Tensor:
    return torch.randn(1, count, WIDTH, generator=generator)


def attention_calls(cells: int, runtime: str, folder: Path) -> Calls:
    generator = torch.Generator().manual_seed(0)
    random = partial(_rows, generator)
    padding = torch.zeros(1, cells, dtype=torch.bool)
    padding[:, -cells // 10 :] = True
    inputs = random(QUERIES), random(TOKENS), random(cells), padding
    forms: tuple[Form, ...] = ("projected", "absorbed")
    modules = {form: CrossAttentions(form).requires_grad_(False).eval() for form in forms}
    with torch.inference_mode():
        expected, found = (modules[form](*inputs) for form in forms)
    assert float((expected - found).abs().max()) < 1e-3
    if runtime == "torch":

        def eager(module: nn.Module) -> Tensor:
            with torch.inference_mode():
                output: Tensor = module(*inputs)
                return output

        return {form: partial(eager, module) for form, module in modules.items()}
    return {form: compiled(module, inputs, runtime, folder) for form, module in modules.items()}


def compiled(module: CrossAttentions, inputs: tuple[Tensor, ...], runtime: str, folder: Path) -> Callable[[], object]:
    with torch.no_grad(), exported_as("plain"):
        program = torch.export.export(module, inputs, strict=False)
    exported = torch.onnx.export(program, dynamo=True, opset_version=20, verbose=False)
    assert exported is not None
    path = folder / f"{module.form}-{inputs[2].shape[1]}.onnx"
    exported.save(str(path))
    core = openvino.Core()
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": runtime.removeprefix("openvino ")}
    request = core.compile_model(core.read_model(path), "CPU", options).create_infer_request()
    arrays = [tensor.numpy() for tensor in inputs]
    return lambda: request.infer(arrays, share_inputs=True)


def measured(
    case: str, baseline: str, calls: Calls, rounds: int, origin: dict[str, Any]
) -> list[tuple[str, str, str, str]]:
    """Times one case, appends its lines, and returns the rows of the table."""
    times = side_by_side(calls, rounds)
    rows = []
    for name, samples in times.items():
        ratio = float(np.median(np.array(times[baseline]) / np.array(samples)))
        line = {"benchmark": "kernels", "case": case, "implementation": name, **statistics(samples)}
        append("kernels", {**line, "times_as_fast": round(ratio, 2), "as": baseline, **origin})
        rows.append((case, name, f"{line['median_ms']:.2f}", f"{ratio:.2f}"))
    return rows


def main() -> None:
    origin = provenance("numpy", "numba", "pillow", "torch", "openvino")
    rows = measured("preprocess 1280x720 to 480x640 and 224", "PIL", preprocess_calls(), 100, origin)
    for crowded in (False, True):
        case = f"pair_decode and pair_nms, 64x600, {'crowded' if crowded else 'spread'}"
        rows += measured(case, "NumPy", scoring_calls(crowded), 200, origin)
    with tempfile.TemporaryDirectory() as folder:
        for runtime in ("torch", "openvino f32", "openvino bf16"):
            for cells in CELLS:
                calls = attention_calls(cells, runtime, Path(folder))
                rows += measured(f"3 cross-attentions, {cells} cells, {runtime}", "projected", calls, 30, origin)
    results.print(table("on the CPU", ("case", "implementation", "median ms", "times as fast"), rows))


if __name__ == "__main__":
    main()

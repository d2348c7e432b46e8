"""The interaction decoder's attention: implementations and forms against the slow meaning, and as an operator."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from hoiclip_kernels import dispatch
from hoiclip_kernels.dual_attention import (
    DualAttentionArguments,
    KeyValue,
    attend_memories,
    dual_attention,
    example_inputs,
    split_heads,
)
from hoiclip_kernels.dual_attention.forms import ABSORB_FROM, chosen
from hoiclip_kernels.dual_attention.graph import Attention, exported_as
from tests.kernels import attention_checks
from tests.kernels.attention_checks import Both, assert_close

SHAPES = [
    {},
    {"batch": 2, "cells": 1100, "padded": 130},
    {"cells": 1400, "padded": None},
    {"queries": 1, "tokens": 1, "cells": 1},
    {"batch": 3, "heads": 2, "queries": 17, "depth": 24, "tokens": 33, "cells": 65, "padded": 7},  # off every tile
    {"cells": 40, "padded": 40},  # nothing to attend to
    {"batch": 0},
    {"queries": 0},
    {"tokens": 0, "cells": 0, "padded": None},
]
IDS = [", ".join(f"{k} {v}" for k, v in shape.items()) or "official" for shape in SHAPES]


def outputs(implementation: str, arguments: DualAttentionArguments) -> Both:
    return attention_checks.outputs(dispatch.pick("dual_attention", implementation, "").dual_attention, arguments)


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_torch_agrees_with_the_reference(shape: dict[str, int], seed: int) -> None:
    arguments = example_inputs(**shape, seed=seed)
    expected = outputs("reference", arguments)
    assert_close(outputs("torch", arguments), expected, 3e-6)  # fp32 sums of up to 1,400 products in another order
    assert_close(dual_attention(*arguments), expected, 3e-6)


def test_reference_is_softmax_calculated_by_hand() -> None:
    one = lambda *values: torch.tensor(values).view(1, 1, -1, 1)  # noqa: E731
    q, k, v = one(1.0), one(0.0, float(np.log(3))), one(10.0, 20.0)
    padding = torch.tensor([[False, True]])
    first, second = outputs("reference", DualAttentionArguments(q, k, v, k, v, padding))
    assert first.item() == pytest.approx((10 + 3 * 20) / 4)
    assert second.item() == pytest.approx(10)


@pytest.mark.thorough
def test_it_is_a_well_behaved_operator(seed: int) -> None:
    """Schema, fake tensors, autograd registration and tracing, by torch's own check."""
    arguments = example_inputs(2, 2, 5, 8, 3, 7, padded=2, seed=seed)
    differentiable = [one.requires_grad_() for one in arguments[:5]]
    torch.library.opcheck(torch.ops.hoiclip.dual_attention.default, (*differentiable, arguments.padding2, "torch"))


@pytest.mark.parametrize("padded", [None, 0, 3])
def test_gradients_of_the_operator(padded: int | None, seed: int) -> None:
    arguments = example_inputs(2, 2, 3, 4, 5, 6, padded=padded, dtype=torch.float64, seed=seed)
    differentiable = [one.clone().requires_grad_() for one in arguments[:5]]

    def call(*five: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ops.hoiclip.dual_attention(*five, arguments.padding2, "torch")  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(call, differentiable)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_gradients_of_half_precision_are_those_of_double_rounded(dtype: torch.dtype, seed: int) -> None:
    arguments = example_inputs(1, 2, 6, 8, 5, 9, padded=2, seed=seed)
    found = []
    for kind in (dtype, torch.float64):
        leaves = [one.to(dtype).to(kind).requires_grad_() for one in arguments[:5]]
        out = dual_attention(*leaves, arguments.padding2, implementation="torch")
        found.append(torch.autograd.grad([one.sum() for one in out], leaves))
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), theirs, atol=2 * torch.finfo(dtype).eps * 5, rtol=0)


def test_training_goes_around_the_operator_and_has_the_same_gradients(seed: int) -> None:
    arguments = example_inputs(2, 2, 6, 8, 5, 9, padded=4, seed=seed)
    weights = [torch.randn_like(arguments.q) for _ in range(2)]
    found = []
    for implementation in (None, "torch"):
        leaves = [one.clone().requires_grad_() for one in arguments[:5]]
        out = dual_attention(*leaves, arguments.padding2, implementation=implementation)
        found.append(torch.autograd.grad(out, leaves, weights))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_compiled_caller_keeps_the_operator_whole(seed: int) -> None:
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph

    arguments = example_inputs(1, 2, 5, 8, 3, 7, seed=seed)
    compiled = torch.compile(lambda *a: dual_attention(*a)[1] + 1, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(*arguments), outputs("reference", arguments)[1] + 1, atol=3e-6, rtol=0)
    assert any("dual_attention" in name for name in seen)


def test_it_says_which_implementation_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = example_inputs(1, 1, 2, 4, 3, 3)
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    dual_attention(*arguments)
    assert dispatch.used["dual_attention"] == "torch"
    monkeypatch.setenv(dispatch.VARIABLE, "dual_attention=reference")
    dual_attention(*arguments)
    assert dispatch.used["dual_attention"] == "reference"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"k1": torch.zeros(1, 2, 3, 9)}, "expected k1"),
        ({"v2": torch.zeros(1, 2, 6, 8)}, "a value per key"),
        ({"k2": torch.zeros(1, 2, 7, 8, dtype=torch.float64)}, "expected k2"),
        ({"padding2": torch.zeros(1, 6, dtype=torch.bool)}, "expected padding2"),
        ({"padding2": torch.zeros(1, 7)}, "expected padding2"),
    ],
)
def test_what_does_not_belong_together_is_refused(change: dict[str, Tensor], said: str) -> None:
    arguments = example_inputs(1, 2, 5, 8, 3, 7)._replace(**change)
    with pytest.raises(ValueError, match=said):
        dual_attention(*arguments)


def random_memories(
    batch: int, cells: int, width: int, heads: int, seed: int
) -> tuple[Tensor, Tensor, Tensor, KeyValue, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    random = lambda *size: torch.randn(*size, generator=generator)  # noqa: E731
    weights = KeyValue(
        random(width, width) / width**0.5, random(width), random(width, width) / width**0.5, random(width)
    )
    padding = torch.zeros(batch, cells, dtype=torch.bool)
    padding[0, cells - cells // 4 :] = True
    q = split_heads(random(batch, 16, width), heads)
    return q, random(batch, 10, width), random(batch, cells, width), weights, padding


@pytest.mark.parametrize(("cells", "width", "heads"), [(1, 8, 2), (65, 48, 3), (900, 96, 8)])
@pytest.mark.parametrize("padded", [False, True])
def test_absorbing_equals_projecting(cells: int, width: int, heads: int, padded: bool, seed: int) -> None:
    q, memory1, memory2, weights, padding = random_memories(2, cells, width, heads, seed)
    hidden = padding if padded else None
    projected, absorbed = (
        attend_memories(q, memory1, memory2, weights, hidden, form=form) for form in ("projected", "absorbed")
    )
    # Scores of a few tens, rounded in fp32 in another order, move a softmax by some 1e-6 of values of a few units.
    assert_close(absorbed, projected, 5e-5)


def test_training_always_projects(seed: int) -> None:
    q, memory1, memory2, weights, _ = random_memories(1, ABSORB_FROM, 16, 2, seed)
    torch.manual_seed(0)
    dropped = attend_memories(q, memory1, memory2, weights, None, form="absorbed", dropout=0.5)
    kept = attend_memories(q, memory1, memory2, weights, None)
    assert not torch.allclose(dropped[1], kept[1])


def test_form_is_chosen_by_the_number_of_cells() -> None:
    assert chosen("auto", 512, 768, ABSORB_FROM - 1) == "projected"
    assert chosen("auto", 512, 768, ABSORB_FROM) == "absorbed"
    assert chosen("auto", 768, 768, 10_000) == "projected"  # as many products either way, and more around them
    assert chosen("projected", 512, 768, 10_000) == "projected"
    assert chosen("auto", 512, 768, torch.tensor(10_000)) == "projected"  # a size that is not known yet


class Twice(torch.nn.Module):
    """Two dual attentions in a row, to be exported."""

    def forward(self, q: Tensor, k1: Tensor, v1: Tensor, k2: Tensor, v2: Tensor, padding2: Tensor) -> Tensor:
        for _ in range(2):
            first, second = dual_attention(q, k1, v1, k2, v2, padding2)
            q = first + second
        return q


def exported(attention: Attention, arguments: DualAttentionArguments) -> onnx.ModelProto:
    with torch.no_grad(), exported_as(attention):
        program = torch.export.export(Twice(), tuple(arguments), strict=False)
    made = torch.onnx.export(program, dynamo=True, verbose=False)
    assert made is not None
    onnx.checker.check_model(made.model_proto)
    return made.model_proto


def test_operator_is_exported_as_it_is_and_run_as_it_is() -> None:
    arguments = example_inputs(2, 2, 5, 8, 3, 7, padded=2)
    with torch.no_grad():
        program = torch.export.export(Twice(), tuple(arguments), strict=False)
        assert sum("dual_attention" in str(node.target) for node in program.graph.nodes) == 2
        expected = Twice()(*arguments)
        with exported_as("plugin"):  # such as in another thread's export
            assert torch.equal(Twice()(*arguments), expected)


def test_plain_graph_holds_no_node_of_ours_and_computes_the_same(seed: int) -> None:
    arguments = example_inputs(2, 2, 5, 8, 3, 7, padded=2, seed=seed)
    model = exported("plain", arguments)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    found = session.run(None, dict(zip(names, (one.numpy() for one in arguments), strict=True)))[0]  # type: ignore[union-attr]
    torch.testing.assert_close(torch.from_numpy(found), Twice()(*arguments), atol=1e-5, rtol=0)


def test_plugin_graph_holds_one_node_per_attention(seed: int) -> None:
    model = exported("plugin", example_inputs(2, 4, 5, 32, 3, 7, padded=2, seed=seed))
    nodes = [node for node in model.graph.node if node.op_type == "HoiclipDualAttention"]
    assert len(nodes) == 2
    assert all(len(node.input) == 6 and len(node.output) == 2 for node in nodes)
    said = {one.name: onnx.helper.get_attribute_value(one) for one in nodes[0].attribute}
    assert said == {"heads": 4, "plugin_version": b"1", "plugin_namespace": b"hoiclip"}
    assert "Softmax" not in {node.op_type for node in model.graph.node}
    shapes = {one.name: [d.dim_value for d in one.type.tensor_type.shape.dim] for one in model.graph.value_info}
    assert [shapes[name] for name in nodes[0].output] == [[2, 5, 128]] * 2


def test_reference_of_no_keys_is_zero() -> None:
    arguments = example_inputs(tokens=0, cells=5, padded=5)
    first, second = outputs("reference", arguments)
    assert not first.any()
    assert not second.any()

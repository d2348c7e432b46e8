"""What tests of dual_attention have in common, whatever the implementation: over poison, near the reference, captured.

A call takes an implementation's arguments: those of the operator, and the two tensors it writes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hoiclip_kernels.dual_attention import DualAttentionArguments, example_inputs, reference

Both = tuple[Tensor, Tensor]
Call = Callable[..., None]
TOLERANCE = {torch.float32: 5e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""Attention weights are rounded to the type before values of up to 5 are summed, and the sum again."""


def poisoned(like: Tensor) -> Both:
    """To write over, so that an element left out shows."""
    return torch.full_like(like, float("nan")), torch.full_like(like, float("nan"))


def outputs(call: Call, arguments: DualAttentionArguments) -> Both:
    out = poisoned(arguments.q)
    call(*arguments, out)
    return out


def assert_close(found: Both, expected: Both, atol: float) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours.float(), theirs.float(), atol=atol, rtol=0)


def check(call: Call, arguments: DualAttentionArguments) -> None:
    """It says what the reference says."""
    expected = outputs(reference.dual_attention, arguments)
    assert_close(outputs(call, arguments), expected, TOLERANCE[arguments.q.dtype])


def check_inside_a_cuda_graph(call: Call, seed: int) -> None:
    """What was captured writes the same when it is replayed."""
    arguments = example_inputs(dtype=torch.float16, device="cuda", seed=seed)
    out = outputs(call, arguments)  # what a first call measures or loads, a capture may not
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call(*arguments, out)
    for one in out:
        one.fill_(float("nan"))
    graph.replay()
    assert_close(out, outputs(reference.dual_attention, arguments), TOLERANCE[torch.float16])

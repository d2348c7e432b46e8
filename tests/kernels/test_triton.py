"""Triton kernels against their references: interpreted where there is no GPU, so shapes are small; on one, large.

The interpreter's bfloat16 is wrong, so that type is tried on a GPU alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

pytest.importorskip("triton")

from hoiclip_kernels import dispatch
from hoiclip_kernels.dispatch import KernelError
from hoiclip_kernels.dual_attention import example_inputs as attention_inputs
from hoiclip_kernels.dual_attention import reference
from hoiclip_kernels.dual_attention import triton_impl as attention_triton
from hoiclip_kernels.pair_decode import example_inputs as decode_inputs
from hoiclip_kernels.pair_decode import pair_decode
from hoiclip_kernels.pair_nms import example_inputs as nms_inputs
from hoiclip_kernels.pair_nms import pair_nms
from hoiclip_kernels.preprocess import Inputs, Nv12, Plan, preprocess
from hoiclip_kernels.preprocess import example_inputs as preprocess_inputs
from tests.kernels.attention_checks import TOLERANCE, assert_close, check, check_inside_a_cuda_graph, outputs, poisoned
from tests.kernels.nonsense import nonsense_pairs

pytestmark = pytest.mark.thorough

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def on_device(value: Any) -> Any:
    if isinstance(value, Nv12):
        return value._replace(y_hw=on_device(value.y_hw), uv_hw2=on_device(value.uv_hw2))
    return torch.from_numpy(value).to(DEVICE) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("tiles", attention_triton.TILES)
@pytest.mark.parametrize(
    "shape",
    [
        {"heads": 1, "queries": 64, "cells": 150, "padded": 20},
        {"batch": 2, "heads": 2, "queries": 17, "depth": 24, "tokens": 33, "cells": 65, "padded": 7},  # off every tile
        {"heads": 2, "queries": 1, "depth": 96, "tokens": 1, "cells": 1, "padded": None},
        {"heads": 1, "queries": 5, "depth": 8, "cells": 40, "padded": 40},  # nothing to attend to
        {"heads": 1, "queries": 5, "depth": 16, "tokens": 0, "cells": 0, "padded": None},
    ],
    ids=["official head", "off tile", "one", "all hidden", "empty"],
)
def test_attention_agrees_with_the_reference(tiles: str, dtype: torch.dtype, shape: dict[str, Any], seed: int) -> None:
    arguments = attention_inputs(dtype=dtype, device=DEVICE, seed=seed, **shape)
    check(partial(attention_triton.launch, tiles), arguments)


def test_attention_takes_tensors_as_they_lie_in_memory(seed: int) -> None:
    arguments = attention_inputs(1, 2, 5, 24, 7, 9, padded=2, device=DEVICE, seed=seed)
    turned = [one.transpose(2, 3).contiguous().transpose(2, 3) for one in arguments[:5]]
    found = poisoned(arguments.q.contiguous())
    attention_triton.dual_attention(*turned, arguments.padding2, found)  # type: ignore[call-arg]
    assert_close(found, outputs(reference.dual_attention, arguments), TOLERANCE[torch.float32])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("tiles", attention_triton.TILES)
@pytest.mark.parametrize(("batch", "cells"), [(1, 300), (8, 1100), (2, 1400)])
def test_attention_of_official_sizes(tiles: str, dtype: torch.dtype, batch: int, cells: int, seed: int) -> None:
    arguments = attention_inputs(batch, cells=cells, padded=77, dtype=dtype, device="cuda", seed=seed)
    check(partial(attention_triton.launch, tiles), arguments)


@pytest.mark.gpu
def test_attention_inside_a_cuda_graph(seed: int) -> None:
    check_inside_a_cuda_graph(attention_triton.dual_attention, seed)  # the first call measures its tiles


def check_decode(inputs: tuple[Any, ...], top_k: int) -> None:
    with np.errstate(invalid="ignore"):
        expected = pair_decode(*inputs, top_k, implementation="reference")
    found = pair_decode(*map(on_device, inputs), top_k, implementation="triton")
    for name, ours, theirs in zip(expected._fields, found, expected, strict=True):
        np.testing.assert_array_equal(ours.cpu().numpy(), theirs, err_msg=name)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("shape", "num_classes", "top_k"),
    [((0, 3, 2), None, 9), ((1, 1, 1), None, 1), ((3, 17, 4), None, 10), ((10, 9, 5), None, 100), ((9, 20, 4), 5, 7)],
)
def test_decode_agrees_with_the_reference(
    shape: tuple[int, int, int], num_classes: int | None, top_k: int, seed: int
) -> None:
    check_decode(decode_inputs(*shape, num_classes, seed=seed), top_k)


@pytest.mark.gpu
@pytest.mark.parametrize("num_classes", [None, 29])
def test_decode_of_official_sizes(num_classes: int | None, seed: int) -> None:
    check_decode(decode_inputs(64, 600, 81, num_classes, seed=seed), 100)


_scores = st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, np.nan, np.inf, -np.inf])


@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data(), verbs=st.booleans(), top_k=st.integers(1, 12))
def test_decode_agrees_on_ties_and_on_what_is_not_finite(data: st.DataObject, verbs: bool, top_k: int) -> None:
    hoi_prob = data.draw(hnp.arrays(np.float32, (3, 5), elements=_scores))
    object_prob = data.draw(hnp.arrays(np.float32, (3, 3), elements=_scores))
    _, _, object_of_hoi, class_of_hoi, num_classes, _ = decode_inputs(3, 5, 3, 4 if verbs else None)
    check_decode((hoi_prob, object_prob, object_of_hoi, class_of_hoi, num_classes, None), top_k)


def test_decode_passes_over_an_object_that_is_none() -> None:
    hoi_prob, object_prob, object_of_hoi, class_of_hoi, classes, _ = decode_inputs(2, 4, 3)
    object_of_hoi[1], class_of_hoi[2] = 3, -1
    found = pair_decode(
        *map(on_device, (hoi_prob, object_prob, object_of_hoi, class_of_hoi)), classes, None, 9, implementation="triton"
    )
    assert set(found.class_n.tolist()) == {0, 3}


@pytest.mark.parametrize("n", [0, 1, 2, 33])
@pytest.mark.parametrize(("threshold", "powers"), [(0.3, (1.0, 0.5)), (0.5, (0.5, 2.0)), (0.4, (0.0, 0.7))])
def test_nms_agrees_with_the_reference(n: int, threshold: float, powers: tuple[float, float], seed: int) -> None:
    inputs = nms_inputs(n, seed=seed)
    expected = pair_nms(*inputs, threshold, *powers, implementation="reference")
    found = pair_nms(*map(on_device, inputs), threshold, *powers, implementation="triton")
    assert found.tolist() == expected.tolist()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(pairs=nonsense_pairs(5))
def test_nms_agrees_on_boxes_and_scores_that_make_no_sense(pairs: tuple[Any, ...]) -> None:
    with np.errstate(all="ignore"):
        expected = pair_nms(*pairs, 0.7, 1.0, 0.5, implementation="reference")
        found = pair_nms(*map(on_device, pairs), 0.7, 1.0, 0.5, implementation="triton")
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("call", [
    lambda: pair_nms(*map(on_device, nms_inputs(1025)), 0.7, 1.0, 0.5, implementation="triton"),
    lambda: pair_decode(*map(on_device, decode_inputs(64, 20, 3)), 1025, implementation="triton"),
])  # fmt: skip
def test_more_than_a_program_can_hold_is_refused(call: Any) -> None:
    with pytest.raises(KernelError, match=r"at most 1024.*; use numba"):
        call()


@pytest.mark.parametrize("nv12", [False, True], ids=["rgb", "nv12"])
@pytest.mark.parametrize(
    "plan",
    [
        Plan((13, 18), (6, 8), (7, 10), 4),
        Plan((5, 4), (9, 7), (9, 7), 5),  # grows
        Plan((1, 1), (1, 1), (2, 1), 1),
        Plan((18, 2), (18, 1), (18, 1), 1),  # CLIP's image is cut before it is resized
    ],
    ids=str,
)
def test_preprocess_agrees_with_the_reference_bit_for_bit(plan: Plan, nv12: bool, seed: int) -> None:
    check_preprocess(plan, nv12, seed)


OFFICIAL = [Plan((720, 1280), (360, 640), (480, 640), 224), Plan((1080, 1920), (750, 1333), (768, 1344), 224)]


@pytest.mark.gpu
@pytest.mark.parametrize("nv12", [False, True], ids=["rgb", "nv12"])
@pytest.mark.parametrize("plan", OFFICIAL, ids=str)
def test_preprocess_of_official_sizes(plan: Plan, nv12: bool, seed: int) -> None:
    check_preprocess(plan, nv12, seed)


def check_preprocess(plan: Plan, nv12: bool, seed: int) -> None:
    frame = preprocess_inputs(plan.source_hw, nv12=nv12, seed=seed)
    expected = preprocess(frame, plan, implementation="reference")
    out = Inputs(*(on_device(np.full(one.shape, 7, one.dtype)) for one in expected))
    found = preprocess(on_device(frame), plan, out, implementation="triton")
    for name, ours, theirs in zip(Inputs._fields, found, expected, strict=True):
        np.testing.assert_array_equal(ours.cpu().numpy(), theirs, err_msg=name)  # type: ignore[attr-defined]


def test_tensors_of_a_gpu_are_left_to_triton() -> None:
    inputs = [on_device(one) for one in nms_inputs(2)]
    pair_nms(*inputs, 0.7, 1.0, 0.5)
    assert dispatch.used["pair_nms"] == "triton"
    assert isinstance(pair_nms(*inputs, 0.7, 1.0, 0.5), Tensor)

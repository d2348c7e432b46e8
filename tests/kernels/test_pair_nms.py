"""The compiled suppression of doubles against its slow meaning."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from hoiclip_kernels.pair_nms import example_inputs, numba_impl, reference
from tests.kernels.nonsense import nonsense_pairs

IMPLEMENTATIONS = [reference.pair_nms, numba_impl.pair_nms]
IDS = ["reference", "numba"]
OFFICIAL = (0.7, 1.0, 0.5)  # threshold, human power, object power


@pytest.mark.parametrize("powers", [(1.0, 0.5), (0.5, 2.0)])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("n", [0, 1, 2, 100])
def test_agrees_with_the_reference(n: int, threshold: float, powers: tuple[float, float], seed: int) -> None:
    inputs = example_inputs(n, seed=seed)
    expected = reference.pair_nms(*inputs, threshold, *powers)
    if n == 100 and threshold == 0.3:
        assert 10 < len(expected) < 90
    np.testing.assert_array_equal(numba_impl.pair_nms(*inputs, threshold, *powers), expected)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(pairs=nonsense_pairs(8))
def test_agrees_on_boxes_and_scores_that_make_no_sense(pairs: tuple[Any, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = reference.pair_nms(*pairs, *OFFICIAL)
        np.testing.assert_array_equal(numba_impl.pair_nms(*pairs, *OFFICIAL), expected)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32)


@pytest.mark.parametrize("pair_nms", IMPLEMENTATIONS, ids=IDS)
def test_weaker_of_two_equal_pairs_goes_but_only_within_a_class(pair_nms) -> None:  # type: ignore[no-untyped-def]
    same = boxes(*[(0, 0, 9, 9)] * 3)
    kept = pair_nms(same, same, np.array([4, 4, 2]), np.array([0.5, 0.9, 0.1]), *OFFICIAL)
    assert kept.tolist() == [1, 2]


@pytest.mark.parametrize("pair_nms", IMPLEMENTATIONS, ids=IDS)
@pytest.mark.parametrize(("threshold", "kept"), [(0.499, [0]), (0.501, [0, 1])])
def test_box_from_pixel_0_to_9_is_ten_wide(pair_nms, threshold: float, kept: list[int]) -> None:  # type: ignore[no-untyped-def]
    humans = boxes((0, 0, 9, 9), (0, 0, 9, 4))  # 10 × 10 and 10 × 5: IoU 1/2
    objects = boxes((0, 0, 9, 9), (0, 0, 9, 9))
    result = pair_nms(humans, objects, np.zeros(2, int), np.array([2.0, 1.0]), threshold, 1.0, 0.5)
    assert result.tolist() == kept


@pytest.mark.parametrize("pair_nms", IMPLEMENTATIONS, ids=IDS)
@pytest.mark.parametrize(("threshold", "kept"), [(0.24, [0]), (0.26, [0, 1])])
def test_each_iou_has_its_power(pair_nms, threshold: float, kept: list[int]) -> None:  # type: ignore[no-untyped-def]
    humans = boxes((0, 0, 9, 9), (0, 0, 9, 4))  # IoU 1/2
    objects = boxes((0, 0, 19, 1), (0, 0, 4, 1))  # IoU 1/4, its root 1/2
    result = pair_nms(humans, objects, np.zeros(2, int), np.array([2.0, 1.0]), threshold, 1.0, 0.5)
    assert result.tolist() == kept


@pytest.mark.parametrize("pair_nms", IMPLEMENTATIONS, ids=IDS)
def test_classes_keep_the_order_of_their_first_row(pair_nms) -> None:  # type: ignore[no-untyped-def]
    apart = boxes(*[(100 * i, 0, 100 * i + 9, 9) for i in range(4)])
    kept = pair_nms(apart, apart, np.array([7, 3, 7, 3]), np.array([0.9, 0.8, 0.7, 0.6]), *OFFICIAL)
    assert kept.tolist() == [0, 2, 1, 3]

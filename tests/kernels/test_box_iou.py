"""Every implementation of box_iou against its reference, and the reference against arithmetic done by hand."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hoiclip_kernels import box_iou as folder
from hoiclip_kernels.box_iou import box_iou, example_inputs, numba_impl, reference
from tests.engine.extreme_numbers import extreme_32, extreme_64

IMPLEMENTATIONS = [pytest.param(box_iou, id="public"), pytest.param(numba_impl.box_iou, id="numba")]


@pytest.mark.parametrize("impl", [*IMPLEMENTATIONS, pytest.param(reference.box_iou, id="reference")])
def test_overlaps_calculated_by_hand(impl):
    a = np.array([[0, 0, 10, 10], [0, 0, 4, 5]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 0, 4, 5]], np.float32)
    expected = [[1, 50 / 150, 0, 10 / 100], [20 / 100, 0, 0, 0.5]]
    result = impl(a, b)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, expected, rtol=1e-15)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0), (1, 1), (33, 65), (300, 300)])
def test_agrees_with_the_reference(impl, n, m, seed):
    a, b = example_inputs(n, m, seed=seed)
    result = impl(a, b)
    assert result.shape == (n, m)
    assert n * m < 100 or np.count_nonzero(result) > n * m / 10
    np.testing.assert_allclose(result, reference.box_iou(a, b), rtol=1e-14)  # sums in another order


def test_largest_example_takes_the_numba_path():
    assert 65 * 33 < folder.NUMBA_CELLS <= 300 * 300


@pytest.mark.parametrize("impl", [*IMPLEMENTATIONS, pytest.param(reference.box_iou, id="reference")])
@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    boxes=st.one_of(
        arrays(np.float32, (5, 4), elements=st.one_of(st.floats(width=32), extreme_32)),
        arrays(np.float64, (5, 4), elements=st.one_of(st.floats(), extreme_64)),
    )
)
def test_any_numbers_give_a_symmetric_overlap_between_nought_and_one(impl, boxes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = impl(boxes, boxes)
    assert ((result >= 0) & (result <= 1)).all()
    np.testing.assert_array_equal(result, result.T)
    np.testing.assert_allclose(result, reference.box_iou(boxes, boxes), rtol=1e-14)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    "box", [[5, 5, 5, 9], [9, 9, 5, 5], [np.nan, 0, 9, 9], [0, 0, np.inf, 9], [-np.inf, -np.inf, np.inf, np.inf]]
)
def test_box_that_is_none_overlaps_nothing(impl, box):
    whole = np.array([[0, 0, 10, 10]], np.float32)
    other = np.array([box], np.float32)
    assert impl(whole, whole)[0, 0] == 1
    assert impl(whole, other)[0, 0] == 0
    assert impl(other, other)[0, 0] == 0


def test_few_boxes_are_compared_without_loading_numba_or_torch():
    code = (
        "import sys; from hoiclip_kernels.box_iou import box_iou, example_inputs; box_iou(*example_inputs(64, 64)); "
        "sys.exit(int('numba' in sys.modules or 'torch' in sys.modules))"
    )
    paths = [path for path in sys.path if path]
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}; {code}"], check=False)
    assert done.returncode == 0

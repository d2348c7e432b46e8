"""The compiled top-k against its slow meaning."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hoiclip_kernels.pair_decode import Decoded, example_inputs, numba_impl, pair_decode, reference

IMPLEMENTATIONS = [reference.pair_decode, numba_impl.pair_decode]
IDS = ["reference", "numba"]


def assert_same(found: Decoded, expected: Decoded) -> None:
    for name, ours, theirs in zip(Decoded._fields, found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


@pytest.mark.parametrize("num_classes", [None, 4], ids=["a class per HOI", "verbs"])
@pytest.mark.parametrize("top_k", [1, 10, 100, 5000])
@pytest.mark.parametrize("shape", [(0, 3, 2), (1, 1, 1), (9, 33, 5), (16, 60, 8)])
def test_agrees_with_the_reference(shape: tuple[int, int, int], top_k: int, num_classes: int | None, seed: int) -> None:
    inputs = example_inputs(*shape, num_classes, seed=seed)
    expected = reference.pair_decode(*inputs, top_k)
    assert len(expected.score_n) <= top_k
    assert_same(numba_impl.pair_decode(*inputs, top_k), expected)


def test_agrees_with_the_reference_at_the_official_size(seed: int) -> None:
    inputs = example_inputs(64, 600, 81, seed=seed)
    assert_same(numba_impl.pair_decode(*inputs, 100), reference.pair_decode(*inputs, 100))


# Few values make many ties; inf and NaN are what a broken engine may return.
_scores = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0**100, -(2.0**100), np.nan, np.inf, -np.inf])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data(), q=st.integers(1, 4), k=st.integers(1, 9), top_k=st.integers(1, 20), verbs=st.booleans())
def test_agrees_on_ties_and_on_what_is_not_finite(data: st.DataObject, q: int, k: int, top_k: int, verbs: bool) -> None:
    hoi_prob = data.draw(hnp.arrays(np.float32, (q, k), elements=_scores))
    object_prob = data.draw(hnp.arrays(np.float32, (q, 3), elements=_scores))
    _, _, object_of_hoi, class_of_hoi, num_classes, weight = example_inputs(q, k, 3, 4 if verbs else None)
    inputs = hoi_prob, object_prob, object_of_hoi, class_of_hoi, num_classes, weight
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = reference.pair_decode(*inputs, top_k)
        assert_same(numba_impl.pair_decode(*inputs, top_k), expected)
    assert not np.isnan(expected.score_n).any()


@pytest.mark.parametrize("impl", IMPLEMENTATIONS, ids=IDS)
def test_score_is_hoi_plus_object_squared(impl) -> None:  # type: ignore[no-untyped-def]
    hoi_prob = np.array([[0.5, 0.25]], np.float32)
    object_prob = np.array([[0.25, 0.75]], np.float32)
    found = impl(hoi_prob, object_prob, np.array([0, 1]), np.array([0, 1]), 2, None, 10)
    assert found.class_n.tolist() == [1, 0]
    assert found.score_n.tolist() == [0.25 + 0.75**2, 0.5 + 0.25**2]


@pytest.mark.parametrize("impl", IMPLEMENTATIONS, ids=IDS)
def test_equal_scores_come_in_the_order_of_query_and_class(impl) -> None:  # type: ignore[no-untyped-def]
    found = impl(
        np.full((3, 4), 0.5, np.float32), np.zeros((3, 1), np.float32), np.zeros(4, int), np.arange(4), 4, None, 6
    )
    assert list(zip(found.query_n, found.class_n, strict=True)) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]


@pytest.mark.parametrize("impl", IMPLEMENTATIONS, ids=IDS)
def test_class_takes_its_best_hoi_and_its_weight(impl) -> None:  # type: ignore[no-untyped-def]
    hoi_prob = np.array([[0.1, 0.9, 0.8]], np.float32)
    weight = np.array([[0.5, 1.0, 1.0]])  # class 2 has no HOI
    found = impl(hoi_prob, np.zeros((1, 1), np.float32), np.zeros(3, int), np.array([0, 0, 1]), 3, weight, 10)
    assert found.class_n.tolist() == [1, 0]
    assert found.hoi_n.tolist() == [2, 1]
    np.testing.assert_allclose(found.score_n, [0.8, 0.45], rtol=1e-6)


@pytest.mark.parametrize("wrong", [-1, 5])
def test_object_out_of_range_is_refused(wrong: int) -> None:
    hoi_prob, object_prob, object_of_hoi, class_of_hoi, num_classes, weight = example_inputs(4, 6, 5)
    object_of_hoi[2] = wrong
    with pytest.raises(ValueError, match="object_of_hoi_k"):
        pair_decode(hoi_prob, object_prob, object_of_hoi, class_of_hoi, num_classes, weight, 10)

"""Agreement of two models: one with itself, with another, and where there is nothing to agree on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.detections import HOIDetections
from hoiclip.evaluation.agreement import triplet_agreement


def random_detections(count: int, seed: int) -> HOIDetections:
    """Triplets of humans far from each other, some without an object."""
    rng = np.random.default_rng(seed)
    corner = 200.0 * np.arange(count)[:, None] + rng.uniform(0, 20, (count, 2))
    humans = np.concatenate([corner, corner + rng.uniform(40, 80, (count, 2))], axis=1).astype(np.float32)
    return HOIDetections(
        query=np.arange(count),
        human_boxes_xyxy=humans,
        object_boxes_xyxy=humans + np.float32(30),
        label=rng.integers(-1, 3, count),
        verb=rng.integers(0, 3, count),
        hoi=np.full(count, -1),
        score=rng.uniform(0.3, 1, count),
        verb_score=rng.uniform(0.4, 1, count),
    )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(0, 1000))
def test_model_agrees_with_itself(counts: list[int], seed: int) -> None:
    images = [random_detections(count, seed + number) for number, count in enumerate(counts)]
    agreement = triplet_agreement(images, images)
    assert agreement.num_images == len(counts)
    assert agreement.common == agreement.reference_triplets == agreement.triplets == sum(counts)
    assert agreement.f1 == (1 if sum(counts) else None)
    assert agreement.rank_correlation == (pytest.approx(1) if sum(counts) > 2 else None)


def test_triplet_of_another_verb_object_or_place_is_not_common() -> None:
    reference = random_detections(4, seed=1)
    others = replace(
        reference,
        verb=np.array([(reference.verb[0] + 1) % 3, *reference.verb[1:]]),
        label=np.array([reference.label[0], reference.label[1] + 1, *reference.label[2:]]),
        human_boxes_xyxy=reference.human_boxes_xyxy + np.float32([[0], [0], [300], [0]]),
    )
    agreement = triplet_agreement([reference], [others])
    assert (agreement.common, agreement.recall, agreement.precision) == (1, 0.25, 0.25)


def test_triplet_found_twice_counts_once() -> None:
    reference = random_detections(1, seed=1)
    twice = HOIDetections(**{name: np.concatenate([getattr(reference, name)] * 2) for name in HOIDetections.__slots__})
    agreement = triplet_agreement([reference], [twice])
    assert (agreement.recall, agreement.precision, agreement.f1) == (1, 0.5, pytest.approx(2 / 3))


def test_rank_correlation_is_of_order_not_of_scale() -> None:
    reference = random_detections(8, seed=2)
    assert triplet_agreement([reference], [replace(reference, score=reference.score**3)]).rank_correlation == 1
    reversed_order = triplet_agreement([reference], [replace(reference, score=1 - reference.score)])
    assert reversed_order.rank_correlation == pytest.approx(-1)


def test_fractions_of_nothing_are_missing() -> None:
    nothing, some = random_detections(0, seed=0), random_detections(3, seed=0)
    assert triplet_agreement([some], [nothing]).to_json() == {
        "images": 1,
        "teacher_triplets": 3,
        "student_triplets": 0,
        "common": 0,
        "recall": 0.0,
        "precision": None,
        "f1": 0.0,
        "rank_correlation": None,
    }
    assert triplet_agreement([nothing], [some]).recall is None

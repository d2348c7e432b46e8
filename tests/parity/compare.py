"""Compares lists of triplets with recorded official ones, strict but for what rounding decides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.detections import HOIDetections

Ints = NDArray[np.integer]
Triplet = tuple[int, int, int]


def assert_same_triplets(
    pairs: HOIDetections,
    sub: Ints,
    obj: Ints,
    cat: Ints,
    score: NDArray[np.floating],
    *,
    num_queries: int,
    grouped: bool,
    tolerance: float = 1e-6,
) -> None:
    """Same triplets, official scores within `tolerance`, same order.

    Neighbours whose official scores tie within `tolerance` may stand the other way round; so may whole classes whose
    best scores tie, where the list is grouped. Of exact ties the official code repeats the first and loses the second:
    a repeated row counts once, and we may have one more row where its score ties with that of another.

    Args:
        sub, obj: rows of the official list of 2Q boxes.
        cat: HOI class, or verb where `pairs` has no HOI.
        grouped: the list is ordered by class (after NMS) rather than by score.
    """
    category = np.where(pairs.hoi >= 0, pairs.hoi, pairs.verb)
    ours = _triplets(pairs.query, pairs.query + num_queries, category)
    assert len(set(ours)) == len(ours), "a triplet is reported twice"
    official = dict(zip(_triplets(sub, obj, cat), np.asarray(score, np.float64).tolist(), strict=True))
    assert official, "nothing to compare with"
    our_scores = 2 * pairs.score
    place = {triplet: i for i, triplet in enumerate(ours)}
    # Only the last ranks of the top 100 may be of another triplet, and only of one that ties with them.
    last = min(our_scores.min(), min(official.values())) + tolerance
    missing = official.keys() - place.keys()
    for triplet in missing:
        assert official.pop(triplet) <= last, f"missing: {triplet}"
    extras = [place[triplet] for triplet in place.keys() - official.keys()]
    repeated = [i for i in extras if (np.abs(our_scores - our_scores[i]) <= tolerance).sum() > 1]
    others = [i for i in extras if i not in repeated]
    assert len(others) <= len(missing), f"not in the official list: {[ours[i] for i in others]}"
    assert all(our_scores[i] <= last for i in others), f"not in the official list: {[ours[i] for i in others]}"
    places = np.array([place[triplet] for triplet in official])
    expected = np.array(list(official.values()))
    np.testing.assert_allclose(our_scores[places], expected, rtol=0, atol=tolerance)
    _assert_order(places, expected, np.array([triplet[2] for triplet in official]), grouped, tolerance)


def _triplets(sub: Ints, obj: Ints, cat: Ints) -> list[Triplet]:
    return list(zip(sub.tolist(), obj.tolist(), cat.tolist(), strict=True))


def _assert_order(places: Ints, scores: NDArray[np.float64], category: Ints, grouped: bool, tolerance: float) -> None:
    """`places[i]` is where we have the i-th official row: it may only fall back between rows that tie."""
    tied = np.abs(scores[:, None] - scores[None, :]) <= tolerance
    if grouped:
        _, first, inverse = np.unique(category, return_index=True, return_inverse=True)
        head = scores[first[inverse]]
        heads_tied = np.abs(head[:, None] - head[None, :]) <= tolerance
        tied = np.where(category[:, None] == category[None, :], tied, heads_tied)
    swapped = np.triu(places[:, None] > places[None, :])
    assert not (swapped & ~tied).any(), f"another order at official rows {np.argwhere(swapped & ~tied)[:5].tolist()}"

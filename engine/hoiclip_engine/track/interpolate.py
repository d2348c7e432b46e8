"""Where pairs were between two looks, once both are known: on the straight line between their boxes.

For whoever can wait for the second look; a live stream predicts instead (pair_tracker.py).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hoiclip_engine.pairs import F32, TrackedPairs


def between(before: TrackedPairs, predicted: TrackedPairs, after: TrackedPairs, share: float) -> TrackedPairs:
    """The predicted pairs of a moment between two looks, with boxes and scores corrected by what the looks saw.

    Args:
        before: of the look before the moment.
        predicted: of the moment itself; pairs that one of the looks does not show stay as they are here.
        after: of the look after it.
        share: how far the moment is from the first to the second look, 0 to 1.

    Source: linear interpolation by presentation time, as MOT benchmarks fill gaps of a track.
    """
    pairs, rows_before, rows = np.intersect1d(before.pair, predicted.pair, return_indices=True)
    _, kept, rows_after = np.intersect1d(pairs, after.pair, return_indices=True)
    rows_before, rows = rows_before[kept], rows[kept]

    def line(name: str) -> F32:
        values: F32 = getattr(predicted, name).copy()
        # An unseen member is where the tracker guesses it at both ends, so the line is as good as the guess.
        values[rows] = (1 - share) * getattr(before, name)[rows_before] + share * getattr(after, name)[rows_after]
        return values

    return replace(
        predicted,
        human_boxes_xyxy=line("human_boxes_xyxy"),
        object_boxes_xyxy=line("object_boxes_xyxy"),
        score=line("score"),
        verb_scores=line("verb_scores"),
    )

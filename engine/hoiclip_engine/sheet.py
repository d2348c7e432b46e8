"""A sheet of pictures as a person would look at them: what a model shows, and below it what is true."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import cv2
import numpy as np

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.vocabulary import NO_INTERACTION, Vocabulary
from hoiclip_engine.evaluate import RGB, Detector
from hoiclip_engine.frame import Frame
from hoiclip_engine.pairs import Pairs, TrackedPairs
from hoiclip_engine.sinks.annotate import Annotator
from hoiclip_engine.track.pair_tracker import PairTracker, TrackConfig

COLUMNS = 4
HEIGHT_PX = 384
"""Of a picture; labels need room."""
_GAP_PX = 8


def prediction_sheet(detect: Detector, vocabulary: Vocabulary, pictures: Iterable[tuple[RGB, ImageAnnotation]]) -> RGB:
    """Rows of four pictures, all of one height, predictions above truth; thresholds are those of a run on a photo."""
    cells = []
    for rgb, annotation in pictures:
        scale = HEIGHT_PX / rgb.shape[0]
        size = max(1, round(scale * rgb.shape[1])), HEIGHT_PX
        large = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        frame = Frame(np.asarray(large, np.uint8), 0.0, 0)
        tracker = PairTracker.for_vocabulary(vocabulary, TrackConfig().for_photos())
        # The picture as it is evaluated, not the enlarged one: an enlarged one gets other scores.
        found = tracker.update(_scaled(detect(rgb), scale), 0.0)
        true = true_pairs(annotation, vocabulary, scale)
        above, below = (Annotator(vocabulary).draw(frame, _numbered(pairs)) for pairs in (found, true))
        cells.append(_framed(np.concatenate((above, np.full_like(above[:2], 255), below))))
    widest = max(cell.shape[1] for cell in cells)
    cells = [np.pad(cell, ((0, 0), (0, widest - cell.shape[1]), (0, 0)), constant_values=255) for cell in cells]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % COLUMNS)
    rows = [np.concatenate(cells[start : start + COLUMNS], axis=1) for start in range(0, len(cells), COLUMNS)]
    return np.concatenate(rows)


def true_pairs(one: ImageAnnotation, vocabulary: Vocabulary, scale: float = 1.0) -> TrackedPairs:
    """An annotation as if it had been tracked: everything is certain. Pairs that do nothing are left out."""
    verbs_of: dict[tuple[int, int], list[int]] = {}
    for human, thing, verb in one.interactions.tolist():
        if vocabulary.verbs[verb] != NO_INTERACTION:
            verbs_of.setdefault((human, thing), []).append(verb)
    pairs = np.array(list(verbs_of), np.int64).reshape(-1, 2)
    human, thing = pairs.T
    scores = np.zeros((len(pairs), len(vocabulary.verbs)), np.float32)
    for row, verbs in enumerate(verbs_of.values()):
        scores[row, verbs] = 1
    boxes = one.boxes_xyxy * np.float32(scale)
    return TrackedPairs(
        pair=np.arange(1, len(pairs) + 1),
        human=human,
        object=thing,
        human_boxes_xyxy=boxes[human],
        object_boxes_xyxy=np.where((thing >= 0)[:, None], boxes[thing], boxes[human]),
        label=np.where(thing >= 0, one.labels[thing], -1),
        score=np.ones(len(pairs), np.float32),
        verb_scores=scores,
        verb_active=scores > 0,
    )


def _numbered(pairs: TrackedPairs) -> TrackedPairs:
    """Humans numbered from left to right, so that both images of one have the same numbers and colours."""
    ids, first = np.unique(pairs.human, return_index=True)
    order = np.lexsort(pairs.human_boxes_xyxy[first].T[::-1])
    number = np.empty(len(ids), np.int64)
    number[order] = 1 + np.arange(len(ids))
    return replace(pairs, human=number[np.searchsorted(ids, pairs.human)])


def _scaled(pairs: Pairs, scale: float) -> Pairs:
    """Boxes in pixels of a picture `scale` times as large."""
    factor = np.float32(scale)
    return replace(
        pairs,
        human_boxes_xyxy=pairs.human_boxes_xyxy * factor,
        object_boxes_xyxy=pairs.object_boxes_xyxy * factor,
    )


def _framed(rgb: RGB) -> RGB:
    return np.pad(rgb, ((_GAP_PX, _GAP_PX), (_GAP_PX, _GAP_PX), (0, 0)), constant_values=255)

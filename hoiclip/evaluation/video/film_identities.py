"""Moments of a film for the identity metrics: of its humans and objects, and of its pairs.

Both count what somebody is told of: pairs that do something. A pair of which no verb is believed is not shown either.
How many entities are found at all, identities apart, counts every pair.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hoiclip.evaluation.overlap import iou_matrix, pixel_iou_matrix
from hoiclip.evaluation.video.align import Aligned
from hoiclip.evaluation.video.film import FilmFrame, acting, entities
from hoiclip.evaluation.video.moments import F64, Moment
from hoiclip.vocabulary import NO_OBJECT, Vocabulary

MIN_COVER = 0.5


def entity_moments(film: Aligned, vocabulary: Vocabulary) -> list[Moment]:
    """Humans and objects; similarity is their IoU, 0 between different labels."""
    return [_entity_moment(true, found, vocabulary) for true, found in _acting(film, vocabulary)]


def pair_moments(film: Aligned, vocabulary: Vocabulary) -> list[Moment]:
    """Pairs, whatever they do; similarity as `pair_overlaps`."""
    return [
        Moment(true_ids=true.pair, found_ids=found.pair, overlap_gn=pair_overlaps(true, found))
        for true, found in _acting(film, vocabulary)
    ]


def pair_overlaps(true: FilmFrame, found: FilmFrame) -> F64:
    """(G, N) the smaller IoU of the humans and of the objects; 0 between different labels."""
    human = iou_matrix(true.human_boxes_xyxy, found.human_boxes_xyxy)
    thing = iou_matrix(true.object_boxes_xyxy, found.object_boxes_xyxy)
    thing = np.where((true.label == NO_OBJECT)[:, None], 1.0, thing)
    both: F64 = np.where(true.label[:, None] == found.label[None], np.minimum(human, thing), 0.0)
    return both


def covered_entities(film: Aligned, vocabulary: Vocabulary) -> tuple[int, int]:
    """How many humans and objects of all listed pairs, over all frames, some listed one covers by half; and how many
    there are.

    It may cover several. Boxes count their last pixel, as those of pictures do.
    """
    covered = there = 0
    for true_frame, found_frame in zip(film.truth, film.found, strict=True):
        true, found = entities(true_frame, vocabulary.person), entities(found_frame, vocabulary.person)
        overlap = pixel_iou_matrix(true.boxes_xyxy, found.boxes_xyxy)
        overlap[true.labels[:, None] != found.labels[None]] = 0
        covered += int((overlap >= MIN_COVER).any(axis=1).sum())
        there += len(true.ids)
    return covered, there


def _acting(film: Aligned, vocabulary: Vocabulary) -> Iterable[tuple[FilmFrame, FilmFrame]]:
    for true, found in zip(film.truth, film.found, strict=True):
        yield acting(true, vocabulary), acting(found, vocabulary)


def _entity_moment(true: FilmFrame, found: FilmFrame, vocabulary: Vocabulary) -> Moment:
    there, seen = entities(true, vocabulary.person), entities(found, vocabulary.person)
    overlap = iou_matrix(there.boxes_xyxy, seen.boxes_xyxy)
    overlap[there.labels[:, None] != seen.labels[None]] = 0
    return Moment(true_ids=there.ids, found_ids=seen.ids, overlap_gn=overlap)

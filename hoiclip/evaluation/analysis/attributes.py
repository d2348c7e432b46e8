"""What may make a pair hard: its size in pixels, other people over it, the image border, a crowd.

All of it is derived from boxes: an annotation says nothing of occlusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.analysis.classify import F64, I64, FalsePositives, Fates, people_rows
from hoiclip.evaluation.analysis.kinds import AnalysisConfig
from hoiclip.evaluation.overlap import pixel_iou_matrix
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.evaluation.truth import TruePairs
from hoiclip.vocabulary import NO_OBJECT

NO_OBJECT_BIN = "no object"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One way to sort rows into bins."""

    name: str
    bins: tuple[str, ...]
    bin_of: I64
    """(N,) index into bins."""


def truth_attributes(
    fates: Fates,
    truths: Sequence[TruePairs],
    annotations: Sequence[ImageAnnotation],
    person: int,
    config: AnalysisConfig,
) -> list[Attribute]:
    """Of the ground truth: sizes, overlap with other people, the image border, people in the image."""
    human, thing = _boxes(truths, fates.image, fates.row)
    alone = fates.label == NO_OBJECT
    overlap, people = np.zeros(len(fates)), np.zeros(len(annotations), np.int64)
    starts = np.searchsorted(fates.image, np.arange(len(annotations) + 1))
    for image, annotation in enumerate(annotations):
        rows = slice(starts[image], starts[image + 1])
        overlap[rows], people[image] = _among_people(human[rows], annotation, person, config)
    sizes_wh = np.array([(one.width_px, one.height_px) for one in annotations], np.float64).reshape(-1, 2)
    return [
        _size("size of the human", human, np.zeros(len(fates), np.bool_), config),
        _size("size of the object", thing, alone, config),
        _overlap(overlap, config),
        _border(human, thing, alone, sizes_wh[fates.image], config),
        _people(people[fates.image], config),
    ]


def false_attributes(
    false: FalsePositives,
    predictions: Sequence[PredictedPairs],
    annotations: Sequence[ImageAnnotation],
    person: int,
    config: AnalysisConfig,
) -> list[Attribute]:
    """Of the predictions: sizes, people in the image."""
    human, thing = _boxes(predictions, false.image, false.row)
    people = np.array([_num_people(annotation, person, config) for annotation in annotations], np.int64)
    return [
        _size("size of the human", human, np.zeros(len(false), np.bool_), config),
        _size("size of the object", thing, false.label == NO_OBJECT, config),
        _people(people[false.image], config),
    ]


def sizes_px(boxes_xyxy: NDArray[np.floating]) -> F64:
    """(..., 4) to (...): the square root of the area, the last pixel counted; 0 of an inverted box."""
    sides = np.maximum(np.asarray(boxes_xyxy, np.float64)[..., 2:] - boxes_xyxy[..., :2] + 1, 0)
    size: F64 = np.sqrt(np.nan_to_num(sides).prod(axis=-1))
    return size


def _boxes(rows: Sequence[TruePairs] | Sequence[PredictedPairs], image: I64, row: I64) -> tuple[F64, F64]:
    """(N, 4) boxes of humans and of objects, by image and row."""
    starts = np.cumsum([0, *(len(one) for one in rows)])
    at = starts[image] + row
    none = np.zeros((0, 4))
    human = np.concatenate([none, *(one.human_boxes_xyxy for one in rows)])[at]
    return human, np.concatenate([none, *(one.object_boxes_xyxy for one in rows)])[at]


def _among_people(human_xyxy: F64, annotation: ImageAnnotation, person: int, config: AnalysisConfig) -> tuple[F64, int]:
    """(G,) largest IoU of each human with another person, and the number of people."""
    people = annotation.boxes_xyxy.reshape(-1, 4)[people_rows(annotation, person)]
    overlap = np.nan_to_num(pixel_iou_matrix(human_xyxy, people))
    overlap[overlap >= config.same_person_overlap] = 0.0
    return overlap.max(axis=1, initial=0.0), _num_people(annotation, person, config)


def _num_people(annotation: ImageAnnotation, person: int, config: AnalysisConfig) -> int:
    people = annotation.boxes_xyxy.reshape(-1, 4)[people_rows(annotation, person)]
    same = np.nan_to_num(pixel_iou_matrix(people, people)) >= config.same_person_overlap
    return int((~np.tril(same, -1).any(axis=1)).sum())


def _size(name: str, boxes_xyxy: F64, alone: NDArray[np.bool_], config: AnalysisConfig) -> Attribute:
    edges = config.size_edges_px
    bin_of = np.digitize(sizes_px(boxes_xyxy), edges)
    return Attribute(f"{name} (√area, px)", (*_ranges(edges), NO_OBJECT_BIN), np.where(alone, len(edges) + 1, bin_of))


def _overlap(overlap: F64, config: AnalysisConfig) -> Attribute:
    edges = (np.nextafter(0, 1), *config.overlap_edges)
    least, *_, most = names = _ranges(config.overlap_edges)
    bins = ("none", f"above 0, {least}", *names[1:-1], most)
    return Attribute("overlap of the human with other people (IoU)", bins, np.digitize(overlap, edges))


def _border(human: F64, thing: F64, alone: NDArray[np.bool_], sizes_wh: F64, config: AnalysisConfig) -> Attribute:
    human_is, thing_is = _cut_off(human, sizes_wh, config), _cut_off(thing, sizes_wh, config) & ~alone
    bin_of = np.where(sizes_wh.min(axis=1, initial=np.inf) > 0, human_is + 2 * thing_is, 4)
    return Attribute("cut off by the image border", ("neither", "human", "object", "both", "size not known"), bin_of)


def _cut_off(boxes_xyxy: F64, sizes_wh: F64, config: AnalysisConfig) -> NDArray[np.bool_]:
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    cut: NDArray[np.bool_] = np.any((low < config.border_px) | (high > sizes_wh - 1 - config.border_px), axis=1)
    return cut


def _people(people: I64, config: AnalysisConfig) -> Attribute:
    edges = config.people_edges
    low, high = (0, *edges), (*edges, None)
    names = [
        f"{a} and more" if b is None else str(a) if b == a + 1 else f"{a} to {b - 1}"
        for a, b in zip(low, high, strict=True)
    ]
    return Attribute("people in the image", tuple(names), np.digitize(people, edges))


def _ranges(edges: Sequence[float]) -> list[str]:
    """Names of the bins between edges."""
    inner = [f"{a:g} to {b:g}" for a, b in pairwise(edges)]
    return [f"below {edges[0]:g}", *inner, f"{edges[-1]:g} and more"]

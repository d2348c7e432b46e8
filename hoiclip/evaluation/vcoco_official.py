"""V-COCO as its authors evaluate it: agent AP, and role AP in scenario 1 and 2 (s-gupta/v-coco, SPEC.md §7).

A detection is a person with a score and a role box per action. It is compared with the true person it overlaps most;
people without annotated actions are passed over. Where the true role is missing, scenario 1 wants an empty role box,
scenario 2 takes any. `official=True` repeats the float32 rounding of that code. Actions without ground truth are left
out of the means (that code stops at them).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.average_precision import envelope_area
from hoiclip.evaluation.matching import MIN_OVERLAP
from hoiclip.evaluation.overlap import pixel_iou, pixel_iou_matrix
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.evaluation.results import ClassResult, Evaluation
from hoiclip.evaluation.vcoco_form import (
    MAX_ROLES,
    ActionTable,
    PersonDetections,
    PersonTruth,
    detections_of,
    truth_of,
)
from hoiclip.vocabulary import Vocabulary

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

LEFT_OUT = "point"
"""The literature reports 24 of the 25 roles, without this action's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nearest:
    """The true person each of P detected people overlaps most."""

    person: I64
    overlap: F64
    counts: Bool
    """False where that person's actions are not annotated."""


def evaluate_vcoco_official(
    predictions: Sequence[PredictedPairs],
    annotations: Sequence[ImageAnnotation],
    vocabulary: Vocabulary,
    *,
    official: bool = False,
) -> Evaluation:
    """Role AP of pairs with verb scores; every verb of every query should be there, not the best hundred alone."""
    table = ActionTable.of(vocabulary)
    person = vocabulary.objects.index("person")
    return evaluate_people(
        [detections_of(predicted, table) for predicted in predictions],
        [truth_of(annotation, table, person) for annotation in annotations],
        table,
        official=official,
    )


def evaluate_people(
    detections: Sequence[PersonDetections], truths: Sequence[PersonTruth], table: ActionTable, *, official: bool = False
) -> Evaluation:
    """The evaluation proper. Classes are agents, then roles in scenario 1 ("hold obj 1"), then in scenario 2."""
    images = [(found, true, _nearest(found, true)) for found, true in zip(detections, truths, strict=True)]
    num_gt = np.sum([(true.actions == 1).sum(axis=0) for true in truths], axis=0, dtype=np.int64)
    num_gt = np.broadcast_to(num_gt, (len(table.actions),))
    agents = []
    for action, name in enumerate(table.actions):
        found = [_agent_hits(*image, action) for image in images]
        agents.append(_result(f"{name} agent", found, int(num_gt[action]), official))
    scenarios: dict[int, list[ClassResult]] = {1: [], 2: []}
    for scenario, results in scenarios.items():
        for action, role, name in table.roles_in_order():
            found = [_role_hits(*image, action, role, scenario) for image in images]
            results.append(_result(f"{name} {scenario}", found, int(num_gt[action]), official))
    summary = {"agent AP": _mean(np.array([one.ap for one in agents]), official)}
    aps = {scenario: _by_action(results, table) for scenario, results in scenarios.items()}
    summary |= {f"role AP scenario {scenario}": _mean(ap_ar, official) for scenario, ap_ar in aps.items()}
    kept = np.array([name != LEFT_OUT for name in table.actions])
    for scenario, ap_ar in aps.items():
        summary[f"role AP scenario {scenario} without {LEFT_OUT}"] = _mean(ap_ar[kept], official)
    classes = (*agents, *scenarios[1], *scenarios[2])
    return Evaluation(metric="vcoco-official", official=official, classes=classes, summaries={"all": summary})


def _nearest(found: PersonDetections, true: PersonTruth) -> _Nearest:
    """With nobody in the picture (where the official code fails) every detection counts, and as wrong."""
    n = len(found.person_boxes_xyxy)
    if not len(true.people) or not n:
        return _Nearest(person=np.zeros(n, np.int64), overlap=np.zeros(n), counts=np.ones(n, np.bool_))
    iou = np.nan_to_num(pixel_iou_matrix(found.person_boxes_xyxy, true.boxes_xyxy[true.people]))
    person = iou.argmax(axis=1)
    ignored = (true.actions == -1).any(axis=1)
    return _Nearest(person=person, overlap=iou.max(axis=1), counts=~ignored[person])


def _agent_hits(found: PersonDetections, true: PersonTruth, near: _Nearest, action: int) -> tuple[F64, Bool]:
    return _hits(found.agent_scores[:, action], true, near, action, np.ones(len(near.person), np.bool_))


def _role_hits(
    found: PersonDetections, true: PersonTruth, near: _Nearest, action: int, role: int, scenario: int
) -> tuple[F64, Bool]:
    boxes, scores = found.roles[:, action, role, :4], found.roles[:, action, role, 4]
    if not len(true.people):
        return _hits(scores, true, near, action, np.zeros(len(scores), np.bool_))
    thing = true.role_rows[near.person, action, role]
    empty = (boxes == 0).all(axis=1) | np.isnan(boxes).all(axis=1)
    if_missing = empty if scenario == 1 else np.ones(len(boxes), np.bool_)
    overlaps = pixel_iou(true.boxes_xyxy[thing], boxes) >= MIN_OVERLAP
    return _hits(scores, true, near, action, np.where(thing < 0, if_missing, overlaps))


def _hits(scores: F64, true: PersonTruth, near: _Nearest, action: int, role_fits: Bool) -> tuple[F64, Bool]:
    """Scores and hits of the detections that count, by falling score; a true person is hit once."""
    rows = np.flatnonzero(near.counts & ~np.isnan(scores))
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    person = near.person[rows]
    acts = true.actions[person, action] == 1 if len(true.people) else np.zeros(len(rows), np.bool_)
    fits = np.flatnonzero(acts & (near.overlap[rows] >= MIN_OVERLAP) & role_fits[rows])
    hits = np.zeros(len(rows), np.bool_)
    hits[fits[np.unique(person[fits], return_index=True)[1]]] = True
    return scores[rows], hits


def _result(name: str, found: Sequence[tuple[F64, Bool]], num_gt: int, official: bool) -> ClassResult:
    scores = np.concatenate([np.zeros(0), *(scores for scores, _ in found)])
    hits = np.concatenate([np.zeros(0, np.bool_), *(hits for _, hits in found)])
    hits = hits[np.argsort(-scores, kind="stable")]
    ap = envelope_area(hits, num_gt, official=official) if num_gt else math.nan
    return ClassResult(name=name, ap=ap, num_gt=num_gt, hits=hits)


def _by_action(results: Sequence[ClassResult], table: ActionTable) -> F64:
    """(A, 2) AP, NaN where there is no such role."""
    ap_ar = np.full((len(table.actions), MAX_ROLES), np.nan)
    for one, (action, role, _) in zip(results, table.roles_in_order(), strict=True):
        ap_ar[action, role] = one.ap
    return ap_ar


def _mean(aps: F64, official: bool) -> float:
    """NaN left out. The official sum is one of float32, so that the shape of the table decides its last digit."""
    if np.isnan(aps).all():
        return math.nan
    return float(np.nanmean(aps.astype(np.float32) if official else aps))

"""V-COCO in two ways: AP per verb as the research code counts it, and agent and role AP as its authors count it.

`evaluate_vcoco` ("vcoco"): eleven points per verb. A ground-truth pair without an object matches by its human alone.
`official=True` counts an interaction that is annotated twice twice, uses floating-point recall levels
(average_precision.py), and gives a role verb without ground truth 0 in mAP_thesis; clean, it is left out.

`evaluate_vcoco_official` ("vcoco-official", s-gupta/v-coco): agent AP, and role AP in scenario 1 and 2. A detection is
a person with a score and a role box per action. It is compared with the annotated person it overlaps most; people
without annotated actions are passed over. Where the annotated role is missing, scenario 1 wants an empty role box,
scenario 2 takes any. `official=True` repeats the float32 rounding of that code. Actions without ground truth are left
out of the means (that code stops at them). Our vocabulary has one verb per role ("hit_instr", "hit_obj", "run"); theirs
has actions with up to two roles.

Source: docs/model.md, Evaluation.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.array_types import F64, I64, Bool
from hoiclip.core.vocabulary import NO_OBJECT, VOCABULARIES, Vocabulary, load_vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.average_precision import envelope_area
from hoiclip.evaluation.matching import MIN_OVERLAP, match_all, pixel_iou, pixel_iou_matrix
from hoiclip.evaluation.results import ClassResult, Evaluation, class_results, mean
from hoiclip.evaluation.triplets import GroundTruthTriplets, PredictedTriplets, verb_ground_truth

MAX_ROLES = 2
ROLES = ("obj", "instr")
LEFT_OUT = "point"
"""The literature reports 24 of the 25 roles, without this action's."""


def evaluate_vcoco(
    predictions: Sequence[PredictedTriplets],
    annotations: Sequence[ImageAnnotation],
    vocabulary: Vocabulary,
    *,
    official: bool = False,
) -> Evaluation:
    """AP per verb, their mean, and the mean over verbs that have a role ("thesis").

    Args:
        predictions: one per annotation; categories are verbs. An object counts only under its own label.

    Source: docs/model.md, Evaluation.
    """
    ground_truth = [verb_ground_truth(annotation, keep_duplicates=official) for annotation in annotations]
    return evaluate_vcoco_triplets(predictions, ground_truth, vocabulary, official=official)


def evaluate_vcoco_triplets(
    predictions: Sequence[PredictedTriplets],
    ground_truth: Sequence[GroundTruthTriplets],
    vocabulary: Vocabulary,
    *,
    official: bool = False,
) -> Evaluation:
    """Evaluates ground truth in the form of `verb_ground_truth`."""
    gt_category = np.concatenate([gt.category for gt in ground_truth]) if ground_truth else np.zeros(0, np.int64)
    num_gt = np.bincount(gt_category, minlength=len(vocabulary.verbs))
    matches = match_all(predictions, ground_truth, labels_must_agree=True)
    classes = class_results(matches, num_gt, vocabulary.verbs, official=official)
    summary = {f"AP_{result.name}": result.ap for result in classes if result.num_gt}
    summary["mAP_all"] = mean([result.ap for result in classes if result.num_gt])
    with_role = [classes[verb] for verb in role_verbs(vocabulary)]
    counted = [result.ap if result.num_gt else 0.0 for result in with_role if official or result.num_gt]
    if with_role:
        summary["mAP_thesis"] = mean(counted)
    return Evaluation(
        metric="vcoco",
        official=official,
        classes=classes,
        summaries={"all": summary},
        matches=matches,
        ground_truth=tuple(ground_truth),
    )


def role_verbs(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Verbs the literature averages over; none where the vocabulary is not V-COCO's."""
    if vocabulary.name not in VOCABULARIES or vocabulary.verbs != load_vocabulary(vocabulary.name).verbs:
        return ()
    data = json.loads(resources.files("hoiclip").joinpath(f"vocabularies/{vocabulary.name}.json").read_text("utf-8"))
    return tuple(data.get("role_verbs", ()))


def evaluate_vcoco_official(
    predictions: Sequence[PredictedTriplets],
    annotations: Sequence[ImageAnnotation],
    vocabulary: Vocabulary,
    *,
    official: bool = False,
) -> Evaluation:
    """Role AP of pairs with verb scores; every verb of every query should be there, not the best hundred alone."""
    table = ActionTable.of(vocabulary)
    person = vocabulary.objects.index("person")
    return evaluate_people(
        [person_detections(predicted, table) for predicted in predictions],
        [person_ground_truth(annotation, table, person) for annotation in annotations],
        table,
        official=official,
    )


def evaluate_people(
    detections: Sequence[PersonDetections],
    ground_truth: Sequence[PersonGroundTruth],
    table: ActionTable,
    *,
    official: bool = False,
) -> Evaluation:
    """Evaluates detected people. Classes are agents, then roles in scenario 1 ("hold obj 1"), then in scenario 2."""
    images = [(found, gt, _nearest(found, gt)) for found, gt in zip(detections, ground_truth, strict=True)]
    num_gt = np.sum([(gt.actions == 1).sum(axis=0) for gt in ground_truth], axis=0, dtype=np.int64)
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
    summary = {"agent AP": _mean(np.array([result.ap for result in agents]), official)}
    aps = {scenario: _by_action(results, table) for scenario, results in scenarios.items()}
    summary |= {f"role AP scenario {scenario}": _mean(ap_ar, official) for scenario, ap_ar in aps.items()}
    kept = np.array([name != LEFT_OUT for name in table.actions])
    for scenario, ap_ar in aps.items():
        summary[f"role AP scenario {scenario} without {LEFT_OUT}"] = _mean(ap_ar[kept], official)
    classes = (*agents, *scenarios[1], *scenarios[2])
    return Evaluation(metric="vcoco-official", official=official, classes=classes, summaries={"all": summary})


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionTable:
    """Actions, their roles, and the action and role of each of our verbs."""

    actions: tuple[str, ...]
    roles: tuple[tuple[str, ...], ...]
    """Per action, without the agent; empty for an action like "run"."""
    action_of_verb: tuple[int, ...]
    role_of_verb: tuple[int, ...]
    """-1 for an action without role."""

    @staticmethod
    def of(vocabulary: Vocabulary) -> ActionTable:
        """Verbs "hit_instr", "hit_obj" and "run" are the roles instr and obj of hit, and run without a role.

        Raises:
            ValueError: more than two roles of an action.
        """
        roles: dict[str, list[str]] = {}
        places: list[tuple[str, int]] = []
        for verb in vocabulary.verbs:
            action, _, role = verb.rpartition("_")
            if role not in ROLES:
                action, role = verb, ""
            own = roles.setdefault(action, [])
            places.append((action, len(own) if role else -1))
            if role:
                own.append(role)
        if any(len(own) > MAX_ROLES for own in roles.values()):
            raise ValueError(f"expected at most {MAX_ROLES} roles of an action, found {roles}")
        actions = tuple(roles)
        return ActionTable(
            actions=actions,
            roles=tuple(tuple(own) for own in roles.values()),
            action_of_verb=tuple(actions.index(action) for action, _ in places),
            role_of_verb=tuple(role for _, role in places),
        )

    def roles_in_order(self) -> Iterator[tuple[int, int, str]]:
        """Action, number of the role, and a name like "hit instr"."""
        for action, own in enumerate(self.roles):
            for role, name in enumerate(own):
                yield action, role, f"{self.actions[action]} {name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonGroundTruth:
    """Ground truth of one image: P people among N boxes, and A actions."""

    boxes_xyxy: NDArray[np.floating]
    """(N, 4) people and objects."""
    people: I64
    """(P,) rows of the boxes that are people."""
    actions: NDArray[np.integer]
    """(P, A) 1 does it, 0 does not, -1 not annotated (a whole row)."""
    role_rows: NDArray[np.integer]
    """(P, A, 2) row of the role's box, -1 where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonDetections:
    """P detected people, each with scores of its actions and roles; NaN: not predicted."""

    person_boxes_xyxy: NDArray[np.floating]
    """(P, 4)"""
    agent_scores: F64
    """(P, A)"""
    roles: F64
    """(P, A, 2, 5) box and score; a box of zeros is no object."""


def person_ground_truth(annotation: ImageAnnotation, table: ActionTable, person_label: int) -> PersonGroundTruth:
    """Converts an annotation. A person without any interaction counts as not annotated: our format has no difference.

    Of several objects in one role the first counts: the official format has room for one.
    """
    interactions = annotation.interactions.reshape(-1, 3)
    boxes_xyxy = annotation.boxes_xyxy.reshape(-1, 4)
    people = np.flatnonzero(annotation.labels == person_label)
    people = np.union1d(people, interactions[:, 0])
    actions = np.full((len(people), len(table.actions)), -1, np.int64)
    role_rows = np.full((len(people), len(table.actions), MAX_ROLES), NO_OBJECT, np.int64)
    for human, obj, verb in interactions.tolist():
        row, action, role = int(np.searchsorted(people, human)), table.action_of_verb[verb], table.role_of_verb[verb]
        actions[row] = np.maximum(actions[row], 0)
        actions[row, action] = 1
        if role >= 0 and role_rows[row, action, role] < 0:
            role_rows[row, action, role] = obj
    return PersonGroundTruth(boxes_xyxy=boxes_xyxy, people=people, actions=actions, role_rows=role_rows)


def person_detections(predicted: PredictedTriplets, table: ActionTable) -> PersonDetections:
    """Converts predictions to one person per query. An action scores the best of its roles; no object is a zero box.

    Of several rows with one query and verb the best counts.
    """
    predicted = predicted.rows(np.argsort(predicted.score, kind="stable"))  # what is written last stays
    queries, first, row_q = np.unique(predicted.query, return_index=True, return_inverse=True)
    p, a = len(queries), len(table.actions)
    action = np.array(table.action_of_verb, np.int64)[predicted.category]
    role = np.array(table.role_of_verb, np.int64)[predicted.category]
    agent_scores = np.full((p, a), np.nan)
    np.fmax.at(agent_scores, (row_q, action), predicted.score)
    roles = np.full((p, a, MAX_ROLES, 5), np.nan)
    has = role >= 0
    boxes = np.where(predicted.label[:, None] == NO_OBJECT, 0.0, predicted.object_boxes_xyxy)
    roles[row_q[has], action[has], role[has]] = np.column_stack([boxes, predicted.score])[has]
    return PersonDetections(person_boxes_xyxy=predicted.human_boxes_xyxy[first], agent_scores=agent_scores, roles=roles)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nearest:
    """The annotated person that each of P detected people overlaps most."""

    person: I64
    overlap: F64
    counts: Bool
    """False where that person's actions are not annotated."""


def _nearest(found: PersonDetections, gt: PersonGroundTruth) -> _Nearest:
    """Without people in the image (where the official code fails) every detection counts, and as wrong."""
    n = len(found.person_boxes_xyxy)
    if not len(gt.people) or not n:
        return _Nearest(person=np.zeros(n, np.int64), overlap=np.zeros(n), counts=np.ones(n, np.bool_))
    iou = np.nan_to_num(pixel_iou_matrix(found.person_boxes_xyxy, gt.boxes_xyxy[gt.people]))
    person = iou.argmax(axis=1)
    ignored = (gt.actions == -1).any(axis=1)
    return _Nearest(person=person, overlap=iou.max(axis=1), counts=~ignored[person])


def _agent_hits(found: PersonDetections, gt: PersonGroundTruth, near: _Nearest, action: int) -> tuple[F64, Bool]:
    return _hits(found.agent_scores[:, action], gt, near, action, np.ones(len(near.person), np.bool_))


def _role_hits(
    found: PersonDetections, gt: PersonGroundTruth, near: _Nearest, action: int, role: int, scenario: int
) -> tuple[F64, Bool]:
    boxes, scores = found.roles[:, action, role, :4], found.roles[:, action, role, 4]
    if not len(gt.people):
        return _hits(scores, gt, near, action, np.zeros(len(scores), np.bool_))
    object_row = gt.role_rows[near.person, action, role]
    empty = (boxes == 0).all(axis=1) | np.isnan(boxes).all(axis=1)
    if_missing = empty if scenario == 1 else np.ones(len(boxes), np.bool_)
    overlaps = pixel_iou(gt.boxes_xyxy[object_row], boxes) >= MIN_OVERLAP
    return _hits(scores, gt, near, action, np.where(object_row < 0, if_missing, overlaps))


def _hits(scores: F64, gt: PersonGroundTruth, near: _Nearest, action: int, role_fits: Bool) -> tuple[F64, Bool]:
    """Scores and hits of the detections that count, by falling score; an annotated person is hit once."""
    rows = np.flatnonzero(near.counts & ~np.isnan(scores))
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    person = near.person[rows]
    acts = gt.actions[person, action] == 1 if len(gt.people) else np.zeros(len(rows), np.bool_)
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
    for result, (action, role, _) in zip(results, table.roles_in_order(), strict=True):
        ap_ar[action, role] = result.ap
    return ap_ar


def _mean(aps: F64, official: bool) -> float:
    """Mean without NaN. The official sum is one of float32, so that the shape of the table decides its last digit."""
    if np.isnan(aps).all():
        return math.nan
    return float(np.nanmean(aps.astype(np.float32) if official else aps))

"""The V-COCO authors' view of a picture: people, each with actions, and a box for every role of an action.

Our vocabulary has one verb per role ("hit_instr", "hit_obj", "run"); theirs has actions with up to two roles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.vocabulary import NO_OBJECT, Vocabulary

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MAX_ROLES = 2
ROLES = ("obj", "instr")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionTable:
    """Actions, their roles, and where each of our verbs belongs."""

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
class PersonTruth:
    """One picture with P true people among N boxes, and A actions."""

    boxes_xyxy: NDArray[np.floating]
    """(N, 4) people and things."""
    people: I64
    """(P,) rows of the boxes that are people."""
    actions: NDArray[np.integer]
    """(P, A) 1 does it, 0 does not, -1 not annotated (a whole row)."""
    role_rows: NDArray[np.integer]
    """(P, A, 2) row of the role's box, -1 where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonDetections:
    """P detected people and what each is said to do. NaN: nothing is said."""

    person_boxes_xyxy: NDArray[np.floating]
    """(P, 4)"""
    agent_scores: F64
    """(P, A)"""
    roles: F64
    """(P, A, 2, 5) box and score; a box of zeros is no object."""


def truth_of(annotation: ImageAnnotation, table: ActionTable, person_label: int) -> PersonTruth:
    """A person without any interaction counts as not annotated, because our format does not tell the two apart.

    Of several objects in one role the first counts: the official format has room for one.
    """
    interactions = annotation.interactions.reshape(-1, 3)
    boxes_xyxy = annotation.boxes_xyxy.reshape(-1, 4)
    people = np.flatnonzero(annotation.labels == person_label)
    people = np.union1d(people, interactions[:, 0])
    actions = np.full((len(people), len(table.actions)), -1, np.int64)
    role_rows = np.full((len(people), len(table.actions), MAX_ROLES), NO_OBJECT, np.int64)
    for human, thing, verb in interactions.tolist():
        row, action, role = int(np.searchsorted(people, human)), table.action_of_verb[verb], table.role_of_verb[verb]
        actions[row] = np.maximum(actions[row], 0)
        actions[row, action] = 1
        if role >= 0 and role_rows[row, action, role] < 0:
            role_rows[row, action, role] = thing
    return PersonTruth(boxes_xyxy=boxes_xyxy, people=people, actions=actions, role_rows=role_rows)


def detections_of(predicted: PredictedPairs, table: ActionTable) -> PersonDetections:
    """One person per query; an action scores the best of its roles. A role without an object has a box of zeros.

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

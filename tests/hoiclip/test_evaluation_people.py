"""The V-COCO authors' evaluation: agents, and roles in two scenarios."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hoiclip.core.vocabulary import NO_OBJECT, load_vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation import Evaluation, evaluate_vcoco_official
from hoiclip.evaluation.triplets import PredictedTriplets
from hoiclip.evaluation.vcoco import ActionTable, person_detections, person_ground_truth
from tests.hoiclip.annotated_images import Box, annotation, predicted

VCOCO = load_vocabulary("vcoco")
PERSON, CUP = 0, VCOCO.objects.index("cup")
HOLD, RUN, EAT_OBJ, EAT_INSTR, POINT = (
    VCOCO.verbs.index(name) for name in ("hold_obj", "run", "eat_obj", "eat_instr", "point_instr")
)
A, B, C = (0, 0, 99, 99), (100, 0, 199, 99), (200, 0, 299, 99)


def ap(result: Evaluation, name: str) -> float:
    return next(class_result.ap for class_result in result.classes if class_result.name == name)


def judged(gt: ImageAnnotation, *rows: tuple[Box, Box, int, int, float]) -> Evaluation:
    return evaluate_vcoco_official([predicted(rows)], [gt], VCOCO)


def test_person_with_the_right_object_counts_in_both_scenarios() -> None:
    result = judged(annotation([A, B], [PERSON, CUP], [(0, 1, HOLD)]), (A, B, CUP, HOLD, 0.9))
    assert [ap(result, name) for name in ("hold agent", "hold obj 1", "hold obj 2")] == [1, 1, 1]
    assert result.summary["role AP scenario 1"] == 1
    assert math.isnan(ap(result, "run agent"))


def test_misplaced_object_is_right_for_the_agent_alone() -> None:
    result = judged(annotation([A, B], [PERSON, CUP], [(0, 1, HOLD)]), (A, C, CUP, HOLD, 0.9))
    assert [ap(result, name) for name in ("hold agent", "hold obj 1", "hold obj 2")] == [1, 0, 0]


@pytest.mark.parametrize(("label", "scenario_1"), [(CUP, 0.0), (NO_OBJECT, 1.0)])
def test_missing_object_must_be_predicted_missing_in_scenario_1(label: int, scenario_1: float) -> None:
    result = judged(annotation([A], [PERSON], [(0, NO_OBJECT, HOLD)]), (A, C, label, HOLD, 0.9))
    assert [ap(result, name) for name in ("hold obj 1", "hold obj 2")] == [scenario_1, 1]


def test_people_without_annotated_actions_are_ignored() -> None:
    gt = annotation([A, B, C], [PERSON, CUP, PERSON], [(0, 1, HOLD)])
    result = judged(gt, (C, B, CUP, HOLD, 0.9), (A, B, CUP, HOLD, 0.8))
    assert ap(result, "hold obj 1") == 1


def test_person_is_counted_once_and_by_the_nearest() -> None:
    gt = annotation([A, B, C], [PERSON, CUP, PERSON], [(0, 1, HOLD), (2, NO_OBJECT, RUN)])
    result = judged(gt, (A, B, CUP, HOLD, 0.9), ((2, 0, 99, 99), B, CUP, HOLD, 0.8), (C, C, NO_OBJECT, RUN, 0.7))
    holding = next(class_result for class_result in result.classes if class_result.name == "hold agent")
    assert holding.hits.tolist() == [True, False]
    assert ap(result, "run agent") == 1


def test_action_with_two_roles_scores_its_better_one_as_agent() -> None:
    table = ActionTable.of(VCOCO)
    found = person_detections(
        PredictedTriplets(
            human_boxes_xyxy=np.array([A, A], np.float32),
            object_boxes_xyxy=np.array([B, C], np.float32),
            label=np.array([CUP, CUP]),
            category=np.array([EAT_INSTR, EAT_OBJ]),
            score=np.array([0.3, 0.6]),
            query=np.array([5, 5]),
        ),
        table,
    )
    action = table.actions.index("eat")
    assert table.roles[action] == ("obj", "instr")
    assert found.agent_scores[:, action].tolist() == [0.6]
    assert found.roles[0, action, 1].tolist() == [*B, 0.3]
    assert np.isnan(found.agent_scores[0, table.actions.index("run")])


def test_mean_without_point_leaves_out_point() -> None:
    gt = annotation([A, B], [PERSON, CUP], [(0, 1, HOLD), (0, 1, POINT)])
    summary = judged(gt, (A, B, CUP, HOLD, 0.9)).summary
    assert summary["role AP scenario 1"] == 0.5
    assert summary["role AP scenario 1 without point"] == 1


def test_first_of_several_objects_in_a_role_counts() -> None:
    table = ActionTable.of(VCOCO)
    gt = person_ground_truth(
        annotation([A, B, C], [PERSON, CUP, CUP], [(0, 1, HOLD), (0, 2, HOLD)]), table, person_label=PERSON
    )
    assert gt.role_rows[0, 0].tolist() == [1, -1]
    assert (gt.actions[0] >= 0).all()


def test_image_without_people_makes_every_detection_wrong() -> None:
    images = [annotation([A, B], [PERSON, CUP], [(0, 1, HOLD)]), annotation([B], [CUP], [], "2.jpg")]
    found = [predicted([(A, B, CUP, HOLD, 0.5)]), predicted([(A, B, CUP, HOLD, 0.9)])]
    assert ap(evaluate_vcoco_official(found, images, VCOCO), "hold agent") == 0.5

"""Detections in the forms that the official evaluations of HICO-DET and V-COCO read."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import savemat

from hoiclip.core.errors import SinkError, UsageError
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.triplets import PredictedTriplets
from hoiclip.evaluation.vcoco import ActionTable, person_detections

HICO_TEST_IMAGES = 9658
HICO_SCORE_SCALE = 1000.0


def export_hico(
    folder: Path,
    predictions: Sequence[PredictedTriplets],
    annotations: Sequence[ImageAnnotation],
    vocabulary: Vocabulary,
) -> list[Path]:
    """Writes detections_01.mat to detections_80.mat, one per object class, for the MATLAB evaluation of HICO-DET.

    Each holds `all_boxes`, a cell of (HOI classes of the object, images); a cell has rows of human box, object box
    and score times 1000. Boxes are 0-based; the MATLAB code adds 1. Columns are the numbers in names such as
    HICO_test2015_00000001.jpg, all 9,658 of them; where names are others, the order of the annotations.

    Raises:
        SinkError: cannot be written.
    """
    columns, count = hico_columns([annotation.file_name for annotation in annotations])
    return export_hico_columns(folder, predictions, columns, count, vocabulary)


def export_hico_columns(
    folder: Path, predictions: Sequence[PredictedTriplets], columns: Sequence[int], count: int, vocabulary: Vocabulary
) -> list[Path]:
    """Writes what export_hico writes, with the column of each prediction and the number of columns given.

    Raises:
        SinkError: cannot be written.
    """
    cells = np.empty((len(vocabulary.hois), count), dtype=object)
    cells.fill(np.zeros((0, 0)))
    for column, found in zip(columns, predictions, strict=True):
        rows = np.column_stack([found.human_boxes_xyxy, found.object_boxes_xyxy, HICO_SCORE_SCALE * found.score])
        for hoi in np.unique(found.category):
            cells[hoi, column] = rows[found.category == hoi]
    object_of_hoi = np.array([obj for _, obj in vocabulary.hois])
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for obj in range(len(vocabulary.objects)):
            path = folder / f"detections_{obj + 1:02d}.mat"
            savemat(path, {"all_boxes": cells[object_of_hoi == obj]}, do_compression=True)
            paths.append(path)
    except OSError as error:
        raise SinkError(f"cannot write detections into {folder}: {error}; choose a folder that is writable") from error
    return paths


def export_vcoco(
    path: Path, predictions: Sequence[PredictedTriplets], annotations: Sequence[ImageAnnotation], vocabulary: Vocabulary
) -> None:
    """Writes a JSON list of detected people with the keys of the V-COCO code: person_box, hold_agent, hold_obj, ...

    That code reads a pickle. `pickle.dump(json.load(open("detections.json")), open("detections.pkl", "wb"))` makes it
    one; a null is read as NaN, "not predicted".

    Raises:
        UsageError: a file name does not end in its COCO number.
        SinkError: cannot be written.
    """
    table = ActionTable.of(vocabulary)
    people: list[dict[str, object]] = []
    for annotation, predicted in zip(annotations, predictions, strict=True):
        image_id = _coco_id(annotation.file_name)
        found = person_detections(predicted, table)
        for row, box in enumerate(found.person_boxes_xyxy):
            person: dict[str, object] = {"image_id": image_id, "person_box": _rounded(box)}
            for action, name in enumerate(table.actions):
                person[f"{name}_agent"] = _rounded(found.agent_scores[row, action : action + 1])[0]
                for role, role_name in enumerate(table.roles[action]):
                    person[f"{name}_{role_name}"] = _rounded(found.roles[row, action, role])
            people.append(person)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(people, allow_nan=False), encoding="utf-8")
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error}; choose a folder that is writable") from error


def hico_columns(file_names: Sequence[str]) -> tuple[list[int], int]:
    """Column of each image in HICO-DET's table, and the number of columns: see export_hico."""
    named = [re.search(r"HICO_test2015_(\d{8})\.", name) for name in file_names]
    numbers = [int(match[1]) - 1 for match in named if match]
    if len(numbers) == len(file_names) and all(0 <= number < HICO_TEST_IMAGES for number in numbers):
        return numbers, HICO_TEST_IMAGES
    return list(range(len(file_names))), len(file_names)


def _coco_id(file_name: str) -> int:
    number = re.search(r"(\d+)\.\w+$", file_name)
    if number is None:
        raise UsageError(f"expected names such as COCO_val2014_000000000294.jpg, found {file_name!r}; rename it")
    return int(number[1])


def _rounded(values: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 6) for value in values]

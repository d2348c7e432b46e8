"""V-COCO from its original files: verbs from VSRL JSON, boxes from a COCO instance file.

VSRL lists, per action, people (`ann_id`) of images (`image_id`), whether they do it (`label`), and what each role is
filled with: `role_object_id` holds all agents, then all of the first role, and so on; 0 is nothing. Every role becomes
a verb of its own ("cut obj", "cut instr"); an empty one becomes an interaction without object, as in the official
annotations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoiclip.core import untrusted_values as untrusted
from hoiclip.core.errors import DataError
from hoiclip.core.untrusted_values import read_json
from hoiclip.core.vocabulary import NO_OBJECT, Vocabulary
from hoiclip.data.annotations import ImageAnnotation, Rows
from hoiclip.data.formats.coco import CocoImage, index_of, pair_columns, read_instances

_NOTHING = 0


@dataclass(frozen=True, slots=True)
class _Action:
    """One person (annotation id) of an image doing something to another annotation, or to nothing."""

    image_id: int
    person_id: int
    verb: int | None
    """None: this person is known not to do it, but belongs to the image."""
    object_id: int = _NOTHING


def read_vsrl(path: Path, instances: Path, vocabulary: Vocabulary) -> list[ImageAnnotation]:
    """All images of a VSRL file, in the order in which it names them first.

    Raises:
        DataError: a file cannot be read, has another form, or names what the instance file does not have.
    """
    data = read_json(path)
    images = read_instances(instances, vocabulary)
    rows: dict[int, Rows] = {}
    where = "the file"
    try:
        for i, action in enumerate(untrusted.items(data, "VSRL JSON")):
            where = f"action {i}"
            for performed in _actions(untrusted.fields(action, "it"), vocabulary):
                where = f"action {i}, image {performed.image_id}"
                if performed.image_id not in images:
                    raise ValueError(f"image_id is not in {instances}; give the instance file of this split")
                _add(performed, images[performed.image_id], rows.setdefault(performed.image_id, Rows()))
    except ValueError as error:
        raise DataError(f"{path}: {where}: {error}") from error
    return [
        rows[image_id].annotation(images[image_id].file_name, images[image_id].width_px, images[image_id].height_px)
        for image_id in rows
    ]


def _actions(action: dict[str, Any], vocabulary: Vocabulary) -> Iterable[_Action]:
    name, roles = str(action.get("action_name")), untrusted.items(action.get("role_name"), "role_name")[1:]
    names = [f"{name} {role}" for role in roles] or [name]
    verbs = [index_of(name, vocabulary.verbs, "action_name with role_name") for name in names]
    people = pair_columns(action, "image_id", "ann_id", "label")
    fillers = untrusted.items(action.get("role_object_id"), "role_object_id")
    if len(fillers) != len(people) * (len(roles) + 1):
        raise ValueError(f"role_object_id must have {len(roles) + 1} times {len(people)} entries, found {len(fillers)}")
    for i, row in enumerate(people):
        image_id, person_id, label = map(untrusted.whole, row, ("image_id", "ann_id", "label"))
        if label != 1:
            yield _Action(image_id, person_id, None)
            continue
        for place, verb in enumerate(verbs, start=1):
            filler = fillers[place * len(people) + i] if roles else _NOTHING
            yield _Action(image_id, person_id, verb, untrusted.whole(filler, "role_object_id"))


def _add(performed: _Action, image: CocoImage, rows: Rows) -> None:
    human = _row(performed.person_id, image, rows)
    if performed.verb is None:
        return
    obj = NO_OBJECT if performed.object_id == _NOTHING else _row(performed.object_id, image, rows)
    rows.interact(human, obj, performed.verb)


def _row(annotation_id: int, image: CocoImage, rows: Rows) -> int:
    if annotation_id in image.crowds:
        raise ValueError(
            f"annotation {annotation_id} of {image.file_name} is a crowd (iscrowd), which fills no role; "
            "name one person or object instead"
        )
    if annotation_id not in image.boxes:
        raise ValueError(f"annotation {annotation_id} is not among the instances of {image.file_name}")
    box = image.boxes[annotation_id]
    return rows.row(box.box_xyxy, box.label)

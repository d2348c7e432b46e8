"""COCO: the numbers of its objects, its instance files, and pair files that go with its images.

A pair file lists human-object pairs by name, as published for V-COCO with COCO's images:

    {"classes": ["hold obj", ...], "objects": ["background", "person", ...],
     "annotations": [{"file_name": "COCO_val2014_000000000395.jpg", "boxes_h": [[x1, y1, x2, y2], ...],
                      "boxes_o": [...], "actions": [0, ...], "objects": [68, ...]}, ...]}

Names are looked up in the vocabulary, spaces as underscores; "background" as an object means none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hoiclip.core import untrusted_values as untrusted
from hoiclip.core.errors import DataError
from hoiclip.core.untrusted_values import Box, read_json
from hoiclip.core.vocabulary import NO_OBJECT, Vocabulary
from hoiclip.data.annotations import ImageAnnotation, Rows, person_label

COCO_IDS = tuple(code for code in range(1, 91) if code not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
"""COCO's category ids of the 80 objects, in the order of the vocabularies; the gaps were never annotated."""

_NO_OBJECT_NAMES = ("background", "__background__")


@dataclass(frozen=True, slots=True)
class CocoBox:
    """One annotated instance."""

    box_xyxy: Box
    label: int


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One image of an instance file."""

    file_name: str
    width_px: int
    height_px: int
    boxes: dict[int, CocoBox]
    """By annotation id."""
    crowds: set[int]
    """Annotation ids of crowds, which are the box of no single object."""


def read_instances(path: Path, vocabulary: Vocabulary) -> dict[int, CocoImage]:
    """Reads the images of a COCO instance file by image id; categories are found by name.

    Raises:
        DataError: the file cannot be read or has another form, or an id occurs twice.
    """
    where = "the file"
    try:
        data = untrusted.fields(read_json(path), "COCO JSON")
        label_of = _category_labels(data, vocabulary)
        images: dict[int, CocoImage] = {}
        for i, item in enumerate(untrusted.items(data.get("images"), "images")):
            where = f"images[{i}]"
            row = untrusted.fields(item, "it")
            image_id = untrusted.whole(row.get("id"), "id")
            untrusted.only_once(image_id, images, "id")
            images[image_id] = CocoImage(
                untrusted.file_name(row.get("file_name")),
                untrusted.size_px(row.get("width"), "width"),
                untrusted.size_px(row.get("height"), "height"),
                {},
                set(),
            )
        known: dict[int, dict[str, Any]] = {}
        for i, item in enumerate(untrusted.items(data.get("annotations"), "annotations")):
            where = f"annotations[{i}]"
            row = untrusted.fields(item, "it")
            annotation_id = untrusted.whole(row.get("id"), "id")
            if known.get(annotation_id) == row:
                continue  # as it comes of files that were joined; nothing is lost
            untrusted.only_once(annotation_id, known, "id")
            known[annotation_id] = row
            _add_box(annotation_id, row, images, label_of)
    except ValueError as error:
        raise DataError(f"{path}: {where}: {error}") from error
    return images


def _category_labels(data: dict[str, Any], vocabulary: Vocabulary) -> dict[int, int]:
    labels: dict[int, int] = {}
    for i, item in enumerate(untrusted.items(data.get("categories"), "categories")):
        row = untrusted.fields(item, f"categories[{i}]")
        label = index_of(row.get("name"), vocabulary.objects, f"categories[{i}].name")
        category = untrusted.whole(row.get("id"), f"categories[{i}].id")
        untrusted.only_once(category, labels, f"categories[{i}].id")
        labels[category] = label
    return labels


def _add_box(annotation_id: int, row: dict[str, Any], images: dict[int, CocoImage], label_of: dict[int, int]) -> None:
    image_id = untrusted.whole(row.get("image_id"), "image_id")
    category = untrusted.whole(row.get("category_id"), "category_id")
    if image_id not in images:
        raise ValueError(f"image_id {image_id} is not among the images")
    if category not in label_of:
        raise ValueError(f"category_id {category} is not among the categories")
    if untrusted.flag(row.get("iscrowd"), "iscrowd"):
        images[image_id].crowds.add(annotation_id)
        return
    x, y, width, height = untrusted.box(row.get("bbox"), "bbox")
    images[image_id].boxes[annotation_id] = CocoBox((x, y, x + width, y + height), label_of[category])


def read_pairs(path: Path, vocabulary: Vocabulary, instances: Path | None = None) -> list[ImageAnnotation]:
    """Reads a pair file. With an instance file, sizes and the boxes of unused objects are added from there.

    Images are the same where their file names end in the same number.

    Raises:
        DataError: a file cannot be read, has another form, or a name is not in the vocabulary.
    """
    data = read_json(path)
    images = read_instances(instances, vocabulary).values() if instances is not None else ()
    by_number: dict[str, CocoImage] = {}
    for image in images:
        if (other := by_number.setdefault(_number(image.file_name), image)) is not image:
            raise DataError(f"{instances}: {other.file_name} and {image.file_name} have one number; rename one of them")
    where = "the file"
    try:
        data = untrusted.fields(data, "pair JSON")
        person = person_label(vocabulary)
        verbs = _indices(data.get("classes"), vocabulary.verbs, "classes")
        labels = _indices(data.get("objects"), vocabulary.objects, "objects")
        annotations = []
        for i, item in enumerate(untrusted.items(data.get("annotations"), "annotations")):
            where = f"annotations[{i}]"
            row = untrusted.fields(item, "it")
            where = name = untrusted.file_name(row.get("file_name"))
            rows = _pair_rows(row, verbs, labels, person)
            annotations.append(_image(name, row, rows, by_number.get(_number(name))))
    except ValueError as error:
        raise DataError(f"{path}: {where}: {error}") from error
    return annotations


def _pair_rows(row: dict[str, Any], verbs: list[int], labels: list[int], person: int) -> Rows:
    rows = Rows()
    for human_box, object_box, action, obj in pair_columns(row, "boxes_h", "boxes_o", "actions", "objects"):
        verb = verbs[untrusted.index(action, "actions", len(verbs))]
        label = labels[untrusted.index(obj, "objects", len(labels))]
        human = rows.row(untrusted.box(human_box, "boxes_h"), person)
        other = rows.row(untrusted.box(object_box, "boxes_o"), label) if label != NO_OBJECT else NO_OBJECT
        rows.interact(human, other, verb)
    return rows


def _image(name: str, row: dict[str, Any], rows: Rows, image: CocoImage | None) -> ImageAnnotation:
    if image is None:
        sizes = [untrusted.size_px(row[field], field) if field in row else 0 for field in ("width", "height")]
        return rows.annotation(name, *sizes)
    for box in image.boxes.values():
        rows.row(box.box_xyxy, box.label)
    return rows.annotation(name, image.width_px, image.height_px)


def pair_columns(row: dict[str, Any], *names: str) -> list[tuple[Any, ...]]:
    """Columns of equal length, as rows."""
    columns = [untrusted.items(row.get(name), name) for name in names]
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"{', '.join(names)} must be equally long, found {', '.join(str(len(c)) for c in columns)}")
    return list(zip(*columns, strict=True))


def index_of(name: object, known: Sequence[str], field: str) -> int:
    """Index of a name, whether it is written with spaces or underscores."""
    if isinstance(name, str) and name.strip().replace(" ", "_") in known:
        return known.index(name.strip().replace(" ", "_"))
    raise ValueError(f"{field} {untrusted.shown(name)} is not in the vocabulary")


def _indices(names: object, known: Sequence[str], field: str) -> list[int]:
    return [
        NO_OBJECT if name in _NO_OBJECT_NAMES else index_of(name, known, f"{field}[{i}]")
        for i, name in enumerate(untrusted.items(names, field))
    ]


def _number(file_name: str) -> str:
    """The common part of COCO's names: COCO_val2014_000000000395.jpg and 000000000395.jpg are one image."""
    return PurePosixPath(file_name).stem.rsplit("_", 1)[-1]

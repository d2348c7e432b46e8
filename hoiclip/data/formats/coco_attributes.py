"""COCO JSON whose annotations carry `attributes`, as CVAT and RectLabel write it.

    {"id": 2, "image_id": 1, "category_id": 2, "bbox": [x, y, width, height], "segmentation": [], "iscrowd": 0,
     "attributes": {"occluded": false, "rotation": 0.0, "human": "1", "verb": "hold"}}

CVAT merges the boxes of a group into one annotation when it writes COCO, so that groups cannot say who acts on what. An
attribute does: the person and the objects acted on have the same `human`, and an object's `verb` says how
(tool_export.py has the rule).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from hoiclip.core import untrusted_values as untrusted
from hoiclip.core.errors import DataError
from hoiclip.core.untrusted_values import read_json
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.formats.tool_export import (
    ToolBox,
    ToolExport,
    Words,
    attribute_verbs,
    count_ignored,
    grouped_interactions,
    image_annotation_of,
    naming,
    turned_about_middle,
)

_TIE = "human"


def read_coco_attributes(path: Path, vocabulary: Vocabulary) -> ToolExport:
    """Reads all images, in the file's order. Categories without an annotation need not be in the vocabulary.

    Raises:
        DataError: the file cannot be read, has another form, or attributes or words are not clear; names image and
            annotation.
    """
    export, words = ToolExport(), Words(vocabulary)
    data = read_json(path)
    try:
        data = untrusted.fields(data, "COCO JSON")
        images = _by_id(data.get("images"), "images")
        categories = _by_id(data.get("categories"), "categories")
        boxes: dict[int, list[ToolBox]] = {image_id: [] for image_id in images}
        names = {image_id: _name(row) for image_id, row in images.items()}
        for annotation_id, row in _by_id(data.get("annotations"), "annotations").items():
            with naming(f"annotation {annotation_id}"):
                image_id, category = (_known(row, "image_id", images), _known(row, "category_id", categories))
            with naming(f"image {untrusted.shown(names[image_id])}: annotation {annotation_id}"):
                box = _box(annotation_id, row, categories[category].get("name"), words, export.notes)
            boxes[image_id] += [box] if box is not None else []
        for image_id, row in images.items():
            with naming(f"image {untrusted.shown(names[image_id])}"):
                size_wh = untrusted.size_px(row.get("width"), "width"), untrusted.size_px(row.get("height"), "height")
                interactions = grouped_interactions(boxes[image_id], words, _TIE)
                export.annotations.append(
                    image_annotation_of(names[image_id], size_wh, boxes[image_id], interactions, words, export.notes)
                )
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    return export


def _by_id(value: object, field: str) -> dict[int, dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    for i, item in enumerate(untrusted.items(value, field)):
        with naming(f"{field}[{i}]"):
            row = untrusted.fields(item, "it")
            row_id = untrusted.whole(row.get("id"), "id")
            untrusted.only_once(row_id, rows, "id")
            rows[row_id] = row
    return rows


def _name(row: dict[str, Any]) -> str:
    with naming(f"image {untrusted.shown(row.get('id'))}"):
        return untrusted.file_name(row.get("file_name"))


def _known(row: dict[str, Any], field: str, known: dict[int, dict[str, Any]]) -> int:
    row_id = untrusted.whole(row.get(field), field)
    if row_id not in known:
        raise ValueError(f"{field} {untrusted.shown(row_id)} is not in the file")
    return row_id


def _box(
    annotation_id: int, row: dict[str, Any], category: object, words: Words, notes: Counter[str]
) -> ToolBox | None:
    """One box; None for a crowd, which is the box of no single object, and for a shape without a box."""
    if untrusted.flag(row.get("iscrowd"), "iscrowd") or not row.get("bbox"):
        count_ignored("crowd" if row.get("bbox") else "shape_without_bbox", notes)
        return None
    label = words.label(category)
    attributes = untrusted.fields(row.get("attributes") or {}, "attributes")
    x, y, width, height = untrusted.box(row["bbox"], "bbox")
    # The box of a polygon is upright already.
    rotation = None if row.get("segmentation") else attributes.get("rotation")
    return ToolBox(
        name=f"annotation {annotation_id} ({words.vocabulary.object_name(label)})",
        box_xyxy=turned_about_middle((x, y, x + width, y + height), rotation, notes),
        label=label,
        verbs=words.verbs(attribute_verbs(attributes.items())),
        group=_tie(attributes.get(_TIE)),
    )


def _tie(value: object) -> str:
    """Which person this is, or is acted on by; empty for none."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if value is None or value in ("", "__undefined__", 0, "0"):
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{_TIE} must be a number or a word, found {untrusted.shown(value)}")
    return str(value).strip().removesuffix(".0")

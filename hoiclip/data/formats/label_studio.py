"""Label Studio: its JSON export (not JSON-MIN), with rectangles, and relations from people to objects.

    [{"id": 1, "data": {"image": "/data/upload/1/1b2c3d4e-a.jpg"},
      "annotations": [{"was_cancelled": false, "ground_truth": false, "result": [
        {"id": "Dx_aB91ISN", "type": "rectanglelabels",
         "original_width": 640, "original_height": 480, "image_rotation": 0,
         "value": {"x": 1.5, "y": 4.2, "width": 15.6, "height": 41.6, "rotation": 0, "rectanglelabels": ["person"]}},
        {"type": "relation", "from_id": "Dx_aB91ISN", "to_id": "t5sp3TyXPo", "direction": "right", "labels": ["hold"]}
      ]}]}]

Coordinates are percent of the image; rotation is clockwise about the upper left corner. The labels of a relation are
verbs; its person acts, whichever end was clicked first, and between two persons the arrow says who does. The choice
`verb` of a person's region is done without an object.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hoiclip.core import untrusted_values as untrusted
from hoiclip.core.errors import DataError
from hoiclip.core.untrusted_values import Box, read_json
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.formats.tool_export import (
    MOST_TURNS_DEGREES,
    ToolBox,
    ToolExport,
    ToolInteraction,
    Words,
    count_ignored,
    image_annotation_of,
    naming,
    rotated_bounds,
)

_MOST_PERCENT = 1e4
_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-(?=.)")
"""Label Studio puts it before the names of files that are uploaded."""
_VERB_CONTROL = "verb"


def read_label_studio(path: Path, vocabulary: Vocabulary) -> ToolExport:
    """Reads every task that has an annotation, in the file's order.

    Raises:
        DataError: the file cannot be read, has another form, or relations or words are not clear; names image and
            region.
    """
    export, words, names = ToolExport(), Words(vocabulary), set[str]()
    data = read_json(path)
    try:
        for i, item in enumerate(untrusted.items(data, "Label Studio's JSON")):
            with naming(f"task {i}"):
                task = untrusted.fields(item, "it")
                result = _result(task, export.notes)
                if result is None:
                    continue
                name = _file_name(untrusted.fields(task.get("data"), "data"))
                untrusted.only_once(name, names, "the image")
                names.add(name)
            with naming(f"image {untrusted.shown(name)}"):
                export.annotations.append(_image(name, result, words, export.notes))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    return export


def _result(task: dict[str, Any], notes: Counter[str]) -> list[Any] | None:
    """The result of the one annotation that counts; None where there is none."""
    if "annotations" not in task:
        raise ValueError("it has no annotations; export as JSON, not as JSON-MIN, which leaves relations out")
    annotations = [
        untrusted.fields(row, "an annotation") for row in untrusted.items(task["annotations"], "annotations")
    ]
    done = [row for row in annotations if not untrusted.flag(row.get("was_cancelled"), "was_cancelled")]
    notes["skipped annotations left out"] += len(annotations) - len(done)
    if not done:
        notes["tasks without annotation left out"] += 1
        return None
    if len(done) > 1:
        best = [row for row in done if untrusted.flag(row.get("ground_truth"), "ground_truth")]
        if len(best) != 1:
            raise ValueError(f"it has {len(done)} annotations; delete all but one, or mark one as ground truth")
        notes["further annotations of a task left out"] += len(done) - 1
        done = best
    return untrusted.items(done[0].get("result"), "result")


def _file_name(data: dict[str, Any]) -> str:
    """The image below the folder of images, from an upload, a local file, a cloud address or a plain path."""
    texts = [value for value in data.values() if isinstance(value, str)]
    address = data.get("image", texts[0] if len(texts) == 1 else None)
    if not isinstance(address, str) or address.startswith("data:"):
        raise ValueError(f"data.image must be the path or address of an image, found {untrusted.shown(address)}")
    if not re.match(r"/|[a-z0-9]+://", address, re.IGNORECASE):
        return untrusted.file_name(address.replace("\\", "/"), "data.image")
    parts = urlsplit(address)
    path = unquote(parts.path)
    if path.endswith("/data/local-files/"):
        path = "".join(parse_qs(parts.query).get("d", ()))
    elif "/data/upload/" in path:
        path = _UPLOAD_PREFIX.sub("", PurePosixPath(path).name, count=1)
    elif parts.netloc:
        path = PurePosixPath(path).name
    return untrusted.file_name(path.replace("\\", "/"), "data.image")


def _image(name: str, result: list[Any], words: Words, notes: Counter[str]) -> ImageAnnotation:
    rows = [untrusted.fields(row, "a row of result") for row in result]
    boxes: dict[str, ToolBox] = {}
    sizes: set[tuple[int, int]] = set()
    for row in rows:
        if row.get("type") == "rectanglelabels":
            region = _text(row.get("id"), "id")
            untrusted.only_once(region, boxes, "region")
            with naming(f"region {untrusted.shown(region)}"):
                size_wh = _size_wh(row)
                sizes.add(size_wh)
                boxes[region] = _box(region, row, size_wh, words, notes)
    if len(sizes) > 1:
        raise ValueError(f"its regions have different original sizes, {sorted(sizes)[:2]}; annotate it again")
    interactions: list[ToolInteraction] = []
    for row in rows:
        match row.get("type"):
            case "relation":
                interactions += _relation(row, boxes, words)
            case "choices" if row.get("from_name") == _VERB_CONTROL:
                interactions += _alone(row, boxes, words)
            case "rectanglelabels":
                pass
            case kind:
                count_ignored(kind, notes)
    return image_annotation_of(name, sizes.pop() if sizes else (0, 0), boxes.values(), interactions, words, notes)


def _size_wh(row: dict[str, Any]) -> tuple[int, int]:
    turned = untrusted.number(row.get("image_rotation") or 0, "image_rotation", -MOST_TURNS_DEGREES, MOST_TURNS_DEGREES)
    if turned % 360:
        raise ValueError(f"the view was turned by {turned:g} degrees; turn the file itself, and annotate it again")
    return (
        untrusted.size_px(row.get("original_width"), "original_width"),
        untrusted.size_px(row.get("original_height"), "original_height"),
    )


def _box(region: str, row: dict[str, Any], size_wh: tuple[int, int], words: Words, notes: Counter[str]) -> ToolBox:
    value = untrusted.fields(row.get("value"), "value")
    labels = untrusted.items(value.get("rectanglelabels"), "rectanglelabels")
    if len(labels) != 1:
        raise ValueError(f"it must have one label, found {untrusted.shown(labels)}")
    label = words.label(labels[0])
    return ToolBox(
        name=f"region {untrusted.shown(region)} ({words.vocabulary.object_name(label)})",
        box_xyxy=_box_xyxy(value, size_wh, notes),
        label=label,
    )


def _box_xyxy(value: dict[str, Any], size_wh: tuple[int, int], notes: Counter[str]) -> Box:
    x, y, width, height = (
        untrusted.number(value.get(field), field, -_MOST_PERCENT, _MOST_PERCENT) / 100 * side
        for field, side in zip(("x", "y", "width", "height"), size_wh * 2, strict=True)
    )
    box = (x, y, x + width, y + height)
    degrees = untrusted.number(value.get("rotation") or 0, "rotation", -MOST_TURNS_DEGREES, MOST_TURNS_DEGREES)
    if degrees % 360 == 0:
        return box
    notes["rotated boxes replaced by the upright rectangle around them"] += 1
    return rotated_bounds(box, degrees, (x, y))


def _relation(row: dict[str, Any], boxes: dict[str, ToolBox], words: Words) -> list[ToolInteraction]:
    start, end = (_end(row.get(field), boxes) for field in ("from_id", "to_id"))
    with naming(f"the relation of {start.name} and {end.name}"):
        verbs = words.verbs(untrusted.items(row.get("labels") or [], "labels"))
        if start is end:
            raise ValueError("it leads back to where it starts; for a person who acts without an object choose a verb")
        if not verbs:
            raise ValueError("it has no verb; choose one for it, or delete it")
        people = [box for box in (start, end) if box.label == words.person]
        if not people:
            raise ValueError("neither is a person; a relation leads from a person to an object")
        direction = row.get("direction", "right")
        if direction not in ("left", "right", "bi"):
            raise ValueError(f"direction must be left, right or bi, found {untrusted.shown(direction)}")
    if len(people) == 1:
        ends = [(people[0], end if people[0] is start else start)]
    else:
        ends = [(start, end)] * (direction != "left") + [(end, start)] * (direction != "right")
    return [(human, obj, verb) for human, obj in ends for verb in verbs]


def _end(region: object, boxes: dict[str, ToolBox]) -> ToolBox:
    if _text(region, "an end of a relation") not in boxes:
        raise ValueError(f"a relation ends at region {untrusted.shown(region)}, which is no labelled rectangle")
    return boxes[str(region)]


def _alone(row: dict[str, Any], boxes: dict[str, ToolBox], words: Words) -> list[ToolInteraction]:
    region = _text(row.get("id"), "id")
    with naming(f"the verb of region {untrusted.shown(region)}"):
        verbs = words.verbs(untrusted.items(untrusted.fields(row.get("value"), "value").get("choices"), "choices"))
        if region not in boxes or boxes[region].label != words.person:
            raise ValueError("only a person acts without an object; use a relation, and remove this verb")
    return [(boxes[region], None, verb) for verb in verbs]


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{field} must be a text, found {untrusted.shown(value)}")
    return value

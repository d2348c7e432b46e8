"""HOI-A JSON, the form of PPDM and of the official code: a list of images with boxes and interactions.

    [{"file_name": "a.jpg",
      "annotations": [{"bbox": [x1, y1, x2, y2], "category_id": 1}, ...],
      "hoi_annotation": [{"subject_id": 0, "object_id": 1, "category_id": 77, "hoi_category_id": 153}, ...]}, ...]

`subject_id` and `object_id` are rows of `annotations`. How labels are written depends on the vocabulary:

- objects of COCO (HICO-DET, V-COCO): the COCO id, 1 to 90 with gaps; of any other vocabulary: index + 1;
- verbs where every person acts on an object (HICO-DET, drawn): index + 1, and `hoi_category_id` is the HOI index + 1;
- verbs where a person can act alone (V-COCO): the index, `object_id` -1 for no object, no `hoi_category_id`.

`width` and `height` are our addition: optional, and ignored by other readers. Boxes are taken as they are; whether
they make sense is checked in check.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoiclip.core import untrusted_values as untrusted
from hoiclip.core.atomic_write import atomic_write
from hoiclip.core.errors import DataError, SinkError
from hoiclip.core.untrusted_values import Box, read_json
from hoiclip.core.vocabulary import NO_OBJECT, Vocabulary, load_vocabulary
from hoiclip.data.annotations import ImageAnnotation, image_annotation
from hoiclip.data.formats.coco import COCO_IDS

UNREADABLE = -2
"""Label of a row that could not be read; -1 already means no object."""

_NO_BOX: Box = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in an annotation file."""

    kind: str
    image: str
    detail: str


def read_hoia(path: Path, vocabulary: Vocabulary) -> list[ImageAnnotation]:
    """All images of a file, in its order.

    Raises:
        DataError: the file cannot be read, or anything in it is not of the form above; names image and field.
    """
    annotations, problems = parse_hoia(read_json(path), vocabulary)
    if problems:
        first = problems[0]
        more = f" (and {len(problems) - 1} more: hoiclip data check)" if len(problems) > 1 else ""
        raise DataError(f"{path}: {first.image}: {first.detail}{more}")
    return annotations


def write_hoia(path: Path, annotations: Sequence[ImageAnnotation], vocabulary: Vocabulary) -> None:
    """Writes the same form; replaces `path` only when everything has been written.

    Raises:
        DataError: an interaction names an HOI that the vocabulary does not have, and the form needs its number.
        SinkError: the file cannot be written.
    """
    codes = _Codes(vocabulary)
    text = json.dumps([codes.image(annotation) for annotation in annotations], separators=(",", ":"))
    try:
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SinkError(f"cannot write {path} ({error}); choose a folder that exists and is writable") from error


def parse_hoia(data: object, vocabulary: Vocabulary) -> tuple[list[ImageAnnotation], list[Problem]]:
    """Parses everything that can be read, and reports everything that cannot.

    A row that cannot be read stays, with label UNREADABLE, so that indices keep their meaning; an interaction that
    cannot be read is left out. Images are left out only where they are no object at all.
    """
    parser = _Parser(_Codes(vocabulary))
    return parser.parse(data), parser.problems


@cache
def _coco_objects() -> tuple[str, ...]:
    return load_vocabulary("hico").objects


class _Codes:
    """Codes of a vocabulary's indices in a file, and back."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.objects = COCO_IDS if vocabulary.objects == _coco_objects() else range(1, len(vocabulary.objects) + 1)
        self.label_of = {code: label for label, code in enumerate(self.objects)}
        self.writes_hoi = not vocabulary.has_no_object_class
        self.first_verb = 1 if self.writes_hoi else 0
        self.hoi_of = {pair: hoi for hoi, pair in enumerate(vocabulary.hois)}

    def image(self, annotation: ImageAnnotation) -> dict[str, Any]:
        image: dict[str, Any] = {
            "file_name": annotation.file_name,
            "annotations": [
                {"bbox": _short(box), "category_id": self.objects[label]}
                for box, label in zip(annotation.boxes_xyxy, annotation.labels.tolist(), strict=True)
            ],
            "hoi_annotation": [self.interaction(annotation, *row) for row in annotation.interactions.tolist()],
        }
        if annotation.width_px and annotation.height_px:
            image |= {"width": annotation.width_px, "height": annotation.height_px}
        return image

    def interaction(self, annotation: ImageAnnotation, human: int, obj: int, verb: int) -> dict[str, int]:
        written = {"subject_id": human, "object_id": obj, "category_id": verb + self.first_verb}
        if self.writes_hoi:
            label = int(annotation.labels[obj]) if obj != NO_OBJECT else NO_OBJECT
            if (verb, label) not in self.hoi_of:
                raise DataError(
                    f"{annotation.file_name}: the vocabulary {self.vocabulary.name} has no HOI of verb {verb} and "
                    f"object {label}, so it has no hoi_category_id; leave the interaction out"
                )
            written["hoi_category_id"] = self.hoi_of[verb, label] + 1
        return written


def _short(box: NDArray[np.float32]) -> list[float]:
    """float32 in as few digits as distinguish it from its neighbours."""
    return [int(value) if value % 1 == 0 else float(str(value)) for value in box]


_OTHER_FORMS: tuple[tuple[str, str], ...] = (
    ("items", "Datumaro JSON; hoiclip data convert --from cvat"),
    ("predictions", "Label Studio's tasks; hoiclip data convert --from label-studio"),
    (
        "categories",
        "COCO's instances; hoiclip data convert --from coco-attributes where attributes say who does what, "
        "--from coco-pairs --instances where a file of pairs goes with them",
    ),
    ("boxes_h", "pairs by name; hoiclip data convert --from coco-pairs"),
    ("correspondence", "HICO-DET as JSON; hoiclip data convert --from hico-json"),
    ("role_object_id", "V-COCO's actions; hoiclip data convert --from vcoco"),
    ("gtboxes", "ODGT with gtboxes, which is not read; write its boxes as annotations, its pairs as hoi_annotation"),
)
"""A field that no other form has, and the form that has it."""


def _other_form(data: object) -> str | None:
    """The name of another known form, if data is evidently of it."""
    rows: list[Any] = data[:1] if isinstance(data, list) else [data]
    if isinstance(data, dict):
        nested = data.get("annotations")
        rows += nested[:1] if isinstance(nested, list) else []
    names = {name for row in rows if isinstance(row, dict) for name in row}
    if "hoi_annotation" in names:
        return None
    return next((form for field, form in _OTHER_FORMS if field in names), None)


class _Parser:
    """One pass over a file; collects problems instead of stopping at the first."""

    def __init__(self, codes: _Codes) -> None:
        self.codes = codes
        self.problems: list[Problem] = []
        self._image_name = "the file"

    def parse(self, data: object) -> list[ImageAnnotation]:
        try:
            if (other := _other_form(data)) is not None:
                raise ValueError(f"expected HOI-A JSON, found {other}")
            images = untrusted.items(data, "HOI-A JSON")
        except ValueError as error:
            self._found("malformed", error)
            return []
        annotations = (self._image(image, number) for number, image in enumerate(images))
        return [annotation for annotation in annotations if annotation is not None]

    def _found(self, kind: str, detail: object) -> None:
        self.problems.append(Problem(kind, self._image_name, str(detail)))

    def _image(self, data: object, number: int) -> ImageAnnotation | None:
        self._image_name = f"image {number}"
        try:
            image = untrusted.fields(data, "it")
            self._image_name = untrusted.file_name(image.get("file_name"))
        except ValueError as error:
            self._found("malformed", error)
            return None
        rows = [self._row(row, f"annotations[{i}]") for i, row in enumerate(self._list(image, "annotations"))]
        labels = [label for _, label in rows]
        interactions = []
        for i, row in enumerate(self._list(image, "hoi_annotation")):
            interaction = self._interaction(row, f"hoi_annotation[{i}]", labels)
            if interaction is not None:
                interactions.append(interaction)
        width_px, height_px = self._size(image, "width"), self._size(image, "height")
        return image_annotation(self._image_name, [box for box, _ in rows], labels, interactions, width_px, height_px)

    def _list(self, image: dict[str, Any], field: str) -> list[Any]:
        try:
            return untrusted.items(image.get(field), field)
        except ValueError as error:
            self._found("malformed", error)
            return []

    def _size(self, image: dict[str, Any], field: str) -> int:
        if field not in image:
            return 0
        try:
            return untrusted.size_px(image[field], field)
        except ValueError as error:
            self._found("malformed", error)
            return 0

    def _row(self, data: object, field: str) -> tuple[Box, int]:
        try:
            row = untrusted.fields(data, field)
            box = untrusted.box(row.get("bbox"), f"{field}.bbox")
            code = untrusted.whole(row.get("category_id"), f"{field}.category_id")
        except ValueError as error:
            self._found("malformed", error)
            return _NO_BOX, UNREADABLE
        if code not in self.codes.label_of:
            name = self.codes.vocabulary.name
            self._found("unknown-label", f"{field}.category_id {untrusted.shown(code)} is no object of {name}")
            return box, UNREADABLE
        return box, self.codes.label_of[code]

    def _interaction(self, data: object, field: str, labels: list[int]) -> tuple[int, int, int] | None:
        try:
            row = untrusted.fields(data, field)
            human, obj, verb = (
                untrusted.whole(row.get(name), f"{field}.{name}") for name in ("subject_id", "object_id", "category_id")
            )
        except ValueError as error:
            self._found("malformed", error)
            return None
        verb -= self.codes.first_verb
        if not self._in_range(field, human, obj, verb, labels):
            return None
        if self.codes.writes_hoi and "hoi_category_id" in row:
            hoi_field = f"{field}.hoi_category_id"
            if not self._agrees(row["hoi_category_id"], hoi_field, verb, labels[obj]):
                return None
        return human, obj, verb

    def _in_range(self, field: str, human: int, obj: int, verb: int, labels: list[int]) -> bool:
        first_object = 0 if self.codes.writes_hoi else NO_OBJECT
        first_verb, verbs = self.codes.first_verb, len(self.codes.vocabulary.verbs)
        wrong = [
            ("wrong-index", "subject_id", human, 0, len(labels)),
            ("wrong-index", "object_id", obj, first_object, len(labels)),
            ("unknown-label", "category_id", verb + first_verb, first_verb, verbs + first_verb),
        ]
        wrong = [bounds for bounds in wrong if not bounds[3] <= bounds[2] < bounds[4]]
        for kind, name, value, first, end in wrong:
            found = untrusted.shown(value)
            self._found(kind, f"{field}.{name} must be at least {first} and below {end}, found {found}")
        return not wrong

    def _agrees(self, value: object, field: str, verb: int, label: int) -> bool:
        """Whether hoi_category_id agrees with the verb and the object's label."""
        hois = self.codes.vocabulary.hois
        try:
            hoi = untrusted.whole(value, field) - 1
        except ValueError as error:
            self._found("malformed", error)
            return False
        if not 0 <= hoi < len(hois):
            self._found("unknown-label", f"{field} must be 1 to {len(hois)}, found {untrusted.shown(value)}")
            return False
        if label != UNREADABLE and hois[hoi] != (verb, label):
            self._found("triplet-mismatch", f"{field} {hoi + 1} is not the HOI of verb {verb} and object {label}")
            return False
        return True

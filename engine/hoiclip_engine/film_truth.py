"""What really happens in a film, frame by frame: JSON lines of schema hoiclip/1 that somebody is sure of.

`hoiclip data draw --video` writes them; hand-made ones need "frame" lines only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoiclip.data import untrusted
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.rows import image_annotation
from hoiclip.errors import DataError
from hoiclip.vocabulary import NO_OBJECT, Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueFrame:
    """One frame; boxes are pixels of the upright picture."""

    annotation: ImageAnnotation
    entities: tuple[int, ...]
    """Identity behind each box of the annotation."""


def read_film_truth(path: Path, vocabulary: Vocabulary) -> list[TrueFrame]:
    """All frames, in order. Verbs that are not active are no interactions.

    Raises:
        DataError: no such file, or a line is not of the schema; names line and field.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} ({error}); expected JSON lines of schema hoiclip/1") from error
    names = _Names(vocabulary)
    frames: list[TrueFrame] = []
    for number, text in enumerate(lines, 1):
        try:
            line = untrusted.fields(json.loads(text), "a line")
            if line.get("type") == "frame":
                frames.append(_frame(line, len(frames), names))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: {error}; expected schema hoiclip/1") from error
    if not frames:
        raise DataError(f"{path} has no frame lines; expected JSON lines of schema hoiclip/1")
    return frames


class _Names:
    """Labels and verbs by name."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._objects = vocabulary.objects
        self._labels = {name: i for i, name in enumerate(vocabulary.objects)}
        self._verbs = {name: i for i, name in enumerate(vocabulary.verbs)}
        self.person = vocabulary.person

    def of(self, label: int) -> str:
        return self._objects[label]

    def label(self, value: object) -> int:
        return _known(value, self._labels, "label")

    def verb(self, value: object) -> int:
        return _known(value, self._verbs, "verb")


def _known(value: object, names: dict[str, int], field: str) -> int:
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{field} {untrusted.shown(value)} is not in the model's vocabulary")
    return names[value]


def _frame(line: dict[str, Any], expected: int, names: _Names) -> TrueFrame:
    if untrusted.whole(line.get("index"), "index") != expected:
        raise ValueError(f"index must count frames from 0, expected {expected}, found {line.get('index')}")
    rows: dict[int, int] = {}
    boxes: list[untrusted.Box] = []
    labels: list[int] = []
    interactions: list[tuple[int, int, int]] = []

    def row(entity: object, box: object, label: int) -> int:
        identity = untrusted.whole(entity, "human or object")
        if identity not in rows:
            rows[identity] = len(boxes)
            boxes.append(untrusted.box(box, "box"))
            labels.append(label)
        elif (known := labels[rows[identity]]) != label:
            raise ValueError(
                f"{untrusted.shown(identity)} is a {names.of(known)} and a {names.of(label)}; humans and objects of a "
                "film share one range of numbers"
            )
        return rows[identity]

    for item in untrusted.items(line.get("pairs"), "pairs"):
        pair = untrusted.fields(item, "a pair")
        human = row(pair.get("human"), pair.get("human_box_xyxy"), names.person)
        thing = NO_OBJECT
        if pair.get("object") is not None:
            thing = row(pair["object"], pair.get("object_box_xyxy"), names.label(pair.get("label")))
        for said in untrusted.items(pair.get("verbs"), "verbs"):
            verb = untrusted.fields(said, "a verb")
            if verb.get("active") is True:
                interactions.append((human, thing, names.verb(verb.get("verb"))))
    return TrueFrame(
        annotation=image_annotation(f"frame {expected}", boxes, labels, interactions), entities=tuple(rows)
    )

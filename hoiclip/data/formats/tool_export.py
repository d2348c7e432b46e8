"""Exports of annotation tools: words looked up in a vocabulary, boxes within their image, groups as interactions.

Nothing is lost without a word: what a reader changes or leaves out it counts, and what it cannot decide is an error
that names the box. File formats are in cvat.py, label_studio.py and coco_attributes.py.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from hoiclip.core import untrusted_values as untrusted
from hoiclip.core.untrusted_values import Box
from hoiclip.core.vocabulary import NO_OBJECT, Vocabulary
from hoiclip.data.annotations import ImageAnnotation, Rows, person_label

_VERB_ATTRIBUTE = re.compile(r"verb[ _-]?[0-9]{0,2}")
"""Names of attributes that hold verbs: several verbs may have an attribute each."""
MOST_TURNS_DEGREES = 3600.0

_ROUNDING_PX = 0.5
"""Boxes that leave their image by less were rounded by the tool; data check allows as much."""
_UNSET = ("", "__undefined__")
"""Values of an attribute that nobody has set; CVAT shows the second as a blank."""
_LONGEST_WORD = 60
"""Characters of a word for which the nearest is sought, which takes long for long ones."""
_LONGEST_KIND = 30
_MOST_KINDS = 40


@dataclass(slots=True)
class ToolExport:
    """Images read from an export, and how often something was changed or left out on the way."""

    annotations: list[ImageAnnotation] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ToolBox:
    """One labelled box as it was drawn."""

    name: str
    """In messages."""
    box_xyxy: Box
    label: int
    verbs: tuple[int, ...] = ()
    group: str = ""
    """Boxes of an image with the same text belong together; empty: this one is alone."""


ToolInteraction = tuple[ToolBox, ToolBox | None, int]
"""The person, the object or None, the verb."""


class Words:
    """Looks up labels and verbs of a tool in a vocabulary, in any case, with spaces or underscores.

    Raises:
        DataError: the vocabulary has no person.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.person = person_label(vocabulary)
        self._objects = _by_word(vocabulary.objects)
        self._verbs = _by_word(vocabulary.verbs)
        self._hois = set(vocabulary.hois)

    def label(self, word: object) -> int:
        """
        Raises:
            ValueError: the vocabulary has no such object; names the nearest.
        """
        return self._index(word, self._objects, "label")

    def verbs(self, values: Iterable[object]) -> tuple[int, ...]:
        """Verbs of several values, each a word or words with commas between; unset values hold none.

        Raises:
            ValueError: the vocabulary has no such verb; names the nearest.
        """
        words = []
        for value in values:
            if not isinstance(value, str):
                raise ValueError(f"a verb must be a word, found {untrusted.shown(value)}")
            words += [word.strip() for word in value.split(",")]
        return tuple(dict.fromkeys(self._index(word, self._verbs, "verb") for word in words if word not in _UNSET))

    def require_hoi(self, interaction: ToolInteraction) -> None:
        """
        Raises:
            ValueError: the vocabulary does not combine this verb and object.
        """
        human, obj, verb = interaction
        label = obj.label if obj is not None else len(self.vocabulary.objects)
        if (verb, label) not in self._hois:
            what = f"{self.vocabulary.verb_name(verb)} {self.vocabulary.object_name(label) or 'without an object'}"
            box = obj or human
            raise ValueError(f"{box.name}: {what!r} is no HOI of the vocabulary {self.vocabulary.name}; add it there")

    def _index(self, word: object, known: Mapping[str, int], kind: str) -> int:
        if isinstance(word, str) and _plain(word) in known:
            return known[_plain(word)]
        comparable = isinstance(word, str) and len(word) <= _LONGEST_WORD
        near = difflib.get_close_matches(_plain(str(word)), known, n=1) if comparable else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"the {kind} {untrusted.shown(word)} is not in the vocabulary {self.vocabulary.name}{hint}")


def _plain(word: str) -> str:
    return "_".join(word.split()).casefold()


def _by_word(names: Sequence[str]) -> dict[str, int]:
    return {_plain(name): index for index, name in reversed(list(enumerate(names)))}


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Puts the image or box before the errors of its content."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def count_ignored(kind: object, notes: Counter[str]) -> None:
    """Counts a shape that is no box by its kind."""
    named = isinstance(kind, str) and kind.isidentifier() and len(kind) <= _LONGEST_KIND
    notes[f"ignored {kind}" if named and len(notes) < _MOST_KINDS else "ignored shapes of other kinds"] += 1


def attribute_verbs(attributes: Iterable[tuple[object, object]]) -> list[object]:
    """Values of the attributes that hold verbs; a value may be a list."""
    values: list[object] = []
    for name, value in attributes:
        if isinstance(name, str) and _VERB_ATTRIBUTE.fullmatch(name.strip().casefold()) and value is not None:
            values += value if isinstance(value, list) else [value]
    return values


def rotated_bounds(box_xyxy: Box, degrees: float, centre: tuple[float, float]) -> Box:
    """The upright rectangle around a box that is turned clockwise about a point."""
    x1, y1, x2, y2 = box_xyxy
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(x - centre[0], y - centre[1]) for x in (x1, x2) for y in (y1, y2)]
    xs = [centre[0] + x * cos - y * sin for x, y in corners]
    ys = [centre[1] + x * sin + y * cos for x, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


def turned_about_middle(box_xyxy: Box, rotation: object, notes: Counter[str]) -> Box:
    """A box of CVAT, which is turned about its middle.

    Args:
        rotation: degrees, clockwise; None for a box that is upright.
    """
    if rotation is None:
        return box_xyxy
    degrees = untrusted.number(rotation, "rotation", -MOST_TURNS_DEGREES, MOST_TURNS_DEGREES)
    if degrees % 360 == 0:
        return box_xyxy
    notes["rotated boxes replaced by the upright rectangle around them"] += 1
    x1, y1, x2, y2 = box_xyxy
    return rotated_bounds(box_xyxy, degrees, ((x1 + x2) / 2, (y1 + y2) / 2))


def grouped_interactions(boxes: Sequence[ToolBox], words: Words, group_name: str) -> list[ToolInteraction]:
    """Interactions of boxes that are grouped: a person with the objects, each with its verbs.

    A person alone with a verb acts without an object. Of several persons the one without a verb acts on the others.

    Args:
        group_name: what the tool calls a group, for messages.

    Raises:
        ValueError: it is not clear who acts, or on what.
    """
    groups: dict[str, list[ToolBox]] = {}
    for box in boxes:
        groups.setdefault(box.group or f"alone {box.name}", []).append(box)
    interactions: list[ToolInteraction] = []
    for group in groups.values():
        where = f"{group_name} {untrusted.shown(group[0].group)} of {group[0].name}" if group[0].group else ""
        interactions += _group_interactions(group, words, where)
    return interactions


def _group_interactions(group: Sequence[ToolBox], words: Words, where: str) -> list[ToolInteraction]:
    people = [box for box in group if box.label == words.person]
    human = people[0] if len(people) == 1 else _actor(group, people, where)
    if human is None:
        return []
    alone: list[ToolInteraction] = [(human, None, verb) for verb in human.verbs]
    objects = [box for box in group if box is not human]
    for box in objects:
        if not box.verbs:
            raise ValueError(f"{box.name} is grouped with {human.name}, but has no verb; set it, or ungroup the box")
    return alone + [(human, box, verb) for box in objects for verb in box.verbs]


def _actor(group: Sequence[ToolBox], people: Sequence[ToolBox], where: str) -> ToolBox | None:
    """The person who acts in a group of none or several; None where no box has a verb."""
    if not people:
        acted_on = next((box for box in group if box.verbs), None)
        if acted_on is not None:
            raise ValueError(f"{acted_on.name} has a verb, but no person is grouped with it; group it with one person")
        return None
    idle = [box for box in people if not box.verbs]
    if len(idle) == 1:
        return idle[0]
    raise ValueError(
        f"{where} has {len(people)} persons, of whom {len(idle)} have no verb; expected one person with "
        "the objects (of several the one without a verb acts on the others); make a group for each person who acts"
    )


def image_annotation_of(
    file_name: str,
    size_wh: tuple[int, int],
    boxes: Iterable[ToolBox],
    interactions: Iterable[ToolInteraction],
    words: Words,
    notes: Counter[str],
) -> ImageAnnotation:
    """One image with its boxes clipped to it; identical boxes of one label become one.

    Args:
        size_wh: pixels; zeros where the format does not give them.

    Raises:
        ValueError: a box without area takes part in an interaction, or the vocabulary has no such HOI.
    """
    rows, row_of = Rows(), dict[ToolBox, int]()
    for box in boxes:
        inside = _inside(box.box_xyxy, size_wh, notes)
        if inside is not None:
            row_of[box] = rows.row(inside, box.label)
    merged = len(row_of) - len(set(row_of.values()))
    if merged:
        notes["identical boxes merged"] += merged
    for row in dict.fromkeys(_interaction_row(interaction, row_of, words) for interaction in interactions):
        rows.interact(*row)
    return rows.annotation(file_name, *size_wh)


def _interaction_row(interaction: ToolInteraction, row_of: Mapping[ToolBox, int], words: Words) -> tuple[int, int, int]:
    words.require_hoi(interaction)
    human, obj, verb = interaction
    for box in (human,) if obj is None else (human, obj):
        if box not in row_of:
            raise ValueError(f"{box.name} has no area inside the image, but is in an interaction; draw it again")
    if obj is not None and row_of[human] == row_of[obj]:
        raise ValueError(f"{human.name} and {obj.name} are the same box, but one acts on the other; draw one again")
    return row_of[human], NO_OBJECT if obj is None else row_of[obj], verb


def _inside(box_xyxy: Box, size_wh: tuple[int, int], notes: Counter[str]) -> Box | None:
    """The part of a box within its image, in float32; None where that has no area."""
    sides = np.array([side or untrusted.LARGEST_PX for side in size_wh] * 2, np.float32)
    clipped: Box = tuple(np.array(box_xyxy, np.float32).clip(0, sides).tolist())
    if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
        notes["boxes without area left out"] += 1
        return None
    if max(abs(a - b) for a, b in zip(clipped, box_xyxy, strict=True)) > _ROUNDING_PX:
        notes["boxes clipped to their image"] += 1
    return clipped

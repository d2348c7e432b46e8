"""Rules over tracked pairs, as an operator writes them: which interaction, where, when and for how long.

Reads and checks rules of TOML files and of JSON; whether one holds in a frame is up to rule_matcher.py.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import cv2
import numpy as np

from hoiclip.core.errors import UsageError
from hoiclip.core.foreign_file import read_text
from hoiclip.core.printable import one_line
from hoiclip.core.untrusted_values import shown
from hoiclip.core.vocabulary import NO_INTERACTION, Vocabulary
from hoiclip_engine.events.geometry import CountedPoint, Direction, Point, segments_meet, side
from hoiclip_engine.events.schedule import WeeklySchedule, read_schedule

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Unit: TypeAlias = Literal["relative", "px"]

NO_OBJECT_WORD = "no_object"
"""Stands among `objects` for a person who acts without one."""
MOST_RULES, MOST_WORDS, MOST_POINTS = 200, 1000, 50
LONGEST_TEXT, LONGEST_S, LARGEST_PX = 80, 604_800.0, 65_536.0
MOST_BYTES = 1 << 20
"""Of a rules file."""
_SMALLEST_ZONE = {"relative": 1e-4, "px": 16.0}
"""Area. A hundredth of the frame's sides, or 4 by 4 pixels."""
_SHORTEST_LINE = {"relative": 0.01, "px": 4.0}
_LEAST_ACROSS = 0.1
"""Part of a line's length that it must extend across a direction: an upright line is not crossed upwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An interaction that is worth a hit; or, `absent`, one whose absence is. All its conditions must hold."""

    name: str
    verbs: tuple[str, ...] = ()
    """Words of the vocabulary, with spaces or underscores; empty: any verb."""
    objects: tuple[str, ...] = ()
    """Likewise; "no object" stands for a person who acts without one; empty: any."""
    min_score: float = 0.0
    """Smoothed score of the verb, which also has to be active."""
    zone: tuple[Point, ...] = ()
    """Corners of a polygon, in order around it; empty: the whole frame."""
    line: tuple[Point, ...] = ()
    """Two points; the hit is the moment at which a pair crosses the line between them."""
    direction: Direction = "any"
    """Edge of the image towards which the line is crossed."""
    unit: Unit = "relative"
    """Of zone and line: relative to width and height of the frame, 0 to 1; or pixels of the stream's first frame."""
    point: CountedPoint = "human"
    """Point that must be in the zone or cross the line: the middle of the lower edge of the human's box; the centre of
    the object's box; or the contact point of both: the centre of their overlap, or else the middle between their
    nearest points. A point beyond the frame counts at the frame's edge."""
    min_duration_s: float = 0.0
    """Seconds that the rule must hold before the hit starts."""
    grace_s: float = 0.5
    """Seconds for which it may fail to hold without ending: a box that trembles at the zone's border, a verb or a pair
    that is missed. Two inferences at least must have found that it does not hold."""
    cool_down_s: float = 0.0
    """Seconds after the end of a hit in which the rule starts no other, of any pair; what still holds then
    starts."""
    update_every_s: float = 1.0
    """Seconds between two updates of a hit; 0: no updates."""
    schedule: WeeklySchedule | None = None
    """None: always."""
    absent: bool = False
    """The rule holds while no pair fulfils the conditions above."""
    absent_for_s: float = 0.0
    """Seconds of absence before the hit of an `absent` rule starts."""
    while_present: bool = False
    """Count the absence only while there is a human in the zone, by the lower edge of the box; without a zone, in the
    frame. Humans are those of tracked pairs."""

    def __post_init__(self) -> None:
        for name, points in (("zone", self.zone), ("line", self.line)):
            if self.unit == "relative" and any(not 0 <= value <= 1 for point in points for value in point):
                raise ValueError(f'{name}: expected numbers from 0 to 1, found others; for pixels add unit = "px"')
        _check_polygon(self.zone, self.unit)
        _check_line(self.line, self.unit, self.direction)
        _check_absence(self)
        if self.line and self.min_duration_s:
            raise ValueError("min_duration_s: a line is crossed in a moment; leave it out, or take a zone")
        if self.direction != "any" and not self.line:
            raise ValueError("direction: expected a line to be crossed, found none; add line = [[x, y], [x, y]]")
        if not (self.zone or self.line):
            for name, usual in (("unit", "relative"), ("point", "human")):
                if getattr(self, name) != usual:
                    raise ValueError(f"{name}: counts for a zone or line, found neither; add one, or leave it out")
        if self.point != "human" and {_spelled(word) for word in self.objects} == {NO_OBJECT_WORD}:
            raise ValueError(f'point: a person without an object has no {self.point} point; take "human"')

    def as_dict(self) -> dict[str, Any]:
        """What differs from the defaults, as TOML and JSON can hold it."""
        given: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.default is MISSING or value != field.default:
                given[field.name] = value.as_dict() if isinstance(value, WeeklySchedule) else _as_list(value)
        return given

    def check_words(self, vocabulary: Vocabulary) -> None:
        """Raises ValueError: a verb or object is not in the vocabulary, or no verb goes with any of the objects."""
        verbs, objects = _spellings(vocabulary.verbs), _spellings(vocabulary.objects)
        if vocabulary.has_no_object_class:
            objects.append(NO_OBJECT_WORD)
        for key, words, known in (("verbs", self.verbs, verbs), ("objects", self.objects, objects)):
            for word in words:
                if _spelled(word) not in known:
                    kinds = f"a {key[:-1]} of the vocabulary {vocabulary.name}"
                    raise ValueError(f"{key}: expected {kinds}, found {shown(word)}; {_nearest(word, known)}")
        if any(_spelled(word) == NO_INTERACTION for word in self.verbs):
            raise ValueError(f"verbs: {NO_INTERACTION} is never active; name others, or make the rule absent")
        pairs = {(_spelled(verb), _spelled(obj) or NO_OBJECT_WORD) for verb, obj in vocabulary.named_hois}
        wanted_verbs = {_spelled(word) for word in self.verbs} or set(verbs)
        wanted_objects = {_spelled(word) for word in self.objects} or {NO_OBJECT_WORD, *objects}
        if not any(verb in wanted_verbs and obj in wanted_objects for verb, obj in pairs):
            raise ValueError(
                f"verbs: expected one that the vocabulary {vocabulary.name} has with one of the objects, found none; "
                "see hoiclip vocab show"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """Rules of a stream."""

    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        names: set[str] = set()
        for rule in self.rules:
            if rule.name in names:
                raise ValueError(
                    f"name: {shown(rule.name)} is the name of two rules, which need names of their own; "
                    "rename one of them"
                )
            names.add(rule.name)

    def __len__(self) -> int:
        return len(self.rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(rule.name for rule in self.rules)

    @property
    def scheduled(self) -> tuple[str, ...]:
        """Names of rules that count at some times of the day only."""
        return tuple(rule.name for rule in self.rules if rule.schedule is not None)

    def as_dict(self) -> dict[str, Any]:
        """As `parse_rules` reads it; only what differs from the defaults."""
        return {"rule": [rule.as_dict() for rule in self.rules]}

    def check_words(self, vocabulary: Vocabulary, where: str = "rules") -> None:
        """Raises UsageError: a verb or object is not in the vocabulary."""
        for number, rule in enumerate(self.rules, start=1):
            try:
                rule.check_words(vocabulary)
            except ValueError as error:
                raise UsageError(f"{_place(where, number, rule.name)}, {error}") from None


def read_rules(path: Path, vocabulary: Vocabulary | None = None) -> RuleSet:
    """A rules file (docs/rules.md).

    Args:
        vocabulary: to check words by; None: not yet.

    Raises:
        UsageError: no such file, no TOML, or a rule that makes no sense: one line with file, rule and key.
    """
    try:
        data = tomllib.loads(read_text(path, MOST_BYTES))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"cannot read {one_line(str(path))} ({reason}); expected a rules file in TOML") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{one_line(str(path))}: expected TOML, found an error: {one_line(str(error))}") from None
    return parse_rules(data, str(path), vocabulary)


def parse_rules(data: Mapping[str, Any], where: str, vocabulary: Vocabulary | None = None) -> RuleSet:
    """Rules of decoded TOML or JSON: {"rule": [{"name": ..., ...}, ...]}.

    Args:
        where: name of the file or sender, for messages.

    Raises:
        UsageError: see read_rules.
    """
    where = one_line(where)
    if not isinstance(data, Mapping):
        raise UsageError(f"{where}: expected a table with rules, found {shown(data)}; begin each with [[rule]]")
    for key in data:
        if key != "rule":
            raise UsageError(
                f"{where}: expected rules alone, found the key {shown(key)}; begin each rule with [[rule]]"
            )
    tables = data.get("rule")
    if not isinstance(tables, (list, tuple)) or len(tables) > MOST_RULES:
        raise UsageError(
            f"{where}: expected a list of at most {MOST_RULES} rules, found {_kind(tables)}; begin each with [[rule]]"
        )
    rules: list[Rule] = []
    for number, table in enumerate(tables, start=1):
        name = table.get("name") if isinstance(table, Mapping) else None
        try:
            rules.append(_rule(table))
            if vocabulary is not None:
                rules[-1].check_words(vocabulary)
            RuleSet(rules=tuple(rules))
        except ValueError as error:
            raise UsageError(f"{_place(where, number, name)}, {error}") from None
    return RuleSet(rules=tuple(rules))


def spelled_alike(words: Iterable[str], known: Sequence[str]) -> list[int]:
    """Indices of the known words that these words name, with spaces or underscores, in any case."""
    wanted = {_spelled(word) for word in words}
    return [index for index, word in enumerate(known) if _spelled(word) in wanted]


def _check_polygon(zone: Sequence[Point], unit: Unit) -> None:
    if not zone:
        return
    if len(zone) < 3:
        raise ValueError(f"zone: expected at least 3 corners, found {len(zone)}; add some")
    if len(set(zone)) < len(zone):
        raise ValueError("zone: expected corners at different points, found two at one; leave one out")
    edges = list(zip(zone, [*zone[1:], zone[0]], strict=True))
    for (i, (a, b)), (j, (c, d)) in combinations(enumerate(edges), 2):
        if b == c or d == a:  # neighbours share a corner, and must not lead back along each other
            start, corner, end = (a, b, d) if b == c else (c, a, b)
            along = (corner[0] - start[0]) * (end[0] - corner[0]) + (corner[1] - start[1]) * (end[1] - corner[1])
            crossing = not side(start, corner, end) and along < 0
        else:
            crossing = segments_meet(a, b, c, d)
        if crossing:
            raise ValueError(
                f"zone: expected edges that do not cross, found that those behind corners {i + 1} and {j + 1} do; "
                "list the corners in order around it"
            )
    if cv2.contourArea(np.array(zone, np.float32)) < _SMALLEST_ZONE[unit]:
        raise ValueError("zone: expected a polygon with an area, found next to none; draw it larger, or correct unit")


def _check_line(line: Sequence[Point], unit: Unit, direction: Direction) -> None:
    if not line:
        return
    if len(line) != 2:
        raise ValueError(f"line: expected 2 points, found {len(line)}; take one rule for each line")
    across, down = abs(line[1][0] - line[0][0]), abs(line[1][1] - line[0][1])
    length = math.hypot(across, down)
    if length < _SHORTEST_LINE[unit]:
        raise ValueError("line: expected two points apart from each other, found them together; draw it longer")
    if direction != "any" and (down if direction in ("left", "right") else across) < _LEAST_ACROSS * length:
        ways = "up or down" if direction in ("left", "right") else "to the left or right"
        raise ValueError(f"direction: this line is crossed {ways}, found {direction!r}; correct it")


def _check_absence(rule: Rule) -> None:
    if not rule.absent:
        for name in ("absent_for_s", "while_present"):
            if getattr(rule, name):
                raise ValueError(f"{name}: is for absent rules; add absent = true, or leave it out")
        return
    if rule.line:
        raise ValueError("line: an absent rule has no pair that could cross it; take a zone")
    if rule.min_duration_s:
        raise ValueError("min_duration_s: an absent rule has absent_for_s in its place; rename it")
    if not rule.absent_for_s:
        raise ValueError("absent_for_s: expected the seconds of absence after which the rule holds, found none; add it")


def _rule(table: object) -> Rule:
    """Raises ValueError: with the key, what was expected and what was found."""
    if not isinstance(table, Mapping):
        raise ValueError(f"expected a table of keys and values, found {shown(table)}; begin each rule with [[rule]]")
    for key in table:
        if key not in _READERS:
            raise ValueError(f"expected a key of a rule, found {shown(key)}; {_nearest(str(key), _READERS)}")
    if "name" not in table:
        raise ValueError("name: expected a name for the rule, found none; add one")
    values = {}
    for key, value in table.items():
        try:
            values[key] = _READERS[key](value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    return Rule(**values)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > LONGEST_TEXT:
        raise ValueError(
            f"expected a printable text of at most {LONGEST_TEXT} characters, found {shown(value)}; correct it"
        )
    return value


def _words(value: object) -> tuple[str, ...]:
    return tuple(_text(word) for word in _items(value, "words", MOST_WORDS))


def _items(value: object, what: str, most: int) -> Sequence[object]:
    if not isinstance(value, (list, tuple)) or len(value) > most:
        raise ValueError(f"expected a list of at most {most} {what}, found {_kind(value)}; correct it")
    return value


def _points(value: object) -> tuple[Point, ...]:
    points = []
    for item in _items(value, "points [x, y]", MOST_POINTS):
        if not isinstance(item, (list, tuple)) or len(item) != 2:
            raise ValueError(f"expected points [x, y], found {shown(item)}; correct it")
        points.append((_number(item[0], LARGEST_PX), _number(item[1], LARGEST_PX)))
    return tuple(points)


def _zone(value: object) -> tuple[Point, ...]:
    points = _points(value)
    if not points:
        raise ValueError("expected at least 3 corners, found none; leave zone out for the whole frame")
    return points[:-1] if len(points) > 3 and points[0] == points[-1] else points  # closed, as in GeoJSON


def _line(value: object) -> tuple[Point, ...]:
    points = _points(value)
    if not points:
        raise ValueError("expected 2 points, found none; leave it out where there is no line")
    return points


def _number(value: object, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ValueError(f"expected a number from 0 to {most:g}, found {shown(value)}; correct it")
    return float(value)


def _seconds(value: object) -> float:
    return _number(value, LONGEST_S)


def _score(value: object) -> float:
    return _number(value, 1.0)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, found {shown(value)}; correct it")
    return value


def _choice(kind: object) -> Callable[[object], str]:
    choices: tuple[str, ...] = get_args(kind)

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}, found {shown(value)}; correct it")
        return value

    return read


_READERS: dict[str, Callable[[object], Any]] = {
    "name": _text,
    "verbs": _words,
    "objects": _words,
    "min_score": _score,
    "zone": _zone,
    "line": _line,
    "direction": _choice(Direction),
    "unit": _choice(Unit),
    "point": _choice(CountedPoint),
    "min_duration_s": _seconds,
    "grace_s": _seconds,
    "cool_down_s": _seconds,
    "update_every_s": _seconds,
    "schedule": read_schedule,
    "absent": _flag,
    "absent_for_s": _seconds,
    "while_present": _flag,
}
"""Keys of a rule."""


def _spelled(word: str) -> str:
    return "_".join(word.replace("_", " ").split()).lower()


def _spellings(words: Iterable[str]) -> list[str]:
    return [_spelled(word) for word in words]


def _nearest(word: str, known: Iterable[str]) -> str:
    """What to do about an unknown word."""
    names = list(known)
    found = get_close_matches(_spelled(word[:LONGEST_TEXT]), names, 1)
    if found:
        return f'did you mean "{found[0]}"?'
    return f"there are {', '.join(names)}" if len(names) <= 20 else "see hoiclip vocab show for all of them"


def _place(where: str, number: int, name: object) -> str:
    return f"{where}, rule {number}" + (f" {shown(name)}" if isinstance(name, str) else "")


def _kind(value: object) -> str:
    """The value for a message, a list by its length."""
    return f"{len(value)}" if isinstance(value, (list, tuple)) else "none" if value is None else shown(value)


def _as_list(value: Any) -> Any:
    return [_as_list(item) for item in value] if isinstance(value, tuple) else value

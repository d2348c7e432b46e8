"""Matches the tracked pairs of a stream with its rules: start, updates and end of every hit.

A rule holds for a person, a verb and a kind of object: a hit outlives the object's change of identity. Everything
counts seconds of the stream, and plain calls do all of it, frame by frame. Rules are made in rules.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from hoiclip.core.array_types import F32, F64, I64, Bool
from hoiclip.core.vocabulary import NO_OBJECT, Vocabulary
from hoiclip_engine.events.geometry import LineCrossings, PairPoints
from hoiclip_engine.events.rules import Rule, RuleSet, spelled_alike
from hoiclip_engine.types.results import FrameResult
from hoiclip_engine.types.rule_hits import RuleHit, RuleShape
from hoiclip_engine.types.tracked_pairs import TrackedPairs

_PTS_GRAIN_S = 1e-6
"""Presentation times are rounded; a duration short by less than this is long enough."""
_LEAST_INFERENCES = 2
"""That must have missed a rule before its hit ends: between rare inferences pairs come and go by prediction alone."""

_Key: TypeAlias = tuple[str, int, int, int]
"""Name of the rule, human, label and verb; -1 of an absent rule."""


class _Match(NamedTuple):
    """A pair that fulfils a rule in a frame; or none, for an absent rule."""

    pts_s: float
    row: int = -1
    """Among the pairs of its frame."""
    pair: int = -1
    human: int = -1
    object: int = -1
    verb: int = -1
    label: int = NO_OBJECT
    score: float = 0.0
    human_box_xyxy: tuple[float, float, float, float] | None = None
    object_box_xyxy: tuple[float, float, float, float] | None = None


@dataclass(slots=True, kw_only=True)
class _Episode:
    """A time over which a rule holds."""

    rule: Rule
    start_s: float
    last: _Match
    """When it held last."""
    best: _Match
    missed: int = 0
    """Inferences since then."""
    hit: int | None = None
    """Number of its hit, once that has started."""
    reported_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Compiled:
    """Rules of a stream as arrays and contours, in pixels of its first frame. R rules."""

    rules: RuleSet
    verbs: Bool
    """(R, V) whether the rule is about the verb."""
    objects: Bool
    """(R, O + 1) likewise; the last column is no object."""
    min_scores: F64
    """(R, 1)"""
    zones: list[F32 | None]
    """(K, 2) corners each."""
    lines: dict[str, LineCrossings[list[_Match]]]
    """By the name of the rule."""
    shapes: list[RuleShape]


class RuleMatcher:
    """Hits of one stream's rules. Call it from one thread; `replace_rules` may be called from any."""

    def __init__(
        self, rules: RuleSet, vocabulary: Vocabulary, clock: Callable[[float], datetime] | None = None
    ) -> None:
        """
        Args:
            clock: time, with its time zone, of a time of the stream; None: schedules do not count.

        Raises:
            UsageError: a verb or object of a rule is not in the vocabulary.
        """
        rules.check_words(vocabulary)
        self._wanted, self._vocabulary, self._clock = rules, vocabulary, clock
        self._compiled: _Compiled | None = None
        self._size: tuple[int, int] | None = None
        self._episodes: dict[_Key, _Episode] = {}
        self._ended_s: dict[str, float] = {}
        self._interrupted = False
        self._index = 0
        self._hits = 0
        self._shapes: tuple[object, tuple[RuleShape, ...]] = (None, ())

    @property
    def hits(self) -> int:
        """Hits that have started so far."""
        return self._hits

    @property
    def is_used(self) -> bool:
        """Whether there are rules, or were some."""
        return self._compiled is not None or len(self._wanted) > 0

    @property
    def rules(self) -> RuleSet:
        """Rules of the next frame."""
        return self._wanted

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines about rules that do not count as they are written."""
        unused = self._wanted.scheduled
        if not unused or self._clock is not None:
            return ()
        return (f"schedules do not count in a file, which has no time of day ({', '.join(unused)}); give --clock",)

    def replace_rules(self, rules: RuleSet) -> None:
        """Takes effect at the next frame. Hits of equal rules go on; all others end.

        Raises:
            UsageError: a verb or object of a rule is not in the vocabulary; the rules stay as they were.
        """
        rules.check_words(self._vocabulary)
        self._wanted = rules

    def interrupt(self) -> None:
        """Ends all hits, with the next frame: the source is lost, and what happens now is not seen."""
        self._interrupted = True

    def update(self, result: FrameResult) -> tuple[RuleHit, ...]:
        """Takes the final pairs of the next frame. Ends and updates come first, then starts, in order of hits."""
        self._index = result.index
        compiled, hits = self._current(result)
        if not len(compiled.rules):
            return tuple(hits)
        points = PairPoints(result.pairs, self._scale(result), self._size or (1, 1))
        found = self._found(compiled, points, result.pts_s)
        crossings = self._crossings(compiled, points, found, result.pts_s)
        matches = self._matches(compiled, points, found, result.pts_s)
        for key, episode in list(self._episodes.items()):
            if key not in matches:
                hits += self._miss(key, episode, result)
        for key, (rule, match) in matches.items():
            if (hit := self._hold(key, rule, match)) is not None:
                hits.append(hit)
        for rule, match in crossings:
            if self._may_start(rule, result.pts_s):
                hits += self._cross(rule, match)
        return tuple(sorted(hits, key=lambda hit: hit.hit))

    def finish(self) -> tuple[RuleHit, ...]:
        """Ends the stream: returns the ends of all hits, each at the time its rule held last."""
        return tuple(sorted(self._end_all(), key=lambda hit: hit.hit))

    def shapes(self, result: FrameResult) -> tuple[RuleShape, ...]:
        """Zones and lines in pixels of the frame that was taken last."""
        compiled = self._compiled
        if compiled is None or not compiled.shapes:
            return ()
        holding = frozenset(key[0] for key, episode in self._episodes.items() if episode.hit is not None)
        state = (compiled.rules, result.frame.width_px, result.frame.height_px, holding)
        if self._shapes[0] != state:
            across, down = self._scale(result)
            self._shapes = (
                state,
                tuple(
                    replace(
                        shape,
                        points_xy=tuple((x / across, y / down) for x, y in shape.points_xy),
                        holds=shape.rule in holding,
                    )
                    for shape in compiled.shapes
                ),
            )
        return self._shapes[1]

    def _current(self, result: FrameResult) -> tuple[_Compiled, list[RuleHit]]:
        """The rules of this frame, and the ends of hits of those that are no more."""
        wanted = self._wanted  # another thread may replace it meanwhile
        before, hits = self._compiled, list[RuleHit]()
        if self._interrupted and before is not None:
            hits += self._end_all()
            for line in before.lines.values():
                line.forget_all()
        self._interrupted = False
        if before is not None and before.rules is wanted:
            return before, hits
        if self._size is None:
            self._size = result.frame.width_px, result.frame.height_px
        old = {rule.name: rule for rule in before.rules} if before is not None else {}
        kept = {rule.name for rule in wanted if old.get(rule.name) == rule}
        hits += self._end_all(name for name in old if name not in kept)
        self._ended_s = {name: ended_s for name, ended_s in self._ended_s.items() if name in kept}
        self._compiled = compiled = _compile(wanted, self._vocabulary, self._size)
        if before is not None:
            compiled.lines.update({name: line for name, line in before.lines.items() if name in kept})
        return compiled, hits

    def _scale(self, result: FrameResult) -> tuple[float, float]:
        """Factors from pixels of this frame to those of the first one."""
        width, height = self._size or (1, 1)
        return width / result.frame.width_px, height / result.frame.height_px

    def _found(self, compiled: _Compiled, points: PairPoints, pts_s: float) -> dict[int, list[_Match]]:
        """By rule, its pairs and verbs in their zone, at a time that its schedule includes."""
        pairs, found = points.pairs, dict[int, list[_Match]]()
        rows, verbs = np.nonzero(pairs.verb_active)
        if not len(rows):
            return found
        scores = pairs.verb_scores[rows, verbs]
        fits = compiled.verbs[:, verbs] & compiled.objects[:, pairs.label[rows]]
        fits &= scores >= compiled.min_scores
        matches = _all_matches(pairs, rows, verbs, scores, pts_s)
        for number, n in np.argwhere(fits).tolist():
            found.setdefault(number, []).append(matches[n])
        for number, here in list(found.items()):
            rule, zone = compiled.rules.rules[number], compiled.zones[number]
            if zone is not None:
                inside = {row: points.is_inside(row, rule.point, zone) for row in {match.row for match in here}}
                found[number] = here = [match for match in here if inside[match.row]]
            if not here or not self._counts(rule, pts_s):
                del found[number]
        return found

    def _counts(self, rule: Rule, pts_s: float) -> bool:
        """Whether the rule's schedule includes this time."""
        return rule.schedule is None or self._clock is None or rule.schedule.includes(self._clock(pts_s))

    def _matches(
        self, compiled: _Compiled, points: PairPoints, found: Mapping[int, list[_Match]], pts_s: float
    ) -> dict[_Key, tuple[Rule, _Match]]:
        """Whatever a rule holds for in this frame; lines are not among it."""
        matches: dict[_Key, tuple[Rule, _Match]] = {}
        for number, rule in enumerate(compiled.rules):
            if rule.absent:
                is_due = not rule.while_present or points.has_human(compiled.zones[number])
                if number not in found and is_due and self._counts(rule, pts_s):
                    matches[rule.name, -1, -1, -1] = rule, _Match(pts_s=pts_s)
            elif not rule.line:
                for match in found.get(number, ()):
                    key = (rule.name, match.human, match.label, match.verb)
                    if key not in matches or self._is_better(match, matches[key][1], key):
                        matches[key] = rule, match
        return matches

    def _is_better(self, match: _Match, other: _Match, key: _Key) -> bool:
        """Whether a pair stands for a hit rather than another: the one that did before, else that of the best score."""
        before = self._episodes[key].last.pair if key in self._episodes else -1
        return (match.pair == before, match.score) > (other.pair == before, other.score)

    def _hold(self, key: _Key, rule: Rule, match: _Match) -> RuleHit | None:
        """The rule holds: returns the start of its hit, once it has held for long enough, or an update."""
        episode = self._episodes.get(key)
        if episode is None:
            self._episodes[key] = episode = _Episode(rule=rule, start_s=match.pts_s, last=match, best=match)
        episode.last, episode.missed = match, 0
        if match.score > episode.best.score:
            episode.best = match
        least_s = rule.absent_for_s if rule.absent else rule.min_duration_s
        if episode.hit is None:
            long_enough = match.pts_s - episode.start_s >= least_s - _PTS_GRAIN_S
            return self._start(episode) if long_enough and self._may_start(rule, match.pts_s) else None
        if rule.update_every_s and match.pts_s - episode.reported_s >= rule.update_every_s - _PTS_GRAIN_S:
            episode.reported_s = match.pts_s
            return self._hit("update", episode, match.pts_s)
        return None

    def _miss(self, key: _Key, episode: _Episode, result: FrameResult) -> Iterator[RuleHit]:
        """The rule does not hold: it has ended, once that lasts for too long."""
        episode.missed += result.detected
        self._stopped(episode)  # as far as is known
        gone_s = result.pts_s - episode.last.pts_s
        if gone_s > episode.rule.grace_s + _PTS_GRAIN_S and episode.missed >= _LEAST_INFERENCES:
            del self._episodes[key]
            yield from self._end(episode)

    def _may_start(self, rule: Rule, pts_s: float) -> bool:
        """Whether the rule's last hit ended long enough ago."""
        return pts_s - self._ended_s.get(rule.name, -np.inf) >= rule.cool_down_s - _PTS_GRAIN_S

    def _start(self, episode: _Episode) -> RuleHit:
        episode.hit, episode.reported_s = self._hits, episode.last.pts_s
        self._hits += 1
        return self._hit("start", episode, episode.start_s)

    def _end(self, episode: _Episode) -> Iterator[RuleHit]:
        self._stopped(episode)
        if episode.hit is not None:
            yield self._hit("end", episode, episode.last.pts_s)

    def _stopped(self, episode: _Episode) -> None:
        """Begins the rule's cool-down."""
        if episode.hit is not None:
            ended_s = self._ended_s.get(episode.rule.name, -np.inf)
            self._ended_s[episode.rule.name] = max(ended_s, episode.last.pts_s)

    def _end_all(self, names: Iterable[str] | None = None) -> list[RuleHit]:
        """Args: names: rules that end; None: all."""
        ended = set(names) if names is not None else {key[0] for key in self._episodes}
        keys = [key for key in self._episodes if key[0] in ended]
        return [hit for key in keys for hit in self._end(self._episodes.pop(key))]

    def _cross(self, rule: Rule, match: _Match) -> list[RuleHit]:
        """Start and end of a hit that is a moment."""
        episode = _Episode(rule=rule, start_s=match.pts_s, last=match, best=match)
        return [self._start(episode), *self._end(episode)]

    def _crossings(
        self, compiled: _Compiled, points: PairPoints, found: Mapping[int, list[_Match]], pts_s: float
    ) -> list[tuple[Rule, _Match]]:
        """Pairs that have crossed a line of a rule they fulfilled at that moment."""
        crossings = []
        for number, rule in enumerate(compiled.rules):
            line = compiled.lines.get(rule.name)
            if line is None:
                continue
            by_row: dict[int, list[_Match]] = {}
            for match in found.get(number, ()):
                by_row.setdefault(match.row, []).append(match)
            seen = zip(points.pairs.pair.tolist(), points.of_kind(rule.point), points.human_heights_px(), strict=True)
            for row, (pair, point, human_height_px) in enumerate(seen):
                if point is None:
                    continue
                crossed = line.observe(pair, point, human_height_px, pts_s, by_row.get(row, []))
                crossings += [(rule, match) for match in crossed or ()]
            line.forget(pts_s)
        return crossings

    def _hit(self, event: Literal["start", "update", "end"], episode: _Episode, pts_s: float) -> RuleHit:
        last, words = episode.last, self._vocabulary
        assert episode.hit is not None
        return RuleHit(
            event=event,
            hit=episode.hit,
            rule=episode.rule.name,
            pair=last.pair,
            human=last.human,
            object=last.object,
            verb=words.verbs[last.verb] if last.verb >= 0 else "",
            label=words.objects[last.label] if last.label >= 0 else "",
            pts_s=pts_s,
            index=self._index,
            start_s=episode.start_s,
            score=last.score,
            peak_score=episode.best.score,
            peak_s=episode.best.pts_s,
            human_box_xyxy=last.human_box_xyxy,
            object_box_xyxy=last.object_box_xyxy,
        )


def _all_matches(pairs: TrackedPairs, rows: I64, verbs: I64, scores: F32, pts_s: float) -> list[_Match]:
    """A match for each of these pairs and verbs."""
    ids = [values[rows].tolist() for values in (pairs.pair, pairs.human, pairs.object, pairs.label)]
    boxes = [values[rows].tolist() for values in (pairs.human_boxes_xyxy, pairs.object_boxes_xyxy)]
    return [
        _Match(pts_s, row, pair, human, obj, verb, label, score, tuple(human_box), tuple(box) if obj >= 0 else None)
        for row, verb, score, pair, human, obj, label, human_box, box in zip(
            rows.tolist(), verbs.tolist(), scores.tolist(), *ids, *boxes, strict=True
        )
    ]


def _compile(rules: RuleSet, vocabulary: Vocabulary, size_px: tuple[int, int]) -> _Compiled:
    """Args: size_px: width and height of the stream's first frame."""
    verbs = np.zeros((len(rules), len(vocabulary.verbs)), np.bool_)
    objects = np.zeros((len(rules), len(vocabulary.objects) + 1), np.bool_)
    words = (*vocabulary.objects, "no object")
    compiled = _Compiled(rules, verbs, objects, np.array([[rule.min_score] for rule in rules]), [], {}, [])
    for number, rule in enumerate(rules):
        verbs[number, spelled_alike(rule.verbs, vocabulary.verbs) if rule.verbs else slice(None)] = True
        objects[number, spelled_alike(rule.objects, words) if rule.objects else slice(None)] = True
        across, down = size_px if rule.unit == "relative" else (1, 1)
        zone, line = (tuple((x * across, y * down) for x, y in points) for points in (rule.zone, rule.line))
        compiled.zones.append(np.array(zone, np.float32) if zone else None)
        if zone:
            compiled.shapes.append(RuleShape(rule=rule.name, points_xy=zone))
        if line:
            compiled.lines[rule.name] = LineCrossings(line[0], line[1], rule.direction)
            compiled.shapes.append(RuleShape(rule=rule.name, points_xy=line, direction=rule.direction))
    return compiled

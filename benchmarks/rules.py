"""Benchmark of rules on synthetic test videos: hits of ground-truth pairs, and of the bundled model's.

    python -m benchmarks.rules [--videos 8] [--seconds 10]

Expected hits are computed straight from the ground truth: zones and lines as inequalities, durations by counting the
frames of each person, verb and object. Of ground-truth pairs, every hit must be found, and none besides; one found
belongs to an expected one of the same rule, person, verb and object whose start differs by a frame at most. Of the
model's pairs, which have identities of their own, it belongs to one of the same rule, verb and object that overlaps it
in time, or is within half a second where hits are moments.

The time of a frame is the processor's, of ten rules and ten pairs with one or two active verbs each, beside that of the
tracker's own update in the same run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks.following import ARMS, Moment, found_in, video
from benchmarks.harness import append, provenance, statistics
from hoiclip.core.vocabulary import NO_INTERACTION, Vocabulary
from hoiclip.synthetic.draw import SyntheticPair
from hoiclip.synthetic.fixed_sets import VIDEO_CONFIG, VIDEO_SEEDS
from hoiclip.synthetic.video import VideoConfig
from hoiclip.synthetic.vocabulary import synthetic_vocabulary
from hoiclip_engine.cli.console import results, table
from hoiclip_engine.cli.draw import draw_videos
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.evaluation.videos import videos_in
from hoiclip_engine.events.rule_matcher import RuleMatcher
from hoiclip_engine.events.rules import Rule, RuleSet
from hoiclip_engine.streaming.stream import StreamConfig
from hoiclip_engine.track import PairTracker
from hoiclip_engine.types.frame import Frame
from hoiclip_engine.types.results import FrameResult
from hoiclip_engine.types.rule_hits import RuleHit
from hoiclip_engine.types.tracked_pairs import TrackedPairs

Box = Sequence[float]
Places = Callable[[float, float], bool]
GRACE_S = 0.5
NEAR_S = 0.5
"""Of two moments that are one crossing."""
_GRAIN_S = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A rule, and where it holds in other words; x and y relative to the frame."""

    rule: Rule
    inside: Places = lambda x, y: True
    beyond: Callable[[float, float], float] | None = None
    """Signed distance from a line that is as long as the frame, in widths or heights."""
    wanted: int = 0
    """Sign of the side to which crossings count; 0: both."""


def rectangle(x1: float, y1: float, x2: float, y2: float) -> tuple[tuple[float, float], ...]:
    return (x1, y1), (x2, y1), (x2, y2), (x1, y2)


def within(x1: float, y1: float, x2: float, y2: float) -> Places:
    return lambda x, y: x1 <= x <= x2 and y1 <= y <= y2


L_SHAPE = ((0.0, 0.2), (0.4, 0.2), (0.4, 0.6), (1.0, 0.6), (1.0, 1.0), (0.0, 1.0))
EXPECTED = (
    Expected(rule=Rule(name="anything", min_duration_s=0.5)),
    Expected(
        rule=Rule(name="lower half", zone=rectangle(0, 0.5, 1, 1), min_duration_s=0.5), inside=within(0, 0.5, 1, 1)
    ),
    Expected(
        rule=Rule(name="object left", zone=rectangle(0, 0, 0.5, 1), point="object", grace_s=0.2),
        inside=within(0, 0, 0.5, 1),
    ),
    Expected(
        rule=Rule(name="contact in an L", zone=L_SHAPE, point="contact", min_duration_s=0.3),
        inside=lambda x, y: within(0, 0.2, 0.4, 1)(x, y) or within(0, 0.6, 1, 1)(x, y),
    ),
    Expected(rule=Rule(name="rides or holds", verbs=("ride", "hold"), min_duration_s=1.0)),
    Expected(rule=Rule(name="middle", line=((0.5, 0), (0.5, 1))), beyond=lambda x, y: x - 0.5),
    Expected(
        rule=Rule(name="to the right", line=((0.4, 0), (0.4, 1)), direction="right"),
        beyond=lambda x, y: x - 0.4,
        wanted=1,
    ),
    Expected(
        rule=Rule(name="object up", line=((0, 0.6), (1, 0.6)), point="object", direction="up"),
        beyond=lambda x, y: y - 0.6,
        wanted=-1,
    ),
    Expected(rule=Rule(name="nobody holds", verbs=("hold",), absent=True, absent_for_s=2.0)),
    Expected(
        rule=Rule(
            name="idle in the lower left",
            absent=True,
            absent_for_s=0.5,
            while_present=True,
            zone=rectangle(0, 0.5, 0.5, 1),
        ),
        inside=within(0, 0.5, 0.5, 1),
    ),
)
RULES = RuleSet(rules=tuple(expected.rule for expected in EXPECTED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A hit from start to end, expected or found."""

    rule: str
    human: int
    label: str
    verb: str
    start_s: float
    end_s: float


# What is expected.


def expected_spans(moments: Sequence[Moment], config: VideoConfig) -> list[Span]:
    """Hits of all rules, from ground truth."""
    size = config.width_px, config.height_px
    return [span for expected in EXPECTED for span in _expected(expected, moments, size)]


def _expected(expected: Expected, moments: Sequence[Moment], size: tuple[int, int]) -> Iterator[Span]:
    rule = expected.rule
    if expected.beyond is not None:
        yield from _expected_crossings(expected, moments, size)
        return
    held: dict[tuple[int, str, str], list[bool]] = {}
    for row, moment in enumerate(moments):
        doing = {
            (pair.human, pair.label, verb)
            for pair in moment.pairs
            for verb in _verbs(rule, pair)
            if expected.inside(*_point(rule.point, pair, size))
        }
        if rule.absent:
            present = any(expected.inside(*_point("human", pair, size)) for pair in moment.pairs)
            doing = set() if doing or (rule.while_present and not present) else {(-1, "", "")}
        for key in doing:
            held.setdefault(key, [False] * len(moments))[row] = True
    least_s = rule.absent_for_s if rule.absent else rule.min_duration_s
    for (human, label, verb), holds in held.items():
        for first, last in _episodes(holds, [moment.pts_s for moment in moments], rule.grace_s):
            start_s, end_s = moments[first].pts_s, moments[last].pts_s
            if end_s - start_s >= least_s - _GRAIN_S:
                yield Span(rule=rule.name, human=human, label=label, verb=verb, start_s=start_s, end_s=end_s)


def _episodes(holds: Sequence[bool], times_s: Sequence[float], grace_s: float) -> Iterator[tuple[int, int]]:
    """First and last frame of each time over which it holds but for gaps within the grace."""
    rows = np.flatnonzero(holds).tolist()
    first = rows[0]
    for last, following in zip(rows, [*rows[1:], None], strict=True):
        if following is None or times_s[following - 1] - times_s[last] > grace_s + _GRAIN_S:
            yield first, last
            first = following


def _expected_crossings(expected: Expected, moments: Sequence[Moment], size: tuple[int, int]) -> Iterator[Span]:
    """A pair crosses where its side changes and it goes on for a fiftieth of the person's height."""
    assert expected.beyond is not None
    rule, axis = expected.rule, 0 if expected.rule.line[0][0] == expected.rule.line[1][0] else 1
    ways: dict[tuple[int, int], list[tuple[float, float, SyntheticPair]]] = {}
    for moment in moments:
        for pair in moment.pairs:
            beyond_px = expected.beyond(*_point(rule.point, pair, size)) * size[axis]
            if beyond_px:
                ways.setdefault((pair.human, pair.object), []).append((moment.pts_s, beyond_px, pair))
    for way in ways.values():
        current, run = np.sign(way[0][1]), list[tuple[float, float, SyntheticPair]]()
        for pts_s, beyond_px, pair in way:
            run = [] if np.sign(beyond_px) == current else [*run, (pts_s, beyond_px, pair)]
            if run and abs(beyond_px) >= 0.02 * (pair.human_box_xyxy[3] - pair.human_box_xyxy[1]):
                current, (crossed_s, _, crossing) = -current, run[0]
                if current * expected.wanted >= 0:
                    for verb in _verbs(rule, crossing):
                        human, label = crossing.human, crossing.label
                        yield Span(
                            rule=rule.name, human=human, label=label, verb=verb, start_s=crossed_s, end_s=crossed_s
                        )
                run = []


def _verbs(rule: Rule, pair: SyntheticPair) -> list[str]:
    return [verb for verb in pair.verbs if verb != NO_INTERACTION and (not rule.verbs or verb in rule.verbs)]


def _point(kind: str, pair: SyntheticPair, size: tuple[int, int]) -> tuple[float, float]:
    """Relative to the frame, and inside it."""
    human, obj = pair.human_box_xyxy, pair.object_box_xyxy
    if kind == "human":
        x, y = (human[0] + human[2]) / 2, human[3]
    elif kind == "object":
        x, y = (obj[0] + obj[2]) / 2, (obj[1] + obj[3]) / 2
    else:
        x, y = (_middle((human[i], human[i + 2]), (obj[i], obj[i + 2])) for i in (0, 1))
    return min(max(x / size[0], 0.0), 1.0), min(max(y / size[1], 0.0), 1.0)


def _middle(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Of the overlap of two intervals, or of the gap between them: of the four ends, the inner two."""
    _, second, third, _ = sorted((*a, *b))
    return (second + third) / 2


# What is found.


def found_spans(hits: Iterable[RuleHit]) -> list[Span]:
    starts = {}
    spans = []
    for hit in hits:
        if hit.event == "start":
            starts[hit.hit] = hit
        elif hit.event == "end":
            start = starts.pop(hit.hit)
            spans.append(
                Span(
                    rule=hit.rule,
                    human=hit.human,
                    label=hit.label,
                    verb=hit.verb,
                    start_s=start.start_s,
                    end_s=hit.pts_s,
                )
            )
    return spans


def hits_of_ground_truth(moments: Sequence[Moment], config: VideoConfig) -> list[RuleHit]:
    vocabulary = synthetic_vocabulary()
    matcher, hits = RuleMatcher(RULES, vocabulary), list[RuleHit]()
    for result in ground_truth_results(moments, config, vocabulary):
        hits += matcher.update(result)
    return hits + list(matcher.finish())


def ground_truth_results(
    moments: Sequence[Moment], config: VideoConfig, vocabulary: Vocabulary
) -> Iterator[FrameResult]:
    blank = np.broadcast_to(np.uint8(0), (config.height_px, config.width_px, 3))
    numbers: dict[tuple[int, int], int] = {}
    for index, moment in enumerate(moments):
        found = sorted(moment.pairs, key=lambda pair: numbers.setdefault((pair.human, pair.object), 1 + len(numbers)))
        active = np.array(
            [[verb in pair.verbs and verb != NO_INTERACTION for verb in vocabulary.verbs] for pair in found], np.bool_
        ).reshape(len(found), len(vocabulary.verbs))
        yield FrameResult(
            frame=Frame(blank, moment.pts_s, index),
            detected=True,
            events=(),
            pairs=TrackedPairs(
                pair=np.array([numbers[pair.human, pair.object] for pair in found], np.int64),
                human=np.array([pair.human for pair in found], np.int64),
                object=np.array([pair.object for pair in found], np.int64),
                human_boxes_xyxy=np.array([pair.human_box_xyxy for pair in found], np.float32).reshape(-1, 4),
                object_boxes_xyxy=np.array([pair.object_box_xyxy for pair in found], np.float32).reshape(-1, 4),
                label=np.array([vocabulary.objects.index(pair.label) for pair in found], np.int64),
                score=np.ones(len(found), np.float32),
                verb_scores=active.astype(np.float32),
                verb_active=active,
            ),
        )


def hits_of_model(engine: Engine, path: Path) -> list[RuleHit]:
    stream = engine.open(path, StreamConfig(policy="lossless", rules=RULES))
    hits = [hit for result in stream for hit in result.rule_hits]
    return hits + list(stream.summary.closing_hits)


# How both compare.


def matched(
    expected: Sequence[Span], found: Sequence[Span], fits: Callable[[Span, Span], bool]
) -> list[tuple[Span, Span]]:
    """As many pairs of an expected and a found span as there can be, each span in one; near starts rather than far."""
    far_s = 1e6
    costs_s = np.full((len(expected), len(found)), far_s)
    for i, e in enumerate(expected):
        for j, f in enumerate(found):
            if (e.rule, e.label, e.verb) == (f.rule, f.label, f.verb) and fits(e, f):
                costs_s[i, j] = abs(e.start_s - f.start_s)
    rows, columns = linear_sum_assignment(costs_s)
    return [(expected[i], found[j]) for i, j in zip(rows, columns, strict=True) if costs_s[i, j] < far_s]


def is_same(step_s: float) -> Callable[[Span, Span], bool]:
    return lambda e, f: e.human == f.human and abs(e.start_s - f.start_s) <= step_s + _GRAIN_S


def overlaps(e: Span, f: Span) -> bool:
    slack_s = NEAR_S if e.start_s == e.end_s else 0.0
    return e.start_s - slack_s <= f.end_s and f.start_s - slack_s <= e.end_s


def comparison(
    videos: Sequence[tuple[list[Span], list[Span]]], fits: Callable[[Span, Span], bool], step_s: float
) -> list[dict[str, Any]]:
    """A line for each rule, and one for all."""
    lines = []
    for name in (*(rule.name for rule in RULES), "all"):
        expected = found = 0
        onsets: list[float] = []
        for wanted, given in (
            ([s for s in wanted if name in (s.rule, "all")], [s for s in given if name in (s.rule, "all")])
            for wanted, given in videos
        ):
            expected, found = expected + len(wanted), found + len(given)
            onsets += [abs(e.start_s - f.start_s) / step_s for e, f in matched(wanted, given, fits)]
        lines.append(
            {
                "rule": name,
                "expected": expected,
                "found": found,
                "precision": round(len(onsets) / found, 4) if found else None,
                "recall": round(len(onsets) / expected, 4) if expected else None,
                "onset_frames_median": round(float(np.median(onsets)), 2) if onsets else None,
                "onset_frames_max": round(max(onsets), 2) if onsets else None,
            }
        )
    return lines


def frame_times(verbs_of_a_pair: int, frames: int = 600) -> dict[str, Any]:
    """Milliseconds of a frame with ten pairs and ten rules, beside those of the tracker, frame by frame in turns."""
    vocabulary, rng = synthetic_vocabulary(), np.random.default_rng(0)
    moments = video(VIDEO_CONFIG, VIDEO_SEEDS["test"])
    tracker = PairTracker.for_vocabulary(vocabulary)
    detections = found_in(moments, "", 1 / VIDEO_CONFIG.fps, ARMS["exact"], 0).pairs
    matcher = RuleMatcher(RULES, vocabulary)
    blank = np.broadcast_to(np.uint8(0), (VIDEO_CONFIG.height_px, VIDEO_CONFIG.width_px, 3))
    verbs = len(vocabulary.verbs)
    active = np.zeros((10, verbs), np.bool_)
    for row in active:
        row[rng.choice(verbs, verbs_of_a_pair, replace=False)] = True
    reach_px = 0.3 * VIDEO_CONFIG.height_px
    places, speeds = rng.uniform(0, 2 * np.pi, (2, 10, 2)), rng.uniform(0.1, 1, (2, 10, 2))
    rules_ms, tracker_ms = [], []
    for index in range(frames):
        corners = reach_px * (1 + np.sin(places + speeds * index / 30))
        boxes = np.concatenate([corners, corners + 0.3 * VIDEO_CONFIG.height_px], axis=2).astype(np.float32)
        pairs = TrackedPairs(
            pair=np.arange(10),
            human=np.arange(10),
            object=10 + np.arange(10),
            human_boxes_xyxy=boxes[0],
            object_boxes_xyxy=boxes[1],
            label=np.arange(10) % len(vocabulary.objects),
            score=np.ones(10, np.float32),
            verb_scores=active.astype(np.float32),
            verb_active=active,
        )
        result = FrameResult(frame=Frame(blank, index / 30, index), detected=True, pairs=pairs, events=())
        started = time.thread_time()
        matcher.update(result)
        matcher.shapes(result)
        matched_s = time.thread_time()
        tracker.update(detections[index % len(detections)], index / 30)
        rules_ms.append((matched_s - started) * 1e3)
        tracker_ms.append((time.thread_time() - matched_s) * 1e3)
    return {
        "rules": statistics(rules_ms[50:]),
        "tracker": statistics(tracker_ms[50:]),
        "part_of_the_trackers_time": round(float(np.median(rules_ms[50:]) / np.median(tracker_ms[50:])), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--backend", default="auto")
    args = parser.parse_args()
    config = replace(VIDEO_CONFIG, duration_s=args.seconds)
    seed, step_s = VIDEO_SEEDS["test"], 1 / config.fps
    gt = [video(config, seed + row) for row in range(args.videos)]
    expected = [expected_spans(moments, config) for moments in gt]
    exact = [found_spans(hits_of_ground_truth(moments, config)) for moments in gt]
    arms = {"ground truth": comparison(list(zip(expected, exact, strict=True)), is_same(step_s), step_s)}
    with (
        tempfile.TemporaryDirectory() as folder,
        Engine.load("drawn", EngineConfig(backend=args.backend, precision="fp32")) as engine,
    ):
        draw_videos(Path(folder), args.videos, config, seed)
        model = [found_spans(hits_of_model(engine, path)) for path in videos_in(Path(folder))]
        arms["drawn"] = comparison(list(zip(expected, model, strict=True)), overlaps, step_s)
        facts = {"videos": args.videos, "seconds": args.seconds, "fps": config.fps, "backend": engine.backend_name}
    for arm, lines in arms.items():
        columns = ("rule", "expected", "found", "precision", "recall", "onset_frames_median", "onset_frames_max")
        results.print(table(f"Hits of rules, pairs of {arm}", columns, [tuple(line.values()) for line in lines]))
        origin = provenance("numpy", "openvino", "opencv-python-headless")
        totals = {key: value for key, value in lines[-1].items() if key != "rule"}
        append("rules", {"benchmark": "rules", "pairs": arm, **facts, **totals, "rules": lines[:-1], **origin})
    for count in (1, 2):
        facts = {"benchmark": "rules", "pairs": f"ten, for time, {count} active verbs each"}
        append("rules", {**facts, **frame_times(count), **provenance("numpy")})


if __name__ == "__main__":
    main()

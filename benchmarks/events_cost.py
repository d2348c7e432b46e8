"""The cost of rules, evidence and a record together, as part of a run's CPU time: python -m benchmarks.events_cost

A synthetic 720p video of 30 frames a second is run without and with rules, evidence (packets, snapshots, clips) and an
SQLite record, in turns over some rounds. CPU time is of the whole process, all threads, by frame; a round's ratio is of
two runs beside each other, and the median over rounds counts. On a machine with other work that ratio is uncertain by
some percent, so the parts are also timed by the CPU clocks of their threads, within the run that has them.

Every frame has its result, at whatever pace the machine has: `latest` would drop frames of a busy one. Rows of the
record are collected for half a second of the video, as they would be at its own pace.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import append, provenance
from benchmarks.rules import RULES as TEN_RULES
from benchmarks.rules import rectangle
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.synthetic.video import VideoConfig
from hoiclip_engine.cli.draw import draw_videos
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.events.evidence import EvidenceConfig, EvidenceSink
from hoiclip_engine.events.evidence_folder import EvidenceFolder
from hoiclip_engine.events.record import RecordConfig, Recorder
from hoiclip_engine.events.rule_matcher import RuleMatcher
from hoiclip_engine.events.rules import Rule, RuleSet
from hoiclip_engine.sources.base import SourceConfig
from hoiclip_engine.sources.packet_ring import PacketRing
from hoiclip_engine.streaming.sink_writer import feed
from hoiclip_engine.streaming.stream import StreamConfig
from hoiclip_engine.types.frame import SourceEvent
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink

VIDEO = VideoConfig(width_px=1280, height_px=720, fps=30.0, duration_s=10.0)
SEED = 7_300_000
COLLECT_S = RecordConfig().collect_s
THREADS = {"hoiclip-record": "record", "hoiclip-evidence": "evidence"}
"""Part that a thread belongs to."""
RULE_SETS = {
    "three": RuleSet(
        rules=(
            Rule(name="lower half", zone=rectangle(0, 0.5, 1, 1), min_duration_s=1.0),
            Rule(name="middle", line=((0.5, 0), (0.5, 1))),
            Rule(name="nobody holds", verbs=("hold",), absent=True, absent_for_s=3.0),
        )
    ),
    "ten": TEN_RULES,
}


class _NoMeter:
    def __call__(self) -> None:
        return

    def report(self, event: SourceEvent) -> None:
        return


class TimedParts(Sink):
    """Rules and sinks of a source, with the CPU time of each; the stream has rules of its own, which take the same."""

    def __init__(self, rules: RuleSet, vocabulary: Vocabulary, sinks: Mapping[str, Sink]) -> None:
        self._matcher, self._sinks = RuleMatcher(rules, vocabulary), sinks
        self.spent_s = dict.fromkeys(["rules", *sinks], 0.0)

    def start(self, header: RunHeader) -> None:
        for sink in self._sinks.values():
            sink.start(header)

    def write(self, result: FrameResult) -> None:
        with self._timed("rules"):
            self._matcher.update(result)
            self._matcher.shapes(result)
        for name, sink in self._sinks.items():
            with self._timed(name):
                sink.write(result)

    def finish(self, summary: RunSummary) -> None:
        for name, sink in self._sinks.items():
            with self._timed(name):
                sink.finish(summary)
        for thread in threading.enumerate():
            if thread.name in THREADS and thread.ident is not None:
                cpu_s = time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
                self.spent_s[THREADS[thread.name]] += cpu_s

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started_s = time.thread_time()
        yield
        self.spent_s[name] += time.thread_time() - started_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """CPU milliseconds of a frame."""

    whole_ms: float
    parts_ms: Mapping[str, float]
    summary: RunSummary


def cpu_cost(engine: Engine, video: Path, rules: RuleSet | None, folder: Path, slowness: float = 1.0) -> Cost:
    """Runs the video.

    Args:
        rules: with evidence and a record; None: without all three.
        slowness: duration of a run in durations of the video.
    """
    started_s = time.process_time()
    with ExitStack() as stack:
        parts, packets = None, None
        if rules is not None:
            config = RecordConfig(collect_s=COLLECT_S * slowness)
            recorder = stack.enter_context(closing(Recorder(folder / "events.sqlite", config)))
            evidence = stack.enter_context(EvidenceFolder(folder / "evidence"))
            packets = PacketRing(EvidenceConfig().kept_s)
            sink = EvidenceSink(evidence, EvidenceConfig(), packets, [recorder.put_evidence])
            parts = TimedParts(rules, engine.vocabulary, {"record": recorder.sink(), "evidence": sink})
        stream = engine.open(video, StreamConfig(policy="lossless", rules=rules), SourceConfig(packets=packets))
        summary = feed(stream, [parts] if parts else [], _NoMeter())
    whole_s, spent_s = time.process_time() - started_s, parts.spent_s if parts else {}
    return Cost(
        whole_ms=(whole_s - spent_s.get("rules", 0.0)) * 1e3 / summary.decoded,  # one of two matchers is the product's
        parts_ms={name: part_s * 1e3 / summary.decoded for name, part_s in spent_s.items()},
        summary=summary,
    )


def rounds(engine: Engine, video: Path, rules: RuleSet, count: int) -> dict[str, Any]:
    """Runs without and with, in turns."""
    without, having = list[Cost](), list[Cost]()
    slowness = 1.0
    for number in range(count + 1):
        arms: Sequence[RuleSet | None] = (None, rules) if number % 2 else (rules, None)
        for arm in arms[: None if number else 1]:  # first, caches fill
            with tempfile.TemporaryDirectory() as folder:
                cost = cpu_cost(engine, video, arm, Path(folder), slowness)
            if number:
                (without if arm is None else having).append(cost)
            else:
                slowness = cost.summary.wall_s / VIDEO.duration_s
    ratios = [a.whole_ms / b.whole_ms - 1 for a, b in zip(having, without, strict=True)]
    parts_ms = {name: median([cost.parts_ms[name] for cost in having]) for name in having[0].parts_ms}
    rest_ms = median([cost.whole_ms - sum(cost.parts_ms.values()) for cost in having])
    return {
        "rounds": count,
        "without_ms": round(median([cost.whole_ms for cost in without]), 3),
        "with_ms": round(median([cost.whole_ms for cost in having]), 3),
        "more": round(median(ratios), 4),
        "more_least_and_most": [round(min(ratios), 4), round(max(ratios), 4)],
        "parts_ms": {name: round(part_ms, 3) for name, part_ms in parts_ms.items()},
        "more_by_parts": round(sum(parts_ms.values()) / rest_ms, 4),
        "slowness": round(slowness, 2),
        "frames": having[0].summary.decoded,
        "hits_per_minute": round(60 * (having[0].summary.hits or 0) / VIDEO.duration_s, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--rules", nargs="+", choices=RULE_SETS, default=list(RULE_SETS))
    parser.add_argument("--dry", action="store_true", help="print, and keep no result")
    a = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Engine.load("drawn", EngineConfig(backend=a.backend, precision=a.precision)) as engine,
    ):
        draw_videos(Path(folder), 1, VIDEO, SEED)
        (video,) = Path(folder).glob("*.mp4")
        for name in a.rules:
            line = {
                "benchmark": "events_cost",
                "video": f"{VIDEO.width_px}x{VIDEO.height_px}, {VIDEO.fps:.0f} fps",
                "rules": name,
                "backend": engine.backend_name,
                "precision": a.precision,
                **rounds(engine, video, RULE_SETS[name], a.rounds),
            }
            if a.dry:
                print(json.dumps(line))
            else:
                append("events_cost", line | provenance("openvino", "av", "opencv-python-headless", "numpy"))


if __name__ == "__main__":
    main()

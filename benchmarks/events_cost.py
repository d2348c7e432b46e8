"""The cost of rules, evidence and a record together, as part of a run's CPU time: python -m benchmarks.events_cost

A synthetic 720p video of 30 frames a second is run without and with rules, evidence (packets, snapshots, clips) and an
SQLite record, in turns over some rounds. CPU time is of the whole process, all threads, by frame; a round's ratio is of
two runs beside each other, and the median over rounds counts. Every frame has its result, at whatever pace the machine
has: `latest` would drop frames of a busy one. Rows of the record are collected for half a second of the video, as they
would be at its own pace.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import append, provenance
from benchmarks.rules import RULES as TEN_RULES
from benchmarks.rules import rectangle
from hoiclip.synthetic.video import VideoConfig
from hoiclip_engine.cli.draw import draw_videos
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.events.evidence import EvidenceConfig, EvidenceSink
from hoiclip_engine.events.evidence_folder import EvidenceFolder
from hoiclip_engine.events.record import RecordConfig, Recorder
from hoiclip_engine.events.rules import Rule, RuleSet
from hoiclip_engine.sources.base import SourceConfig
from hoiclip_engine.sources.packet_ring import PacketRing
from hoiclip_engine.streaming.sink_writer import feed
from hoiclip_engine.streaming.stream import StreamConfig
from hoiclip_engine.types.frame import SourceEvent
from hoiclip_engine.types.results import RunSummary, Sink

VIDEO = VideoConfig(width_px=1280, height_px=720, fps=30.0, duration_s=6.0)
SEED = 7_300_000
COLLECT_S = RecordConfig().collect_s
RULE_SETS = {
    "three": RuleSet(
        rules=(
            Rule(name="rides", verbs=("ride",), zone=rectangle(0, 0.4, 1, 1), min_duration_s=1.0),
            Rule(name="in and out", line=((0.5, 0), (0.5, 1)), verbs=("carry", "ride")),
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


def cpu_ms(
    engine: Engine, video: Path, rules: RuleSet | None, folder: Path, slowness: float = 1.0
) -> tuple[float, RunSummary]:
    """CPU milliseconds of a frame, all threads.

    Args:
        rules: with evidence and a record; None: without all three.
        slowness: duration of a run in durations of the video.
    """
    started_s = time.process_time()
    with ExitStack() as stack:
        sinks: list[Sink] = []
        packets = None
        if rules is not None:
            recorder = stack.enter_context(
                closing(Recorder(folder / "events.sqlite", RecordConfig(collect_s=COLLECT_S * slowness)))
            )
            evidence = stack.enter_context(EvidenceFolder(folder / "evidence"))
            packets = PacketRing(EvidenceConfig().kept_s)
            sinks = [recorder.sink(), EvidenceSink(evidence, EvidenceConfig(), packets, [recorder.put_evidence])]
        config = StreamConfig(policy="lossless", rules=rules)
        summary = feed(engine.open(video, config, SourceConfig(packets=packets)), sinks, _NoMeter())
    return (time.process_time() - started_s) * 1e3 / summary.decoded, summary


def rounds(engine: Engine, video: Path, rules: RuleSet, count: int) -> dict[str, Any]:
    """Runs without and with, in turns."""
    without_ms, with_ms, frames = list[float](), list[float](), list[int]()
    hits, slowness = 0, 1.0
    for number in range(count + 1):
        with tempfile.TemporaryDirectory() as folder:
            arms: Sequence[RuleSet | None] = (None, rules) if number % 2 else (rules, None)
            for arm in arms:
                took_ms, summary = cpu_ms(engine, video, arm, Path(folder), slowness)
                if not number:  # caches fill
                    slowness = summary.wall_s / VIDEO.duration_s
                    continue
                (without_ms if arm is None else with_ms).append(took_ms)
                frames.append(summary.decoded)
                hits = summary.hits or hits
    ratios = np.array(with_ms) / np.array(without_ms)
    return {
        "rounds": count,
        "without_ms": round(float(np.median(without_ms)), 3),
        "with_ms": round(float(np.median(with_ms)), 3),
        "more": round(float(np.median(ratios)) - 1, 4),
        "more_p25_p75": [round(float(np.percentile(ratios, p)) - 1, 4) for p in (25, 75)],
        "slowness": round(slowness, 2),
        "frames": round(float(np.median(frames))),
        "hits_per_minute": round(60 * hits / VIDEO.duration_s, 1),
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

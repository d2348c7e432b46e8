"""Benchmark of the bundled model on synthetic test videos: effects of smoothing and of larger detection intervals.

python -m benchmarks.videos [--films 6] [--seconds 10] [--rates 30] [--backend auto] [--precision fp32]

The videos are those of the test set's seeds at the model's own size, made anew at 15, 30 and 60 frames a second and at
uneven times around 30: people cross and hide each other, the camera pans and shakes. Per rate the model detects in
every frame once; trackers with and without smoothing replay the detections. Then videos of 30 frames a second are run
as `hoiclip run` does at several detection intervals; their throughput is of decoding, inference and tracking, once the
model is compiled.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.harness import append, provenance
from benchmarks.video_replay import record_detections, replay_recordings, without_smoothing
from hoiclip.evaluation.results import number
from hoiclip.evaluation.video import AlignedVideo, VideoReport, align_video, measure_videos, read_ground_truth
from hoiclip.synthetic.fixed_sets import VIDEO_CONFIG, VIDEO_SEEDS
from hoiclip_engine.cli.console import results, table
from hoiclip_engine.cli.draw import draw_videos
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.evaluation.videos import videos_in
from hoiclip_engine.sinks.hico_sink import video_frame
from hoiclip_engine.streaming.stream import StreamConfig

RATES = {"15": (15.0, False), "30": (30.0, False), "60": (60.0, False), "30 uneven": (30.0, True)}
DetectionInterval = int | Literal["auto"]
DETECTION_INTERVALS: tuple[DetectionInterval, ...] = (1, 2, 4, 8, "auto")
"""auto is live: the videos play in real time, and their rate is that of the videos."""
INTERVAL_RATE = "30"

NUMBERS = {
    "frame mAP": ("frames", "frame mAP"),
    "VidHOI mAP": ("frames", "VidHOI mAP"),
    "trajectory mAP": ("trajectories", "mAP"),
    "trajectory class mAP": ("trajectories", "class mAP"),
    "entity HOTA": ("entities", "HOTA"),
    "entity IDF1": ("entities", "IDF1"),
    "entity IDSW": ("entities", "IDSW"),
    "pair HOTA": ("pairs", "HOTA"),
    "pair IDF1": ("pairs", "IDF1"),
    "changes": ("verbs", "changes"),
    "true changes": ("verbs", "true changes"),
    "flicker": ("verbs", "flicker"),
    "true flicker": ("verbs", "true flicker"),
    "onset median s": ("verbs", "onset median s"),
    "onset p90 s": ("verbs", "onset p90 s"),
    "onsets found": ("verbs", "onsets found"),
    "event mAP": ("verbs", "event mAP"),
}
"""Name in the result line to subject and name in the report."""
TABLE_COLUMNS = (
    "frames per s",
    "frame mAP",
    "entity IDF1",
    "pair IDF1",
    "changes",
    "flicker",
    "onset median s",
    "event mAP",
)
"""Columns of the table; result lines have all numbers."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", dest="videos", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rates", nargs="+", choices=RATES, default=list(RATES))
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="fp32")
    args = parser.parse_args()
    lines = []
    with Engine.load("drawn", EngineConfig(backend=args.backend, precision=args.precision)) as engine:
        facts = {"films": args.videos, "seconds": args.seconds, "model": "drawn"}
        facts |= {"backend": engine.backend_name, "precision": engine.build.precision}
        for line in result_lines(engine, args.rates, args.videos, args.seconds):
            append("films", {"benchmark": "films", **facts, **line, **provenance("openvino", "numpy")})
            lines.append(line)
    print_table(lines)


def result_lines(engine: Engine, rates: Sequence[str], count: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Yields all result lines as they become known."""
    with tempfile.TemporaryDirectory() as folder:
        for rate in rates:
            videos = draw_videos_at_rate(Path(folder) / rate.replace(" ", "_"), rate, count, seconds)
            yield from smoothing_lines(engine, videos, rate)
            if rate == INTERVAL_RATE:
                yield from (
                    interval_line(engine, videos, detection_interval) for detection_interval in DETECTION_INTERVALS
                )


def draw_videos_at_rate(folder: Path, rate: str, count: int, seconds: float) -> list[Path]:
    """Makes the videos, the same at each rate."""
    fps, uneven = RATES[rate]
    draw_videos(folder, count, replace(VIDEO_CONFIG, fps=fps, uneven=uneven, duration_s=seconds), VIDEO_SEEDS["test"])
    return videos_in(folder)


def smoothing_lines(engine: Engine, videos: Sequence[Path], rate: str) -> Iterator[dict[str, Any]]:
    """Yields a line for the verbs of each single detection, and one for smoothed verbs."""
    recordings = [record_detections(engine, video) for video in videos]
    smooth = engine.config.track
    for name, config in (("raw", without_smoothing(smooth)), ("smoothed", smooth)):
        yield {"arm": name, "rate": rate, **report_numbers(replay_recordings(recordings, engine.vocabulary, config))}


def interval_line(engine: Engine, videos: Sequence[Path], detection_interval: DetectionInterval) -> dict[str, Any]:
    """A line for detecting in every Nth frame; the whole way from file to pairs is timed."""
    taken_s, aligned, num_detected = 0.0, list[AlignedVideo](), 0
    policy: Literal["latest", "lossless"] = "latest" if detection_interval == "auto" else "lossless"
    for video in videos:
        stream = engine.open(video, StreamConfig(policy=policy, detect_every=detection_interval))
        started = time.perf_counter()
        frame_results = list(stream)
        taken_s += time.perf_counter() - started
        num_detected += sum(frame.detected for frame in frame_results)
        found = [video_frame(frame.index, frame.pts_s, frame.pairs) for frame in frame_results]
        ground_truth = read_ground_truth(video.with_suffix(".jsonl"), engine.vocabulary)
        aligned.append(align_video(video.name, ground_truth, found, len(engine.vocabulary.verbs)))
    frames = sum(len(video.ground_truth) for video in aligned)
    line: dict[str, Any] = {
        "arm": f"every {detection_interval}",
        "rate": INTERVAL_RATE,
        "frames per s": round(frames / taken_s, 1),
    }
    line["looked at"] = round(num_detected / frames, 3)
    return {**line, **report_numbers(measure_videos(aligned, engine.vocabulary))}


def report_numbers(report: VideoReport) -> dict[str, float | None]:
    """The numbers of NUMBERS; None where nothing is counted."""
    summary = report.summary
    values = {name: number(summary[subject][of]) for name, (subject, of) in NUMBERS.items()}
    return {name: value if value is None else round(value, 5) for name, value in values.items()}


def print_table(lines: Sequence[dict[str, Any]]) -> None:
    rows = [
        (f"{line['rate']}, {line['arm']}", *(_cell(name, line.get(name)) for name in TABLE_COLUMNS)) for line in lines
    ]
    results.print(
        table("Synthetic test videos, % but for seconds and per pair-minute", ("videos", *TABLE_COLUMNS), rows)
    )


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name.endswith(" s") or "IDSW" in name or "changes" in name or "flicker" in name:
        return f"{value:.4g}"
    return f"{100 * value:.2f}"


if __name__ == "__main__":
    main()

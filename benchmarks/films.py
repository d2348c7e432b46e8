"""The bundled model on drawn test films: what smoothing is worth, and what looking less often costs.

python -m benchmarks.films [--films 6] [--seconds 10] [--rates 30] [--backend auto] [--precision fp32]

The films are those of the test set's seeds at the size the model knows, drawn anew at 15, 30 and 60 frames a second and
at uneven times around 30: people cross and hide each other, the camera pans and shakes. Per rate the model looks at
every frame once; trackers with and without smoothing replay that. Then films of 30 frames a second are run as `hoiclip
run` does at several cadences; their throughput is of decoding, looking and tracking, once the model is compiled.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.film_replay import record, replayed, without_smoothing
from benchmarks.harness import append, provenance
from hoiclip.data.drawn.fixed_sets import FILM_CONFIG, FILM_SEEDS
from hoiclip.evaluation.results import number
from hoiclip.evaluation.video import Aligned, VideoReport, aligned, measure_films, read_truth
from hoiclip_engine.commands.console import results, table
from hoiclip_engine.commands.draw import draw_films
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.evaluate_films import film_frame, films_in
from hoiclip_engine.pipeline import StreamConfig

RATES = {"15": (15.0, False), "30": (30.0, False), "60": (60.0, False), "30 uneven": (30.0, True)}
Cadence = int | Literal["auto"]
CADENCES: tuple[Cadence, ...] = (1, 2, 4, 8, "auto")
"""auto is live: the films play in real time, and their rate is that of the films."""
CADENCE_RATE = "30"

TOLD = {
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
SHOWN = ("frames per s", "frame mAP", "entity IDF1", "pair IDF1", "changes", "flicker", "onset median s", "event mAP")
"""In the table; lines have all of it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rates", nargs="+", choices=RATES, default=list(RATES))
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="fp32")
    asked = parser.parse_args()
    lines = []
    with Engine.load("drawn", EngineConfig(backend=asked.backend, precision=asked.precision)) as engine:
        facts = {"films": asked.films, "seconds": asked.seconds, "model": "drawn"}
        facts |= {"backend": engine.backend_name, "precision": engine.build.precision}
        for line in measured(engine, asked.rates, asked.films, asked.seconds):
            append("films", {"benchmark": "films", **facts, **line, **provenance("openvino", "numpy")})
            lines.append(line)
    show(lines)


def measured(engine: Engine, rates: Sequence[str], count: int, seconds: float) -> Iterator[dict[str, Any]]:
    """All lines, as they become known."""
    with tempfile.TemporaryDirectory() as folder:
        for rate in rates:
            films = drawn(Path(folder) / rate.replace(" ", "_"), rate, count, seconds)
            yield from smoothing(engine, films, rate)
            if rate == CADENCE_RATE:
                yield from (cadence(engine, films, every) for every in CADENCES)


def drawn(folder: Path, rate: str, count: int, seconds: float) -> list[Path]:
    """The same films at each rate."""
    fps, uneven = RATES[rate]
    draw_films(folder, count, replace(FILM_CONFIG, fps=fps, uneven=uneven, duration_s=seconds), FILM_SEEDS["test"])
    return films_in(folder)


def smoothing(engine: Engine, films: Sequence[Path], rate: str) -> Iterator[dict[str, Any]]:
    """A line for verbs as each look has them, and one for verbs as they are shown."""
    recordings = [record(engine, film) for film in films]
    smooth = engine.config.track
    for name, config in (("raw", without_smoothing(smooth)), ("smoothed", smooth)):
        yield {"arm": name, "rate": rate, **told(replayed(recordings, engine.vocabulary, config))}


def cadence(engine: Engine, films: Sequence[Path], every: Cadence) -> dict[str, Any]:
    """A line for looking at every Nth frame; the whole way from file to pairs is timed."""
    taken_s, watched, looks = 0.0, list[Aligned](), 0
    policy: Literal["latest", "lossless"] = "latest" if every == "auto" else "lossless"
    for film in films:
        stream = engine.open(film, StreamConfig(policy=policy, detect_every=every))
        started = time.perf_counter()
        shown = list(stream)
        taken_s += time.perf_counter() - started
        looks += sum(one.detected for one in shown)
        found = [film_frame(one.index, one.pts_s, one.pairs) for one in shown]
        truth = read_truth(film.with_suffix(".jsonl"), engine.vocabulary)
        watched.append(aligned(film.name, truth, found, len(engine.vocabulary.verbs)))
    frames = sum(len(one.truth) for one in watched)
    line: dict[str, Any] = {"arm": f"every {every}", "rate": CADENCE_RATE, "frames per s": round(frames / taken_s, 1)}
    line["looked at"] = round(looks / frames, 3)
    return {**line, **told(measure_films(watched, engine.vocabulary))}


def told(report: VideoReport) -> dict[str, float | None]:
    """The numbers of TOLD; None where there is nothing to count."""
    summary = report.summary
    values = {name: number(summary[subject][of]) for name, (subject, of) in TOLD.items()}
    return {name: value if value is None else round(value, 5) for name, value in values.items()}


def show(lines: Sequence[dict[str, Any]]) -> None:
    rows = [(f"{line['rate']}, {line['arm']}", *(_cell(name, line.get(name)) for name in SHOWN)) for line in lines]
    results.print(table("Drawn test films, % but for seconds and per pair-minute", ("films", *SHOWN), rows))


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name.endswith(" s") or "IDSW" in name or "changes" in name or "flicker" in name:
        return f"{value:.4g}"
    return f"{100 * value:.2f}"


if __name__ == "__main__":
    main()

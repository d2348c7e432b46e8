"""hoiclip demo: draws a short clip, finds and tracks its interactions, and leaves the result to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from hoiclip.data.drawn.clip import clip_script
from hoiclip.evaluation.video import FilmFrame, read_results, segments
from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.commands.console import messages, results, table, working
from hoiclip_engine.commands.distinct_files import model_inputs, require_distinct
from hoiclip_engine.commands.draw import draw_film
from hoiclip_engine.commands.outputs import Outputs
from hoiclip_engine.commands.run import RunConfig, run
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.folder import make_folder
from hoiclip_engine.models import find_model
from hoiclip_engine.pipeline import StreamConfig
from hoiclip_engine.sinks.sentences import deed
from hoiclip_engine.sinks.video_sink import part_of
from hoiclip_engine.video.address import parse_address
from hoiclip_engine.video.source_config import SourceConfig

BUNDLED, CLIP = "drawn", "clip"
WIDTH_PX, HEIGHT_PX, FPS, DURATION_S, SEED = 640, 480, 25.0, 10.0, 9
DETECT_EVERY = 2
"""Half the waiting, and pairs move as smoothly: boxes between two detections are interpolated."""
SAME_S = 0.3
"""A verb that pauses for less is one row of the table."""


def demo(folder: Path, backend: str) -> int:
    """Writes clip.mp4 (as drawn), its ground truth, demo.mp4 (annotated) and demo.jsonl into a folder.

    On standard output, a table of the interactions that demo.mp4 shows.
    """
    video, lines = folder / "demo.mp4", folder / "demo.jsonl"
    drawn = (folder / f"{CLIP}{suffix}" for suffix in (".mp4", ".jsonl"))
    require_distinct(model_inputs(find_model(BUNDLED)), [*drawn, video, part_of(video), lines])
    make_folder(folder)
    with working("Drawing a clip"):
        clip = draw_demo_clip(folder)
    outputs = Outputs(video=video, jsonl=lines)
    with Engine.load(BUNDLED, EngineConfig(backend=backend)) as engine:
        code = run(
            engine,
            [parse_address(str(clip))],
            outputs,
            RunConfig(stream=StreamConfig(detect_every=DETECT_EVERY), source=SourceConfig()),
        )
        if code:
            return code
        rows = list(interaction_rows(read_results(lines, engine.vocabulary), engine.vocabulary))
    shown = table(f"Interactions in {video}", ("who", "does what", "from", "to", "for"), rows)
    if not results.is_terminal:
        shown.box = None
    results.print(shown)
    messages.print(
        f"Look at {video}; every pair of every frame is in {lines}, the truth in {clip.with_suffix('.jsonl')}."
    )
    return code


def draw_demo_clip(folder: Path) -> Path:
    """Writes clip.mp4 and its ground truth, clip.jsonl.

    Raises:
        SinkError: they cannot be written.
    """
    clip = folder / f"{CLIP}.mp4"
    draw_film(clip, clip_script(WIDTH_PX, HEIGHT_PX, FPS, DURATION_S, SEED))
    return clip


def interaction_rows(frames: Sequence[FilmFrame], vocabulary: Vocabulary) -> Iterator[tuple[str, ...]]:
    """Who, does what, from when, to when and how long, in order of the starts; as drawn.

    A verb that pauses for a moment is told once.
    """
    told: list[tuple[float, float, str, str]] = []
    by_doing = sorted(segments(frames, vocabulary), key=lambda one: (one.human, one.object, one.verb, one.start_s))
    for (human, _, _), group in groupby(by_doing, key=lambda one: (one.human, one.object, one.verb)):
        spans: list[list[float]] = []
        for one in group:
            if spans and one.start_s - spans[-1][1] < SAME_S:
                spans[-1][1] = one.end_s
            else:
                spans.append([one.start_s, one.end_s])
        does = deed(one.verb, one.label, one.object, vocabulary)
        told += [(start_s, end_s, f"person {human}", does) for start_s, end_s in spans]
    for start_s, end_s, who, does in sorted(told):
        yield who, does, f"{start_s:.2f} s", f"{end_s:.2f} s", f"{end_s - start_s:.2f} s"

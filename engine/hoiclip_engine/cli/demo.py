"""hoiclip demo: draws a short clip, finds and tracks its interactions, and writes the annotated result."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import messages, results, table, working
from hoiclip_engine.cli.distinct_files import model_inputs, require_distinct

if TYPE_CHECKING:
    from hoiclip.core.vocabulary import Vocabulary
    from hoiclip.evaluation.video import VideoFrame


EXAMPLES = """\
  hoiclip demo                                            then open demo/demo.mp4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="folder of the results (default: demo)"
    )
    options.add_backend(parser, precision=False)


def run(args: argparse.Namespace) -> int:
    return demo(args.out, args.backend)


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
    from hoiclip.core.atomic_write import make_folder
    from hoiclip.evaluation.video import read_results
    from hoiclip_engine.cli.outputs import Outputs
    from hoiclip_engine.cli.run_sources import RunConfig, run_sources
    from hoiclip_engine.engine import Engine, EngineConfig
    from hoiclip_engine.models import find_model
    from hoiclip_engine.sinks.video_sink import unfinished_name
    from hoiclip_engine.sources.base import SourceConfig
    from hoiclip_engine.sources.uri import parse_address
    from hoiclip_engine.streaming.stream import StreamConfig

    video, lines = folder / "demo.mp4", folder / "demo.jsonl"
    drawn = (folder / f"{CLIP}{suffix}" for suffix in (".mp4", ".jsonl"))
    require_distinct(model_inputs(find_model(BUNDLED)), [*drawn, video, unfinished_name(video), lines])
    make_folder(folder)
    with working("Drawing a clip"):
        clip = draw_demo_clip(folder)
    outputs = Outputs(video=video, jsonl=lines)
    with Engine.load(BUNDLED, EngineConfig(backend=backend)) as engine:
        code = run_sources(
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
        f"Open {video}; every pair of every frame is in {lines}, the ground truth in {clip.with_suffix('.jsonl')}."
    )
    return code


def draw_demo_clip(folder: Path) -> Path:
    """Writes clip.mp4 and its ground truth, clip.jsonl.

    Raises:
        SinkError: they cannot be written.
    """
    from hoiclip.synthetic.clip import clip_script
    from hoiclip_engine.cli.draw import draw_video

    clip = folder / f"{CLIP}.mp4"
    draw_video(clip, clip_script(WIDTH_PX, HEIGHT_PX, FPS, DURATION_S, SEED))
    return clip


def interaction_rows(frames: Sequence[VideoFrame], vocabulary: Vocabulary) -> Iterator[tuple[str, ...]]:
    """Who, does what, from when, to when and how long, in order of the starts; as drawn.

    A verb that pauses for a moment is one row.
    """
    from hoiclip.evaluation.video import verb_segments
    from hoiclip_engine.sinks.text_sinks import interaction_words

    rows: list[tuple[float, float, str, str]] = []
    by_doing = sorted(
        verb_segments(frames, vocabulary),
        key=lambda segment: (segment.human, segment.object, segment.verb, segment.start_s),
    )
    for (human, _, _), group in groupby(by_doing, key=lambda segment: (segment.human, segment.object, segment.verb)):
        spans: list[list[float]] = []
        for segment in group:
            if spans and segment.start_s - spans[-1][1] < SAME_S:
                spans[-1][1] = segment.end_s
            else:
                spans.append([segment.start_s, segment.end_s])
        does = interaction_words(segment.verb, segment.label, segment.object, vocabulary)
        rows += [(start_s, end_s, f"person {human}", does) for start_s, end_s in spans]
    for start_s, end_s, who, does in sorted(rows):
        yield who, does, f"{start_s:.2f} s", f"{end_s:.2f} s", f"{end_s - start_s:.2f} s"

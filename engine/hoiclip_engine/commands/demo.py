"""hoiclip demo: draws a short clip, finds and tracks its interactions, and leaves the result to look at."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from hoiclip.data.drawn import draw_clip
from hoiclip.errors import SinkError
from hoiclip_engine.commands.console import messages, working
from hoiclip_engine.commands.distinct_files import model_inputs, require_distinct
from hoiclip_engine.commands.outputs import Outputs
from hoiclip_engine.commands.run import RunConfig, run
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.folder import make_folder
from hoiclip_engine.models import find_model
from hoiclip_engine.pipeline import StreamConfig
from hoiclip_engine.sinks.encode import VideoEncoder
from hoiclip_engine.sinks.video_sink import part_of
from hoiclip_engine.video.address import parse_address
from hoiclip_engine.video.source_config import SourceConfig

BUNDLED = "drawn"
WIDTH_PX, HEIGHT_PX, FPS, DURATION_S, SEED = 640, 480, 25.0, 9.0, 7
TICKS_PER_S = 12_800


def demo(folder: Path, backend: str) -> int:
    """Writes clip.mp4 (as drawn), demo.mp4 (annotated) and demo.jsonl into a folder."""
    clip, video, lines = (folder / name for name in ("clip.mp4", "demo.mp4", "demo.jsonl"))
    require_distinct(model_inputs(find_model(BUNDLED)), [clip, video, part_of(video), lines])
    make_folder(folder)
    with working("Drawing a clip"):
        draw(clip)
    outputs = Outputs(video=video, jsonl=lines)
    with Engine.load(BUNDLED, EngineConfig(backend=backend)) as engine:
        code = run(engine, [parse_address(str(clip))], outputs, RunConfig(stream=StreamConfig(), source=SourceConfig()))
    messages.print(f"Look at {outputs.video}; every pair of every frame is in {outputs.jsonl}.")
    return code


def draw(path: Path) -> None:
    """The clip, as a video like any other.

    Raises:
        SinkError: it cannot be written.
    """
    try:
        encoder = VideoEncoder(path, WIDTH_PX, HEIGHT_PX, Fraction(1, TICKS_PER_S))
        try:
            for frame in draw_clip(WIDTH_PX, HEIGHT_PX, FPS, DURATION_S, SEED):
                encoder.write(frame.rgb, frame.pts_s)
        finally:
            encoder.close()
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror}; choose another folder with --out") from error

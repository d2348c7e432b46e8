"""One measurement from films to report: the subject under its load, and what the machine tells meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hoiclip.errors import SourceError
from hoiclip_engine.backends.capacity import Capacity
from hoiclip_engine.bench.device_clock import device_wait
from hoiclip_engine.bench.energy import EnergyMeter
from hoiclip_engine.bench.loops import Measured, Probe, measure_closed, measure_flow
from hoiclip_engine.bench.machine_state import MachineState, machine_state
from hoiclip_engine.bench.memory import PeakMemory
from hoiclip_engine.bench.model_subject import Looks, ModelFlow, ModelQueries
from hoiclip_engine.bench.nvml import Nvml
from hoiclip_engine.bench.pipeline_subject import PipelineFlow, PipelineQueries
from hoiclip_engine.bench.plan import BenchPlan
from hoiclip_engine.bench.report import Input
from hoiclip_engine.bench.speed_probe import SpeedProbe
from hoiclip_engine.bench.warm_up import warmed_up
from hoiclip_engine.engine import Engine, lanes_for
from hoiclip_engine.frame import Frame
from hoiclip_engine.preprocess import ModelInput, preprocess
from hoiclip_engine.video.frame_source import FrameSource
from hoiclip_engine.video.repeated import Repeated
from hoiclip_engine.video.timestamps import nominal_step_s

Opened = Callable[[], FrameSource]
"""Opens a film, again and again."""


@dataclass(slots=True)
class Watched:
    """What is read when the warm-up is over, and when all is over."""

    nvml: Nvml
    energy: EnergyMeter = field(init=False)
    memory: PeakMemory = field(init=False)
    before: MachineState = field(init=False)
    after: MachineState = field(init=False)

    def start(self) -> None:
        self.memory = PeakMemory()
        self.energy = EnergyMeter(self.nvml)
        self.energy.start()
        self.before = machine_state(self.nvml)

    def stop(self) -> None:
        self.after = machine_state(self.nvml)


def measure(engine: Engine, films: Sequence[Opened], plan: BenchPlan, watched: Watched) -> tuple[Input, Measured]:
    """
    Args:
        films: one for each stream.

    Raises:
        SourceError: a film has no frame, or its stream broke.
        ModelError: the model cannot be compiled.
    """
    firsts = [_first(opened) for opened in films]
    sizes = [engine.canvas_for(*rgb.shape[:2]) for _, rgb, _ in firsts]
    canvas_hw = max(rows for rows, _ in sizes), max(columns for _, columns in sizes)
    on_gpu = watched.nvml.is_there and engine.backend_name in ("torch", "tensorrt", "tensorrt-rtx")
    with nullcontext() if on_gpu else closing(SpeedProbe()) as probe:
        if plan.subject == "model":
            size = engine.preprocess_config(canvas_hw)
            pictures = [preprocess(rgb, size) for _, rgb, _ in firsts]
            fps, measured = _model(engine, pictures, canvas_hw, plan, firsts[0][2], probe, watched)
        else:
            fps, measured = _pipeline(engine, films, plan, [rate for _, _, rate in firsts], probe, watched)
    watched.stop()
    height_px, width_px = firsts[0][1].shape[:2]
    looked_at = Input(
        sources=list(dict.fromkeys(name for name, _, _ in firsts)),
        picture_px=(width_px, height_px),
        canvas_px=(canvas_hw[1], canvas_hw[0]),
        fps=fps,
    )
    return looked_at, measured


def _model(
    engine: Engine,
    pictures: Sequence[ModelInput],
    canvas_hw: tuple[int, int],
    plan: BenchPlan,
    film_fps: float,
    probe: Probe | None,
    watched: Watched,
) -> tuple[float | None, Measured]:
    wanted = Capacity(lanes=lanes_for(len(pictures), ahead=False))
    with closing(engine.compiled(canvas_hw, wanted)) as backend:
        lanes = backend.capacity.lanes
        looks = Looks(backend, engine.postprocess, device_wait(engine.backend_name))
        if plan.load == "closed":
            with closing(ModelQueries(looks, pictures, lanes)) as queries:
                return None, measure_closed(queries.ask, plan, probe, watched.start)
        fps = plan.fps or film_fps
        if plan.times_rate is not None:
            with closing(ModelQueries(looks, pictures, lanes)) as queries:
                fps = plan.times_rate * 1e3 / warmed_up(queries.ask, plan.warm_up_s).latency_ms
        return fps, measure_flow(lambda: ModelFlow(looks, pictures, lanes, fps), plan, probe, watched.start)


def _pipeline(
    engine: Engine,
    films: Sequence[Opened],
    plan: BenchPlan,
    film_fps: Sequence[float],
    probe: Probe | None,
    watched: Watched,
) -> tuple[float | None, Measured]:
    def endless() -> list[FrameSource]:
        return [Repeated(opened) for opened in films]

    if plan.load == "closed":
        with closing(PipelineQueries(engine, endless())) as queries:
            return None, measure_closed(queries.ask, plan, probe, watched.start)
    if plan.load == "offline":
        return None, measure_flow(lambda: PipelineFlow(engine, endless(), None), plan, probe, watched.start)
    fps = plan.fps or film_fps[0]
    if plan.times_rate is not None:
        with closing(PipelineQueries(engine, endless())) as queries:
            fps = plan.times_rate * 1e3 / warmed_up(queries.ask, plan.warm_up_s).latency_ms
    speeds = [fps / one for one in film_fps]
    return fps, measure_flow(lambda: PipelineFlow(engine, endless(), speeds), plan, probe, watched.start)


def _first(opened: Opened) -> tuple[str, NDArray[np.uint8], float]:
    """Name, first picture, and frames a second of a film."""
    with closing(opened()) as film:
        for item in film:
            if isinstance(item, Frame):
                return film.info.name, item.rgb, 1 / nominal_step_s(film.info.average_rate)
        raise SourceError(f"expected frames in {film.info.name}, found none; name another film")

"""One measurement: a subject under its load, on videos, with the state of the machine; and cold starts."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hoiclip
import hoiclip_engine
import hoiclip_kernels
from hoiclip.core.errors import SourceError
from hoiclip.core.preprocess import ModelInput, preprocess
from hoiclip.data.images import EvaluationSet
from hoiclip_engine.backends.base import Backend, BackendName
from hoiclip_engine.backends.registry import backend_module
from hoiclip_engine.bench.energy import EnergyMeter
from hoiclip_engine.bench.load import (
    BenchPlan,
    MeasuredLoad,
    Probe,
    measure_closed,
    measure_flow,
    warm_up_until_stable,
)
from hoiclip_engine.bench.machine import (
    MachineState,
    Measurement,
    Nvml,
    PeakMemory,
    SpeedProbe,
    machine_state,
    unavailable,
)
from hoiclip_engine.bench.report import BenchInput
from hoiclip_engine.bench.subjects import (
    ModelFlow,
    ModelQueries,
    PipelineFlow,
    PipelineQueries,
    SlowedBackend,
    TimedInference,
)
from hoiclip_engine.cache.artifacts import exported_graph, graph_sha256
from hoiclip_engine.engine import Engine, num_requests_for
from hoiclip_engine.quantization.accuracy_gate import measure_map
from hoiclip_engine.session import Session, SessionConfig
from hoiclip_engine.sources.base import FrameSource
from hoiclip_engine.sources.playback import RepeatedSource
from hoiclip_engine.sources.timestamps import nominal_step_s
from hoiclip_engine.streaming.stream import StreamConfig
from hoiclip_engine.types.frame import Frame

_FIRST_RESULT = '{"type":"frame"'
LONGEST_COLD_START_S = 600.0
VideoOpener = Callable[[], FrameSource]
"""Opens a video, again and again."""


@dataclass(slots=True)
class MachineWatch:
    """Meters and states of the machine, read at the end of the warm-up and of the measurement."""

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


def measure(
    engine: Engine, videos: Sequence[VideoOpener], plan: BenchPlan, machine_watch: MachineWatch
) -> tuple[BenchInput, MeasuredLoad]:
    """Runs a scenario.

    Args:
        videos: one for each stream.

    Raises:
        SourceError: a video has no frame, or its stream broke.
        ModelError: the model cannot be compiled.
    """
    firsts = [_first_frame(open_video) for open_video in videos]
    sizes = [engine.padded_size_for(*rgb.shape[:2]) for _, rgb, _ in firsts]
    padded_hw = max(rows for rows, _ in sizes), max(columns for _, columns in sizes)
    on_gpu = machine_watch.nvml.is_available and engine.backend_name in ("torch", "tensorrt", "tensorrt-rtx")
    with nullcontext() if on_gpu else closing(SpeedProbe()) as probe:
        if plan.subject == "model":
            size = engine.preprocess_config(padded_hw)
            images = [preprocess(rgb, size) for _, rgb, _ in firsts]
            fps, measured = _model(engine, images, padded_hw, plan, firsts[0][2], probe, machine_watch)
        else:
            prefetch = plan.load == "offline"
            config = SessionConfig(
                padded_hw=padded_hw,
                num_requests=num_requests_for(len(videos), prefetch=prefetch),
                prefetch=prefetch,
                keeps_clip=plan.clip_every != 1,
            )
            with engine.session(_load_backend(engine, config, plan), config) as session:
                fps, measured = _pipeline(session, videos, plan, [rate for _, _, rate in firsts], probe, machine_watch)
    machine_watch.stop()
    height_px, width_px = firsts[0][1].shape[:2]
    measured_input = BenchInput(
        sources=list(dict.fromkeys(name for name, _, _ in firsts)),
        image_px=(width_px, height_px),
        padded_px=(padded_hw[1], padded_hw[0]),
        fps=fps,
    )
    return measured_input, measured


def _load_backend(engine: Engine, config: SessionConfig, plan: BenchPlan) -> Backend:
    backend = engine.load_backend(config)
    return SlowedBackend(backend, plan.slowed_by) if plan.slowed_by else backend


def _model(
    engine: Engine,
    images: Sequence[ModelInput],
    padded_hw: tuple[int, int],
    plan: BenchPlan,
    video_fps: float,
    probe: Probe | None,
    machine_watch: MachineWatch,
) -> tuple[float | None, MeasuredLoad]:
    config = SessionConfig(padded_hw=padded_hw, num_requests=num_requests_for(len(images), prefetch=False))
    with closing(_load_backend(engine, config, plan)) as backend:
        num_requests = backend.capacity.num_requests
        infer = TimedInference(backend, engine.postprocess, device_wait(engine.backend_name))
        if plan.load == "closed":
            with closing(ModelQueries(infer, images, num_requests)) as queries:
                return None, measure_closed(queries.ask, plan, probe, machine_watch.start)
        fps = plan.fps or video_fps
        if plan.times_rate is not None:
            with closing(ModelQueries(infer, images, num_requests)) as queries:
                fps = plan.times_rate * 1e3 / warm_up_until_stable(queries.ask, plan.warm_up_s).latency_ms
        return fps, measure_flow(lambda: ModelFlow(infer, images, num_requests, fps), plan, probe, machine_watch.start)


def _pipeline(
    session: Session,
    videos: Sequence[VideoOpener],
    plan: BenchPlan,
    video_fps: Sequence[float],
    probe: Probe | None,
    machine_watch: MachineWatch,
) -> tuple[float | None, MeasuredLoad]:
    def endless() -> list[FrameSource]:
        return [RepeatedSource(open_video) for open_video in videos]

    def flow(speeds: Sequence[float] | None) -> PipelineFlow:
        return PipelineFlow(session, endless(), StreamConfig(clip_every=plan.clip_every), speeds)

    closed = StreamConfig(max_age_s=math.inf, clip_every=plan.clip_every)
    if plan.load == "closed":
        with closing(PipelineQueries(session, endless(), closed)) as queries:
            return None, measure_closed(queries.ask, plan, probe, machine_watch.start)
    if plan.load == "offline":
        return None, measure_flow(lambda: flow(None), plan, probe, machine_watch.start)
    fps = plan.fps or video_fps[0]
    if plan.times_rate is not None:
        with closing(PipelineQueries(session, endless(), closed)) as queries:
            fps = plan.times_rate * 1e3 / warm_up_until_stable(queries.ask, plan.warm_up_s).latency_ms
    speeds = [fps / own_fps for own_fps in video_fps]
    return fps, measure_flow(lambda: flow(speeds), plan, probe, machine_watch.start)


def _first_frame(open_video: VideoOpener) -> tuple[str, NDArray[np.uint8], float]:
    """Name, first image and frame rate of a video."""
    with closing(open_video()) as video:
        for item in video:
            if isinstance(item, Frame):
                return video.info.name, item.rgb, 1 / nominal_step_s(video.info.average_rate)
        raise SourceError(f"expected frames in {video.info.name}, found none; name another video")


def device_wait(backend: BackendName) -> Callable[[], object]:
    """Function that waits for the device before a time is read: kernels of a GPU still run when torch's calls return.

    torch.cuda.synchronize where torch computes on CUDA; every other backend's answer lies in the host's memory.
    """
    if backend == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.synchronize
    return _no_wait


def clock_facts(wait: Callable[[], object]) -> dict[str, Any]:
    """Report section of the clock that times are read from."""
    info = time.get_clock_info("monotonic")
    return {
        "clock": f"time.monotonic ({info.implementation})",
        "resolution_ns": round(info.resolution * 1e9, 3),
        "device": "answers lie in the host's memory" if wait is _no_wait else "torch.cuda.synchronize",
    }


def _no_wait() -> None:
    return


def first_result_ms(video: str | Path, options: Sequence[str] = ()) -> float:
    """Cold start: milliseconds from starting `hoiclip run` in a fresh process to its first frame's JSON line.

    Args:
        options: of `hoiclip run`.

    Raises:
        SourceError: no frame came; the message is the command's own.
    """
    words = [sys.executable, "-m", "hoiclip_engine.cli", "run", str(video), "--jsonl", "-", "--max-frames", "1"]
    started = time.monotonic()
    with subprocess.Popen(
        [*words, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_same_code()
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(_FIRST_RESULT):
                taken_ms = (time.monotonic() - started) * 1e3
                process.communicate(timeout=LONGEST_COLD_START_S)
                return taken_ms
        output = " ".join(process.communicate()[1].split())
    raise SourceError(f"a fresh process gave no result: {output[-300:] or 'it printed nothing'}")


def _same_code() -> dict[str, str]:
    """Environment in which a new process imports the same code as this one."""
    roots = [str(Path(str(package.__file__)).parents[1]) for package in (hoiclip, hoiclip_engine, hoiclip_kernels)]
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*dict.fromkeys(roots), *([known] if known else [])])}


def artefact(engine: Engine, padded_hw: tuple[int, int]) -> dict[str, Any]:
    """Names and hashes of model, backend and graph; torch has no graph, as it runs the module itself."""
    module = backend_module(engine.backend_name)
    graph = engine.build.graph
    if graph is None and engine.backend_name != "torch":
        graph = exported_graph(engine.model, padded_hw)
    return {
        "model": engine.model.name,
        "model_sha256": engine.model.sha256(),
        "backend": engine.backend_name,
        "library": module.library(),
        "device": module.device(),
        "precision": engine.build.precision,
        "graph_sha256": None if graph is None else graph_sha256(graph),
    }


def recorded_accuracy(engine: Engine) -> Measurement:
    """mAP that the accuracy gate measured when it passed this build."""
    if engine.build.about is None:
        return unavailable("fp32 needs no accuracy gate, so none measured it; --accuracy N does")
    maps = engine.build.about.get("gate", {}).get("mean_precisions")
    if not isinstance(maps, Mapping):
        return unavailable(
            "its accuracy gate had no annotated images; --accuracy N with --data and --images measures it"
        )
    return Measurement(
        value={"mAP": round(float(maps["engine"]), 3), "pictures": int(maps["pictures"])},
        source=f"accuracy gate of the build, made {engine.build.about.get('made', 'at an unknown time')}",
    )


def measured_accuracy(
    engine: Engine, evaluation_set: EvaluationSet, count: int, on_image: Callable[[], None]
) -> Measurement:
    """mAP in percent of this engine on the first `count` images."""
    some = replace(evaluation_set, annotations=evaluation_set.annotations[:count])
    percent = measure_map(engine.detect, engine.vocabulary, some, on_image)
    return Measurement(
        value={"mAP": round(percent, 3), "pictures": len(some.annotations)}, source="measured by this command"
    )

"""Work of one worker process: splits a file, or infers one work item of it. Every outcome but its death is a report.

Nothing here knows how work is handed out.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hoiclip.core.atomic_write import atomic_write
from hoiclip.core.errors import HoiclipError, SinkError, SourceError
from hoiclip_engine.archive.cached_detections import CachedDetectionsWriter, CachedFrame, ItemSummary
from hoiclip_engine.archive.work_directory import (
    PLANNING,
    FileJob,
    JobReport,
    SplitPlan,
    WorkDirectory,
    make_split_plan,
)
from hoiclip_engine.engine import Engine, EngineConfig, num_requests_for
from hoiclip_engine.session import Session
from hoiclip_engine.sources.file import open_video
from hoiclip_engine.sources.segment import SegmentSource
from hoiclip_engine.streaming.frame_reader import FrameReader, ReadFrame
from hoiclip_engine.streaming.inference_schedule import ChangeGate, SceneSchedule
from hoiclip_engine.streaming.inference_worker import (
    QUEUE_FRAMES,
    Inference,
    every_nth,
    max_frames_waiting,
    prefetch_inferences,
)
from hoiclip_engine.types.frame import Frame
from hoiclip_engine.types.results import InferenceReason


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Engine settings of every worker. Plain values, to be sent to other processes."""

    model: str
    backend: str
    precision: str
    short_side_px: int | None
    detect_every: int | Literal["auto"]
    clip_every: int | Literal["auto"] = 1


def plan_work_items(job: FileJob) -> list[FileJob | JobReport]:
    """Work items of a file that are left; plans them where there is no plan yet."""
    directory = WorkDirectory(Path(job.folder))
    plan = directory.plan
    if plan is None:
        try:
            directory.begin(PLANNING)
            plan = make_split_plan(Path(job.path), job.segment_s, job.source_config)
            directory.keep_plan(plan)
        except Exception as error:
            return [_failed(job, error)]
        finally:
            directory.end(PLANNING)
    return [replace(job, work_item=work_item) for work_item in directory.items_left(plan)]


def may_begin(job: FileJob) -> bool:
    """Whether a work item is still wanted: no process has died of the file, and it is not processed as a whole now."""
    directory = WorkDirectory(Path(job.folder))
    plan = directory.plan
    return plan is not None and job.work_item in plan.work_items and directory.marks <= job.max_marks


class Worker:
    """Engine of one process; loaded with the first work item, so that its errors can be reported."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._engine: Engine | None = None
        self._session: Session | None = None

    def process(self, job: FileJob) -> JobReport:
        """Writes the detections of a work item to its work directory, whole or not at all."""
        directory = WorkDirectory(Path(job.folder))
        plan = directory.plan
        if plan is None or not may_begin(job):
            return JobReport(name=job.name, work_item=job.work_item)
        try:
            if self._engine is None:  # before the mark: a model that ends the process is not the file's fault
                self._engine = load_engine(self._config)
            directory.begin(job.work_item)
            summary = infer_work_item(self._session_for(plan), job, plan, self._config)
        except Exception as error:
            return _failed(job, error)
        finally:
            directory.end(job.work_item)
        return JobReport(
            name=job.name,
            work_item=job.work_item,
            frames=summary.counters.decoded,
            complete=summary.integrity is None or summary.integrity.complete,
        )

    def _session_for(self, plan: SplitPlan) -> Session:
        """The last session, if its padded size fits the file, else a new one."""
        assert self._engine is not None
        padded_hw = self._engine.padded_size_for(plan.info.height_px, plan.info.width_px)
        if self._session is None or self._session.config.padded_hw != padded_hw:
            if self._session is not None:
                self._session.close()  # before its memory is needed
                self._session = None
            requests = num_requests_for(1, prefetch=True)
            keeps_clip = self._config.clip_every != 1
            self._session = self._engine.compile(padded_hw, num_requests=requests, prefetch=True, keeps_clip=keeps_clip)
        return self._session


def load_engine(config: WorkerConfig) -> Engine:
    """Raises as Engine.load."""
    wanted = EngineConfig(backend=config.backend, precision=config.precision, short_side_px=config.short_side_px)
    return Engine.load(config.model, wanted)


def infer_work_item(session: Session, job: FileJob, plan: SplitPlan, worker_config: WorkerConfig) -> ItemSummary:
    """Writes the detections of a work item to its work directory.

    Raises:
        SourceError: nothing can be read.
        SinkError: the detections cannot be written.
        ModelError: the model cannot be compiled.
    """
    segment, width_px, height_px = plan.segment(job.work_item), plan.info.width_px, plan.info.height_px
    config = job.source_config
    source = open_video(job.path, config) if segment is None else SegmentSource(job.path, segment, config)
    every, room = worker_config.detect_every, max_frames_waiting(width_px, height_px)
    reader = FrameReader(source, room=QUEUE_FRAMES if every == 1 else room, waits=True)
    schedule = _Schedule(every)
    scenes = SceneSchedule(worker_config.clip_every)

    def submit(frame: Frame) -> Future[Inference]:
        return session.infer(frame.image, scenes.scene_of(frame))

    prefetched = prefetch_inferences(reader, submit, is_due=schedule.is_due, depth=session.prefetch_depth, room=room)
    try:
        with (
            atomic_write(WorkDirectory(Path(job.folder)).detections(job.work_item)) as path,
            CachedDetectionsWriter(path) as writer,
            closing(prefetched),
        ):
            for item, answer in prefetched:
                assert isinstance(item, ReadFrame)
                writer.add(_cached_frame(item, answer, schedule.reasons.popleft()))
            summary = ItemSummary(
                counters=source.counters, integrity=source.integrity if isinstance(source, SegmentSource) else None
            )
            writer.finish(summary)
    except OSError as error:
        raise SinkError(
            f"cannot write to {job.folder}: {error.strerror or error}; make room, and start again"
        ) from None
    finally:
        reader.close()
    return summary


class _Schedule:
    """Which frames of a segment are inferred, and why."""

    def __init__(self, every: int | Literal["auto"]) -> None:
        self._gate = ChangeGate() if every == "auto" else None
        self._is_nth = None if every == "auto" else every_nth(every)
        self.reasons: deque[InferenceReason | None] = deque()
        """Of frames that wait, in order."""

    def is_due(self, frame: Frame) -> bool:
        reason = None if self._gate is None else self._gate.why_infer(frame)
        self.reasons.append(reason)
        return self._is_nth(frame) if self._is_nth is not None else reason is not None


def _cached_frame(read: ReadFrame, answer: Future[Inference] | None, reason: InferenceReason | None) -> CachedFrame:
    frame = read.frame
    return CachedFrame(
        pts_s=frame.pts_s,
        width_px=frame.width_px,
        height_px=frame.height_px,
        detections=None if answer is None else answer.result().detections,
        reason=reason,
    )


def _failed(job: FileJob, error: Exception) -> JobReport:
    """Report of an error: a source's is the file's own, a model's or a disk's stops all work."""
    if isinstance(error, HoiclipError) and not isinstance(error, SourceError):
        return JobReport(name=job.name, work_item=job.work_item, error=_line(str(error)), fatal=error.exit_code)
    if isinstance(error, SourceError):
        return JobReport(name=job.name, work_item=job.work_item, error=_line(str(error)))
    return JobReport(
        name=job.name, work_item=job.work_item, error=_line(f"internal error, {type(error).__name__}: {error}")
    )


def _line(text: str) -> str:
    return " ".join(text.split())

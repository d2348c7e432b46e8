"""What a worker process does: it cuts a file, or looks at one unit of it. Every outcome but its own death is a report.

Nothing here knows who hands the work out.
"""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from hoiclip.errors import HoiclipError, SinkError, SourceError
from hoiclip_engine.ahead import QUEUE_FRAMES, looks_ahead_of, waiting_room
from hoiclip_engine.archive.looks_file import AboutLooks, LooksWriter, Seen
from hoiclip_engine.archive.plan import Plan, make_plan
from hoiclip_engine.archive.workplace import PLANNING, Workplace, whole_file
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.looker import Look
from hoiclip_engine.reader import FrameReader, Read
from hoiclip_engine.video.part_source import PartSource
from hoiclip_engine.video.source import open_video
from hoiclip_engine.video.source_config import Hwaccel, SourceConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class FileJob:
    """One file of the archive. Plain values, to be sent to other processes."""

    name: str
    """Of its results; no other file of the archive has it."""
    path: str
    folder: str
    """Its workplace."""
    part_s: float
    hwaccel: Hwaccel = "none"
    decoder_threads: int = 0
    """Of the process that leads, as workers see only their share of the processors."""
    unit: str = PLANNING
    most_marks: int = 0
    """Marks of processes at work, or dead, that may be on the file when another begins: beyond that somebody died, and
    the others should live."""

    @property
    def source_config(self) -> SourceConfig:
        return SourceConfig(hwaccel=self.hwaccel, decoder_threads=self.decoder_threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class LookConfig:
    """What every worker looks with. Plain values, to be sent to other processes."""

    model: str
    backend: str
    precision: str
    short_side_px: int | None
    detect_every: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of a job."""

    name: str
    unit: str
    frames: int = 0
    sound: bool = True
    """Whether a part came as announced."""
    error: str = ""
    """Why nothing can be had of the file."""
    fatal: int = 0
    """Exit code of an error that has nothing to do with the file: everything must stop."""


def cut(job: FileJob) -> list[FileJob | Report]:
    """The units of a file that are to be looked at now; plans it if nobody has yet."""
    place = Workplace(Path(job.folder))
    plan = place.plan
    if plan is None:
        try:
            place.begin(PLANNING)
            plan = make_plan(Path(job.path), job.part_s, job.source_config)
            place.keep_plan(plan)
        except Exception as error:
            return [_failed(job, error)]
        finally:
            place.end(PLANNING)
    return [replace(job, unit=unit) for unit in place.units_left(plan)]


def may_begin(job: FileJob) -> bool:
    """Whether a unit is still wanted now: nobody has died of the file, and nobody has taken it for a whole."""
    place = Workplace(Path(job.folder))
    plan = place.plan
    return plan is not None and job.unit in plan.units and place.marks <= job.most_marks


class Worker:
    """One process's engine; it is loaded with the first unit, so that what is wrong with it can be reported."""

    def __init__(self, config: LookConfig) -> None:
        self._config = config
        self._engine: Engine | None = None

    def look_at(self, job: FileJob) -> Report:
        """Leaves the looks at a unit in its workplace, whole or not at all."""
        place = Workplace(Path(job.folder))
        plan = place.plan
        if plan is None or not may_begin(job):
            return Report(name=job.name, unit=job.unit)
        try:
            if self._engine is None:  # before the mark: a model that ends the process is not the file's fault
                self._engine = engine_of(self._config)
            place.begin(job.unit)
            about = look_at_unit(self._engine, job, plan, self._config.detect_every)
        except Exception as error:
            return _failed(job, error)
        finally:
            place.end(job.unit)
        return Report(
            name=job.name,
            unit=job.unit,
            frames=about.counters.decoded,
            sound=about.sound is None or about.sound.complete,
        )


def engine_of(config: LookConfig) -> Engine:
    """Raises as Engine.load."""
    wanted = EngineConfig(backend=config.backend, precision=config.precision, short_side_px=config.short_side_px)
    return Engine.load(config.model, wanted)


def look_at_unit(engine: Engine, job: FileJob, plan: Plan, detect_every: int) -> AboutLooks:
    """Leaves the looks at a unit in its workplace.

    Raises:
        SourceError: nothing can be read.
        SinkError: the looks cannot be written.
        ModelError: the model cannot be compiled.
    """
    part, width_px, height_px = plan.part(job.unit), plan.info.width_px, plan.info.height_px
    lease = engine.lease_for_files(engine.canvas_for(height_px, width_px))
    looker, config = lease.looker, job.source_config
    source = open_video(job.path, config) if part is None else PartSource(job.path, part, config)
    room = waiting_room(width_px, height_px)
    reader = FrameReader(source, room=room if detect_every > 1 else QUEUE_FRAMES, waits=True)
    ahead = looks_ahead_of(reader, looker.look, every=detect_every, ahead=looker.frames_ahead, room=room)
    try:
        with (
            whole_file(Workplace(Path(job.folder)).looks(job.unit)) as path,
            LooksWriter(path) as writer,
            closing(ahead),
        ):
            for item, answer in ahead:
                assert isinstance(item, Read)
                writer.add(_seen(item, answer))
            about = AboutLooks(counters=source.counters, sound=source.sound if isinstance(source, PartSource) else None)
            writer.finish(about)
    except OSError as error:
        raise SinkError(
            f"cannot write to {job.folder}: {error.strerror or error}; make room, and start again"
        ) from None
    finally:
        reader.close()
        lease.release()
    return about


def _seen(read: Read, answer: Future[Look] | None) -> Seen:
    frame = read.frame
    return Seen(frame.pts_s, frame.width_px, frame.height_px, None if answer is None else answer.result().pairs)


def _failed(job: FileJob, error: Exception) -> Report:
    """A file's own fault is told of it; a model's or a disk's is everybody's."""
    if isinstance(error, HoiclipError) and not isinstance(error, SourceError):
        return Report(name=job.name, unit=job.unit, error=_line(str(error)), fatal=error.exit_code)
    if isinstance(error, SourceError):
        return Report(name=job.name, unit=job.unit, error=_line(str(error)))
    return Report(name=job.name, unit=job.unit, error=_line(f"internal error, {type(error).__name__}: {error}"))


def _line(text: str) -> str:
    return " ".join(text.split())

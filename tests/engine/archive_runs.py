"""Archive runs for tests: videos, a pool in this process, and the results of a single run."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Literal

from rich.progress import Progress

from hoiclip_engine.archive.coordinator import Coordinator, CoordinatorConfig
from hoiclip_engine.archive.manifest import Manifest
from hoiclip_engine.archive.work_directory import FileJob, JobReport, WorkDirectory
from hoiclip_engine.archive.worker import Worker, WorkerConfig, may_begin, plan_work_items
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.events.rules import RuleSet
from hoiclip_engine.sinks.jsonl_sink import JsonlSink
from hoiclip_engine.streaming.stream import StreamConfig
from tests.engine.untrained import untrained_model
from tests.engine.video_files import write_clip

Every = int | Literal["auto"]
TORCH = EngineConfig(backend="torch", precision="fp32")


def write_video(path: Path, frames: int) -> Path:
    """Writes a video with keyframes every half second."""
    return write_clip(path, [40 * index for index in range(frames)], gop=12, b_frames=2)


def single_run(
    engine: Engine, path: Path, folder: Path, detect_every: Every = 1, rules: RuleSet | None = None
) -> list[str]:
    """JSON lines of a file, without the summary, as `hoiclip run` writes them."""
    stream = engine.open(path, StreamConfig(detect_every=detect_every, rules=rules))
    target = folder / f"single-{path.stem}.jsonl"
    sink = JsonlSink(target)
    sink.start(stream.header)
    for result in stream:
        sink.write(result)
    sink.finish(stream.summary)
    return repeatable(target)


def repeatable(path: Path) -> list[str]:
    """Lines without the summary, which holds wall times."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert '"type":"summary"' in lines[-1]
    return lines[:-1]


@cache
def _worker(detect_every: Every) -> Worker:
    """A worker shared by all pools: compiling takes most of the time."""
    config = WorkerConfig(
        model=str(untrained_model()),
        backend="torch",
        precision="fp32",
        short_side_px=None,
        detect_every=detect_every,
    )
    return Worker(config)


class Workers:
    """A pool without processes: jobs run one after the other, in this one.

    For files in `deadly` it leaves the same traces as a worker that dies of them.
    """

    workers = 2

    def __init__(
        self,
        detect_every: Every = 1,
        deadly: Iterable[str] = (),
        deaths: int = 99,
        worker: Worker | None = None,
    ) -> None:
        self._worker = worker or _worker(detect_every)
        self._deadly, self._deaths = set(deadly), deaths
        self.processed: list[tuple[str, str]] = []
        self.rounds: list[int] = []

    def run(self, jobs: Sequence[FileJob], *, workers: int) -> Generator[JobReport | None, None, None]:
        self.rounds.append(workers)
        for job in jobs:
            for item in plan_work_items(FileJob(**asdict(job))):
                yield self._process(item) if isinstance(item, FileJob) else item

    def _process(self, job: FileJob) -> JobReport | None:
        if not may_begin(job):
            return None
        self.processed.append((job.name, job.work_item))
        if job.name in self._deadly and self._deaths:
            self._deaths -= 1
            WorkDirectory(Path(job.folder)).begin(job.work_item)
            return None
        return self._worker.process(job)


class RayPoolStandIn(Workers):
    """Those of `hoiclip archive`, in place of ray_pool.RayPool."""

    def __init__(self, worker_config: WorkerConfig, _config: object) -> None:
        super().__init__(worker=Worker(worker_config))

    def __enter__(self) -> RayPoolStandIn:
        return self

    def __exit__(self, *_: object) -> None:
        return


def coordinate(
    engine: Engine,
    out: Path,
    files: Sequence[Path],
    pool: Workers | None = None,
    detect_every: Every = 1,
    rules: RuleSet | None = None,
    segment_s: float = 0.5,
) -> tuple[Coordinator, Manifest]:
    """Coordinator of one call, which has finished its work if a pool is given."""
    out.mkdir(exist_ok=True)
    manifest = Manifest.at(out, {"model_sha256": engine.model.sha256()}, {})
    entries = manifest.add([str(path) for path in files])
    for entry in entries:
        entry.renew()
    config = CoordinatorConfig(stream=StreamConfig(detect_every=detect_every, rules=rules), segment_s=segment_s)
    coordinator = Coordinator(engine.stream_factory, manifest, entries, config, Progress(disable=True))
    coordinator.settle()
    if pool is not None:
        coordinator.work(pool)
        coordinator.close()
    return coordinator, manifest

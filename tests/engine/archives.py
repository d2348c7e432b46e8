"""Archives for tests: files, a model, and what a single process makes of them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

from rich.progress import Progress

from hoiclip_engine.archive.lead import Lead, LeadConfig
from hoiclip_engine.archive.manifest import Manifest
from hoiclip_engine.archive.work import FileJob, LookConfig, Report, Worker, cut, may_begin
from hoiclip_engine.archive.workplace import Workplace
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.pipeline import StreamConfig
from hoiclip_engine.sinks.jsonl_sink import JsonlSink
from tests.engine.making_videos import write_clip
from tests.engine.untrained import untrained_model

TORCH = EngineConfig(backend="torch", precision="fp32")


def write_film(path: Path, frames: int) -> Path:
    """With key frames every half second."""
    return write_clip(path, [40 * index for index in range(frames)], gop=12, b_frames=2)


def single_run(engine: Engine, path: Path, folder: Path, detect_every: int = 1) -> list[str]:
    """The lines of a file, but for the summary, as `hoiclip run` writes them."""
    stream = engine.open(path, StreamConfig(detect_every=detect_every))
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
def _worker(detect_every: int) -> Worker:
    """One for all pools: compiling takes most of the time."""
    config = LookConfig(
        model=str(untrained_model()),
        backend="torch",
        precision="fp32",
        short_side_px=None,
        detect_every=detect_every,
    )
    return Worker(config)


class Workers:
    """A pool without processes: jobs one after the other, in this one. Files that `deadly` names end a worker each time
    that it begins with them, as far as anybody can see."""

    workers = 2

    def __init__(self, detect_every: int = 1, deadly: Iterable[str] = (), deaths: int = 99) -> None:
        self._worker = _worker(detect_every)
        self._deadly, self._deaths = set(deadly), deaths
        self.looked_at: list[tuple[str, str]] = []
        self.rounds: list[int] = []

    def run(self, jobs: Sequence[FileJob], *, workers: int) -> Generator[Report | None, None, None]:
        self.rounds.append(workers)
        for job in jobs:
            for one in cut(FileJob(**asdict(job))):
                if isinstance(one, FileJob):
                    yield self._look_at(one)
                else:
                    yield one

    def _look_at(self, job: FileJob) -> Report | None:
        if not may_begin(job):
            return None
        self.looked_at.append((job.name, job.unit))
        if job.name in self._deadly and self._deaths:
            self._deaths -= 1
            Workplace(Path(job.folder)).begin(job.unit)
            return None
        return self._worker.look_at(job)


def lead(
    engine: Engine, out: Path, files: Sequence[Path], pool: Workers | None = None, detect_every: int = 1
) -> tuple[Lead, Manifest]:
    """A leader of one call, who has worked if a pool is given."""
    out.mkdir(exist_ok=True)
    manifest = Manifest.at(out, {"model_sha256": engine.model.sha256()}, {})
    entries = manifest.add([str(path) for path in files])
    for entry in entries:
        entry.renew()
    config = LeadConfig(stream=StreamConfig(detect_every=detect_every), part_s=0.5)
    made = Lead(engine, manifest, entries, config, Progress(disable=True))
    made.settle()
    if pool is not None:
        made.work(pool)
        made.close()
    return made, manifest

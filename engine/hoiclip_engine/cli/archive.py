"""hoiclip archive: many files through many processes into one folder of results, which a later call resumes.

This process coordinates: it hands work out, tracks each file once all of it is inferred, and keeps the manifest.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.core.errors import PARTIAL, BackendMissing, SourceError, UsageError
from hoiclip.core.file_lock import try_lock
from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import messages, progress, table
from hoiclip_engine.cli.distinct_files import existing, model_inputs, require_distinct, source_inputs
from hoiclip_engine.cli.signals import stopping_on_signals

if TYPE_CHECKING:
    from hoiclip_engine.archive.manifest import Entry, Manifest
    from hoiclip_engine.archive.worker import WorkerConfig
    from hoiclip_engine.engine import Engine, EngineConfig
    from hoiclip_engine.sources.base import Hwaccel
    from hoiclip_engine.sources.uri import SourceAddress
    from hoiclip_engine.streaming.stream import StreamConfig


EXAMPLES = """\
  hoiclip archive videos/ -o results --workers 2          again after an interrupt: it resumes
  hoiclip archive videos.txt -o results --detect-every auto --retry-failed
  hoiclip archive videos/ -o results --rules rules.toml   hits of rules, among the events
  hoiclip archive videos/ -o results --ray-address head:6379
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", nargs="+", metavar="SRC", help="video or image file, folder, glob or list (.txt)")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="results; an interrupted archive resumes"
    )
    options.add_model(parser)
    options.add_backend(parser)
    options.add_short_side(parser)
    options.add_detect_every(parser)
    options.add_clip_every(parser)
    parser.add_argument("--min-score", type=options.real, metavar="X", help="report pairs from this score on")
    parser.add_argument(
        "--workers", type=options.concurrency, metavar="N", help="processes (default: one per GPU or four processors)"
    )
    parser.add_argument(
        "--segment-seconds",
        type=options.real,
        default=60.0,
        metavar="S",
        help="length of the segments a file is split into (default: 60)",
    )
    options.add_hwaccel(parser)
    options.add_rules(parser)
    parser.add_argument("--retry-failed", action="store_true", help="try files again that failed before")
    parser.add_argument(
        "--ray-address", metavar="HOST:PORT", help="a Ray cluster to use (default: one of its own, on this machine)"
    )


def run(args: argparse.Namespace) -> int:
    try:
        import hoiclip_engine.archive.coordinator  # noqa: F401
    except ImportError as error:
        raise BackendMissing(f"hoiclip archive needs {error.name}; pip install 'hoiclip[archive]'") from error
    from hoiclip_engine.engine import EngineConfig
    from hoiclip_engine.models import find_model
    from hoiclip_engine.sources.source_list import expand_sources
    from hoiclip_engine.streaming.stream import StreamConfig

    rules = options.rules_of(args)
    try:
        track = options.track_config(args.min_score)
        config = ArchiveConfig(
            out=args.out,
            stream=StreamConfig(
                detect_every=args.detect_every, clip_every=args.clip_every, rules=rules, clock=args.clock
            ),
            segment_s=args.segment_seconds,
            hwaccel=args.hwaccel,
            workers=args.workers,
            retry_failed=args.retry_failed,
            ray_address=args.ray_address,
            rules_file=str(args.rules),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    engine = EngineConfig(backend=args.backend, precision=args.precision, short_side_px=args.short_side, track=track)
    addresses, model = expand_sources(args.source), find_model(args.model)
    require_distinct(
        [*source_inputs(args.source, addresses), *model_inputs(model, args.vocabulary), *filter(None, [args.rules])],
        existing(args.out, "manifest.json", ".lock", "jsonl/*", "parquet/*", "work/**/*"),
        [args.out],
        args.source,
    )
    return archive(find_model(model, args.vocabulary), engine, addresses, config)


_PACKAGES = ("hoiclip", "ray", "pyarrow", "av", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveConfig:
    """Settings of the work on an archive."""

    out: Path
    stream: StreamConfig
    """Which frames are inferred, and the rules of which hits are reported with them."""
    segment_s: float = 60.0
    """Seconds of a file that are inferred in one go, and lost at most where a process dies."""
    hwaccel: Hwaccel = "none"
    workers: int | None = None
    retry_failed: bool = False
    ray_address: str | None = None
    rules_file: str = "rules"
    """Origin of the rules, for messages."""

    def __post_init__(self) -> None:
        if not 1 <= self.segment_s < float("inf"):
            raise ValueError(f"segments must be at least a second long, got {self.segment_s} s")


def archive(model: Path, engine_config: EngineConfig, addresses: Sequence[SourceAddress], config: ArchiveConfig) -> int:
    """Infers and tracks every file that is not done.

    Returns:
        The exit code: 0; 7 where some files failed and others did not, 3 where all did; or 130/143 after a signal.

    Raises:
        UsageError: a source is no file, a rule has unknown words, or the folder holds other results.
        ModelError, BackendMissing, SinkError: no worker can work.
    """
    from hoiclip.core.atomic_write import make_folder
    from hoiclip_engine.archive.manifest import Manifest
    from hoiclip_engine.archive.worker import WorkerConfig
    from hoiclip_engine.engine import Engine

    _check_files(addresses)
    path = model.resolve()
    with Engine.load(path, engine_config) as engine:
        if config.stream.rules is not None:
            config.stream.rules.check_words(engine.vocabulary, config.rules_file)
        worker_config = WorkerConfig(
            model=str(path),
            backend=engine.backend_name,
            precision=engine.build.precision,
            short_side_px=engine_config.short_side_px,
            detect_every=config.stream.detect_every,
            clip_every=config.stream.clip_every,
        )
        make_folder(config.out)
        with _locked(config.out):
            manifest = Manifest.at(config.out, _settings(engine, engine_config, config), _versions(engine))
            entries = _entries(manifest, addresses, config)
            notices = [engine.model.notice, _unused_schedules(config)]
            for notice in filter(None, notices):
                messages.print(f"Note: {notice}", style="yellow")
            return _work(engine, worker_config, manifest, entries, config)


def _work(
    engine: Engine, worker_config: WorkerConfig, manifest: Manifest, entries: Sequence[Entry], config: ArchiveConfig
) -> int:
    # Imported here: a pool needs Ray, which --help must not.
    from hoiclip_engine.archive.coordinator import Coordinator, CoordinatorConfig
    from hoiclip_engine.archive.ray_pool import PoolConfig, RayPool

    pool_config = PoolConfig(workers=config.workers, on_gpu=_on_gpu(engine), address=config.ray_address)
    coordinator_config = CoordinatorConfig(
        stream=config.stream,
        segment_s=config.segment_s,
        hwaccel=config.hwaccel,
    )
    with progress() as bar:
        coordinator = Coordinator(engine.stream_factory, manifest, entries, coordinator_config, bar)
        with stopping_on_signals(coordinator.stop) as signalled, closing(coordinator):
            if coordinator.settle():
                with RayPool(worker_config, pool_config) as pool:
                    coordinator.work(pool)
    _report(entries)
    return 128 + signalled[0] if signalled else _exit_code(entries)


def _check_files(addresses: Sequence[SourceAddress]) -> None:
    for address in addresses:
        if address.kind != "file":
            raise UsageError(
                f"expected files, which wait, found {address.name}; hoiclip run follows streams and cameras"
            )


def _entries(manifest: Manifest, addresses: Sequence[SourceAddress], config: ArchiveConfig) -> list[Entry]:
    entries = manifest.add([os.path.abspath(address.location) for address in addresses])
    for entry in entries:
        if entry.renew():
            manifest.work_directory(entry).remove()  # before the manifest: detections of another file must not stay
        elif entry.state == "failed" and config.retry_failed:
            entry.reset()
    return entries


def _settings(engine: Engine, engine_config: EngineConfig, config: ArchiveConfig) -> dict[str, Any]:
    stream = config.stream
    return {
        "model": engine.model.name,
        "model_sha256": engine.model.sha256(),
        "backend": engine.backend_name,
        "precision": engine.build.precision,
        "short_side_px": engine_config.short_side_px,
        "detect_every": stream.detect_every,
        "clip_every": stream.clip_every,
        "min_score": engine_config.track.min_score,
        "rules": stream.rules.as_dict()["rule"] if stream.rules is not None else None,
        "clock": stream.clock.astimezone().isoformat() if stream.clock is not None else None,
    }


def _unused_schedules(config: ArchiveConfig) -> str:
    """A line about schedules that do not count; empty where all do."""
    rules = config.stream.rules
    if rules is None or not rules.scheduled or config.stream.clock is not None:
        return ""
    names = ", ".join(rules.scheduled)
    return f"schedules do not count in files, which have no time of day ({names}); give --clock"


def _versions(engine: Engine) -> dict[str, str]:
    from hoiclip_engine.backends.registry import backend_module

    found = {"python": platform.python_version(), "backend": backend_module(engine.backend_name).library()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a bare checkout
            continue
    return found


def _on_gpu(engine: Engine) -> bool:
    if engine.backend_name != "torch":
        return engine.backend_name.startswith("tensorrt")
    import torch

    return torch.cuda.is_available()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises UsageError: another process works in this folder."""
    with (folder / ".lock").open("w") as file:
        if not try_lock(file):
            raise UsageError(f"expected to be alone in {folder}, found another hoiclip archive at work; wait for it")
        yield


def _report(entries: Sequence[Entry]) -> None:
    for entry in entries:
        if entry.state == "failed":
            messages.print(f"hoiclip: {entry.error}", level=logging.ERROR)
    states = [entry.state for entry in entries]
    done = [entry for entry in entries if entry.state == "done"]
    rows = [
        ("files", ", ".join(f"{states.count(state)} {state}" for state in ("done", "failed", "pending"))),
        ("frames", sum(entry.frames or 0 for entry in done)),
        ("found", f"{sum(e.pairs or 0 for e in done)} pairs, {sum(e.events or 0 for e in done)} events"),
    ]
    if any(entry.hits is not None for entry in done):
        rows.append(("rules", f"{sum(entry.hits or 0 for entry in done)} hits"))
    messages.print(table("Archive", ("what", "value"), rows))


def _exit_code(entries: Sequence[Entry]) -> int:
    states = {entry.state for entry in entries}
    if states == {"done"}:
        return 0
    return PARTIAL if "done" in states else SourceError.exit_code

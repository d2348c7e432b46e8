"""hoiclip archive: many files through many processes into one folder of results, which a later call goes on with.

This process leads: it hands work out, tracks each file once all of it has been looked at, and keeps the manifest.
"""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hoiclip.errors import SourceError, UsageError
from hoiclip_engine.archive.lead import Lead, LeadConfig
from hoiclip_engine.archive.manifest import Entry, Manifest
from hoiclip_engine.archive.work import LookConfig
from hoiclip_engine.backends import backend_module
from hoiclip_engine.commands.console import messages, progress, table
from hoiclip_engine.commands.feed import PARTIAL
from hoiclip_engine.commands.signals import stopping_on_signals
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.folder import make_folder
from hoiclip_engine.models import find_model
from hoiclip_engine.pipeline import StreamConfig
from hoiclip_engine.video.address import Address
from hoiclip_engine.video.source_config import Hwaccel

_PACKAGES = ("hoiclip", "ray", "pyarrow", "av", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveConfig:
    """What is done with an archive, and by whom."""

    out: Path
    detect_every: int = 1
    part_s: float = 60.0
    """Seconds of a file that are looked at in one go, and lost at most where a process dies."""
    hwaccel: Hwaccel = "none"
    workers: int | None = None
    retry_failed: bool = False
    ray_address: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.part_s < float("inf"):
            raise ValueError(f"segments must be at least a second long, got {self.part_s} s")


def archive(model: str, engine_config: EngineConfig, addresses: Sequence[Address], config: ArchiveConfig) -> int:
    """Looks at what has not been looked at, and tracks it.

    Returns:
        The exit code: 0; 7 where some files failed and others did not, 3 where all did; or 130/143 after a signal.

    Raises:
        UsageError: something that is no file, or a folder of other results.
        ModelError, BackendMissing, SinkError: nobody can work.
    """
    _check_files(addresses)
    path = find_model(model).resolve()
    with Engine.load(path, engine_config) as engine:
        look = LookConfig(
            model=str(path),
            backend=engine.backend_name,
            precision=engine.build.precision,
            short_side_px=engine_config.short_side_px,
            detect_every=config.detect_every,
        )
        make_folder(config.out)
        with _locked(config.out):
            manifest = Manifest.at(config.out, _settings(engine, engine_config, config), _versions(engine))
            entries = _entries(manifest, addresses, config)
            if engine.model.notice:
                messages.print(f"Note: {engine.model.notice}", style="yellow")
            return _work(engine, look, manifest, entries, config)


def _work(engine: Engine, look: LookConfig, manifest: Manifest, entries: Sequence[Entry], config: ArchiveConfig) -> int:
    # Imported here: a pool needs Ray, and who only asks for --help has none.
    from hoiclip_engine.archive.ray_pool import PoolConfig, RayPool

    pool_config = PoolConfig(workers=config.workers, on_gpu=_on_gpu(engine), address=config.ray_address)
    lead_config = LeadConfig(
        stream=StreamConfig(detect_every=config.detect_every), part_s=config.part_s, hwaccel=config.hwaccel
    )
    with progress() as bar:
        lead = Lead(engine, manifest, entries, lead_config, bar)
        with stopping_on_signals(lead.stop) as signalled, closing(lead):
            if lead.settle():
                with RayPool(look, pool_config) as pool:
                    lead.work(pool)
    _tell(entries)
    return 128 + signalled[0] if signalled else _conclusion(entries)


def _check_files(addresses: Sequence[Address]) -> None:
    for address in addresses:
        if address.kind != "file":
            raise UsageError(
                f"expected files, which wait, found {address.name}; hoiclip run follows streams and cameras"
            )


def _entries(manifest: Manifest, addresses: Sequence[Address], config: ArchiveConfig) -> list[Entry]:
    entries = manifest.add([os.path.abspath(address.location) for address in addresses])
    for entry in entries:
        if entry.renew():
            manifest.workplace(entry).remove()  # before the manifest says so: looks at another file must not stay
        elif entry.state == "failed" and config.retry_failed:
            entry.reset()
    return entries


def _settings(engine: Engine, engine_config: EngineConfig, config: ArchiveConfig) -> dict[str, Any]:
    return {
        "model": engine.model.name,
        "model_sha256": engine.model.sha256(),
        "backend": engine.backend_name,
        "precision": engine.build.precision,
        "short_side_px": engine_config.short_side_px,
        "detect_every": config.detect_every,
        "min_score": engine_config.track.min_score,
    }


def _versions(engine: Engine) -> dict[str, str]:
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
    """Raises UsageError: another process leads in this folder."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"expected to be alone in {folder}, found another hoiclip archive at work; wait for it"
            ) from None
        yield


def _tell(entries: Sequence[Entry]) -> None:
    for entry in entries:
        if entry.state == "failed":
            messages.print(f"hoiclip: {entry.error}")
    states = [entry.state for entry in entries]
    found = [entry for entry in entries if entry.state == "done"]
    rows = [
        ("files", ", ".join(f"{states.count(state)} {state}" for state in ("done", "failed", "pending"))),
        ("frames", sum(entry.frames or 0 for entry in found)),
        ("found", f"{sum(e.pairs or 0 for e in found)} pairs, {sum(e.events or 0 for e in found)} events"),
    ]
    messages.print(table("Archive", ("what", "value"), rows))


def _conclusion(entries: Sequence[Entry]) -> int:
    states = {entry.state for entry in entries}
    if states == {"done"}:
        return 0
    return PARTIAL if "done" in states else SourceError.exit_code

"""Fetches released checkpoints: downloaded, and checked by their SHA-256.

A digest that is not published is recorded at the first fetch, in a JSON file beside the download, and holds from then
on. Importing a model is up to the caller; addresses and names are in released.toml.
"""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from hoiclip.checkpoint.download import Report, download, remove_download
from hoiclip.checkpoint.released import Released
from hoiclip.core.atomic_write import atomic_write, write_file
from hoiclip.core.cache_dirs import cache_folder
from hoiclip.core.errors import BackendMissing, ModelError
from hoiclip.core.foreign_file import read_json
from hoiclip.core.model_file import file_sha256, write_tensors
from hoiclip.core.torch_extra import require_torch
from hoiclip.core.wall_time import utc_text


@dataclass(frozen=True, slots=True)
class FetchRecord:
    """What was fetched under a name."""

    address: str
    sha256: str
    """Of the released file."""
    size_bytes: int
    result_sha256: str
    """Of the file that was made of it."""
    fetched: str
    """UTC, ISO 8601."""


def fetched_before(entry: Released) -> bool:
    """Whether its file is here, and still what was fetched.

    Raises:
        ModelError: another file lies there.
    """
    if not entry.path.exists() or (entry.path == entry.download_path and _read_record(entry) is None):
        return False
    record = _read_record(entry)
    if record is None:
        raise ModelError(f"{entry.path} is in the way: hoiclip did not fetch it; move it elsewhere, and fetch again")
    if file_sha256(entry.path) != record.result_sha256:
        raise ModelError(
            f"expected {entry.path} as it was fetched on {record.fetched[:10]}, found it changed; move it elsewhere, "
            "and fetch again"
        )
    return True


def fetch(entry: Released, report: Report, convert: Callable[[Path, Path], object]) -> Path:
    """Downloads, checks and converts a checkpoint; nothing but a download that can be resumed is left after an error.

    Args:
        report: see download.
        convert: makes the file to use (second path) of the released file (first path), or raises.

    Returns:
        The file to use, `entry.path`.

    Raises:
        BackendMissing: a package of the extra `fetch` is missing.
        ModelError: the file is not the one that was released, or is no checkpoint.
        SourceError, SinkError, UsageError: see download.
    """
    require_packages(entry)
    for kind in ("fetched", "models"):
        cache_folder(kind)
    released = entry.download_path
    if not released.is_file():
        copies = 1 if entry.path == released else 2
        download(entry.address, released, report, google_drive=entry.google_drive, copies=copies)
    try:
        _check(entry)
        if entry.path == released:
            _write_record(entry, released)
            return released
        with atomic_write(entry.path) as made:
            convert(released, made)
            _write_record(entry, made)
    except ModelError:
        remove_download(released)
        raise
    remove_download(released)
    return entry.path


def require_packages(entry: Released) -> None:
    """Raises BackendMissing before anything is downloaded in vain."""
    if entry.kind != "detr":
        require_torch(f"fetching {entry.name}", "open_clip")
    if entry.google_drive and importlib.util.find_spec("gdown") is None:
        raise BackendMissing(f"fetching {entry.name} needs gdown, which is not installed; pip install 'hoiclip[fetch]'")


def convert_clip(released: Path, target: Path) -> None:
    """OpenAI's CLIP, a TorchScript program, as a state dict that recipes can name.

    Only for a file whose whole SHA-256 was checked: loading a program may run it.

    Raises:
        ModelError: no TorchScript program.
        SinkError: the file cannot be written.
    """
    import torch

    try:
        state = torch.jit.load(str(released), map_location="cpu").state_dict()
    except RuntimeError as error:
        raise ModelError(f"expected a TorchScript program in {released}, found none; fetch it again") from error
    tensors = {name: value.clone() for name, value in state.items() if value.is_floating_point()}
    write_tensors(target, tensors, {"from": released.name, "from_sha256": file_sha256(released)})


def _check(entry: Released) -> None:
    """Raises ModelError: not the bytes that were released, or that were fetched before."""
    released, found = entry.download_path, file_sha256(entry.download_path)
    if not found.startswith(entry.sha256):
        raise ModelError(
            f"expected SHA-256 {entry.sha256} of {entry.address}, found {found} in {released.stat().st_size} bytes; "
            "nothing was kept, fetch it again"
        )
    record = _read_record(entry)
    if record is not None and record.sha256 != found:
        raise ModelError(
            f"expected SHA-256 {record.sha256} of {entry.address} as on {record.fetched[:10]}, found {found}; nothing "
            f"was kept. If its authors replaced it, remove {_record_file(entry)} and fetch again"
        )
    if not entry.sha256:
        _check_archive(released)


def _check_archive(path: Path) -> None:
    """Checks the checksums that an archive of torch.save holds itself; files of older kinds hold none.

    Raises:
        ModelError: its bytes have others.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # damaged archives raise almost anything
        raise ModelError(f"the download is damaged ({error}); nothing was kept, fetch it again") from error
    if damaged is not None:
        raise ModelError(f"the download is damaged, first in {damaged!a:.80}; nothing was kept, fetch it again")


def _record_file(entry: Released) -> Path:
    return entry.download_path.with_name(f"{entry.name}.json")


def _read_record(entry: Released) -> FetchRecord | None:
    try:
        record = FetchRecord(**read_json(_record_file(entry)))
        if not isinstance(record.fetched, str):
            raise ValueError(f"fetched is {record.fetched!r:.40}")
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError) as error:
        raise ModelError(
            f"{_record_file(entry)} is damaged ({error}); remove it and fetch {entry.name} again"
        ) from error
    return record if record.address == entry.address else None


def _write_record(entry: Released, result: Path) -> None:
    released = entry.download_path
    now = utc_text()
    record = FetchRecord(entry.address, file_sha256(released), released.stat().st_size, file_sha256(result), now)
    write_file(_record_file(entry), json.dumps(asdict(record)))

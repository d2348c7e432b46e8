"""What was seen in the frames of a unit, untracked and exact to the bit, as a Parquet file.

A row per frame: its time and size, and the triplets of `Pairs` as lists, null where nobody looked. What is known of the
whole unit lies in the file's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hoiclip.errors import SourceError
from hoiclip_engine.pairs import Pairs
from hoiclip_engine.video.frame_source import SourceCounters
from hoiclip_engine.video.part_source import Sound

ROWS = 256
"""Frames that are in memory at a time."""
_ABOUT = b"hoiclip"
_KINDS: dict[str, tuple[pa.DataType, type[np.generic], int]] = {
    "query": (pa.int32(), np.int64, 1),
    "human_boxes_xyxy": (pa.float32(), np.float32, 4),
    "object_boxes_xyxy": (pa.float32(), np.float32, 4),
    "label": (pa.int32(), np.int64, 1),
    "verb": (pa.int32(), np.int64, 1),
    "hoi": (pa.int32(), np.int64, 1),
    "score": (pa.float64(), np.float64, 1),
    "verb_score": (pa.float64(), np.float64, 1),
}
"""Of each field of Pairs: how it is kept, what it is, and how many numbers a triplet has."""
_SCHEMA = pa.schema(
    [
        pa.field("pts_s", pa.float64(), nullable=False),
        pa.field("width_px", pa.int32(), nullable=False),
        pa.field("height_px", pa.int32(), nullable=False),
        *(pa.field(name, pa.list_(kind)) for name, (kind, _, _) in _KINDS.items()),
    ]
)
assert set(_KINDS) == {field.name for field in fields(Pairs)}


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame without its picture, and what was seen in it; None where nobody looked."""

    pts_s: float
    width_px: int
    height_px: int
    pairs: Pairs | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutLooks:
    """What is known of a unit once it has been looked at."""

    counters: SourceCounters
    sound: Sound | None
    """Of a part; None for a whole file."""


class LooksWriter:
    """Writes frames as they come. Finish it, or the file is none."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, _SCHEMA, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> LooksWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(self, seen: Seen) -> None:
        row: dict[str, Any] = {"pts_s": seen.pts_s, "width_px": seen.width_px, "height_px": seen.height_px}
        for name in _KINDS:
            row[name] = None if seen.pairs is None else getattr(seen.pairs, name).ravel()
        self._rows.append(row)
        if len(self._rows) >= ROWS:
            self._flush()

    def finish(self, about: AboutLooks) -> None:
        """Writes what waits, and what is known of the whole."""
        self._flush()
        self._writer.add_key_value_metadata({_ABOUT: json.dumps(asdict(about)).encode()})

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=_SCHEMA))
            self._rows = []


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"expected what was seen in {path}, found it damaged ({type(error).__name__})"
        raise SourceError(f"{what}; try again with --retry-failed") from error


def about_looks(path: Path) -> AboutLooks:
    """Raises SourceError: not a file of looks."""
    with _reading(path):
        about = json.loads(pq.read_metadata(path).metadata[_ABOUT])
        sound = None if about["sound"] is None else Sound(**about["sound"])
        return AboutLooks(
            counters=SourceCounters(**{**about["counters"], "notes": tuple(about["counters"].get("notes", ()))}),
            sound=sound,
        )


def read_looks(path: Path) -> Iterator[Seen]:
    """The frames of a unit in order, few of them in memory. Raises SourceError: not a file of looks."""
    with _reading(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS):
            columns = {name: batch.column(name) for name in _SCHEMA.names}
            for row in range(batch.num_rows):
                width_px, height_px = columns["width_px"][row].as_py(), columns["height_px"][row].as_py()
                yield Seen(columns["pts_s"][row].as_py(), width_px, height_px, _pairs(columns, row))


def _pairs(columns: dict[str, pa.Array], row: int) -> Pairs | None:
    if not columns["score"][row].is_valid:
        return None
    found: dict[str, Any] = {}
    for name, (_, kind, numbers) in _KINDS.items():
        values = columns[name][row].values.to_numpy(zero_copy_only=False).astype(kind)
        found[name] = values.reshape(-1, numbers) if numbers > 1 else values
    return Pairs(**found)

"""Cached detections of a work item, untracked and exact to the bit, as a Parquet file.

A row per frame: its time and size, the triplets of HOIDetections as lists, null where the frame was not inferred, and
why it was inferred, null also where nothing but its number decided.
The summary of the work item lies in the file's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hoiclip.core.detections import HOIDetections
from hoiclip.core.errors import SourceError
from hoiclip_engine.sources.base import SourceCounters
from hoiclip_engine.sources.segment import SegmentIntegrity
from hoiclip_engine.types.results import InferenceReason

ROWS = 256
"""Frames that are in memory at a time."""
_SUMMARY = b"hoiclip"
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
"""For each field of HOIDetections: type in the file, type in memory, and numbers per triplet."""
_SCHEMA = pa.schema(
    [
        pa.field("pts_s", pa.float64(), nullable=False),
        pa.field("width_px", pa.int32(), nullable=False),
        pa.field("height_px", pa.int32(), nullable=False),
        *(pa.field(name, pa.list_(kind)) for name, (kind, _, _) in _KINDS.items()),
        pa.field("reason", pa.string()),
    ]
)
assert set(_KINDS) == {field.name for field in fields(HOIDetections)}


@dataclass(frozen=True, slots=True)
class CachedFrame:
    """What an archive keeps of a frame until its file is tracked."""

    pts_s: float
    width_px: int
    height_px: int
    detections: HOIDetections | None
    """None where it was not inferred."""
    reason: InferenceReason | None = None
    """Why it was inferred, where changes decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSummary:
    """Counts of an inferred work item, and the integrity of its segment."""

    counters: SourceCounters
    integrity: SegmentIntegrity | None
    """None for a whole file."""


def _summary_to_json(summary: ItemSummary) -> dict[str, Any]:
    integrity = None if summary.integrity is None else asdict(summary.integrity)
    return {"counters": asdict(summary.counters), "sound": integrity}


class CachedDetectionsWriter:
    """Writes frames as they come. Without `finish` the file is not valid."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, _SCHEMA, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> CachedDetectionsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(self, frame: CachedFrame) -> None:
        row: dict[str, Any] = {"pts_s": frame.pts_s, "width_px": frame.width_px, "height_px": frame.height_px}
        for name in _KINDS:
            row[name] = None if frame.detections is None else getattr(frame.detections, name).ravel()
        row["reason"] = frame.reason
        self._rows.append(row)
        if len(self._rows) >= ROWS:
            self._flush()

    def finish(self, summary: ItemSummary) -> None:
        """Writes the remaining rows and the summary."""
        self._flush()
        self._writer.add_key_value_metadata({_SUMMARY: json.dumps(_summary_to_json(summary)).encode()})

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=_SCHEMA))
            self._rows = []


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"expected cached detections in {path}, found them damaged ({type(error).__name__})"
        raise SourceError(f"{what}; try again with --retry-failed") from error


def read_item_summary(path: Path) -> ItemSummary:
    """Raises SourceError: not a file of cached detections."""
    with _reading(path):
        summary = json.loads(pq.read_metadata(path).metadata[_SUMMARY])
        counters, integrity = summary["counters"], summary["sound"]
        return ItemSummary(
            counters=SourceCounters(**{**counters, "notes": tuple(counters.get("notes", ()))}),
            integrity=None if integrity is None else SegmentIntegrity(**integrity),
        )


def read_cached_frames(path: Path) -> Iterator[CachedFrame]:
    """Frames of a work item in order, few of them in memory. Raises SourceError: not a file of cached detections."""
    with _reading(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS):
            columns = {name: batch.column(name) for name in _SCHEMA.names}
            for row in range(batch.num_rows):
                yield CachedFrame(
                    pts_s=columns["pts_s"][row].as_py(),
                    width_px=columns["width_px"][row].as_py(),
                    height_px=columns["height_px"][row].as_py(),
                    detections=_detections(columns, row),
                    reason=_reason(columns["reason"][row].as_py()),
                )


def _reason(text: str | None) -> InferenceReason | None:
    if text is not None and text not in get_args(InferenceReason):
        raise ValueError(f"unknown reason {text!r}")
    return cast("InferenceReason | None", text)


def _detections(columns: dict[str, pa.Array], row: int) -> HOIDetections | None:
    if not columns["score"][row].is_valid:
        return None
    found: dict[str, Any] = {}
    for name, (_, kind, numbers) in _KINDS.items():
        values = columns[name][row].values.to_numpy(zero_copy_only=False).astype(kind)
        found[name] = values.reshape(-1, numbers) if numbers > 1 else values
    return HOIDetections(**found)

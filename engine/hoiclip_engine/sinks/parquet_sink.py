"""Parquet for data frames and query engines: a row per pair and frame, with the numbers of the JSON lines.

Columns: COLUMNS. Frames without pairs have no row. The file's metadata holds the run's header under "hoiclip".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hoiclip.core.errors import SinkError
from hoiclip_engine.sinks.jsonl_sink import header_fields, pair_fields, rounded_time
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink

ROWS = 4096
"""Rows that wait to be written together."""
_BOX = ("x1", "y1", "x2", "y2")
_VERB = pa.struct([("verb", pa.string()), ("score", pa.float32()), ("active", pa.bool_())])
COLUMNS = pa.schema(
    [
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("pts_s", pa.float64(), nullable=False),
        pa.field("detected", pa.bool_(), nullable=False),
        pa.field("pair", pa.int64(), nullable=False),
        pa.field("human", pa.int64(), nullable=False),
        pa.field("object", pa.int64()),
        pa.field("label", pa.string()),
        pa.field("score", pa.float32()),
        *(pa.field(f"human_{corner}_px", pa.float32()) for corner in _BOX),
        *(pa.field(f"object_{corner}_px", pa.float32()) for corner in _BOX),
        pa.field("verbs", pa.list_(_VERB), nullable=False),
    ]
)
"""`frame` counts from 0; object, label and the object's box are null where a person acts without one; verbs are those
that are listed in JSON lines, best first."""


class ParquetSink(Sink):
    """One Parquet file, which is valid once it is finished."""

    def __init__(self, path: Path) -> None:
        """Touches no file."""
        self._path = path

    def start(self, header: RunHeader) -> None:
        """Raises SinkError: the file cannot be created."""
        self._vocabulary, self._rows = header.vocabulary, list[dict[str, Any]]()
        about = {b"hoiclip": json.dumps(header_fields(header)).encode()}
        try:
            self._writer = pq.ParquetWriter(self._path, COLUMNS.with_metadata(about), compression="zstd")
        except OSError as error:
            raise self._failure(error) from None

    def write(self, result: FrameResult) -> None:
        """Raises SinkError: the disk is full."""
        frame = {"frame": result.index, "pts_s": rounded_time(result.pts_s), "detected": result.detected}
        for row in range(len(result.pairs)):
            pair = pair_fields(result.pairs, row, self._vocabulary)
            boxes = _corners("human", pair.pop("human_box_xyxy")) | _corners("object", pair.pop("object_box_xyxy"))
            self._rows.append({**frame, **pair, **boxes})
        if len(self._rows) >= ROWS:
            self._flush()

    def finish(self, summary: RunSummary) -> None:
        """Raises SinkError: the disk is full."""
        self._flush()
        try:
            self._writer.close()
        except OSError as error:
            raise self._failure(error) from None

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        try:
            if rows:
                self._writer.write_table(pa.Table.from_pylist(rows, schema=COLUMNS))
        except OSError as error:
            raise self._failure(error) from None

    def _failure(self, error: OSError) -> SinkError:
        reason = error.strerror or error
        return SinkError(f"cannot write {self._path}: {reason}; choose a place that exists, is writable and has room")


def _corners(name: str, box_xyxy: list[float | None] | None) -> dict[str, float | None]:
    return {f"{name}_{corner}_px": at for corner, at in zip(_BOX, box_xyxy or [None] * 4, strict=True)}

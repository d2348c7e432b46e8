"""Which other files an ONNX graph reads, told without the onnx package, which a machine that only runs has not.

A walk over protobuf's wire format along the fields that lead to tensors; it reads nothing else and allocates nothing
that a foreign file could make large.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

INSIDE: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
"""Message to field number to message, as far as a tensor with external data may lie below (onnx.proto)."""
_KEY, _VALUE = 1, 2
_LONGEST = 4096
"""Bytes of a file name."""


def external_files(graph: Path) -> set[str]:
    """Names of the files with weights outside, as the graph says them; not checked for what they lead to.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no ONNX.
    """
    names: set[str] = set()
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        waiting = [(0, len(data), "ModelProto")]
        while waiting:
            start, end, message = waiting.pop()
            if message == "StringStringEntryProto":
                names |= _location(data, start, end)
                continue
            for field, begin, stop in _parts(data, start, end):
                if field in INSIDE[message]:
                    waiting.append((begin, stop, INSIDE[message][field]))
    return names


def _location(data: mmap.mmap, start: int, end: int) -> set[str]:
    """The value of an entry whose key is "location"."""
    parts = list(_parts(data, start, end))
    if not any(field == _KEY and data[begin:stop] == b"location" for field, begin, stop in parts if stop - begin == 8):
        return set()
    if any(stop - begin > _LONGEST for _, begin, stop in parts):
        raise ValueError("a file name of more than 4096 bytes")
    return {data[begin:stop].decode() for field, begin, stop in parts if field == _VALUE}


def _parts(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of every field of a message that is text, bytes or a message."""
    position = start
    while position < end:
        tag, position = _varint(data, position, end)
        field, kind = tag >> 3, tag & 7
        if kind == 0:
            _, position = _varint(data, position, end)
        elif kind == 2:
            size, begin = _varint(data, position, end)
            position = begin + size
            if position <= end:
                yield field, begin, position
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        else:
            raise ValueError(f"no ONNX: field {field} is of kind {kind}")
    if position > end:
        raise ValueError("no ONNX: a field is longer than what holds it")


def _varint(data: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    """The number, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError("no ONNX: it ends in the middle of a number")

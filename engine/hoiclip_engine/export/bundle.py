"""A bundle: the folder of `hoiclip export --with-model` with model file, graph and metadata, which runs without torch.

The folder may come from anywhere. Where it is not as its metadata says, the error is one line, and no file outside it
is read. The files with external weights of a graph are found without the onnx package, which a runtime machine lacks: a
reader walks the wire format of protobuf along the fields that lead to tensors. It reads nothing else and allocates
nothing that a foreign file could make large.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import ModelFile, file_sha256
from hoiclip_engine.export.graph_spec import GRAPH_VERSION, METADATA_FILE, OPSETS, GraphSpec, read_metadata

EXPORT_AGAIN = "export it again: hoiclip export MODEL -o DIR --with-model"
SUBMESSAGES: Mapping[str, Mapping[int, str]] = {
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
"""By message and field number, the message below, as far as a tensor with external data may lie in it (onnx.proto)."""
_KEY = 1
_VALUE = 2
_MAX_NAME_BYTES = 4096


@dataclass(frozen=True, slots=True)
class _BundledGraph:
    """The entry of a graph that `hoiclip run` can take."""

    file: str
    sha256: str
    data: Mapping[str, str]
    """Hashes of the files with external weights, by name."""
    spec: GraphSpec


def bundled_model(folder: Path) -> Path:
    """The model file of a bundle.

    Raises:
        ModelError: the folder is no bundle, or the model file is missing or another one.
    """
    metadata = read_metadata(folder, EXPORT_AGAIN)
    name = metadata["model"].get("file")
    if name is None:
        raise ModelError(f"{folder} holds graphs without their model file; {EXPORT_AGAIN}")
    try:
        return _checked_file(folder, name, metadata["model"].get("sha256"), ".safetensors")
    except ValueError as error:
        raise ModelError(f"{folder} cannot be run: {error}; {EXPORT_AGAIN}") from error


def bundled_graph(model: ModelFile, memory: str) -> Path | None:
    """The graph of one image that lies beside a model file; None where no metadata there is of this very file.

    Args:
        memory: the preferred form; a graph of the other form is taken where this one is missing.

    Raises:
        ModelError: model or graph are not those of the metadata, or no graph has that form.
    """
    folder = model.path.parent
    try:
        metadata = read_metadata(folder, EXPORT_AGAIN)
    except ModelError:
        return None  # a model.json of another program
    if metadata["model"].get("file") != model.path.name:
        return None
    try:
        if metadata["model"].get("sha256") != model.sha256():
            raise ValueError(f"{model.path.name} is another model file than that of {METADATA_FILE}")
        return _checked_graph(folder, _select_graph(metadata, memory))
    except ValueError as error:
        raise ModelError(f"{folder} cannot be run: {error}; {EXPORT_AGAIN}") from error


def external_files(graph: Path) -> set[str]:
    """Names of the files with external weights, as they stand in the graph; not checked for the paths they lead to.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is no ONNX.
    """
    names: set[str] = set()
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        waiting = [(0, len(data), "ModelProto")]
        while waiting:
            start, end, message = waiting.pop()
            if message == "StringStringEntryProto":
                names |= _location(data, start, end)
                continue
            for field, begin, stop in _fields(data, start, end):
                if field in SUBMESSAGES[message]:
                    waiting.append((begin, stop, SUBMESSAGES[message][field]))
    return names


def _select_graph(metadata: Mapping[str, Any], memory: str) -> _BundledGraph:
    """Raises ValueError: run takes none of the graphs."""
    if (version := metadata.get("graph_version")) != GRAPH_VERSION:
        raise ValueError(f"its graphs are of version {ascii(version)[:20]}, expected {GRAPH_VERSION}")
    entries = metadata.get("graphs")
    graphs = [_parse_entry(entry) for entry in entries] if isinstance(entries, list) else []
    fitting = [graph for graph in graphs if graph is not None]
    if not fitting:
        raise ValueError("expected a whole, plain graph in fp32 for one image of any size, found none")
    return min(fitting, key=lambda graph: graph.spec.memory != memory)


def _parse_entry(entry: object) -> _BundledGraph | None:
    """One graph; None for a sound entry of a graph that run cannot take.

    Raises:
        ValueError: the entry describes no graph.
    """
    try:
        if not isinstance(entry, dict):
            raise TypeError
        spec = GraphSpec.from_json(entry["form"])
        data = entry.get("data", {})
        if not (isinstance(data, dict) and all(isinstance(text, str) for text in (entry["file"], entry["sha256"]))):
            raise TypeError
        runs = (
            (spec.part, spec.attention, spec.batch, spec.padded_hw) == ("whole", "plain", 1, None)
            and spec.memory in ("projected", "absorbed")
            and spec.opset in OPSETS
            and "precision" not in entry
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{METADATA_FILE} is damaged") from error
    return _BundledGraph(entry["file"], entry["sha256"], data, spec) if runs else None


def _checked_graph(folder: Path, graph: _BundledGraph) -> Path:
    """The graph's file, unchanged, which reads no file but those whose hashes are in the metadata.

    Raises:
        ValueError: it is changed, or reads another file.
    """
    path = _checked_file(folder, graph.file, graph.sha256, ".onnx")
    try:
        names = external_files(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{graph.file} is no graph ({error})") from error
    for name in names:
        if name not in graph.data:
            raise ValueError(f"{graph.file} reads a file that {METADATA_FILE} does not list")
        _checked_file(folder, name, graph.data[name], "")
    return path


def _checked_file(folder: Path, name: object, sha256: object, suffix: str) -> Path:
    """A file in the folder itself, of these bytes.

    Raises:
        ValueError: the name leads elsewhere, or the file is missing or another one.
    """
    if not isinstance(name, str) or not name.isprintable() or Path(name).name != name or not name.endswith(suffix):
        raise ValueError(f"expected the name of a {suffix or 'file'} in {METADATA_FILE}, found {ascii(name)[:60]}")
    path = folder / name
    try:
        if path.is_symlink() or not path.is_file():
            raise ValueError(f"{name} is missing")
        found = file_sha256(path)
    except OSError as error:
        raise ValueError(f"{name} cannot be read ({error.strerror})") from error
    if found != sha256:
        raise ValueError(f"{name} is damaged or another file (sha256 {found[:12]}..., expected {ascii(sha256)[:14]})")
    return path


def _location(data: mmap.mmap, start: int, end: int) -> set[str]:
    """The value of an entry whose key is "location"."""
    fields = list(_fields(data, start, end))
    if not any(field == _KEY and data[begin:stop] == b"location" for field, begin, stop in fields if stop - begin == 8):
        return set()
    if any(stop - begin > _MAX_NAME_BYTES for _, begin, stop in fields):
        raise ValueError("a file name of more than 4096 bytes")
    return {data[begin:stop].decode() for field, begin, stop in fields if field == _VALUE}


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
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

"""A folder of `hoiclip export --with-model`: model file, graph and sidecar, all that a machine without torch runs.

The folder may come from anywhere. What in it is not as its sidecar says is one line, and no file outside it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoiclip.checkpoint.model_file import ModelFile, file_sha256
from hoiclip.errors import ModelError
from hoiclip_engine import sidecar
from hoiclip_engine.graph_form import GRAPH_VERSION, OPSETS, GraphForm
from hoiclip_engine.onnx_files import external_files

AGAIN = "export it again: hoiclip export MODEL -o DIR --with-model"


@dataclass(frozen=True, slots=True)
class _Graph:
    """What a sidecar says of one graph that run can take."""

    file: str
    sha256: str
    data: Mapping[str, str]
    """Hashes of the files with its weights, where they are outside."""
    form: GraphForm


def model_in(folder: Path) -> Path:
    """The model file of such a folder.

    Raises:
        ModelError: it is none, or the model file is missing or another one.
    """
    told = sidecar.read(folder, AGAIN)
    name = told["model"].get("file")
    if name is None:
        raise ModelError(f"{folder} holds graphs without their model file; {AGAIN}")
    try:
        return _file(folder, name, told["model"].get("sha256"), ".safetensors")
    except ValueError as error:
        raise ModelError(f"{folder} cannot be run: {error}; {AGAIN}") from error


def graph_beside(model: ModelFile, memory: str) -> Path | None:
    """The graph of one picture that lies beside a model file, where a sidecar there is of this very file.

    Args:
        memory: how the graph should look at it; one that does the other way is taken where this one is not there.

    Raises:
        ModelError: model or graph are not what the sidecar says, or no graph there is of that form.
    """
    folder = model.path.parent
    try:
        told = sidecar.read(folder, AGAIN)
    except ModelError:
        return None  # somebody else's model.json
    if told["model"].get("file") != model.path.name:
        return None
    try:
        if told["model"].get("sha256") != model.sha256():
            raise ValueError(f"{model.path.name} is another model file than {sidecar.NAME} tells of")
        return _checked(folder, _chosen(told, memory))
    except ValueError as error:
        raise ModelError(f"{folder} cannot be run: {error}; {AGAIN}") from error


def _chosen(told: Mapping[str, Any], memory: str) -> _Graph:
    """Raises ValueError: run takes none of the graphs."""
    if (version := told.get("graph_version")) != GRAPH_VERSION:
        raise ValueError(f"its graphs are of version {ascii(version)[:20]}, expected {GRAPH_VERSION}")
    entries = told.get("graphs")
    graphs = [_graph(entry) for entry in entries] if isinstance(entries, list) else []
    fitting = [one for one in graphs if one is not None]
    if not fitting:
        raise ValueError("expected a whole, plain graph in fp32 for one picture of any size, found none")
    return min(fitting, key=lambda one: one.form.memory != memory)


def _graph(entry: object) -> _Graph | None:
    """One graph; None: a sound one that run cannot take.

    Raises:
        ValueError: no graph is described like that.
    """
    try:
        if not isinstance(entry, dict):
            raise TypeError
        form = GraphForm(**entry["form"])
        data = entry.get("data", {})
        if not (isinstance(data, dict) and all(isinstance(one, str) for one in (entry["file"], entry["sha256"]))):
            raise TypeError
        runs = (
            (form.part, form.attention, form.batch, form.canvas_hw) == ("whole", "plain", 1, None)
            and form.memory in ("projected", "absorbed")
            and form.opset in OPSETS
            and "precision" not in entry
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{sidecar.NAME} is damaged") from error
    return _Graph(entry["file"], entry["sha256"], data, form) if runs else None


def _checked(folder: Path, graph: _Graph) -> Path:
    """The graph's file, whole, and reading no file but those whose hashes are told.

    Raises:
        ValueError: it is not.
    """
    path = _file(folder, graph.file, graph.sha256, ".onnx")
    try:
        outside = external_files(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{graph.file} is no graph ({error})") from error
    for name in outside:
        if name not in graph.data:
            raise ValueError(f"{graph.file} reads a file that {sidecar.NAME} does not tell of")
        _file(folder, name, graph.data[name], "")
    return path


def _file(folder: Path, name: object, sha256: object, suffix: str) -> Path:
    """A file in the folder itself, of these bytes.

    Raises:
        ValueError: the name leads elsewhere, or the file is missing or another one.
    """
    if not isinstance(name, str) or not name.isprintable() or Path(name).name != name or not name.endswith(suffix):
        raise ValueError(f"expected the name of a {suffix or 'file'} in {sidecar.NAME}, found {ascii(name)[:60]}")
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

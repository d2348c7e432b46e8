"""TensorRT and TensorRT-RTX as one library: the same calls on another module, from version 10.3 to 11.

Imports neither until needed. Their log lines are kept here, so that an error can quote the library. Layers are counted
by kind and precision, of a network as the parser made it or of a finished engine.
"""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from hoiclip.core.errors import BackendMissing

TensorRtLibrary = Literal["tensorrt", "tensorrt-rtx"]
MODULES: dict[TensorRtLibrary, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
OLDEST_VERSIONS: dict[TensorRtLibrary, tuple[int, int]] = {"tensorrt": (10, 3), "tensorrt-rtx": (1, 2)}
"""JetPack 6 has 10.3. TensorRT-RTX counts for itself; from 1.2 on its engines can be captured in CUDA graphs."""
LayerCounts = dict[str, dict[str, int]]
"""Count by kind, then by precision."""
NO_REASON = "it does not say why"
_ERROR, _INFO = 1, 3
"""ILogger.Severity of both libraries: 0 internal error, 1 error, 2 warning, 3 info, 4 verbose."""
_MAX_LINE = 400
_LOGGERS: dict[int, tuple[Any, Any]] = {}
"""By the id of a module, which is kept with it so that no other module gets the id."""
_MULTIPLYING = ("CONVOLUTION", "MATRIX_MULTIPLY")
_RESHAPING = ("SHUFFLE", "SQUEEZE", "UNSQUEEZE")
"""Layers between a dequantization and its consumer that change no number."""
_TYPE_NAMES = {
    **{name: name for name in ("int8", "int32", "int64", "bool", "bf16", "half", "float")},
    **{"fp16": "half", "fp32": "float"},
}
"""Type names of an inspector, in lower case, and the names used here."""


def load_library(name: TensorRtLibrary) -> Any:
    """The module.

    Raises:
        BackendMissing: not installed, not loadable, or too old.
    """
    try:
        module = importlib.import_module(MODULES[name])
    except ImportError as error:
        raise BackendMissing(f"{name} cannot be imported: {one_line(error)}; pip install 'hoiclip[{name}]'") from error
    except (RuntimeError, OSError) as error:  # its wheels load shared libraries on import
        raise BackendMissing(f"{name} is installed but does not load: {one_line(error)}") from error
    if library_version(module) < OLDEST_VERSIONS[name]:
        least = ".".join(map(str, OLDEST_VERSIONS[name]))
        raise BackendMissing(f"expected {name} {least} or newer, found {module.__version__}; update it")
    return module


def library_version(trt: Any) -> tuple[int, int]:
    """Major and minor."""
    major, minor = str(trt.__version__).split(".")[:2]
    return int(major), int(minor)


def library_logger(trt: Any, on_line: Callable[[str], None] | None = None) -> Any:
    """The logger of the library; `errors` are the lines it logged as such. One for all: it takes no second one.

    Args:
        on_line: from now on also called with every line from information on.
    """
    if id(trt) in _LOGGERS:
        _, log = _LOGGERS[id(trt)]
        log.on_line = on_line or log.on_line
        return log

    class LibraryLogger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.on_line = on_line

        def log(self, severity: Any, text: str) -> None:
            if int(severity) <= _ERROR:
                self.errors.append(one_line(text))
            if self.on_line is not None and int(severity) <= _INFO:
                self.on_line(one_line(text))

    log = LibraryLogger()
    _LOGGERS[id(trt)] = (trt, log)
    return log


def first_error_since(log: Any, count: int) -> str:
    """The first error after so many: later ones are mostly its consequences."""
    return log.errors[count] if len(log.errors) > count else NO_REASON


def load_plugins(registry: Any, plugins: Iterable[Path], log: Any) -> list[Any]:
    """Registers the operators of plugin libraries, which both the builder and the runtime of an engine need.

    Returns:
        Handles, by which the registry can unload them.

    Raises:
        BackendMissing: a file is missing, or the library cannot load it.
    """
    handles = []
    for plugin in plugins:
        if not plugin.is_file():
            raise BackendMissing(f"plugin library {plugin} is missing; build it (docs/kernels.md)")
        before = len(log.errors)
        handle = registry.load_library(str(plugin))
        reason = first_error_since(log, before)
        if handle is None and "exists already" not in reason:  # its operators, since an earlier engine
            raise BackendMissing(f"plugin library {plugin} cannot be loaded: {reason}; build it again")
        handles.append(handle)
    return handles


def one_line(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= _MAX_LINE else line[: _MAX_LINE - 1] + "…"


def network_layers(network: Any) -> LayerCounts:
    """Layers before the builder fuses them. A product of two dequantized tensors counts as int8: it becomes one."""
    producers: dict[str, Any] = {}
    layers = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        producers.update({layer.get_output(at).name: layer for at in range(layer.num_outputs)})
        layers.append(layer)
    return _count_layers((layer.type.name, _precision(layer, producers)) for layer in layers)


def engine_layers(trt: Any, engine: Any) -> LayerCounts:
    """Layers as the engine runs them, fused. Needs the engine on its GPU; empty where it was built without details."""
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    layers = [layer for layer in json.loads(text).get("Layers", []) if isinstance(layer, dict)]
    return _count_layers((str(layer.get("LayerType", "unknown")), _output_type(layer)) for layer in layers)


def _precision(layer: Any, producers: dict[str, Any]) -> str:
    multiplies = layer.type.name in _MULTIPLYING and layer.num_inputs > 1
    if multiplies and all(_is_dequantized(layer.get_input(at), producers) for at in (0, 1)):
        return "int8"
    output = layer.get_output(0) if layer.num_outputs else None
    return output.dtype.name.lower() if output is not None else "none"


def _is_dequantized(tensor: Any, producers: dict[str, Any]) -> bool:
    producer = producers.get(tensor.name) if tensor is not None else None
    while producer is not None and producer.type.name in _RESHAPING:
        before = producer.get_input(0)
        producer = producers.get(before.name) if before is not None else None
    return producer is not None and producer.type.name == "DEQUANTIZE"


def _output_type(layer: dict[str, Any]) -> str:
    """10.x has "Format/Datatype": "Half tensor, ..."; 11 has the two apart."""
    outputs = [output for output in layer.get("Outputs", []) if isinstance(output, dict)]
    if not outputs:
        return "none"
    text = outputs[0].get("Format/Datatype") or outputs[0].get("DataType") or outputs[0].get("Datatype") or "unknown"
    lowered = str(text).lower()
    return next((name for theirs, name in _TYPE_NAMES.items() if theirs in lowered), "unknown")


def _count_layers(kinds_and_precisions: Iterable[tuple[str, str]]) -> LayerCounts:
    counts: LayerCounts = {}
    for (kind, precision), count in sorted(Counter(kinds_and_precisions).items()):
        counts.setdefault(kind, {})[precision] = count
    return counts

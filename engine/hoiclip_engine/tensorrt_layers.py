"""How many layers of which kind and precision: of a network as the parser made it, or of a finished engine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

Layers = dict[str, dict[str, int]]
"""Count by kind, then by precision."""
_MULTIPLIES = ("CONVOLUTION", "MATRIX_MULTIPLY")
_CARRIERS = ("SHUFFLE", "SQUEEZE", "UNSQUEEZE")
"""Layers between a dequantisation and its consumer that change no number."""

_SAID = {
    **{name: name for name in ("int8", "int32", "int64", "bool", "bf16", "half", "float")},
    **{"fp16": "half", "fp32": "float"},
}
"""What an inspector calls a type, in lower case, and what it is called here."""


def network_layers(network: Any) -> Layers:
    """Layers before the builder fuses them. A product of two dequantised tensors counts as int8: it becomes one."""
    makers: dict[str, Any] = {}
    found = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        makers.update({layer.get_output(at).name: layer for at in range(layer.num_outputs)})
        found.append(layer)
    return _counted((layer.type.name, _precision(layer, makers)) for layer in found)


def _precision(layer: Any, makers: dict[str, Any]) -> str:
    kind = layer.type.name
    if kind in _MULTIPLIES and layer.num_inputs > 1 and all(_dequantised(layer.get_input(at), makers) for at in (0, 1)):
        return "int8"
    output = layer.get_output(0) if layer.num_outputs else None
    return output.dtype.name.lower() if output is not None else "none"


def _dequantised(tensor: Any, makers: dict[str, Any]) -> bool:
    maker = makers.get(tensor.name) if tensor is not None else None
    while maker is not None and maker.type.name in _CARRIERS:
        before = maker.get_input(0)
        maker = makers.get(before.name) if before is not None else None
    return maker is not None and maker.type.name == "DEQUANTIZE"


def engine_layers(trt: Any, engine: Any) -> Layers:
    """Layers as the engine runs them, fused. Needs the engine on its GPU; empty where it was built without details."""
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    layers = [one for one in json.loads(text).get("Layers", []) if isinstance(one, dict)]
    return _counted((str(one.get("LayerType", "unknown")), _output_type(one)) for one in layers)


def _output_type(layer: dict[str, Any]) -> str:
    """10.x says "Format/Datatype": "Half tensor, ..."; 11 has the two apart."""
    outputs = [one for one in layer.get("Outputs", []) if isinstance(one, dict)]
    if not outputs:
        return "none"
    both = outputs[0].get("Format/Datatype") or outputs[0].get("DataType") or outputs[0].get("Datatype") or "unknown"
    lowered = str(both).lower()
    return next((name for said, name in _SAID.items() if said in lowered), "unknown")


def _counted(pairs: Iterable[tuple[str, str]]) -> Layers:
    counts = Counter(pairs)
    layers: Layers = {}
    for (kind, precision), count in sorted(counts.items()):
        layers.setdefault(kind, {})[precision] = count
    return layers

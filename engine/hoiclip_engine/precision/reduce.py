"""The graph of a lower precision, made by the library that knows the runtime best, as the one policy says."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from numpy.typing import NDArray

from hoiclip.errors import UsageError
from hoiclip_engine.precision import Precision
from hoiclip_engine.precision.policy import policy

Target = Literal["openvino", "tensorrt"]
TARGETS: tuple[Target, ...] = get_args(Target)
REDUCED: Mapping[Target, tuple[Precision, ...]] = {"openvino": ("int8",), "tensorrt": ("fp16", "int8")}
"""What a graph of its own is made for; OpenVINO computes the fp32 graph in bf16 by itself."""
Inputs = Mapping[str, NDArray[Any]]


def require_reducible(target: Target, precision: Precision) -> None:
    """Raises UsageError: there is no graph of this precision for the runtime."""
    if precision not in REDUCED[target]:
        known = ", ".join(REDUCED[target])
        raise UsageError(f"expected one of {known} for {target}, got {precision}; name another --precision or --for")


def reduced(graph: Path, target: Target, precision: Precision, samples: Sequence[Inputs], room: Path) -> Path:
    """Writes the graph into a folder, under the name the fp32 graph has; inputs and outputs keep names and types.

    Args:
        graph: fp32 ONNX, nodes named by node_names; not in `room`.
        samples: what the graph takes; int8 finds its scales with all of them, fp16 looks for large values in the first.

    Raises:
        UsageError: there is no graph of this precision for the runtime.
        BackendMissing: what makes it is not installed.
        ModelError: it cannot be made.
    """
    require_reducible(target, precision)
    if target == "openvino":
        from hoiclip_engine.precision.nncf_int8 import quantised

        out = room / f"{graph.stem}.xml"
        quantised(graph, samples, out)
        return out
    import onnx

    from hoiclip_engine.precision.modelopt_fp16 import to_fp16
    from hoiclip_engine.precision.modelopt_int8 import to_int8

    out, content = room / graph.name, onnx.load(graph, load_external_data=False)
    half = policy("fp16").nodes(content)
    if precision == "fp16":
        to_fp16(graph, out, half, samples[0])
    else:
        to_int8(graph, out, policy("int8").nodes(content), samples, "fp16", half)
    return out


def made_by(target: Target) -> str:
    """Name and version of the library that makes graphs for a runtime."""
    name = "nncf" if target == "openvino" else "nvidia-modelopt"
    return f"{name} {importlib.metadata.version(name)}"

"""The graph of a lower precision, made by the library that knows the backend best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip.errors import UsageError
from hoiclip_engine.backends import BackendName
from hoiclip_engine.export import exported_graph
from hoiclip_engine.precision import Precision

COMPUTES: Mapping[BackendName, tuple[Precision, ...]] = {
    "torch": ("fp16", "bf16"),
    "openvino": ("int8", "bf16"),
    "onnxruntime": (),
}
"""Below fp32. Which of them a machine is fast in, the backend knows."""
Inputs = Mapping[str, NDArray[Any]]


def reduced_graph(
    model: ModelFile,
    backend: BackendName,
    precision: Precision,
    canvas_hw: tuple[int, int],
    calibration: Sequence[Inputs],
    room: Path,
) -> Path | None:
    """A graph of its own in `room`, which is otherwise empty, or None where the backend needs none.

    Args:
        canvas_hw: decides how the detector's memory is looked at; the graph serves any canvas.

    Raises:
        BackendMissing: what makes the graph is not installed.
        ModelError: it cannot be made.
    """
    if (backend, precision) != ("openvino", "int8"):
        return None
    from hoiclip_engine.precision.nncf_int8 import quantised

    out = room / "model.xml"
    quantised(exported_graph(model, canvas_hw), calibration, out)
    return out


def require_computed(backend: BackendName, precision: Precision) -> None:
    """Raises UsageError: the backend does not compute in this precision."""
    if precision not in COMPUTES[backend]:
        known = ", ".join(("fp32", *COMPUTES[backend]))
        raise UsageError(f"{backend} does not compute in {precision}, but in {known}; name another --precision")

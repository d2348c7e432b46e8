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
        UsageError: the backend does not compute in this precision.
        BackendMissing: what makes the graph is not installed.
        ModelError: it cannot be made.
    """
    match backend, precision:
        case "openvino", "int8":
            from hoiclip_engine.precision.nncf_int8 import quantised

            out = room / "model.xml"
            quantised(exported_graph(model, canvas_hw), calibration, out)
            return out
        case ("openvino", "bf16") | ("torch", "fp16" | "bf16"):
            return None
        case _:
            raise UsageError(f"{backend} does not compute in {precision}; see hoiclip build --help")

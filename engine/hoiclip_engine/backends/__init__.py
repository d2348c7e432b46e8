"""Compiled models behind one protocol, and the choice between them.

Each backend's library is imported when it is used.
"""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path
from typing import Literal, Protocol, get_args

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip.errors import BackendMissing
from hoiclip_engine.preprocess import ModelInput
from hoiclip_engine.raw_output import RawOutput

BackendName = Literal["torch", "openvino", "onnxruntime"]
BACKENDS: tuple[BackendName, ...] = get_args(BackendName)
PLANNED = ("tensorrt", "tensorrt-rtx")
"""Names the command line knows, whose backends this version does not have."""


class Backend(Protocol):
    """A compiled model. Holds its own buffers; call it from one thread."""

    name: str
    canvas_hw: tuple[int, int]
    """Size every input is padded to."""

    def __call__(self, model_input: ModelInput) -> RawOutput:
        """One picture of the canvas's size; the result owns its memory."""
        ...

    def close(self) -> None: ...


def installed(name: BackendName) -> bool:
    """Whether the library of a backend can be imported."""
    return importlib.util.find_spec(name) is not None


def choose(name: str) -> BackendName:
    """What "auto" stands for on this machine; any other name is checked.

    Raises:
        BackendMissing: not installed, or not part of this version.
    """
    if name in PLANNED:
        raise BackendMissing(f"the {name} backend is not part of this version; use one of {', '.join(BACKENDS)}")
    for known in BACKENDS:
        if known == name:
            if not installed(known):
                raise BackendMissing(f"backend {known} is not installed; pip install {known}")
            return known
    if name != "auto":
        raise BackendMissing(f"unknown backend {name!r}; there are auto, {', '.join(BACKENDS)}")
    if _has_cuda():
        return "torch"
    if platform.machine().lower() in ("x86_64", "amd64") and installed("openvino"):
        return "openvino"
    rest: tuple[BackendName, ...] = ("onnxruntime", "torch")
    for known in rest:
        if installed(known):
            return known
    raise BackendMissing("no backend is installed; pip install openvino (x86-64) or onnxruntime")


def _has_cuda() -> bool:
    """Asks torch only where an NVIDIA driver is loaded: importing torch takes seconds."""
    if not Path("/proc/driver/nvidia/version").exists() and platform.system() == "Linux":
        return False
    if not installed("torch"):
        return False
    import torch

    return torch.cuda.is_available()


def load_backend(name: BackendName, model: ModelFile, canvas_hw: tuple[int, int]) -> Backend:
    """Compiles the model for one canvas.

    Args:
        canvas_hw: multiples of 32, at least 64.

    Raises:
        ModelError: the model file does not fit or cannot be compiled.
    """
    match name:
        case "torch":
            from hoiclip_engine.backends.torch_backend import TorchBackend

            return TorchBackend(model, canvas_hw)
        case "openvino":
            from hoiclip_engine.backends.openvino_backend import OpenVinoBackend

            return OpenVinoBackend(model, canvas_hw)
        case "onnxruntime":
            from hoiclip_engine.backends.onnxruntime_backend import OnnxRuntimeBackend

            return OnnxRuntimeBackend(model, canvas_hw)

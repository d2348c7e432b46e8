"""Compiled models behind one protocol, and the choice between them.

Each backend's library is imported when it is used.
"""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip.errors import BackendMissing
from hoiclip.torch_extra import EXTRA
from hoiclip_engine.backends.capacity import ONE, Capacity
from hoiclip_engine.precision import Precision
from hoiclip_engine.preprocess import ModelInput
from hoiclip_engine.raw_output import RawOutput

if TYPE_CHECKING:
    from hoiclip_engine.builds import Build

BackendName = Literal["torch", "openvino", "onnxruntime", "tensorrt", "tensorrt-rtx"]
BACKENDS: tuple[BackendName, ...] = get_args(BackendName)
PACKAGES: dict[BackendName, str] = {
    "torch": EXTRA,
    "tensorrt": "'hoiclip[tensorrt]'",
    "tensorrt-rtx": "'hoiclip[tensorrt-rtx]'",
}
"""What pip installs, where that has another name."""
_DRIVERS = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu")
"""One of them is there where Linux has loaded a driver of NVIDIA's, the last two on a Jetson."""


class Backend(Protocol):
    """A compiled model. Holds its own buffers; call it from as many threads at a time as it has lanes."""

    name: str
    canvas_hw: tuple[int, int]
    """Size every input is padded to."""
    capacity: Capacity

    def __call__(self, model_input: ModelInput) -> RawOutput:
        """As many pictures as its batch, of the canvas's size; the result owns its memory."""
        ...

    def close(self) -> None: ...


def installed(name: BackendName) -> bool:
    """Whether the library of a backend can be imported."""
    return importlib.util.find_spec(name.replace("-", "_")) is not None


def choose(name: str) -> BackendName:
    """What "auto" stands for on this machine; any other name is checked.

    Raises:
        BackendMissing: not installed, or not part of this version.
    """
    for known in BACKENDS:
        if known == name:
            if not installed(known):
                raise BackendMissing(f"backend {known} is not installed; pip install {PACKAGES.get(known, known)}")
            return known
    if name != "auto":
        raise BackendMissing(f"unknown backend {name!r}; there are auto, {', '.join(BACKENDS)}")
    if _has_driver():
        if _runs("tensorrt"):
            return "tensorrt"
        if _torch_has_cuda():
            return "torch"
        if _runs("tensorrt-rtx"):
            return "tensorrt-rtx"
    if platform.machine().lower() in ("x86_64", "amd64") and installed("openvino"):
        return "openvino"
    rest: tuple[BackendName, ...] = ("onnxruntime", "torch")
    for known in rest:
        if installed(known):
            return known
    raise BackendMissing("no backend is installed; pip install openvino (x86-64) or onnxruntime")


def _has_driver() -> bool:
    """Cheap, where importing torch or TensorRT to ask for a GPU takes seconds."""
    return platform.system() != "Linux" or any(Path(path).exists() for path in _DRIVERS)


def _torch_has_cuda() -> bool:
    if not installed("torch"):
        return False
    import torch

    return torch.cuda.is_available()


def _runs(name: BackendName) -> bool:
    """Whether the library loads and finds its device."""
    if not installed(name):
        return False
    try:
        backend_module(name).library()
        backend_module(name).device()
    except BackendMissing:
        return False
    return True


class BackendModule(Protocol):
    """What the file of each backend holds besides the backend."""

    def library(self) -> str:
        """Name and version of what compiles."""
        ...

    def device(self) -> str:
        """What it runs on here, as exactly as an engine depends on it."""
        ...

    def fast_precisions(self) -> tuple[Precision, ...]:
        """Those below fp32 that this machine accelerates, the fastest first."""
        ...

    def load(
        self,
        model: ModelFile,
        canvas_hw: tuple[int, int],
        precision: Precision,
        graph: Path | None,
        wanted: Capacity,
    ) -> Backend:
        """Compiles the model; `graph` is what a build of the precision brings, None for fp32."""
        ...


def backend_module(name: BackendName) -> BackendModule:
    match name:
        case "torch":
            from hoiclip_engine.backends import torch_backend

            return torch_backend
        case "openvino":
            from hoiclip_engine.backends import openvino_backend

            return openvino_backend
        case "onnxruntime":
            from hoiclip_engine.backends import onnxruntime_backend

            return onnxruntime_backend
        case "tensorrt" | "tensorrt-rtx":
            from hoiclip_engine.backends.tensorrt_backend import TensorRtModule

            return TensorRtModule(name)


def load_backend(
    name: BackendName,
    model: ModelFile,
    canvas_hw: tuple[int, int],
    build: Build | None = None,
    wanted: Capacity = ONE,
) -> Backend:
    """Compiles the model for one canvas.

    Args:
        canvas_hw: multiples of 32, at least 64.
        build: of a lower precision; None: fp32.
        wanted: at most; not every backend can do several things at once.

    Raises:
        ModelError: the model file does not fit or cannot be compiled.
    """
    if build is None:
        return backend_module(name).load(model, canvas_hw, "fp32", None, wanted)
    return backend_module(name).load(model, canvas_hw, build.precision, build.graph, wanted)

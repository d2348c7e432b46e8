"""The choice between backends. Each backend's library is imported when it is used."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

from hoiclip.core.errors import BackendMissing
from hoiclip.core.model_file import ModelFile
from hoiclip.core.torch_extra import EXTRA
from hoiclip_engine.backends.base import (
    BACKENDS,
    SINGLE_IMAGE,
    Backend,
    BackendModule,
    BackendName,
    Capacity,
    Precision,
)

PIP_PACKAGES: dict[BackendName, str] = {
    "torch": EXTRA,
    "tensorrt": "'hoiclip[tensorrt]'",
    "tensorrt-rtx": "'hoiclip[tensorrt-rtx]'",
}
"""Arguments of `pip install`, where they differ from the backend's name."""
BACKEND_PRECISIONS: Mapping[BackendName, tuple[Precision, ...]] = {
    "torch": ("fp16", "bf16"),
    "openvino": ("int8", "bf16"),
    "onnxruntime": (),
    "tensorrt": ("fp16", "int8"),
    "tensorrt-rtx": ("fp16", "int8"),
}
"""Precisions below fp32; the backend knows which of them a machine accelerates."""
_DRIVER_FILES = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu")
"""One of them exists where Linux has loaded a driver of NVIDIA's, the last two on a Jetson."""


def is_installed(name: BackendName) -> bool:
    """Whether the library of a backend can be imported."""
    return importlib.util.find_spec(name.replace("-", "_")) is not None


def select_backend(name: str) -> BackendName:
    """The backend that "auto" stands for on this machine where no speeds were measured; any other name is checked.

    Raises:
        BackendMissing: not installed, or not part of this version.
    """
    for known in BACKENDS:
        if known == name:
            if not is_installed(known):
                raise BackendMissing(f"backend {known} is not installed; pip install {PIP_PACKAGES.get(known, known)}")
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
    if platform.machine().lower() in ("x86_64", "amd64") and is_installed("openvino"):
        return "openvino"
    remaining: tuple[BackendName, ...] = ("onnxruntime", "torch")
    for known in remaining:
        if is_installed(known):
            return known
    raise BackendMissing("no backend is installed; pip install openvino (x86-64) or onnxruntime")


def _has_driver() -> bool:
    """Cheap, where importing torch or TensorRT to ask for a GPU takes seconds."""
    return platform.system() != "Linux" or any(Path(path).exists() for path in _DRIVER_FILES)


def _torch_has_cuda() -> bool:
    if not is_installed("torch"):
        return False
    import torch

    return torch.cuda.is_available()


def require_runnable(name: BackendName) -> None:
    """Raises BackendMissing: not installed, or its library does not load or finds no device."""
    module = backend_module(select_backend(name))
    module.library()
    module.device()


def _runs(name: BackendName) -> bool:
    try:
        require_runnable(name)
    except BackendMissing:
        return False
    return True


def runnable_backends(on_missing: Callable[[str], None]) -> list[BackendName]:
    """Those installed whose library loads and finds its device. Args: on_missing: gets a line about any other."""
    found: list[BackendName] = []
    for name in filter(is_installed, BACKENDS):
        try:
            require_runnable(name)
            found.append(name)
        except BackendMissing as error:
            on_missing(f"{name} is left out: {error}")
    return found


def takes_device_frames(name: BackendName) -> bool:
    """Whether a backend takes frames from a decoder on the GPU. TensorRT's buffers are no tensors of torch, whose
    kernels read such frames."""
    if name != "torch":
        return False
    from hoiclip_engine.backends import torch_backend

    return torch_backend.takes_device_frames()


def backend_module(name: BackendName) -> BackendModule:
    """Imports the module of a backend, and with it the library."""
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
            from hoiclip_engine.backends.tensorrt.backend import TensorRtModule

            return TensorRtModule(name)


def load_backend(
    name: BackendName,
    model: ModelFile,
    padded_hw: tuple[int, int],
    precision: Precision = "fp32",
    graph: Path | None = None,
    capacity: Capacity = SINGLE_IMAGE,
) -> Backend:
    """Compiles the model for one padded size.

    Args:
        padded_hw: multiples of 32, at least 64.
        graph: the quantized graph of a build of that precision, None for the exported one.
        capacity: at most; some backends take one image at a time.

    Raises:
        ModelError: the model file does not fit or cannot be compiled.
    """
    return backend_module(name).load(model, padded_hw, precision, graph, capacity)

"""The choice between backends. Each backend's library is imported when it is used."""

from __future__ import annotations

import importlib.util
import platform
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
_DRIVER_FILES = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu")
"""One of them exists where Linux has loaded a driver of NVIDIA's, the last two on a Jetson."""


def is_installed(name: BackendName) -> bool:
    """Whether the library of a backend can be imported."""
    return importlib.util.find_spec(name.replace("-", "_")) is not None


def select_backend(name: str) -> BackendName:
    """The backend that "auto" stands for on this machine; any other name is checked.

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


def _runs(name: BackendName) -> bool:
    """Whether the library loads and finds its device."""
    if not is_installed(name):
        return False
    try:
        backend_module(name).library()
        backend_module(name).device()
    except BackendMissing:
        return False
    return True


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

"""The CUDA runtime through cuda-bindings, so that running an engine needs no torch; errors as exceptions."""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoiclip.errors import BackendMissing, ModelError


def load_cuda() -> Any:
    """The module cuda.bindings.runtime.

    Raises:
        BackendMissing: it is not installed.
    """
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise BackendMissing(
            "running TensorRT engines needs cuda-bindings; pip install 'hoiclip[tensorrt]' brings it"
        ) from error


def checked(cuda: Any, result: tuple[Any, ...], doing: str) -> Any:
    """What a call of the runtime returned beside its error: nothing, one value, or several.

    Raises:
        ModelError: there is an error.
    """
    error, *values = result
    if int(error) != int(cuda.cudaError_t.cudaSuccess):
        raise ModelError(f"CUDA failed at {doing}: {error_text(cuda, error)}")
    return values[0] if len(values) == 1 else tuple(values) or None


def error_text(cuda: Any, error: Any) -> str:
    _, text = cuda.cudaGetErrorString(error)
    return text.decode() if isinstance(text, bytes) else str(text)


def gpu(cuda: Any) -> str:
    """The GPU and its compute capability.

    Raises:
        BackendMissing: there is none that this driver and runtime can use.
    """
    error, device = cuda.cudaGetDevice()
    if int(error) == 0:
        error, properties = cuda.cudaGetDeviceProperties(device)
    if int(error) != 0:
        raise BackendMissing(f"found no NVIDIA GPU to use: {error_text(cuda, error)}; see nvidia-smi")
    name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
    return f"{name.rstrip(chr(0))}, compute capability {properties.major}.{properties.minor}"


def host_view(address: int, size_bytes: int) -> NDArray[np.uint8]:
    """Memory of the host as an array; valid until it is freed."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(address))

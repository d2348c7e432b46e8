"""Finds and loads the library of CUDA operators that the top-level CMakeLists.txt builds."""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from pathlib import Path

from hoiclip_kernels.dispatch import KernelError

VARIABLE = "HOICLIP_CUDA_LIBRARY"
NAME = "libhoiclip_cuda.so"
BUILT = Path(__file__).parent.parent.parent / "build" / NAME
"""Where `cmake -B build && cmake --build build` leaves it in a checkout."""


def path() -> Path:
    """The file that HOICLIP_CUDA_LIBRARY names, else the one of the checkout's build folder."""
    return Path(os.environ.get(VARIABLE) or BUILT)


@lru_cache(maxsize=4)
def _loaded(file: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(file))


def load() -> ctypes.CDLL:
    """The library.

    Raises:
        KernelError: there is none, or it cannot be loaded.
    """
    file = path()
    if not file.is_file():
        how = f"cmake -B build && cmake --build build, or set {VARIABLE}"
        raise KernelError(f"expected CUDA operators in {file}, which is missing; {how}")
    try:
        return _loaded(file)
    except OSError as error:
        raise KernelError(
            f"cannot load the CUDA operators of {file}: {error}; build them again on this machine"
        ) from error

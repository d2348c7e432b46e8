"""Inputs that differ from run to run, so that a kernel cannot be right by one lucky example; Triton without a GPU."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest


def _sees_gpu() -> bool:
    try:
        import torch
    except ModuleNotFoundError:
        return False
    return torch.cuda.is_available()


if not _sees_gpu():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined: before any module with kernels is imported


@pytest.fixture
def seed() -> int:
    """Fresh in every run; HOICLIP_TEST_SEED repeats a failed one."""
    chosen = int(os.environ.get("HOICLIP_TEST_SEED") or random.SystemRandom().randrange(2**31))
    print(f"HOICLIP_TEST_SEED={chosen}")  # shown where the test fails
    return chosen


class Built(NamedTuple):
    """What the top-level CMakeLists.txt made."""

    folder: Path
    said: str
    """By CMake and the compilers."""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The CUDA operators, and the TensorRT plugin against the documented interface."""
    for tool in ("nvcc", "cmake"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} to build the CUDA operators with")
    here = Path(__file__).resolve().parent
    folder = tmp_path_factory.mktemp("cmake")
    contract = here / "nvinfer_contract"
    options = ["-DHOICLIP_CUDA=ON", "-DCMAKE_CUDA_FLAGS=-Xptxas=-v", f"-DHOICLIP_NVINFER_INCLUDE={contract}"]
    configure = ["cmake", "-S", str(here.parent.parent), "-B", str(folder), *options]
    said = ""
    for command in (configure, ["cmake", "--build", str(folder)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said += done.stdout + done.stderr
        assert done.returncode == 0, said
    return Built(folder, said)

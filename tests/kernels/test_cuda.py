"""The CUDA operators: their logic, run on the CPU thread by thread; their build; and a GPU, where there is one."""

from __future__ import annotations

import ctypes.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from hoiclip_kernels import cuda_library
from hoiclip_kernels.dispatch import KernelError
from hoiclip_kernels.dual_attention import cuda_impl, dual_attention, example_inputs
from tests.kernels.attention_checks import TOLERANCE, assert_close, check, check_inside_a_cuda_graph
from tests.kernels.conftest import Built

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "kernels" / "hoiclip_kernels" / "dual_attention" / "dual_attention.cu"
HERE = Path(__file__).parent
REGISTERS = 180
"""Per thread, of 65,536 for three blocks of 128 threads or more per multiprocessor."""


@pytest.fixture(scope="module")
def on_host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operators built for the CPU."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to build the kernels for the CPU with")
    library = tmp_path_factory.mktemp("host") / cuda_library.NAME
    options = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-DHOICLIP_ON_HOST"]
    subprocess.run([compiler, "-x", "c++", *options, f"-I{HERE}", str(SOURCE), "-o", str(library)], check=True)
    return library


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        {"heads": 2, "queries": 64, "cells": 150, "padded": 20},
        {"batch": 2, "heads": 2, "queries": 17, "depth": 32, "tokens": 33, "cells": 65, "padded": 7},  # off every tile
        {"heads": 1, "queries": 1, "depth": 128, "tokens": 1, "cells": 1, "padded": None},
        {"batch": 3, "heads": 1, "queries": 5, "depth": 64, "cells": 40, "padded": 40},  # nothing to attend to
        {"heads": 1, "queries": 5, "tokens": 0, "cells": 0, "padded": None},
        {"heads": 1, "queries": 3, "cells": 1400, "padded": 0},
        {"batch": 0},
        {"queries": 0},
    ],
    ids=["official head", "off tile", "one", "all hidden", "empty", "largest", "no image", "no query"],
)
def test_kernel_s_logic(
    on_host: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, shape: dict[str, Any], seed: int
) -> None:
    monkeypatch.setenv(cuda_library.VARIABLE, str(on_host))
    check(cuda_impl.dual_attention, example_inputs(dtype=dtype, seed=seed, **shape))


def test_it_is_one_of_the_operator_s_implementations(on_host: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setenv(cuda_library.VARIABLE, str(on_host))
    arguments = example_inputs(1, 2, 5, 32, 3, 9, seed=seed)
    found = dual_attention(*arguments, implementation="cuda")
    assert_close(found, dual_attention(*arguments), TOLERANCE[torch.float32])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (example_inputs(1, 1, 2, 24, 3, 3), "head dimension that is none of 32, 64, 96, 128"),
        (example_inputs(1, 1, 2, 32, 3, 3, dtype=torch.float64), "type that is none of"),
        (example_inputs(1, 2, 2, 33, 3, 3), "multiples of 16 bytes"),
    ],
)
def test_what_it_does_not_take_is_said(
    on_host: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any, said: str
) -> None:
    monkeypatch.setenv(cuda_library.VARIABLE, str(on_host))
    out = torch.empty_like(arguments.q), torch.empty_like(arguments.q)
    with pytest.raises(KernelError, match=said):
        cuda_impl.dual_attention(*arguments, out)


def test_library_that_is_not_there_or_none_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(cuda_library.VARIABLE, str(tmp_path / "none.so"))
    with pytest.raises(KernelError, match="is missing; cmake -B build"):
        cuda_library.load()
    (tmp_path / "none.so").write_text("no library")
    with pytest.raises(KernelError, match="cannot load the CUDA operators"):
        cuda_library.load()


def test_it_builds_for_three_gpus_without_a_warning(built: Built) -> None:
    library, said = built.folder / cuda_library.NAME, built.said
    assert library.is_file()
    assert "warning" not in said.lower()
    assert set(re.findall(r"for 'sm_(\d+)'", said)) == {"87", "89", "90"}


def test_registers_stay_within_budget_and_nothing_spills(built: Built) -> None:
    said = built.said
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", said)]
    assert len(registers) == 3 * 3 * 4  # GPUs, types, head dimensions
    assert max(registers) <= REGISTERS
    assert set(re.findall(r"(\d+) bytes spill", said)) == {"0"}


def test_built_library_has_the_function_and_needs_no_torch(built: Built) -> None:
    library = built.folder / cuda_library.NAME
    assert ctypes.CDLL(str(library)).hoiclip_dual_attention
    tool = shutil.which("objdump")
    if tool is not None:
        needed = subprocess.run([tool, "-p", str(library)], capture_output=True, text=True, check=True).stdout
        assert not re.search(r"NEEDED.*(torch|nvinfer)", needed)


def test_plugin_is_built_too_where_the_header_is(built: Built) -> None:
    assert ctypes.CDLL(str(built.folder / "libhoiclip_plugin.so")).hoiclip_plugin_self_test() == 0


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("batch", "cells"), [(1, 300), (8, 1100), (2, 1400)])
def test_official_sizes_on_a_gpu(
    built: Built, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, batch: int, cells: int, seed: int
) -> None:
    monkeypatch.setenv(cuda_library.VARIABLE, str(built.folder / cuda_library.NAME))
    arguments = example_inputs(batch, cells=cells, padded=77, dtype=dtype, device="cuda", seed=seed)
    check(cuda_impl.dual_attention, arguments)


@pytest.mark.gpu
def test_inside_a_cuda_graph(built: Built, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setenv(cuda_library.VARIABLE, str(built.folder / cuda_library.NAME))
    check_inside_a_cuda_graph(cuda_impl.dual_attention, seed)

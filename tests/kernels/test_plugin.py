"""The TensorRT plugin, compiled against the documented interface and tried without a GPU. TensorRT has not run it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import pytest
import torch
from torch import Tensor

from hoiclip_kernels.dual_attention import example_inputs, reference
from tests.kernels.test_cuda import HERE, SOURCE

pytestmark = pytest.mark.thorough

CONTRACT = HERE / "nvinfer_contract"
PLUGIN = SOURCE.with_name("plugin.cpp")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Plugin and kernels built for the CPU, with the caller that plays TensorRT."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to build the plugin with")
    folder = tmp_path_factory.mktemp("plugin")
    options = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", f"-I{CONTRACT}"]
    kernels = ["-x", "c++", "-DHOICLIP_ON_HOST", f"-I{HERE}", str(SOURCE)]
    made = folder / "libplugin.so"
    sources = [str(PLUGIN), str(HERE / "plugin_run.cpp"), *kernels]
    subprocess.run([compiler, *options, "-shared", "-o", str(made), *sources], check=True)
    return ctypes.CDLL(str(made))


def test_self_test_finds_nothing(library: ctypes.CDLL) -> None:
    assert library.hoiclip_plugin_self_test() == 0


def test_plugin_exports_the_symbols_tensorrt_needs(library: ctypes.CDLL) -> None:
    for name in ("getCreators", "setLoggerFinder"):
        assert getattr(library, name)


def as_rows(tensor: Tensor) -> Tensor:
    """(B, heads, N, D) to contiguous (B, N, heads × D)."""
    return tensor.transpose(1, 2).flatten(2).contiguous()


@pytest.mark.parametrize("padded", [None, 3])
def test_it_computes_what_the_reference_says(library: ctypes.CDLL, padded: int | None, seed: int) -> None:
    batch, heads, queries, depth, tokens, cells = 2, 3, 5, 32, 7, 21
    arguments = example_inputs(batch, heads, queries, depth, tokens, cells, padded=padded, seed=seed)
    rows = [as_rows(one) for one in arguments[:5]]
    outputs = [torch.full_like(rows[0], float("nan")) for _ in range(2)]
    padding = 0 if arguments.padding2 is None else arguments.padding2.data_ptr()
    given = (ctypes.c_void_p * 6)(*(one.data_ptr() for one in rows), padding)
    taken = (ctypes.c_void_p * 2)(*(one.data_ptr() for one in outputs))
    assert library.plugin_run(given, taken, batch, heads, queries, depth, tokens, cells) == 0
    expected = torch.empty_like(arguments.q), torch.empty_like(arguments.q)
    reference.dual_attention(*arguments, expected)
    for ours, theirs in zip(outputs, expected, strict=True):
        torch.testing.assert_close(ours, as_rows(theirs), atol=5e-6, rtol=0)

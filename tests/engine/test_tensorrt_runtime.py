"""Runs engines on a CUDA that keeps the order of work and of memory, and forgives nothing; a GPU may differ."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from hoiclip.core.errors import BackendMissing, ModelError
from hoiclip_engine.backends.tensorrt.builder import EngineBuildRequest, build_engine
from hoiclip_engine.backends.tensorrt.runtime import EngineRefused, TensorRtRuntime, gpu_name, load_cuda
from tests.engine import onnx_graphs
from tests.engine.fake_cuda import FakeCuda, cudaError_t
from tests.engine.fake_tensorrt import VERSIONS, fake_tensorrt
from tests.engine.onnx_graphs import BATCHES


def built(version: str, graph: Path, cuda: FakeCuda) -> tuple[Any, bytes]:
    trt = fake_tensorrt(version, cuda)
    request = EngineBuildRequest(
        library="tensorrt-rtx" if version == "rtx" else "tensorrt", graph=graph, profile=BATCHES
    )
    content = build_engine(trt, request).engine
    trt.calls.clear()
    return trt, content


def images(batch: int, seed: int = 0) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).normal(size=(batch, 3, 8, 8)).astype(np.float32)}


def expected(graph: Path, inputs: dict[str, Any]) -> Any:
    return onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"]).run(None, inputs)[0]


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return onnx_graphs.convolution(tmp_path / "g.onnx")


@pytest.mark.parametrize("version", VERSIONS)
def test_runtime_replays_a_cuda_graph_from_the_second_call_on(version: str, graph: Path) -> None:
    cuda = FakeCuda()
    trt, content = built(version, graph, cuda)
    with TensorRtRuntime(trt, cuda, content) as runtime:
        assert not runtime.captured
        made = [runtime(images(4, seed))["y"] for seed in range(3)]
        assert runtime.captured
        first = ["to device", "to host", "synchronize", "begin capture", "to device", "to host", "end capture"]
        assert cuda.calls == [*first, *["launch", "synchronize"] * 2]
        assert len([call for call in trt.calls if call[0] == "execute_async_v3"]) == 2  # once to run, once to capture
    for seed, output in enumerate(made):  # each its own memory: a later call has not overwritten it
        np.testing.assert_allclose(output, expected(graph, images(4, seed)), rtol=1e-6)
    assert cuda.held() == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_runtime_captures_a_cuda_graph_for_each_shape(version: str, graph: Path) -> None:
    cuda = FakeCuda()
    trt, content = built(version, graph, cuda)
    with TensorRtRuntime(trt, cuda, content) as runtime:
        assert runtime.inputs == {"x": ((4, 3, 8, 8), np.float32)}
        assert runtime.outputs == {"y": ((4, 4, 6, 6), np.float32)}
        for batch in (4, 4, 1, 1, 1, 2):
            made = runtime(images(batch, batch))["y"]
            np.testing.assert_allclose(made, expected(graph, images(batch, batch)), rtol=1e-6)
        assert cuda.calls.count("begin capture") == 3
        assert len(cuda.executables) == 1
    assert cuda.held() == 0


@pytest.mark.parametrize("why", ["the capture fails", "the engine does not allow it", "not asked for"])
def test_runtime_without_a_cuda_graph_enqueues_calls(why: str, graph: Path) -> None:
    cuda = FakeCuda(captures=why != "the capture fails")
    trt, content = built("rtx", graph, cuda)
    if why == "the engine does not allow it":
        content = content.replace(b'"capturable": true', b'"capturable": false')
    with TensorRtRuntime(trt, cuda, content, capture=why != "not asked for") as runtime:
        for seed in range(3):
            np.testing.assert_allclose(runtime(images(4, seed))["y"], expected(graph, images(4, seed)), rtol=1e-6)
        assert not runtime.captured
        assert cuda.calls.count("begin capture") == (why == "the capture fails")  # tried once
    assert cuda.held() == 0


def test_profile_is_set_where_an_engine_has_several(graph: Path) -> None:
    cuda = FakeCuda()
    trt, content = built("10.3.0", graph, cuda)
    profile = b'{"x": [[1, 3, 8, 8], [2, 3, 8, 8], [4, 3, 8, 8]]}'
    assert profile in content
    content = content.replace(profile, profile + b', {"x": [[1, 3, 8, 8], [6, 3, 8, 8], [8, 3, 8, 8]]}')
    with TensorRtRuntime(trt, cuda, content, profile=1) as runtime:
        assert runtime.inputs["x"][0] == (8, 3, 8, 8)
        assert ("set_optimization_profile_async", 1) in trt.calls


def test_wrong_inputs_are_refused_before_the_gpu_sees_them(graph: Path) -> None:
    cuda = FakeCuda()
    trt, content = built("11.0.0.114", graph, cuda)
    with TensorRtRuntime(trt, cuda, content) as runtime:
        for wrong in ({}, images(5), {"x": images(1)["x"].astype(np.float64)}, {"x": np.zeros(3, np.float32)}):
            with pytest.raises(ValueError, match="expected"):
                runtime(wrong)
        assert cuda.calls == []


@pytest.mark.parametrize("step", ["deserialize_cuda_engine", "create_execution_context", "execute_async_v3", "memory"])
def test_failed_runtime_is_one_error_line_and_frees_everything(step: str, graph: Path) -> None:
    cuda = FakeCuda(device_bytes=1000 if step == "memory" else 1 << 30)
    trt, content = built("10.3.0", graph, cuda)
    trt.trouble[step] = "The engine plan file is not compatible with this version"
    kind = EngineRefused if step == "deserialize_cuda_engine" else ModelError
    with pytest.raises(kind) as caught, TensorRtRuntime(trt, cuda, content) as runtime:
        runtime(images(4))
    assert ("out of memory" in str(caught.value)) == (step == "memory")
    assert "\n" not in str(caught.value)
    assert cuda.held() == 0


def test_runtime_may_be_closed_twice(graph: Path) -> None:
    cuda = FakeCuda()
    trt, content = built("10.3.0", graph, cuda)
    runtime = TensorRtRuntime(trt, cuda, content)
    runtime.close()
    runtime.close()
    assert cuda.held() == 0


def test_gpu_is_named_and_a_missing_one_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_name(FakeCuda()) == "Fake GPU, compute capability 8.9"
    none = FakeCuda()
    none.cudaGetDevice = lambda: (cudaError_t.cudaErrorInsufficientDriver, None)  # type: ignore[method-assign]
    with pytest.raises(BackendMissing, match="found no NVIDIA GPU"):
        gpu_name(none)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(BackendMissing, match=r"pip install 'hoiclip\[tensorrt\]'"):
        load_cuda()


def test_real_cuda_bindings_have_everything_of_the_fake() -> None:
    cuda = pytest.importorskip("cuda.bindings.runtime")
    for name in vars(FakeCuda):
        if name.startswith("cuda"):
            assert hasattr(cuda, name), name
    for name in ("cudaMemcpyKind", "cudaStreamCaptureMode"):
        ours, theirs = getattr(FakeCuda, name), getattr(cuda, name)
        assert {member.name: int(member) for member in ours}.items() <= {
            member.name: int(member) for member in theirs
        }.items()
    result = cuda.cudaGetDeviceCount()
    assert isinstance(result, tuple)
    assert int(cuda.cudaError_t.cudaSuccess) == 0
    assert isinstance(cuda.cudaGetErrorString(result[0])[1], bytes)

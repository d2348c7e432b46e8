"""The backend from model file to answers, on fakes of library and CUDA; ONNX Runtime says what the answers are."""

from __future__ import annotations

import inspect
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from hoiclip.core.errors import BackendMissing, ModelError
from hoiclip.core.model_file import ModelFile, load_model_file
from hoiclip.core.preprocess import ModelInput, PreprocessConfig, preprocess
from hoiclip_engine.backends.tensorrt import backend as tensorrt_backend
from hoiclip_engine.backends.tensorrt.backend import TensorRtBackend, TensorRtModule
from hoiclip_engine.backends.tensorrt.builder import BuiltEngine, EngineBuildRequest, build_engine
from hoiclip_engine.backends.tensorrt.library import TensorRtLibrary
from hoiclip_engine.cache.artifacts import exported_graph
from hoiclip_engine.export.graph_spec import MODEL_OUTPUTS
from tests.engine.fake_cuda import FakeCuda
from tests.engine.fake_tensorrt import VERSIONS, fake_tensorrt
from tests.engine.untrained import CONFIG, untrained_model

PADDED_HW = (64, 96)


@pytest.fixture(scope="module")
def untrained() -> ModelFile:
    return load_model_file(untrained_model())


@pytest.fixture(scope="module")
def graph(untrained: ModelFile) -> Path:
    return exported_graph(untrained, PADDED_HW)


class Machine:
    """A GPU, a library of one version, and an empty cache; remembers what was built."""

    def __init__(self, version: str, model: ModelFile, graph: Path, patch: pytest.MonkeyPatch, cache: Path) -> None:
        self.library: TensorRtLibrary = "tensorrt-rtx" if version == "rtx" else "tensorrt"
        self.model, self.graph = model, graph
        self.cuda = FakeCuda()
        self.trt = fake_tensorrt(version, self.cuda)
        self.requests: list[EngineBuildRequest] = []
        patch.setenv("HOICLIP_CACHE", str(cache))
        patch.setattr(tensorrt_backend, "load_library", lambda name: self.trt)
        patch.setattr(tensorrt_backend, "load_cuda", lambda: self.cuda)
        patch.setattr(tensorrt_backend, "build_in_subprocess", self.build_here)

    def build_here(self, request: EngineBuildRequest) -> BuiltEngine:
        self.requests.append(request)
        return build_engine(self.trt, request)

    def backend(self, precision: Any = "fp32", plugins: tuple[Path, ...] = ()) -> TensorRtBackend:
        return TensorRtBackend(self.model, PADDED_HW, precision, self.library, self.graph, plugins)


@pytest.fixture
def machine(
    request: pytest.FixtureRequest, untrained: ModelFile, graph: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Machine:
    version = getattr(request, "param", "10.3.0")
    return Machine(version, untrained, graph, monkeypatch, tmp_path / "cache")


def image(seed: int = 0) -> ModelInput:
    rgb = np.random.default_rng(seed).integers(0, 255, size=(60, 80, 3), dtype=np.uint8)
    clip_px = CONFIG.clip_image_px
    return preprocess(
        rgb, PreprocessConfig(short_side_px=60, max_side_px=96, clip_side_px=clip_px, padded_hw=PADDED_HW)
    )


@pytest.mark.parametrize("machine", VERSIONS, indirect=True)
def test_backend_gives_the_outputs_of_the_graph(machine: Machine) -> None:
    backend = machine.backend()
    assert (backend.name, backend.padded_hw) == (machine.library, PADDED_HW)
    session = onnxruntime.InferenceSession(str(machine.graph), providers=["CPUExecutionProvider"])
    for seed in range(3):
        given = image(seed)
        made = backend(given)
        inputs = {"images": given.detector_bchw, "padding": given.mask_bhw, "clip_images": given.clip_bchw}
        for name, value in zip(MODEL_OUTPUTS, session.run(MODEL_OUTPUTS, inputs), strict=True):
            np.testing.assert_allclose(getattr(made, name), value, atol=1e-5)
    assert "launch" in machine.cuda.calls
    backend.close()
    assert machine.cuda.held() == 0


def test_engine_is_built_once_for_everything_it_depends_on(machine: Machine, tmp_path: Path) -> None:
    machine.backend().close()
    machine.backend().close()
    assert len(machine.requests) == 1
    [request] = machine.requests
    assert request.profile["images"] == ((1, 3, *PADDED_HW),) * 3
    assert request.timing_cache is not None
    assert request.timing_cache.name == "tensorrt-10.3.0-Fake-GPU-compute-capability-8.9.cache"
    machine.backend(precision="fp16").close()
    machine.trt.__version__ = "10.4.0"
    machine.backend().close()
    plugin = tmp_path / "libhoiclip_plugin.so"
    plugin.write_bytes(b"first")
    machine.backend(plugins=(plugin,)).close()
    plugin.write_bytes(b"second")
    machine.backend(plugins=(plugin,)).close()
    assert len(machine.requests) == 5


def test_cached_engine_that_does_not_load_is_built_again(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.backend().close()
    whole, tries = machine.trt.Runtime.deserialize_cuda_engine, []

    def once(self: Any, content: bytes) -> Any:
        tries.append(content)
        return whole(self, content) if len(tries) > 1 else None

    machine.trt.Runtime.deserialize_cuda_engine = once
    with caplog.at_level(logging.WARNING, "hoiclip"):
        machine.backend().close()
    assert "is built again" in caplog.text
    assert len(machine.requests) == 2
    assert machine.cuda.held() == 0


def test_full_gpu_is_no_reason_to_build_again(machine: Machine) -> None:
    machine.backend().close()
    machine.cuda.device_bytes = 1000
    with pytest.raises(ModelError, match="out of memory"):
        machine.backend()
    assert len(machine.requests) == 1
    assert machine.cuda.held() == 0


def test_new_engine_that_does_not_load_is_an_error(machine: Machine) -> None:
    machine.trt.trouble["deserialize_cuda_engine"] = "Serialization assertion failed"
    with pytest.raises(ModelError, match="cannot load the engine: Serialization assertion failed"):
        machine.backend()
    assert len(machine.requests) == 1


def start(machine: Machine) -> list[Any]:
    """Calls of one start that are about kernels."""
    machine.trt.calls.clear()
    backend = machine.backend()
    for seed in range(3):
        backend(image(seed))
    backend.close()
    assert machine.cuda.held() == 0
    return [call[0] for call in machine.trt.calls if "compile" in call[0] or "kernels" in call[0]]


COMPILED, LOADED = ["compile", "context freed, its kernels live"], ["context freed, its kernels live"]


@pytest.mark.parametrize("machine", ["rtx"], indirect=True)
def test_tensorrt_rtx_compiles_its_kernels_at_the_first_start_alone(machine: Machine, tmp_path: Path) -> None:
    assert start(machine) == COMPILED
    [kept] = (tmp_path / "cache" / "engines").glob("*/kernels.bin")
    assert kept.read_bytes() == machine.trt.kernels_of
    assert start(machine) == LOADED
    assert len(machine.requests) == 1


@pytest.mark.parametrize("machine", ["rtx"], indirect=True)
@pytest.mark.parametrize("damage", ["truncated", "of another GPU", "of another key"])
def test_kernels_that_do_not_fit_are_compiled_again_and_one_line_gives_the_reason(
    damage: str, machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start(machine)
    [kept] = (tmp_path / "cache" / "engines").glob("*/kernels.bin")
    expected = {
        "truncated": "is not what was written, it may be truncated",
        "of another GPU": "tensorrt_rtx refuses them: The runtime cache is of another GPU.",
        "of another key": "was not signed by this machine, or changed since",
    }
    if damage == "truncated":
        kept.write_bytes(kept.read_bytes()[:4])
    elif damage == "of another GPU":
        machine.trt.kernels_of = b"kernels of the new GPU"
    else:
        record = kept.parent / "entry.json"
        record.write_text(record.read_text().replace("fp32", "fp16"))
    with caplog.at_level(logging.WARNING, "hoiclip"):
        assert start(machine) == COMPILED
    [line] = [record.getMessage() for record in caplog.records]
    assert "compiled again" in line
    assert expected[damage] in line
    assert start(machine) == LOADED
    assert len(machine.requests) == 1


@pytest.mark.parametrize("machine", ["rtx"], indirect=True)
def test_kernels_of_an_engine_that_is_built_again_are_removed(machine: Machine, tmp_path: Path) -> None:
    start(machine)
    whole, tries = machine.trt.Runtime.deserialize_cuda_engine, []

    def once(self: Any, content: bytes) -> Any:
        tries.append(content)
        return whole(self, content) if len(tries) > 1 else None

    machine.trt.Runtime.deserialize_cuda_engine = once
    assert start(machine) == COMPILED
    assert len(machine.requests) == 2


def test_real_tensorrt_rtx_has_the_kernel_cache_of_the_fake() -> None:
    real = pytest.importorskip("tensorrt_rtx")
    fake = fake_tensorrt("rtx")
    for name in ("IRuntimeConfig", "IRuntimeCache"):
        for method, implementation in vars(getattr(fake, name)).items():
            if not method.startswith("_"):
                signature = getattr(getattr(real, name), method).__doc__.splitlines()[0]
                arguments = list(inspect.signature(implementation).parameters)[1:]
                assert all(f"{argument}: " in signature for argument in arguments), signature
                assert signature.endswith("-> bool") == (inspect.signature(implementation).return_annotation == "bool")
    assert "runtime_config: tensorrt_rtx" in real.ICudaEngine.create_execution_context.__doc__
    assert real.ICudaEngine.create_runtime_config.__doc__.strip().splitlines()[0].endswith("IRuntimeConfig")


def test_backend_module_names_library_device_and_precisions(machine: Machine) -> None:
    module = TensorRtModule(machine.library)
    assert module.library() == "tensorrt 10.3.0"
    assert module.device() == "Fake GPU, compute capability 8.9"
    assert module.fast_precisions() == ("fp16", "int8")
    backend = module.load(machine.model, PADDED_HW, "fp16", machine.graph)
    assert machine.requests[0].graph == machine.graph
    backend.close()


def test_missing_wheel_is_an_error_with_the_extra(
    untrained: ModelFile, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendMissing, match=r"pip install 'hoiclip\[tensorrt\]'"):
        TensorRtBackend(untrained, PADDED_HW, "fp32", "tensorrt", graph)

"""The torch backend: in fp32 the module itself; in half precision the same output, from buffers of its own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from hoiclip.core.errors import UsageError
from hoiclip.core.model_file import load_model_file
from hoiclip.core.preprocess import ModelInput, PreprocessConfig, preprocess
from hoiclip.core.raw_output import RawOutput
from hoiclip_engine.backends.base import Precision
from hoiclip_engine.backends.torch_backend import HALF_DTYPES, TorchBackend
from hoiclip_engine.backends.torch_cuda_graph import GraphedModel
from hoiclip_kernels import dispatch
from tests.engine.untrained import untrained_model
from tests.golden.rule import PUBLIC_SALT, golden_photo

PADDED_HW = (96, 160)
HALVES: tuple[Precision, ...] = ("fp16", "bf16")
TOLERANCE = {"fp16": 0.02, "bf16": 0.15}
"""Of a logit. Those of the untrained model reach 15, of which fp16 keeps 11 bits and bf16 8, through a dozen layers."""


def image(name: str = "backend", padded_hw: tuple[int, int] = PADDED_HW) -> ModelInput:
    """90 x 130 px, resized to 96 x 138 in the padded image."""
    photo = golden_photo(name, 90, 130, PUBLIC_SALT)
    return preprocess(photo, PreprocessConfig(short_side_px=96, clip_side_px=64, padded_hw=padded_hw))


def arrays(one: ModelInput) -> tuple[Any, ...]:
    return one.detector_bchw, one.mask_bhw, one.clip_bchw


def on_cpu(one: ModelInput) -> dict[str, Any]:
    """Output of the module in fp32."""
    with torch.inference_mode():
        made = load_model_file(untrained_model()).build()(*map(torch.from_numpy, arrays(one)))
    return {name: value.numpy() for name, value in made._asdict().items()}


def difference(found: RawOutput | dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest difference of any field."""
    get = found.__getitem__ if isinstance(found, dict) else lambda name: getattr(found, name)
    return max(float(np.abs(get(name) - value).max()) for name, value in expected.items())


@pytest.fixture(scope="module", params=HALVES)
def half(request: pytest.FixtureRequest) -> Iterator[tuple[Precision, TorchBackend]]:
    backend = TorchBackend(load_model_file(untrained_model()), PADDED_HW, request.param)
    yield request.param, backend
    backend.close()


@pytest.mark.gpu
def test_gpu_logits_equal_those_of_the_cpu() -> None:
    one = image()
    found = TorchBackend(load_model_file(untrained_model()), PADDED_HW)(one)
    assert difference(found, on_cpu(one)) < 2e-4  # fp32 on another summation order


@pytest.mark.gpu
def test_one_cuda_graph_serves_every_image(half: tuple[Precision, TorchBackend]) -> None:
    precision, backend = half
    assert isinstance(backend._model, GraphedModel)
    assert backend._model.graphed
    images = [image("backend"), image("another"), image("backend")]
    found = [backend(one) for one in images]
    for one, answer in zip(images, found, strict=True):
        assert difference(answer, on_cpu(one)) < TOLERANCE[precision]
    assert np.array_equal(found[0].hoi_logits, found[2].hoi_logits), "the results own their memory"
    assert difference(found[1], on_cpu(images[0])) > TOLERANCE[precision]


@pytest.mark.gpu
def test_fused_kernels_run(half: tuple[Precision, TorchBackend]) -> None:
    half[1](image())
    if dispatch.triton_runs():
        assert dispatch.used["dual_attention"] == dispatch.used["bias_relu"] == "triton"


@pytest.mark.gpu
@pytest.mark.parametrize("precision", HALVES)
def test_gpu_padding_changes_no_prediction(precision: Precision) -> None:
    model = load_model_file(untrained_model())
    small, large = (
        TorchBackend(model, padded_hw, precision)(image(padded_hw=padded_hw)) for padded_hw in (PADDED_HW, (160, 256))
    )
    assert difference(small, vars_of(large)) < TOLERANCE[precision]


def vars_of(answer: RawOutput) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in RawOutput.__dataclass_fields__}


def test_backend_output_equals_the_module() -> None:
    if torch.cuda.is_available():
        pytest.skip("the backend runs on the GPU here")
    one = image()
    assert difference(TorchBackend(load_model_file(untrained_model()), PADDED_HW)(one), on_cpu(one)) == 0


def test_half_precision_on_a_cpu_is_one_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("the backend runs on the GPU here")
    with pytest.raises(
        UsageError, match=r"^torch runs bf16, fp16 on CUDA only, asked for bf16; on a CPU take openvino$"
    ):
        TorchBackend(load_model_file(untrained_model()), PADDED_HW, "bf16")


class StreamOfTheHost:
    """Everything is done when the call returns."""

    def wait_stream(self, other: object) -> None: ...
    def synchronize(self) -> None: ...
    def record(self, stream: object) -> None: ...


@pytest.fixture
def no_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host as a GPU whose driver cannot capture."""

    @contextlib.contextmanager
    def refuse(*_: object, **__: object) -> Iterator[None]:
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be ...")
        yield

    for name in ("Stream", "current_stream", "default_stream", "Event", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, StreamOfTheHost)
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "graph", refuse)


def test_backend_without_cuda_graph_warns_and_infers(no_graphs: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = GraphedModel(load_model_file(untrained_model()).build(), PADDED_HW, HALF_DTYPES["bf16"], "cpu")
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("no CUDA graph of this model (operation not permitted when stream is capturing): ")
    assert not model.graphed
    one, another = image("backend"), image("another")
    first, second = model(*arrays(one)), model(*arrays(another))
    assert {value.dtype for value in first.values()} == {np.dtype(np.float32)}
    assert difference(first, on_cpu(one)) < TOLERANCE["bf16"]
    assert difference(second, on_cpu(another)) < TOLERANCE["bf16"]
    assert difference(first, second) > TOLERANCE["bf16"]
    with pytest.raises(ValueError, match=r"expected \(1, 3, 96, 160\) for this padded size, got \(1, 3, 160, 256\)"):
        model(*arrays(image(padded_hw=(160, 256))))

"""The torch backend: in fp32 the module itself; in half precision the same answers, from buffers of its own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from hoiclip.checkpoint.model_file import load_model_file
from hoiclip.errors import UsageError
from hoiclip_engine.backends.torch_backend import TYPES, TorchBackend
from hoiclip_engine.backends.torch_graph import GraphedModel
from hoiclip_engine.precision import Precision
from hoiclip_engine.preprocess import ModelInput, PreprocessConfig, preprocess
from hoiclip_engine.raw_output import RawOutput
from hoiclip_kernels import dispatch
from tests.engine.untrained import untrained_model
from tests.golden.rule import PUBLIC_SALT, golden_photo

CANVAS = (96, 160)
HALVES: tuple[Precision, ...] = ("fp16", "bf16")
TOLERANCE = {"fp16": 0.02, "bf16": 0.15}
"""Of a logit. Those of the untrained model reach 15, of which fp16 keeps 11 bits and bf16 8, through a dozen layers."""


def picture(name: str = "backend", canvas_hw: tuple[int, int] = CANVAS) -> ModelInput:
    """90 x 130 px, resized to 96 x 138 on the canvas."""
    photo = golden_photo(name, 90, 130, PUBLIC_SALT)
    return preprocess(photo, PreprocessConfig(short_side_px=96, clip_side_px=64, canvas_hw=canvas_hw))


def arrays(one: ModelInput) -> tuple[Any, ...]:
    return one.detector_bchw, one.mask_bhw, one.clip_bchw


def on_cpu(one: ModelInput) -> dict[str, Any]:
    """By the module in fp32."""
    with torch.inference_mode():
        made = load_model_file(untrained_model()).build()(*map(torch.from_numpy, arrays(one)))
    return {name: value.numpy() for name, value in made._asdict().items()}


def difference(found: RawOutput | dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest of any field."""
    get = found.__getitem__ if isinstance(found, dict) else lambda name: getattr(found, name)
    return max(float(np.abs(get(name) - value).max()) for name, value in expected.items())


@pytest.fixture(scope="module", params=HALVES)
def half(request: pytest.FixtureRequest) -> Iterator[tuple[Precision, TorchBackend]]:
    backend = TorchBackend(load_model_file(untrained_model()), CANVAS, request.param)
    yield request.param, backend
    backend.close()


@pytest.mark.gpu
def test_on_a_gpu_the_logits_are_those_of_the_cpu() -> None:
    one = picture()
    found = TorchBackend(load_model_file(untrained_model()), CANVAS)(one)
    assert difference(found, on_cpu(one)) < 2e-4  # fp32 on another summation order


@pytest.mark.gpu
def test_one_graph_is_right_for_every_picture(half: tuple[Precision, TorchBackend]) -> None:
    precision, backend = half
    assert isinstance(backend._look, GraphedModel)
    assert backend._look.graphed
    pictures = [picture("backend"), picture("another"), picture("backend")]
    found = [backend(one) for one in pictures]
    for one, answer in zip(pictures, found, strict=True):
        assert difference(answer, on_cpu(one)) < TOLERANCE[precision]
    assert np.array_equal(found[0].hoi_logits, found[2].hoi_logits), "the results own their memory"
    assert difference(found[1], on_cpu(pictures[0])) > TOLERANCE[precision]


@pytest.mark.gpu
def test_the_fused_kernels_run(half: tuple[Precision, TorchBackend]) -> None:
    half[1](picture())
    if dispatch.triton_runs():
        assert dispatch.used["dual_attention"] == dispatch.used["bias_relu"] == "triton"


@pytest.mark.gpu
@pytest.mark.parametrize("precision", HALVES)
def test_on_a_gpu_padding_changes_no_answer(precision: Precision) -> None:
    model = load_model_file(untrained_model())
    small, large = (
        TorchBackend(model, canvas_hw, precision)(picture(canvas_hw=canvas_hw)) for canvas_hw in (CANVAS, (160, 256))
    )
    assert difference(small, vars_of(large)) < TOLERANCE[precision]


def vars_of(answer: RawOutput) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in RawOutput.__dataclass_fields__}


def test_the_backend_adds_nothing_to_the_module() -> None:
    if torch.cuda.is_available():
        pytest.skip("the backend runs on the GPU here")
    one = picture()
    assert difference(TorchBackend(load_model_file(untrained_model()), CANVAS)(one), on_cpu(one)) == 0


def test_half_precision_on_a_cpu_is_refused_in_one_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("the backend runs on the GPU here")
    with pytest.raises(
        UsageError, match=r"^torch runs bf16, fp16 on CUDA only, asked for bf16; on a CPU take openvino$"
    ):
        TorchBackend(load_model_file(untrained_model()), CANVAS, "bf16")


class StreamOfTheHost:
    """Everything is done when the call returns."""

    def wait_stream(self, other: object) -> None: ...
    def synchronize(self) -> None: ...
    def record(self, stream: object) -> None: ...


@pytest.fixture
def no_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host in the place of a GPU whose driver cannot capture."""

    @contextlib.contextmanager
    def refuse(*_: object, **__: object) -> Iterator[None]:
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be ...")
        yield

    for name in ("Stream", "current_stream", "Event", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, StreamOfTheHost)
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "graph", refuse)


def test_without_a_graph_it_says_so_and_answers_all_the_same(no_graphs: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = GraphedModel(load_model_file(untrained_model()).build(), CANVAS, TYPES["bf16"], "cpu")
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("no CUDA graph of this model (operation not permitted when stream is capturing): ")
    assert not model.graphed
    one, another = picture("backend"), picture("another")
    first, second = model(*arrays(one)), model(*arrays(another))
    assert {value.dtype for value in first.values()} == {np.dtype(np.float32)}
    assert difference(first, on_cpu(one)) < TOLERANCE["bf16"]
    assert difference(second, on_cpu(another)) < TOLERANCE["bf16"]
    assert difference(first, second) > TOLERANCE["bf16"]
    with pytest.raises(ValueError, match=r"expected \(1, 3, 96, 160\) for this canvas, got \(1, 3, 160, 256\)"):
        model(*arrays(picture(canvas_hw=(160, 256))))

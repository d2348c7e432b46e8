"""The adapter to torch_tensorrt: the program it passes on, and the errors where the package is missing or fails."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from hoiclip.core.errors import BackendMissing, ModelError
from hoiclip.core.model_file import load_model_file
from hoiclip.model.gpu_inference import prepare_for_gpu
from hoiclip_engine.backends.tensorrt.backend import compile_model
from hoiclip_engine.export.graph_spec import INPUTS, GraphSpec
from hoiclip_engine.export.onnx_export import example_inputs
from tests.engine.untrained import CONFIG, untrained_model

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def prepared() -> tuple[torch.nn.Module, list[Tensor]]:
    """The whole prepared model in bf16."""
    named = example_inputs(CONFIG, GraphSpec(padded_hw=(64, 96)))
    inputs = [named[name] for name in INPUTS["whole"]]
    inputs = [tensor if tensor.dtype == torch.bool else tensor.bfloat16() for tensor in inputs]
    return prepare_for_gpu(load_model_file(untrained_model()).build(), torch.bfloat16, "cpu"), inputs


class FakeDynamo:
    """torch_tensorrt.dynamo as it is documented: compile(exported_program, inputs=None, *, settings)."""

    def __init__(self) -> None:
        self.typing: list[bool] = []

    def compile(
        self,
        exported_program: torch.export.ExportedProgram,
        inputs: Sequence[Any] | None = None,
        *,
        use_explicit_typing: bool = False,
        min_block_size: int = 5,
    ) -> torch.nn.Module:
        assert isinstance(exported_program, torch.export.ExportedProgram)
        assert inputs is not None
        self.typing.append(use_explicit_typing)
        names = {str(node.target) for node in exported_program.graph.nodes}
        assert not any(name.startswith("hoiclip") for name in names), "an operator TensorRT does not know"
        return exported_program.module()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDynamo:
    module = ModuleType("torch_tensorrt")
    dynamo = FakeDynamo()
    module.dynamo = dynamo  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_tensorrt", module)
    return dynamo


def test_torch_tensorrt_gets_a_typed_program_of_plain_operators(
    fake: FakeDynamo, prepared: tuple[torch.nn.Module, list[Tensor]]
) -> None:
    model, inputs = prepared
    compiled = compile_model(model, inputs)
    assert fake.typing == [True]
    with torch.inference_mode():
        found, expected = compiled(*inputs), model(*inputs)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, atol=0.15, rtol=0)  # as in test_torch_backend.py


def test_missing_torch_tensorrt_is_one_line_with_the_package(
    monkeypatch: pytest.MonkeyPatch, prepared: tuple[torch.nn.Module, list[Tensor]]
) -> None:
    monkeypatch.setitem(sys.modules, "torch_tensorrt", None)
    with pytest.raises(BackendMissing, match=r"^torch_tensorrt cannot be imported .*; pip install torch-tensorrt$"):
        compile_model(*prepared)


def test_failure_of_torch_tensorrt_is_one_line(
    fake: FakeDynamo, monkeypatch: pytest.MonkeyPatch, prepared: tuple[torch.nn.Module, list[Tensor]]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no engine\nand a stack")

    monkeypatch.setattr(fake, "compile", fail)
    with pytest.raises(ModelError, match=r"^torch_tensorrt cannot compile the model: no engine$"):
        compile_model(*prepared)

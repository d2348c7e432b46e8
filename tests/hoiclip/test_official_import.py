"""Official checkpoints are untrusted pickles: accepted and refused content, without remains after an error."""

from __future__ import annotations

import argparse
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hoiclip.checkpoint.official import import_checkpoint
from hoiclip.checkpoint.state_dict import read_checkpoint
from hoiclip.checkpoint.text_embeddings import encode as text_encode
from hoiclip.core.errors import ModelError
from hoiclip_engine.cli.main import main
from tests.golden.models import ZERO_SHOT
from tests.golden.rule import official_keys

pytestmark = pytest.mark.thorough

Write = Callable[..., Path]


def light_state(layout: str) -> dict[str, Tensor]:
    """Right keys and shapes, one number per tensor: a few hundred kilobytes instead of 870 MB."""
    return {key: torch.tensor(0.01).expand(shape) for key, shape in official_keys(layout).items()}


@pytest.fixture(autouse=True)
def _one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The full text tower reads one prompt in place of hundreds, which tests/golden and tests/parity compare."""

    def encode(prompts: Sequence[str], weights: Mapping[str, Tensor]) -> Tensor:
        return text_encode(prompts[:1], weights).expand(len(prompts), -1)

    monkeypatch.setattr("hoiclip.checkpoint.text_embeddings.encode", encode)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def save(state: dict[str, Any], **more: Any) -> Path:
        path = tmp_path / "checkpoint.pth"
        torch.save({"model": state, "epoch": 3, **more}, path)
        return path

    return save


@pytest.mark.parametrize(("layout", "dropped"), [("hico", 218), ("vcoco", 217), (ZERO_SHOT, 220)])
def test_official_layouts_are_known_to_the_last_key(layout: str, dropped: int, write: Write) -> None:
    imported = import_checkpoint(write(light_state(layout), args=argparse.Namespace(lr=1e-4, dataset_file="hico")))
    assert len(imported.dropped) == dropped
    assert imported.zero_shot == (layout == ZERO_SHOT)
    assert imported.config.num_hois == (263 if layout == "vcoco" else 600)
    assert imported.config.verb_weight == (0.1 if layout == "vcoco" else 0.5)
    assert imported.epoch == 3
    assert {value.dtype for value in imported.state.values()} == {torch.float32}


def test_half_precision_tensors_of_a_wrapped_module_are_cast(write: Write) -> None:
    state = {f"module.{key}": value for key, value in light_state("vcoco").items()}
    for key in state:
        if key.startswith("module.clip_model.visual."):
            state[key] = state[key].half()
    imported = import_checkpoint(write(state))
    assert imported.state["clip.projection"].dtype == torch.float32
    assert imported.vocabulary.name == "vcoco"


def test_missing_and_misshapen_tensors_are_named_in_one_error(write: Write, tmp_path: Path, capsys: Any) -> None:
    state = light_state("hico")
    del state["transformer.encoder.layers.2.norm1.weight"], state["input_proj.bias"]
    state["hum_bbox_embed.layers.2.weight"] = torch.zeros(5, 256)
    target = tmp_path / "out.safetensors"
    assert main(["models", "import", str(write(state)), "-o", str(target)]) == 4
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "transformer.encoder.layers.2.norm1.weight" in message
    assert "input_proj.bias" in message
    assert "hum_bbox_embed.layers.2.weight is [5, 256], expected [4, 256]" in message
    assert list(tmp_path.glob("*.safetensors")) == []
    assert list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*")) == []


def test_unknown_tensor_is_refused(write: Write) -> None:
    with pytest.raises(ModelError, match=r"1 unknown: extra\.weight"):
        import_checkpoint(write({**light_state("hico"), "extra.weight": torch.zeros(1)}))


def test_labels_of_another_dataset_are_refused(write: Write) -> None:
    with pytest.raises(ModelError, match="does not fit"):
        import_checkpoint(write(light_state("hico")), "vcoco")


def test_values_that_are_not_finite_are_refused(write: Write) -> None:
    state = light_state("hico")
    state["query_embed_h.weight"] = torch.full((64, 256), float("nan"))
    with pytest.raises(ModelError, match=r"not finite.*query_embed_h"):
        import_checkpoint(write(state))


@pytest.mark.parametrize("wrap", ["module.{}", "_orig_mod.{}", "module._orig_mod.{}"])
def test_names_of_a_wrapped_module_are_those_of_the_module(wrap: str, write: Write) -> None:
    plain = read_checkpoint(write({"a.weight": torch.zeros(2), "b.0.bias": torch.ones(1)}))
    wrapped = read_checkpoint(write({wrap.format("a.weight"): torch.zeros(2), "b._orig_mod.0.bias": torch.ones(1)}))
    assert list(wrapped.state) == list(plain.state) == ["a.weight", "b.0.bias"]


def test_duplicate_name_with_and_without_a_prefix_is_refused(write: Write) -> None:
    with pytest.raises(ModelError, match=r"'a\.weight' twice"):
        read_checkpoint(write({"a.weight": torch.zeros(2), "module.a.weight": torch.zeros(2)}))


def test_archive_that_declares_more_than_its_file_is_refused(write: Write) -> None:
    path = write({"weight": torch.zeros(1 << 20)})
    with zipfile.ZipFile(path) as whole:
        parts = [(part.filename, whole.read(part)) for part in whole.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in parts:
            packed.writestr(name, content)
    with pytest.raises(ModelError, match=r"has \d+ bytes but declares \d+"):
        read_checkpoint(path)


def test_tensors_of_another_kind_are_refused(write: Write) -> None:
    with pytest.raises(ModelError, match="expected dense numbers in 'weight'"):
        read_checkpoint(write({"weight": torch.zeros(4, 4).to_sparse()}))
    with pytest.raises(ModelError, match="expected dense numbers in 'weight'"):
        read_checkpoint(write({"weight": torch.zeros(4, device="meta")}))
    with pytest.raises(ModelError, match="declares 1099511627776 numbers"):
        read_checkpoint(write({"weight": torch.zeros(1).expand(1 << 20, 1 << 20)}))


def test_torchscript_program_is_named_as_such(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "program.pt"))
    with pytest.raises(ModelError, match="a TorchScript program"):
        read_checkpoint(tmp_path / "program.pt")


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/hoiclip-pickle-ran",)


def test_pickle_with_code_is_refused_and_does_not_run(write: Write) -> None:
    marker = Path("/tmp/hoiclip-pickle-ran")
    marker.unlink(missing_ok=True)
    with pytest.raises(ModelError, match="could run code"):
        import_checkpoint(write(light_state("hico"), args=_Bomb()))
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + b"\0" * 100])
def test_file_that_is_no_checkpoint_is_one_error(content: bytes, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    assert main(["models", "import", str(path), "-o", str(tmp_path / "x.safetensors")]) == 4
    message = capsys.readouterr().err
    assert message.startswith("hoiclip: ")
    assert message.count("\n") == 1
    assert not (tmp_path / "x.safetensors").exists()


def test_truncated_checkpoint_is_one_error(write: Write, capsys: Any) -> None:
    path = write(light_state("hico"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert main(["models", "import", str(path), "-o", str(path.with_suffix(".safetensors"))]) == 4
    assert capsys.readouterr().err.count("\n") == 1


def test_checkpoint_of_another_model_is_refused(write: Write) -> None:
    with pytest.raises(ModelError, match="Is it an official HOICLIP checkpoint"):
        import_checkpoint(write({"weight": torch.zeros(2, 2)}))

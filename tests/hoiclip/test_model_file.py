"""Model files: round trip, errors that name what does not fit, and no harm by any bytes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from hoiclip.checkpoint.state_dict import read_checkpoint
from hoiclip.core.errors import HoiclipError, ModelError, SinkError
from hoiclip.core.model_file import FORMAT, ModelFile, load_model_file, save_model_file
from hoiclip.model import HOICLIP, ModelConfig
from tests.engine.frame_results import VOCABULARY

CONFIG = ModelConfig(
    num_object_classes=2,
    num_verbs=5,
    num_hois=3,
    short_side_px=64,
    max_side_px=128,
    backbone_depths=(1, 1, 1, 1),
    backbone_widths=(2, 4, 8, 16),
    hidden=16,
    heads=2,
    feedforward=16,
    encoder_layers=1,
    instance_layers=1,
    queries=3,
    clip_image_px=32,
    clip_patch_px=16,
    clip_width=16,
    clip_layers=1,
    clip_heads=2,
    clip_embed=8,
    interaction_layers=1,
    interaction_heads=2,
    interaction_feedforward=16,
    verb_weight=0.25,
)
PROVENANCE = {"kind": "made by a test", "notice": "nothing to see", "numbers": [1, 2]}


def state(config: ModelConfig = CONFIG) -> dict[str, Tensor]:
    """Every tensor of a model at random."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in HOICLIP(config).state_dict().items()}
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def saved(path: Path, tensors: dict[str, Tensor] | None = None) -> ModelFile:
    save_model_file(path, state() if tensors is None else tensors, CONFIG, VOCABULARY, PROVENANCE)
    return load_model_file(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def rewrite(path: Path, **metadata: Any) -> Path:
    """The same tensors with other metadata; None leaves an entry out."""
    known = {
        "format": FORMAT,
        "config": json.dumps(CONFIG.to_dict()),
        "vocabulary": VOCABULARY.to_json(),
        "provenance": json.dumps(PROVENANCE),
    }
    save_file(state(), path, metadata={key: value for key, value in {**known, **metadata}.items() if value is not None})
    return path


# Round trip.


def test_model_file_keeps_tensors_config_vocabulary_and_provenance(path: Path) -> None:
    tensors = state()
    model = saved(path, tensors)
    assert model.config == CONFIG
    assert model.vocabulary == VOCABULARY
    assert model.provenance == PROVENANCE
    assert (model.name, model.notice) == ("model", "nothing to see")
    built = model.build()
    assert not built.training
    for key, value in built.state_dict().items():
        assert torch.equal(value, tensors[key]), key
    assert torch.equal(torch.from_numpy(model.tensor("hoi_rows")), tensors["hoi_rows"])


def test_half_precision_tensors_are_cast(path: Path) -> None:
    tensors = state()
    tensors["query_norm.weight"] = tensors["query_norm.weight"].half()
    model = saved(path, tensors)
    assert {value.dtype for value in model.build().state_dict().values()} == {torch.float32}


def test_hash_follows_the_current_bytes(path: Path) -> None:
    for shift in (0, 1, 2):
        tensors = state()
        tensors["query_norm.weight"][0] += shift
        model = saved(path, tensors)
        os.utime(path, ns=(1, 1))  # as fast as a file can be replaced
        assert model.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_model_file_is_readable_by_others(path: Path) -> None:
    saved(path)
    assert path.stat().st_mode & 0o777 == 0o644


# Errors name what does not fit.


def without(key: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if name != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: without("input_projection.bias", tensors), "1 missing: input_projection.bias"),
        (lambda tensors: {**tensors, "extra": torch.zeros(1)}, "1 unknown: extra"),
        (
            lambda tensors: {**tensors, "query_norm.bias": torch.zeros(3)},
            r"1 misshapen: query_norm.bias is \[3\], expected \[16\]",
        ),
        (lambda tensors: {}, r"missing: .*; .*; .* \.\.\."),
    ],
    ids=["missing", "unknown", "misshapen", "empty"],
)
def test_tensor_that_does_not_fit_is_named(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str, path: Path
) -> None:
    model = saved(path, change(state()))
    with pytest.raises(ModelError, match=message):
        model.build()


def test_missing_text_embeddings_are_named(path: Path) -> None:
    model = saved(path, without("hoi_rows", state()))
    with pytest.raises(ModelError, match="has no tensor hoi_rows"):
        model.tensor("hoi_rows")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": None}, "no hoiclip model file"),
        ({"format": "hoiclip-model/99"}, "hoiclip-model/99"),
        ({"config": None}, "damaged header.*config"),
        ({"vocabulary": "{"}, "damaged header"),
        ({"config": "[" * 100_000}, "damaged header"),
        ({"config": "7"}, "damaged header"),
        ({"config": json.dumps({**CONFIG.to_dict(), "depth": 7})}, r"unknown fields \['depth'\]"),
        ({"config": json.dumps({**CONFIG.to_dict(), "queries": 0})}, "queries must be an integer from 1 to"),
        ({"config": json.dumps({**CONFIG.to_dict(), "heads": 3})}, "heads must divide"),
        ({"config": json.dumps({**CONFIG.to_dict(), "num_verbs": 6})}, "its vocabulary does not name"),
        ({"vocabulary": "[]"}, "vocabulary is not of the expected form"),
    ],
)
def test_header_that_does_not_fit_is_one_error(metadata: dict[str, Any], message: str, path: Path) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_model_file(rewrite(path, **metadata))
    assert "\n" not in str(caught.value)


def test_provenance_of_another_form_is_ignored(path: Path) -> None:
    assert load_model_file(rewrite(path, provenance="[1]")).notice == ""


def test_missing_model_file_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.safetensors"):
        with pytest.raises(ModelError, match="there is no model file"):
            load_model_file(path)


# A save is whole or not at all.


def test_save_into_a_missing_folder_is_a_sink_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="choose a folder that exists"):
        saved(tmp_path / "no" / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["hoiclip.core.atomic_write.os.replace", "hoiclip.core.model_file.save_file"])
def test_failed_save_leaves_the_old_file(step: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(path)
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(step, fail)
    with pytest.raises(SinkError, match="No space left"):
        saved(path)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


# No bytes do harm.


def survives(path: Path, data: bytes) -> None:
    """Reads a complete model or raises one error of ours."""
    path.write_bytes(data)
    try:
        load_model_file(path).build()
        return
    except HoiclipError as error:
        message = str(error)
    assert "\n" not in message


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_model_or_one_error(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    survives(path, data)
    survives(path, len(data).to_bytes(8, "little") + data)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_damaged_model_is_a_model_or_one_error(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    good = tmp_path_factory.getbasetemp() / "good.safetensors"
    if not good.exists():
        saved(good)
    damaged = bytearray(good.read_bytes())
    header = 8 + int.from_bytes(damaged[:8], "little")
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, header), st.integers(0, 255)), max_size=4)):
        damaged[place] = value
    survives(path, bytes(damaged[: data.draw(st.integers(0, len(damaged)) | st.just(len(damaged)))]))


small_json = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.thorough
@settings(max_examples=60, deadline=None, derandomize=True)
@given(field=st.sampled_from(sorted(set(CONFIG.to_dict()) - {"verb_weight"})), value=small_json, whole=small_json)
def test_any_config_is_a_model_or_one_error(
    field: str, value: Any, whole: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "config.safetensors"
    for config in ({**CONFIG.to_dict(), field: value}, whole):  # small numbers: large ones make a large model
        rewrite(path, config=json.dumps(config))
        survives(path, path.read_bytes())


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_checkpoint_or_one_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pth"
    for prefix in (b"", b"\x80\x02"):
        path.write_bytes(prefix + data)
        with pytest.raises(ModelError):
            read_checkpoint(path)


def test_undamaged_example_is_read(path: Path) -> None:
    """Guards the tests above: the undamaged model works."""
    built = saved(path).build()
    assert load_file(path).keys() == built.state_dict().keys()
    images = (torch.zeros(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool), torch.zeros(1, 3, 32, 32))
    assert built(*images).hoi_logits.shape == (1, 3, 3)

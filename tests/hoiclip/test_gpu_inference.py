"""Model prepared for a GPU, on the CPU: folding, types and masks keep the predictions of the fp32 model."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from hoiclip.core.errors import ModelError
from hoiclip.model import HOICLIP, Prediction
from hoiclip.model.gpu_inference import prepare_for_gpu
from tests.hoiclip.test_model import random_images, random_model
from tests.hoiclip.test_model_file import CONFIG

# Wide enough for oneDNN, whose strided 1x1 convolutions with channels last want 16 inputs (training/loop.py).
WIDE = replace(CONFIG, backbone_widths=(16, 16, 16, 32), encoder_layers=2, clip_layers=2, interaction_layers=2)
CONFIGS = {
    "official": WIDE,
    "light": replace(WIDE, backbone_block="basic", backbone_stem="light", placed_tokens=True, clip_stem=(4, 8)),
    "without CLIP memory": replace(WIDE, clip_memory=False),
    "fine memory": replace(WIDE, backbone_block="basic", backbone_stem="light", fine_memory=True),
}
TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.15, torch.bfloat16: 0.6}
"""Largest error as a fraction of the change by another image. Images hardly change an untrained model's output: boxes
move by a hundredth, and thirty roundings to the 8 bits of bf16 are a quarter of that, to the 11 of fp16 a thirtieth."""


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=list(CONFIGS))
def model(request: pytest.FixtureRequest) -> HOICLIP:
    """Weights of the usual sizes."""
    return random_model(request.param, gain=1.4).requires_grad_(False)


def fast(model: HOICLIP, dtype: torch.dtype) -> HOICLIP:
    return prepare_for_gpu(copy.deepcopy(model), dtype, "cpu")


def encode_images(model: HOICLIP, dtype: torch.dtype, padded_hw: tuple[int, int], seed: int = 0) -> Prediction:
    images, padding, clips = random_images((65, 95), padded_hw=padded_hw, seed=seed)
    with torch.inference_mode():
        made: Prediction = model(images.to(dtype), padding, clips.to(dtype))
    return made


def differences(a: Prediction, b: Prediction) -> dict[str, float]:
    return {name: float((x - y).abs().max()) for name, x, y in zip(Prediction._fields, a, b, strict=True)}


def assert_same(found: Prediction, expected: Prediction, other: Prediction, dtype: torch.dtype) -> None:
    """`other` is of another image."""
    between = differences(expected, other)
    for name, error in differences(found, expected).items():
        assert error < TOLERANCE[dtype] * between[name], name


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_gpu_model_gives_the_predictions_of_the_model(model: HOICLIP, dtype: torch.dtype) -> None:
    found = encode_images(fast(model, dtype), dtype, (96, 128))
    assert {tensor.dtype for tensor in found} == {torch.float32}
    expected, other = (encode_images(model, torch.float32, (96, 128), seed) for seed in (0, 7))
    assert_same(found, expected, other, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_padding_changes_no_prediction(model: HOICLIP, dtype: torch.dtype) -> None:
    quick = fast(model, dtype)
    alone, other = (encode_images(quick, dtype, (65, 95), seed) for seed in (0, 7))
    for padded_hw in ((96, 128), (160, 256)):
        assert_same(encode_images(quick, dtype, padded_hw), alone, other, dtype)


def test_convolutions_are_channels_last(model: HOICLIP) -> None:
    quick = fast(model, torch.bfloat16)
    seen: list[bool] = []
    for part in quick.backbone.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.register_forward_hook(
                lambda _, __, out: seen.append(out.is_contiguous(memory_format=torch.channels_last))
            )
    images, padding, clips = random_images((65, 95), padded_hw=(96, 128))
    with torch.inference_mode():
        quick(images.bfloat16().to(memory_format=torch.channels_last), padding, clips.bfloat16())
    assert seen
    assert all(seen)


def test_positions_are_counted_in_fp32(model: HOICLIP) -> None:
    """Beyond 256 cells bf16 cannot count; the right half of a wide image would have one position."""
    images, padding, _ = random_images((32, 32 * 300), padded_hw=(32, 32 * 301))
    with torch.inference_mode():
        _, exact, _ = model.encode(images, padding)
        _, position, _ = fast(model, torch.bfloat16).encode(images.bfloat16(), padding)
    torch.testing.assert_close(position, exact.bfloat16(), atol=0, rtol=0)


def test_heads_and_embeddings_stay_fp32(model: HOICLIP) -> None:
    quick = fast(model, torch.float16)
    types = {name: tensor.dtype for name, tensor in quick.state_dict().items()}
    exact = {name for name, dtype in types.items() if dtype == torch.float32}
    rows = {"hoi_rows", "object_rows", "verb_rows"}
    assert exact == {name for name in types if name.startswith("heads.")} | rows | {"clip.projection"}
    assert set(types.values()) == {torch.float32, torch.float16}


def test_weights_beyond_the_type_are_named(model: HOICLIP) -> None:
    loud = copy.deepcopy(model)
    loud.query_projection.weight[0, 0] = 1e6
    with pytest.raises(ModelError, match=r"query_projection.weight has weights beyond torch.float16; .*bf16"):
        prepare_for_gpu(loud, torch.float16, "cpu")

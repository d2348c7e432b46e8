"""The model made ready for a GPU, on the CPU: folding, types and masks give what the fp32 model gives."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from hoiclip.errors import ModelError
from hoiclip.model import HOICLIP, Prediction
from hoiclip.model.fast import fast_module
from tests.hoiclip.test_model import pictures, random_model
from tests.hoiclip.test_model_file import CONFIG

# Wide enough for oneDNN, whose strided 1x1 convolutions with channels last want 16 inputs (training/loop.py).
WIDE = replace(CONFIG, backbone_widths=(16, 16, 16, 32), encoder_layers=2, clip_layers=2, interaction_layers=2)
CONFIGS = {
    "official": WIDE,
    "light": replace(WIDE, backbone_block="basic", backbone_stem="light", placed_tokens=True, clip_stem=(4, 8)),
    "without CLIP memory": replace(WIDE, clip_memory=False),
    "fine memory": replace(WIDE, backbone_block="basic", backbone_stem="light", fine_memory=True),
}
SHARE = {torch.float32: 1e-3, torch.float16: 0.15, torch.bfloat16: 0.6}
"""Largest error as a share of what another picture changes. An untrained model tells pictures apart by little: boxes
move by a hundredth, and thirty roundings to the 8 bits of bf16 are a quarter of that, to the 11 of fp16 a thirtieth."""


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=list(CONFIGS))
def model(request: pytest.FixtureRequest) -> HOICLIP:
    """Weights of the usual sizes."""
    return random_model(request.param, gain=1.4).requires_grad_(False)


def fast(model: HOICLIP, dtype: torch.dtype) -> HOICLIP:
    return fast_module(copy.deepcopy(model), dtype, "cpu")


def look(model: HOICLIP, dtype: torch.dtype, canvas_hw: tuple[int, int], seed: int = 0) -> Prediction:
    images, padding, clips = pictures((65, 95), canvas_hw=canvas_hw, seed=seed)
    with torch.inference_mode():
        made: Prediction = model(images.to(dtype), padding, clips.to(dtype))
    return made


def differences(a: Prediction, b: Prediction) -> dict[str, float]:
    return {name: float((x - y).abs().max()) for name, x, y in zip(Prediction._fields, a, b, strict=True)}


def assert_same(found: Prediction, expected: Prediction, other: Prediction, dtype: torch.dtype) -> None:
    """`other` is of another picture."""
    between = differences(expected, other)
    for name, error in differences(found, expected).items():
        assert error < SHARE[dtype] * between[name], name


@pytest.mark.parametrize("dtype", SHARE, ids=str)
def test_it_gives_what_the_model_gives(model: HOICLIP, dtype: torch.dtype) -> None:
    found = look(fast(model, dtype), dtype, (96, 128))
    assert {one.dtype for one in found} == {torch.float32}
    expected, other = (look(model, torch.float32, (96, 128), seed) for seed in (0, 7))
    assert_same(found, expected, other, dtype)


@pytest.mark.parametrize("dtype", SHARE, ids=str)
def test_padding_changes_no_prediction(model: HOICLIP, dtype: torch.dtype) -> None:
    quick = fast(model, dtype)
    alone, other = (look(quick, dtype, (65, 95), seed) for seed in (0, 7))
    for canvas_hw in ((96, 128), (160, 256)):
        assert_same(look(quick, dtype, canvas_hw), alone, other, dtype)


def test_convolutions_keep_their_channels_last(model: HOICLIP) -> None:
    quick = fast(model, torch.bfloat16)
    seen: list[bool] = []
    for part in quick.backbone.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.register_forward_hook(
                lambda _, __, out: seen.append(out.is_contiguous(memory_format=torch.channels_last))
            )
    images, padding, clips = pictures((65, 95), canvas_hw=(96, 128))
    with torch.inference_mode():
        quick(images.bfloat16().to(memory_format=torch.channels_last), padding, clips.bfloat16())
    assert seen
    assert all(seen)


def test_positions_are_counted_in_fp32(model: HOICLIP) -> None:
    """Beyond 256 cells bf16 cannot count; a wide canvas would put its right half in one place."""
    images, padding, _ = pictures((32, 32 * 300), canvas_hw=(32, 32 * 301))
    with torch.inference_mode():
        _, exact, _ = model.encode(images, padding)
        _, position, _ = fast(model, torch.bfloat16).encode(images.bfloat16(), padding)
    torch.testing.assert_close(position, exact.bfloat16(), atol=0, rtol=0)


def test_what_must_stay_exact_does(model: HOICLIP) -> None:
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
        fast_module(loud, torch.float16, "cpu")

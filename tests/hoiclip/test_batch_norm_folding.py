"""Batch norms folded into convolutions: the same features, and padding still changes nothing."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hoiclip.model.backbone import Backbone, FrozenBatchNorm
from hoiclip.model.gpu_inference import fold_batch_norms
from tests.hoiclip.test_model_file import CONFIG

CONFIGS = {
    "official": CONFIG,
    "light": replace(CONFIG, backbone_block="basic", backbone_stem="light", backbone_depths=(2, 1, 1, 2)),
}


@pytest.fixture(params=CONFIGS.values(), ids=list(CONFIGS))
def backbone(request: pytest.FixtureRequest) -> Backbone:
    """Random norms: with means of zero padding would do nothing anyway."""
    torch.manual_seed(0)
    made = Backbone(request.param).requires_grad_(False).eval()
    for norm in made.modules():
        if isinstance(norm, FrozenBatchNorm):
            for tensor in (norm.weight, norm.bias, norm.running_mean):
                tensor.normal_()
            norm.running_var.uniform_(0.5, 2)
    return made


def folded(backbone: Backbone) -> Backbone:
    made = copy.deepcopy(backbone)
    fold_batch_norms(made)
    return made


def padded(images: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    batch, valid = torch.zeros(1, 3, height, width), torch.zeros(1, 1, height, width)
    batch[..., : images.shape[2], : images.shape[3]] = images
    valid[..., : images.shape[2], : images.shape[3]] = 1
    return batch, valid


def assert_close(found: Tensor, expected: Tensor) -> None:
    """fp32, a dozen layers that multiply in another order."""
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, atol=5e-6 * scale, rtol=5e-6)


@torch.inference_mode()
@pytest.mark.parametrize("size_hw", [(96, 64), (65, 95), (33, 47)])
def test_folded_backbone_gives_the_same_features(backbone: Backbone, size_hw: tuple[int, int]) -> None:
    images = torch.randn(1, 3, *size_hw)
    assert_close(folded(backbone)(images)[0], backbone(images)[0])
    batch, valid = padded(images, 128, 96)
    assert_close(folded(backbone)(batch, valid)[0], backbone(batch, valid)[0])


@torch.inference_mode()
@pytest.mark.parametrize("size_hw", [(65, 95), (33, 47), (1, 1)])
def test_folded_backbone_ignores_padding(backbone: Backbone, size_hw: tuple[int, int]) -> None:
    quick = folded(backbone)
    images = torch.randn(1, 3, *size_hw)
    alone, (features, cells, *_) = quick(images)[0], quick(*padded(images, 128, 96))
    assert cells is not None
    rows, columns = alone.shape[2:]
    assert_close(features[..., :rows, :columns], alone)
    assert cells.sum() == rows * columns


def test_folded_backbone_has_no_norm_and_no_shortcut_with_a_shift(backbone: Backbone) -> None:
    quick = folded(backbone)
    parts: list[Any] = [type(norm).__name__ for norm in quick.modules()]
    assert "FrozenBatchNorm" not in parts
    shortcuts = sum(name.endswith("shortcut") for name, _ in quick.named_modules())
    assert parts.count("Shift") + shortcuts == parts.count("Conv2d")

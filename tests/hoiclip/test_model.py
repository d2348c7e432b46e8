"""The network: padding changes nothing, every parameter learns."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from hoiclip.model import HOICLIP, LayerOutputs, ModelConfig, Prediction
from tests.hoiclip.test_model_file import CONFIG, state

CLIP_PX = CONFIG.clip_image_px
ATOL = 2e-5  # fp32; other padded sizes sum in other orders


CONFIGS = {
    "official": CONFIG,
    "light": replace(CONFIG, backbone_block="basic", backbone_stem="light", placed_tokens=True, clip_stem=(4, 8)),
    "without CLIP memory": replace(CONFIG, clip_memory=False),
    "fine memory": replace(CONFIG, backbone_block="basic", backbone_stem="light", placed_tokens=True, fine_memory=True),
    "fine bottlenecks": replace(CONFIG, fine_memory=True),
}


def random_model(config: ModelConfig, gain: float) -> HOICLIP:
    """Every tensor random, also those of the batch norms: with means of zero padding would do nothing anyway.

    Args:
        gain: factor by which a layer enlarges its input.
    """
    made = HOICLIP(config)
    tensors = state(config)
    for key in tensors:
        if key.endswith(("running_var", "log_scale")):
            tensors[key] = tensors[key].abs() + 0.5
        elif "norm" not in key and tensors[key].ndim > 1:
            tensors[key] *= gain / tensors[key][0].numel() ** 0.5
    made.load_state_dict(tensors)
    return made.eval()


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=list(CONFIGS))
def model(request: pytest.FixtureRequest) -> HOICLIP:
    return random_model(request.param, gain=2)


def random_images(
    *sizes_hw: tuple[int, int], padded_hw: tuple[int, int], seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """The same images for every padded size."""
    images = torch.zeros(len(sizes_hw), 3, *padded_hw)
    padding = torch.ones(len(sizes_hw), *padded_hw, dtype=torch.bool)
    clips = []
    for index, (height, width) in enumerate(sizes_hw):
        generator = torch.Generator().manual_seed(seed + 1000 * height + width)
        images[index, :, :height, :width] = torch.randn(3, height, width, generator=generator)
        padding[index, :height, :width] = False
        clips.append(torch.randn(3, CLIP_PX, CLIP_PX, generator=generator))
    return images, padding, torch.stack(clips)


def row(prediction: Prediction, index: int) -> Prediction:
    return Prediction(*(value[index : index + 1] for value in prediction))


def assert_same(a: Prediction, b: Prediction) -> None:
    for name, x, y in zip(Prediction._fields, a, b, strict=True):
        torch.testing.assert_close(x, y, atol=ATOL, rtol=ATOL, msg=partial("{}: {}".format, name))


@torch.inference_mode()
@pytest.mark.parametrize("size_hw", [(64, 96), (65, 95), (33, 47), (96, 31), (1, 1), (97, 127)])
@pytest.mark.parametrize("padded_hw", [(128, 128), (101, 133), (160, 256)])
def test_padding_changes_no_prediction(model: HOICLIP, size_hw: tuple[int, int], padded_hw: tuple[int, int]) -> None:
    assert_same(model(*random_images(size_hw, padded_hw=padded_hw)), model(*random_images(size_hw, padded_hw=size_hw)))


@torch.inference_mode()
@pytest.mark.parametrize("sizes_hw", [((65, 95), (128, 40)), ((33, 33), (32, 128))])
def test_batch_of_two_sizes_gives_the_same_as_each_image_alone(
    model: HOICLIP, sizes_hw: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    together = model(*random_images(*sizes_hw, padded_hw=(128, 128)))
    for index, size_hw in enumerate(sizes_hw):
        assert_same(row(together, index), model(*random_images(size_hw, padded_hw=size_hw)))


@torch.inference_mode()
def test_official_behaviour_depends_on_padding(model: HOICLIP) -> None:
    """Guards the tests above: padding could change the prediction if it were not masked."""
    padded, alone = (random_images((65, 95), padded_hw=padded_hw) for padded_hw in ((128, 160), (65, 95)))
    outputs = [model.all_layers(*inputs, mask_memory=False) for inputs in (padded, alone)]
    assert (outputs[0].hoi_logits - outputs[1].hoi_logits).abs().max() > 20 * ATOL
    assert_same(
        model(*alone),
        Prediction(
            outputs[1].hoi_logits[-1],
            outputs[1].object_logits[-1],
            outputs[1].human_boxes_cxcywh[-1],
            outputs[1].object_boxes_cxcywh[-1],
            outputs[1].clip_visual[:, 0],
        ),
    )


@torch.inference_mode()
def test_forward_equals_the_last_of_all_layers_and_norms_it_only() -> None:
    torch.manual_seed(0)
    model = HOICLIP(replace(CONFIG, instance_layers=3, interaction_layers=3)).eval()
    normed: list[nn.Module] = []
    for decoder in (model.instance_decoder, model.interaction_decoder):
        decoder.norm.register_forward_hook(lambda norm, *_: normed.append(norm))
    inputs = random_images((65, 95), padded_hw=(96, 96))
    found = model(*inputs)
    assert normed == [model.instance_decoder.norm, model.interaction_decoder.norm]
    outputs = model.all_layers(*inputs)
    assert len(normed) == 2 + 3 + 3
    for name in ("hoi_logits", "object_logits", "human_boxes_cxcywh", "object_boxes_cxcywh"):
        torch.testing.assert_close(getattr(found, name), getattr(outputs, name)[-1], atol=ATOL, rtol=ATOL)


@torch.inference_mode()
def test_different_images_give_different_predictions(model: HOICLIP) -> None:
    first, second = (model(*random_images((65, 95), padded_hw=(96, 96), seed=seed)) for seed in (0, 1))
    for name, x, y in zip(Prediction._fields, first, second, strict=True):
        assert (x - y).abs().max() > 20 * ATOL, name


@torch.inference_mode()
def test_image_without_padding_needs_no_mask(model: HOICLIP) -> None:
    images, padding, clips = random_images((96, 80), padded_hw=(96, 80))
    masked, plain = (model.encode_images(images, mask, clips) for mask in (padding, None))
    for name, x, y in zip(masked._fields, masked, plain, strict=True):
        torch.testing.assert_close(x, y, atol=ATOL, rtol=ATOL, msg=partial("{}: {}".format, name))


@torch.inference_mode()
def test_clip_memory_switches_attention_to_clip(model: HOICLIP) -> None:
    images, padding, clips = random_images((65, 95), padded_hw=(96, 96))
    first, second = (model(images, padding, image).hoi_logits for image in (clips, clips.flip(-1)))
    assert (first - second).abs().max() > 20 * ATOL if model.config.clip_memory else torch.equal(first, second)


@torch.inference_mode()
def test_boxes_lie_in_the_image_and_features_have_unit_length(model: HOICLIP) -> None:
    out = model.all_layers(*random_images((65, 95), (96, 96), padded_hw=(96, 96)))
    for boxes in (out.human_boxes_cxcywh, out.object_boxes_cxcywh):
        assert boxes.shape == (CONFIG.instance_layers, 2, CONFIG.queries, 4)
        assert ((boxes > 0) & (boxes < 1)).all()
    torch.testing.assert_close(out.hoi_feature.norm(dim=-1), torch.ones(2, CONFIG.queries))
    assert out.hoi_logits.shape == (CONFIG.interaction_layers, 2, CONFIG.queries, CONFIG.num_hois)
    assert out.object_logits.shape[-1] == CONFIG.num_object_classes + 1
    assert out.clip_visual.shape == (2, CONFIG.clip_tokens, CONFIG.clip_embed)
    assert out.clip_logits.shape == (2, CONFIG.num_hois)


NO_GRADIENT = {
    # The decoder starts from zeros: all its values are the same bias, whatever the attention weights are.
    "instance_decoder.layers.0.self_attention.in_proj_weight",
}


def test_every_parameter_gets_a_gradient(model: HOICLIP) -> None:
    """All of them have a gradient, and it is zero only where arithmetic says so."""
    learner = HOICLIP(model.config)
    learner.load_state_dict(model.state_dict())
    outputs = learner.all_layers(*random_images((65, 95), (96, 40), padded_hw=(96, 96)))
    generator = torch.Generator().manual_seed(0)
    assert isinstance(outputs, LayerOutputs)
    loss = sum((torch.randn(value.shape, generator=generator) * value).sum() for value in outputs)
    assert isinstance(loss, Tensor)
    loss.backward()
    without = {name for name, parameter in learner.named_parameters() if parameter.grad is None}
    assert without == set()
    still = {name for name, parameter in learner.named_parameters() if not parameter.grad.abs().max() > 1e-6}  # type: ignore[union-attr]
    assert still == NO_GRADIENT
    assert all(torch.isfinite(parameter.grad).all() for parameter in learner.parameters() if parameter.grad is not None)

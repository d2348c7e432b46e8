"""Auxiliary queries, heads and norms, which must not change the finished model; optimisation settings."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hoiclip.core.errors import UsageError
from hoiclip.data.targets import Targets
from hoiclip.model import HOICLIP, ModelConfig
from hoiclip.model.backbone import FrozenBatchNorm
from hoiclip.training.losses import Criterion, LossConfig
from hoiclip.training.optimization import (
    ModelEMA,
    Schedule,
    apply_rates,
    freeze,
    frozen_state,
    parameter_groups,
    unfreeze_batch_norm,
)
from hoiclip.training.tasks import HoiTask
from hoiclip.training.training_model import TrainingModel, adapt_text, dense_losses, dense_targets

SMALL = ModelConfig(
    num_object_classes=3,
    num_verbs=4,
    num_hois=5,
    backbone_depths=(1, 1, 1, 1),
    backbone_widths=(4, 4, 8, 8),
    backbone_block="basic",
    backbone_stem="light",
    hidden=16,
    heads=2,
    feedforward=16,
    encoder_layers=1,
    instance_layers=2,
    queries=3,
    placed_tokens=True,
    clip_image_px=32,
    clip_patch_px=16,
    clip_stem=(4, 8),
    clip_width=16,
    clip_layers=1,
    clip_heads=2,
    clip_embed=8,
    interaction_layers=2,
    interaction_heads=2,
    interaction_feedforward=16,
)


def random_images(count: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, 48, 64, generator=generator)
    clips = torch.randn(count, 3, 32, 32, generator=generator)
    return images, torch.zeros(count, 48, 64, dtype=torch.bool), clips


def targets(count: int = 2) -> list[Targets]:
    target = Targets(
        object_labels=torch.tensor([1]),
        hoi_labels=torch.eye(5)[2:3],
        human_boxes_cxcywh=torch.tensor([[0.5, 0.5, 0.5, 0.5]]),
        object_boxes_cxcywh=torch.tensor([[0.6, 0.6, 0.2, 0.2]]),
    )
    return [target] * count


@pytest.fixture
def model() -> HOICLIP:
    torch.manual_seed(0)
    return HOICLIP(SMALL).eval()


def test_first_query_group_is_the_model_and_groups_are_independent(model: HOICLIP) -> None:
    training = TrainingModel(model, query_groups=3)
    with torch.no_grad():
        grouped = training(*random_images()).layers
        alone = model.all_layers(*random_images())
    q = SMALL.queries
    assert grouped.hoi_logits.shape[2] == 3 * q
    for name in ("hoi_logits", "object_logits", "human_boxes_cxcywh", "object_boxes_cxcywh"):
        torch.testing.assert_close(getattr(grouped, name)[:, :, :q], getattr(alone, name), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        training.extra_queries.normal_()
        again = training(*random_images()).layers
    torch.testing.assert_close(again.hoi_logits[:, :, :q], grouped.hoi_logits[:, :, :q], atol=0, rtol=0)
    assert not torch.equal(again.hoi_logits[:, :, q:], grouped.hoi_logits[:, :, q:])


def test_query_group_alone_gives_the_same_as_among_others(model: HOICLIP) -> None:
    training = TrainingModel(model, query_groups=3)
    q = SMALL.queries
    with torch.no_grad():
        grouped = training(*random_images()).layers
        images, _, clips = random_images()
        seen = model.encode_images(images, None, clips)
        instances, interactions = model.decode(seen, training.extra_queries[1])
        alone = model.outputs(instances, interactions, seen.clip_tokens)
    for name in ("hoi_logits", "object_logits", "human_boxes_cxcywh", "object_boxes_cxcywh"):
        torch.testing.assert_close(getattr(grouped, name)[:, :, 2 * q :], getattr(alone, name), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(grouped.hoi_feature[:, 2 * q :], alone.hoi_feature, atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_trainable_parameter_and_no_frozen_one(model: HOICLIP) -> None:
    training = TrainingModel(model.train(), query_groups=2, dense_heads=True)
    freeze(model, clip=True, backbone_start=False)
    out = training(*random_images())
    assert out.dense is not None
    dense = dense_losses(out.dense, dense_targets(targets(), (3, 4), person_class=0, no_object_class=3))
    report = Criterion(LossConfig())(out.layers, targets(), groups=2)
    (report.total + torch.stack(list(dense.values())).sum()).backward()
    for name, parameter in training.named_parameters():
        frozen = name.removeprefix("model.").startswith(("clip.", "heads.hoi_classifier.", "heads.object_classifier."))
        assert parameter.requires_grad != frozen, name
        assert (parameter.grad is None) == frozen, name


def test_dense_targets_take_the_smallest_box_around_a_cell() -> None:
    made = dense_targets(targets(1), (10, 10), person_class=0, no_object_class=3)
    object_labels = made.object_labels[0].reshape(10, 10)
    assert object_labels[0, 0] == 3  # nothing
    assert object_labels[3, 3] == 0  # the human alone
    assert object_labels[6, 6] == 1  # the object lies over the human
    assert made.in_pair[0].reshape(10, 10)[6, 6]
    assert not made.in_pair[0].reshape(10, 10)[3, 3]
    assert made.hoi_labels[0].reshape(10, 10, 5)[6, 6].tolist() == [0, 0, 1, 0, 0]


def test_dense_targets_of_an_empty_image_are_nothing() -> None:
    empty = Targets(
        object_labels=torch.zeros(0, dtype=torch.int64),
        hoi_labels=torch.zeros(0, 5),
        human_boxes_cxcywh=torch.zeros(0, 4),
        object_boxes_cxcywh=torch.zeros(0, 4),
    )
    made = dense_targets([empty], (2, 3), person_class=0, no_object_class=3)
    assert made.object_labels.tolist() == [[3] * 6]
    assert not made.in_object.any()


def test_unfrozen_batch_norms_learn_and_keep_their_names(model: HOICLIP) -> None:
    names = set(model.state_dict())
    unfreeze_batch_norm(model.backbone)
    assert any(isinstance(part, nn.BatchNorm2d) for part in model.modules())
    model.train()(*random_images())
    assert set(frozen_state(model)) == names
    again = HOICLIP(SMALL).eval()
    again.load_state_dict(frozen_state(model))
    torch.testing.assert_close(again(*random_images()), model.eval()(*random_images()), atol=1e-5, rtol=1e-5)


def test_batch_norms_beside_frozen_convolutions_stay_frozen(model: HOICLIP) -> None:
    freeze(model, clip=True, backbone_start=True)
    unfreeze_batch_norm(model.backbone)
    learning = {name for name, part in model.backbone.named_modules() if isinstance(part, nn.BatchNorm2d)}
    constant = {name for name, part in model.backbone.named_modules() if isinstance(part, FrozenBatchNorm)}
    assert constant == {"bn", "stages.0.0.bn1", "stages.0.0.bn2"}
    assert len(learning) == 9


def test_backbone_has_its_own_learning_rate(model: HOICLIP) -> None:
    freeze(model, clip=True, backbone_start=True)
    others, backbone = parameter_groups(TrainingModel(model), lr=1e-4, backbone_lr=1e-5)
    assert (others["lr"], backbone["lr"]) == (1e-4, 1e-5)
    learning = sum(p.requires_grad for p in model.backbone.parameters())
    assert len(backbone["params"]) == learning > 0  # type: ignore[arg-type]


def test_parameters_are_slowed_and_frozen_by_the_beginning_of_their_names(model: HOICLIP) -> None:
    freeze(model, clip=True, backbone_start=False)
    rates = {"encoder.": 0, "backbone.": 0.5, "backbone.stages.3.": 1, "heads.": 0.1}
    apply_rates(model, rates)
    assert not any(p.requires_grad for p in model.encoder.parameters())
    groups = parameter_groups(TrainingModel(model), lr=1e-4, backbone_lr=1e-5, rates=rates)
    assert [group["lr"] for group in groups] == pytest.approx([1e-4, 1e-5, 1e-5, 5e-6])
    by_rate = {float(group["lr"]): len(group["params"]) for group in groups}  # type: ignore[arg-type]
    heads = sum(p.requires_grad for p in model.heads.parameters())
    assert [len(group["params"]) for group in groups][1] == heads  # type: ignore[arg-type]
    assert len(by_rate) >= 3
    with pytest.raises(UsageError, match=r"'encodr\.'.*the model has .*encoder"):
        apply_rates(model, {"encodr.": 0})


def test_text_adapter_changes_seen_and_unseen_rows_alike_and_ends_up_in_the_classifier(model: HOICLIP) -> None:
    freeze(model, clip=True, backbone_start=True)
    rows = model.heads.hoi_classifier.weight.detach().clone()
    adapt_text(model, rank=2)
    torch.testing.assert_close(model.heads.hoi_classifier.weight, rows)  # nothing is changed at first
    adapter = model.heads.hoi_classifier.parametrizations["weight"][0]
    learning = {name for name, p in model.heads.hoi_classifier.named_parameters() if p.requires_grad}
    assert learning == {"parametrizations.weight.0.down", "parametrizations.weight.0.up"}
    model.heads.hoi_logits(torch.randn(3, model.config.clip_embed))[:, 0].sum().backward()  # of the first HOI alone
    with torch.no_grad():
        adapter.up -= 0.1 * adapter.up.grad
    adapted = model.heads.hoi_classifier.weight.detach()
    assert ((adapted - rows).abs().amax(dim=1) > 0).all()
    assert torch.linalg.matrix_rank(adapted - rows) <= 2
    finished = HoiTask.finished(model, model.state_dict())
    torch.testing.assert_close(finished.heads.hoi_classifier.weight, adapted)
    assert finished.state_dict().keys() == HOICLIP(model.config).state_dict().keys()


def test_schedule_factors() -> None:
    linear = Schedule(kind="constant_linear", steps=100, warmup_steps=10, decay_from=0.5)
    assert [linear.factor(s) for s in (0, 9, 10, 49)] == [0.1, 1.0, 1.0, 1.0]
    assert linear.factor(75) == pytest.approx(0.5)
    assert linear.factor(100) == 0
    step = Schedule(kind="step", steps=90, drop_at=60 / 90)
    assert [step.factor(s) for s in (0, 59, 60, 89)] == [1.0, 1.0, 0.1, 0.1]
    cosine = Schedule(kind="cosine", steps=100)
    assert cosine.factor(0) == 1
    assert cosine.factor(50) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="warmup_steps"):
        Schedule(steps=5, warmup_steps=5)


def test_model_ema_follows_with_a_lag() -> None:
    layer = nn.Linear(2, 2)
    running = ModelEMA(layer, 0.9)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    for _ in range(200):
        running.update(layer)
    torch.testing.assert_close(running.tensors["weight"], layer.weight.detach(), atol=1e-4, rtol=0)
    with torch.no_grad():
        layer.weight.fill_(2.0)
    running.update(layer)
    assert 1.0 < float(running.tensors["weight"][0, 0]) < 1.2

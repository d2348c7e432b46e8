"""Losses: values, gradients of what they penalise and ignore, and finite results."""

from __future__ import annotations

import math
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hoiclip.data.targets import Targets
from hoiclip.model import LayerOutputs
from hoiclip.training.losses import Criterion, LossConfig, LossReport, find_non_finite_loss
from tests.hoiclip.test_matching import (
    HOIS,
    LAYERS,
    OBJECTS,
    QUERIES,
    example_outputs,
    example_targets,
    permuted,
)

few = settings(max_examples=15, deadline=None, derandomize=True)
BOX_LOSSES = ("loss_sub_bbox", "loss_obj_bbox", "loss_sub_giou", "loss_obj_giou")


def losses_of(outputs: LayerOutputs, targets: list[Targets], groups: int = 1) -> LossReport:
    return Criterion(LossConfig())(outputs, targets, groups=groups)


def gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad


def perfect_outputs(targets: list[Targets], sure: float) -> LayerOutputs:
    """Query i is pair i, in every layer."""
    outputs = example_outputs(len(targets))
    outputs.hoi_logits.fill_(-sure)
    outputs.object_logits.fill_(-sure)
    outputs.object_logits[..., -1] = sure
    for i, t in enumerate(targets):
        n = len(t)
        outputs.hoi_logits[:, i, :n] = (2 * t.hoi_labels - 1) * sure
        outputs.object_logits[:, i, torch.arange(n), -1] = -sure
        outputs.object_logits[:, i, torch.arange(n), t.object_labels] = sure
        outputs.human_boxes_cxcywh[:, i, :n] = t.human_boxes_cxcywh
        outputs.object_boxes_cxcywh[:, i, :n] = t.object_boxes_cxcywh
    return outputs


def test_perfect_prediction_has_no_loss() -> None:
    targets = [example_targets(4), example_targets(2, seed=1)]
    numbers = losses_of(perfect_outputs(targets, sure=20), targets).numbers()
    assert set(BOX_LOSSES) < set(numbers)
    for name, value in numbers.items():
        # Clamped probabilities and float32 boxes leave a remainder.
        assert value == pytest.approx(0, abs=1e-5), name


def test_class_losses_are_those_of_the_specification() -> None:
    outputs, targets = example_outputs(2), [example_targets(3), example_targets(0)]
    report = losses_of(outputs, targets)
    for layer, suffix in ((0, "_0"), (1, "")):
        queries, pairs = report.matches.of_layer(layer, 2)[0]
        pair_of = dict(zip(queries.tolist(), pairs.tolist(), strict=True))
        positive = negative = surprise = weights = 0.0
        for image in range(2):
            for query in range(QUERIES):
                pair = pair_of.get(query) if image == 0 else None
                for k in range(HOIS):
                    p = float(outputs.hoi_logits[layer, image, query, k].double().sigmoid())
                    if pair is not None and targets[0].hoi_labels[pair, k]:
                        positive += 0.5 * math.log(p) * (1 - p) ** 2
                    else:
                        negative += 0.5 * math.log(1 - p) * p**2
                label = OBJECTS if pair is None else int(targets[0].object_labels[pair])
                weight = 0.1 if pair is None else 1.0
                surprise -= weight * float(outputs.object_logits[layer, image, query].double().log_softmax(-1)[label])
                weights += weight
        hoi = -(positive + negative) / float(targets[0].hoi_labels.sum())
        assert float(report.losses["loss_hoi_labels" + suffix]) == pytest.approx(hoi, rel=1e-5)
        assert float(report.losses["loss_obj_ce" + suffix]) == pytest.approx(surprise / weights, rel=1e-5)


@few
@given(counts=st.lists(st.integers(0, QUERIES), min_size=1, max_size=3), seed=st.integers(0, 100))
def test_order_of_ground_truth_pairs_does_not_matter(counts: list[int], seed: int) -> None:
    outputs = example_outputs(len(counts), seed=seed)
    targets = [example_targets(n, seed=seed + i) for i, n in enumerate(counts)]
    generator = torch.Generator().manual_seed(seed)
    shuffled = [permuted(t, torch.randperm(len(t), generator=generator)) for t in targets]
    expected = losses_of(outputs, targets).numbers()
    assert losses_of(outputs, shuffled).numbers() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_gradient_of_boxes_is_of_matched_queries_only() -> None:
    outputs, targets = example_outputs(2, grad=True), [example_targets(5), example_targets(2, seed=1)]
    report = losses_of(outputs, targets)
    report.total.backward()
    has_object = 0
    for layer in range(LAYERS):
        for image, (queries, pairs) in enumerate(report.matches.of_layer(layer, 2)):
            pulled_humans = gradient(outputs.human_boxes_cxcywh)[layer, image].abs().sum(-1).nonzero()[:, 0]
            pulled_objects = gradient(outputs.object_boxes_cxcywh)[layer, image].abs().sum(-1).nonzero()[:, 0]
            exists = (targets[image].object_boxes_cxcywh[pairs] != 0).any(-1).numpy()
            assert pulled_humans.tolist() == queries.tolist()
            assert pulled_objects.tolist() == queries[exists].tolist()
            has_object += int(exists.sum())
    assert 0 < has_object < LAYERS * 7


def test_gradient_of_class_logits_is_of_every_layer_and_query() -> None:
    outputs, targets = example_outputs(1, grad=True), [example_targets(3)]
    losses_of(outputs, targets).total.backward()
    assert (gradient(outputs.hoi_logits) != 0).all()
    assert (gradient(outputs.object_logits) != 0).all()


def test_hoi_loss_of_soft_labels_is_zero_where_probabilities_equal_them() -> None:
    targets = [example_targets(3)]
    soft = [replace(t, hoi_labels=0.1 + 0.7 * t.hoi_labels) for t in targets]
    outputs = perfect_outputs(targets, sure=9.0)
    outputs.hoi_logits[:, 0, :3] = soft[0].hoi_labels.logit()
    assert float(losses_of(outputs, soft).losses["loss_hoi_labels"]) < 1e-5
    outputs.hoi_logits[:, 0, :3] += 1
    assert float(losses_of(outputs, soft).losses["loss_hoi_labels"]) > 1e-3


def test_gradient_of_a_certain_hoi_is_zero() -> None:
    outputs = example_outputs(1)
    outputs.hoi_logits[:, :, 0] = -10
    outputs.hoi_logits.requires_grad_()
    losses_of(outputs, [example_targets(0)]).total.backward()
    grad = gradient(outputs.hoi_logits)
    assert (grad[:, :, 0] == 0).all()
    assert (grad[:, :, 1:] > 0).all()


@pytest.mark.parametrize("images", [1, 3])
def test_box_losses_without_pairs_are_zero_and_gradients_finite(images: int) -> None:
    outputs = example_outputs(images, grad=True)
    report = losses_of(outputs, [example_targets(0)] * images)
    report.total.backward()
    assert [report.numbers()[name] for name in BOX_LOSSES] == [0] * 4
    assert report.numbers()["total"] > 0
    for leaf in outputs[:4]:
        assert gradient(leaf).isfinite().all()
    assert (gradient(outputs.human_boxes_cxcywh) == 0).all()
    assert (gradient(outputs.object_logits) != 0).any()


def test_query_groups_are_matched_separately() -> None:
    targets = [replace(example_targets(n, seed=n), object_boxes_cxcywh=torch.full((n, 4), 0.3)) for n in (3, 2)]
    groups = [example_outputs(2, seed=seed) for seed in range(3)]
    joined = groups[0]._replace(
        **{name: torch.cat([getattr(g, name) for g in groups], dim=2) for name in LayerOutputs._fields[:4]}
    )
    apart = [losses_of(g, targets).numbers() for g in groups]
    together = losses_of(joined, targets, groups=3)
    numbers = together.numbers()
    assert len(together.matches.image) == 3 * 5
    for name in ("loss_hoi_labels", "loss_obj_ce", "hoi_class_error", *BOX_LOSSES, "loss_sub_bbox_0", "total"):
        # The official 1e-4 in the number of objects is not three times as much.
        assert numbers[name] == pytest.approx(sum(a[name] for a in apart) / 3, rel=5e-5), name
    assert losses_of(joined, targets).numbers()["total"] != pytest.approx(numbers["total"], rel=1e-3)


def test_layers_count_from_the_last() -> None:
    outputs, targets = example_outputs(1), [example_targets(3)]
    earlier = torch.rand(1, 1, QUERIES, 4)
    deeper = outputs._replace(
        object_logits=torch.cat((torch.randn(1, 1, QUERIES, OBJECTS + 1), outputs.object_logits)),
        human_boxes_cxcywh=torch.cat((earlier, outputs.human_boxes_cxcywh)),
        object_boxes_cxcywh=torch.cat((earlier, outputs.object_boxes_cxcywh)),
    )
    assert losses_of(deeper, targets).numbers() == losses_of(outputs, targets).numbers()


def test_losses_are_float32_for_every_output_type() -> None:
    outputs, targets = example_outputs(2), [example_targets(3), example_targets(1)]
    rounded = outputs._replace(**{name: getattr(outputs, name).bfloat16() for name in outputs._fields})
    exact = rounded._replace(**{name: getattr(rounded, name).float() for name in outputs._fields})
    criterion = Criterion(LossConfig(reconstruction=2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        report = criterion(rounded, targets)
    assert report.total.dtype == torch.float32
    assert report.numbers() == criterion(exact, targets).numbers()


def test_reconstruction_is_zero_where_features_equal_the_image() -> None:
    outputs = example_outputs(2)
    image = torch.nn.functional.normalize(outputs.clip_visual[:, 0], dim=-1)
    criterion, targets = Criterion(LossConfig(reconstruction=2)), [example_targets(1)] * 2
    far = criterion(outputs, targets)
    near = criterion(outputs._replace(hoi_feature=image[:, None].expand(-1, QUERIES, -1)), targets)
    assert float(near.losses["loss_rec"]) == pytest.approx(0, abs=1e-7)
    assert float(far.total - near.total) == pytest.approx(2 * float(far.losses["loss_rec"]), rel=1e-4)
    assert "loss_rec" not in losses_of(outputs, targets).losses


@pytest.mark.parametrize(
    ("broken", "layer", "non_finite_loss"),
    [
        ("hoi_logits", 1, "loss_hoi_labels"),
        ("object_logits", 0, "loss_obj_ce_0"),
        ("human_boxes_cxcywh", 1, "loss_sub_bbox"),
        ("object_boxes_cxcywh", 0, "loss_obj_bbox_0"),
    ],
)
def test_non_finite_loss_is_named(broken: str, layer: int, non_finite_loss: str) -> None:
    outputs, targets = example_outputs(1), [example_targets(2)]
    assert find_non_finite_loss(losses_of(outputs, targets)) is None
    getattr(outputs, broken)[layer, 0, 5] = float("nan")
    assert find_non_finite_loss(losses_of(outputs, targets)) == non_finite_loss


def test_outputs_and_targets_of_different_sizes_are_refused() -> None:
    outputs, targets = example_outputs(2), example_targets(3)
    with pytest.raises(ValueError, match="one Targets for each of 2 images, got 1"):
        losses_of(outputs, [targets])
    with pytest.raises(ValueError, match=rf"\(pairs, {HOIS}\)"):
        losses_of(outputs, [targets, replace(targets, hoi_labels=targets.hoi_labels[:, 1:])])
    with pytest.raises(ValueError, match="divides 8 queries, got 3"):
        losses_of(outputs, [targets, targets], groups=3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hoi": -1.0},
        {"hoi": 0.0, "object_class": 0.0, "box_l1": 0.0, "box_giou": 0.0},
        {"no_object_weight": -0.1},
        {"focal_alpha": 1.5},
    ],
)
def test_loss_weights_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        replace(LossConfig(), **wrong)


def rank_loss(rank: int, store: str, pairs: int) -> float:
    """The human box loss of one of two ranks."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        return float(losses_of(example_outputs(1), [example_targets(pairs)]).losses["loss_sub_bbox"])
    finally:
        torch.distributed.destroy_process_group()


def test_number_of_pairs_is_the_mean_over_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        other = pool.apply_async(rank_loss, (1, str(tmp_path / "store"), 2))
        here = rank_loss(0, str(tmp_path / "store"), 6)
        there = other.get(timeout=60)
    alone = [float(losses_of(example_outputs(1), [example_targets(n)]).losses["loss_sub_bbox"]) for n in (6, 2)]
    assert here == pytest.approx(alone[0] * 6 / 4)
    assert there == pytest.approx(alone[1] * 2 / 4)

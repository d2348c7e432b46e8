"""Every ground-truth pair gets the query that suits it best."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hoiclip.core.boxes import cxcywh_to_xyxy, generalised_iou, xyxy_to_cxcywh
from hoiclip.data.targets import Targets
from hoiclip.model import LayerOutputs
from hoiclip.training.matching import MatchCosts, match, match_cost, pad_targets

CPU = torch.device("cpu")
LAYERS, QUERIES, HOIS, OBJECTS = 2, 8, 7, 4
counts = st.lists(st.integers(0, 5), min_size=1, max_size=3)
few = settings(max_examples=15, deadline=None, derandomize=True)


def example_outputs(images: int, *, seed: int = 0, queries: int = QUERIES, grad: bool = False) -> LayerOutputs:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return LayerOutputs(
        hoi_logits=random(LAYERS, images, queries, HOIS).requires_grad_(grad),
        object_logits=random(LAYERS, images, queries, OBJECTS + 1).requires_grad_(grad),
        human_boxes_cxcywh=random(LAYERS, images, queries, 4).sigmoid().requires_grad_(grad),
        object_boxes_cxcywh=random(LAYERS, images, queries, 4).sigmoid().requires_grad_(grad),
        clip_visual=random(images, 3, 6),
        clip_logits=random(images, HOIS),
        hoi_feature=torch.nn.functional.normalize(random(images, queries, 6), dim=-1),
    )


def example_targets(count: int, *, seed: int = 0) -> Targets:
    """Random pairs; every third acts without an object."""
    generator = torch.Generator().manual_seed(1000 + seed)
    hois = torch.rand(count, HOIS, generator=generator) < 0.3
    hois[torch.arange(count), torch.randint(0, HOIS, (count,), generator=generator)] = True
    objects = torch.rand(count, 4, generator=generator) * 0.5 + 0.2
    objects[2::3] = 0
    return Targets(
        object_labels=torch.randint(0, OBJECTS, (count,), generator=generator),
        hoi_labels=hois.float(),
        human_boxes_cxcywh=torch.rand(count, 4, generator=generator) * 0.5 + 0.2,
        object_boxes_cxcywh=objects,
    )


def permuted(targets: Targets, order: Tensor) -> Targets:
    return Targets(
        object_labels=targets.object_labels[order],
        hoi_labels=targets.hoi_labels[order],
        human_boxes_cxcywh=targets.human_boxes_cxcywh[order],
        object_boxes_cxcywh=targets.object_boxes_cxcywh[order],
    )


def matched(
    outputs: LayerOutputs, targets: list[Targets], costs: MatchCosts | None = None
) -> list[list[set[tuple[int, int]]]]:
    """{(query, target)} by layer and image."""
    matches = match(outputs, pad_targets(targets, CPU), costs or MatchCosts())
    layers = [matches.of_layer(layer, len(targets)) for layer in range(outputs.hoi_logits.shape[0])]
    return [[set(zip(q.tolist(), t.tolist(), strict=True)) for q, t in images] for images in layers]


def slow_cost(outputs: LayerOutputs, targets: Targets, layer: int, image: int, query: int, pair: int) -> float:
    """The cost of docs/model.md, Matching and losses, in float64."""

    def giou(a: Tensor, b: Tensor) -> float:
        (ax, ay, aw, ah), (bx, by, bw, bh) = a.double().tolist(), b.double().tolist()
        left, right = sorted((ax - aw / 2, bx - bw / 2)), sorted((ax + aw / 2, bx + bw / 2))
        low, high = sorted((ay - ah / 2, by - bh / 2)), sorted((ay + ah / 2, by + bh / 2))
        shared = max(right[0] - left[1], 0) * max(high[0] - low[1], 0)
        hull = (right[1] - left[0]) * (high[1] - low[0])
        union = aw * ah + bw * bh - shared
        return float(shared / union - (hull - union) / hull)

    p = outputs.hoi_logits[layer, image, query].double().sigmoid()
    y = targets.hoi_labels[pair].double()
    hoi = -0.5 * ((p * y).sum() / (y.sum() + 1e-4) + ((1 - p) * (1 - y)).sum() / ((1 - y).sum() + 1e-4))
    object_class = -outputs.object_logits[layer, image, query].double().softmax(-1)[targets.object_labels[pair]]
    human, gt_human = outputs.human_boxes_cxcywh[layer, image, query], targets.human_boxes_cxcywh[pair]
    obj, gt_object = outputs.object_boxes_cxcywh[layer, image, query], targets.object_boxes_cxcywh[pair]
    exists = bool((gt_object != 0).any())
    l1 = max((human - gt_human).abs().sum(), (obj - gt_object).abs().sum() * exists)
    overlap = max(-giou(human, gt_human), -giou(obj, gt_object) - giou(human, gt_human) * (not exists))
    return float(hoi + object_class + 2.5 * l1 + overlap)


def test_costs_are_those_of_the_specification() -> None:
    outputs, targets = example_outputs(2), [example_targets(3), example_targets(5, seed=1)]
    cost = match_cost(outputs, pad_targets(targets, CPU), MatchCosts())
    for layer, image, query in itertools.product(range(LAYERS), range(2), range(QUERIES)):
        for pair in range(len(targets[image])):
            expected = slow_cost(outputs, targets[image], layer, image, query, pair)
            assert cost[layer, image, query, pair].item() == pytest.approx(expected, abs=1e-5)


def test_hoi_cost_weight_counts_twice() -> None:
    outputs, targets = example_outputs(1), pad_targets([example_targets(2)], CPU)
    once, twice, thrice = (match_cost(outputs, targets, MatchCosts(hoi=weight)) for weight in (1, 2, 3))
    torch.testing.assert_close((thrice - once) / 8, (twice - once) / 3)


@few
@given(counts=counts, seed=st.integers(0, 100))
def test_match_is_the_cheapest_assignment(counts: list[int], seed: int) -> None:
    outputs = example_outputs(len(counts), seed=seed, queries=5)
    targets = [example_targets(min(n, 3), seed=seed + i) for i, n in enumerate(counts)]
    for layer, image in itertools.product(range(LAYERS), range(len(counts))):
        pairs = range(len(targets[image]))
        table = np.array([[slow_cost(outputs, targets[image], layer, image, q, t) for t in pairs] for q in range(5)])
        cheapest = min(
            sum(table[q, t] for t, q in enumerate(chosen)) for chosen in itertools.permutations(range(5), len(pairs))
        )
        found = matched(outputs, targets)[layer][image]
        assert len(found) == len(pairs)
        assert sum(table[pair] for pair in found) == pytest.approx(cheapest, abs=1e-5)


@few
@given(counts=counts, seed=st.integers(0, 100))
def test_images_of_a_batch_are_matched_separately(counts: list[int], seed: int) -> None:
    outputs = example_outputs(len(counts), seed=seed)
    targets = [example_targets(n, seed=seed + i) for i, n in enumerate(counts)]
    together = matched(outputs, targets)
    for i in range(len(counts)):
        alone = LayerOutputs(*(v[:, i : i + 1] for v in outputs[:4]), *(v[i : i + 1] for v in outputs[4:]))
        assert matched(alone, targets[i : i + 1]) == [[layer[i]] for layer in together]


@few
@given(count=st.integers(2, QUERIES), seed=st.integers(0, 100))
def test_order_of_ground_truth_pairs_does_not_matter(count: int, seed: int) -> None:
    outputs, targets = example_outputs(1, seed=seed), example_targets(count, seed=seed)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    before, after = matched(outputs, [targets]), matched(outputs, [permuted(targets, order)])
    assert [[{(q, int(order[t])) for q, t in image} for image in layer] for layer in after] == before


def test_match_with_more_pairs_than_queries_uses_every_query() -> None:
    outputs, targets = example_outputs(2, queries=3), [example_targets(5), example_targets(1)]
    for crowded, lonely in matched(outputs, targets):
        assert {query for query, _ in crowded} == {0, 1, 2}
        assert len(crowded) == 3
        assert len(lonely) == 1


def test_query_with_nan_is_matched() -> None:
    outputs, targets = example_outputs(1), [example_targets(2)]
    outputs.human_boxes_cxcywh[1, 0, 6] = float("nan")
    assert 6 in {query for query, _ in matched(outputs, targets)[1][0]}


def test_autocast_changes_no_match() -> None:
    outputs, targets = example_outputs(2), [example_targets(4), example_targets(3, seed=1)]
    cost = match_cost(outputs, pad_targets(targets, CPU), MatchCosts())
    expected = matched(outputs, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert matched(outputs, targets) == expected
    assert cost.dtype == torch.float32


@pytest.mark.parametrize("wrong", [{"hoi": -1.0}, {"hoi": 0.0, "object_class": 0.0, "box_l1": 0.0, "box_giou": 0.0}])
def test_match_costs_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="match costs"):
        replace(MatchCosts(), **wrong)


def test_generalised_iou_of_known_boxes() -> None:
    box = torch.tensor([0.0, 0.0, 2.0, 2.0])
    others = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [3, 0, 5, 2], [0, 0, 1, 1], [1, 1, 1, 1]])
    torch.testing.assert_close(generalised_iou(box, others), torch.tensor([1, 1 / 3, -0.2, 0.25, 0]))


def test_generalised_iou_of_boxes_without_area_is_finite_with_its_gradient() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    overlap = generalised_iou(boxes[:, None], boxes[None].detach())
    overlap.sum().backward()
    assert boxes.grad is not None
    assert overlap.isfinite().all()
    assert boxes.grad.isfinite().all()


@few
@given(values=st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4))
def test_box_forms_convert_into_each_other(values: list[float]) -> None:
    boxes_cxcywh = torch.tensor([values])
    torch.testing.assert_close(xyxy_to_cxcywh(cxcywh_to_xyxy(boxes_cxcywh)), boxes_cxcywh, atol=1e-6, rtol=1e-6)

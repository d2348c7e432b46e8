"""Matching, losses and their gradients against recordings of the official code, of any sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from hoiclip.data.targets import Targets
from hoiclip.model import LayerOutputs
from hoiclip.training.losses import Criterion, LossConfig, LossReport, reconstruction_loss

NAMES = ("hico", "vcoco", "hico_empty_rec")
GRADIENTS = {  # recorded name: field of LayerOutputs, recorded every n-th channel
    "grad_sub_boxes": ("human_boxes_cxcywh", 1),
    "grad_obj_boxes": ("object_boxes_cxcywh", 1),
    "grad_obj_logits_c8": ("object_logits", 8),
    "grad_hoi_logits_c16": ("hoi_logits", 16),
}


@dataclass(frozen=True)
class Recording:
    """One fixture file and the result of our criterion."""

    arrays: dict[str, NDArray[Any]]
    outputs: LayerOutputs
    report: LossReport


def read_outputs(arrays: dict[str, NDArray[Any]]) -> LayerOutputs:
    def leaf(name: str) -> Tensor:
        return torch.from_numpy(arrays[name]).requires_grad_()

    hoi_logits = leaf("pred_hoi_logits")
    _, images, queries, hois = hoi_logits.shape
    clip_cls = torch.from_numpy(arrays.get("clip_cls_feature", np.zeros((images, 1), np.float32)))
    feature = torch.from_numpy(arrays.get("hoi_feature", np.zeros((images, queries, 1), np.float32)))
    return LayerOutputs(
        hoi_logits=hoi_logits,
        object_logits=leaf("pred_obj_logits"),
        human_boxes_cxcywh=leaf("pred_sub_boxes"),
        object_boxes_cxcywh=leaf("pred_obj_boxes"),
        clip_visual=clip_cls[:, None],
        clip_logits=torch.zeros(images, hois),
        hoi_feature=feature,
    )


def read_targets(arrays: dict[str, NDArray[Any]], image: int) -> Targets:
    hois = arrays["pred_hoi_logits"].shape[-1]
    labels = torch.from_numpy(arrays[f"t{image}_obj_labels"])
    packed = arrays[f"t{image}_hoi_labels"]
    bits = np.unpackbits(packed, axis=1, count=hois) if len(labels) else np.zeros((0, hois))
    return Targets(
        object_labels=labels,
        hoi_labels=torch.from_numpy(bits.astype(np.float32)),
        human_boxes_cxcywh=torch.from_numpy(arrays[f"t{image}_sub_boxes"]),
        object_boxes_cxcywh=torch.from_numpy(arrays[f"t{image}_obj_boxes"]),
    )


@pytest.fixture(scope="module", params=NAMES)
def recording(request: pytest.FixtureRequest, parity_dir: Path) -> Recording:
    with np.load(parity_dir / f"criterion_{request.param}.npz") as file:
        arrays = dict(file)
    outputs = read_outputs(arrays)
    targets = [read_targets(arrays, i) for i in range(outputs.hoi_logits.shape[1])]
    weight = dict(zip(arrays["loss_names"].tolist(), arrays["loss_weights"].tolist(), strict=True))
    report = Criterion(LossConfig(reconstruction=weight.get("loss_rec", 0.0)))(outputs, targets)
    report.total.backward()
    return Recording(arrays, outputs, report)


def test_matches_are_the_official_ones(recording: Recording) -> None:
    layers, images = recording.outputs.hoi_logits.shape[:2]
    names = [f"aux{i}" for i in range(layers - 1)] + ["last"]
    compared = 0
    for layer, name in enumerate(names):
        for image, ours in enumerate(recording.report.matches.of_layer(layer, images)):
            np.testing.assert_array_equal(np.stack(ours), recording.arrays[f"match_{name}_b{image}"])
            compared += 1
    assert compared == sum(key.startswith("match_") for key in recording.arrays)


def with_recorded_features(recording: Recording) -> dict[str, float]:
    """Our numbers; loss_rec from the features as recorded, which are not of unit length as those of a model are."""
    numbers = recording.report.numbers()
    if "loss_rec" in numbers:
        clip_cls, feature = (torch.from_numpy(recording.arrays[name]) for name in ("clip_cls_feature", "hoi_feature"))
        as_recorded = float(reconstruction_loss(clip_cls, feature))
        numbers["total"] += recording.report.weights["loss_rec"] * (as_recorded - numbers["loss_rec"])
        numbers["loss_rec"] = as_recorded
    return numbers


def test_losses_have_official_names_weights_and_values(recording: Recording) -> None:
    names = recording.arrays["loss_names"].tolist()
    assert list(recording.report.losses) == names
    assert list(recording.report.weights.values()) == recording.arrays["loss_weights"].tolist()
    numbers = with_recorded_features(recording)
    for name, expected in zip(names, recording.arrays["loss_values"].tolist(), strict=True):
        # A percentage near 0 is a difference of float32 numbers near 100.
        assert numbers[name] == pytest.approx(expected, rel=1e-5, abs=1e-4 if "error" in name else 0), name
    assert numbers["total"] == pytest.approx(float(recording.arrays["total"]), rel=1e-5)


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_the_official_ones(recording: Recording, name: str) -> None:
    field, step = GRADIENTS[name]
    gradient = getattr(recording.outputs, field).grad
    assert gradient is not None
    expected = recording.arrays[name]
    # Gradients of confident negatives are many orders smaller than float32 keeps beside 1.
    smallest = 1e-7 * float(np.abs(expected).max())
    np.testing.assert_allclose(gradient[..., ::step].numpy(), expected, rtol=1e-4, atol=smallest)

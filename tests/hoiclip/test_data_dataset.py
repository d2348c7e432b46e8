"""Samples depend on seed, epoch and index alone, show what their annotation says, and make batches for the model."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.augment import AugmentConfig
from hoiclip.data.dataset import (
    Sample,
    SampleConfig,
    collate,
    drop_unseen,
    fraction,
    make_sample,
    make_targets,
    read_image,
)
from hoiclip.data.rows import image_annotation
from hoiclip.errors import DataError
from hoiclip.targets import Targets
from hoiclip.training.picture_samples import PictureSamples
from hoiclip.vocabulary import load_vocabulary
from hoiclip_engine.preprocess import PreprocessConfig, preprocess
from tests.hoiclip.making_data import FRUIT, fruit, save_noise

PLAIN = SampleConfig(short_side_px=40, max_side_px=64, clip_side_px=32)
AUGMENTED = replace(PLAIN, augment=AugmentConfig.for_size(40, 64))


def dataset(folder: Path, config: SampleConfig, count: int = 4, seed: int = 0) -> PictureSamples:
    annotations = [fruit(f"{i}.png", 64 + 8 * i, 48) for i in range(count)]
    for i, one in enumerate(annotations):
        save_noise(folder / one.file_name, one.width_px, one.height_px, seed=i)
    return PictureSamples(annotations, folder, FRUIT, config, seed)


def equal(a: Sample, b: Sample) -> bool:
    return torch.equal(a.detector_chw, b.detector_chw) and torch.equal(a.clip_chw, b.clip_chw) and equal_targets(a, b)


def equal_targets(a: Sample, b: Sample) -> bool:
    return all(torch.equal(getattr(a.targets, name), getattr(b.targets, name)) for name in Targets.__slots__)


def test_without_augmentation_a_sample_is_what_the_engine_sees(tmp_path: Path) -> None:
    save_noise(tmp_path / "1.png", 72, 48)
    sample = make_sample(read_image(tmp_path, fruit("1.png", 72)), fruit(), FRUIT, PLAIN, np.random.default_rng(0))
    rgb = np.asarray(Image.open(tmp_path / "1.png"))
    seen = preprocess(rgb, PreprocessConfig(short_side_px=40, max_side_px=64, clip_side_px=32))
    assert torch.equal(sample.detector_chw, torch.from_numpy(seen.detector_bchw[0]))
    assert torch.equal(sample.clip_chw, torch.from_numpy(seen.clip_bchw[0]))


def test_interactions_of_one_pair_become_one_target() -> None:
    targets = make_targets(fruit(width=64, height=48), FRUIT)
    assert targets.object_labels.tolist() == [0, 2, 1]
    assert targets.hoi_labels.tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]  # eats and throws the apple
    assert targets.human_boxes_cxcywh[0].tolist() == pytest.approx([16 / 64, 23.5 / 48, 28 / 64, 47 / 48])
    assert targets.object_boxes_cxcywh[0].tolist() == pytest.approx([9 / 64, 10.25 / 48, 10 / 64, 10.5 / 48])
    kinds = {name: getattr(targets, name).dtype for name in Targets.__slots__}
    assert kinds.pop("object_labels") == torch.int64
    assert set(kinds.values()) == {torch.float32}


def test_a_person_alone_has_the_no_object_class_and_an_empty_box() -> None:
    vcoco = load_vocabulary("vcoco")
    alone = next(hoi for hoi, (_, thing) in enumerate(vcoco.hois) if thing == 80)
    one = image_annotation("a.png", [(2, 0, 30, 47)], [0], [(0, -1, vcoco.hois[alone][0])], 64, 48)
    targets = make_targets(one, vcoco)
    assert targets.object_labels.tolist() == [80]
    assert targets.object_boxes_cxcywh.tolist() == [[0, 0, 0, 0]]
    assert targets.hoi_labels.nonzero().tolist() == [[0, alone]]


def test_what_is_no_hoi_or_no_box_is_no_target() -> None:
    one = fruit()
    throws_pear = replace(one, interactions=np.array([[1, 2, 1]]))
    assert len(make_targets(throws_pear, FRUIT)) == 0
    assert make_targets(throws_pear, FRUIT).hoi_labels.shape == (0, 4)
    flat = replace(one, boxes_xyxy=one.boxes_xyxy.copy())
    flat.boxes_xyxy[2] = [70, 8, 90, 20]  # outside
    sample = make_sample(Image.new("RGB", (64, 48)), flat, FRUIT, PLAIN, np.random.default_rng(0))
    assert sample.targets.object_labels.tolist() == [0, 1]


def test_boxes_and_pairs_beyond_the_slots_are_left_out() -> None:
    boxes = [(float(i), 0.0, float(i) + 5, 9.0) for i in range(80)]
    crowd = image_annotation("a.png", boxes, [1] * 80, [(0, i, 1) for i in range(1, 80)], 100, 50)
    rng = np.random.default_rng(0)
    picture = Image.new("RGB", (100, 50))
    assert len(make_sample(picture, crowd, FRUIT, PLAIN, rng).targets) == 63  # 64 boxes, one of them acts
    everybody = [(h, o, 1) for h in range(20) for o in range(20)]
    crowd = replace(crowd, interactions=np.array(everybody))
    assert len(make_sample(picture, crowd, FRUIT, PLAIN, rng).targets) == 64


def test_each_epoch_shows_every_picture_once_in_another_order(tmp_path: Path) -> None:
    data = dataset(tmp_path, PLAIN)
    widths = [[data[4 * epoch + place].detector_chw.shape[2] for place in range(4)] for epoch in range(6)]
    assert all(sorted(one) == sorted(widths[0]) for one in widths)
    assert len({tuple(one) for one in widths}) > 1


def test_a_sample_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    data = dataset(tmp_path, AUGMENTED)
    first = [data[i] for i in range(8)]
    assert equal(data[2], first[2])  # whatever was drawn before
    assert not any(equal(first[2], later) for later in first[4:])  # augmented anew in the second epoch
    assert not all(equal(dataset(tmp_path, AUGMENTED, seed=1)[i], first[i]) for i in range(4))


def test_nothing_to_learn_from_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found none"):
        dataset(tmp_path, PLAIN, count=0)


@pytest.mark.parametrize(("multiple", "hw"), [(1, (40, 58)), (32, (64, 64))])
def test_batches_are_padded_with_a_mask(multiple: int, hw: tuple[int, int], tmp_path: Path) -> None:
    data = dataset(tmp_path, PLAIN)
    samples = [data[0], data[1], data[3]]
    batch = collate(samples, multiple)
    widest = max(sample.detector_chw.shape[2] for sample in samples)
    assert batch.images.shape == (3, 3, *((40, widest) if multiple == 1 else hw))
    for i, sample in enumerate(samples):
        _, h, w = sample.detector_chw.shape
        assert torch.equal(batch.images[i, :, :h, :w], sample.detector_chw)
        assert not batch.padding[i, :h, :w].any()
        assert int((~batch.padding[i]).sum()) == h * w
        assert batch.images[i][:, batch.padding[i]].abs().sum() == 0
    assert batch.clip_images.shape == (3, 3, 32, 32)
    assert [len(one) for one in batch.to("cpu").targets] == [3, 3, 3]


def test_pairs_with_an_unseen_hoi_go_as_a_whole() -> None:
    empty = replace(fruit("empty.png"), interactions=np.empty((0, 3), np.int64))
    thrown = replace(fruit("thrown.png"), interactions=np.array([[1, 0, 1]]))
    kept = drop_unseen([fruit(), empty, thrown], {1}, FRUIT)  # throw an apple
    assert [one.file_name for one in kept] == ["a.png", "empty.png"]
    assert kept[0].interactions.tolist() == [[1, 2, 0], [1, 3, 1]]  # eating the same apple went too
    for one in kept:
        assert make_targets(one, FRUIT).hoi_labels[:, 1].sum() == 0
    assert len(drop_unseen([fruit(), empty, thrown], set(), FRUIT)) == 3


def test_fractions_are_nested_and_seeded() -> None:
    annotations: list[ImageAnnotation] = [fruit(f"{i:03}.png") for i in range(200)]
    parts = [[one.file_name for one in fraction(annotations, percent, 0)] for percent in (5, 15, 25, 50, 100)]
    assert [len(part) for part in parts] == [10, 30, 50, 100, 200]
    for smaller, larger in pairwise(parts):
        assert set(smaller) < set(larger)
        assert smaller == sorted(smaller)
    assert parts[0] != [one.file_name for one in fraction(annotations, 5, 1)]
    with pytest.raises(ValueError, match="percent"):
        fraction(annotations, 0, 0)


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    for name in ("a.png", "missing.png"):
        with pytest.raises(DataError, match=name):
            read_image(tmp_path, fruit(name))

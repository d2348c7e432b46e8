"""Samples depend on seed, epoch and index alone, agree with their annotation, and make batches for the model."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hoiclip.core.errors import DataError
from hoiclip.core.preprocess import PreprocessConfig, preprocess
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip.data.annotations import ImageAnnotation, image_annotation
from hoiclip.data.augment import AugmentConfig
from hoiclip.data.dataset import ImageDataset, ImageSamples, drop_unseen, fraction, read_image
from hoiclip.data.formats.hoia import write_hoia
from hoiclip.data.samples import Sample, SampleConfig, collate, make_sample, make_targets
from hoiclip.data.targets import Targets
from tests.hoiclip.small_datasets import FRUIT, fruit, save_noise

PLAIN = SampleConfig(short_side_px=40, max_side_px=64, clip_side_px=32)
AUGMENTED = replace(PLAIN, augment=AugmentConfig().for_size(40, 64))


def dataset(folder: Path, config: SampleConfig, count: int = 4, seed: int = 0) -> ImageSamples:
    annotations = [fruit(f"{i}.png", 64 + 8 * i, 48) for i in range(count)]
    for i, annotation in enumerate(annotations):
        save_noise(folder / annotation.file_name, annotation.width_px, annotation.height_px, seed=i)
    return ImageSamples(annotations, folder, FRUIT, config, seed)


def equal(a: Sample, b: Sample) -> bool:
    return torch.equal(a.detector_chw, b.detector_chw) and torch.equal(a.clip_chw, b.clip_chw) and equal_targets(a, b)


def equal_targets(a: Sample, b: Sample) -> bool:
    return all(torch.equal(getattr(a.targets, name), getattr(b.targets, name)) for name in Targets.__slots__)


def test_sample_without_augmentation_equals_engine_input(tmp_path: Path) -> None:
    save_noise(tmp_path / "1.png", 72, 48)
    sample = make_sample(read_image(tmp_path, fruit("1.png", 72)), fruit(), FRUIT, PLAIN, np.random.default_rng(0))
    rgb = np.asarray(Image.open(tmp_path / "1.png"))
    seen = preprocess(rgb, PreprocessConfig(short_side_px=40, max_side_px=64, clip_side_px=32))
    assert torch.equal(sample.detector_chw, torch.from_numpy(seen.detector_bchw[0]))
    assert torch.equal(sample.clip_chw, torch.from_numpy(seen.clip_bchw[0]))


def test_targets_join_interactions_of_one_pair() -> None:
    targets = make_targets(fruit(width=64, height=48), FRUIT)
    assert targets.object_labels.tolist() == [0, 2, 1]
    assert targets.hoi_labels.tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]  # eats and throws the apple
    assert targets.human_boxes_cxcywh[0].tolist() == pytest.approx([16 / 64, 23.5 / 48, 28 / 64, 47 / 48])
    assert targets.object_boxes_cxcywh[0].tolist() == pytest.approx([9 / 64, 10.25 / 48, 10 / 64, 10.5 / 48])
    kinds = {name: getattr(targets, name).dtype for name in Targets.__slots__}
    assert kinds.pop("object_labels") == torch.int64
    assert set(kinds.values()) == {torch.float32}


def test_targets_of_person_alone_have_no_object_class_and_empty_box() -> None:
    vcoco = load_vocabulary("vcoco")
    alone = next(hoi for hoi, (_, obj) in enumerate(vcoco.hois) if obj == 80)
    annotation = image_annotation("a.png", [(2, 0, 30, 47)], [0], [(0, -1, vcoco.hois[alone][0])], 64, 48)
    targets = make_targets(annotation, vcoco)
    assert targets.object_labels.tolist() == [80]
    assert targets.object_boxes_cxcywh.tolist() == [[0, 0, 0, 0]]
    assert targets.hoi_labels.nonzero().tolist() == [[0, alone]]


def test_targets_leave_out_unknown_hois_and_missing_boxes() -> None:
    annotation = fruit()
    throws_pear = replace(annotation, interactions=np.array([[1, 2, 1]]))
    assert len(make_targets(throws_pear, FRUIT)) == 0
    assert make_targets(throws_pear, FRUIT).hoi_labels.shape == (0, 4)
    flat = replace(annotation, boxes_xyxy=annotation.boxes_xyxy.copy())
    flat.boxes_xyxy[2] = [70, 8, 90, 20]  # outside
    sample = make_sample(Image.new("RGB", (64, 48)), flat, FRUIT, PLAIN, np.random.default_rng(0))
    assert sample.targets.object_labels.tolist() == [0, 1]


def test_targets_leave_out_pairs_beyond_the_slots() -> None:
    boxes = [(float(i), 0.0, float(i) + 5, 9.0) for i in range(80)]
    crowd = image_annotation("a.png", boxes, [1] * 80, [(0, i, 1) for i in range(1, 80)], 100, 50)
    rng = np.random.default_rng(0)
    image = Image.new("RGB", (100, 50))
    assert len(make_sample(image, crowd, FRUIT, PLAIN, rng).targets) == 63  # 64 boxes, one of them acts
    all_pairs = [(h, o, 1) for h in range(20) for o in range(20)]
    crowd = replace(crowd, interactions=np.array(all_pairs))
    assert len(make_sample(image, crowd, FRUIT, PLAIN, rng).targets) == 64


def test_epoch_shows_every_image_once_in_another_order(tmp_path: Path) -> None:
    data = dataset(tmp_path, PLAIN)
    widths = [[data[4 * epoch + place].detector_chw.shape[2] for place in range(4)] for epoch in range(6)]
    assert all(sorted(epoch) == sorted(widths[0]) for epoch in widths)
    assert len({tuple(epoch) for epoch in widths}) > 1


def test_sample_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    data = dataset(tmp_path, AUGMENTED)
    first = [data[i] for i in range(8)]
    assert equal(data[2], first[2])  # whatever samples came before
    assert not any(equal(first[2], later) for later in first[4:])  # augmented anew in the second epoch
    assert not all(equal(dataset(tmp_path, AUGMENTED, seed=1)[i], first[i]) for i in range(4))


def test_dataset_without_images_is_one_error(tmp_path: Path) -> None:
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
    assert [len(targets) for targets in batch.to("cpu").targets] == [3, 3, 3]


def test_drop_unseen_drops_whole_pairs() -> None:
    empty = replace(fruit("empty.png"), interactions=np.empty((0, 3), np.int64))
    thrown = replace(fruit("thrown.png"), interactions=np.array([[1, 0, 1]]))
    kept = drop_unseen([fruit(), empty, thrown], {1}, FRUIT)  # throw an apple
    assert [annotation.file_name for annotation in kept] == ["a.png", "empty.png"]
    assert kept[0].interactions.tolist() == [[1, 2, 0], [1, 3, 1]]  # eating the same apple went too
    for annotation in kept:
        assert make_targets(annotation, FRUIT).hoi_labels[:, 1].sum() == 0
    assert len(drop_unseen([fruit(), empty, thrown], set(), FRUIT)) == 3


def test_fractions_are_nested_and_seeded() -> None:
    annotations: list[ImageAnnotation] = [fruit(f"{i:03}.png") for i in range(200)]
    subsets = [
        [annotation.file_name for annotation in fraction(annotations, percent, 0)] for percent in (5, 15, 25, 50, 100)
    ]
    assert [len(subset) for subset in subsets] == [10, 30, 50, 100, 200]
    for smaller, larger in pairwise(subsets):
        assert set(smaller) < set(larger)
        assert smaller == sorted(smaller)
    assert subsets[0] != [annotation.file_name for annotation in fraction(annotations, 5, 1)]
    with pytest.raises(ValueError, match="percent"):
        fraction(annotations, 0, 0)


def test_unreadable_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    for name in ("a.png", "missing.png"):
        with pytest.raises(DataError, match=name):
            read_image(tmp_path, fruit(name))


def test_image_dataset_hides_unseen_hois_and_keeps_its_evaluation_set_apart(tmp_path: Path) -> None:
    annotations = [fruit(f"{i}.png") for i in range(3)]
    for i, annotation in enumerate(annotations):
        save_noise(tmp_path / annotation.file_name, seed=i)
    train, test = tmp_path / "train.json", tmp_path / "test.json"
    write_hoia(train, annotations[:2], FRUIT)
    write_hoia(test, annotations[2:], FRUIT)
    dataset = ImageDataset(train, tmp_path, FRUIT, unseen_hois=[2], test_annotations=test, test_images=tmp_path)
    assert (dataset.unseen_hois, dataset.notice) == ((2,), "")
    assert {annotation.file_name for _, annotation in dataset.examples()} == {"0.png", "1.png"}
    assert all([1, 2, 0] not in annotation.interactions.tolist() for _, annotation in dataset.examples())
    samples = dataset.samples(PLAIN)
    assert all(samples[number].targets.hoi_labels[:, 2].sum() == 0 for number in range(4))
    evaluation = dataset.evaluation_set()
    assert evaluation is not None
    assert [annotation.file_name for annotation in evaluation.annotations] == ["2.png"]
    assert evaluation.images.rgb(0).shape == (48, 64, 3)
    assert ImageDataset(train, tmp_path, FRUIT).evaluation_set() is None
    with pytest.raises(ValueError, match="two evaluation sets"):
        ImageDataset(train, tmp_path, FRUIT, held_out_percent=20, test_annotations=test)
    with pytest.raises(ValueError, match="fraction must be from 1 to 100"):
        ImageDataset(train, tmp_path, FRUIT, percent=0)


def test_held_out_images_are_never_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    write_hoia(path, [fruit(f"{i}.png") for i in range(20)], FRUIT)
    for i in range(20):
        save_noise(tmp_path / f"{i}.png", seed=i)

    def names(seed: int, percent: int = 100) -> tuple[set[str], set[str]]:
        dataset = ImageDataset(path, tmp_path, FRUIT, percent=percent, held_out_percent=25, seed=seed)
        evaluation = dataset.evaluation_set()
        assert evaluation is not None
        trained = {annotation.file_name for annotation in dataset.training_annotations()}
        return trained, {annotation.file_name for annotation in evaluation.annotations}

    trained, held_out = names(seed=0)
    assert (len(trained), len(held_out)) == (15, 5)
    assert not trained & held_out
    assert names(seed=0) == (trained, held_out)
    assert names(seed=1)[1] != held_out
    fewer, same = names(seed=0, percent=50)
    assert same == held_out  # a fraction of the training images changes nothing about the evaluation
    assert fewer < trained

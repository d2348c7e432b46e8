"""Verb rows are made of what training may see: cuts round its pairs, and nothing that a split hides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.dataset import drop_unseen
from hoiclip.data.pictures import CLIP_TABLE, clip_crop, normalised
from hoiclip.data.rows import image_annotation
from hoiclip.model import HOICLIP
from hoiclip.training.start_weights import verb_rows
from hoiclip.training.verb_cuts import MOST_PER_HOI, enough_of_each, verb_cuts
from hoiclip.vocabulary import load_vocabulary
from tests.hoiclip.making_data import FRUIT, fruit
from tests.hoiclip.test_training_model import SMALL

FRUIT_SIZES = replace(SMALL, num_object_classes=3, num_verbs=2, num_hois=4)
VCOCO = load_vocabulary("vcoco")


def noise(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8))


def seen(picture: Image.Image, box: tuple[int, int, int, int]) -> torch.Tensor:
    return torch.from_numpy(normalised(np.asarray(clip_crop(picture.crop(box), 32)), CLIP_TABLE))


def test_a_cut_shows_both_boxes_and_the_object_alone() -> None:
    picture = noise()
    cuts = list(verb_cuts([(picture, fruit())], FRUIT, 32))
    assert [(list(cut.hois), cut.label) for cut in cuts] == [([0, 1], 0), ([2], 2), ([3], 1)]
    assert torch.equal(cuts[0].pair, seen(picture, (2, 0, 30, 47)))
    assert torch.equal(cuts[0].thing, seen(picture, (4, 5, 14, 16)))
    assert torch.equal(cuts[2].pair, seen(picture, (2, 0, 63, 47)))


def test_a_person_alone_is_cut_out_as_pair_and_object() -> None:
    alone = next(hoi for hoi, (_, thing) in enumerate(VCOCO.hois) if thing == len(VCOCO.objects))
    one = image_annotation("a.png", [(2, 0, 30, 47)], [0], [(0, -1, VCOCO.hois[alone][0])], 64, 48)
    (cut,) = verb_cuts([(noise(), one)], VCOCO, 32)
    assert torch.equal(cut.pair, cut.thing)
    assert (list(cut.hois), cut.label) == ([alone], len(VCOCO.objects))


def test_what_cannot_be_cut_out_is_left_out() -> None:
    outside = replace(fruit(), boxes_xyxy=fruit().boxes_xyxy + np.float32([0, 0, 0, 0]))
    outside.boxes_xyxy[2] = [70, 8, 90, 20]
    outside.boxes_xyxy[3] = [40, 3, 40.4, 44]
    assert [list(cut.hois) for cut in verb_cuts([(noise(), outside)], FRUIT, 32)] == [[0, 1]]


def rows_without(hidden: set[int], pictures: list[tuple[Image.Image, ImageAnnotation]]) -> torch.Tensor:
    torch.manual_seed(0)
    model = HOICLIP(FRUIT_SIZES).eval()
    known = drop_unseen([one for _, one in pictures], hidden, FRUIT)
    by_name = {one.file_name: picture for picture, one in pictures}
    cuts = verb_cuts([(by_name[one.file_name], one) for one in known], FRUIT, 32)
    return verb_rows(model.clip, cuts, FRUIT, torch.randn(2, SMALL.clip_embed))


def test_pictures_of_hidden_hois_change_no_row() -> None:
    """Throwing a person is hidden: more of it, in other pictures, is as if it were not there."""
    first = (noise(), fruit())
    thrown = [(noise(n), replace(fruit(f"{n}.png"), interactions=np.array([[1, 3, 1]]))) for n in range(1, 4)]
    assert torch.equal(rows_without({3}, [first]), rows_without({3}, [first, *thrown]))
    assert not torch.equal(rows_without(set(), [first]), rows_without(set(), [first, *thrown]))


def test_frequent_hois_need_not_all_be_looked_at() -> None:
    eats_a_pear = replace(fruit("pear.png"), interactions=np.array([[1, 2, 0]]))
    many = [replace(eats_a_pear, file_name=f"{n}.png") for n in range(MOST_PER_HOI + 9)]
    kept = list(enough_of_each([*many, fruit("last.png")], FRUIT))
    assert [one.file_name for one in kept] == [f"{n}.png" for n in range(MOST_PER_HOI)] + ["last.png"]

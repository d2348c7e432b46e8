"""Verb rows are made of what training may see: cuts round its pairs, and nothing that a split hides."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.drawn.splits import split_named
from hoiclip.data.drawn.vocabulary import drawn_vocabulary
from hoiclip.data.hoia import write_hoia
from hoiclip.data.rows import image_annotation
from hoiclip.errors import DataError
from hoiclip.model import HOICLIP
from hoiclip.training.assemble import hoi_task
from hoiclip.training.recipe import DataRecipe, Recipe, StartRecipe
from hoiclip.training.schedule import Schedule
from hoiclip.training.start_weights import save_clip, verb_rows
from hoiclip.training.verb_cuts import MOST_PER_HOI, enough_of_each, verb_cuts
from hoiclip.vocabulary import load_vocabulary
from hoiclip_kernels.preprocess.reference import CLIP_TABLE, clip_crop, normalised
from tests.hoiclip.making_data import FRUIT, fruit, save_noise
from tests.hoiclip.test_training_model import SMALL

DRAWN = drawn_vocabulary()
DRAWN_SIZES = replace(
    SMALL, num_object_classes=DRAWN.num_object_classes, num_verbs=len(DRAWN.verbs), num_hois=len(DRAWN.hois)
)
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


@dataclass
class DataSet:
    """Pictures in a folder, as a recipe of the drawn world's vocabulary names them, and a CLIP to look through."""

    folder: Path
    annotations: list[ImageAnnotation] = field(default_factory=list)

    def show(self, name: str, *hois: int, seed: int = 0) -> None:
        """Noise; each HOI is a pair of its own, the first on the left and the second on the right."""
        save_noise(self.folder / name, 128, 48, seed)
        boxes: list[tuple[float, float, float, float]] = []
        for place in range(len(hois)):
            boxes += [(64.0 * place, 0, 64.0 * place + 30, 47), (64.0 * place + 20, 10, 64.0 * place + 62, 40)]
        labels = [label for hoi in hois for label in (0, DRAWN.hois[hoi][1])]
        pairs = [(2 * place, 2 * place + 1, DRAWN.hois[hoi][0]) for place, hoi in enumerate(hois)]
        self.annotations.append(image_annotation(name, boxes, labels, pairs, 128, 48))

    def rows(self, split: str, fraction: int = 100, *, resumed: bool = False) -> torch.Tensor:
        """The verb classifier that training starts with."""
        write_hoia(self.folder / "annotations.json", self.annotations, DRAWN)
        torch.manual_seed(0)
        model = HOICLIP(DRAWN_SIZES)
        texts = {name: torch.randn(len(texts), SMALL.clip_embed) for name, texts in DRAWN.prompts_by_rows.items()}
        save_clip(self.folder / "clip.safetensors", model.clip.state_dict(), texts, {})
        data = DataRecipe(
            kind="pictures",
            split=split,
            fraction=fraction,
            annotations=str(self.folder / "annotations.json"),
            images=str(self.folder),
        )
        start = StartRecipe(clip=str(self.folder / "clip.safetensors"))
        recipe = Recipe(name="rows", model=DRAWN_SIZES, schedule=Schedule(steps=1), data=data, start=start)
        return hoi_task(recipe, DRAWN, resumed=resumed).kept.heads.verb_classifier.weight.detach()


@pytest.mark.parametrize("fraction", [100, 50])
@pytest.mark.parametrize("split", ["rf_uc", "uv"])
def test_what_a_split_hides_moves_no_row(split: str, fraction: int, tmp_path: Path) -> None:
    unseen = split_named(split).unseen_hois
    seen = [hoi for hoi in range(len(DRAWN.hois)) if hoi not in unseen][:6]
    sets = [DataSet(tmp_path / name) for name in ("without", "with")]
    for number, hoi in enumerate(seen):
        sets[0].show(f"{number}.png", hoi, seed=number)
        sets[1].show(f"{number}.png", hoi, unseen[0], seed=number)
        sets[1].show(f"hidden{number}.png", unseen[number % 2], unseen[-1], seed=number)
        path = sets[1].folder / f"{number}.png"
        pixels = np.array(Image.open(path))
        pixels[:, 64:] = 255 - pixels[:, 64:]  # what the hidden pair looks like
        Image.fromarray(pixels).save(path)
    assert torch.equal(sets[0].rows(split, fraction), sets[1].rows(split, fraction))
    assert not torch.equal(sets[0].rows("default"), sets[1].rows("default"))


def test_a_resumed_run_looks_at_no_picture_for_its_rows(tmp_path: Path) -> None:
    data = DataSet(tmp_path)
    data.show("a.png", 0)
    (tmp_path / "a.png").unlink()
    data.rows("default", resumed=True)
    with pytest.raises(DataError, match=r"a\.png"):
        data.rows("default")


def test_acting_alone_is_told_from_others_who_act_alone() -> None:
    """A verb that nobody can be compared with keeps the row of its text."""
    alone = [hoi for hoi, (_, thing) in enumerate(VCOCO.hois) if thing == len(VCOCO.objects)][:2]
    verbs = [VCOCO.hois[hoi][0] for hoi in alone]
    pictures = [
        (noise(number), image_annotation("a.png", [(2, 0, 30, 47)], [0], [(0, -1, verb)], 64, 48))
        for number, verb in enumerate(verbs)
    ]
    tower = HOICLIP(replace(SMALL, num_object_classes=81, num_verbs=29, num_hois=263)).clip.eval()
    texts = torch.randn(29, SMALL.clip_embed)
    unit = torch.nn.functional.normalize(texts, dim=-1)
    assert torch.equal(verb_rows(tower, verb_cuts(pictures[:1], VCOCO, 32), VCOCO, texts), unit)
    both = verb_rows(tower, verb_cuts(pictures, VCOCO, 32), VCOCO, texts)
    assert (both != unit).any(1).nonzero().flatten().tolist() == sorted(verbs)
    torch.testing.assert_close(both.norm(dim=1), torch.ones(29))


def test_frequent_hois_need_not_all_be_looked_at() -> None:
    eats_a_pear = replace(fruit("pear.png"), interactions=np.array([[1, 2, 0]]))
    many = [replace(eats_a_pear, file_name=f"{n}.png") for n in range(2 * MOST_PER_HOI)]
    kept = [one.file_name for one in enough_of_each([*many, fruit("last.png")], FRUIT)]
    assert len(kept) in (MOST_PER_HOI, MOST_PER_HOI + 1)  # the last one shows a pear too
    assert "last.png" in kept
    assert max(int(name[:-4]) for name in kept if name != "last.png") >= MOST_PER_HOI  # not merely the first ones

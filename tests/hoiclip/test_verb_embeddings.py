"""Verb embeddings are made of crops around training pairs, and of no HOI that a split hides."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hoiclip.core.errors import DataError
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip.data.annotations import ImageAnnotation, image_annotation
from hoiclip.data.dataset import MOST_PER_HOI, enough_of_each
from hoiclip.data.formats.hoia import write_hoia
from hoiclip.model import HOICLIP
from hoiclip.synthetic.splits import synthetic_split
from hoiclip.synthetic.vocabulary import synthetic_vocabulary
from hoiclip.training.assemble import hoi_task
from hoiclip.training.initial_weights import save_clip
from hoiclip.training.optimization import Schedule
from hoiclip.training.recipe import DataConfig, InitConfig, Recipe
from hoiclip.training.verb_embeddings import verb_crops, verb_embeddings_from_crops
from hoiclip_kernels.preprocess.reference import CLIP_TABLE, clip_crop, normalised
from tests.hoiclip.small_datasets import FRUIT, fruit, save_noise
from tests.hoiclip.test_training_model import SMALL

SYNTHETIC = synthetic_vocabulary()
SYNTHETIC_SIZES = replace(
    SMALL, num_object_classes=SYNTHETIC.num_object_classes, num_verbs=len(SYNTHETIC.verbs), num_hois=len(SYNTHETIC.hois)
)
VCOCO = load_vocabulary("vcoco")


def noise(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8))


def seen(image: Image.Image, box: tuple[int, int, int, int]) -> torch.Tensor:
    return torch.from_numpy(normalised(np.asarray(clip_crop(image.crop(box), 32)), CLIP_TABLE))


def test_verb_crops_show_both_boxes_and_the_object_alone() -> None:
    image = noise()
    crops = list(verb_crops([(image, fruit())], FRUIT, 32))
    assert [(list(crop.hois), crop.label) for crop in crops] == [([0, 1], 0), ([2], 2), ([3], 1)]
    assert torch.equal(crops[0].pair, seen(image, (2, 0, 30, 47)))
    assert torch.equal(crops[0].object, seen(image, (4, 5, 14, 16)))
    assert torch.equal(crops[2].pair, seen(image, (2, 0, 63, 47)))


def test_verb_crops_of_a_person_without_object_are_equal() -> None:
    alone = next(hoi for hoi, (_, object) in enumerate(VCOCO.hois) if object == len(VCOCO.objects))
    annotation = image_annotation("a.png", [(2, 0, 30, 47)], [0], [(0, -1, VCOCO.hois[alone][0])], 64, 48)
    (crop,) = verb_crops([(noise(), annotation)], VCOCO, 32)
    assert torch.equal(crop.pair, crop.object)
    assert (list(crop.hois), crop.label) == ([alone], len(VCOCO.objects))


def test_verb_crops_leave_out_boxes_without_area() -> None:
    outside = replace(fruit(), boxes_xyxy=fruit().boxes_xyxy + np.float32([0, 0, 0, 0]))
    outside.boxes_xyxy[2] = [70, 8, 90, 20]
    outside.boxes_xyxy[3] = [40, 3, 40.4, 44]
    assert [list(crop.hois) for crop in verb_crops([(noise(), outside)], FRUIT, 32)] == [[0, 1]]


@dataclass
class FolderDataset:
    """Images in a folder, for a recipe of the synthetic vocabulary, and a CLIP file."""

    folder: Path
    annotations: list[ImageAnnotation] = field(default_factory=list)

    def show(self, name: str, *hois: int, seed: int = 0) -> None:
        """Adds an image of noise; each HOI is a pair of its own, the first on the left and the second on the right."""
        save_noise(self.folder / name, 128, 48, seed)
        boxes: list[tuple[float, float, float, float]] = []
        for column in range(len(hois)):
            boxes += [(64.0 * column, 0, 64.0 * column + 30, 47), (64.0 * column + 20, 10, 64.0 * column + 62, 40)]
        labels = [label for hoi in hois for label in (0, SYNTHETIC.hois[hoi][1])]
        pairs = [(2 * column, 2 * column + 1, SYNTHETIC.hois[hoi][0]) for column, hoi in enumerate(hois)]
        self.annotations.append(image_annotation(name, boxes, labels, pairs, 128, 48))

    def verb_embeddings(self, split: str, fraction: int = 100, *, resumed: bool = False) -> torch.Tensor:
        """The initial verb classifier."""
        write_hoia(self.folder / "annotations.json", self.annotations, SYNTHETIC)
        torch.manual_seed(0)
        model = HOICLIP(SYNTHETIC_SIZES)
        texts = {name: torch.randn(len(texts), SMALL.clip_embed) for name, texts in SYNTHETIC.prompts_by_tensor.items()}
        save_clip(self.folder / "clip.safetensors", model.clip.state_dict(), texts, {})
        data = DataConfig(
            kind="images",
            split=split,
            fraction=fraction,
            annotations=str(self.folder / "annotations.json"),
            images=str(self.folder),
        )
        init = InitConfig(clip=str(self.folder / "clip.safetensors"))
        recipe = Recipe(name="embeddings", model=SYNTHETIC_SIZES, schedule=Schedule(steps=1), data=data, init=init)
        return hoi_task(recipe, SYNTHETIC, resumed=resumed).kept.heads.verb_classifier.weight.detach()


@pytest.mark.parametrize("fraction", [100, 50])
@pytest.mark.parametrize("split", ["rf_uc", "uv"])
def test_hidden_hois_change_no_verb_embedding(split: str, fraction: int, tmp_path: Path) -> None:
    unseen = synthetic_split(split).unseen_hois
    seen = [hoi for hoi in range(len(SYNTHETIC.hois)) if hoi not in unseen][:6]
    sets = [FolderDataset(tmp_path / name) for name in ("without", "with")]
    for number, hoi in enumerate(seen):
        sets[0].show(f"{number}.png", hoi, seed=number)
        sets[1].show(f"{number}.png", hoi, unseen[0], seed=number)
        sets[1].show(f"hidden{number}.png", unseen[number % 2], unseen[-1], seed=number)
        path = sets[1].folder / f"{number}.png"
        pixels = np.array(Image.open(path))
        pixels[:, 64:] = 255 - pixels[:, 64:]  # the appearance of the hidden pair
        Image.fromarray(pixels).save(path)
    assert torch.equal(sets[0].verb_embeddings(split, fraction), sets[1].verb_embeddings(split, fraction))
    assert not torch.equal(sets[0].verb_embeddings("default"), sets[1].verb_embeddings("default"))


def test_resumed_run_reads_no_image_for_its_verb_embeddings(tmp_path: Path) -> None:
    data = FolderDataset(tmp_path)
    data.show("a.png", 0)
    (tmp_path / "a.png").unlink()
    data.verb_embeddings("default", resumed=True)
    with pytest.raises(DataError, match=r"a\.png"):
        data.verb_embeddings("default")


def test_verb_without_object_is_compared_with_other_verbs_without_object() -> None:
    """A verb without others to compare with keeps its text embedding."""
    alone = [hoi for hoi, (_, object) in enumerate(VCOCO.hois) if object == len(VCOCO.objects)][:2]
    verbs = [VCOCO.hois[hoi][0] for hoi in alone]
    images = [
        (noise(number), image_annotation("a.png", [(2, 0, 30, 47)], [0], [(0, -1, verb)], 64, 48))
        for number, verb in enumerate(verbs)
    ]
    tower = HOICLIP(replace(SMALL, num_object_classes=81, num_verbs=29, num_hois=263)).clip.eval()
    texts = torch.randn(29, SMALL.clip_embed)
    unit = torch.nn.functional.normalize(texts, dim=-1)
    assert torch.equal(verb_embeddings_from_crops(tower, verb_crops(images[:1], VCOCO, 32), VCOCO, texts), unit)
    both = verb_embeddings_from_crops(tower, verb_crops(images, VCOCO, 32), VCOCO, texts)
    assert (both != unit).any(1).nonzero().flatten().tolist() == sorted(verbs)
    torch.testing.assert_close(both.norm(dim=1), torch.ones(29))


def test_frequent_hois_use_only_some_images() -> None:
    eats_a_pear = replace(fruit("pear.png"), interactions=np.array([[1, 2, 0]]))
    many = [replace(eats_a_pear, file_name=f"{n}.png") for n in range(2 * MOST_PER_HOI)]
    kept = [annotation.file_name for annotation in enough_of_each([*many, fruit("last.png")], FRUIT)]
    assert len(kept) in (MOST_PER_HOI, MOST_PER_HOI + 1)  # the last one shows a pear too
    assert "last.png" in kept
    assert max(int(name[:-4]) for name in kept if name != "last.png") >= MOST_PER_HOI  # not merely the first ones

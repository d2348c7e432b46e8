"""The published annotation files and thirty photos, which are not part of this project."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hoiclip.core.vocabulary import load_vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.augment import AugmentConfig
from hoiclip.data.check import check
from hoiclip.data.dataset import ImageSamples
from hoiclip.data.formats.coco import read_instances, read_pairs
from hoiclip.data.formats.hico import read_hico_json
from hoiclip.data.formats.hoia import read_hoia, write_hoia
from hoiclip.data.formats.vcoco import read_vsrl
from hoiclip.data.samples import SampleConfig, collate
from tests.hoiclip.small_datasets import same

HICO = load_vocabulary("hico")
VCOCO = load_vocabulary("vcoco")


@pytest.fixture(scope="module")
def published(shared: Path) -> Path:
    return shared / "data" / "annotations"


@pytest.fixture(scope="module")
def hico_test(published: Path) -> list[ImageAnnotation]:
    return read_hico_json(published / "hico" / "instances_test2015.json", HICO)


@pytest.fixture(scope="module")
def photos(published: Path) -> list[ImageAnnotation]:
    pairs = published / "vcoco" / "mini30_dev_vcoco_pairs.json"
    return read_pairs(pairs, VCOCO, published / "coco" / "mini30_dev_coco_instances.json")


def triplets(annotations: list[ImageAnnotation]) -> list[tuple[int, int]]:
    return [
        (verb, int(annotation.labels[obj]))
        for annotation in annotations
        for _, obj, verb in annotation.interactions.tolist()
    ]


def test_hico_test_set_has_its_published_numbers(hico_test: list[ImageAnnotation], published: Path) -> None:
    found = triplets(hico_test)
    assert (len(hico_test), len(found), len(set(found))) == (9658, 33405, 600)
    assert set(found) == set(HICO.hois)
    rare = json.loads((published / "hico" / "instances_test2015.json").read_text())["rare"]
    assert len({HICO.hois[hoi] for hoi in rare} & set(found)) == 138


def test_hico_boxes_count_from_zero_after_reading(hico_test: list[ImageAnnotation], tmp_path: Path) -> None:
    path = tmp_path / "hico.json"
    write_hoia(path, hico_test, HICO)
    assert all(map(same, read_hoia(path, HICO), hico_test))
    report = check(path, HICO)
    assert {problem.kind for problem in report.problems} == {"empty-image"}
    assert len(report.problems) == 112  # the file itself calls as many empty

    data = json.loads(path.read_text())
    for image in data:
        for row in image["annotations"]:
            row["bbox"] = [value + 1 for value in row["bbox"]]
    path.write_text(json.dumps(data))
    assert {problem.kind for problem in check(path, HICO).problems} == {"empty-image", "one-based-boxes"}


def test_thirty_photos_have_their_published_numbers(photos: list[ImageAnnotation], shared: Path) -> None:
    found = triplets(photos)
    assert (len(photos), len(found), len({verb for verb, _ in found})) == (30, 85, 19)
    assert set(found) <= set(VCOCO.hois)
    assert all(annotation.width_px and annotation.height_px for annotation in photos)
    assert any(
        annotation.labels[annotation.interactions[:, 1]].min() > 0
        for annotation in photos
        if len(annotation.interactions)
    )


@pytest.mark.parametrize("split", ["train", "val", "trainval"])
def test_vcoco_pair_files_speak_the_vocabulary(split: str, published: Path, tmp_path: Path) -> None:
    annotations = read_pairs(published / "vcoco" / f"instances_vcoco_{split}.json", VCOCO)
    assert len(annotations) == len((published / "vcoco" / "splits" / f"vcoco_{split}.ids").read_text().split())
    path = tmp_path / "set.json"
    write_hoia(path, annotations, VCOCO)
    assert {problem.kind for problem in check(path, VCOCO).problems} <= {"empty-image", "duplicate-interaction"}


def test_vsrl_and_pair_file_agree(published: Path, photos: list[ImageAnnotation], tmp_path: Path) -> None:
    """Two ways to the same images: official verbs with COCO's boxes, and another project's conversion of them."""
    instances = published / "coco" / "mini30_dev_coco_instances.json"
    images = {number for number, image in read_instances(instances, VCOCO).items() if image.boxes}
    actions = json.loads((published / "vcoco" / "official_vcoco_val.json").read_text())
    for action in actions:
        count = len(action["image_id"])
        kept = [i for i, number in enumerate(action["image_id"]) if number in images]
        roles = np.array(action["role_object_id"]).reshape(-1, count)
        action |= {key: [action[key][i] for i in kept] for key in ("image_id", "ann_id", "label")}
        action["role_object_id"] = roles[:, kept].ravel().tolist()
    path = tmp_path / "vsrl.json"
    path.write_text(json.dumps(actions))

    def pairs(annotation: ImageAnnotation) -> list[tuple[object, ...]]:
        """Pairs with an object; pointing is not in the pair file."""
        return sorted(
            (
                VCOCO.verbs[verb],
                *annotation.boxes_xyxy[human].round(2),
                *annotation.boxes_xyxy[obj].round(2),
                annotation.labels[obj],
            )
            for human, obj, verb in annotation.interactions.tolist()
            if obj != -1 and VCOCO.verbs[verb] != "point_instr"
        )

    by_number = {annotation.file_name[-10:]: annotation for annotation in photos}
    official = read_vsrl(path, instances, VCOCO)
    assert sum(len(pairs(annotation)) for annotation in official) >= 10
    for annotation in official:
        assert pairs(annotation) == pairs(by_number[annotation.file_name[-10:]])


def test_thirty_photos_are_sound_and_become_batches(
    photos: list[ImageAnnotation], shared: Path, tmp_path: Path
) -> None:
    folder = shared / "data" / "images" / "vcoco"
    path = tmp_path / "set.json"
    write_hoia(path, photos, VCOCO)
    report = check(path, VCOCO, images_dir=folder)
    assert {problem.kind for problem in report.problems} == {"empty-image"}

    augmented = SampleConfig(short_side_px=96, max_side_px=160, augment=AugmentConfig().for_size(96, 160))
    whole = ImageSamples(photos, folder, VCOCO, SampleConfig(short_side_px=96, max_side_px=160), seed=0)
    batch = collate([whole[i] for i in range(len(photos))], 32)
    assert all(side % 32 == 0 for side in batch.images.shape[2:])
    labels = sum(int(targets.hoi_labels.sum()) for targets in batch.targets)
    assert labels == 85
    varied = ImageSamples(photos, folder, VCOCO, augmented, seed=0)
    boxes = [varied[i].targets.human_boxes_cxcywh for i in range(len(photos))]
    assert sum(map(len, boxes)) > 20
    for image_boxes in boxes:
        assert bool(((image_boxes >= 0) & (image_boxes <= 1)).all())

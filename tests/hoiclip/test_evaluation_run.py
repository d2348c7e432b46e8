"""hoiclip eval, from a model and pictures to numbers: drawn scenes, real photos, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hoiclip.checkpoint.model_file import ModelFile, load_model_file, save_model_file
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.coco import read_pairs
from hoiclip.data.drawn import draw_scene
from hoiclip.data.drawn.compose import random_scene
from hoiclip.data.hoia import write_hoia
from hoiclip.evaluation import PredictedPairs, evaluate_vcoco, evaluate_vcoco_official
from hoiclip.model import HOICLIP
from hoiclip.vocabulary import Vocabulary, load_vocabulary
from hoiclip_engine.cli import main
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.evaluate import (
    EvaluateConfig,
    FolderPictures,
    MemoryPictures,
    evaluate_pictures,
    module_detector,
    predict,
)
from hoiclip_engine.pairs import Pairs
from hoiclip_engine.postprocess import PostprocessConfig
from tests.engine.untrained import CONFIG, untrained_model

HICO = load_vocabulary("hico")
VCOCO = load_vocabulary("vcoco")


def drawn(count: int, seed: int) -> tuple[list[ImageAnnotation], list[np.ndarray]]:
    """Scenes in two sizes with their ground truth under HICO names."""
    rng = np.random.default_rng(seed)
    annotations, pictures = [], []
    for index in range(count):
        frame = draw_scene(random_scene(rng, *((160, 120) if index % 2 else (120, 160))))
        boxes, labels, interactions = [], [], []
        for pair in frame.pairs:
            boxes += [pair.human_box_xyxy, pair.object_box_xyxy]
            labels += [HICO.objects.index("person"), HICO.objects.index(pair.label)]
            interactions += [(len(boxes) - 2, len(boxes) - 1, HICO.verbs.index(verb)) for verb in pair.verbs]
        annotations.append(
            ImageAnnotation(
                file_name=f"{index}.png",
                boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
                labels=np.array(labels, np.int64),
                interactions=np.array(interactions, np.int64).reshape(-1, 3),
            )
        )
        pictures.append(frame.rgb)
    return annotations, pictures


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """A model this small gains nothing from a second thread, and loses seconds where another process has the core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def drawn_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ImageAnnotation]]:
    """A folder with annotations.json and pictures."""
    folder = tmp_path_factory.mktemp("drawn")
    annotations, pictures = drawn(6, seed=3)
    for one, rgb in zip(annotations, pictures, strict=True):
        Image.fromarray(rgb).save(folder / one.file_name)
    write_hoia(folder / "annotations.json", annotations, HICO)
    return folder, annotations


@pytest.fixture(scope="module")
def vcoco_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A V-COCO-shaped model with random weights."""
    config = replace(CONFIG, num_object_classes=81, num_verbs=29, num_hois=263)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = HOICLIP(config).state_dict()
    path = tmp_path_factory.mktemp("model") / "vcoco.safetensors"
    save_model_file(path, state, config, VCOCO, {"kind": "untrained", "notice": "random weights"})
    return path


def test_an_engine_and_the_bare_module_say_the_same(drawn_set: tuple[Path, list[ImageAnnotation]]) -> None:
    folder, annotations = drawn_set
    pictures = FolderPictures(folder, annotations)
    model = load_model_file(untrained_model())
    config = EvaluateConfig(metric="hico")
    # An untrained model says nearly the same with every query: suppressing doubles would turn on the last digit.
    every = replace(config.postprocess, nms=False)
    with Engine(model, EngineConfig(backend="torch", postprocess=every)) as engine:
        by_engine = predict(engine.detect, pictures, HICO, config)
    by_module = predict(module_detector(model.build(), HICO, every), pictures, HICO, config)
    assert len(by_engine) == len(by_module) == len(annotations)
    for one, other in zip(by_engine, by_module, strict=True):
        assert len(one) == 100
        assert (
            len(set(zip(one.query, one.category, strict=True)) ^ set(zip(other.query, other.category, strict=True)))
            <= 4
        )
        np.testing.assert_allclose(one.score, other.score, atol=1e-4)


def test_predictions_come_back_in_the_order_of_the_pictures(drawn_set: tuple[Path, list[ImageAnnotation]]) -> None:
    """They are looked at in another one, by aspect ratio."""
    folder, annotations = drawn_set
    pictures, config = FolderPictures(folder, annotations), EvaluateConfig(metric="hico")
    detect = module_detector(load_model_file(untrained_model()).build(), HICO, config.postprocess)
    seen: list[tuple[int, ...]] = []

    def watched(rgb: np.ndarray) -> object:
        seen.append(rgb.shape)
        return detect(rgb)

    together = predict(watched, pictures, HICO, config)  # type: ignore[arg-type]
    assert len(set(seen[:3])) == len(set(seen[3:])) == 1, "pictures of one size follow each other"
    alone = MemoryPictures((160, 120), lambda _: pictures.rgb(4), 1)
    np.testing.assert_array_equal(together[4].score, predict(detect, alone, HICO, config)[0].score)


def test_a_perfect_detector_gets_100_percent() -> None:
    annotations, pictures = drawn(8, seed=5)
    annotations = [one for one in annotations if len(one.interactions)]
    truth = iter(annotations)
    hois = {hoi: index for index, hoi in enumerate(HICO.hois)}

    def detect(_rgb: np.ndarray) -> Pairs:
        one = next(truth)
        human, thing, verb = one.interactions.T
        n = len(one.interactions)
        return Pairs(
            query=np.arange(n),
            human_boxes_xyxy=one.boxes_xyxy[human],
            object_boxes_xyxy=one.boxes_xyxy[thing],
            label=one.labels[thing],
            verb=verb,
            hoi=np.array([hois[int(v), int(one.labels[t])] for v, t in zip(verb, thing, strict=True)]),
            score=np.linspace(0.9, 0.5, n),
            verb_score=np.ones(n),
        )

    same_size = MemoryPictures((120, 160), lambda index: pictures[index], len(annotations))
    calls: list[int] = []
    found, _ = evaluate_pictures(
        detect, HICO, annotations, same_size, EvaluateConfig(metric="hico"), lambda: calls.append(1)
    )
    assert found.summary["mAP"] == pytest.approx(1)
    assert len(calls) == len(annotations)


def run(*arguments: object) -> int:
    return main(["eval", "--backend", "torch", *map(str, arguments)])


def test_the_command_writes_numbers_report_and_export(
    drawn_set: tuple[Path, list[ImageAnnotation]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, annotations = drawn_set
    data = ("--model", untrained_model(), "--data", folder / "annotations.json", "--images", folder)
    outputs = ("--json", "numbers.json", "--report", "report", "--export", "mat")
    assert run(*data, *outputs, "--split", "default", "rare_first", "--official", "--enhance", 10) == 0
    said = capsys.readouterr()
    assert "mAP rare" in said.out
    assert "mAP unseen" in said.out
    assert "untrained" in said.err
    numbers = json.loads(Path("numbers.json").read_text())
    assert numbers["pictures"] == len(annotations)
    assert (numbers["metric"], numbers["official"]) == ("hico", True)
    assert sum(one["num_predictions"] for one in numbers["classes"]) > len(annotations)
    assert sum(one["num_gt"] for one in numbers["classes"]) == sum(len(one.interactions) for one in annotations)
    page = Path("report/index.html").read_text()
    assert page.count("data:image/jpeg") > 3
    assert json.loads(Path("report/evaluation.json").read_text()) == numbers
    analysis = json.loads(Path("report/analysis.json").read_text())
    assert (analysis["schema"], analysis["images"]) == ("hoiclip-error-analysis/1", len(annotations))
    interactions = sum(len(np.unique(one.interactions, axis=0)) for one in annotations)
    assert sum(analysis["ground_truth"]["counts"].values()) == analysis["ground_truth"]["total"] == interactions
    assert "size not known" not in str(analysis["tables"])
    assert "Worst images" in page
    assert list(Path("report").glob("worst_*.jpg"))
    assert len(list(Path("mat").glob("*.mat"))) == 80


@pytest.mark.parametrize("name", ["evaluation.json", "worst_01.jpg"], ids=["annotations", "image"])
def test_a_report_is_never_written_over_what_is_read(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, pictures = drawn(1, seed=0)
    image = name if name.endswith(".jpg") else "0.png"
    Image.fromarray(pictures[0]).save(tmp_path / image)
    data = tmp_path / ("annotations.json" if name.endswith(".jpg") else name)
    write_hoia(data, [replace(annotations[0], file_name=image)], HICO)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    words = ("--model", untrained_model(), "--data", data, "--images", tmp_path, "--report", tmp_path)
    assert run(*words) == 2
    assert "must be different files" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_json_to_standard_output_is_nothing_but_json(
    drawn_set: tuple[Path, list[ImageAnnotation]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = drawn_set
    data = ("--model", untrained_model(), "--data", folder / "annotations.json", "--images", folder)
    assert run(*data, "--json", "-", "--max-images", 2, "--metric", "hico-ko") == 0
    numbers = json.loads(capsys.readouterr().out)
    assert (numbers["pictures"], numbers["metric"]) == (2, "hico-ko")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--metric", "vcoco"), 2, "does not fit"),
        (("--split", "nonsense"), 2, "unknown split"),
        (("--enhance", 0), 2, "at least 1"),
        (("--prior", "none.npy"), 2, "none.npy"),
        (("--images", "nowhere"), 3, "--images"),
        (("--data", "nothing.json"), 3, "nothing.json"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: tuple[object, ...],
    code: int,
    message: str,
    drawn_set: tuple[Path, list[ImageAnnotation]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, _ = drawn_set
    data = ("--model", untrained_model(), "--data", folder / "annotations.json", "--images", folder)
    assert run(*data, *arguments) == code
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said


def test_a_damaged_picture_is_named(
    drawn_set: tuple[Path, list[ImageAnnotation]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, annotations = drawn_set
    for one in annotations:
        (tmp_path / one.file_name).write_bytes((folder / one.file_name).read_bytes()[:300])
    data = ("--model", untrained_model(), "--data", folder / "annotations.json", "--images", tmp_path)
    assert run(*data) == 3
    assert "cannot read" in capsys.readouterr().err


def vcoco_photos(shared: Path, vocabulary: Vocabulary) -> tuple[Path, list[ImageAnnotation]]:
    pairs = shared / "data" / "annotations" / "vcoco" / "mini30_dev_vcoco_pairs.json"
    return shared / "data" / "images" / "vcoco", read_pairs(pairs, vocabulary)


@pytest.mark.parametrize("metric", ["vcoco", "vcoco-official"])
def test_real_photos(metric: str, shared: Path, vcoco_model: Path, tmp_path: Path) -> None:
    images, annotations = vcoco_photos(shared, VCOCO)
    assert len(annotations) == 30
    write_hoia(tmp_path / "vcoco.json", annotations, VCOCO)
    prior = np.ones((29, 80))
    np.save(tmp_path / "prior.npy", prior)
    assert (
        run(
            *("--model", vcoco_model, "--data", tmp_path / "vcoco.json", "--images", images, "--metric", metric),
            *("--prior", tmp_path / "prior.npy", "--json", tmp_path / "n.json", "--report", tmp_path / "r"),
            *("--export", tmp_path),
        )
        == 0
    )
    numbers = json.loads((tmp_path / "n.json").read_text())
    counted = [one for one in numbers["classes"] if one["num_gt"]]
    if metric == "vcoco":
        assert sum(one["num_gt"] for one in counted) == 85
        assert len(counted) == 19
        assert sum(one["num_predictions"] for one in numbers["classes"]) == 30 * 100
    else:
        roles = [one for one in counted if one["name"].endswith("1")]
        assert sum(one["num_predictions"] for one in roles) > 0
    assert (tmp_path / "r" / "index.html").read_text().count("data:image/jpeg") > 10
    people = json.loads((tmp_path / "vcoco_detections.json").read_text())
    assert {one["image_id"] for one in people} == {int(one.file_name[-10:-4]) for one in annotations}


def test_true_pairs_of_real_photos_as_predictions_get_100_percent(shared: Path) -> None:
    """The loop's counterpart on real annotations: what is annotated is found, under either metric."""
    _, annotations = vcoco_photos(shared, VCOCO)
    found = []
    for one in annotations:
        human, thing, verb = one.interactions.T
        found.append(
            PredictedPairs(
                human_boxes_xyxy=one.boxes_xyxy[human],
                object_boxes_xyxy=one.boxes_xyxy[thing],
                label=one.labels[thing],
                category=verb,
                score=np.linspace(0.9, 0.5, len(verb)),
                query=human,
            )
        )
    assert evaluate_vcoco(found, annotations, VCOCO).summary["mAP_all"] == pytest.approx(1)
    people = evaluate_vcoco_official(found, annotations, VCOCO)
    assert people.summary["agent AP"] == pytest.approx(1)
    # Of eat, hit and cut one role is often not annotated; who predicts nothing there has not found it.
    two_roles = ("eat", "hit", "cut")
    roles = [one for one in people.classes if one.num_gt and one.name.split()[0] not in two_roles]
    assert len(roles) > 10
    assert all(one.ap == pytest.approx(1) for one in roles)


def test_a_prior_weighs_verbs_before_the_best_are_kept(shared: Path, vcoco_model: Path) -> None:
    images, annotations = vcoco_photos(shared, VCOCO)
    one = annotations[:1]
    prior = np.zeros((29, 80))
    prior[3] = 1
    config = EvaluateConfig(metric="vcoco", prior_vo=prior)
    model: ModelFile = load_model_file(vcoco_model)
    detect = module_detector(model.build(), VCOCO, config.postprocess)
    found = predict(detect, FolderPictures(images, one), VCOCO, config)[0]
    weighed = found.score[found.label >= 0]
    assert len(found) == 100
    assert (weighed[found.category[found.label >= 0] != 3] == 0).all()
    assert config.postprocess.top_k > EvaluateConfig(metric="vcoco").postprocess.top_k == PostprocessConfig().top_k

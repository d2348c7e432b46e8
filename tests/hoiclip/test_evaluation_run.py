"""hoiclip eval, from a model and images to numbers: synthetic scenes, real photos, and what goes wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hoiclip.core.detections import HOIDetections
from hoiclip.core.model_file import ModelFile, load_model_file, save_model_file
from hoiclip.core.postprocess import PostprocessConfig
from hoiclip.core.vocabulary import Vocabulary, load_vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.formats.coco import read_pairs
from hoiclip.data.formats.hoia import write_hoia
from hoiclip.data.images import EvaluationSet, FolderImages, MemoryImages
from hoiclip.evaluation import PredictedTriplets, Split, evaluate_vcoco, evaluate_vcoco_official
from hoiclip.evaluation.image_loop import EvaluateConfig, evaluate_images, evaluate_module, module_detector, predict
from hoiclip.model import HOICLIP
from hoiclip.synthetic import draw_scene
from hoiclip.synthetic.compose import random_scene
from hoiclip_engine.cli.main import main
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.quantization.accuracy_gate import measure_map
from tests.engine.untrained import CONFIG, untrained_model

HICO = load_vocabulary("hico")
VCOCO = load_vocabulary("vcoco")


def synthetic_images(count: int, seed: int) -> tuple[list[ImageAnnotation], list[np.ndarray]]:
    """Scenes in two sizes with their ground truth under HICO names."""
    rng = np.random.default_rng(seed)
    annotations, images = [], []
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
        images.append(frame.rgb)
    return annotations, images


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """A model this small gains nothing from a second thread, and loses seconds where another process has the core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ImageAnnotation]]:
    """A folder with annotations.json and images."""
    folder = tmp_path_factory.mktemp("drawn")
    annotations, images = synthetic_images(6, seed=3)
    for annotation, rgb in zip(annotations, images, strict=True):
        Image.fromarray(rgb).save(folder / annotation.file_name)
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


@pytest.mark.thorough
def test_engine_and_module_detector_predict_the_same(image_folder: tuple[Path, list[ImageAnnotation]]) -> None:
    folder, annotations = image_folder
    images = FolderImages(folder, annotations)
    model = load_model_file(untrained_model())
    config = EvaluateConfig(metric="hico")
    # An untrained model predicts nearly the same with every query: duplicate suppression would turn on the last digit.
    every = replace(config.postprocess, nms=False)
    with Engine(model, EngineConfig(backend="torch", postprocess=every)) as engine:
        by_engine = predict(engine.detect, images, HICO, config)
    by_module = predict(module_detector(model.build(), HICO, every), images, HICO, config)
    assert len(by_engine) == len(by_module) == len(annotations)
    for engine_predicted, module_predicted in zip(by_engine, by_module, strict=True):
        assert len(engine_predicted) == 100
        assert (
            len(
                set(zip(engine_predicted.query, engine_predicted.category, strict=True))
                ^ set(zip(module_predicted.query, module_predicted.category, strict=True))
            )
            <= 4
        )
        np.testing.assert_allclose(engine_predicted.score, module_predicted.score, atol=1e-4)


def test_module_evaluation_has_no_number_for_a_side_that_no_image_shows(
    image_folder: tuple[Path, list[ImageAnnotation]],
) -> None:
    """Numbers of training go into the model's header, which holds JSON: NaN would make a file that nothing reads."""
    folder, annotations = image_folder
    shown = {
        HICO.hois.index((verb, annotation.labels[obj]))
        for annotation in annotations
        for _, obj, verb in annotation.interactions.tolist()
    }
    absent = Split(name="few", inside=frozenset(range(len(HICO.hois))) - shown)
    images = EvaluationSet(annotations=annotations, images=FolderImages(folder, annotations))
    module = load_model_file(untrained_model()).build()
    numbers = evaluate_module(module, HICO, images, splits=[absent])
    assert all(math.isfinite(value) for value in numbers.values())
    assert "few/mAP seen" in numbers
    assert "few/mAP unseen" not in numbers


def test_module_evaluation_takes_the_mean_over_all_verbs_of_vcoco(monkeypatch: pytest.MonkeyPatch) -> None:
    """It decides which weights training keeps and which builds are accurate enough: not the verb that comes first."""
    hold, ride = VCOCO.verbs.index("hold_obj"), VCOCO.verbs.index("ride_instr")
    person, cup, horse = (VCOCO.objects.index(name) for name in ("person", "cup", "horse"))
    annotation = ImageAnnotation(
        file_name="0.png",
        boxes_xyxy=np.array([[0, 0, 40, 80], [60, 0, 90, 30], [60, 60, 120, 110]], np.float32),
        labels=np.array([person, cup, horse]),
        interactions=np.array([[0, 1, hold], [0, 2, ride]]),
    )
    found = HOIDetections(
        query=np.array([0]),
        human_boxes_xyxy=annotation.boxes_xyxy[:1],
        object_boxes_xyxy=annotation.boxes_xyxy[2:],
        label=np.array([horse]),
        verb=np.array([ride]),
        hoi=np.array([-1]),
        score=np.array([0.9]),
        verb_score=np.array([0.9]),
    )
    monkeypatch.setattr("hoiclip.evaluation.image_loop.module_detector", lambda *_: lambda rgb: found)
    black = MemoryImages((160, 120), lambda _: np.zeros((120, 160, 3), np.uint8), 1)
    images = EvaluationSet(annotations=[annotation], images=black)
    numbers = evaluate_module(torch.nn.Identity(), VCOCO, images)  # type: ignore[arg-type]
    assert (numbers["all/AP_hold_obj"], numbers["all/AP_ride_instr"], numbers["mAP"]) == (0.0, 1.0, 50.0)
    assert measure_map(lambda _: found, VCOCO, images) == pytest.approx(50)  # what builds are accepted by


def test_predictions_are_in_the_order_of_the_images(image_folder: tuple[Path, list[ImageAnnotation]]) -> None:
    """Detection runs in another order, by aspect ratio."""
    folder, annotations = image_folder
    images, config = FolderImages(folder, annotations), EvaluateConfig(metric="hico")
    detect = module_detector(load_model_file(untrained_model()).build(), HICO, config.postprocess)
    seen: list[tuple[int, ...]] = []

    def recording_detect(rgb: np.ndarray) -> object:
        seen.append(rgb.shape)
        return detect(rgb)

    all_predictions = predict(recording_detect, images, HICO, config)  # type: ignore[arg-type]
    assert len(set(seen[:3])) == len(set(seen[3:])) == 1, "images of one size follow each other"
    single_image = MemoryImages((160, 120), lambda _: images.rgb(4), 1)
    np.testing.assert_array_equal(all_predictions[4].score, predict(detect, single_image, HICO, config)[0].score)


def test_perfect_detector_gets_100_percent() -> None:
    annotations, images = synthetic_images(8, seed=5)
    annotations = [annotation for annotation in annotations if len(annotation.interactions)]
    ground_truth = iter(annotations)
    hois = {hoi: index for index, hoi in enumerate(HICO.hois)}

    def detect(_rgb: np.ndarray) -> HOIDetections:
        annotation = next(ground_truth)
        human, obj, verb = annotation.interactions.T
        n = len(annotation.interactions)
        return HOIDetections(
            query=np.arange(n),
            human_boxes_xyxy=annotation.boxes_xyxy[human],
            object_boxes_xyxy=annotation.boxes_xyxy[obj],
            label=annotation.labels[obj],
            verb=verb,
            hoi=np.array([hois[int(v), int(annotation.labels[t])] for v, t in zip(verb, obj, strict=True)]),
            score=np.linspace(0.9, 0.5, n),
            verb_score=np.ones(n),
        )

    same_size = MemoryImages((120, 160), lambda index: images[index], len(annotations))
    calls: list[int] = []
    found, _ = evaluate_images(
        detect, HICO, annotations, same_size, EvaluateConfig(metric="hico"), lambda: calls.append(1)
    )
    assert found.summary["mAP"] == pytest.approx(1)
    assert len(calls) == len(annotations)


def run(*arguments: object) -> int:
    return main(["eval", "--backend", "torch", *map(str, arguments)])


def test_eval_writes_numbers_report_and_export(
    image_folder: tuple[Path, list[ImageAnnotation]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, annotations = image_folder
    data = ("--model", untrained_model(), "--data", folder / "annotations.json", "--images", folder)
    outputs = ("--json", "numbers.json", "--report", "report", "--export", "mat")
    assert run(*data, *outputs, "--split", "default", "rare_first", "--official", "--enhance", 10) == 0
    output = capsys.readouterr()
    assert "mAP rare" in output.out
    assert "mAP unseen" in output.out
    assert "untrained" in output.err
    numbers = json.loads(Path("numbers.json").read_text())
    assert numbers["pictures"] == len(annotations)
    assert (numbers["metric"], numbers["official"]) == ("hico", True)
    assert sum(result["num_predictions"] for result in numbers["classes"]) > len(annotations)
    assert sum(result["num_gt"] for result in numbers["classes"]) == sum(
        len(annotation.interactions) for annotation in annotations
    )
    page = Path("report/index.html").read_text()
    assert page.count("data:image/jpeg") > 3
    assert json.loads(Path("report/evaluation.json").read_text()) == numbers
    analysis = json.loads(Path("report/analysis.json").read_text())
    assert (analysis["schema"], analysis["images"]) == ("hoiclip-error-analysis/1", len(annotations))
    interactions = sum(len(np.unique(annotation.interactions, axis=0)) for annotation in annotations)
    assert sum(analysis["ground_truth"]["counts"].values()) == analysis["ground_truth"]["total"] == interactions
    assert "size not known" not in str(analysis["tables"])
    assert "Worst images" in page
    assert list(Path("report").glob("worst_*.jpg"))
    assert len(list(Path("mat").glob("*.mat"))) == 80


@pytest.mark.parametrize("name", ["evaluation.json", "worst_01.jpg"], ids=["annotations", "image"])
def test_report_never_overwrites_its_inputs(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, images = synthetic_images(1, seed=0)
    image = name if name.endswith(".jpg") else "0.png"
    Image.fromarray(images[0]).save(tmp_path / image)
    data = tmp_path / ("annotations.json" if name.endswith(".jpg") else name)
    write_hoia(data, [replace(annotations[0], file_name=image)], HICO)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    words = ("--model", untrained_model(), "--data", data, "--images", tmp_path, "--report", tmp_path)
    assert run(*words) == 2
    assert "must be different files" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_json_to_standard_output_is_json_alone(
    image_folder: tuple[Path, list[ImageAnnotation]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = image_folder
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
def test_eval_with_wrong_arguments_is_one_line(
    arguments: tuple[object, ...],
    code: int,
    message: str,
    image_folder: tuple[Path, list[ImageAnnotation]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, _ = image_folder
    data = ("--model", untrained_model(), "--data", folder / "annotations.json", "--images", folder)
    assert run(*data, *arguments) == code
    output = capsys.readouterr().err.strip()
    assert message in output
    assert "\n" not in output


def test_damaged_image_is_named(
    image_folder: tuple[Path, list[ImageAnnotation]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, annotations = image_folder
    for annotation in annotations:
        (tmp_path / annotation.file_name).write_bytes((folder / annotation.file_name).read_bytes()[:300])
    data = ("--model", untrained_model(), "--data", folder / "annotations.json", "--images", tmp_path)
    assert run(*data) == 3
    assert "cannot read" in capsys.readouterr().err


def vcoco_photos(shared: Path, vocabulary: Vocabulary) -> tuple[Path, list[ImageAnnotation]]:
    pairs = shared / "data" / "annotations" / "vcoco" / "mini30_dev_vcoco_pairs.json"
    return shared / "data" / "images" / "vcoco", read_pairs(pairs, vocabulary)


@pytest.mark.parametrize("metric", ["vcoco", "vcoco-official"])
def test_eval_of_real_photos(metric: str, shared: Path, vcoco_model: Path, tmp_path: Path) -> None:
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
    counted = [result for result in numbers["classes"] if result["num_gt"]]
    if metric == "vcoco":
        assert sum(result["num_gt"] for result in counted) == 85
        assert len(counted) == 19
        assert sum(result["num_predictions"] for result in numbers["classes"]) == 30 * 100
    else:
        roles = [result for result in counted if result["name"].endswith("1")]
        assert sum(result["num_predictions"] for result in roles) > 0
    assert (tmp_path / "r" / "index.html").read_text().count("data:image/jpeg") > 10
    people = json.loads((tmp_path / "vcoco_detections.json").read_text())
    assert {person["image_id"] for person in people} == {
        int(annotation.file_name[-10:-4]) for annotation in annotations
    }


def test_ground_truth_of_real_photos_as_predictions_gets_100_percent(shared: Path) -> None:
    """The loop's counterpart on real annotations: what is annotated is found, under either metric."""
    _, annotations = vcoco_photos(shared, VCOCO)
    found = []
    for annotation in annotations:
        human, obj, verb = annotation.interactions.T
        found.append(
            PredictedTriplets(
                human_boxes_xyxy=annotation.boxes_xyxy[human],
                object_boxes_xyxy=annotation.boxes_xyxy[obj],
                label=annotation.labels[obj],
                category=verb,
                score=np.linspace(0.9, 0.5, len(verb)),
                query=human,
            )
        )
    assert evaluate_vcoco(found, annotations, VCOCO).summary["mAP_all"] == pytest.approx(1)
    people = evaluate_vcoco_official(found, annotations, VCOCO)
    assert people.summary["agent AP"] == pytest.approx(1)
    # Of eat, hit and cut one role is often not annotated; a model that predicts nothing for it has not found it.
    two_roles = ("eat", "hit", "cut")
    roles = [result for result in people.classes if result.num_gt and result.name.split()[0] not in two_roles]
    assert len(roles) > 10
    assert all(result.ap == pytest.approx(1) for result in roles)


def test_prior_weighs_verbs_before_the_best_are_kept(shared: Path, vcoco_model: Path) -> None:
    images, annotations = vcoco_photos(shared, VCOCO)
    annotation = annotations[:1]
    prior = np.zeros((29, 80))
    prior[3] = 1
    config = EvaluateConfig(metric="vcoco", prior_vo=prior)
    model: ModelFile = load_model_file(vcoco_model)
    detect = module_detector(model.build(), VCOCO, config.postprocess)
    found = predict(detect, FolderImages(images, annotation), VCOCO, config)[0]
    weighed = found.score[found.label >= 0]
    assert len(found) == 100
    assert (weighed[found.category[found.label >= 0] != 3] == 0).all()
    assert config.postprocess.top_k > EvaluateConfig(metric="vcoco").postprocess.top_k == PostprocessConfig().top_k

"""hoiclip export --triton-repo: the files it writes, the triplets of Engine.detect, and the errors of wrong requests.

Without a server (test_triton_server.py has one): configurations are checked against the server's schema, and the models
run in this process.
"""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hoiclip.core.detections import HOIDetections
from hoiclip.core.postprocess import PostprocessConfig
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip_engine.cli.main import main
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.export.triton.repository import TritonRepositoryConfig, arrange_repository
from tests.engine.command_output import Cli, python
from tests.engine.triton_stand_in import Repository, TritonError, config_of

pytestmark = pytest.mark.thorough

RGB = np.ndarray[Any, np.dtype[np.uint8]]


def image(height: int, width: int, seed: int = 0) -> RGB:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def encoded(rgb: RGB, form: str = "PNG", **options: Any) -> RGB:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, form, **options)
    return np.frombuffer(file.getvalue(), np.uint8)


@pytest.fixture(scope="module")
def name(model: Path) -> str:
    return model.stem


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    pytest.importorskip("torch", reason="graphs are exported by torch")
    folder = tmp_path_factory.mktemp("repository")
    assert main(["export", str(model), "--triton-repo", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def repository(folder: Path, name: str) -> Repository:
    return Repository(folder, name)


@pytest.fixture(scope="module")
def engine(model: Path) -> Any:
    with Engine.load(model, EngineConfig(backend="onnxruntime")) as engine:
        yield engine


def assert_same(found: dict[str, Any], expected: HOIDetections, atol: float = 0) -> None:
    assert len(expected)
    for field in fields(expected):
        np.testing.assert_allclose(
            found[field.name], getattr(expected, field.name), rtol=0, atol=atol, err_msg=field.name
        )


def test_configurations_fit_the_schema_and_every_model_is_complete(folder: Path, name: str) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {name, f"{name}_preprocess", f"{name}_graph", f"{name}_postprocess"}
    for model_name in names:
        config = config_of(folder / model_name)
        assert config.max_batch_size == 0
        metadata = json.loads((folder / model_name / "1" / "model.json").read_text(encoding="utf-8"))
        assert metadata["schema"] == "hoiclip-graph/1"
    graph = config_of(folder / f"{name}_graph")
    assert graph.platform == "onnxruntime_onnx"
    assert [list(tensor.dims) for tensor in graph.input] == [[1, 3, -1, -1], [1, -1, -1], [1, 3, 64, 64]]
    vocabulary = load_vocabulary("hico")
    assert tuple((folder / name / "objects.txt").read_text(encoding="utf-8").splitlines()) == vocabulary.objects
    assert tuple((folder / name / "verbs.txt").read_text(encoding="utf-8").splitlines()) == vocabulary.verbs


@pytest.mark.parametrize(("height", "width"), [(192, 256), (150, 100), (400, 500), (7, 300), (1, 1)])
def test_repository_finds_the_triplets_of_the_engine(
    repository: Repository, engine: Engine, height: int, width: int
) -> None:
    rgb = image(height, width)
    assert_same(repository(image=rgb), engine.detect(rgb))


def test_encoded_image_is_the_same_image_upright(repository: Repository, engine: Engine) -> None:
    rgb = image(160, 224)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side: shown turned clockwise
    lying = np.ascontiguousarray(np.rot90(rgb))
    for sent in (encoded(rgb), encoded(lying, exif=exif)):
        assert_same(repository(encoded=sent), engine.detect(rgb))
    grey = image(160, 224)[..., 0]
    assert_same(repository(encoded=encoded(grey)), engine.detect(np.ascontiguousarray(np.stack([grey] * 3, axis=2))))


def test_jpeg_is_decoded_as_in_a_run(repository: Repository, engine: Engine, tmp_path: Path) -> None:
    sent = encoded(image(160, 224), "JPEG", quality=90)
    (tmp_path / "picture.jpg").write_bytes(sent.tobytes())
    (seen,) = engine.stream(tmp_path / "picture.jpg")
    assert_same(repository(encoded=sent), engine.detect(seen.frame.rgb))


def test_labels_and_verbs_have_names(repository: Repository, engine: Engine) -> None:
    found = repository(image=image(192, 256))
    assert list(found["label_name"]) == [engine.vocabulary.object_name(label) for label in found["label"]]
    assert list(found["verb_name"]) == [engine.vocabulary.verb_name(verb) for verb in found["verb"]]


def test_models_need_no_torch(folder: Path, name: str, engine: Engine, tmp_path: Path) -> None:
    rgb = image(192, 256)
    np.save(tmp_path / "picture.npy", rgb)
    output = python(
        "-m", "tests.engine.triton_stand_in", folder, name, tmp_path / "picture.npy", tmp_path / "found.npz",
        timeout_s=120,
    )  # fmt: skip
    assert output.code == 0, output.err
    assert_same(dict(np.load(tmp_path / "found.npz", allow_pickle=True)), engine.detect(rgb))


def test_graph_in_the_python_backend_finds_the_same(folder: Path, name: str, tmp_path: Path, engine: Engine) -> None:
    exported = unpacked(folder, name, tmp_path)
    assert arrange_repository(exported, "an odd näme", TritonRepositoryConfig(backend="python")) == "an_odd_n_me"
    assert config_of(exported / "an_odd_n_me_graph").backend == "python"
    assert_same(Repository(exported, "an_odd_n_me")(image=image(192, 256)), engine.detect(image(192, 256)))


def test_graph_of_any_batch_is_configured_for_dynamic_batching(folder: Path, name: str, tmp_path: Path) -> None:
    exported = unpacked(folder, name, tmp_path)
    rewrite(exported, batch=("batch", None))
    arrange_repository(exported, "any", TritonRepositoryConfig())
    config = config_of(exported / "any_graph")
    assert config.max_batch_size == 8
    assert config.HasField("dynamic_batching")
    assert [list(tensor.dims) for tensor in config.input] == [[3, -1, -1], [-1, -1], [3, 64, 64]]
    assert list(config_of(exported / "any_preprocess").output[0].dims) == [-1, 3, -1, -1]


def test_score_limit_and_count_are_set_in_the_configuration(
    folder: Path, name: str, tmp_path: Path, model: Path
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / f"{name}_postprocess" / "config.pbtxt"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('string_value: "100"', 'string_value: "12"'), encoding="utf-8")
    config = EngineConfig(backend="onnxruntime", postprocess=PostprocessConfig(top_k=12))
    with Engine.load(model, config) as engine:
        assert_same(Repository(tmp_path, name)(image=image(192, 256)), engine.detect(image(192, 256)))
    path.write_text(text.replace('string_value: "0"', 'string_value: "1"'), encoding="utf-8")
    nothing = Repository(tmp_path, name)(image=image(192, 256))
    assert nothing["human_boxes_xyxy"].shape == (0, 4)
    assert nothing["verb_name"].shape == (0,)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({}, "expected one of image and encoded, got neither"),
        ({"image": image(64, 64), "encoded": encoded(image(64, 64))}, "got both"),
        ({"image": image(64, 64)[:0]}, "expected an RGB image"),
        ({"image": np.zeros((9000, 9000, 3), np.uint8)}, "at most 67108864 pixels, found 9000x9000"),
        ({"encoded": np.zeros(0, np.uint8)}, "expected the bytes of an image's file, found none"),
        ({"encoded": np.arange(200, dtype=np.uint8)}, "expected the bytes of a JPEG, PNG or other image"),
        ({"encoded": encoded(image(64, 64))[:300]}, "found a damaged one"),
        (
            {"encoded": encoded(np.zeros((1, 70_000_000), np.uint8)[:, :65_000].repeat(1100, axis=0))},
            "more than 67108864 pixels",
        ),
    ],
)
def test_nonsense_is_one_error_line_in_the_response(repository: Repository, sent: dict[str, Any], message: str) -> None:
    with pytest.raises(TritonError) as failed:
        repository(**sent)
    assert message in str(failed.value)
    assert "\n" not in str(failed.value)
    assert "internal error" not in str(failed.value)


def test_video_is_refused_as_an_image(repository: Repository, clip: Path) -> None:
    with pytest.raises(TritonError, match=r"expected one image, found mov.*one by one"):
        repository(encoded=np.frombuffer(clip.read_bytes(), np.uint8))


def test_fixed_size_and_tensorrt_are_in_the_configuration(folder: Path, name: str, tmp_path: Path) -> None:
    exported = unpacked(folder, name, tmp_path)
    rewrite(exported, batch=(1, 1), padded_hw=[128, 160])
    arrange_repository(exported, "fixed", TritonRepositoryConfig(backend="tensorrt"))
    config = config_of(exported / "fixed_graph")
    assert list(config.input[0].dims) == [1, 3, 128, 160]
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"


def unpacked(folder: Path, name: str, out: Path) -> Path:
    """Graph and metadata, as they were before they became a repository."""
    for path in (folder / f"{name}_graph" / "1").iterdir():
        shutil.copyfile(path, out / path.name)
    return out


def rewrite(folder: Path, batch: tuple[Any, int | None], padded_hw: list[int] | None = None) -> None:
    """Writes metadata of another graph; the graph itself is not read."""
    metadata = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    entry = metadata["graphs"][0]
    entry["form"] |= {"canvas_hw": padded_hw, "batch": batch[1]}
    for tensor in (*entry["inputs"].values(), *entry["outputs"].values()):
        tensor["shape"][0] = batch[0]
    if padded_hw is not None:
        entry["inputs"]["images"]["shape"][2:] = padded_hw
        entry["inputs"]["padding"]["shape"][1:] = padded_hw
    (folder / "model.json").write_text(json.dumps(metadata), encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split"], "expected one plain graph"),
        (["--attention", "plugin"], "expected one plain graph"),
        (["--batch", "4"], "expected --batch 1 or dynamic for --triton-repo, got 4"),
        (["--triton-backend", "tensorrt"], "expected --size WxH and --batch 1"),
        (["--precision", "int8", "--calibrate", "x.mp4"], "expected"),
        (["-o", "elsewhere"], "not allowed with"),
    ],
)
def test_graph_that_a_repository_cannot_hold_is_refused_at_once(
    cli: Cli, model: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    refused = cli("export", model, "--triton-repo", tmp_path / "out", *options)
    assert refused.is_one_error(2)
    assert message in refused.err
    assert not (tmp_path / "out").exists()


def test_triton_backend_without_a_repository_is_refused(cli: Cli, model: Path, tmp_path: Path) -> None:
    refused = cli("export", model, "-o", tmp_path / "out", "--triton-backend", "python")
    assert refused.is_one_error(2)
    assert "--triton-backend is for --triton-repo DIR" in refused.err


def test_foreign_folder_is_left_alone(cli: Cli, model: Path, name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("the only copy")
    refused = cli("export", model, "--triton-repo", tmp_path)
    assert refused.is_one_error(2)
    assert "was not written by hoiclip export" in refused.err
    assert (tmp_path / name / "thesis.txt").read_text() == "the only copy"


def test_export_replaces_the_earlier_one_and_leaves_other_models(
    cli: Cli, model: Path, name: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / name / "old.txt").write_text("of the earlier export")
    (tmp_path / "resnet").mkdir()
    assert cli("export", model, "--triton-repo", tmp_path).code == 0
    assert not (tmp_path / name / "old.txt").exists()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in folder.iterdir()} | {"resnet"}

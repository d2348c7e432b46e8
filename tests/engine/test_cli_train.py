"""The guide to training, word by word, and runs that cannot start."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from hoiclip.core.model_file import load_model_file
from hoiclip.core.vocabulary import vocabulary_from_words
from hoiclip.data.annotations import image_annotation
from hoiclip.data.formats.hoia import write_hoia
from hoiclip_engine.models import find_model
from tests.engine.command_output import Cli, python
from tests.engine.video_files import write_clip
from tests.hoiclip.small_datasets import save_noise

pytestmark = pytest.mark.thorough

RECIPES = Path(__file__).resolve().parents[2] / "hoiclip" / "recipes"
LAYERS = {f"{part}_layers": 1 for part in ("encoder", "instance", "clip", "interaction")}
"""Exporting takes time by the layer."""
TINY = ["optimizer.batch_size=4", "schedule.steps=2", "schedule.warmup_steps=1", "optimizer.precision=fp32"]
TINY += [f"model.{name}={count}" for name, count in LAYERS.items()]
TINY_TOML = '[optimizer]\nbatch_size = 4\nprecision = "fp32"\n[model]\n'
TINY_TOML += "".join(f"{name} = {count}\n" for name, count in LAYERS.items())


def settings(without: str = "-") -> list[str]:
    return [word for value in TINY if not value.startswith(without) for word in ("--set", value)]


def blocks(language: str) -> list[str]:
    """Fenced code of the guide."""
    text = (RECIPES.parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two torch processes on few cores slow each other down
    yield tmp_path_factory.mktemp("road")
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_guide_leads_from_images_to_pairs_in_a_video(folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of docs/training.md as it stands, only smaller."""
    monkeypatch.chdir(folder)
    write_clip(folder / "clip.mp4", [0, 40, 80])
    recipe, rates = blocks("toml")
    (folder / "mine.toml").write_text(recipe.replace("steps = 3000", "steps = 2\nwarmup_steps = 1") + TINY_TOML)
    for command in "".join(blocks("sh")).replace("\\\n", " ").splitlines():
        program, *words = shlex.split(command.replace("--images 200", "--images 6"))
        assert program == "hoiclip"
        if words[1] == "finetune.toml":
            (folder / "tuned.toml").write_text(f'extends = "finetune.toml"\n{rates}')
            words = ["train", "tuned.toml", *words[2:], "--set", "init.model=drawn", *settings("model.")]
        elif words[0] == "train" and words[1] != "mine.toml":
            words += settings()
        if words[0] == "train":
            words += ["--workers", "0"]
        if words[0] in ("eval", "run"):
            words += ["--backend", "torch"]
        said = cli(*words)
        assert said.code == 0, (command, said.err)
    (script,) = blocks("python")
    (folder / "script.py").write_text(script.replace('"schedule.steps": 3000', '"schedule.steps": 2'))
    said = python("script.py", timeout_s=300)
    assert said.code == 0, said.err
    trained = [load_model_file(folder / "runs" / name / "model.safetensors") for name in ("mine", "python")]
    assert [model.provenance["kind"] for model in trained] == ["trained"] * 2
    assert [model.provenance["recipe"]["seed"] for model in trained] == [1, 7]
    log = [json.loads(line) for line in (folder / "runs/mine/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if line["kind"] == "train"] == [1, 2]
    assert json.loads(Path("pairs.jsonl").read_text().splitlines()[0])["vocabulary"]["name"] == "drawn"
    assert Path("report/index.html").stat().st_size > 1000
    # A folder that holds another recipe's run keeps what it has.
    written = Path("runs/mine/recipe.json").read_bytes()
    assert cli("train", "mine.toml", "--out", "runs/mine", "--workers", 0, "--set", "seed=5").is_one_error(2)
    assert Path("runs/mine/recipe.json").read_bytes() == written


def test_fine_tuning_keeps_known_words_and_learns_new_ones(folder: Path, cli: Cli) -> None:
    words = vocabulary_from_words("street", ["juggle frisbee", "ride bicycle"])
    (folder / "street.json").write_text(words.to_json())
    drawn = load_model_file(find_model("drawn"))
    known = drawn.text_embeddings()
    noise = np.random.default_rng(0).normal(size=drawn.config.clip_embed)
    rows = {
        name: np.array([known.get(text, noise) for text in texts], np.float32)
        for name, texts in words.prompts_by_tensor.items()
    }
    save_file(rows, folder / "rows.safetensors", metadata={"vocabulary": words.to_json()})
    boxes = [(10.0, 10.0, 60.0, 90.0), (20.0, 50.0, 80.0, 95.0)]
    annotations = [
        image_annotation(f"{n}.png", boxes, [0, 2 - n % 2], [(0, 1, n % 2)], 128, 96)  # juggle frisbee, ride bicycle
        for n in range(5)
    ]
    for n in range(5):
        save_noise(folder / "street" / f"{n}.png", 128, 96, seed=n)
    write_hoia(folder / "street.annotations.json", annotations, words)
    settings = {
        "data.annotations": folder / "street.annotations.json",
        "data.images": folder / "street",
        "data.vocabulary": folder / "street.json",
        "init.embeddings": folder / "rows.safetensors",
        "schedule.steps": 2,
        "schedule.warmup_steps": 1,
        "schedule.patience": 1,
        "evaluate_every": 1,
        "optimizer.batch_size": 2,
        "optimizer.precision": "fp32",
    }
    sets = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    said = cli("train", "finetune.toml", "--out", folder / "runs/words", "--workers", 0, *sets)
    assert said.code == 0, said.err
    tuned = load_model_file(folder / "runs/words/model.safetensors")
    assert tuned.vocabulary == words
    assert tuned.config.queries == drawn.config.queries
    ride = drawn.vocabulary.named_hois.index(("ride", "bicycle"))
    own, learned = drawn.tensor("heads.hoi_classifier.weight")[ride], tuned.tensor("heads.hoi_classifier.weight")[1]
    np.testing.assert_array_equal(learned, own)  # frozen, as officially
    assert tuned.provenance["evaluation"]["kind"] == "evaluation"
    assert cli("models", "verify", tuned.path).code == 0
    said = cli(
        "train", "finetune.toml", "--out", folder / "runs/share", "--workers", 0, *sets, "--set", "init.share=0.5"
    )
    assert said.code == 0, said.err
    mean, changed = load_model_file(folder / "runs/share/model.safetensors"), 0
    for name, end in tuned.tensors().items():
        start = drawn.tensor(name)
        if start.shape == end.shape:
            np.testing.assert_allclose(mean.tensor(name), (start + end) / 2, atol=1e-6, rtol=1e-3)  # files of fp16
            changed += int(not np.array_equal(start, end))
    assert changed > 50


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["RECIPE", "--out", "OUT", "--set", "seed"], 2),
        (["RECIPE", "--out", "OUT", "--set", "optimizer.speed=3"], 2),
        (["RECIPE", "--out", "OUT", "--set", "init.clip=none.safetensors"], 4),
        (["none.toml", "--out", "OUT"], 2),
        (["RECIPE", "--out", "OUT", "--set", "init.share=0.5"], 2),
        (["RECIPE", "--out", "OUT", "--set", "init.share=1"], 2),
        (["RECIPE", "--out", "OUT", "--set", "data.split=foo"], 2),
        (["RECIPE", "--out", "OUT", "--set", "data.fraction=7"], 2),
        (["RECIPE", "--out", "OUT", "--set", "init.detector=none.safetensors"], 4),
        (["RECIPE", "--out", "OUT", "--workers", "-1"], 2),
        (["RECIPE", "--out", "/proc/none"], 7),
    ],
)
def test_run_that_cannot_start_is_one_line(words: list[str], code: int, tmp_path: Path, cli: Cli) -> None:
    names = {"RECIPE": str(RECIPES / "drawn.toml"), "OUT": str(tmp_path / "out")}
    assert cli("train", *(names.get(word, word) for word in words)).is_one_error(code)

"""The whole road of an own data set: draw it, train a CLIP, train HOICLIP on its JSON, run the model on a clip."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hoiclip.checkpoint.model_file import load_model_file
from tests.engine.making_videos import write_clip
from tests.engine.saying import Cli

RECIPES = Path(__file__).resolve().parents[2] / "hoiclip" / "recipes"
TINY = ["optimizer.batch_size=4", "schedule.steps=2", "schedule.warmup_steps=1", "optimizer.precision=fp32"]


def settings(*values: str) -> list[str]:
    return [word for value in (*TINY, *values) for word in ("--set", value)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two torch processes on few cores slow each other down
    yield tmp_path_factory.mktemp("road")
    torch.set_num_threads(threads)


def test_from_an_own_data_set_to_pairs_in_a_video(folder: Path, cli: Cli) -> None:
    data, clip, run = folder / "data", folder / "clip", folder / "run"
    assert cli("data", "draw", "--out", data, "--images", 6).code == 0
    said = cli("train", RECIPES / "drawn_clip.toml", "--out", clip, "--workers", 0, *settings())
    assert said.code == 0, said.err
    own = (
        "data.kind=pictures",
        f"data.annotations={data / 'annotations.json'}",
        f"data.images={data / 'images'}",
        f"start.clip={clip / 'clip.safetensors'}",
    )
    said = cli("train", RECIPES / "drawn.toml", "--out", run, "--workers", 0, *settings(*own))
    assert said.code == 0, said.err
    written = (run / "recipe.json").read_bytes()
    other = cli("train", RECIPES / "drawn.toml", "--out", run, "--workers", 0, *settings(*own, "seed=5"))
    assert other.is_one_error(2)
    assert (run / "recipe.json").read_bytes() == written
    model = load_model_file(run / "model.safetensors")
    assert model.provenance["kind"] == "trained"
    assert model.provenance["recipe"]["data"]["annotations"] == str(data / "annotations.json")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if line["kind"] == "train"] == [1, 2]
    video = write_clip(folder / "clip.mp4", [0, 40, 80])
    pairs = folder / "pairs.jsonl"
    assert cli("run", video, "--model", model.path, "--backend", "torch", "--jsonl", pairs).code == 0
    header = json.loads(pairs.read_text().splitlines()[0])
    assert header["vocabulary"]["name"] == "drawn"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["RECIPE", "--out", "OUT", "--set", "seed"], 2),
        (["RECIPE", "--out", "OUT", "--set", "optimizer.speed=3"], 2),
        (["RECIPE", "--out", "OUT", "--set", "start.clip=none.safetensors"], 4),
        (["none.toml", "--out", "OUT"], 2),
    ],
)
def test_a_run_that_cannot_start_is_one_line(words: list[str], code: int, tmp_path: Path, cli: Cli) -> None:
    names = {"RECIPE": str(RECIPES / "drawn.toml"), "OUT": str(tmp_path / "out")}
    assert cli("train", *(names.get(word, word) for word in words)).is_one_error(code)

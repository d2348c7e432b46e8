"""No command overwrites its inputs, under any name; a refused command changes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hoiclip.core.errors import UsageError
from hoiclip_engine.cli.distinct_files import require_distinct, source_inputs
from hoiclip_engine.sources.source_list import expand_sources
from tests.engine.command_output import PYTHONPATH, Cli
from tests.engine.video_files import write_clip


def linked_twice(file: Path, link: Path) -> None:
    link.with_name("middle").symlink_to(file)
    link.symlink_to("middle")


LINKS: dict[str, Callable[[Path, Path], object]] = {
    "hard": lambda file, link: os.link(file, link),
    "symbolic": lambda file, link: link.symlink_to(file),
    "relative": lambda file, link: link.symlink_to(os.path.relpath(file, link.parent)),
    "of a link": lambda file, link: linked_twice(file, link),
}


@pytest.fixture
def folder(tmp_path: Path, clip: Path, model: Path) -> Path:
    """One file or folder of every kind that commands read."""
    shutil.copyfile(clip, tmp_path / "clip.mp4")
    shutil.copyfile(model, tmp_path / "own.safetensors")
    (tmp_path / "list.txt").write_text("clip.mp4\n")
    (tmp_path / "videos").mkdir()
    for name in ("first", "second"):
        shutil.copyfile(clip, tmp_path / "videos" / f"{name}.mp4")
        (tmp_path / "videos" / f"{name}.jsonl").write_text("the ground truth\n")
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "images" / "deep" / "a.png").write_text("an image\n")
    for name in ("data.json", "base.json", "gt.txt", "found.txt", "recipe.toml", "words.json", "prior.npy", "own.pth"):
        (tmp_path / name).write_text("an input\n")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


COMMANDS = [
    "run clip.mp4 --csv clip.mp4",
    "run clip.mp4 -o clip.mp4",
    "run list.txt --jsonl list.txt",
    "run videos --jsonl videos",
    "run videos --hico videos",
    "run clip.mp4 --model own.safetensors --vtt own.safetensors",
    "run clip.mp4 --csv out --mot out",
    "eval --model own.safetensors --data data.json --images images --json data.json",
    "eval --model own.safetensors --data data.json --images images --json images/deep/a.png",
    "eval --model own.safetensors --data data.json --images images --report images",
    "eval --model own.safetensors --data data.json --images images --prior prior.npy --json prior.npy",
    "eval --model own.safetensors --films videos --json videos/first.jsonl",
    "eval --model own.safetensors --films videos --json own.safetensors",
    "eval --model own.safetensors --films videos --split words.json --json words.json",
    "eval video videos --model own.safetensors --json videos/first.jsonl",
    "eval video --mot gt.txt --results found.txt --json found.txt",
    "eval video --mot gt.txt --results found.txt --json gt.txt",
    "eval video videos --results found.txt --json found.txt",
    "export own.safetensors -o . --with-model",
    "export own.safetensors -o images --precision int8 --calibrate images",
    "bench clip.mp4 --model own.safetensors --json clip.mp4",
    "bench clip.mp4 --model own.safetensors --markdown own.safetensors",
    "bench clip.mp4 --model own.safetensors --compare base.json --fail-on p50:+5% --json base.json",
    "bench clip.mp4 --model own.safetensors --accuracy 1 --data data.json --images images --plot images/deep/a.png",
    "archive videos -o videos --model own.safetensors",
    "data convert data.json --from hico-json -o data.json",
    "data convert data.json --from vcoco --instances base.json -o base.json",
    "data convert data.json --from hico-json --vocabulary words.json -o words.json",
    "models import own.pth -o own.safetensors",
    "vocab build own.safetensors -o own.safetensors",
    "vocab build hico --weights own.safetensors -o own.safetensors",
]


@pytest.mark.parametrize("line", COMMANDS)
def test_output_is_never_an_input(line: str, folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    if line.startswith("archive"):
        pytest.importorskip("ray")
    if line.startswith("models import"):
        os.link(folder / "own.pth", folder / "linked.safetensors")
        line = line.replace("own.safetensors", "linked.safetensors")
    monkeypatch.chdir(folder)
    before = contents(folder)
    output = cli(*line.split())
    assert output.is_one_error(2)
    assert "different files" in output.err
    assert contents(folder) == before


def test_training_never_overwrites_recipe_data_or_weights(
    folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(folder)
    (folder / "run").mkdir()
    shutil.copyfile(folder / "own.safetensors", folder / "run" / "model.safetensors")
    before = contents(folder)
    output = cli("train", "drawn.toml", "--out", "run", "--set", "init.detector=run/model.safetensors")
    assert output.is_one_error(2)
    assert contents(folder) == before


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("option", ["-o", "--csv", "--jsonl", "--mot", "--vtt", "--coco"])
def test_links_count_as_their_targets(kind: str, option: str, folder: Path, cli: Cli) -> None:
    link = folder / "other.mp4"
    LINKS[kind](folder / "clip.mp4", link)
    before = contents(folder)
    assert cli("run", folder / "clip.mp4", option, link).is_one_error(2)
    assert contents(folder) == before


def test_unfinished_name_of_a_video_counts_as_output(folder: Path, cli: Cli) -> None:
    (folder / "clip.mp4").rename(folder / "out.part.mp4")
    before = contents(folder)
    assert cli("run", folder / "out.part.mp4", "-o", folder / "out.mp4").is_one_error(2)
    assert contents(folder) == before


def test_standard_output_may_be_the_source(folder: Path, model: Path) -> None:
    source = folder / "list.txt"
    before = source.read_bytes()
    command = [sys.executable, "-m", "hoiclip_engine.cli", "run", source, "--model", model, "--jsonl", "-"]
    with source.open("ab") as file:
        environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
        done = subprocess.run(command, env=environment, stdout=file, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, source.read_bytes()) == (2, before), done.stderr


def test_hard_links_into_a_folder_are_found_at_any_depth(folder: Path) -> None:
    os.link(folder / "images" / "deep" / "a.png", folder / "out.json")
    with pytest.raises(UsageError, match="different files"):
        require_distinct([folder / "images"], [folder / "out.json"])


def test_missing_files_are_compared_by_path(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "later.csv")
    with pytest.raises(UsageError, match="different files"):
        require_distinct([], [tmp_path / "later.csv", tmp_path / "link"])
    with pytest.raises(UsageError, match="different files"):
        require_distinct([tmp_path / "x" / ".." / "later.csv"], [tmp_path / "later.csv"])


def test_devices_may_be_shared() -> None:
    require_distinct(["/dev/null"], ["/dev/null", "/dev/null"])


def test_results_may_lie_beside_their_sources(tmp_path: Path) -> None:
    """And be written again."""
    videos = tmp_path / "videos"
    (videos / "results").mkdir(parents=True)
    write_clip(videos / "a.mp4", [0, 40])
    for name in ("results/a.jsonl", "all.csv"):
        (videos / name).write_text("of the last run\n")
    read = [*source_inputs([str(videos)], expand_sources([str(videos)]))]
    require_distinct(read, [videos / "results" / "a.jsonl", videos / "all.csv"], [videos / "results"])
    require_distinct([tmp_path / "images"], [tmp_path / "images.json"])
    with pytest.raises(UsageError):
        require_distinct(read, [videos / "a.mp4"])

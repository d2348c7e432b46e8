"""hoiclip train under torchrun: two processes are one run, also after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hoiclip.core.model_file import load_model_file
from hoiclip.data.formats.hoia import write_hoia
from hoiclip.training.run_folder import read_log
from tests.engine.command_output import PYTHONPATH
from tests.hoiclip.small_datasets import FRUIT, fruit, save_noise
from tests.hoiclip.test_training_model import SMALL

pytestmark = pytest.mark.thorough

STEPS = 8
SIZES = replace(SMALL, num_object_classes=3, num_verbs=2, num_hois=4, short_side_px=48, max_side_px=64)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe for a few images of noise, with dropout and everything else that is random."""
    folder = tmp_path_factory.mktemp("fruit")
    annotations = [fruit(f"{number}.png") for number in range(5)]
    for number, annotation in enumerate(annotations):
        save_noise(folder / annotation.file_name, seed=number)
    write_hoia(folder / "annotations.json", annotations, FRUIT)
    (folder / "vocabulary.json").write_text(FRUIT.to_json(), encoding="utf-8")
    sections = {
        "data": {
            "kind": "images",
            "annotations": str(folder / "annotations.json"),
            "images": str(folder),
            "vocabulary": str(folder / "vocabulary.json"),
        },
        "schedule": {"kind": "cosine", "steps": STEPS, "warmup_steps": 1},
        "optimizer": {"lr": 1e-3, "backbone_lr": 1e-3, "batch_size": 2, "accumulate": 2, "ema": 0.9, "dropout": 0.2},
        "auxiliary": {"query_groups": 2, "dense_heads": True, "batch_norm": True},
        "model": SIZES.to_dict(),
    }
    lines = ["save_every = 2"]
    for name, values in sections.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    path = folder / "two.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@contextmanager
def started(recipe: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The command of docs/training.md; its processes are killed at the end of the block."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "hoiclip_engine.cli"]
    process = subprocess.Popen(
        [sys.executable, *torchrun, "train", str(recipe), "--out", str(folder), "--workers", "0"],
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            for number in (*workers(process), process.pid):
                os.kill(number, signal.SIGKILL)
        process.wait()


def workers(torchrun: subprocess.Popen[str]) -> list[int]:
    """Kills all processes: they have sessions of their own, and would survive torchrun."""
    children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children")
    return [int(number) for number in children.read_text().split()]


def finish(recipe: Path, folder: Path) -> str:
    with started(recipe, folder) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output[-3000:]
    return output


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, finish(recipe, folder)


def test_two_processes_write_one_log_and_one_model_and_report_once(whole: tuple[Path, str]) -> None:
    folder, output = whole
    assert output.count("Wrote ") == 1, output
    lines = read_log(folder)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert all(line["kind"] == "train" and line["total"] > 0 for line in lines)
    assert sorted(path.name for path in folder.glob("*.safetensors")) == ["model.safetensors"]
    assert load_model_file(folder / "model.safetensors").provenance["kind"] == "trained"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_resumed_two_processes_end_with_the_weights_of_an_uninterrupted_run(
    recipe: Path, whole: tuple[Path, str], tmp_path: Path
) -> None:
    with started(recipe, tmp_path) as process:
        deadline = time.monotonic() + 120
        while max((line["step"] for line in read_log(tmp_path)), default=0) < 3:
            assert process.poll() is None, "ended by itself"
            assert time.monotonic() < deadline, "too slow"
            time.sleep(0.005)
    assert len(read_log(tmp_path)) < STEPS
    finish(recipe, tmp_path)
    states = [load_model_file(folder / "model.safetensors").build().state_dict() for folder in (whole[0], tmp_path)]
    assert [key for key in states[0] if not torch.equal(states[0][key], states[1][key])] == []
    first, second = ([line["total"] for line in read_log(folder)] for folder in (whole[0], tmp_path))
    assert first == second

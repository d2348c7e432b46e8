"""A run learns, stops at nonsense, and goes on after being killed as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hoiclip.errors import ModelError, UsageError
from hoiclip.training.hoi_task import HoiTask
from hoiclip.training.log import draw_curves, read_log
from hoiclip.training.loop import Surroundings, Trainer, TrainingDiverged, channels_last_is_safe
from hoiclip.training.resume import FILE
from tests.hoiclip.tiny_run import RECIPE, STEPS, NoiseSamples, run, task

ROOT = Path(__file__).resolve().parents[2]


def last_step(folder: Path) -> int:
    return max((line["step"] for line in read_log(folder)), default=0)


def killed_run(folder: Path, after_step: int) -> None:
    """A process of its own, killed by SIGKILL once its log shows a step."""
    path = os.pathsep.join(str(ROOT / part) for part in ("", "engine", "kernels"))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hoiclip.tiny_run", str(folder), "0.02", str(torch.get_num_threads())],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )
    deadline = time.monotonic() + 60
    while last_step(folder) < after_step:
        assert process.poll() is None, "ended by itself"
        assert time.monotonic() < deadline, "too slow"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    folder = tmp_path / "killed"
    chosen = random.Random(7).randint(5, STEPS - 3)
    killed_run(folder, after_step=chosen)
    assert chosen <= last_step(folder) < STEPS
    resumed = run(folder)
    assert whole.keys() == resumed.keys()
    assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []
    curves = [[line["total"] for line in read_log(tmp_path / name)] for name in ("whole", "killed")]
    assert curves[0] == curves[1]
    assert len(curves[0]) == STEPS


def test_a_finished_run_stays_finished(tmp_path: Path) -> None:
    first = run(tmp_path)
    again = run(tmp_path)
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_the_loss_falls_on_pictures_that_come_again(tmp_path: Path) -> None:
    class Few(NoiseSamples):
        def __getitem__(self, number: int):  # type: ignore[no-untyped-def]
            return super().__getitem__(number % 2)

    recipe = replace(RECIPE, schedule=replace(RECIPE.schedule, steps=40, kind="constant_linear"), save_every=1000)
    here = Surroundings(folder=tmp_path, device=torch.device("cpu"), workers=0)
    Trainer(recipe, task(), Few(), here).train()
    totals = [line["total"] for line in read_log(tmp_path) if line["kind"] == "train"]
    assert sum(totals[-5:]) < 0.75 * sum(totals[:5])


def test_a_loss_that_is_not_a_number_stops_the_run_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"step 2: loss_\w+ is not a finite number"):
        run(tmp_path, NoiseSamples(poisoned_at=9))
    assert last_step(tmp_path) == 2


def test_a_folder_with_another_recipe_or_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    here = Surroundings(folder=tmp_path, device=torch.device("cpu"), workers=0)
    with pytest.raises(UsageError, match="another recipe"):
        Trainer(replace(RECIPE, seed=5), task(), NoiseSamples(), here).train()
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="damaged"):
        run(tmp_path)


def test_the_finished_model_is_a_plain_one(tmp_path: Path) -> None:
    tensors = run(tmp_path)
    model = HoiTask.finished(task().kept, tensors)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    picture = torch.zeros(1, 3, 48, 64), torch.zeros(1, 48, 64, dtype=torch.bool), torch.zeros(1, 3, 32, 32)
    assert all(torch.isfinite(out).all() for out in model(*picture))


def test_unseen_classes_get_no_gradient_from_the_losses() -> None:
    made = task()
    hidden = HoiTask(made.kept, RECIPE, seen=[0, 1, 3, 4])
    made.kept.heads.hoi_classifier.weight.requires_grad_(True)
    batch = hidden.collate([NoiseSamples()[number] for number in (0, 1, 2)])
    hidden(batch).total.backward()
    grad = made.kept.heads.hoi_classifier.weight.grad
    assert grad is not None
    # Class 2 still adds to the verb sums of the others, but its own row is never pushed.
    assert float(grad[2].abs().max()) == 0
    assert float(grad[3].abs().max()) > 0


def test_curves_are_drawn_from_the_log(tmp_path: Path) -> None:
    run(tmp_path)
    path = draw_curves(tmp_path, {"train/total": "loss", "train/lr": "rate"})
    assert path.stat().st_size > 1000
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": 99, "kind": "train"})[:10])  # a line that a kill cut off
    assert last_step(tmp_path) == STEPS


def test_channels_last_is_left_out_where_it_would_corrupt_the_heap() -> None:
    convolution = torch.nn.Conv2d
    assert channels_last_is_safe(torch.nn.Sequential(convolution(4, 8, 3, stride=2), convolution(4, 8, 1)))
    assert channels_last_is_safe(convolution(16, 8, 1, stride=2))
    assert not channels_last_is_safe(torch.nn.Sequential(convolution(12, 8, 1, stride=2)))

"""Training loop: a run learns, stops at non-finite losses, and resumes exactly after it was killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hoiclip.core.errors import ModelError, UsageError
from hoiclip.training.loop import Trainer, TrainingDiverged, channels_last_is_safe
from hoiclip.training.run_folder import CHECKPOINT_FILE, draw_curves, read_log
from hoiclip.training.tasks import HoiTask
from tests.hoiclip.tiny_run import RECIPE, STEPS, NoiseSamples, context_of, run, task

ROOT = Path(__file__).resolve().parents[2]


def last_step(folder: Path) -> int:
    return max((line["step"] for line in read_log(folder)), default=0)


def killed_run(folder: Path, after_step: int) -> None:
    """Runs in a process of its own, killed by SIGKILL once its log shows a step."""
    path = os.pathsep.join(str(ROOT / folder) for folder in ("", "engine", "kernels"))
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


@pytest.mark.thorough
def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    folder = tmp_path / "killed"
    step = random.Random(7).randint(5, STEPS - 3)
    killed_run(folder, after_step=step)
    assert step <= last_step(folder) < STEPS
    resumed = run(folder)
    assert whole.keys() == resumed.keys()
    assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []
    curves = [[line["total"] for line in read_log(tmp_path / name)] for name in ("whole", "killed")]
    assert curves[0] == curves[1]
    assert len(curves[0]) == STEPS


def test_finished_run_stays_finished(tmp_path: Path) -> None:
    first = run(tmp_path)
    again = run(tmp_path)
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_loss_falls_on_repeated_images(tmp_path: Path) -> None:
    class Few(NoiseSamples):
        def __getitem__(self, number: int):  # type: ignore[no-untyped-def]
            return super().__getitem__(number % 2)

    recipe = replace(RECIPE, schedule=replace(RECIPE.schedule, steps=40, kind="constant_linear"), save_every=1000)
    Trainer(recipe, task(), Few(), context_of(tmp_path)).train()
    totals = [line["total"] for line in read_log(tmp_path) if line["kind"] == "train"]
    assert sum(totals[-5:]) < 0.75 * sum(totals[:5])


def test_non_finite_loss_stops_the_run_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"step 2: loss_\w+ is not a finite number"):
        run(tmp_path, NoiseSamples(poisoned_at=9))
    assert last_step(tmp_path) == 2


def test_run_folder_of_another_recipe_or_with_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    context = context_of(tmp_path)
    with pytest.raises(UsageError, match="another recipe"):
        Trainer(replace(RECIPE, seed=5), task(), NoiseSamples(), context).train()
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="damaged"):
        run(tmp_path)


def run_with_scores(folder: Path, scores: list[float], steps: int = STEPS) -> tuple[dict[str, torch.Tensor], list[int]]:
    """A run with patience 2 whose evaluations, after each second step, have these scores; and the evaluated steps."""
    recipe = replace(
        RECIPE, schedule=replace(RECIPE.schedule, steps=steps, patience=2), evaluate_every=2, save_every=1000
    )
    evaluated: list[int] = []

    def evaluate(tensors: Mapping[str, torch.Tensor], step: int) -> dict[str, float]:
        evaluated.append(step)
        return {"mAP": scores[step // 2 - 1]}

    folder.mkdir(exist_ok=True)
    return Trainer(recipe, task(), NoiseSamples(), context_of(folder), evaluate=evaluate).train(), evaluated


def test_run_ends_when_patience_does_and_returns_its_best_weights(tmp_path: Path) -> None:
    tensors, evaluated = run_with_scores(tmp_path / "patient", [10, 30, 20, 29, 50, 60])
    assert evaluated == [2, 4, 6, 8]
    assert last_step(tmp_path / "patient") == 8
    best, _ = run_with_scores(tmp_path / "best", [1, 2], steps=4)  # ends at the best step of the other
    later, _ = run_with_scores(tmp_path / "later", [1, 2, 3], steps=6)
    assert best.keys() == tensors.keys()
    changing = [key for key in best if not torch.equal(best[key], later[key])]
    assert changing
    again, evaluated = run_with_scores(tmp_path / "patient", [10, 30, 20, 29, 50, 60])
    assert evaluated == []  # it stays ended
    assert all(torch.equal(tensors[key], again[key]) for key in tensors)


def test_checkpoint_without_newer_settings_is_resumed(tmp_path: Path) -> None:
    weights = run(tmp_path)
    path = tmp_path / CHECKPOINT_FILE
    state = torch.load(path, weights_only=True)
    recipe = json.loads(state["recipe"])
    del recipe["optimizer"]["rates"], recipe["schedule"]["patience"], recipe["data"]["validation"]
    del recipe["init"]["embeddings"], state["best"], state["stale"]
    torch.save({**state, "recipe": json.dumps(recipe)}, path)
    resumed = run(tmp_path)
    assert all(torch.equal(weights[key], resumed[key]) for key in weights)


def test_checkpoint_with_old_names_is_resumed(tmp_path: Path) -> None:
    weights = run(tmp_path)
    path = tmp_path / CHECKPOINT_FILE
    state = torch.load(path, weights_only=True)
    recipe = json.loads(state["recipe"])
    start, aids, data = recipe.pop("init"), recipe.pop("auxiliary"), recipe["data"]
    start |= {"text_rows": start.pop("text_embeddings"), "verb_rows": start.pop("verb_embeddings")}
    data["kind"] = {"synthetic": "drawn", "images": "pictures"}[data["kind"]]
    state["recipe"] = json.dumps({**recipe, "start": start, "aids": aids}, sort_keys=True)
    old_keys = {key: key.replace("dense_heads.object_head.", "dense_heads.things.") for key in state["module"]}
    assert any("things" in old for old in old_keys.values())
    state["module"] = {old_keys[key]: value for key, value in state["module"].items()}
    torch.save(state, path)
    resumed = run(tmp_path)
    assert [key for key in weights if not torch.equal(weights[key], resumed[key])] == []
    with pytest.raises(UsageError, match="another recipe"):
        Trainer(replace(RECIPE, seed=5), task(), NoiseSamples(), context_of(tmp_path)).train()


def test_finished_model_has_no_auxiliary_parts(tmp_path: Path) -> None:
    tensors = run(tmp_path)
    model = HoiTask.finished(task().kept, tensors)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    image = torch.zeros(1, 3, 48, 64), torch.zeros(1, 48, 64, dtype=torch.bool), torch.zeros(1, 3, 32, 32)
    assert all(torch.isfinite(out).all() for out in model(*image))


def test_unseen_hois_get_no_gradient() -> None:
    made = task()
    hidden = HoiTask(made.kept, RECIPE, seen=[0, 1, 3, 4])
    made.kept.heads.hoi_classifier.weight.requires_grad_(True)
    batch = hidden.collate([NoiseSamples()[number] for number in (0, 1, 2)])
    hidden(batch).total.backward()
    grad = made.kept.heads.hoi_classifier.weight.grad
    assert grad is not None
    # Class 2 still adds to the verb sums of the others, but its own row gets no gradient.
    assert float(grad[2].abs().max()) == 0
    assert float(grad[3].abs().max()) > 0


def test_curves_are_drawn_from_the_log(tmp_path: Path) -> None:
    run(tmp_path)
    path = draw_curves(tmp_path, {"train/total": "loss", "train/lr": "rate"})
    assert path.stat().st_size > 1000
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": 99, "kind": "train"})[:10])  # the unfinished line of a killed run
    assert last_step(tmp_path) == STEPS


def test_channels_last_is_not_used_where_it_would_corrupt_the_heap() -> None:
    convolution = torch.nn.Conv2d
    assert channels_last_is_safe(torch.nn.Sequential(convolution(4, 8, 3, stride=2), convolution(4, 8, 1)))
    assert channels_last_is_safe(convolution(16, 8, 1, stride=2))
    assert not channels_last_is_safe(torch.nn.Sequential(convolution(12, 8, 1, stride=2)))

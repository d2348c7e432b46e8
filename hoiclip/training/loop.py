"""The training loop: one for every recipe, dataset and number of GPUs.

A run lives in a folder: log.jsonl, checkpoint.pt, and model.safetensors at the end. Killed at any moment it resumes
from its last checkpoint and ends with the same weights as an uninterrupted run.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hoiclip.core.errors import HoiclipError, ModelError, UsageError
from hoiclip.training.batches import Samples, load_batches
from hoiclip.training.optimization import ModelEMA, parameter_groups
from hoiclip.training.recipe import Recipe, recipe_from_dict, with_current_names
from hoiclip.training.run_folder import RunLog, load_checkpoint, save_checkpoint, seed_everything
from hoiclip.training.tasks import StepLosses, Task

Evaluate = Callable[[Mapping[str, Tensor], int], Mapping[str, float]]
"""Averaged tensors of the finished module and the step they have reached → numbers for the log."""
BEST_BY = "mAP"
"""The number of an evaluation that decides which weights are the best."""
Progress = Callable[[int, Mapping[str, float]], None]


class TrainingDiverged(HoiclipError):
    """A loss is not a finite number."""

    exit_code = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Folder, device and processes of a run; nothing here changes its weights on one machine."""

    folder: Path
    device: torch.device
    workers: int = 1
    rank: int = 0
    ranks: int = 1

    @staticmethod
    def of_this_process(folder: Path, workers: int = 1) -> RunContext:
        """Under torchrun one process per GPU, otherwise this one alone.

        Raises:
            UsageError: a number of workers below 0.
        """
        if workers < 0:
            raise UsageError(f"expected 0 or more workers, got {workers}")
        ranks = int(os.environ.get("WORLD_SIZE", "1"))
        rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
        device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
        if ranks > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return RunContext(folder=folder, device=device, workers=workers, rank=rank, ranks=ranks)


def is_first_process() -> bool:
    """Whether this process writes files and messages: the first of torchrun's, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


class Trainer:
    """A run of one recipe. `train` resumes from the folder's checkpoint."""

    def __init__(
        self,
        recipe: Recipe,
        task: Task,
        samples: Samples[Any],
        context: RunContext,
        *,
        evaluate: Evaluate | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Args: the task has its initial weights; its frozen parameters require no gradients."""
        self.recipe, self.context = recipe, context
        self._evaluate, self._progress = evaluate, progress
        self._samples, self._task = samples, task
        self._module: nn.Module = cast(nn.Module, task).to(context.device)
        if channels_last_is_safe(self._module):
            # Convolutions are a tenth faster with channels last, on the CPU too.
            self._module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        seed_everything(recipe.seed + context.rank)
        self._parallel: nn.Module = self._module
        if context.ranks > 1:
            self._parallel = nn.parallel.DistributedDataParallel(self._module, find_unused_parameters=True)
        o = recipe.optimizer
        self._optimizer = torch.optim.AdamW(
            parameter_groups(self._module, lr=o.lr, backbone_lr=o.backbone_lr, rates=o.rates),
            lr=o.lr,
            weight_decay=o.weight_decay,
        )
        half_on_gpu = o.precision == "fp16" and context.device.type == "cuda"
        self._scaler = torch.amp.GradScaler(context.device.type, enabled=half_on_gpu)
        self._ema = ModelEMA(task.kept, o.ema)
        self._best: dict[str, Any] = {}
        """Step, score and averaged tensors of the best evaluation, where the schedule has patience."""
        self._stale = 0
        self.step = 0

    @property
    def _ended(self) -> bool:
        schedule = self.recipe.schedule
        return self.step >= schedule.steps or (schedule.patience > 0 and self._stale >= schedule.patience)

    def train(self) -> dict[str, Tensor]:
        """Runs all remaining steps, or until the schedule's patience ends.

        Returns:
            Averaged tensors of the finished module; with patience those of its best evaluation.

        Raises:
            TrainingDiverged: a loss is not finite; the message names it and the step.
        """
        self._resume()
        log = RunLog(self.context.folder, self.step) if self.context.rank == 0 else None
        o, steps = self.recipe.optimizer, self.recipe.schedule.steps
        loader = iter(
            load_batches(
                self._samples,
                self._task.collate,
                start=self.step * o.accumulate,
                stop=steps * o.accumulate,
                batch_size=o.batch_size,
                workers=self.context.workers,
                rank=self.context.rank,
                ranks=self.context.ranks,
            )
        )
        try:
            while not self._ended:
                started = time.perf_counter()
                numbers = self._one_step([next(loader) for _ in range(o.accumulate)])
                self.step += 1
                if log is not None:
                    self._report(log, numbers, time.perf_counter() - started)
        finally:
            if log is not None:
                log.close()
        best: dict[str, Tensor] = self._best.get("tensors", self._ema.tensors)
        return best

    def _one_step(self, batches: list[Any]) -> dict[str, float]:
        if self.context.ranks > 1:
            # A checkpoint holds the first process's generators only, so every process seeds its dropout at each step.
            torch.manual_seed(self.recipe.seed + self.context.ranks * self.step + self.context.rank)
        self._parallel.train()
        factor = self.recipe.schedule.factor(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        self._optimizer.zero_grad(set_to_none=True)
        numbers: dict[str, float] = {}
        for batch in batches:
            losses: StepLosses = self._parallel(batch.to(self.context.device))
            if losses.non_finite_loss is not None or not torch.isfinite(losses.total):
                raise TrainingDiverged(
                    f"step {self.step}: {losses.non_finite_loss or 'the total loss'} is not a finite number; "
                    "lower the learning rate, or train in fp32"
                )
            self._scaler.scale(losses.total / len(batches)).backward()
            for name, value in losses.numbers.items():
                numbers[name] = numbers.get(name, 0.0) + value / len(batches)
        self._scaler.unscale_(self._optimizer)
        numbers["gradient_norm"] = self._clip_gradients()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._ema.update(self._task.kept)
        return {**numbers, "lr": self._optimizer.param_groups[0]["lr"]}

    def _clip_gradients(self) -> float:
        learning = [p for group in self._optimizer.param_groups for p in group["params"]]
        limit = self.recipe.optimizer.clip_norm or float("inf")
        return float(nn.utils.clip_grad_norm_(learning, limit))

    def _report(self, log: RunLog, numbers: dict[str, float], elapsed_s: float) -> None:
        steps, o = self.recipe.schedule.steps, self.recipe.optimizer
        images = o.batch_size * o.accumulate * self.context.ranks
        numbers = {name: round(value, 6) for name, value in numbers.items()}
        log.write(self.step, "train", {**numbers, "pictures_per_s": round(images / elapsed_s, 2)})
        if self._progress is not None:
            self._progress(self.step, numbers)
        last, every = self.step == steps, self.recipe.evaluate_every
        if self._evaluate is not None and (last or (every and self.step % every == 0)):
            found = self._evaluate(self._ema.tensors, self.step)
            log.write(self.step, "evaluation", dict(found))
            self._keep_best(found)
        if self._ended or self.step % self.recipe.save_every == 0:
            save_checkpoint(self.context.folder, self._state())

    def _keep_best(self, found: Mapping[str, float]) -> None:
        if not self.recipe.schedule.patience:
            return
        if found[BEST_BY] > self._best.get("score", -1.0):
            tensors = {key: value.detach().clone() for key, value in self._ema.tensors.items()}
            self._best, self._stale = {"step": self.step, "score": found[BEST_BY], "tensors": tensors}, 0
        else:
            self._stale += 1

    def _state(self) -> dict[str, Any]:
        return {
            "recipe": self._recipe_json(),
            "step": self.step,
            "module": self._module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "running": self._ema.tensors,
            "running_updates": self._ema.updates,
            "best": self._best,
            "stale": self._stale,
        }

    def _recipe_json(self) -> str:
        return json.dumps(self.recipe.to_dict(), sort_keys=True)

    def _resume(self) -> None:
        """Raises UsageError where the folder holds a run of another recipe, ModelError where its file is damaged."""
        state = load_checkpoint(self.context.folder)
        if state is None:
            return
        if not self._is_of_this_recipe(json.loads(state["recipe"])):
            raise UsageError(f"{self.context.folder} holds a run of another recipe; choose another folder")
        try:
            self._module.load_state_dict(_with_current_keys(state["module"]))
            self._optimizer.load_state_dict(state["optimizer"])
            self._scaler.load_state_dict(state["scaler"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise ModelError(
                f"the checkpoint in {self.context.folder} does not fit this version; start again in another folder"
            ) from error
        averaged = _with_current_keys(state["running"])
        self._ema.tensors = {key: value.to(self.context.device) for key, value in averaged.items()}
        self._ema.updates = state["running_updates"]
        self._best, self._stale = state.get("best", {}), state.get("stale", 0)
        self.step = state["step"]

    def _is_of_this_recipe(self, data: dict[str, Any]) -> bool:
        """Whether a checkpoint's recipe is this one; a setting that its version did not have had today's default."""
        try:
            return recipe_from_dict(with_current_names(data), "checkpoint").to_dict() == self.recipe.to_dict()
        except UsageError:
            return False


def _with_current_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of an older version, whose auxiliary heads had other names."""
    return {re.sub(r"(^|\.)things\.", r"\1object_head.", key): value for key, value in tensors.items()}


def channels_last_is_safe(module: nn.Module) -> bool:
    """Whether no 1x1 convolution with a stride has fewer than 16 inputs.

    With channels last oneDNN writes the weight gradients of these beyond the end of its buffer and corrupts the heap
    (github.com/uxlfoundation/oneDNN/issues/6035). Only very small models have such convolutions.
    """
    return not any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.in_channels < 16
        for layer in module.modules()
    )

"""hoiclip train: a recipe and what is set beside it to a training run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist

from hoiclip.errors import UsageError
from hoiclip.training.loop import is_first_process
from hoiclip.training.recipe import read_recipe
from hoiclip_engine.commands.console import messages, progress
from hoiclip_engine.train import train_model


def train(recipe_file: Path, folder: Path, workers: int, settings: list[str]) -> int:
    """Trains, or goes on where the folder's run was interrupted. Of several processes only the first speaks."""
    recipe = read_recipe(recipe_file, **dict(_setting(text) for text in settings))
    with progress() as bar:
        task = bar.add_task("steps", total=recipe.schedule.steps, rate="", visible=is_first_process())

        def tell(step: int, numbers: Mapping[str, float]) -> None:
            bar.update(task, completed=step, rate=" ".join(f"{k} {numbers[k]:.2f}" for k in list(numbers)[:3]))

        made = train_model(recipe, folder, workers=workers, progress=tell)
    if is_first_process():
        messages.print(f"Wrote {made}, with its log and curves beside it")
    if dist.is_initialized():
        dist.destroy_process_group()
    return 0


def _setting(text: str) -> tuple[str, Any]:
    """ "optimizer.lr=1e-3" to a name and a TOML value."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set takes section.name=value, got {text!r}")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, {"true": True, "false": False}.get(value, value)

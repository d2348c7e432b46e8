"""hoiclip train: a recipe and what is set beside it to a training run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist

from hoiclip.errors import UsageError
from hoiclip.training.log import FILE as LOG
from hoiclip.training.loop import is_first_process
from hoiclip.training.recipe import Recipe, read_recipe
from hoiclip.training.resume import FILE as CHECKPOINT
from hoiclip_engine.commands.console import messages, progress
from hoiclip_engine.commands.distinct_files import existing, require_distinct
from hoiclip_engine.train import train_model


def train(recipe_file: Path, folder: Path, workers: int, settings: list[str]) -> int:
    """Trains, or goes on where the folder's run was interrupted. Of several processes only the first speaks."""
    recipe = read_recipe(recipe_file, **dict(_setting(text) for text in settings))
    _require_distinct(recipe, recipe_file, folder)
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


def _require_distinct(recipe: Recipe, recipe_file: Path, folder: Path) -> None:
    data, start = recipe.data, recipe.start
    named = (data.annotations, data.images, data.test_annotations, data.test_images, data.vocabulary)
    weights = (start.clip, start.detr, start.detector)
    made = "clip.safetensors" if recipe.task == "clip" else "model.safetensors"
    written = [folder / name for name in (made, "recipe.json", LOG, CHECKPOINT, "curves.png")]
    read: list[Path | str] = [recipe_file, *(name for name in (*named, *weights) if name)]
    require_distinct(read, [*written, *existing(folder, "sheet_*.png")], [folder])


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

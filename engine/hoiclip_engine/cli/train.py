"""hoiclip train: a training run by a recipe, with values set on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.core.errors import UsageError
from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import messages, progress
from hoiclip_engine.cli.distinct_files import existing, require_distinct

if TYPE_CHECKING:
    from hoiclip.training.recipe import Recipe


EXAMPLES = """\
  hoiclip train recipe.toml --out runs/mine               again after an interrupt: it resumes
  hoiclip train hico.toml --out runs/hico --set data.annotations=hico.json --set optimizer.batch_size=4
  torchrun --nproc-per-node 2 -m hoiclip_engine.cli train hico.toml --out runs/hico
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, metavar="RECIPE.toml", help="file, or name of a bundled recipe")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the run; an interrupted one resumes"
    )
    parser.add_argument(
        "--workers", type=options.workers, default=1, metavar="N", help="data-loading processes (default: 1)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="override a value of the recipe"
    )


def run(args: argparse.Namespace) -> int:
    from hoiclip.core.torch_extra import require_torch

    require_torch("training")
    return train(args.recipe, args.out, args.workers, args.set)


def train(recipe_file: Path, folder: Path, workers: int, settings: list[str]) -> int:
    """Trains, or resumes the folder's interrupted run. Of several processes only the first reports."""
    import torch.distributed as dist

    from hoiclip.training.loop import is_first_process
    from hoiclip.training.recipe import read_recipe
    from hoiclip_engine.evaluation.training import train_model

    recipe = read_recipe(recipe_file, **dict(_setting(text) for text in settings))
    _require_distinct(recipe, recipe_file, folder)
    with progress() as bar:
        task = bar.add_task("steps", total=recipe.schedule.steps, rate="", visible=is_first_process())

        def report(step: int, numbers: Mapping[str, float]) -> None:
            bar.update(task, completed=step, rate=" ".join(f"{k} {numbers[k]:.2f}" for k in list(numbers)[:3]))

        model_file = train_model(recipe, folder, workers=workers, progress=report)
    if is_first_process():
        messages.print(f"Wrote {model_file}, with its log and curves beside it")
    if dist.is_initialized():
        dist.destroy_process_group()
    return 0


def _require_distinct(recipe: Recipe, recipe_file: Path, folder: Path) -> None:
    from hoiclip.training.run_folder import CHECKPOINT_FILE, LOG_FILE

    data, init = recipe.data, recipe.init
    named = (data.annotations, data.images, data.test_annotations, data.test_images, data.vocabulary)
    weights = (init.model, init.embeddings, init.clip, init.detr, init.detector)
    result = "clip.safetensors" if recipe.task == "clip" else "model.safetensors"
    written = [folder / name for name in (result, "recipe.json", LOG_FILE, CHECKPOINT_FILE, "curves.png")]
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

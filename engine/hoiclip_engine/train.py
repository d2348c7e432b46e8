"""A recipe into a folder with a model, a log, curves and evaluations.

The loop itself is hoiclip.training's; here it meets the evaluation, which needs the engine's post-processing.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hoiclip import __version__
from hoiclip.checkpoint.model_file import save_model_file
from hoiclip.data.drawn.captions import pair_crops
from hoiclip.data.drawn.fixed_sets import fixed_set
from hoiclip.data.drawn.world import DrawnWorld
from hoiclip.training.assemble import check_data, clip_task, hoi_samples, hoi_task, vocabulary_of
from hoiclip.training.drawn_samples import DrawnClipSamples
from hoiclip.training.hoi_task import HoiTask
from hoiclip.training.log import draw_curves, read_log
from hoiclip.training.loop import Progress, Surroundings, Trainer
from hoiclip.training.recipe import Recipe
from hoiclip.training.resume import FILE as CHECKPOINT
from hoiclip.training.small_clip import SmallClip
from hoiclip.training.start_weights import save_clip
from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.folder import make_folder
from hoiclip_engine.measured_set import draw_sheet, measure, set_of_recipe

QUICK_PICTURES = 200
"""Of the evaluations on the way; the last one takes all."""
CLIP_PICTURES = 256
DRAWN_NOTICE = "this model knows drawn scenes only; what it says of photographs means nothing"


def train_model(
    recipe: Recipe, folder: Path, *, workers: int = 0, progress: Progress = lambda step, numbers: None
) -> Path:
    """Trains, or goes on where the folder's run was interrupted.

    Args:
        recipe: see hoiclip.training.recipe.read_recipe.
        folder: made where it is missing; gets log, curves, evaluations, checkpoints and the result.
        workers: processes that make samples; 0 makes them here. They import the calling script again, which must then
            keep what it does under `if __name__ == "__main__":`.
        progress: called after each step with its number and losses.

    Returns:
        The model file, which Engine.load and hoiclip.load_model read; of a CLIP recipe the CLIP that other recipes
        start from. Under torchrun rank 0 writes it.

    Raises:
        HoiclipError: recipe, data or start weights are not as expected, the folder holds a run of another recipe, or a
            loss is not finite.
    """
    vocabulary = vocabulary_of(recipe)
    check_data(recipe, vocabulary)
    make_folder(folder)
    here = Surroundings.of_this_process(folder, workers)
    run = _train_clip if recipe.task == "clip" else _train_hoi
    made = run(recipe, vocabulary, here, progress)
    if here.rank == 0:
        # Only now: a folder that holds another recipe's run has refused by here, and keeps what it has.
        (folder / "recipe.json").write_text(json.dumps(recipe.to_dict(), indent=1) + "\n", encoding="utf-8")
        names = {"train/total": "loss", "evaluation/mAP": "mAP", "evaluation/top1": "top-1", "train/things": "patches"}
        draw_curves(folder, names)
    return made


def _train_clip(recipe: Recipe, vocabulary: Vocabulary, here: Surroundings, progress: Progress) -> Path:
    task, samples = clip_task(recipe, vocabulary)

    def evaluate(tensors: Mapping[str, Tensor], step: int) -> dict[str, float]:
        clip = _with(task.kept, tensors)
        return clip_retrieval(clip, recipe, vocabulary)

    trainer = Trainer(recipe, task, samples, here, evaluate=evaluate, progress=progress)
    clip = _with(task.kept, trainer.train())
    path = here.folder / "clip.safetensors"
    if here.rank == 0:
        rows = {name: clip.rows(texts) for name, texts in vocabulary.prompts_by_rows.items()}
        save_clip(path, clip.image.state_dict(), rows, {"recipe": recipe.to_dict(), "log": _last(here.folder)})
    return path


def clip_retrieval(clip: SmallClip, recipe: Recipe, vocabulary: Vocabulary) -> dict[str, float]:
    """How often a pair's own text is the nearest, or among the five nearest, of all HOI prompts."""
    fixed = fixed_set("validation")
    world = DrawnWorld(fixed.world)
    cutter = DrawnClipSamples(fixed.world, recipe.model)
    images, own = [], []
    for number in range(CLIP_PICTURES):
        picture = world.picture(number)
        for crop in pair_crops(picture.annotation, np.random.default_rng(number)):
            if len(crop.hois) == 1:
                images.append(cutter.sample(picture.rgb, picture.annotation, crop, frozenset(crop.hois)).image)
                own.append(crop.hois[0])
    rows = clip.rows(vocabulary.hoi_prompts)
    stacked, labels = torch.stack(images), torch.tensor(own)
    return {
        "top1": round(100 * clip.found_among(stacked, labels, rows, 1), 2),
        "top5": round(100 * clip.found_among(stacked, labels, rows, 5), 2),
    }


def _train_hoi(recipe: Recipe, vocabulary: Vocabulary, here: Surroundings, progress: Progress) -> Path:
    # A detector, which hears of no HOI, has none to be measured by.
    measured = set_of_recipe(recipe.data, vocabulary) if recipe.losses.hoi and here.rank == 0 else None
    task = hoi_task(recipe, vocabulary, resumed=(here.folder / CHECKPOINT).is_file())

    def evaluate(tensors: Mapping[str, Tensor], step: int) -> dict[str, float]:
        assert measured is not None
        model = HoiTask.finished(task.kept, tensors)
        draw_sheet(here.folder / f"sheet_{step:06}.png", model, vocabulary, measured)
        last = step == recipe.schedule.steps
        return measure(model, vocabulary, measured, None if last else QUICK_PICTURES)

    on_the_way = None if measured is None else evaluate
    trainer = Trainer(recipe, task, hoi_samples(recipe, vocabulary), here, evaluate=on_the_way, progress=progress)
    model = HoiTask.finished(task.kept, trainer.train())
    path = here.folder / "model.safetensors"
    if here.rank == 0:
        state = {key: value.half() if recipe.half_file else value for key, value in model.state_dict().items()}
        save_model_file(path, state, recipe.model, vocabulary, _provenance(recipe, here.folder))
    return path


def _with(clip: SmallClip, tensors: Mapping[str, Tensor]) -> SmallClip:
    """A copy that holds averaged tensors, in evaluation mode on the CPU."""
    made = copy.deepcopy(clip).cpu()
    made.load_state_dict(tensors)
    return made.eval()


def _provenance(recipe: Recipe, folder: Path) -> dict[str, Any]:
    notice = {"notice": DRAWN_NOTICE} if recipe.data.kind == "drawn" else {}
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "kind": "trained", **notice, "made": made, "hoiclip": __version__,
        "recipe": recipe.to_dict(), "evaluation": _last(folder),
    }  # fmt: skip


def _last(folder: Path) -> dict[str, Any]:
    """The last evaluation in the log."""
    return next((line for line in reversed(read_log(folder)) if line["kind"] == "evaluation"), {})

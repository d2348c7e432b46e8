"""Runs a recipe: initial weights, training loop, evaluations on the way, and the model file at the end."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hoiclip import __version__
from hoiclip.core.atomic_write import make_folder, write_file
from hoiclip.core.model_file import save_model_file
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.core.wall_time import utc_text
from hoiclip.data.images import EvaluationSet
from hoiclip.evaluation.image_loop import evaluate_module
from hoiclip.model import HOICLIP
from hoiclip.synthetic.captions import pair_crops
from hoiclip.synthetic.fixed_sets import fixed_set
from hoiclip.synthetic.world import SyntheticWorld
from hoiclip.training.assemble import clip_task, dataset_of, hoi_samples, hoi_task, vocabulary_of
from hoiclip.training.initial_weights import save_clip
from hoiclip.training.loop import BEST_BY, Progress, RunContext, Trainer
from hoiclip.training.recipe import Recipe
from hoiclip.training.run_folder import CHECKPOINT_FILE, draw_curves, read_log
from hoiclip.training.small_clip import SmallClip
from hoiclip.training.synthetic_samples import SyntheticClipSamples
from hoiclip.training.tasks import HoiTask

QUICK_IMAGES = 200
"""Images of each evaluation during training; the last one takes all."""
CLIP_IMAGES = 256
SaveContactSheet = Callable[[Path, HOICLIP, Vocabulary, EvaluationSet], None]
"""Draws a model's results on the first images of an evaluation set into an image file."""


def run_recipe(
    recipe: Recipe,
    folder: Path,
    *,
    workers: int = 0,
    progress: Progress = lambda step, numbers: None,
    save_contact_sheet: SaveContactSheet | None = None,
) -> Path:
    """Trains by a recipe, or resumes the folder's interrupted run; see hoiclip_engine.train_model.

    Args:
        save_contact_sheet: called at every evaluation; None: no contact sheets.
    """
    vocabulary = vocabulary_of(recipe)
    dataset_of(recipe, vocabulary)  # checks its settings before anything is written
    make_folder(folder)
    context = RunContext.of_this_process(folder, workers)
    if recipe.task == "clip":
        model_file = _train_clip(recipe, vocabulary, context, progress)
    else:
        model_file = _train_hoi(recipe, vocabulary, context, progress, save_contact_sheet)
    if context.rank == 0:
        # Only now: a folder with a run of another recipe has raised by here, and is left as it was.
        write_file(folder / "recipe.json", json.dumps(recipe.to_dict(), indent=1) + "\n")
        names = {"train/total": "loss", "evaluation/mAP": "mAP", "evaluation/top1": "top-1", "train/things": "patches"}
        draw_curves(folder, names)
    return model_file


def _train_clip(recipe: Recipe, vocabulary: Vocabulary, context: RunContext, progress: Progress) -> Path:
    task, samples = clip_task(recipe, vocabulary)

    def evaluate(tensors: Mapping[str, Tensor], step: int) -> dict[str, float]:
        return clip_retrieval(_with_tensors(task.kept, tensors), recipe, vocabulary)

    trainer = Trainer(recipe, task, samples, context, evaluate=evaluate, progress=progress)
    clip = _with_tensors(task.kept, trainer.train())
    path = context.folder / "clip.safetensors"
    if context.rank == 0:
        embeddings = {name: clip.text_embeddings(texts) for name, texts in vocabulary.prompts_by_tensor.items()}
        save_clip(
            path,
            clip.image.state_dict(),
            embeddings,
            {"recipe": recipe.to_dict(), "log": _evaluation_of_result(recipe, context.folder)},
        )
    return path


def clip_retrieval(clip: SmallClip, recipe: Recipe, vocabulary: Vocabulary) -> dict[str, float]:
    """Percentages of pairs whose own text is the nearest, or among the five nearest, of all HOI prompts."""
    fixed = fixed_set("validation")
    world = SyntheticWorld(fixed.world)
    samples = SyntheticClipSamples(fixed.world, recipe.model)
    images, own = [], []
    for number in range(CLIP_IMAGES):
        image = world.image(number)
        for crop in pair_crops(image.annotation, np.random.default_rng(number)):
            if len(crop.hois) == 1:
                images.append(samples.sample(image.rgb, image.annotation, crop, frozenset(crop.hois)).image)
                own.append(crop.hois[0])
    embeddings = clip.text_embeddings(vocabulary.hoi_prompts)
    stacked, labels = torch.stack(images), torch.tensor(own)
    return {
        "top1": round(100 * clip.top_k_accuracy(stacked, labels, embeddings, 1), 2),
        "top5": round(100 * clip.top_k_accuracy(stacked, labels, embeddings, 5), 2),
    }


def _train_hoi(
    recipe: Recipe,
    vocabulary: Vocabulary,
    context: RunContext,
    progress: Progress,
    save_contact_sheet: SaveContactSheet | None,
) -> Path:
    # A detector is trained without HOIs, and the metric is of HOIs.
    evaluation_set = (
        dataset_of(recipe, vocabulary).evaluation_set() if recipe.losses.hoi and context.rank == 0 else None
    )
    task = hoi_task(recipe, vocabulary, resumed=(context.folder / CHECKPOINT_FILE).is_file())
    share = recipe.init.share
    start = HoiTask.finished(task.kept, task.kept.state_dict()).state_dict() if share else {}

    def finished(tensors: Mapping[str, Tensor]) -> HOICLIP:
        model = HoiTask.finished(task.kept, tensors)
        state = model.state_dict()
        for name, value in start.items():
            if value.is_floating_point():
                state[name].lerp_(value, share)
        return model

    def evaluate(tensors: Mapping[str, Tensor], step: int) -> dict[str, float]:
        assert evaluation_set is not None
        model = finished(tensors)
        if save_contact_sheet is not None:
            save_contact_sheet(context.folder / f"sheet_{step:06}.png", model, vocabulary, evaluation_set)
        every_image = step == recipe.schedule.steps or recipe.schedule.patience > 0
        return evaluate_module(model, vocabulary, evaluation_set, None if every_image else QUICK_IMAGES)

    trainer = Trainer(
        recipe,
        task,
        hoi_samples(recipe, vocabulary),
        context,
        evaluate=None if evaluation_set is None else evaluate,
        progress=progress,
    )
    model = finished(trainer.train())
    path = context.folder / "model.safetensors"
    if context.rank == 0:
        state = {key: value.half() if recipe.half_file else value for key, value in model.state_dict().items()}
        save_model_file(path, state, recipe.model, vocabulary, _provenance(recipe, vocabulary, context.folder))
    return path


def _with_tensors(clip: SmallClip, tensors: Mapping[str, Tensor]) -> SmallClip:
    """A copy with averaged tensors, in evaluation mode on the CPU."""
    averaged = copy.deepcopy(clip).cpu()
    averaged.load_state_dict(tensors)
    return averaged.eval()


def _provenance(recipe: Recipe, vocabulary: Vocabulary, folder: Path) -> dict[str, Any]:
    limit = dataset_of(recipe, vocabulary).notice
    notice = {"notice": limit} if limit else {}
    made = utc_text()
    return {
        "kind": "trained", **notice, "made": made, "hoiclip": __version__,
        "recipe": recipe.to_dict(), "evaluation": _evaluation_of_result(recipe, folder),
    }  # fmt: skip


def _evaluation_of_result(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """The last evaluation in the log; with patience the first of the best."""
    lines = [line for line in read_log(folder) if line["kind"] == "evaluation"]
    if recipe.schedule.patience:
        return max(lines, key=lambda line: line[BEST_BY], default={})
    return lines[-1] if lines else {}

"""From a recipe to something that can be trained: vocabulary, samples, model with its start weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image

from hoiclip.checkpoint.official import detr_start
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.augment import AugmentConfig
from hoiclip.data.dataset import SampleConfig, drop_unseen, fraction, read_image
from hoiclip.data.drawn.captions import TEMPLATES
from hoiclip.data.drawn.splits import SplitName, split_named
from hoiclip.data.drawn.vocabulary import drawn_vocabulary
from hoiclip.data.drawn.world import DrawnWorld, WorldConfig
from hoiclip.data.hoia import read_hoia
from hoiclip.data.rows import person_label
from hoiclip.errors import UsageError
from hoiclip.evaluation.splits import bundled_splits
from hoiclip.model import HOICLIP
from hoiclip.training.batches import Samples
from hoiclip.training.clip_task import ClipTask
from hoiclip.training.drawn_samples import DrawnClipSamples, DrawnSamples
from hoiclip.training.hoi_task import HoiTask
from hoiclip.training.parameters import freeze, thaw_batch_norm
from hoiclip.training.picture_samples import PictureSamples
from hoiclip.training.recipe import Recipe
from hoiclip.training.resume import seed_everything
from hoiclip.training.small_clip import SmallClip
from hoiclip.training.start_weights import (
    load_clip,
    load_detector,
    load_model,
    start_classifiers,
    start_from_scratch,
    verb_rows,
)
from hoiclip.training.verb_cuts import enough_of_each, verb_cuts
from hoiclip.vocabulary import Vocabulary, load_vocabulary

VERB_ROW_PICTURES = 3000
"""Drawn scenes whose pairs make the verb rows."""


def vocabulary_of(recipe: Recipe) -> Vocabulary:
    """The recipe's vocabulary, checked against its model's sizes.

    Raises:
        UsageError: they do not fit.
    """
    vocabulary = drawn_vocabulary() if recipe.data.vocabulary == "drawn" else load_vocabulary(recipe.data.vocabulary)
    sizes = (vocabulary.num_object_classes, len(vocabulary.verbs), len(vocabulary.hois))
    model = recipe.model
    if sizes != (model.num_object_classes, model.num_verbs, model.num_hois):
        raise UsageError(
            f"recipe {recipe.name}: vocabulary {vocabulary.name} has {sizes} object classes, verbs and HOIs; "
            f"set num_object_classes, num_verbs and num_hois of [model] to these"
        )
    return vocabulary


def unseen_hois(recipe: Recipe, vocabulary: Vocabulary) -> tuple[int, ...]:
    """HOI classes that the recipe's split hides from training."""
    name = recipe.data.split
    if name in ("default", "rare"):
        return ()
    if recipe.data.kind == "drawn":
        return split_named(name).unseen_hois
    splits = bundled_splits(vocabulary)
    if name not in splits:
        raise UsageError(f"unknown split {name!r} of {vocabulary.name}; there are default, {', '.join(splits)}")
    return tuple(sorted(splits[name].inside))


def check_data(recipe: Recipe, vocabulary: Vocabulary) -> None:
    """Whether there is such a split and such a part of the data, before anything is read or trained.

    Raises:
        UsageError: there is none.
    """
    try:
        unseen_hois(recipe, vocabulary)
        if recipe.data.kind == "drawn":
            world_of(recipe)
        elif not 1 <= recipe.data.fraction <= 100:
            raise ValueError(f"fraction must be from 1 to 100 percent, got {recipe.data.fraction}")
    except ValueError as error:
        raise UsageError(f"recipe {recipe.name}: {error}") from error


def world_of(recipe: Recipe) -> WorldConfig:
    """The drawn world's training scenes of a recipe."""
    return WorldConfig(
        seed=recipe.seed,
        split=cast(SplitName, recipe.data.split),  # WorldConfig checks it
        fraction=None if recipe.data.fraction == 100 else recipe.data.fraction,
        frequencies=recipe.data.frequencies,
        video_fraction=recipe.data.video_fraction,
        optics=recipe.data.optics,
        width_px=recipe.model.max_side_px,
        height_px=recipe.model.short_side_px,
    )


def hoi_samples(recipe: Recipe, vocabulary: Vocabulary) -> Samples[Any]:
    """Training samples of HOICLIP."""
    model, data = recipe.model, recipe.data
    if data.kind == "drawn":
        return DrawnSamples(world_of(recipe), model)
    config = SampleConfig(
        short_side_px=model.short_side_px,
        max_side_px=model.max_side_px,
        clip_side_px=model.clip_image_px,
        max_pairs=model.queries,
        augment=AugmentConfig.for_size(model.short_side_px, model.max_side_px),
    )
    annotations = training_annotations(recipe, vocabulary)
    return PictureSamples(annotations, Path(data.images), vocabulary, config, recipe.seed)


def hoi_task(recipe: Recipe, vocabulary: Vocabulary, *, resumed: bool = False) -> HoiTask:
    """HOICLIP with its start weights, ready for the loop.

    Args:
        resumed: its weights come from a checkpoint, so verb rows need not be made: that takes minutes.
    """
    seed_everything(recipe.seed)
    start = recipe.start
    model = HOICLIP(recipe.model)
    if start.model:
        load_model(model, Path(start.model), vocabulary)
    else:
        _start(model, recipe, vocabulary, resumed)
    freeze(model, clip=start.freeze_clip, backbone_start=start.freeze_backbone_start)
    if recipe.aids.batch_norm:
        thaw_batch_norm(model.backbone)
    hidden = set(unseen_hois(recipe, vocabulary))
    seen = [k for k in range(len(vocabulary.hois)) if k not in hidden]
    return HoiTask(model, recipe, seen if hidden else None, person_label(vocabulary))


def _start(model: HOICLIP, recipe: Recipe, vocabulary: Vocabulary, resumed: bool) -> None:
    """Weights of several sources, or random ones."""
    start = recipe.start
    if start.detr:
        wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        model.load_state_dict(detr_start(Path(start.detr), wanted), strict=False)
    if start.detector:
        load_detector(model, Path(start.detector))
    elif recipe.aids.batch_norm:
        start_from_scratch(model)
    if start.clip:
        load_clip(model, Path(start.clip), vocabulary)
    start_classifiers(model, vocabulary, text_rows=bool(start.clip) and start.text_rows, bias=start.classifier_bias)
    if start.verb_rows and start.clip and not resumed:
        cuts = verb_cuts(_annotated(recipe, vocabulary), vocabulary, recipe.model.clip_image_px)
        rows = verb_rows(model.clip.eval(), cuts, vocabulary, model.verb_rows)
        with torch.no_grad():
            model.heads.verb_classifier.weight.copy_(rows)


def clip_texts(vocabulary: Vocabulary) -> list[str]:
    """Every wording the small CLIP may meet."""
    prompts = [*vocabulary.hoi_prompts, *vocabulary.object_prompts, *vocabulary.verb_prompts]
    longest = sorted(vocabulary.hoi_prompts, key=len)[-3:]
    return [template.format(text) for text in [*prompts, " and ".join(longest)] for template in TEMPLATES]


def clip_task(recipe: Recipe, vocabulary: Vocabulary) -> tuple[ClipTask, Samples[Any]]:
    """The small CLIP from scratch, and what it learns from."""
    seed_everything(recipe.seed)
    clip = SmallClip(recipe.model, clip_texts(vocabulary))
    hidden = set(unseen_hois(recipe, vocabulary))
    prompts = {k: prompt for k, prompt in enumerate(vocabulary.hoi_prompts) if k not in hidden}
    return ClipTask(clip, prompts, recipe), DrawnClipSamples(world_of(recipe), recipe.model)


def training_annotations(recipe: Recipe, vocabulary: Vocabulary) -> list[ImageAnnotation]:
    """What training may know of annotated pictures: without what the split hides, and only the recipe's part."""
    data = recipe.data
    seen = drop_unseen(read_hoia(Path(data.annotations), vocabulary), unseen_hois(recipe, vocabulary), vocabulary)
    return fraction(seen, data.fraction, recipe.seed)


def _annotated(recipe: Recipe, vocabulary: Vocabulary) -> Iterator[tuple[Image.Image, ImageAnnotation]]:
    """Training pictures, enough for verb rows."""
    if recipe.data.kind == "drawn":
        world = DrawnWorld(world_of(recipe))
        for number in range(VERB_ROW_PICTURES):
            drawn = world.picture(number)
            yield Image.fromarray(drawn.rgb), drawn.annotation
    else:
        for one in enough_of_each(training_annotations(recipe, vocabulary), vocabulary):
            yield read_image(Path(recipe.data.images), one), one

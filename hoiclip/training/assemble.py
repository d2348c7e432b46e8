"""From a recipe to something that can be trained: vocabulary, samples, model with its initial weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch

from hoiclip.checkpoint.official import detr_weights
from hoiclip.core.errors import UsageError
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import person_label
from hoiclip.data.augment import AugmentConfig
from hoiclip.data.dataset import Dataset, ImageDataset
from hoiclip.data.samples import Sample, SampleConfig
from hoiclip.evaluation.splits import bundled_splits
from hoiclip.model import HOICLIP
from hoiclip.synthetic.captions import TEMPLATES
from hoiclip.synthetic.dataset import SyntheticDataset
from hoiclip.synthetic.splits import SplitName
from hoiclip.synthetic.vocabulary import named_vocabulary
from hoiclip.synthetic.world import WorldConfig
from hoiclip.training.batches import Samples
from hoiclip.training.initial_weights import (
    init_classifiers,
    init_from_scratch,
    load_clip_weights,
    load_detector_weights,
    load_model_weights,
)
from hoiclip.training.optimization import apply_rates, freeze, unfreeze_batch_norm
from hoiclip.training.recipe import Recipe
from hoiclip.training.run_folder import seed_everything
from hoiclip.training.small_clip import SmallClip
from hoiclip.training.synthetic_samples import SyntheticClipSamples
from hoiclip.training.tasks import ClipTask, HoiTask
from hoiclip.training.training_model import adapt_text
from hoiclip.training.verb_embeddings import verb_crops, verb_embeddings_from_crops


def vocabulary_of(recipe: Recipe) -> Vocabulary:
    """The recipe's vocabulary, checked against its model's sizes.

    Raises:
        UsageError: they do not fit.
    """
    vocabulary = named_vocabulary(recipe.data.vocabulary)
    sizes = (vocabulary.num_object_classes, len(vocabulary.verbs), len(vocabulary.hois))
    model = recipe.model
    if sizes != (model.num_object_classes, model.num_verbs, model.num_hois):
        raise UsageError(
            f"recipe {recipe.name}: vocabulary {vocabulary.name} has {sizes} object classes, verbs and HOIs; "
            f"set num_object_classes, num_verbs and num_hois of [model] to these"
        )
    return vocabulary


def dataset_of(recipe: Recipe, vocabulary: Vocabulary) -> Dataset:
    """The recipe's dataset; its settings are checked, nothing is read yet.

    Raises:
        UsageError: there is no such split, or no such fraction of the data.
    """
    data = recipe.data
    try:
        if data.kind == "synthetic":
            return SyntheticDataset(world_of(recipe))
        return ImageDataset(
            Path(data.annotations),
            Path(data.images),
            vocabulary,
            unseen_hois=_unseen_hois(data.split, vocabulary),
            percent=data.fraction,
            held_out_percent=data.validation,
            seed=recipe.seed,
            test_annotations=Path(data.test_annotations) if data.test_annotations else None,
            test_images=Path(data.test_images) if data.test_images else None,
            augment=AugmentConfig(flip=data.flip, jitter=data.jitter, crop=data.crop),
        )
    except ValueError as error:
        raise UsageError(f"recipe {recipe.name}: {error}") from error


def _unseen_hois(split: str, vocabulary: Vocabulary) -> frozenset[int]:
    """HOI classes that a split hides from training."""
    if split in ("default", "rare"):
        return frozenset()
    splits = bundled_splits(vocabulary)
    if split not in splits:
        raise UsageError(f"unknown split {split!r} of {vocabulary.name}; there are default, {', '.join(splits)}")
    return splits[split].inside


def world_of(recipe: Recipe) -> WorldConfig:
    """The synthetic world's training scenes of a recipe."""
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


def hoi_samples(recipe: Recipe, vocabulary: Vocabulary) -> Samples[Sample]:
    """Training samples of HOICLIP."""
    return dataset_of(recipe, vocabulary).samples(SampleConfig.for_model(recipe.model))


def hoi_task(recipe: Recipe, vocabulary: Vocabulary, *, resumed: bool = False) -> HoiTask:
    """HOICLIP with its initial weights, ready for the loop.

    Args:
        resumed: its weights come from a checkpoint, so verb embeddings need not be made: that takes minutes.
    """
    seed_everything(recipe.seed)
    init = recipe.init
    model = HOICLIP(recipe.model)
    if init.model:
        load_model_weights(model, init.model, vocabulary, init.embeddings)
    else:
        _load_initial_weights(model, recipe, vocabulary, resumed)
    freeze(model, clip=init.freeze_clip, backbone_start=init.freeze_backbone_start)
    apply_rates(model, recipe.optimizer.rates)
    if recipe.auxiliary.batch_norm:
        unfreeze_batch_norm(model.backbone)
    if recipe.auxiliary.text_rank:
        adapt_text(model, recipe.auxiliary.text_rank)
    hidden = set(dataset_of(recipe, vocabulary).unseen_hois)
    seen = [k for k in range(len(vocabulary.hois)) if k not in hidden]
    return HoiTask(model, recipe, seen if hidden else None, person_label(vocabulary))


def _load_initial_weights(model: HOICLIP, recipe: Recipe, vocabulary: Vocabulary, resumed: bool) -> None:
    """Weights of several sources, or random ones."""
    init = recipe.init
    if init.detr:
        wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        model.load_state_dict(detr_weights(Path(init.detr), wanted), strict=False)
    if init.detector:
        load_detector_weights(model, Path(init.detector))
    elif recipe.auxiliary.batch_norm:
        init_from_scratch(model)
    if init.clip:
        load_clip_weights(model, Path(init.clip), vocabulary)
    init_classifiers(
        model, vocabulary, text_embeddings=bool(init.clip) and init.text_embeddings, bias=init.classifier_bias
    )
    if init.verb_embeddings and init.clip and not resumed:
        crops = verb_crops(dataset_of(recipe, vocabulary).examples(), vocabulary, recipe.model.clip_image_px)
        embeddings = verb_embeddings_from_crops(model.clip.eval(), crops, vocabulary, model.verb_rows)
        with torch.no_grad():
            model.heads.verb_classifier.weight.copy_(embeddings)


def clip_texts(vocabulary: Vocabulary) -> list[str]:
    """Every wording the small CLIP may meet."""
    prompts = [*vocabulary.hoi_prompts, *vocabulary.object_prompts, *vocabulary.verb_prompts]
    longest = sorted(vocabulary.hoi_prompts, key=len)[-3:]
    return [template.format(text) for text in [*prompts, " and ".join(longest)] for template in TEMPLATES]


def clip_task(recipe: Recipe, vocabulary: Vocabulary) -> tuple[ClipTask, Samples[Any]]:
    """The small CLIP from scratch, and its training samples."""
    seed_everything(recipe.seed)
    clip = SmallClip(recipe.model, clip_texts(vocabulary))
    hidden = set(dataset_of(recipe, vocabulary).unseen_hois)
    prompts = {k: prompt for k, prompt in enumerate(vocabulary.hoi_prompts) if k not in hidden}
    return ClipTask(clip, prompts, recipe), SyntheticClipSamples(world_of(recipe), recipe.model)

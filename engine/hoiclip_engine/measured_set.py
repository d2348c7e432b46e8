"""Pictures a model is measured on while it learns: the fixed drawn scenes, or the recipe's own test pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.drawn.fixed_sets import fixed_set
from hoiclip.data.drawn.world import DrawnWorld
from hoiclip.data.hoia import read_hoia
from hoiclip.evaluation import bundled_splits, choose_metric
from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.calibration import knows_drawn
from hoiclip_engine.evaluate import (
    EvaluateConfig,
    FolderPictures,
    MemoryPictures,
    Pictures,
    evaluate_pictures,
    module_detector,
)
from hoiclip_engine.postprocess import PostprocessConfig
from hoiclip_engine.sheet import prediction_sheet

if TYPE_CHECKING:
    from hoiclip.model import HOICLIP
    from hoiclip.training.recipe import DataRecipe

SHEET_PICTURES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSet:
    annotations: Sequence[ImageAnnotation]
    pictures: Pictures
    """As many as there are annotations, or more."""


def drawn_set(name: str) -> MeasuredSet:
    """One of the fixed drawn sets, "validation" or "test"; scenes are drawn when they are looked at."""
    fixed = fixed_set(name)
    world = DrawnWorld(fixed.world)
    size_hw = fixed.world.height_px, fixed.world.width_px
    pictures = MemoryPictures(size_hw, lambda index: world.picture(index).rgb, fixed.count)
    return MeasuredSet(annotations=fixed.annotations(), pictures=pictures)


def benchmark_of(model: ModelFile, data: Path | None, images: Path | None) -> MeasuredSet | None:
    """Own annotated pictures where they are named, else the drawn test set for models of drawn scenes, else None.

    Raises:
        DataError: the annotations cannot be read.
        SourceError: a picture is missing.
    """
    if data is not None and images is not None:
        annotations = read_hoia(data, model.vocabulary)
        return MeasuredSet(annotations=annotations, pictures=FolderPictures(images, annotations))
    return drawn_set("test") if knows_drawn(model) else None


def set_of_recipe(data: DataRecipe, vocabulary: Vocabulary) -> MeasuredSet | None:
    """None where a recipe for pictures names no test pictures.

    Raises:
        DataError: the annotations cannot be read.
        SourceError: a picture is missing.
    """
    if data.kind == "drawn":
        return drawn_set("validation")
    if not data.test_annotations:
        return None
    annotations = read_hoia(Path(data.test_annotations), vocabulary)
    return MeasuredSet(annotations=annotations, pictures=FolderPictures(Path(data.test_images), annotations))


def measure(model: HOICLIP, vocabulary: Vocabulary, chosen: MeasuredSet, most: int | None = None) -> dict[str, float]:
    """The vocabulary's usual metric: mAP in percent, and fractions of every split's sides by "split/number".

    Args:
        most: only the first so many pictures; None: all.
    """
    config = EvaluateConfig(metric=choose_metric("auto", vocabulary), splits=tuple(bundled_splits(vocabulary).values()))
    detect = module_detector(model, vocabulary, config.postprocess)
    found, _ = evaluate_pictures(detect, vocabulary, chosen.annotations[:most], chosen.pictures, config)
    numbers = {f"{split}/{key}": value for split, summary in found.summaries.items() for key, value in summary.items()}
    first = next(iter(found.summary.values()))
    return {"mAP": round(100 * first, 2), **{key: round(float(value), 4) for key, value in numbers.items()}}


def draw_sheet(path: Path, model: HOICLIP, vocabulary: Vocabulary, chosen: MeasuredSet) -> None:
    """What the model shows on the first pictures, above what is true."""
    detect = module_detector(model, vocabulary, PostprocessConfig())
    shown = [(chosen.pictures.rgb(i), one) for i, one in enumerate(chosen.annotations[:SHEET_PICTURES])]
    Image.fromarray(prediction_sheet(detect, vocabulary, shown)).save(path)

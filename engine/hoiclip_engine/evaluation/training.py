"""Training with contact sheets: evaluation images on the way, drawn with tracks and labels as a run would show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from hoiclip.core.array_types import RGB
from hoiclip.core.detections import HOIDetections
from hoiclip.core.postprocess import PostprocessConfig
from hoiclip.core.vocabulary import NO_INTERACTION, Vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.images import EvaluationSet
from hoiclip.evaluation.image_loop import Detector, module_detector
from hoiclip.training import train
from hoiclip.training.loop import Progress
from hoiclip.training.recipe import Recipe
from hoiclip_engine.sinks.annotate import Annotator
from hoiclip_engine.track.pair_tracker import PairTracker, TrackConfig
from hoiclip_engine.types.frame import Frame
from hoiclip_engine.types.tracked_pairs import TrackedPairs

if TYPE_CHECKING:
    from hoiclip.model import HOICLIP


def train_model(
    recipe: Recipe, folder: Path, *, workers: int = 0, progress: Progress = lambda step, numbers: None
) -> Path:
    """Trains by a recipe, or resumes the folder's interrupted run.

    Args:
        recipe: see hoiclip.training.recipe.read_recipe.
        folder: made where it is missing; gets log, curves, evaluations, contact sheets, checkpoints and the result.
        workers: processes that make samples; 0 makes them here. They import the calling script again, which must then
            keep what it does under `if __name__ == "__main__":`.
        progress: called after each step with its number and losses.

    Returns:
        The model file, which Engine.load and hoiclip.load_model read; of a CLIP recipe the CLIP that other recipes
        take their initial weights from. Under torchrun rank 0 writes it.

    Raises:
        HoiclipError: recipe, data or initial weights are not as expected, the folder holds a run of another recipe,
            or a loss is not finite.
    """
    return train.run_recipe(recipe, folder, workers=workers, progress=progress, save_contact_sheet=save_contact_sheet)


CONTACT_SHEET_IMAGES = 12
COLUMNS = 4
HEIGHT_PX = 384
"""Height of an image; labels need room."""
_GAP_PX = 8


def save_contact_sheet(path: Path, model: HOICLIP, vocabulary: Vocabulary, evaluation_set: EvaluationSet) -> None:
    """Saves the model's predictions on the first images, above their ground truth."""
    detect = module_detector(model, vocabulary, PostprocessConfig())
    images = [
        (evaluation_set.images.rgb(i), annotation)
        for i, annotation in enumerate(evaluation_set.annotations[:CONTACT_SHEET_IMAGES])
    ]
    Image.fromarray(render_contact_sheet(detect, vocabulary, images)).save(path)


def render_contact_sheet(
    detect: Detector, vocabulary: Vocabulary, images: Iterable[tuple[RGB, ImageAnnotation]]
) -> RGB:
    """Renders rows of four images of one height, predictions above ground truth; thresholds are those for a photo."""
    cells = []
    for rgb, annotation in images:
        scale = HEIGHT_PX / rgb.shape[0]
        size = max(1, round(scale * rgb.shape[1])), HEIGHT_PX
        large = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        frame = Frame(np.asarray(large, np.uint8), 0.0, 0)
        tracker = PairTracker.for_vocabulary(vocabulary, TrackConfig().for_photos())
        # The image as it is evaluated, not the enlarged one: an enlarged one gets other scores.
        found = tracker.update(_scale_boxes(detect(rgb), scale), 0.0)
        gt = ground_truth_pairs(annotation, vocabulary, scale)
        above, below = (Annotator(vocabulary).draw(frame, _number_humans(pairs)) for pairs in (found, gt))
        cells.append(_add_margin(np.concatenate((above, np.full_like(above[:2], 255), below))))
    widest = max(cell.shape[1] for cell in cells)
    cells = [np.pad(cell, ((0, 0), (0, widest - cell.shape[1]), (0, 0)), constant_values=255) for cell in cells]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % COLUMNS)
    rows = [np.concatenate(cells[start : start + COLUMNS], axis=1) for start in range(0, len(cells), COLUMNS)]
    return np.concatenate(rows)


def ground_truth_pairs(annotation: ImageAnnotation, vocabulary: Vocabulary, scale: float = 1.0) -> TrackedPairs:
    """Converts an annotation to tracked pairs, all with score 1. Pairs that do nothing are left out."""
    verbs_of: dict[tuple[int, int], list[int]] = {}
    for human, obj, verb in annotation.interactions.tolist():
        if vocabulary.verbs[verb] != NO_INTERACTION:
            verbs_of.setdefault((human, obj), []).append(verb)
    pairs = np.array(list(verbs_of), np.int64).reshape(-1, 2)
    human, obj = pairs.T
    scores = np.zeros((len(pairs), len(vocabulary.verbs)), np.float32)
    for row, verbs in enumerate(verbs_of.values()):
        scores[row, verbs] = 1
    boxes = annotation.boxes_xyxy * np.float32(scale)
    return TrackedPairs(
        pair=np.arange(1, len(pairs) + 1),
        human=human,
        object=obj,
        human_boxes_xyxy=boxes[human],
        object_boxes_xyxy=np.where((obj >= 0)[:, None], boxes[obj], boxes[human]),
        label=np.where(obj >= 0, annotation.labels[obj], -1),
        score=np.ones(len(pairs), np.float32),
        verb_scores=scores,
        verb_active=scores > 0,
    )


def _number_humans(pairs: TrackedPairs) -> TrackedPairs:
    """Numbers humans from left to right, so that predictions and ground truth have the same numbers and colours."""
    ids, first = np.unique(pairs.human, return_index=True)
    order = np.lexsort(pairs.human_boxes_xyxy[first].T[::-1])
    number = np.empty(len(ids), np.int64)
    number[order] = 1 + np.arange(len(ids))
    return replace(pairs, human=number[np.searchsorted(ids, pairs.human)])


def _scale_boxes(pairs: HOIDetections, scale: float) -> HOIDetections:
    """Boxes in pixels of an image `scale` times as large."""
    factor = np.float32(scale)
    return replace(
        pairs,
        human_boxes_xyxy=pairs.human_boxes_xyxy * factor,
        object_boxes_xyxy=pairs.object_boxes_xyxy * factor,
    )


def _add_margin(rgb: RGB) -> RGB:
    return np.pad(rgb, ((_GAP_PX, _GAP_PX), (_GAP_PX, _GAP_PX), (0, 0)), constant_values=255)

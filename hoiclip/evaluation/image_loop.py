"""The evaluation loop over images: a detector, of a torch module or of an engine, to predictions, to metrics.

The metrics themselves are in the other modules of hoiclip.evaluation; they know neither detectors nor images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.array_types import RGB
from hoiclip.core.detections import HOIDetections
from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import ModelFile
from hoiclip.core.postprocess import PostprocessConfig, Postprocessor
from hoiclip.core.preprocess import PreprocessConfig, preprocess
from hoiclip.core.raw_output import RawOutput
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.formats.hoia import read_hoia
from hoiclip.data.images import EvaluationSet, FolderImages, Images
from hoiclip.evaluation import Evaluation, MetricName, PredictedTriplets, Split, bundled_splits, choose_metric, evaluate

if TYPE_CHECKING:
    from hoiclip.model import HOICLIP

Detector = Callable[[RGB], HOIDetections]
"""An image (H, W, 3) to its triplets; Engine.detect is one, module_detector makes another."""
EVERYTHING = 1 << 20
"""More triplets than an image can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """Metric, splits, and the predictions that count."""

    metric: MetricName
    splits: tuple[Split, ...] = ()
    official: bool = False
    """With the quirks of the official code, for comparison with published numbers."""
    enhance_top_k: int | None = None
    """Training-free enhancement; needs the model's text embeddings."""
    prior_vo: NDArray[np.floating] | None = field(default=None, compare=False)
    """(V, O) factors on V-COCO's verb scores given the object, as the official code applies them."""
    top_k: int = 100
    """Triplets per image that count; all of them under vcoco-official."""

    @property
    def postprocess(self) -> PostprocessConfig:
        """Postprocessing of the detector: all triplets, where they are weighed or chosen afterwards."""
        wants_all = self.metric == "vcoco-official" or self.prior_vo is not None
        return PostprocessConfig(
            top_k=EVERYTHING if wants_all else self.top_k,
            enhance_top_k=self.enhance_top_k,
            enhance_cumulative=self.official,
        )


def evaluate_images(
    detect: Detector,
    vocabulary: Vocabulary,
    annotations: Sequence[ImageAnnotation],
    images: Images,
    config: EvaluateConfig,
    on_image: Callable[[], None] = lambda: None,
) -> tuple[Evaluation, list[PredictedTriplets]]:
    """Detects in every image and evaluates.

    Args:
        detect: made with `config.postprocess`.
        on_image: called after each image, for progress.
    """
    predictions = predict(detect, images, vocabulary, config, on_image, max_images=len(annotations))
    found = evaluate(
        config.metric, predictions, annotations, vocabulary, splits=config.splits, official=config.official
    )
    return found, predictions


def predict(
    detect: Detector,
    images: Images,
    vocabulary: Vocabulary,
    config: EvaluateConfig,
    on_image: Callable[[], None] = lambda: None,
    *,
    max_images: int | None = None,
) -> list[PredictedTriplets]:
    """Predictions in the order of the images, or of the first `max_images`.

    Detects in the order of aspect ratios, because an engine is compiled for one padded size at a time: images of one
    padded size follow each other.
    """
    sizes = [images.hw(index) for index in range(len(images))[:max_images]]
    found: list[PredictedTriplets | None] = [None] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda index: (sizes[index][0] / sizes[index][1], sizes[index])):
        detections = detect(images.rgb(index))
        found[index] = detections_to_triplets(detections, vocabulary, config)
        on_image()
    return [triplets for triplets in found if triplets is not None]


def detections_to_triplets(
    detections: HOIDetections, vocabulary: Vocabulary, config: EvaluateConfig
) -> PredictedTriplets:
    """Converts detections to the rows that metrics take, applies the prior, and keeps the best."""
    found = PredictedTriplets(
        human_boxes_xyxy=detections.human_boxes_xyxy,
        object_boxes_xyxy=detections.object_boxes_xyxy,
        label=detections.label,
        category=detections.verb if config.metric.startswith("vcoco") else detections.hoi,
        score=detections.score,
        query=detections.query,
    )
    if config.prior_vo is not None:
        found = replace(found, score=found.score * _prior(config.prior_vo, vocabulary)[found.category, found.label])
    if config.metric == "vcoco-official":
        return found
    return found.rows(np.argsort(-found.score, kind="stable")[: config.top_k])


def evaluate_module(
    model: HOICLIP,
    vocabulary: Vocabulary,
    evaluation_set: EvaluationSet,
    max_images: int | None = None,
    splits: Sequence[Split] | None = None,
) -> dict[str, float]:
    """Evaluates a torch module by the vocabulary's usual metric.

    Args:
        max_images: only the first so many; None: all.
        splits: the vocabulary's bundled ones by default.

    Returns:
        mAP in percent, and fractions of every split's sides by "split/number", but for sides of which the images show
        no HOI.
    """
    chosen = tuple(bundled_splits(vocabulary).values() if splits is None else splits)
    config = EvaluateConfig(metric=choose_metric("auto", vocabulary), splits=chosen)
    detect = module_detector(model, vocabulary, config.postprocess)
    found, _ = evaluate_images(
        detect, vocabulary, evaluation_set.annotations[:max_images], evaluation_set.images, config
    )
    numbers = {f"{split}/{key}": value for split, summary in found.summaries.items() for key, value in summary.items()}
    known = {key: round(float(value), 4) for key, value in numbers.items() if math.isfinite(value)}
    return {"mAP": round(100 * found.mean_ap, 2) if math.isfinite(found.mean_ap) else 0.0, **known}


def module_detector(module: HOICLIP, vocabulary: Vocabulary, config: PostprocessConfig) -> Detector:
    """Makes a detector of a torch module on its own device, for evaluation during training.

    The module is in evaluation mode during each call only.
    """
    import torch

    size = PreprocessConfig.for_model(module.config)
    rows = None if config.enhance_top_k is None else module.hoi_rows.detach().float().cpu().numpy()
    postprocess = Postprocessor(vocabulary, config, rows)

    def detect(rgb: RGB) -> HOIDetections:
        model_input = preprocess(rgb, size)
        device = next(module.parameters()).device
        was_training = module.training
        module.eval()
        arrays = (model_input.detector_bchw, model_input.mask_bhw, model_input.clip_bchw)
        with torch.inference_mode():
            out = module(*(torch.from_numpy(array).to(device) for array in arrays))
        module.train(was_training)
        raw = RawOutput(**{name: value.float().cpu().numpy() for name, value in out._asdict().items()})
        raw.require_finite()
        return postprocess(raw, model_input.original_hw[0])

    return detect


def _prior(prior_vo: NDArray[np.floating], vocabulary: Vocabulary) -> NDArray[np.float64]:
    """(V, O + 1) prior; label -1, no object, indexes the last column, which is 1.

    Raises:
        ModelError: another vocabulary's size.
    """
    expected = (len(vocabulary.verbs), len(vocabulary.objects))
    if prior_vo.shape != expected:
        raise ModelError(f"expected a prior of (verbs, objects) {expected}, got {prior_vo.shape}; use the matching one")
    return np.concatenate([prior_vo.astype(np.float64), np.ones((expected[0], 1))], axis=1)


def benchmark_set(model: ModelFile, data: Path | None, images: Path | None) -> EvaluationSet | None:
    """The named annotated images, else the synthetic test set for a model of synthetic scenes, else None.

    Raises:
        DataError: the annotations cannot be read.
        SourceError: an image is missing.
    """
    from hoiclip.synthetic.fixed_sets import synthetic_set
    from hoiclip.synthetic.vocabulary import is_synthetic

    if data is not None and images is not None:
        annotations = read_hoia(data, model.vocabulary)
        return EvaluationSet(annotations=annotations, images=FolderImages(images, annotations))
    return synthetic_set("test") if is_synthetic(model.vocabulary) else None

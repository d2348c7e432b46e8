"""The one evaluation loop: a model or an engine over annotated pictures, to predictions, to numbers.

The metrics themselves are in hoiclip.evaluation; they know neither engines nor pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.image_file import ImageError, ImageFile
from hoiclip.errors import ModelError, SourceError
from hoiclip.evaluation import Evaluation, MetricName, PredictedPairs, Split, evaluate
from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.pairs import Pairs
from hoiclip_engine.postprocess import PostprocessConfig, Postprocessor
from hoiclip_engine.preprocess import PreprocessConfig, preprocess
from hoiclip_engine.raw_output import RawOutput

if TYPE_CHECKING:
    from hoiclip.model import HOICLIP

RGB = NDArray[np.uint8]
Detector = Callable[[RGB], Pairs]
"""A picture (H, W, 3) to its triplets; Engine.detect is one, module_detector makes another."""

EVERYTHING = 1 << 20
"""More triplets than a picture can have."""


class Pictures(Protocol):
    """Where pictures come from, by number."""

    def __len__(self) -> int: ...

    def hw(self, index: int) -> tuple[int, int]:
        """Height and width, without decoding the picture if possible."""
        ...

    def rgb(self, index: int) -> RGB: ...


class FolderPictures:
    """Files of a folder, in the order of annotations, each in the orientation that its boxes were made in."""

    def __init__(self, folder: Path, annotations: Sequence[ImageAnnotation]) -> None:
        """Checks that every file is there.

        Raises:
            SourceError: it is not, or is no regular file; the first such name is told.
        """
        self._paths = [folder / one.file_name for one in annotations]
        self._annotated_wh = [(one.width_px, one.height_px) for one in annotations]
        missing = [path for path in self._paths if not path.is_file()]
        irregular = next((path for path in missing if path.exists()), None)
        if irregular is not None:
            raise SourceError(
                f"expected images in {folder}, found {irregular.name} that is no regular file; replace it"
            )
        if missing:
            raise SourceError(
                f"{len(missing)} of {len(self._paths)} annotated pictures are not in {folder}, "
                f"first {missing[0].name}; name the folder that holds them: --images DIR"
            )

    def __len__(self) -> int:
        return len(self._paths)

    def hw(self, index: int) -> tuple[int, int]:
        with self._open(index) as image:
            width, height = image.size_wh(self._annotated_wh[index])
            return height, width

    def rgb(self, index: int) -> RGB:
        try:
            with self._open(index) as image:
                return np.array(image.rgb(self._annotated_wh[index]))
        except ImageError as error:
            raise self._damaged(index, error) from error

    def _open(self, index: int) -> ImageFile:
        try:
            return ImageFile(self._paths[index])
        except (OSError, ImageError) as error:
            raise self._damaged(index, error) from error

    def _damaged(self, index: int, error: Exception) -> SourceError:
        why = error.strerror if isinstance(error, OSError) else error
        return SourceError(f"expected an image, cannot read {self._paths[index]} ({why}); replace or leave it out")


@dataclass(frozen=True, slots=True)
class MemoryPictures:
    """Pictures that are there already, or are drawn when asked for."""

    size_hw: tuple[int, int]
    draw: Callable[[int], RGB]
    count: int

    def __len__(self) -> int:
        return self.count

    def hw(self, index: int) -> tuple[int, int]:
        return self.size_hw

    def rgb(self, index: int) -> RGB:
        return self.draw(index)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """What is counted, and how."""

    metric: MetricName
    splits: tuple[Split, ...] = ()
    official: bool = False
    """With the quirks of the official code, for comparison with published numbers."""
    enhance_top_k: int | None = None
    """Training-free enhancement; needs the model's text rows."""
    prior_vo: NDArray[np.floating] | None = field(default=None, compare=False)
    """(V, O) factors on V-COCO's verb scores given the object, as the official code applies them."""
    top_k: int = 100
    """Triplets per picture that count; all of them under vcoco-official."""

    @property
    def postprocess(self) -> PostprocessConfig:
        """What the detector must be made with: everything, where rows are weighed or chosen afterwards."""
        wants_all = self.metric == "vcoco-official" or self.prior_vo is not None
        return PostprocessConfig(
            top_k=EVERYTHING if wants_all else self.top_k,
            enhance_top_k=self.enhance_top_k,
            enhance_cumulative=self.official,
        )


def evaluate_pictures(
    detect: Detector,
    vocabulary: Vocabulary,
    annotations: Sequence[ImageAnnotation],
    pictures: Pictures,
    config: EvaluateConfig,
    on_picture: Callable[[], None] = lambda: None,
) -> tuple[Evaluation, list[PredictedPairs]]:
    """Looks at every picture and counts.

    Args:
        detect: made with `config.postprocess`.
        on_picture: called after each picture, for progress.
    """
    predictions = predict(detect, pictures, vocabulary, config, on_picture, most=len(annotations))
    found = evaluate(
        config.metric, predictions, annotations, vocabulary, splits=config.splits, official=config.official
    )
    return found, predictions


def predict(
    detect: Detector,
    pictures: Pictures,
    vocabulary: Vocabulary,
    config: EvaluateConfig,
    on_picture: Callable[[], None] = lambda: None,
    *,
    most: int | None = None,
) -> list[PredictedPairs]:
    """Predictions in the order of the pictures, or of the first ones.

    Pictures are looked at by aspect ratio, because an engine is compiled for one canvas at a time: pictures of one
    canvas follow each other.
    """
    sizes = [pictures.hw(index) for index in range(len(pictures))[:most]]
    found: list[PredictedPairs | None] = [None] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda index: (sizes[index][0] / sizes[index][1], sizes[index])):
        pairs = detect(pictures.rgb(index))
        found[index] = predicted_pairs(pairs, vocabulary, config)
        on_picture()
    return [one for one in found if one is not None]


def predicted_pairs(pairs: Pairs, vocabulary: Vocabulary, config: EvaluateConfig) -> PredictedPairs:
    """Rows as evaluators take them; the prior is applied, and then the best are kept."""
    found = PredictedPairs(
        human_boxes_xyxy=pairs.human_boxes_xyxy,
        object_boxes_xyxy=pairs.object_boxes_xyxy,
        label=pairs.label,
        category=pairs.verb if config.metric.startswith("vcoco") else pairs.hoi,
        score=pairs.score,
        query=pairs.query,
    )
    if config.prior_vo is not None:
        found = replace(found, score=found.score * _prior(config.prior_vo, vocabulary)[found.category, found.label])
    if config.metric == "vcoco-official":
        return found
    return found.rows(np.argsort(-found.score, kind="stable")[: config.top_k])


def _prior(prior_vo: NDArray[np.floating], vocabulary: Vocabulary) -> NDArray[np.float64]:
    """(V, O + 1); label -1, no object, finds the last column, which is 1.

    Raises:
        ModelError: another vocabulary's size.
    """
    expected = (len(vocabulary.verbs), len(vocabulary.objects))
    if prior_vo.shape != expected:
        raise ModelError(f"expected a prior of (verbs, objects) {expected}, got {prior_vo.shape}; use the matching one")
    return np.concatenate([prior_vo.astype(np.float64), np.ones((expected[0], 1))], axis=1)


def module_detector(module: HOICLIP, vocabulary: Vocabulary, config: PostprocessConfig) -> Detector:
    """A torch module as it is, on its own device: for evaluations in the middle of training.

    The module is put into evaluation mode for each picture, and back.
    """
    import torch

    size = PreprocessConfig(
        short_side_px=module.config.short_side_px,
        max_side_px=module.config.max_side_px,
        clip_side_px=module.config.clip_image_px,
    )
    rows = None if config.enhance_top_k is None else module.hoi_rows.detach().float().cpu().numpy()
    postprocess = Postprocessor(vocabulary, config, rows)

    def detect(rgb: RGB) -> Pairs:
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

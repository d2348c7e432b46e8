"""The accuracy gate: compares a build with eager fp32 on the same images; beyond its limits nothing is published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from hoiclip.core.detections import HOIDetections
from hoiclip.core.model_file import ModelFile
from hoiclip.core.postprocess import PostprocessConfig, Postprocessor
from hoiclip.core.preprocess import ModelInput
from hoiclip.core.raw_output import RawOutput
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.images import EvaluationSet
from hoiclip.evaluation import choose_metric
from hoiclip.evaluation.image_loop import Detector, EvaluateConfig, evaluate_images
from hoiclip_engine.backends.base import Backend, BackendName, Precision
from hoiclip_engine.backends.registry import load_backend
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.quantization.builds import FP32, Build

TOP_TRIPLETS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyLimits:
    """The loss of accuracy that a precision may cost."""

    map_points: float
    """mAP lost, in points of a hundred, where the model knows a benchmark."""
    agreement: float
    """Fraction of the reference's best hundred triplets that must be among the engine's; counts without a benchmark."""


ACCURACY_LIMITS: Mapping[Precision, AccuracyLimits] = {
    "fp32": AccuracyLimits(map_points=0.0, agreement=1.0),
    "fp16": AccuracyLimits(map_points=0.2, agreement=0.95),
    "bf16": AccuracyLimits(map_points=0.5, agreement=0.9),
    "int8": AccuracyLimits(map_points=1.0, agreement=0.75),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyComparison:
    """Differences of an engine to the reference."""

    num_images: int
    max_abs_error: dict[str, float]
    """By output of the model."""
    mean_abs_error: dict[str, float]
    agreement: float
    """Mean fraction of common triplets among the best hundred."""

    @property
    def is_finite(self) -> bool:
        """Whether no output is NaN or infinite."""
        return all(np.isfinite(error) for error in self.max_abs_error.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanPrecisions:
    """mAP in percent on the same annotated images."""

    num_images: int
    reference: float
    engine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """The decision of the gate on one build."""

    compared: AccuracyComparison
    mean_precisions: MeanPrecisions | None
    """None where the model knows no benchmark."""
    failed_by: str
    """Empty: it passed."""

    @property
    def passed(self) -> bool:
        return not self.failed_by

    def to_json(self) -> dict[str, Any]:
        """The entries of a build's record, whose schema calls the number of images `pictures`."""
        maps = self.mean_precisions
        return {
            "compared": _record(self.compared),
            "mean_precisions": None if maps is None else _record(maps),
            "failed_by": self.failed_by,
        }


def _record(measured: AccuracyComparison | MeanPrecisions) -> dict[str, Any]:
    return {"pictures" if name == "num_images" else name: value for name, value in asdict(measured).items()}


def gate_verdict(precision: Precision, compared: AccuracyComparison, maps: MeanPrecisions | None = None) -> GateVerdict:
    """Holds measurements against the precision's limits; mAP counts where it is known, else agreement."""
    limits, reason = ACCURACY_LIMITS[precision], ""
    if not compared.is_finite:
        reason = f"{precision} gives outputs that are not finite"
    elif maps is not None:
        lost = maps.reference - maps.engine
        if not lost <= limits.map_points:
            reason = f"{precision} loses {lost:.2f} points of mAP, expected at most {limits.map_points}"
    elif compared.agreement < limits.agreement:
        same = f"{compared.agreement:.1%} of the best {TOP_TRIPLETS} triplets are the same in {precision}"
        reason = f"{same}, expected at least {limits.agreement:.0%}"
    return GateVerdict(compared=compared, mean_precisions=maps, failed_by=reason)


class AccuracyGate:
    """Compares builds of one model with eager fp32, on the same images."""

    def __init__(
        self,
        model: ModelFile,
        config: EngineConfig,
        padded_hw: tuple[int, int],
        images: Sequence[ModelInput],
        benchmark: EvaluationSet | None,
    ) -> None:
        """
        Args:
            config: image size and postprocessing of the mAP; its backend does not count.
            images: of the padded size.
            benchmark: annotated images, whose mAP decides.
        """
        self._model, self._config, self._padded_hw = model, config, padded_hw
        self._images, self._benchmark = images, benchmark
        self._eager_map: float | None = None

    def verdict(self, backend: BackendName, build: Build, on_image: Callable[[], None] = lambda: None) -> GateVerdict:
        """Raises HoiclipError: the build cannot be loaded."""
        with (
            closing(self._load("torch", FP32)) as reference,
            closing(self._load(backend, build)) as engine,
        ):
            compared = compare_backends(reference, engine, self._images, self._model.vocabulary)
        if self._benchmark is None or not compared.is_finite:
            return gate_verdict(build.precision, compared)
        if self._eager_map is None:
            self._eager_map = self._map_of("torch", FP32, self._benchmark, on_image)
        maps = MeanPrecisions(
            num_images=len(self._benchmark.annotations),
            reference=self._eager_map,
            engine=self._map_of(backend, build, self._benchmark, on_image),
        )
        return gate_verdict(build.precision, compared, maps)

    def _load(self, backend: BackendName, build: Build) -> Backend:
        return load_backend(backend, self._model, self._padded_hw, build.precision, build.graph)

    def _map_of(
        self, backend: BackendName, build: Build, benchmark: EvaluationSet, on_image: Callable[[], None]
    ) -> float:
        with Engine(self._model, replace(self._config, backend=backend), build) as engine:
            return measure_map(engine.detect, self._model.vocabulary, benchmark, on_image)


def compare_backends(
    reference: Backend, engine: Backend, images: Sequence[ModelInput], vocabulary: Vocabulary
) -> AccuracyComparison:
    """Runs both on the same inputs."""
    postprocess = Postprocessor(vocabulary, PostprocessConfig(top_k=TOP_TRIPLETS, nms=False))
    names = [field.name for field in fields(RawOutput)]
    worst, mean, common = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0), 0.0
    for image in images:
        expected, found = reference(image), engine(image)
        for name in names:
            error = np.abs(getattr(found, name) - getattr(expected, name))
            worst[name] = max(worst[name], float(error.max()))
            mean[name] += float(error.mean()) / len(images)
        theirs, ours = (_triplets(postprocess(raw, image.original_hw[0])) for raw in (expected, found))
        common += len(theirs & ours) / max(1, len(theirs)) / len(images)
    return AccuracyComparison(
        num_images=len(images), max_abs_error=worst, mean_abs_error=mean, agreement=round(common, 4)
    )


def _triplets(detections: HOIDetections) -> set[tuple[int, int, int]]:
    return set(zip(detections.query.tolist(), detections.verb.tolist(), detections.label.tolist(), strict=True))


def measure_map(
    detect: Detector, vocabulary: Vocabulary, evaluation_set: EvaluationSet, on_image: Callable[[], None] = lambda: None
) -> float:
    """mAP in percent by the vocabulary's usual metric."""
    config = EvaluateConfig(metric=choose_metric("auto", vocabulary))
    report, _ = evaluate_images(detect, vocabulary, evaluation_set.annotations, evaluation_set.images, config, on_image)
    return 100 * report.mean_ap

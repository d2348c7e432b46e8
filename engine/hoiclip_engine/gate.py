"""The gate: what fewer bits change, on the same pictures, against eager fp32; past its limits nothing is published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from hoiclip.evaluation import choose_metric
from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.backends import Backend
from hoiclip_engine.evaluate import Detector, EvaluateConfig, evaluate_pictures
from hoiclip_engine.measured_set import MeasuredSet
from hoiclip_engine.pairs import Pairs
from hoiclip_engine.postprocess import PostprocessConfig, Postprocessor
from hoiclip_engine.precision import Precision
from hoiclip_engine.preprocess import ModelInput
from hoiclip_engine.raw_output import RawOutput

TOP = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a precision may cost."""

    map_points: float
    """mAP lost, in points of a hundred, where the model knows a benchmark."""
    agreement: float
    """Share of the reference's best hundred triplets that must be among the engine's, where it knows none."""


LIMITS: Mapping[Precision, Limits] = {
    "fp32": Limits(map_points=0.0, agreement=1.0),
    "fp16": Limits(map_points=0.2, agreement=0.95),
    "bf16": Limits(map_points=0.5, agreement=0.9),
    "int8": Limits(map_points=1.0, agreement=0.75),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """An engine beside the reference, picture by picture."""

    pictures: int
    max_abs_error: dict[str, float]
    """By output of the model."""
    mean_abs_error: dict[str, float]
    agreement: float
    """Mean share of common triplets among the best hundred."""

    @property
    def is_finite(self) -> bool:
        """Whether all outputs are numbers."""
        return all(np.isfinite(error) for error in self.max_abs_error.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanPrecisions:
    """mAP in percent on the same annotated pictures."""

    pictures: int
    reference: float
    engine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    compared: Comparison
    mean_precisions: MeanPrecisions | None
    """None where the model knows no benchmark."""
    failed_by: str
    """Empty: it passed."""

    @property
    def passed(self) -> bool:
        return not self.failed_by


def verdict(precision: Precision, compared: Comparison, maps: MeanPrecisions | None = None) -> Verdict:
    """Measurements against the precision's limits; mAP counts where it is known, else agreement."""
    limits, reason = LIMITS[precision], ""
    if not compared.is_finite:
        reason = f"{precision} gives outputs that are no numbers"
    elif maps is not None:
        lost = maps.reference - maps.engine
        if not lost <= limits.map_points:
            reason = f"{precision} loses {lost:.2f} points of mAP, expected at most {limits.map_points}"
    elif compared.agreement < limits.agreement:
        found = f"{compared.agreement:.1%} of the best {TOP} triplets are the same in {precision}"
        reason = f"{found}, expected at least {limits.agreement:.0%}"
    return Verdict(compared=compared, mean_precisions=maps, failed_by=reason)


def compare(reference: Backend, engine: Backend, pictures: Sequence[ModelInput], vocabulary: Vocabulary) -> Comparison:
    """Both on the same inputs."""
    rule = Postprocessor(vocabulary, PostprocessConfig(top_k=TOP, nms=False))
    names = [one.name for one in fields(RawOutput)]
    worst, mean, common = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0), 0.0
    for one in pictures:
        expected, found = reference(one), engine(one)
        for name in names:
            off = np.abs(getattr(found, name) - getattr(expected, name))
            worst[name] = max(worst[name], float(off.max()))
            mean[name] += float(off.mean()) / len(pictures)
        theirs, ours = (_triplets(rule(raw, one.original_hw[0])) for raw in (expected, found))
        common += len(theirs & ours) / max(1, len(theirs)) / len(pictures)
    return Comparison(pictures=len(pictures), max_abs_error=worst, mean_abs_error=mean, agreement=round(common, 4))


def _triplets(pairs: Pairs) -> set[tuple[int, int, int]]:
    return set(zip(pairs.query.tolist(), pairs.verb.tolist(), pairs.label.tolist(), strict=True))


def measured_map(
    detect: Detector, vocabulary: Vocabulary, chosen: MeasuredSet, on_picture: Callable[[], None] = lambda: None
) -> float:
    """mAP in percent by the vocabulary's usual metric."""
    config = EvaluateConfig(metric=choose_metric("auto", vocabulary))
    found, _ = evaluate_pictures(detect, vocabulary, chosen.annotations, chosen.pictures, config, on_picture)
    return 100 * float(next(iter(found.summary.values())))

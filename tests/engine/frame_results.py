"""Small results for tests of sinks: a vocabulary of three verbs, pairs given as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from hoiclip.core.vocabulary import Vocabulary
from hoiclip_engine.types.frame import Frame
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary
from hoiclip_engine.types.rule_hits import RuleHit
from hoiclip_engine.types.tracked_pairs import Event, TrackedPairs

VERBS = ("ride", "sit_on", "hold", "throw", "catch")

VOCABULARY = Vocabulary(
    name="small",
    objects=("bicycle", "sports_ball"),
    verbs=VERBS,
    hois=((0, 0), (1, 0), (2, 1)),
    hoi_prompts=("riding", "sitting", "holding"),
    object_prompts=("a bicycle", "a ball", "nothing"),
    verb_prompts=VERBS,
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One pair; verbs maps indices to scores, `active` lists the active ones."""

    pair: int = 1
    human: int = 1
    object: int = 2
    human_box_xyxy: Sequence[float] = (4, 4, 20, 40)
    object_box_xyxy: Sequence[float] = (16, 20, 40, 44)
    label: int = 0
    score: float = 0.9
    verbs: Mapping[int, float] = field(default_factory=lambda: {0: 0.88})
    active: Sequence[int] = (0,)


def rule_hit(event: Literal["start", "update", "end"] = "start", **fields: Any) -> RuleHit:
    """A hit of "rides here" by person 1 on bicycle 2. Args: fields: those that matter to a test."""
    usual = RuleHit(
        event=event,
        hit=0,
        rule="rides here",
        pair=1,
        human=1,
        object=2,
        verb="ride",
        label="bicycle",
        pts_s=0.0,
        index=0,
        start_s=0.0,
        score=0.5,
        peak_score=0.5,
        peak_s=0.0,
    )
    return replace(usual, **fields)


def tracked(*rows: Row) -> TrackedPairs:
    scores = np.zeros((len(rows), len(VERBS)), np.float32)
    active = np.zeros((len(rows), len(VERBS)), np.bool_)
    for index, row in enumerate(rows):
        for verb, score in row.verbs.items():
            scores[index, verb] = score
        active[index, list(row.active)] = True
    return TrackedPairs(
        pair=np.array([row.pair for row in rows], np.int64),
        human=np.array([row.human for row in rows], np.int64),
        object=np.array([row.object for row in rows], np.int64),
        human_boxes_xyxy=np.array([row.human_box_xyxy for row in rows], np.float32).reshape(-1, 4),
        object_boxes_xyxy=np.array([row.object_box_xyxy for row in rows], np.float32).reshape(-1, 4),
        label=np.array([row.label for row in rows], np.int64),
        score=np.array([row.score for row in rows], np.float32),
        verb_scores=scores,
        verb_active=active,
    )


def header(
    *, size_px: tuple[int, int] = (64, 48), time_base: Fraction = Fraction(1, 1000), source: str = "clip.mp4"
) -> RunHeader:
    return RunHeader(
        model="drawn",
        model_sha256="ab" * 32,
        notice="",
        vocabulary=VOCABULARY,
        backend="torch",
        precision="fp32",
        source=source,
        width_px=size_px[0],
        height_px=size_px[1],
        time_base=time_base,
    )


def frame_result(frame: Frame, *rows: Row, events: tuple[Event, ...] = ()) -> FrameResult:
    return FrameResult(frame=frame, detected=True, pairs=tracked(*rows), events=events)


def summary(*, interrupted: bool = False, closing_events: tuple[Event, ...] = ()) -> RunSummary:
    return RunSummary(
        decoded=2,
        detected=2,
        dropped=0,
        decode_errors=0,
        pts_repaired=0,
        pairs=1,
        events=len(closing_events),
        closing_events=closing_events,
        interrupted=interrupted,
        wall_s=0.25,
        stage_ms={"decode": {"p50": 1.0, "mean": float("nan")}},
    )

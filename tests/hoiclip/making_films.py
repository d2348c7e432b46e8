"""Small films as pairs at moments, for the tests of video metrics: people, cups and dogs of the tiny vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hoiclip.evaluation.video import Aligned, FilmFrame, aligned, still_frame
from tests.hoiclip.making_evaluations import CUP, HOLD, tiny_vocabulary

VOCABULARY = replace(
    tiny_vocabulary(), verbs=("hold", "pet", "no_interaction"), verb_prompts=("holding", "petting", "doing nothing")
)
NOTHING = 2
HUMAN, THING = (0.0, 0.0, 40.0, 100.0), (30.0, 40.0, 50.0, 60.0)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One pair of a frame; verbs map to scores, those in active are going on."""

    pair: int = 1
    human: int = 1
    object: int = 2
    label: int = CUP
    human_box: tuple[float, ...] = HUMAN
    object_box: tuple[float, ...] = THING
    active: Sequence[int] = (HOLD,)
    scores: Mapping[int, float] = field(default_factory=dict)
    """Others are 1 where active, 0 where not."""


def frame(index: int, *pairs: Pair, fps: float = 10.0) -> FilmFrame:
    if not pairs:
        return still_frame(index, index / fps, 3)
    active = np.array([[verb in pair.active for verb in range(3)] for pair in pairs])
    scores = np.array([[pair.scores.get(v, float(v in pair.active)) for v in range(3)] for pair in pairs])
    return FilmFrame(
        index=index,
        pts_s=index / fps,
        pair=np.array([pair.pair for pair in pairs]),
        human=np.array([pair.human for pair in pairs]),
        object=np.array([pair.object for pair in pairs]),
        human_boxes_xyxy=np.array([pair.human_box for pair in pairs]),
        object_boxes_xyxy=np.array([pair.object_box for pair in pairs]),
        label=np.array([pair.label for pair in pairs]),
        verb_scores=scores,
        verb_active=active,
    )


def film(*moments: Sequence[Pair], fps: float = 10.0) -> list[FilmFrame]:
    """The pairs of each frame."""
    return [frame(index, *pairs, fps=fps) for index, pairs in enumerate(moments)]


def on(*numbers: int, frames: int, pair: Pair | None = None) -> list[FilmFrame]:
    """One pair that is there all the time, and holds the cup in the frames that are named."""
    pair = pair or Pair()
    idle = replace(pair, active=())
    return film(*([pair if number in numbers else idle] for number in range(frames)))


def together(truth: Sequence[FilmFrame], found: Sequence[FilmFrame]) -> Aligned:
    return aligned("film", truth, found, 3)

"""Small videos as frames of pairs, for the tests of video metrics: people, cups and dogs of the tiny vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hoiclip.evaluation.video import AlignedVideo, VideoFrame, align_video, empty_frame
from tests.hoiclip.annotated_images import CUP, HOLD, tiny_vocabulary

VOCABULARY = replace(
    tiny_vocabulary(), verbs=("hold", "pet", "no_interaction"), verb_prompts=("holding", "petting", "doing nothing")
)
NOTHING = 2
HUMAN, OBJECT = (0.0, 0.0, 40.0, 100.0), (30.0, 40.0, 50.0, 60.0)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One pair of a frame, with its active verbs and scores by verb."""

    pair: int = 1
    human: int = 1
    object: int = 2
    label: int = CUP
    human_box: tuple[float, ...] = HUMAN
    object_box: tuple[float, ...] = OBJECT
    active: Sequence[int] = (HOLD,)
    scores: Mapping[int, float] = field(default_factory=dict)
    """Others are 1 where active, 0 where not."""


def frame(index: int, *pairs: Pair, fps: float = 10.0) -> VideoFrame:
    if not pairs:
        return empty_frame(index, index / fps, 3)
    active = np.array([[verb in pair.active for verb in range(3)] for pair in pairs])
    scores = np.array([[pair.scores.get(v, float(v in pair.active)) for v in range(3)] for pair in pairs])
    return VideoFrame(
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


def video(*pairs_by_frame: Sequence[Pair], fps: float = 10.0) -> list[VideoFrame]:
    """The pairs of each frame."""
    return [frame(index, *pairs, fps=fps) for index, pairs in enumerate(pairs_by_frame)]


def on(*numbers: int, frames: int, pair: Pair | None = None) -> list[VideoFrame]:
    """One pair that appears in all frames, and holds the cup in the given ones."""
    pair = pair or Pair()
    idle = replace(pair, active=())
    return video(*([pair if number in numbers else idle] for number in range(frames)))


def together(ground_truth: Sequence[VideoFrame], found: Sequence[VideoFrame]) -> AlignedVideo:
    return align_video("film", ground_truth, found, 3)

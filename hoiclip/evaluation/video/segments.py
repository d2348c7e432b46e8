"""From frames to what goes on: a pair, one verb, from when to when. The same rule for truth and for results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hoiclip.evaluation.video.film import F64, I64, FilmFrame, acting
from hoiclip.vocabulary import Vocabulary


@dataclass(slots=True, kw_only=True)
class Segment:
    """A verb of a pair, from the first to the last frame that lists the pair with the verb active.

    Frames in between that do not list the pair (it is hidden) do not end it; one that lists it without the verb does.
    """

    pair: int
    human: int
    object: int
    label: int
    verb: int
    start_s: float
    end_s: float
    """When the next frame comes, which no longer shows it; of the film's last frame its own time and a step more."""
    frames: list[int] = field(default_factory=list)
    """Rows of the film that list it."""
    rows: list[int] = field(default_factory=list)
    """Row of the pair in each of those frames."""
    score: float = 0.0
    """Mean score of the verb over those frames."""


def segments(frames: Sequence[FilmFrame], vocabulary: Vocabulary) -> list[Segment]:
    """In order of their start, then of pair and verb."""
    ends_s = frame_ends_s(frames)
    open_: dict[tuple[int, int], Segment] = {}
    done: list[Segment] = []
    for number, frame in enumerate(frames):
        active = active_verbs(frame, vocabulary)
        for row, pair in enumerate(frame.pair.tolist()):
            for verb in [verb for (who, verb) in open_ if who == pair and verb not in active[row]]:
                done.append(open_.pop((pair, verb)))
            for verb in active[row]:
                one = open_.get((pair, verb)) or _begun(frame, row, verb)
                open_[pair, verb] = one
                one.frames.append(number)
                one.rows.append(row)
                one.end_s = ends_s[number]
                one.score += float(frame.verb_scores[row, verb])
    done += open_.values()
    for one in done:
        one.score /= len(one.frames)
    return sorted(done, key=lambda one: (one.start_s, one.pair, one.verb))


def active_verbs(frame: FilmFrame, vocabulary: Vocabulary) -> list[list[int]]:
    """Of each pair of the frame, also of those that do nothing."""
    doing = acting(frame, vocabulary)
    verbs = {
        pair: np.flatnonzero(row).tolist() for pair, row in zip(doing.pair.tolist(), doing.verb_active, strict=True)
    }
    return [verbs.get(pair, []) for pair in frame.pair.tolist()]


def frame_ends_s(frames: Sequence[FilmFrame]) -> list[float]:
    """When each frame gives way to the next; the last one lasts as long as usual."""
    times_s = [frame.pts_s for frame in frames]
    usual_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
    return [*times_s[1:], *(time_s + usual_s for time_s in times_s[-1:])]


def _begun(frame: FilmFrame, row: int, verb: int) -> Segment:
    return Segment(
        pair=int(frame.pair[row]),
        human=int(frame.human[row]),
        object=int(frame.object[row]),
        label=int(frame.label[row]),
        verb=verb,
        start_s=frame.pts_s,
        end_s=frame.pts_s,
    )


def boxes_of(segment: Segment, frames: Sequence[FilmFrame]) -> tuple[I64, F64, F64]:
    """(n,) frames and (n, 4) boxes of human and object."""
    rows = list(zip(segment.frames, segment.rows, strict=True))
    human = np.array([frames[number].human_boxes_xyxy[row] for number, row in rows])
    thing = np.array([frames[number].object_boxes_xyxy[row] for number, row in rows])
    return np.array(segment.frames, np.int64), human, thing

"""Which result belongs to which true frame, also where a live run skipped frames or only part of a film was run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hoiclip.errors import DataError
from hoiclip.evaluation.video.film import FilmFrame, still_frame

_SAME_TIME_S = 2e-3
"""Containers round times, to milliseconds at worst (Matroska)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aligned:
    """A film's truth and, frame by frame, what was found; both with the same times."""

    name: str
    truth: tuple[FilmFrame, ...]
    found: tuple[FilmFrame, ...]
    missing: int
    """True frames without a result; they count as frames in which nothing was found."""
    foreign: int
    """Results that belong to no true frame; they are left out."""


def aligned(name: str, truth: Sequence[FilmFrame], found: Sequence[FilmFrame], num_verbs: int) -> Aligned:
    """Frames belong together by index.

    Where that contradicts their times (a run of a part, other numbering), by time: a true frame has the result nearest
    to it, if that is nearer than half the way to the true frames beside it. Times are the truth's, or the results'
    where it has none.

    Raises:
        DataError: no result belongs to the film, or the time of a frame is nowhere told.
    """
    by_index = {frame.index: frame for frame in found}
    chosen = [by_index.get(frame.index) for frame in truth]
    if not _times_agree(truth, chosen):
        chosen = _nearest(truth, found)
    belonging = sum(one is not None for one in chosen)
    if found and not belonging:
        raise DataError(f"none of the {len(found)} results of {name} is of a time of its {len(truth)} true frames")
    times_s = [
        one.pts_s if one is not None and np.isnan(frame.pts_s) else frame.pts_s
        for frame, one in zip(truth, chosen, strict=True)
    ]
    if np.isnan(times_s).any() or (np.diff(times_s) <= 0).any():
        raise DataError(
            f"the frames of {name} must have times (pts_s) that grow, in the truth or in the results of all"
        )
    return Aligned(
        name=name,
        truth=tuple(replace(frame, pts_s=at_s) for frame, at_s in zip(truth, times_s, strict=True)),
        found=tuple(
            still_frame(row, at_s, num_verbs) if one is None else replace(one, index=row, pts_s=at_s)
            for row, (one, at_s) in enumerate(zip(chosen, times_s, strict=True))
        ),
        missing=len(truth) - belonging,
        foreign=len(found) - belonging,
    )


def _times_agree(truth: Sequence[FilmFrame], chosen: Sequence[FilmFrame | None]) -> bool:
    """Times that are not told contradict nothing."""
    pairs = [(one.pts_s, true.pts_s) for true, one in zip(truth, chosen, strict=True) if one is not None]
    return all(not abs(a - b) > _SAME_TIME_S for a, b in pairs) and (bool(pairs) or not chosen)


def _nearest(truth: Sequence[FilmFrame], found: Sequence[FilmFrame]) -> list[FilmFrame | None]:
    true_s, found_s = np.array([one.pts_s for one in truth]), np.array([one.pts_s for one in found])
    if not len(found_s) or np.isnan(true_s).any() or np.isnan(found_s).any():
        return [None] * len(truth)
    steps = np.diff(true_s)
    reach_s = np.maximum(np.minimum(np.append(np.inf, steps), np.append(steps, np.inf)) / 2, _SAME_TIME_S)
    distance_s = np.abs(found_s[None] - true_s[:, None])
    nearest = distance_s.argmin(axis=1)
    good = (distance_s.min(axis=1) < reach_s) & np.isfinite(reach_s)
    return [found[n] if ok else None for n, ok in zip(nearest.tolist(), good.tolist(), strict=True)]

"""How restless verbs are: changes per minute that a pair is there.

There is no standard; the formula is ours. Truth has changes too: what it flickers is the least a perfect result does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hoiclip.evaluation.video.film import FilmFrame
from hoiclip.evaluation.video.segments import active_verbs, frame_ends_s
from hoiclip.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class Flicker:
    """Counts that add up over films."""

    changes: int = 0
    """Verbs that go on or off from one frame that lists a pair to the next one that does."""
    pair_s: float = 0.0
    """Seconds that pairs are listed, those that never do anything left out."""

    def __add__(self, other: Flicker) -> Flicker:
        return Flicker(changes=self.changes + other.changes, pair_s=self.pair_s + other.pair_s)

    @property
    def per_pair_minute(self) -> float:
        """NaN where no pair ever does anything."""
        return 60 * self.changes / self.pair_s if self.pair_s else math.nan


def flicker(frames: Sequence[FilmFrame], vocabulary: Vocabulary) -> Flicker:
    """Of one film. A pair that is listed for the first time begins with nothing going on."""
    ends_s = frame_ends_s(frames)
    last: dict[int, set[int]] = {}
    listed_s: dict[int, float] = {}
    acted: set[int] = set()
    changes = 0
    for frame, end_s in zip(frames, ends_s, strict=True):
        for pair, verbs in zip(frame.pair.tolist(), active_verbs(frame, vocabulary), strict=True):
            now = set(verbs)
            changes += len(now ^ last.get(pair, set()))
            last[pair] = now
            listed_s[pair] = listed_s.get(pair, 0.0) + end_s - frame.pts_s
            if now:
                acted.add(pair)
    return Flicker(changes=changes, pair_s=sum(listed_s[pair] for pair in acted))

"""How restless verbs are: changes per minute that a pair is there, and how many of them are soon undone.

There is no standard; the formulas are ours. Truth changes too: what it does is the least that a perfect result does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hoiclip.evaluation.video.film import FilmFrame
from hoiclip.evaluation.video.segments import active_verbs, frame_ends_s
from hoiclip.vocabulary import Vocabulary

SOON_S = 1.0
"""A change that comes back within this is flicker: nothing that people do is over and begun again so quickly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flicker:
    """Counts that add up over films."""

    changes: int = 0
    """Verbs that go on or off from one frame that lists a pair to the next one that does."""
    undone: int = 0
    """Of those, the ones that undo a change of the same verb of the same pair less than SOON_S before."""
    pair_s: float = 0.0
    """Seconds that pairs are listed, those that never do anything left out."""

    def __add__(self, other: Flicker) -> Flicker:
        return Flicker(
            changes=self.changes + other.changes,
            undone=self.undone + other.undone,
            pair_s=self.pair_s + other.pair_s,
        )

    @property
    def changes_per_minute(self) -> float:
        """Of a pair; NaN where no pair ever does anything."""
        return 60 * self.changes / self.pair_s if self.pair_s else math.nan

    @property
    def per_minute(self) -> float:
        """Undone changes, likewise."""
        return 60 * self.undone / self.pair_s if self.pair_s else math.nan


def flicker(frames: Sequence[FilmFrame], vocabulary: Vocabulary) -> Flicker:
    """Of one film. A pair that is listed for the first time comes from doing nothing."""
    doing: dict[int, set[int]] = {}
    listed_s: dict[int, float] = {}
    changed_s: dict[tuple[int, int], float] = {}
    changes = undone = 0
    for frame, end_s in zip(frames, frame_ends_s(frames), strict=True):
        for pair, verbs in zip(frame.pair.tolist(), active_verbs(frame, vocabulary), strict=True):
            changed = set(verbs) ^ doing.get(pair, set())
            doing[pair] = set(verbs)
            listed_s[pair] = listed_s.get(pair, 0.0) + end_s - frame.pts_s
            changes += len(changed)
            for verb in changed:
                undone += frame.pts_s - changed_s.get((pair, verb), -math.inf) < SOON_S
                changed_s[pair, verb] = frame.pts_s
    acted = {pair for pair, _ in changed_s}
    return Flicker(changes=changes, undone=undone, pair_s=sum(listed_s[pair] for pair in acted))

"""How often people do what: a long tail like that of real pictures, or everything equally often."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hoiclip.data.drawn.objects import ICON_NAMES
from hoiclip.data.drawn.repertoire import NO_INTERACTION
from hoiclip.data.drawn.splits import Split
from hoiclip.data.drawn.vocabulary import Triplet

FrequencyName = Literal["long_tail", "equal"]
FREQUENCIES: tuple[FrequencyName, ...] = ("long_tail", "equal")
_ZIPF_EXPONENT = 0.7
"""With the actions there are, the first is about eleven times as frequent as the last that is not rare."""
RARE_PER_SCENE = 6 / 10_000
"""Instances of each rare action: a handful in ten thousand scenes."""
_PEOPLE_PER_SCENE = 1.9
_IDLE_SHARE = 0.1
"""Of the people, in the long tail; as often as any other HOI where all are equal."""


class Frequencies:
    """Draws (verb, object) triplets, no_interaction among them."""

    def __init__(self, split: Split, name: FrequencyName) -> None:
        self._triplets = (*split.by_frequency, *((NO_INTERACTION, thing) for thing in sorted(ICON_NAMES)))
        count = len(self._triplets)
        shares = _long_tail(split) if name == "long_tail" else np.full(count, 1.0 / count)
        self.shares: dict[Triplet, float] = dict(zip(self._triplets, shares.tolist(), strict=True))
        """Of what people do; sums to 1."""
        self._upto = np.cumsum(shares)

    def __call__(self, rng: np.random.Generator) -> Triplet:
        """What the next person does."""
        row = int(np.searchsorted(self._upto, rng.random() * self._upto[-1], side="right"))
        return self._triplets[min(row, len(self._triplets) - 1)]


def _long_tail(split: Split) -> NDArray[np.float64]:
    rare = len(split.rare)
    common = np.arange(1, len(split.by_frequency) - rare + 1, dtype=np.float64) ** -_ZIPF_EXPONENT
    tail = np.full(rare, RARE_PER_SCENE / _PEOPLE_PER_SCENE)
    idle = np.full(len(ICON_NAMES), _IDLE_SHARE / len(ICON_NAMES))
    return np.concatenate((common / common.sum() * (1 - tail.sum() - idle.sum()), tail, idle))

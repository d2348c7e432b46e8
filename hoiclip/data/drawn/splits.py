"""Which triplets training may see: fixed lists like the paper's, committed in splits.json.

RF-UC leaves out rare combinations and NF-UC frequent ones, of which verb and object are seen elsewhere; UO leaves out
objects with all that is done with them, UV verbs with all they are done to. `choose` says how the lists came about.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, get_args

import numpy as np

from hoiclip.data.drawn.repertoire import ACTS, NO_INTERACTION
from hoiclip.data.drawn.video import VideoConfig, random_script
from hoiclip.data.drawn.vocabulary import Triplet, drawn_triplets, hoi_index

SplitName = Literal["default", "rf_uc", "nf_uc", "uo", "uv"]
SPLIT_NAMES: tuple[SplitName, ...] = get_args(SplitName)
FRACTIONS = (5, 15, 25, 50, 100)
"""Percent of the training scenes."""
CHOICE_SEED = 233
_VIDEOS = 200
"""From which it is known what videos show often."""
_RARE, _UNSEEN_COMBINATIONS, _UNSEEN_OBJECTS, _UNSEEN_VERBS = 14, 11, 3, 4
_NEVER_RARE = frozenset(
    {
        ("sit_on", "chair"),  # who types on a laptop sits on one
        ("ride", "bicycle"),  # and what people do most in pictures is not rare here either
        ("carry", "suitcase"),
        ("hold", "umbrella"),
        ("kick", "sports_ball"),
        ("pick_up", "sports_ball"),
        ("hold", "sports_ball"),
        ("throw", "sports_ball"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Actions by frequency, and what is kept from training."""

    name: SplitName
    by_frequency: tuple[Triplet, ...]
    """Every action, the most frequent first."""
    rare: frozenset[Triplet]
    """The last of them, with a handful of training instances."""
    unseen: frozenset[Triplet]
    """Never annotated in training."""

    @property
    def unseen_hois(self) -> tuple[int, ...]:
        """HOI numbers of the drawn vocabulary, as evaluation and the classifier want them."""
        return tuple(sorted(hoi_index()[triplet] for triplet in self.unseen))

    @property
    def rare_hois(self) -> tuple[int, ...]:
        return tuple(sorted(hoi_index()[triplet] for triplet in self.rare))

    @property
    def unseen_objects(self) -> frozenset[str]:
        """Objects of which nothing at all is seen."""
        return _gone(self.unseen)


@cache
def _gone(unseen: frozenset[Triplet]) -> frozenset[str]:
    return _objects(unseen) - _objects(drawn_triplets() - unseen)


def split_named(name: str) -> Split:
    """One of SPLIT_NAMES.

    Raises:
        ValueError: there is no such split.
    """
    if name not in SPLIT_NAMES:
        raise ValueError(f"unknown split {name!r}; there are {', '.join(SPLIT_NAMES)}")
    return _splits()[name]


@cache
def _splits() -> dict[str, Split]:
    data = json.loads(resources.files("hoiclip.data.drawn").joinpath("splits.json").read_text(encoding="utf-8"))
    by_frequency = _triplets(data["by_frequency"])
    rare = frozenset(_triplets(data["rare"]))
    return {
        name: Split(name=name, by_frequency=by_frequency, rare=rare, unseen=frozenset(_triplets(data.get(name, ()))))
        for name in SPLIT_NAMES
    }


def choose(seed: int = CHOICE_SEED) -> dict[str, list[str]]:
    """The content of splits.json: "verb object" lists, by chance within what the paper's splits demand."""
    rng = np.random.default_rng(seed)
    shuffled = [sorted(ACTS)[i] for i in rng.permutation(len(ACTS))]
    common = _NEVER_RARE | _common_in_videos()
    rare = _combinations(shuffled, [triplet for triplet in shuffled if triplet not in common], _RARE)
    by_frequency = [triplet for triplet in shuffled if triplet not in rare] + rare
    objects = [name for name in sorted(_objects(ACTS)) if sum(thing == name for _, thing in ACTS) > 1]
    return {
        "by_frequency": _texts(by_frequency),
        "rare": _texts(rare),
        "rf_uc": _texts(_combinations(by_frequency, rare[::-1], _UNSEEN_COMBINATIONS)),
        "nf_uc": _texts(_combinations(by_frequency, by_frequency, _UNSEEN_COMBINATIONS)),
        "uo": _texts(_unseen_objects(rng, objects)),
        "uv": _texts(_unseen_verbs(rng)),
    }


def _common_in_videos() -> frozenset[Triplet]:
    """The half of the actions that random videos show longest: images must not be stingy with them."""
    seconds: dict[Triplet, float] = defaultdict(float)
    for seed in range(_VIDEOS):
        for event in random_script(VideoConfig(), seed).events:
            seconds[event.verb, event.label] += event.end_s - event.start_s
    return frozenset(sorted(seconds, key=lambda triplet: -seconds[triplet])[: len(ACTS) // 2])


def _combinations(all_acts: Iterable[Triplet], candidates: Sequence[Triplet], count: int) -> list[Triplet]:
    """The first `count` candidates without which every verb and every object is still there."""
    verbs, objects = Counter(verb for verb, _ in all_acts), Counter(thing for _, thing in all_acts)
    chosen: list[Triplet] = []
    for verb, thing in candidates:
        if len(chosen) < count and verbs[verb] > 1 and objects[thing] > 1:
            chosen.append((verb, thing))
            verbs[verb] -= 1
            objects[thing] -= 1
    return chosen


def _unseen_objects(rng: np.random.Generator, objects: list[str]) -> list[Triplet]:
    """All triplets of a few objects; their verbs are done to others too."""
    chosen: set[str] = set()
    for i in rng.permutation(len(objects)).tolist():
        kept = {verb for verb, thing in ACTS if thing not in chosen | {objects[i]}}
        if len(chosen) < _UNSEEN_OBJECTS and kept == {verb for verb, _ in ACTS}:
            chosen.add(objects[i])
    return sorted(triplet for triplet in drawn_triplets() if triplet[1] in chosen)


def _unseen_verbs(rng: np.random.Generator) -> list[Triplet]:
    """All triplets of a few verbs; something else is done to their objects too. The two commonest stay."""
    common = {verb for verb, _ in Counter(verb for verb, _ in ACTS).most_common(2)} | {NO_INTERACTION}
    verbs = sorted({verb for verb, _ in ACTS} - common)
    chosen: set[str] = set()
    for i in rng.permutation(len(verbs)).tolist():
        kept = {thing for verb, thing in ACTS if verb not in chosen | {verbs[i]}}
        if len(chosen) < _UNSEEN_VERBS and kept == _objects(ACTS):
            chosen.add(verbs[i])
    return sorted(triplet for triplet in ACTS if triplet[0] in chosen)


def _objects(triplets: Iterable[Triplet]) -> frozenset[str]:
    return frozenset(thing for _, thing in triplets)


def _texts(triplets: Iterable[Triplet]) -> list[str]:
    return [" ".join(triplet) for triplet in triplets]


def _triplets(texts: Iterable[str]) -> tuple[Triplet, ...]:
    return tuple((verb, thing) for verb, thing in (text.split(" ") for text in texts))


if __name__ == "__main__":  # python -m hoiclip.data.drawn.splits > hoiclip/data/drawn/splits.json
    print(json.dumps(choose(), indent=1))

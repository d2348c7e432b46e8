"""Zero-shot splits: fixed lists of triplets hidden from training, like the paper's, committed in splits.json.

RF-UC leaves out rare combinations and NF-UC frequent ones, of which verb and object are seen elsewhere; UO leaves out
objects with all their verbs, UV verbs with all their objects. `choose` is the rule that made the lists.
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

from hoiclip.synthetic.repertoire import ACTS, NO_INTERACTION
from hoiclip.synthetic.video import VideoConfig, random_script
from hoiclip.synthetic.vocabulary import Triplet, hoi_index, synthetic_triplets

SplitName = Literal["default", "rf_uc", "nf_uc", "uo", "uv"]
SPLIT_NAMES: tuple[SplitName, ...] = get_args(SplitName)
FRACTIONS = (5, 15, 25, 50, 100)
"""Percent of the training scenes."""
CHOICE_SEED = 233
_VIDEOS = 200
"""Videos whose events are counted, to find actions that are common in videos."""
_RARE, _UNSEEN_COMBINATIONS, _UNSEEN_OBJECTS, _UNSEEN_VERBS = 14, 11, 3, 4
_NEVER_RARE = frozenset(
    {
        ("sit_on", "chair"),  # typing on a laptop shows one, too
        ("ride", "bicycle"),  # and what people do most in images is not rare here either
        ("carry", "suitcase"),
        ("hold", "umbrella"),
        ("kick", "sports_ball"),
        ("pick_up", "sports_ball"),
        ("hold", "sports_ball"),
        ("throw", "sports_ball"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticSplit:
    """Actions by frequency, and those hidden from training."""

    name: SplitName
    by_frequency: tuple[Triplet, ...]
    """Every action, the most frequent first."""
    rare: frozenset[Triplet]
    """The last of them, with a handful of training instances."""
    unseen: frozenset[Triplet]
    """Never annotated in training."""

    @property
    def unseen_hois(self) -> tuple[int, ...]:
        """HOI numbers of the synthetic vocabulary, for evaluation and the classifier."""
        return tuple(sorted(hoi_index()[triplet] for triplet in self.unseen))

    @property
    def rare_hois(self) -> tuple[int, ...]:
        return tuple(sorted(hoi_index()[triplet] for triplet in self.rare))

    @property
    def unseen_objects(self) -> frozenset[str]:
        """Objects all of whose triplets are unseen."""
        return _unseen_objects_of(self.unseen)


@cache
def _unseen_objects_of(unseen: frozenset[Triplet]) -> frozenset[str]:
    return _objects(unseen) - _objects(synthetic_triplets() - unseen)


def synthetic_split(name: str) -> SyntheticSplit:
    """One of SPLIT_NAMES.

    Raises:
        ValueError: no split has this name.
    """
    if name not in SPLIT_NAMES:
        raise ValueError(f"unknown split {name!r}; known are {', '.join(SPLIT_NAMES)}")
    return _splits()[name]


@cache
def _splits() -> dict[str, SyntheticSplit]:
    data = json.loads(resources.files("hoiclip.synthetic").joinpath("splits.json").read_text(encoding="utf-8"))
    by_frequency = _triplets(data["by_frequency"])
    rare = frozenset(_triplets(data["rare"]))
    return {
        name: SyntheticSplit(
            name=name, by_frequency=by_frequency, rare=rare, unseen=frozenset(_triplets(data.get(name, ())))
        )
        for name in SPLIT_NAMES
    }


def choose(seed: int = CHOICE_SEED) -> dict[str, list[str]]:
    """The content of splits.json: "verb object" lists, by chance within what the paper's splits demand."""
    rng = np.random.default_rng(seed)
    shuffled = [sorted(ACTS)[i] for i in rng.permutation(len(ACTS))]
    common = _NEVER_RARE | _common_in_videos()
    rare = _combinations(shuffled, [triplet for triplet in shuffled if triplet not in common], _RARE)
    by_frequency = [triplet for triplet in shuffled if triplet not in rare] + rare
    objects = [name for name in sorted(_objects(ACTS)) if sum(obj == name for _, obj in ACTS) > 1]
    return {
        "by_frequency": _texts(by_frequency),
        "rare": _texts(rare),
        "rf_uc": _texts(_combinations(by_frequency, rare[::-1], _UNSEEN_COMBINATIONS)),
        "nf_uc": _texts(_combinations(by_frequency, by_frequency, _UNSEEN_COMBINATIONS)),
        "uo": _texts(_unseen_objects(rng, objects)),
        "uv": _texts(_unseen_verbs(rng)),
    }


def _common_in_videos() -> frozenset[Triplet]:
    """The half of the actions that random videos show longest: they must not be rare in images."""
    seconds: dict[Triplet, float] = defaultdict(float)
    for seed in range(_VIDEOS):
        for event in random_script(VideoConfig(), seed).events:
            seconds[event.verb, event.label] += event.end_s - event.start_s
    return frozenset(sorted(seconds, key=lambda triplet: -seconds[triplet])[: len(ACTS) // 2])


def _combinations(all_acts: Iterable[Triplet], candidates: Sequence[Triplet], count: int) -> list[Triplet]:
    """The first `count` candidates without which every verb and every object still occurs."""
    verbs, objects = Counter(verb for verb, _ in all_acts), Counter(obj for _, obj in all_acts)
    chosen: list[Triplet] = []
    for verb, obj in candidates:
        if len(chosen) < count and verbs[verb] > 1 and objects[obj] > 1:
            chosen.append((verb, obj))
            verbs[verb] -= 1
            objects[obj] -= 1
    return chosen


def _unseen_objects(rng: np.random.Generator, objects: list[str]) -> list[Triplet]:
    """All triplets of a few objects; their verbs occur with other objects, too."""
    chosen: set[str] = set()
    for i in rng.permutation(len(objects)).tolist():
        kept = {verb for verb, obj in ACTS if obj not in chosen | {objects[i]}}
        if len(chosen) < _UNSEEN_OBJECTS and kept == {verb for verb, _ in ACTS}:
            chosen.add(objects[i])
    return sorted(triplet for triplet in synthetic_triplets() if triplet[1] in chosen)


def _unseen_verbs(rng: np.random.Generator) -> list[Triplet]:
    """All triplets of a few verbs; their objects occur with other verbs, too. The two commonest verbs stay."""
    common = {verb for verb, _ in Counter(verb for verb, _ in ACTS).most_common(2)} | {NO_INTERACTION}
    verbs = sorted({verb for verb, _ in ACTS} - common)
    chosen: set[str] = set()
    for i in rng.permutation(len(verbs)).tolist():
        kept = {obj for verb, obj in ACTS if verb not in chosen | {verbs[i]}}
        if len(chosen) < _UNSEEN_VERBS and kept == _objects(ACTS):
            chosen.add(verbs[i])
    return sorted(triplet for triplet in ACTS if triplet[0] in chosen)


def _objects(triplets: Iterable[Triplet]) -> frozenset[str]:
    return frozenset(obj for _, obj in triplets)


def _texts(triplets: Iterable[Triplet]) -> list[str]:
    return [" ".join(triplet) for triplet in triplets]


def _triplets(texts: Iterable[str]) -> tuple[Triplet, ...]:
    return tuple((verb, obj) for verb, obj in (text.split(" ") for text in texts))


if __name__ == "__main__":  # python -m hoiclip.synthetic.splits > hoiclip/synthetic/splits.json
    print(json.dumps(choose(), indent=1))

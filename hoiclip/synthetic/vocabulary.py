"""The synthetic world's vocabulary: a subset of "hico", with its names and prompts, in its order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from hoiclip.core.vocabulary import PERSON, Vocabulary, load_vocabulary
from hoiclip.synthetic.icons import ICON_NAMES
from hoiclip.synthetic.repertoire import ACTS, NO_INTERACTION

Triplet = tuple[str, str]
"""(verb, object) in the names of the vocabulary; the person is understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HicoIndices:
    """Indices in "hico" of each entry of the synthetic vocabulary."""

    objects: tuple[int, ...]
    verbs: tuple[int, ...]
    hois: tuple[int, ...]


def synthetic_triplets() -> frozenset[Triplet]:
    """Every action, and no_interaction with every object."""
    return frozenset(ACTS) | {(NO_INTERACTION, name) for name in ICON_NAMES}


@cache
def hico_indices() -> HicoIndices:
    hico, known = load_vocabulary("hico"), synthetic_triplets()
    verbs = {verb for verb, _ in known}
    return HicoIndices(
        objects=tuple(i for i, name in enumerate(hico.objects) if name == PERSON or name in ICON_NAMES),
        verbs=tuple(i for i, name in enumerate(hico.verbs) if name in verbs),
        hois=tuple(i for i, triplet in enumerate(hico.named_hois) if triplet in known),
    )


@cache
def synthetic_vocabulary() -> Vocabulary:
    """Objects (the person first), verbs and all HOIs that can be drawn."""
    hico, rows = load_vocabulary("hico"), hico_indices()
    return Vocabulary(
        name="drawn",
        objects=tuple(hico.objects[i] for i in rows.objects),
        verbs=tuple(hico.verbs[i] for i in rows.verbs),
        hois=tuple((rows.verbs.index(hico.hois[i][0]), rows.objects.index(hico.hois[i][1])) for i in rows.hois),
        hoi_prompts=tuple(hico.hoi_prompts[i] for i in rows.hois),
        object_prompts=(*(hico.object_prompts[i] for i in rows.objects), hico.object_prompts[-1]),
        verb_prompts=tuple(hico.verb_prompts[i] for i in rows.verbs),
    )


def named_vocabulary(name: str) -> Vocabulary:
    """The synthetic vocabulary by its name; any other as load_vocabulary finds it.

    Raises:
        ModelError: no vocabulary has this name, or its file cannot be read.
    """
    own = synthetic_vocabulary()
    return own if name == own.name else load_vocabulary(name)


def is_synthetic(vocabulary: Vocabulary) -> bool:
    """Whether this is the synthetic world's vocabulary, by name and HOIs."""
    own = synthetic_vocabulary()
    return (vocabulary.name, vocabulary.hois) == (own.name, own.hois)


@cache
def hoi_index() -> dict[Triplet, int]:
    """HOI number by (verb, object)."""
    return {triplet: index for index, triplet in enumerate(synthetic_vocabulary().named_hois)}

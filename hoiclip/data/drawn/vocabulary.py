"""The drawn world's vocabulary: a part of "hico", with its names and prompts, in its order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from hoiclip.data.drawn.objects import ICON_NAMES
from hoiclip.data.drawn.repertoire import ACTS, NO_INTERACTION
from hoiclip.vocabulary import PERSON, Vocabulary, load_vocabulary

Triplet = tuple[str, str]
"""(verb, object) in the names of the vocabulary; the person is understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HicoIndices:
    """Where each row of the drawn vocabulary stands in "hico"."""

    objects: tuple[int, ...]
    verbs: tuple[int, ...]
    hois: tuple[int, ...]


def drawn_triplets() -> frozenset[Triplet]:
    """All that can happen: every action, and nothing at all with every object."""
    return frozenset(ACTS) | {(NO_INTERACTION, name) for name in ICON_NAMES}


@cache
def hico_indices() -> HicoIndices:
    hico, drawn = load_vocabulary("hico"), drawn_triplets()
    named = [(hico.verbs[verb], hico.objects[thing]) for verb, thing in hico.hois]
    verbs = {verb for verb, _ in drawn}
    return HicoIndices(
        objects=tuple(i for i, name in enumerate(hico.objects) if name == PERSON or name in ICON_NAMES),
        verbs=tuple(i for i, name in enumerate(hico.verbs) if name in verbs),
        hois=tuple(i for i, triplet in enumerate(named) if triplet in drawn),
    )


@cache
def drawn_vocabulary() -> Vocabulary:
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


@cache
def hoi_index() -> dict[Triplet, int]:
    """HOI number by (verb, object)."""
    vocabulary = drawn_vocabulary()
    return {(vocabulary.verbs[verb], vocabulary.objects[thing]): i for i, (verb, thing) in enumerate(vocabulary.hois)}

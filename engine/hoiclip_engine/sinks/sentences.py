"""Events as words."""

from __future__ import annotations

from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.pairs import Event


def sentence(event: Event, vocabulary: Vocabulary) -> str:
    """For example "person 3 ride bicycle 5"."""
    return f"person {event.human} {deed(event.verb, event.label, event.object, vocabulary)}"


def deed(verb: int, label: int, object_id: int, vocabulary: Vocabulary) -> str:
    """For example "ride bicycle 5"; the verb alone where there is no object."""
    name = vocabulary.verb_name(verb)
    return name if object_id < 0 else f"{name} {vocabulary.object_name(label)} {object_id}"

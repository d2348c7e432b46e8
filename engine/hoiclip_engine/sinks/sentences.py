"""Events as words."""

from __future__ import annotations

from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.pairs import Event


def sentence(event: Event, vocabulary: Vocabulary) -> str:
    """For example "person 3 ride bicycle 5"."""
    verb = vocabulary.verb_name(event.verb)
    if event.object < 0:
        return f"person {event.human} {verb}"
    return f"person {event.human} {verb} {vocabulary.object_name(event.label)} {event.object}"

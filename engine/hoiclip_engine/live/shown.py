"""What a viewer of the live page wants to see of the pairs: from which scores on, and which verbs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.pairs import TrackedPairs

MAX_VERBS_CHARACTERS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Equal settings are equal keys: a picture is drawn once for all who want the same."""

    min_score: float = 0.0
    """Of the pair."""
    min_verb: float = 0.0
    """Of a verb."""
    verbs: frozenset[int] | None = None
    """Indices; None: all."""

    @staticmethod
    def from_query(query: Mapping[str, str], vocabulary: Vocabulary) -> Shown:
        """Scores in hundredths; verbs by their names with commas between, where unknown ones match nothing.

        Raises:
            ValueError: not a score, or a longer list than anybody types.
        """
        names = query.get("verbs", "")
        if len(names) > MAX_VERBS_CHARACTERS:
            raise ValueError(f"expected at most {MAX_VERBS_CHARACTERS} characters of verbs")
        wanted = {"_".join(name.split()).lower() for name in names.split(",")} - {""}
        verbs = frozenset(index for index, verb in enumerate(vocabulary.verbs) if verb.lower() in wanted)
        return Shown(
            min_score=_score(query.get("min_score", "0")),
            min_verb=_score(query.get("min_verb", "0")),
            verbs=verbs if wanted else None,
        )

    def of(self, pairs: TrackedPairs) -> TrackedPairs:
        """The pairs to draw, with the verbs to tell; a pair that does nothing is shown only if any verb will do."""
        active = pairs.verb_active & (pairs.verb_scores >= self.min_verb)
        if self.verbs is not None:
            wanted = np.zeros(active.shape[1], np.bool_)
            wanted[list(self.verbs)] = True
            active &= wanted
        idle = ~pairs.verb_active.any(axis=1) & (self.verbs is None) & (self.min_verb == 0)
        chosen = (pairs.score >= self.min_score) & (active.any(axis=1) | idle)
        return replace(pairs, verb_active=active).rows(chosen)


def _score(text: str) -> float:
    value = float(text) if len(text) <= 20 else math.nan
    if not 0 <= value <= 1:
        raise ValueError("expected scores from 0 to 1")
    return round(value, 2)

"""Tracked pairs of a stream at one moment. Boxes are x1, y1, x2, y2 in pixels of the upright frame."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

from hoiclip.core.array_types import F32, I64, Bool
from hoiclip.core.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedPairs:
    """P human-object pairs that are alive at one moment of a stream, ordered by pair id."""

    pair: I64
    """(P,) identity of the pair, the same from frame to frame."""
    human: I64
    """(P,) identity of the human."""
    object: I64
    """(P,) identity of the object; -1 where the person acts without one. Humans and objects share one number range."""
    human_boxes_xyxy: F32
    """(P, 4)"""
    object_boxes_xyxy: F32
    """(P, 4); the human's own box where there is no object."""
    label: I64
    """(P,) object index, NO_OBJECT (-1) where there is none."""
    score: F32
    """(P,) smoothed score of the pair in [0, 1]: that of its best triplet."""
    verb_scores: F32
    """(P, V) smoothed verb scores in [0, 1]."""
    verb_active: Bool
    """(P, V) whether the verb is active, after hysteresis."""

    def __len__(self) -> int:
        return int(self.pair.shape[0])

    def rows(self, selected: Bool) -> TrackedPairs:
        """The selected pairs, (P,) a mask."""
        return TrackedPairs(**{field.name: getattr(self, field.name)[selected] for field in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A verb of a pair starts or ends."""

    event: Literal["start", "end"]
    pair: int
    human: int
    object: int
    """-1 where the person acts without one."""
    label_index: int
    """Object index into the vocabulary, NO_OBJECT (-1) where there is none."""
    verb_index: int
    """Verb index into the vocabulary."""
    label: str = ""
    """The object's word; empty where there is none, and in events of a PairTracker that is used by itself."""
    verb: str = ""
    """The verb's word; empty in events of a PairTracker that is used by itself."""
    pts_s: float
    """Time of the start or end. A start is reported a moment later, once the verb is believed, and carries the time it
    began; an end by disappearance carries the last time the pair was seen."""
    start_s: float | None = None
    """Time it began; of a start, pts_s itself."""
    peak_score: float | None = None
    """The best smoothed score of the verb so far."""
    evidence_s: tuple[float, ...] = ()
    """Times of up to three frames that show it, in order: the first, the one of the peak, the last that was sure."""

    def with_words(self, vocabulary: Vocabulary) -> Event:
        """The same event with the words of its verb and object."""
        label = vocabulary.objects[self.label_index] if self.label_index >= 0 else ""
        return replace(self, verb=vocabulary.verbs[self.verb_index], label=label)

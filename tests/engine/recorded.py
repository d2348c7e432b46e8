"""Results with events and hits at given times, for tests of the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from hoiclip_engine.types.frame import Frame
from hoiclip_engine.types.results import FrameResult
from hoiclip_engine.types.rule_hits import RuleHit
from hoiclip_engine.types.tracked_pairs import Event
from tests.engine.frame_results import VOCABULARY, Row, rule_hit, tracked

_RGB = np.zeros((4, 4, 3), np.uint8)


def result(
    pts_s: float,
    *rows: Row,
    events: Sequence[Event] = (),
    hits: Sequence[RuleHit] = (),
    read_s: float = 0.0,
) -> FrameResult:
    return FrameResult(
        frame=Frame(_RGB, pts_s, round(pts_s * 100), read_s),
        detected=True,
        pairs=tracked(*rows),
        events=tuple(events),
        rule_hits=tuple(hits),
        vocabulary=VOCABULARY,
    )


def verb_event(
    event: Literal["start", "end"], start_s: float, end_s: float = 0.0, *, pair: int = 1, verb: int = 0, human: int = 1
) -> Event:
    """A person and object 2, a bicycle."""
    has_ended = event == "end"
    return Event(
        event=event,
        pair=pair,
        human=human,
        object=2,
        label_index=0,
        verb_index=verb,
        pts_s=end_s if has_ended else start_s,
        start_s=start_s,
        peak_score=0.75,
        evidence_s=(start_s, end_s) if has_ended else (),
    ).with_words(VOCABULARY)


def hit_at(
    event: Literal["start", "update", "end"], number: int, *, lasted_s: float = 0.0, rule: str = "rides here"
) -> RuleHit:
    """A hit that starts at number / 100 s."""
    start_s = number / 100
    times = {"pts_s": start_s + lasted_s, "start_s": start_s, "peak_s": start_s}
    return rule_hit(event, hit=number, rule=rule, index=number, peak_score=0.75, **times)

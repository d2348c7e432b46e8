"""Hits of rules, and the evidence that is kept of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleHit:
    """A rule begins to hold, still holds, or ceases to hold.

    The three of one hit share its number; the record, evidence and delivery name it by (run_id, hit).
    """

    event: Literal["start", "update", "end"]
    hit: int
    """0, 1, 2 ... over a stream, in the order of the starts."""
    rule: str
    """Name of the rule."""
    pair: int
    """-1 of an `absent` rule, which no pair fulfils."""
    human: int
    """-1 of an `absent` rule."""
    object: int
    """-1 where the person acts without one, and of an `absent` rule."""
    verb: str
    """The verb's word; empty of an `absent` rule."""
    label: str
    """The object's word; empty where there is none."""
    pts_s: float
    """Time of the start, update or end."""
    index: int
    """Index of the frame with which it is reported."""
    start_s: float
    """Time since which the rule holds."""
    score: float
    """Smoothed score of the verb in this frame, in [0, 1]; 0 of an `absent` rule."""
    peak_score: float
    """The best score so far."""
    peak_s: float
    """Time of the frame with the best score."""
    human_box_xyxy: tuple[float, float, float, float] | None = None
    """None of an `absent` rule."""
    object_box_xyxy: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleShape:
    """Zone or line of a rule in a frame, to be drawn."""

    rule: str
    """Name of the rule."""
    points_xy: tuple[tuple[float, float], ...]
    """Corners of a polygon, or two points of a line; pixels of the frame."""
    direction: Literal["", "any", "left", "right", "up", "down"] = ""
    """Edge of the image towards which the line is crossed; empty: a zone."""
    holds: bool = False
    """Whether a hit of the rule has started and not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Files that show a hit or a verb event."""

    run_id: str
    source: str
    """Printable and without credentials."""
    hit: int | None
    """Number of the rule's hit; None where it shows a verb event."""
    rule: str
    """Name of the rule; empty where it shows a verb event."""
    pair: int
    verb: str
    start_s: float
    """Start of what it shows."""
    snapshot: Path | None
    """Annotated JPEG of the best frame."""
    clip: Path | None
    """Video around it; None where none could be cut."""
    clip_start_s: float
    """Time of the clip's first frame, on the clock of the stream."""
    clip_end_s: float
    reencoded: bool = False
    """Whether the clip had to be encoded again."""

"""The kinds of errors, in the order in which they are tried, and the thresholds that tell them apart."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

FOUND, MERGED = "found", "merged"
LOOSE = ("loose human", "loose object", "loose both")
WRONG_VERB, WRONG_LABEL, WRONG_BOTH = "wrong verb", "wrong label", "wrong label and verb"
WRONG_PAIRING = "wrong pairing"
MISSED = ("missed human", "missed object", "missed both")
DUPLICATE, BACKGROUND = "duplicate", "background"

FATES = (FOUND, MERGED, *LOOSE, WRONG_VERB, WRONG_LABEL, WRONG_BOTH, WRONG_PAIRING, *MISSED)
"""Of a ground-truth interaction: exactly one of these, the first that holds."""
FALSE_KINDS = (DUPLICATE, *LOOSE, WRONG_VERB, WRONG_LABEL, WRONG_BOTH, WRONG_PAIRING, BACKGROUND)
"""Of a prediction that is not a hit: exactly one of these, the first that holds."""

FATE_MEANINGS = {
    FOUND: "a prediction of its class overlaps it enough: a hit of the metric",
    MERGED: "a right prediction covers it, but counts for another pair of the same class",
    LOOSE[0]: "predicted with the right class, but the human's box is too loose",
    LOOSE[1]: "predicted with the right class, but the object's box is too loose",
    LOOSE[2]: "predicted with the right class, but both boxes are too loose",
    WRONG_VERB: "the pair is found with the right object label, but only other verbs",
    WRONG_LABEL: "the pair is found with the right verb, but another object label",
    WRONG_BOTH: "the pair is found, but with another object label and other verbs",
    WRONG_PAIRING: "human and object are both found, but never as one pair",
    MISSED[0]: "the object is found, its human is not",
    MISSED[1]: "the human is found, its object is not",
    MISSED[2]: "neither human nor object is found",
}
FALSE_MEANINGS = {
    DUPLICATE: "right, but a better-scored prediction has the pair already",
    LOOSE[0]: "the right class near a true pair, the human's box too loose",
    LOOSE[1]: "the right class near a true pair, the object's box too loose",
    LOOSE[2]: "the right class near a true pair, both boxes too loose",
    WRONG_VERB: "a true pair with its object label, but a verb it does not do",
    WRONG_LABEL: "a true pair with its verb, but another object label",
    WRONG_BOTH: "a true pair, but another object label and another verb",
    WRONG_PAIRING: "an annotated human and an annotated object that do not belong together",
    BACKGROUND: "none of these: no annotated pair, human and object together, is there",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisConfig:
    """Thresholds of the analysis; the first is that of the metrics and fixed there."""

    min_overlap: float = 0.5
    """IoU from which a box is right, humans and objects alike."""
    loose_overlap: float = 0.1
    """IoU from which a box of the right class is loose rather than elsewhere."""
    same_person_overlap: float = 0.7
    """IoU from which two annotated people are one, annotated twice; HICO-DET has a box for each interaction."""
    border_px: float = 2.0
    """A box that ends nearer to the image border than this is cut off by it."""
    size_edges_px: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0)
    """Edges of the bins of sizes; a size is the square root of a box's area."""
    overlap_edges: tuple[float, ...] = (0.1, 0.3)
    """Edges of the bins of the largest IoU with another person."""
    people_edges: tuple[int, ...] = (1, 2, 3, 5, 9)
    """Edges of the bins of the number of people in an image."""

    def __post_init__(self) -> None:
        if not 0 < self.loose_overlap < self.min_overlap <= 1:
            raise ValueError(
                f"expected 0 < loose_overlap < min_overlap <= 1, got {self.loose_overlap} and {self.min_overlap}"
            )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def codes(kinds: tuple[str, ...], *chosen: str) -> list[int]:
    """Positions of the chosen kinds among all."""
    return [kinds.index(kind) for kind in chosen]

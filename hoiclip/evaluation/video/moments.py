"""What identity metrics look at: who is there at one moment, who was found, and how well they overlap.

Nothing here knows whether identities are of boxes or of pairs; film_identities.py and mot_text.py make moments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

EPSILON = float(np.finfo(np.float64).eps)
"""An overlap is allowed to miss a threshold by this, as in TrackEval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """G true identities and N found ones."""

    true_ids: I64
    """(G,) each at most once."""
    found_ids: I64
    """(N,) each at most once."""
    overlap_gn: F64
    """(G, N) similarity in [0, 1]; 0 where they can never be the same."""

    def __post_init__(self) -> None:
        expected = (len(self.true_ids), len(self.found_ids))
        if self.overlap_gn.shape != expected:
            raise ValueError(f"expected overlaps of shape {expected}, got {self.overlap_gn.shape}")
        for ids in (self.true_ids, self.found_ids):
            if len(np.unique(ids)) != len(ids):
                raise ValueError("an identity must be at one place at a moment, got one twice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """A sequence with its identities renamed 0, 1, 2, ..."""

    moments: tuple[tuple[I64, I64, F64], ...]
    true_count: I64
    """Moments in which each true identity is there."""
    found_count: I64

    def __iter__(self) -> Iterator[tuple[I64, I64, F64]]:
        return iter(self.moments)


def numbered(sequence: Sequence[Moment]) -> Numbered:
    """Every moment's identities as rows of tables."""
    true_rows, true_count = _rows([moment.true_ids for moment in sequence])
    found_rows, found_count = _rows([moment.found_ids for moment in sequence])
    overlaps = [moment.overlap_gn for moment in sequence]
    return Numbered(
        moments=tuple(zip(true_rows, found_rows, overlaps, strict=True)),
        true_count=true_count,
        found_count=found_count,
    )


def _rows(ids: Sequence[I64]) -> tuple[list[I64], I64]:
    if not ids:
        return [], np.zeros(0, np.int64)
    flat = np.concatenate(ids).astype(np.int64)
    known, row = np.unique(flat, return_inverse=True)
    row = row.reshape(-1)  # numpy 2.0 alone shapes it otherwise
    ends = np.cumsum([len(one) for one in ids])[:-1]
    return np.split(row, ends), np.bincount(row, minlength=len(known))


def share(part: float, whole: float) -> float:
    """part / whole, 0 of nothing, as TrackEval counts."""
    return part / whole if whole else 0.0

"""Counts of kinds, in all and bin by bin, and percentages that sum to 100."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoiclip.evaluation.analysis.attributes import Attribute

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Table:
    """B bins of an attribute by K kinds. Bins without anything are left out."""

    name: str
    bins: tuple[str, ...]
    kinds: tuple[str, ...]
    counts: I64
    """(B, K)"""

    def to_json(self) -> dict[str, Any]:
        rows = zip(self.bins, self.counts, strict=True)
        return {"name": self.name, "bins": [{"bin": name, **counted(self.kinds, row)} for name, row in rows]}


def table(attribute: Attribute, kinds: tuple[str, ...], kind_of: I64, *, by_count: bool = False) -> Table:
    """
    Args:
        kind_of: (N,) index into kinds.
        by_count: the bins with most rows first, as for classes; otherwise in their own order.
    """
    size = len(attribute.bins), len(kinds)
    counts = np.bincount(attribute.bin_of * size[1] + kind_of, minlength=size[0] * size[1]).reshape(size)
    order = np.argsort(-counts.sum(axis=1), kind="stable") if by_count else np.arange(size[0])
    order = order[counts[order].sum(axis=1) > 0]
    return Table(attribute.name, tuple(attribute.bins[i] for i in order), kinds, counts[order])


def counted(kinds: tuple[str, ...], counts: I64) -> dict[str, Any]:
    """Total, counts and percentages, for JSON."""
    numbers = dict(zip(kinds, counts.tolist(), strict=True))
    return {
        "total": int(counts.sum()),
        "counts": numbers,
        "percent": dict(zip(kinds, percentages(counts), strict=True)),
    }


def percentages(counts: I64) -> list[float]:
    """(K,) to tenths of a percent that sum to exactly 100; zeros of nothing.

    What rounding down leaves goes to the largest remainders (Hare's method), so that no column of a table sums to 99.9.
    """
    total = int(counts.sum())
    if not total:
        return [0.0] * len(counts)
    tenths, remainder = np.divmod(counts.astype(np.int64) * 1000, total)
    left = 1000 - int(tenths.sum())
    tenths[np.argsort(-remainder, kind="stable")[:left]] += 1
    return [tenth / 10 for tenth in tenths.tolist()]

"""How much of everybody and everything can be seen: what stands in front hides, and so does the edge of the picture.

A share is (visible pixels / pixels of the silhouette alone, both on a coarse grid) x (part of the box in the frame).
Layers are painted in order of depth, as draw.py paints them, so a bicycle between a rider's legs hides what it really
hides. Cords are too thin to hide anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hoiclip.data.drawn.shapes import Outlines, silhouette

_GRID_PX = 128
"""Longer side of the grid that shares are counted on; an 18 px object of a 256 px picture still has about 40 cells."""


class Layer(NamedTuple):
    depth: float
    owner: int
    """Id of a person or thing."""
    outlines: Outlines


def visible_shares(layers: Sequence[Layer], width_px: int, height_px: int) -> dict[int, float]:
    """Share in [0, 1] by owner; 0 for what lies wholly outside."""
    scale = min(1.0, _GRID_PX / max(width_px, height_px))
    columns, rows = max(1, round(width_px * scale)), max(1, round(height_px * scale))
    front = np.full((rows, columns), -1, dtype=np.int32)
    alone: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]] = {}
    for layer in sorted(layers, key=lambda layer: layer.depth):
        covered = silhouette(layer.outlines, scale, columns, rows).view(np.bool_)
        front[covered] = layer.owner
        alone[layer.owner] = alone[layer.owner] | covered if layer.owner in alone else covered
    inside = _shares_inside(layers, width_px, height_px)
    shares = {}
    for owner, covered in alone.items():
        cells = np.count_nonzero(covered)
        shares[owner] = inside[owner] * np.count_nonzero(front[covered] == owner) / cells if cells else 0.0
    return shares


def _shares_inside(layers: Sequence[Layer], width_px: int, height_px: int) -> dict[int, float]:
    """Part of each owner's box that the frame leaves."""
    corners: dict[int, list[float]] = {}
    for _, owner, outlines in layers:
        (x0, y0), (x1, y1) = outlines.points_xy.min(axis=0).tolist(), outlines.points_xy.max(axis=0).tolist()
        left, top, right, bottom = corners.get(owner, (x0, y0, x1, y1))
        corners[owner] = [min(left, x0), min(top, y0), max(right, x1), max(bottom, y1)]
    shares = {}
    for owner, (x0, y0, x1, y1) in corners.items():
        across = max(0.0, min(x1, width_px) - max(x0, 0.0)) / max(x1 - x0, 1e-9)
        down = max(0.0, min(y1, height_px) - max(y0, 0.0)) / max(y1 - y0, 1e-9)
        shares[owner] = min(1.0, across) * min(1.0, down)
    return shares

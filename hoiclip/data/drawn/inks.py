"""The inks that icons are drawn with; scene.Thing.palette gives their colours."""

from __future__ import annotations

from hoiclip.data.drawn.shapes import Ink, Point

MAIN, ACCENT = Ink("main"), Ink("accent")
DARK, LIGHT, GREY, GLOW = Ink("dark"), Ink("light"), Ink("grey"), Ink("glow")
SHADED = Ink("main", 0.72)

Anchors = dict[str, Point]
"""Points of an icon that a person touches."""

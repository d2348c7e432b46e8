"""The drawn world: seeded scenes, films and data sets of people who do things, with exact ground truth."""

from hoiclip.data.drawn.clip import draw_clip
from hoiclip.data.drawn.draw import DrawnFrame, DrawnPair, draw_scene

__all__ = ["DrawnFrame", "DrawnPair", "draw_clip", "draw_scene"]

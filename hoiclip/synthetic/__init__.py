"""The synthetic world: seeded scenes, videos and datasets of people in action, with exact ground truth."""

from hoiclip.synthetic.clip import draw_clip
from hoiclip.synthetic.draw import SyntheticFrame, SyntheticPair, draw_scene

__all__ = ["SyntheticFrame", "SyntheticPair", "draw_clip", "draw_scene"]

"""Pictures for a video that is begun with one size: every frame fitted into it, with its pairs drawn in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hoiclip_engine.results import FrameResult, RunHeader
from hoiclip_engine.sinks.annotate import Annotator
from hoiclip_engine.sinks.letterbox import letterbox


class Canvas:
    def __init__(self, header: RunHeader, overlay: bool = True) -> None:
        """Args: overlay: whether pairs are drawn in."""
        self.size_px = header.width_px, header.height_px
        self._annotator = Annotator(header.vocabulary, header.notice, header.model) if overlay else None

    def paint(self, result: FrameResult) -> NDArray[np.uint8]:
        """(H, W, 3) of the size the run began with."""
        frame, pairs = result.frame, result.pairs
        if (frame.width_px, frame.height_px) != self.size_px:
            fit = letterbox(frame.width_px, frame.height_px, *self.size_px)
            frame, pairs = fit.frame(frame, *self.size_px), fit.pairs(pairs)
        return frame.rgb if self._annotator is None else self._annotator.draw(frame, pairs)

"""A picture into the inputs of the graph: the runtime's own preprocessing, inside Triton Inference Server.

`hoiclip export --triton-repo` copies this file; the server's Python needs `pip install hoiclip`, and no torch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoiclip_engine import sidecar
from hoiclip_engine.preprocess import canvas_for, preprocess
from hoiclip_engine.triton_repo.serving import Arrays, answers, sidecar_of
from hoiclip_engine.triton_repo.tensors import ENCODED, IMAGE, PICTURE_HW
from hoiclip_engine.video.encoded_picture import decoded
from hoiclip_engine.video.picture import check_size
from hoiclip_engine.video.source_config import SourceConfig


class TritonPythonModel:
    """Takes one picture, raw or encoded."""

    def initialize(self, args: dict[str, str]) -> None:
        said = sidecar_of(args)
        self._config = sidecar.preprocess_config(said)
        self._stride_px = int(said["preprocessing"]["images"]["stride_px"])
        self._max_pixels = SourceConfig().max_pixels

    def execute(self, requests: list[Any]) -> list[Any]:
        return answers(requests, self._inputs)

    def _inputs(self, sent: Arrays) -> Arrays:
        rgb = self._picture(sent)
        height, width = rgb.shape[:2]
        canvas_hw = self._config.canvas_hw or canvas_for(height, width, self._config, self._stride_px)
        made = preprocess(rgb, replace(self._config, canvas_hw=canvas_hw))
        return {**made.arrays(), PICTURE_HW: np.array([height, width], np.int64)}

    def _picture(self, sent: Arrays) -> NDArray[np.uint8]:
        """(H, W, 3)"""
        if (IMAGE in sent) == (ENCODED in sent):
            raise ValueError(f"expected one of {IMAGE} and {ENCODED}, got {'both' if sent else 'neither'}")
        if ENCODED in sent:
            return decoded(sent[ENCODED].tobytes(), self._max_pixels)
        rgb = sent[IMAGE]
        if 0 in rgb.shape:
            raise ValueError(f"expected an RGB picture (H, W, 3) uint8, got {rgb.shape}")
        check_size(rgb.shape[1], rgb.shape[0], self._max_pixels)
        return rgb

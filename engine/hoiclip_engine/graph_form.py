"""What an exported graph is made of: which part of the model, for which sizes, with which operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hoiclip.errors import UsageError
from hoiclip.model.config import ModelConfig

Part = Literal["whole", "detector", "clip", "interaction"]
DETECTED = ("object_logits", "human_boxes_cxcywh", "object_boxes_cxcywh")
INPUTS: dict[Part, tuple[str, ...]] = {
    "whole": ("images", "padding", "clip_images"),
    "detector": ("images", "padding"),
    "clip": ("clip_images",),
    "interaction": ("pairs", "memory", "hidden_cells", "clip_tokens"),
}
OUTPUTS: dict[Part, tuple[str, ...]] = {
    "whole": ("hoi_logits", *DETECTED, "clip_cls"),
    "detector": ("pairs", "memory", "hidden_cells", *DETECTED),
    "clip": ("clip_tokens", "clip_cls"),
    "interaction": ("hoi_logits",),
}
"""The parts one after the other give what the whole gives; split, CLIP may look less often than the detector."""
METHODS: dict[Part, str] = {"whole": "forward", "detector": "detect", "clip": "view", "interaction": "interact"}
"""Of hoiclip.model.HOICLIP."""
OPSETS = (19, 20)
GRAPH_VERSION = 4
"""Raise it when the exported graph changes for the same model file."""
SMALLEST_CELLS = 2
"""Cells a side has at least: of one alone the exporter cannot tell a size from a constant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphForm:
    """One graph."""

    part: Part = "whole"
    attention: Literal["plain", "plugin"] = "plain"
    """Plain operators, or the node of the TensorRT plugin for the interaction decoder's attention."""
    memory: Literal["projected", "absorbed"] = "projected"
    """How the interaction decoder looks at the detector's memory; equal up to rounding (docs/kernels.md)."""
    opset: int = 20
    batch: int | None = 1
    """None: any, from the second on."""
    canvas_hw: tuple[int, int] | None = None
    """None: any multiple of the stride, from two cells a side on."""

    def require_fit(self, config: ModelConfig) -> None:
        """Raises UsageError: the model cannot have this canvas, batch or opset."""
        if self.opset not in OPSETS:
            raise UsageError(f"expected opset {' or '.join(map(str, OPSETS))}, got {self.opset}")
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"expected a batch of at least 1, got {self.batch}")
        stride = config.stride_px
        if self.canvas_hw is not None and any(s % stride or s < SMALLEST_CELLS * stride for s in self.canvas_hw):
            height, width = self.canvas_hw
            least = SMALLEST_CELLS * stride
            raise UsageError(f"expected sides in steps of {stride} px, at least {least}, got {width}x{height}")

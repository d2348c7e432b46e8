"""Raw output of a compiled model, before any rule of scoring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoiclip.core.array_types import F32
from hoiclip.core.errors import ModelError

_FIELDS = ("hoi_logits", "object_logits", "human_boxes_cxcywh", "object_boxes_cxcywh", "clip_cls")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawOutput:
    """Logits, boxes and the CLIP embedding of B images. Human query i and object query i are pair i."""

    hoi_logits: F32
    """(B, Q, K) one per HOI class."""
    object_logits: F32
    """(B, Q, O + 1), the last one "nothing"."""
    human_boxes_cxcywh: F32
    """(B, Q, 4) in 0..1 of the image without padding."""
    object_boxes_cxcywh: F32
    """(B, Q, 4) likewise."""
    clip_cls: F32
    """(B, E) global CLIP embedding, not normalised (row 0 of clip_visual)."""

    def __post_init__(self) -> None:
        found = {
            "hoi_logits": self.hoi_logits.shape,
            "object_logits": self.object_logits.shape,
            "human_boxes_cxcywh": self.human_boxes_cxcywh.shape,
            "object_boxes_cxcywh": self.object_boxes_cxcywh.shape,
            "clip_cls": self.clip_cls.shape,
        }
        if self.hoi_logits.ndim != 3 or self.object_logits.ndim != 3 or self.clip_cls.ndim != 2:
            raise ValueError(f"expected (B, Q, K), (B, Q, O + 1), twice (B, Q, 4) and (B, E), got {found}")
        b, q, _ = self.hoi_logits.shape
        boxes_fit = self.human_boxes_cxcywh.shape == self.object_boxes_cxcywh.shape == (b, q, 4)
        if not boxes_fit or self.object_logits.shape[:2] != (b, q) or self.clip_cls.shape[0] != b:
            raise ValueError(f"expected the same B and Q everywhere and boxes of 4, got {found}")

    def __len__(self) -> int:
        return int(self.hoi_logits.shape[0])

    def require_finite(self) -> RawOutput:
        """Itself.

        Raises:
            ModelError: a number is NaN or infinite, which would otherwise end as an empty result.
        """
        for name in _FIELDS:
            if not np.isfinite(getattr(self, name)).all():
                raise ModelError(
                    f"expected numbers, the model gives {name} that are NaN or infinite; "
                    "check it: hoiclip models verify MODEL, or take --precision fp32"
                )
        return self

    def image(self, index: int) -> RawOutput:
        """Image `index` alone, as a batch of one; views, nothing is copied."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of a batch of {len(self)}")
        row = slice(index, index + 1)
        return RawOutput(
            hoi_logits=self.hoi_logits[row],
            object_logits=self.object_logits[row],
            human_boxes_cxcywh=self.human_boxes_cxcywh[row],
            object_boxes_cxcywh=self.object_boxes_cxcywh[row],
            clip_cls=self.clip_cls[row],
        )

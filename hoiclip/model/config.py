"""Sizes of a HOICLIP model. Everything that changes a tensor's shape or a prediction is here, nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from hoiclip.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Defaults are the official HICO-DET model: ResNet-50, CLIP ViT-B/32."""

    num_object_classes: int = 80
    """Object logits are one more: the last is "nothing"."""
    num_verbs: int = 117
    num_hois: int = 600

    short_side_px: int = 800
    """The resize rule of SPEC.md §1 the model was trained for."""
    max_side_px: int = 1333

    backbone_depths: tuple[int, int, int, int] = (3, 4, 6, 3)
    backbone_width: int = 64
    """Channels of the stem; stage k gives 4 · width · 2^k."""

    hidden: int = 256
    heads: int = 8
    feedforward: int = 2048
    encoder_layers: int = 6
    instance_layers: int = 3
    queries: int = 64
    """Pair slots; there are as many human and as many object queries."""

    clip_image_px: int = 224
    clip_patch_px: int = 32
    clip_width: int = 768
    clip_layers: int = 12
    clip_heads: int = 12
    clip_embed: int = 512
    """Width of the space shared by CLIP's images and texts."""

    interaction_layers: int = 3
    interaction_heads: int = 8
    interaction_feedforward: int = 2048
    verb_weight: float = 0.5
    """How much the verb branch adds to an HOI logit."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if field.name != "verb_weight" and not all(isinstance(n, int) and n > 0 for n in numbers):
                raise ModelError(f"{field.name} must be a positive integer, got {value!r}")
        if len(self.backbone_depths) != 4:
            raise ModelError(f"backbone_depths needs four stages, got {len(self.backbone_depths)}")
        if self.hidden % 4:
            raise ModelError(f"hidden must be a multiple of 4 for the position encoding, got {self.hidden}")
        for name, width, heads in (
            ("heads", self.hidden, self.heads),
            ("clip_heads", self.clip_width, self.clip_heads),
            ("interaction_heads", self.clip_width, self.interaction_heads),
        ):
            if width % heads:
                raise ModelError(f"{name} must divide the width {width}, got {heads}")
        if self.clip_image_px % self.clip_patch_px:
            raise ModelError(f"clip_patch_px must divide {self.clip_image_px}, got {self.clip_patch_px}")

    @property
    def backbone_channels(self) -> int:
        """Channels of the last stage."""
        return self.backbone_width * 32

    @property
    def clip_tokens(self) -> int:
        """Patches plus the class token."""
        return (self.clip_image_px // self.clip_patch_px) ** 2 + 1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> ModelConfig:
        """Inverse of to_dict.

        Raises:
            ModelError: a name is unknown or a value makes no sense.
        """
        known = {field.name for field in fields(ModelConfig)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ModelError(f"model config has unknown fields {unknown}; was it written by a newer version?")
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        return ModelConfig(**values)

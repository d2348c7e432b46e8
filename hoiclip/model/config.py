"""Sizes and settings of a HOICLIP model: everything that changes a tensor's shape or a prediction, nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from hoiclip.core.errors import ModelError

MAX_SIZE = 65_536
MAX_LAYERS = 256
MAX_SIDE_PX = 8192
"""A config comes out of a file: sizes beyond these are damage or malice, and would take hours to build."""
_TUPLES = ("backbone_depths", "backbone_widths", "clip_stem")
_NO_SIZES = ("verb_weight", "backbone_block", "backbone_stem", "placed_tokens", "fine_memory", "clip_memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Defaults are the official HICO-DET model: ResNet-50, CLIP ViT-B/32."""

    num_object_classes: int = 80
    """Object logits are one more: the last is "nothing"."""
    num_verbs: int = 117
    num_hois: int = 600

    short_side_px: int = 800
    """The resize rule (docs/model.md, Inputs) the model was trained with."""
    max_side_px: int = 1333

    backbone_depths: tuple[int, int, int, int] = (3, 4, 6, 3)
    """Blocks of each stage."""
    backbone_widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    """Inner channels of each stage; bottleneck stages give four times as many."""
    backbone_block: Literal["bottleneck", "basic"] = "bottleneck"
    backbone_stem: Literal["resnet", "light"] = "resnet"
    """7x7 and pooling, stride 4; or one 3x3, stride 2, for small images. Stages 1 to 3 halve the size again."""

    hidden: int = 256
    heads: int = 8
    feedforward: int = 2048
    encoder_layers: int = 6
    fine_memory: bool = False
    """Whether the decoders attend to cells of half the side, for small objects: the encoder's, enlarged, plus those of
    the third stage."""
    instance_layers: int = 3
    queries: int = 64
    """Pair slots; there are as many human and as many object queries."""
    placed_tokens: bool = False
    """Whether a projected position is added to the encoder's input, besides the one added to its queries and keys."""

    clip_image_px: int = 224
    clip_patch_px: int = 32
    clip_stem: tuple[int, ...] = ()
    """Channels of 3x3 convolutions, each of stride 2, before the patches; small CLIPs learn faster with some."""
    clip_width: int = 768
    clip_layers: int = 12
    clip_heads: int = 12
    clip_embed: int = 512
    """Width of the space shared by CLIP's images and texts."""

    interaction_layers: int = 3
    interaction_heads: int = 8
    interaction_feedforward: int = 2048
    verb_weight: float = 0.5
    """Weight of the verb branch in an HOI logit."""
    clip_memory: bool = True
    """Whether the interaction decoder attends to CLIP's tokens besides the detector's memory."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _TUPLES and not isinstance(value, tuple):
                raise ModelError(f"{field.name} must be a list of integers, got {value!r}")
            numbers = value if field.name in _TUPLES else (value,)
            if field.name not in _NO_SIZES and not all(type(n) is int and 0 < n <= MAX_SIZE for n in numbers):
                raise ModelError(f"{field.name} must be an integer from 1 to {MAX_SIZE}, got {value!r}")
        if max(self.short_side_px, self.max_side_px) > MAX_SIDE_PX:
            raise ModelError(
                f"short_side_px and max_side_px must be at most {MAX_SIDE_PX}, got {self.short_side_px} and "
                f"{self.max_side_px}"
            )
        if not isinstance(self.verb_weight, (int, float)) or not 0 <= self.verb_weight <= MAX_SIZE:
            raise ModelError(f"verb_weight must be a number of at least 0, got {self.verb_weight!r}")
        for name in ("placed_tokens", "fine_memory", "clip_memory"):
            if not isinstance(getattr(self, name), bool):
                raise ModelError(f"{name} must be true or false, got {getattr(self, name)!r}")
        if sum(self.backbone_depths) + self.encoder_layers + self.clip_layers > MAX_LAYERS:
            raise ModelError(f"backbone, encoder and CLIP may have {MAX_LAYERS} layers together")
        if self.instance_layers + self.interaction_layers > MAX_LAYERS:
            raise ModelError(f"instance and interaction decoder may have {MAX_LAYERS} layers together")
        if len(self.backbone_depths) != 4 or len(self.backbone_widths) != 4:
            raise ModelError("backbone_depths and backbone_widths need four stages each")
        for name, known in (("backbone_block", ("bottleneck", "basic")), ("backbone_stem", ("resnet", "light"))):
            if getattr(self, name) not in known:
                raise ModelError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.hidden % 4:
            raise ModelError(f"hidden must be a multiple of 4 for the position encoding, got {self.hidden}")
        for name, width, heads in (
            ("heads", self.hidden, self.heads),
            ("clip_heads", self.clip_width, self.clip_heads),
            ("interaction_heads", self.clip_width, self.interaction_heads),
        ):
            if width % heads:
                raise ModelError(f"{name} must divide the width {width}, got {heads}")
        if self.clip_image_px % self.clip_patch_px or self.clip_patch_px % 2 ** len(self.clip_stem):
            raise ModelError(
                f"clip_patch_px must divide {self.clip_image_px} and be divisible by {2 ** len(self.clip_stem)}, "
                f"got {self.clip_patch_px}"
            )

    @property
    def backbone_channels(self) -> int:
        """Channels of the last stage."""
        return self.backbone_widths[-1] * (4 if self.backbone_block == "bottleneck" else 1)

    @property
    def backbone_lateral_channels(self) -> int:
        """Channels of the stage before the last."""
        return self.backbone_widths[-2] * (4 if self.backbone_block == "bottleneck" else 1)

    @property
    def stride_px(self) -> int:
        """Side of one cell of the encoder's feature map; padded sizes are multiples of it."""
        return 32 if self.backbone_stem == "resnet" else 16

    @property
    def memory_stride_px(self) -> int:
        """Side of one cell of the memory that the decoders attend to."""
        return self.stride_px // 2 if self.fine_memory else self.stride_px

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

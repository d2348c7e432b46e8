"""HOICLIP: detector, CLIP image tower, and the decoder that combines them (docs/model.md)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoiclip.model.backbone import Backbone
from hoiclip.model.clip_image import ClipImageTower
from hoiclip.model.config import ModelConfig
from hoiclip.model.encoder import Encoder
from hoiclip.model.heads import Heads
from hoiclip.model.instance_decoder import InstanceDecoder
from hoiclip.model.interaction_decoder import InteractionDecoder
from hoiclip.model.position import sine_encoding


class Prediction(NamedTuple):
    """Outputs of one inference, as engines return them."""

    hoi_logits: Tensor
    """(B, Q, K)"""
    object_logits: Tensor
    """(B, Q, O + 1)"""
    human_boxes_cxcywh: Tensor
    """(B, Q, 4) relative to the unpadded image."""
    object_boxes_cxcywh: Tensor
    """(B, Q, 4)"""
    clip_cls: Tensor
    """(B, E) CLIP's embedding of the whole image, not normalised."""


class LayerOutputs(NamedTuple):
    """All decoder layers, L of them, the last is the prediction; for losses and parity."""

    hoi_logits: Tensor
    """(L, B, Q, K)"""
    object_logits: Tensor
    """(L, B, Q, O + 1)"""
    human_boxes_cxcywh: Tensor
    object_boxes_cxcywh: Tensor
    clip_visual: Tensor
    """(B, T, E) all CLIP tokens in the shared space; row 0 is the image's embedding."""
    clip_logits: Tensor
    """(B, K) cosine of the image with each HOI text embedding."""
    hoi_feature: Tensor
    """(B, Q, E) unit rows of the last layer."""


class EncodedImages(NamedTuple):
    """Encoded images, before any query."""

    memory: Tensor
    """(B, N, D) the encoder's cells, row by row."""
    position: Tensor
    """(B, N, D)"""
    cells: Tensor
    """(B, N) True on padding."""
    hidden_cells: Tensor | None
    """Cells that the interaction decoder must not attend to; None where, as officially, it attends to padding too."""
    clip_tokens: Tensor
    """(B, T, clip width)"""


class Detected(NamedTuple):
    """Outputs of the detector: its predictions, and the inputs of the interaction decoder."""

    pairs: Tensor
    """(B, Q, clip width) queries of the interaction decoder."""
    memory: Tensor
    """(B, N, clip width) its memory."""
    hidden_cells: Tensor
    """(B, N) True where it must not attend."""
    object_logits: Tensor
    human_boxes_cxcywh: Tensor
    object_boxes_cxcywh: Tensor


class HOICLIP(nn.Module):
    """Detector image (B, 3, H, W), its padding mask and the CLIP image to pairs with verbs.

    Padding never changes a prediction. `mask_memory=False` restores the official behaviour in padded batches, where
    convolutions and interaction decoder see the padding.
    """

    hoi_rows: Tensor
    object_rows: Tensor
    verb_rows: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.backbone = Backbone(c)
        self.input_projection = nn.Conv2d(c.backbone_channels, c.hidden, 1)
        self.position_projection = nn.Linear(c.hidden, c.hidden) if c.placed_tokens else None
        self.fine_projection = nn.Conv2d(c.backbone_lateral_channels, c.hidden, 1) if c.fine_memory else None
        self.encoder = Encoder(c.encoder_layers, c.hidden, c.heads, c.feedforward)
        self.instance_decoder = InstanceDecoder(c.instance_layers, c.hidden, c.heads, c.feedforward, c.queries)
        self.clip = ClipImageTower(c)
        self.memory_projection = nn.Linear(c.hidden, c.clip_width)
        self.memory_norm = nn.LayerNorm(c.clip_width)
        self.query_projection = nn.Linear(c.hidden, c.clip_width)
        self.query_norm = nn.LayerNorm(c.clip_width)
        self.interaction_decoder = InteractionDecoder(
            c.interaction_layers, c.clip_width, c.interaction_heads, c.interaction_feedforward
        )
        self.heads = Heads(c)
        # Text embeddings: unit length, made once by CLIP's text tower; the runtime needs no text tower.
        self.register_buffer("hoi_rows", torch.zeros(c.num_hois, c.clip_embed))
        self.register_buffer("object_rows", torch.zeros(c.num_object_classes + 1, c.clip_embed))
        self.register_buffer("verb_rows", torch.zeros(c.num_verbs, c.clip_embed))

    def forward(self, images: Tensor, padding: Tensor, clip_images: Tensor) -> Prediction:
        """Predictions of a batch.

        Args:
            images: (B, 3, H, W) normalised, zero on padding.
            padding: (B, H, W) bool, True on padding.
            clip_images: (B, 3, S, S) normalised.
        """
        detected = self.detect(images, padding)
        clip_tokens, clip_cls = self.view(clip_images)
        hoi_logits = self.interact(detected.pairs, detected.memory, detected.hidden_cells, clip_tokens)
        return Prediction(hoi_logits, *detected[3:], clip_cls)

    def detect(self, images: Tensor, padding: Tensor) -> Detected:
        """The detector's part of forward."""
        memory, position, cells = self.encode(images, padding)
        instances = self.instance_decoder.last(memory, position, cells, self.instance_decoder.queries())
        return Detected(
            *self.interaction_inputs(instances, memory),
            cells,
            self.heads.object_logits(instances),
            *self.heads.boxes(instances),
        )

    def view(self, clip_images: Tensor) -> tuple[Tensor, Tensor]:
        """CLIP's part of forward: tokens (B, T, clip width), and the image's embedding (B, E)."""
        tokens = self.clip(clip_images)
        return tokens, self.clip.embed(tokens[:, 0])

    def interact(self, pairs: Tensor, memory: Tensor, hidden_cells: Tensor, clip_tokens: Tensor) -> Tensor:
        """The rest of forward: HOI logits (B, Q, K)."""
        t = self.interaction_decoder.last(pairs, self._clip_memory(clip_tokens), memory, hidden_cells)
        return self.heads.hoi_logits(self.clip.embed(t))

    def all_layers(
        self, images: Tensor, padding: Tensor, clip_images: Tensor, *, mask_memory: bool = True
    ) -> LayerOutputs:
        """Like forward, for every decoder layer."""
        encoded = self.encode_images(images, padding, clip_images, mask_memory=mask_memory)
        return self.outputs(*self.decode(encoded), encoded.clip_tokens)

    def encode_images(
        self, images: Tensor, padding: Tensor | None, clip_images: Tensor, *, mask_memory: bool = True
    ) -> EncodedImages:
        """Detector memory and CLIP tokens, which do not depend on queries.

        Args:
            padding: None where no image is padded: the same result, faster.
        """
        memory, position, cells = self.encode(images, padding, mask_memory=mask_memory)
        return EncodedImages(memory, position, cells, cells if mask_memory else None, self.clip(clip_images))

    def encode(
        self, images: Tensor, padding: Tensor | None, *, mask_memory: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Memory (B, N, D), positions (B, N, D) and padding (B, N) of the cells; see encode_images."""
        valid = (~padding).to(images.dtype)[:, None] if mask_memory and padding is not None else None
        features, valid, fine_features, fine_valid = self.backbone(images, valid)
        cells = _padded_cells(features, valid, padding)
        position = sine_encoding(cells, self.config.hidden).to(features.dtype)
        tokens = self.input_projection(features).flatten(2).transpose(1, 2)
        if self.position_projection is not None:
            tokens = tokens + self.position_projection(position)
        memory = self.encoder(tokens, position, cells.flatten(1))
        if self.fine_projection is None:
            return memory, position, cells.flatten(1)
        cells = _padded_cells(fine_features, fine_valid, padding)
        # Nearest neighbour, so that a cell depends on the coarse cell around it, however much padding there is.
        coarse = memory.transpose(1, 2).unflatten(2, features.shape[-2:])
        enlarged = F.interpolate(coarse, size=fine_features.shape[-2:])
        memory = (enlarged + self.fine_projection(fine_features)).flatten(2).transpose(1, 2)
        position = sine_encoding(cells, self.config.hidden).to(features.dtype)
        return memory, position, cells.flatten(1)

    def decode(self, encoded: EncodedImages, queries: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Instances (L, B, 2Q, D) and interactions (L, B, Q, clip width).

        Args:
            queries: (2Q, D) or groups (G, 2Q, D) instead of the learned ones; of groups, instances are
                (L, B, G, 2Q, D) and interactions (L, B, G, Q, clip width).
        """
        if queries is None:
            queries = self.instance_decoder.queries()
        instances = self.instance_decoder(encoded.memory, encoded.position, encoded.cells, queries)
        pairs, memory = self.interaction_inputs(instances[-1], encoded.memory)
        tokens = self._clip_memory(encoded.clip_tokens)
        return instances, self.interaction_decoder(pairs, tokens, memory, encoded.hidden_cells)

    def interaction_inputs(self, instances: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs (B, Q, clip width) and memory (B, N, clip width), as the interaction decoder takes them.

        Args:
            instances: (B, 2Q, D) of the last layer.
            memory: (B, N, D) the encoder's.
        """
        humans, objects = instances.chunk(2, dim=-2)
        pairs = self.query_norm(self.query_projection((humans + objects) / 2))
        return pairs, self.memory_norm(self.memory_projection(memory))

    def _clip_memory(self, clip_tokens: Tensor) -> Tensor | None:
        """CLIP tokens for the interaction decoder; None in models that do not use them."""
        return clip_tokens if self.config.clip_memory else None

    def outputs(self, instances: Tensor, interactions: Tensor, clip_tokens: Tensor) -> LayerOutputs:
        """All heads on all layers."""
        z = self.clip.embed(interactions)
        humans, objects = self.heads.boxes(instances)
        clip_visual = self.clip.embed(clip_tokens)
        return LayerOutputs(
            hoi_logits=self.heads.hoi_logits(z),
            object_logits=self.heads.object_logits(instances),
            human_boxes_cxcywh=humans,
            object_boxes_cxcywh=objects,
            clip_visual=clip_visual,
            clip_logits=F.normalize(clip_visual[:, 0], dim=-1) @ self.hoi_rows.T,
            hoi_feature=F.normalize(z[-1], dim=-1),
        )


def _padded_cells(features: Tensor, valid: Tensor | None, padding: Tensor | None) -> Tensor:
    """(B, h, w) True on padding."""
    if valid is not None:
        return valid[:, 0] < 0.5
    if padding is not None:
        return F.interpolate(padding[None].float(), size=features.shape[-2:])[0].bool()
    return features.new_zeros((len(features), *features.shape[-2:]), dtype=torch.bool)


class MethodModule(nn.Module):
    """One of HOICLIP's methods (forward, detect, view or interact) as a module, to export or compile it by itself."""

    def __init__(self, model: HOICLIP, method: str) -> None:
        super().__init__()
        self.model = model
        self.method = method

    def forward(self, *inputs: Tensor) -> Any:
        return getattr(self.model, self.method)(*inputs)

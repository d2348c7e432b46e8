"""A small CLIP from scratch, with open_clip's tokenizer and text transformer.

Besides the contrastive loss every patch says what lies on it: from scratch and on few pictures, the contrastive loss
alone stays on a plateau.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoiclip.model.clip_image import ClipImageTower
from hoiclip.model.config import ModelConfig
from hoiclip.text import open_clip_module, tokenize

MAX_LOG_SCALE = math.log(100)


class Caption(NamedTuple):
    """What is said of a picture, and what could be."""

    text: str
    told: frozenset[int]
    """HOI numbers that the text tells."""
    true: frozenset[int]
    """HOI numbers that the picture shows; at least those told."""


class ClipSample(NamedTuple):
    """A crop or a whole scene with its caption."""

    image: Tensor
    """(3, S, S) float32, normalised."""
    caption: Caption
    things: Tensor
    """(patches, patches) int64 object class under each patch; the last class is nothing."""


class SmallText(nn.Module):
    """open_clip's text transformer over the few tokens in use: 49,408 embeddings would be most of a small model."""

    used: Tensor

    def __init__(self, texts: Sequence[str], embed: int, *, width: int = 128, layers: int = 3, heads: int = 4) -> None:
        """texts: everything it will ever be asked to encode, or at least all of its words."""
        super().__init__()
        tokens = tokenize(texts)
        self.context = int(tokens.argmax(dim=1).max()) + 1
        self.register_buffer("used", tokens[:, : self.context].unique())
        transformer = open_clip_module().transformer
        self.tower: nn.Module = transformer.TextTransformer(
            context_length=self.context,
            vocab_size=len(self.used),
            width=width,
            heads=heads,
            layers=layers,
            output_dim=embed,
            act_layer=transformer.QuickGELU,
        )
        # CLIP's own deviation of 0.02 is for batches of 32,768; from it, small batches see equal texts for very long.
        nn.init.normal_(_embedding(self.tower), std=0.1)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """(n, E), not normalised.

        Raises:
            ValueError: a text has a word that was not among those of the start.
        """
        tokens = tokenize(texts)[:, : self.context].contiguous().to(self.used.device)
        places = torch.searchsorted(self.used, tokens).clamp(max=len(self.used) - 1)
        if not torch.equal(self.used[places], tokens):
            raise ValueError("a text has words this tower has never seen")
        rows: Tensor = self.tower(places)
        return rows


def _embedding(tower: nn.Module) -> Tensor:
    weights: Any = tower.token_embedding
    tensor: Tensor = weights.weight
    return tensor


class SmallClip(nn.Module):
    """Both towers and what trains them."""

    def __init__(self, config: ModelConfig, texts: Sequence[str]) -> None:
        super().__init__()
        self.image = ClipImageTower(config)
        self.text = SmallText(texts, config.clip_embed)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.things = nn.Linear(config.clip_width, config.num_object_classes + 1)

    def losses(
        self, images: Tensor, texts: Sequence[str], own: Tensor, also_true: Tensor, things: Tensor
    ) -> dict[str, Tensor]:
        """Scalars by name.

        Args:
            images: (B, 3, S, S).
            texts: T different ones.
            own: (B,) int64, which text is a picture's caption.
            also_true: (B, T) bool, texts that are true of a picture and not its caption: neither right nor wrong.
            things: (B, patches, patches).
        """
        tokens = self.image(images)
        image = F.normalize(self.image.embed(tokens[:, 0]).float(), dim=-1)
        text = F.normalize(self.text(texts).float(), dim=-1)
        logits = self.log_scale.clamp(max=MAX_LOG_SCALE).exp() * image @ text.T
        logits = logits.masked_fill(also_true, -1e4)  # finite: its product with a zero share below must be zero
        # Towards the pictures, every picture of a text counts alike.
        of_text = F.one_hot(own, len(texts)).float()
        shared = of_text / of_text.sum(0).clamp(min=1)
        to_images = -(logits.log_softmax(dim=0) * shared).sum(0)[of_text.any(0)].mean()
        dense = self.things(tokens[:, 1:].float())
        return {
            "to_texts": F.cross_entropy(logits, own),
            "to_images": to_images,
            "things": F.cross_entropy(dense.flatten(0, 1), things.flatten()),
        }

    @torch.no_grad()
    def rows(self, texts: Sequence[str]) -> Tensor:
        """Unit text rows (n, E)."""
        return F.normalize(self.text(texts).float(), dim=-1)

    @torch.no_grad()
    def found_among(self, images: Tensor, own: Tensor, rows: Tensor, best: int) -> float:
        """Share of pictures whose own row is among the `best` nearest."""
        image = F.normalize(self.image.embed(self.image(images)[:, 0]).float(), dim=-1)
        nearest = (image @ rows.T).topk(best, dim=1).indices
        return float((nearest == own[:, None]).any(1).float().mean())

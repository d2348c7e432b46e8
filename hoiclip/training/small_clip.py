"""A small CLIP from scratch, with open_clip's tokenizer and text transformer.

Besides the contrastive loss every patch predicts the object on it: from scratch and on few images, the contrastive
loss alone stays on a plateau.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoiclip.checkpoint.text_embeddings import open_clip_module, tokenize
from hoiclip.model.clip_image import ClipImageTower
from hoiclip.model.config import ModelConfig

MAX_LOG_SCALE = math.log(100)


class Caption(NamedTuple):
    """A text of an image, the HOIs it mentions, and those the image shows."""

    text: str
    mentioned: frozenset[int]
    """HOI classes that the text mentions."""
    shown: frozenset[int]
    """HOI classes that the image shows; at least those mentioned."""


class ClipSample(NamedTuple):
    """A crop or a whole scene with its caption."""

    image: Tensor
    """(3, S, S) float32, normalised."""
    caption: Caption
    patch_labels: Tensor
    """(patches, patches) int64 object class under each patch; the last class is nothing."""


class SmallText(nn.Module):
    """open_clip's text transformer over the few tokens in use: 49,408 embeddings would be most of a small model."""

    used: Tensor

    def __init__(self, texts: Sequence[str], embed: int, *, width: int = 128, layers: int = 3, heads: int = 4) -> None:
        """texts: all texts to encode ever, or texts that have all of their words."""
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
        # CLIP's deviation of 0.02 is for batches of 32,768; with small ones texts would stay nearly equal for long.
        nn.init.normal_(_embedding(self.tower), std=0.1)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """(n, E), not normalised.

        Raises:
            ValueError: a text has a word that the texts of __init__ have not.
        """
        tokens = tokenize(texts)[:, : self.context].contiguous().to(self.used.device)
        places = torch.searchsorted(self.used, tokens).clamp(max=len(self.used) - 1)
        if not torch.equal(self.used[places], tokens):
            raise ValueError("a text has words that are not in the vocabulary of this tower")
        text_embeddings: Tensor = self.tower(places)
        return text_embeddings


def _embedding(tower: nn.Module) -> Tensor:
    weights: Any = tower.token_embedding
    tensor: Tensor = weights.weight
    return tensor


class SmallClip(nn.Module):
    """Both towers, the logit scale and the auxiliary head of training."""

    def __init__(self, config: ModelConfig, texts: Sequence[str]) -> None:
        super().__init__()
        self.image = ClipImageTower(config)
        self.text = SmallText(texts, config.clip_embed)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.object_head = nn.Linear(config.clip_width, config.num_object_classes + 1)

    def losses(
        self, images: Tensor, texts: Sequence[str], own: Tensor, also_shown: Tensor, patch_labels: Tensor
    ) -> dict[str, Tensor]:
        """Scalars by name.

        Args:
            images: (B, 3, S, S).
            texts: T different ones.
            own: (B,) int64, index of an image's caption among the texts.
            also_shown: (B, T) bool, texts that are true of an image but not its caption: excluded from the loss.
            patch_labels: (B, patches, patches).
        """
        tokens = self.image(images)
        image = F.normalize(self.image.embed(tokens[:, 0]).float(), dim=-1)
        text = F.normalize(self.text(texts).float(), dim=-1)
        logits = self.log_scale.clamp(max=MAX_LOG_SCALE).exp() * image @ text.T
        logits = logits.masked_fill(also_shown, -1e4)  # finite: its product with a zero weight below must be zero
        # Towards the images, every image of a text has the same weight.
        of_text = F.one_hot(own, len(texts)).float()
        weight = of_text / of_text.sum(0).clamp(min=1)
        to_images = -(logits.log_softmax(dim=0) * weight).sum(0)[of_text.any(0)].mean()
        dense = self.object_head(tokens[:, 1:].float())
        return {
            "to_texts": F.cross_entropy(logits, own),
            "to_images": to_images,
            "things": F.cross_entropy(dense.flatten(0, 1), patch_labels.flatten()),
        }

    @torch.no_grad()
    def text_embeddings(self, texts: Sequence[str]) -> Tensor:
        """Unit text embeddings (n, E)."""
        return F.normalize(self.text(texts).float(), dim=-1)

    @torch.no_grad()
    def top_k_accuracy(self, images: Tensor, own: Tensor, text_embeddings: Tensor, k: int) -> float:
        """Fraction of images whose own text embedding is among the `k` nearest."""
        image = F.normalize(self.image.embed(self.image(images)[:, 0]).float(), dim=-1)
        nearest = (image @ text_embeddings.T).topk(k, dim=1).indices
        return float((nearest == own[:, None]).any(1).float().mean())

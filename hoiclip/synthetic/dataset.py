"""The synthetic world behind the dataset interface of hoiclip.data.dataset."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.images import EvaluationSet
from hoiclip.data.samples import Sample, SampleConfig, make_sample
from hoiclip.synthetic.fixed_sets import synthetic_set
from hoiclip.synthetic.splits import synthetic_split
from hoiclip.synthetic.vocabulary import synthetic_vocabulary
from hoiclip.synthetic.world import SyntheticWorld, WorldConfig

NOTICE = "this model knows synthetic scenes only; what it says of photographs means nothing"
EXAMPLES = 3000
"""Scenes whose pairs make the verb embeddings."""


class SyntheticDataset:
    """Scenes of a world, drawn on request; the fixed validation set for evaluation."""

    notice = NOTICE

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self.unseen_hois = synthetic_split(config.split).unseen_hois

    def samples(self, config: SampleConfig) -> SyntheticSamples:
        """A new scene for every number, or the scenes of the config's fraction again and again."""
        return SyntheticSamples(self.config, config)

    def examples(self) -> Iterator[tuple[Image.Image, ImageAnnotation]]:
        """The first scenes."""
        world = SyntheticWorld(self.config)
        for number in range(EXAMPLES):
            image = world.image(number)
            yield Image.fromarray(image.rgb), image.annotation

    def evaluation_set(self) -> EvaluationSet:
        return synthetic_set("validation")


class SyntheticSamples:
    """HOICLIP's training images, drawn at the model's own size: only the CLIP image is resized."""

    def __init__(self, world: WorldConfig, config: SampleConfig) -> None:
        if min(world.width_px, world.height_px) != config.short_side_px:
            raise ValueError(
                f"scenes must be drawn with the model's short side of {config.short_side_px} px, "
                f"got {world.width_px}x{world.height_px}"
            )
        self._world = SyntheticWorld(world)
        self._vocabulary = synthetic_vocabulary()
        # Every pair of a scene, not only as many as the model has queries: there are never more than a few.
        self._config = SampleConfig(
            short_side_px=config.short_side_px, max_side_px=config.max_side_px, clip_side_px=config.clip_side_px
        )

    def __getitem__(self, number: int) -> Sample:
        image = self._world.image(number)
        rng = np.random.default_rng(0)  # nothing is augmented: no scene comes twice
        return make_sample(Image.fromarray(image.rgb), image.annotation, self._vocabulary, self._config, rng)

"""The stages around the model on one core: python -m benchmarks.stages.

Post-processing, preprocessing, and tracking; absolute times of one machine, by stage of a frame.
"""

from __future__ import annotations

import cv2
import numpy as np

from benchmarks.harness import append, provenance, side_by_side, statistics
from hoiclip.core.postprocess import PostprocessConfig, Postprocessor
from hoiclip.core.preprocess import PreprocessConfig, padded_size_for, preprocess
from hoiclip.core.raw_output import RawOutput
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip_engine.track.entities import EntityTracker
from hoiclip_engine.track.pair_tracker import PairTracker
from tests.golden.rule import PUBLIC_SALT, golden_photo

ROUNDS = 200


def random_output(seed: int = 0) -> RawOutput:
    """64 queries over HICO's 600 classes, spread like a trained model's: few classes stand out."""
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0.2, 0.6, (2, 1, 64, 4)).astype(np.float32)
    return RawOutput(
        hoi_logits=rng.normal(-4, 2, (1, 64, 600)).astype(np.float32),
        object_logits=rng.normal(-3, 2, (1, 64, 81)).astype(np.float32),
        human_boxes_cxcywh=boxes[0],
        object_boxes_cxcywh=boxes[1],
        clip_cls=rng.normal(size=(1, 512)).astype(np.float32),
    )


def main() -> None:
    cv2.setNumThreads(1)
    raw, size = random_output(), (480, 640)
    vocabulary = load_vocabulary("hico")
    fast = Postprocessor(vocabulary, PostprocessConfig())
    photo = golden_photo("bench", 720, 1280, PUBLIC_SALT)
    config = PreprocessConfig(short_side_px=480, max_side_px=800)
    padded = PreprocessConfig(short_side_px=480, max_side_px=800, padded_hw=padded_size_for(720, 1280, config, 32))
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1000, (30, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(40, 200, (30, 2))], axis=1)
    entities, pairs = EntityTracker(), PairTracker.for_vocabulary(vocabulary)
    clock = iter(np.arange(100_000) / 30)
    times = side_by_side(
        {
            "postprocess": lambda: fast(raw, size),
            "preprocess 1280x720 to 450x800": lambda: preprocess(photo, padded),
            "track 30 entities": lambda: entities.update(boxes, np.full(30, 0.9), np.zeros(30), next(clock)),
            "track 100 triplets": lambda: pairs.update(fast(raw, size), next(clock)),
        },
        ROUNDS,
    )
    origin = provenance("numpy", "numba", "pillow")
    for name, samples in times.items():
        append("stages", {"benchmark": "stages", "stage": name, **statistics(samples), **origin})


if __name__ == "__main__":
    main()

"""Contact sheets show the pairs of a run on photos, and the ground truth below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hoiclip
from hoiclip.core.array_types import RGB
from hoiclip.core.detections import HOIDetections
from hoiclip.core.postprocess import PostprocessConfig
from hoiclip.core.vocabulary import NO_INTERACTION
from hoiclip.data.annotations import image_annotation
from hoiclip.evaluation.image_loop import module_detector
from hoiclip.synthetic.fixed_sets import fixed_set, synthetic_set
from hoiclip.synthetic.vocabulary import synthetic_vocabulary
from hoiclip.synthetic.world import SyntheticWorld
from hoiclip_engine.evaluation.training import (
    HEIGHT_PX,
    ground_truth_pairs,
    render_contact_sheet,
    save_contact_sheet,
)
from hoiclip_engine.models import find_model

pytestmark = pytest.mark.thorough

WORDS = synthetic_vocabulary()


def test_contact_sheet_shows_ground_truth_without_no_interaction() -> None:
    nothing, does = WORDS.verbs.index(NO_INTERACTION), 0 if WORDS.verbs[0] != NO_INTERACTION else 1
    boxes = [(0.0, 0.0, 9.0, 9.0), (5.0, 5.0, 20.0, 20.0)]
    annotation = image_annotation("a", boxes, [0, 1], [(0, 1, does), (0, 1, nothing)], 64, 48)
    pairs = ground_truth_pairs(annotation, WORDS, 2.0)
    assert len(pairs) == 1
    assert np.flatnonzero(pairs.verb_active[0]).tolist() == [does]
    assert pairs.object_boxes_xyxy.tolist() == [[10, 10, 40, 40]]
    assert len(ground_truth_pairs(image_annotation("a", boxes, [0, 1], [], 64, 48), WORDS)) == 0


def test_contact_sheet_detects_in_the_original_image_and_draws_boxes_in_place() -> None:
    image = SyntheticWorld(fixed_set("validation").world).image(0)
    gt = ground_truth_pairs(image.annotation, WORDS)
    assert len(gt)
    seen: list[RGB] = []

    def detect(rgb: RGB) -> HOIDetections:
        seen.append(rgb)
        pair, verb = np.nonzero(gt.verb_active)
        scores = np.ones(len(pair))
        return HOIDetections(
            query=pair,
            human_boxes_xyxy=gt.human_boxes_xyxy[pair],
            object_boxes_xyxy=gt.object_boxes_xyxy[pair],
            label=gt.label[pair],
            verb=verb,
            hoi=np.array([WORDS.hois.index((v, o)) for v, o in zip(verb, gt.label[pair], strict=True)]),
            score=scores,
            verb_score=scores,
        )

    grid = render_contact_sheet(detect, WORDS, [(image.rgb, image.annotation)])
    assert np.array_equal(seen[0], image.rgb)
    above, below = grid[8 : 8 + HEIGHT_PX], grid[10 + HEIGHT_PX : -8]
    assert np.array_equal(above, below)


def test_contact_sheet_of_a_model_is_saved_and_reproducible(tmp_path: Path) -> None:
    model = hoiclip.load_model(find_model("drawn"))
    save_contact_sheet(tmp_path / "sheet.png", model, WORDS, synthetic_set("validation"))
    with Image.open(tmp_path / "sheet.png") as grid:
        assert min(grid.size) > 1000
        pixels = np.asarray(grid)
    save_contact_sheet(tmp_path / "again.png", model, WORDS, synthetic_set("validation"))
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "sheet.png").read_bytes()
    world = SyntheticWorld(fixed_set("validation").world)
    image = world.image(0)
    detect = module_detector(model, WORDS, PostprocessConfig())
    rendered = render_contact_sheet(detect, WORDS, [(image.rgb, image.annotation)])
    assert rendered.shape[0] == 2 * HEIGHT_PX + 18  # predictions, a line, ground truth, and a frame round both
    assert np.array_equal(pixels[: rendered.shape[0], : rendered.shape[1] // 4], rendered[:, : rendered.shape[1] // 4])

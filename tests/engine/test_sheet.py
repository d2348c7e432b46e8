"""A sheet shows what a run would show, and what is true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import hoiclip
from hoiclip.data.drawn.fixed_sets import fixed_set
from hoiclip.data.drawn.vocabulary import drawn_vocabulary
from hoiclip.data.drawn.world import DrawnWorld
from hoiclip.data.rows import image_annotation
from hoiclip.vocabulary import NO_INTERACTION
from hoiclip_engine.evaluate import RGB, module_detector
from hoiclip_engine.measured_set import draw_sheet, drawn_set
from hoiclip_engine.models import find_model
from hoiclip_engine.pairs import Pairs
from hoiclip_engine.postprocess import PostprocessConfig
from hoiclip_engine.sheet import HEIGHT_PX, prediction_sheet, true_pairs

WORDS = drawn_vocabulary()


def test_truth_is_shown_without_what_is_no_interaction() -> None:
    nothing, does = WORDS.verbs.index(NO_INTERACTION), 0 if WORDS.verbs[0] != NO_INTERACTION else 1
    boxes = [(0.0, 0.0, 9.0, 9.0), (5.0, 5.0, 20.0, 20.0)]
    one = image_annotation("a", boxes, [0, 1], [(0, 1, does), (0, 1, nothing)], 64, 48)
    pairs = true_pairs(one, WORDS, 2.0)
    assert len(pairs) == 1
    assert np.flatnonzero(pairs.verb_active[0]).tolist() == [does]
    assert pairs.object_boxes_xyxy.tolist() == [[10, 10, 40, 40]]
    assert len(true_pairs(image_annotation("a", boxes, [0, 1], [], 64, 48), WORDS)) == 0


def test_a_model_sees_the_picture_as_it_is_evaluated_and_its_boxes_are_drawn_where_truth_is() -> None:
    picture = DrawnWorld(fixed_set("validation").world).picture(0)
    true = true_pairs(picture.annotation, WORDS)
    assert len(true)
    seen: list[RGB] = []

    def detect(rgb: RGB) -> Pairs:
        seen.append(rgb)
        pair, verb = np.nonzero(true.verb_active)
        one = np.ones(len(pair))
        return Pairs(
            query=pair,
            human_boxes_xyxy=true.human_boxes_xyxy[pair],
            object_boxes_xyxy=true.object_boxes_xyxy[pair],
            label=true.label[pair],
            verb=verb,
            hoi=np.array([WORDS.hois.index((v, o)) for v, o in zip(verb, true.label[pair], strict=True)]),
            score=one,
            verb_score=one,
        )

    sheet = prediction_sheet(detect, WORDS, [(picture.rgb, picture.annotation)])
    assert np.array_equal(seen[0], picture.rgb)
    above, below = sheet[8 : 8 + HEIGHT_PX], sheet[10 + HEIGHT_PX : -8]
    assert np.array_equal(above, below)


def test_a_sheet_of_a_model_can_be_looked_at(tmp_path: Path) -> None:
    model = hoiclip.load_model(find_model("drawn"))
    draw_sheet(tmp_path / "sheet.png", model, WORDS, drawn_set("validation"))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 1000
        drawn = np.asarray(sheet)
    draw_sheet(tmp_path / "again.png", model, WORDS, drawn_set("validation"))
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "sheet.png").read_bytes()
    world = DrawnWorld(fixed_set("validation").world)
    picture = world.picture(0)
    detect = module_detector(model, WORDS, PostprocessConfig())
    one = prediction_sheet(detect, WORDS, [(picture.rgb, picture.annotation)])
    assert one.shape[0] == 2 * HEIGHT_PX + 18  # predictions, a line, truth, and a frame round both
    assert np.array_equal(drawn[: one.shape[0], : one.shape[1] // 4], one[:, : one.shape[1] // 4])

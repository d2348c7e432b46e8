"""The drawn world as a data set: splits like the paper's, a long tail, annotations that are true, sets that stay."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.drawn import splits
from hoiclip.data.drawn.background import Backdrop
from hoiclip.data.drawn.captions import TEMPLATES, annotated_hois, pair_crops, scene_caption
from hoiclip.data.drawn.compose import act_out
from hoiclip.data.drawn.draw import Placed, draw_scene
from hoiclip.data.drawn.figure import random_look
from hoiclip.data.drawn.fixed_sets import FIXED_SETS, committed_fingerprints, fingerprint, fixed_set
from hoiclip.data.drawn.frequencies import RARE_PER_SCENE, Frequencies
from hoiclip.data.drawn.repertoire import ACTS, NO_INTERACTION
from hoiclip.data.drawn.scene import Interaction, Person, Scene
from hoiclip.data.drawn.splits import FRACTIONS, SPLIT_NAMES, choose, split_named
from hoiclip.data.drawn.video import VideoConfig, random_script
from hoiclip.data.drawn.vocabulary import drawn_triplets, drawn_vocabulary, hico_indices, hoi_index
from hoiclip.data.drawn.world import ALL_SCENES, DrawnWorld, WorldConfig, annotate
from hoiclip.vocabulary import load_vocabulary


@pytest.fixture(scope="module")
def many() -> list[ImageAnnotation]:
    world = DrawnWorld(WorldConfig(seed=4))
    return [world.annotation(index) for index in range(600)]


def seen_triplets(annotation: ImageAnnotation) -> list[tuple[str, str]]:
    vocabulary = drawn_vocabulary()
    return [
        (vocabulary.verbs[verb], vocabulary.objects[annotation.labels[thing]])
        for _, thing, verb in annotation.interactions.tolist()
    ]


def test_the_vocabulary_is_a_part_of_hico():
    hico, drawn, rows = load_vocabulary("hico"), drawn_vocabulary(), hico_indices()
    assert drawn.objects[0] == "person"
    assert len(drawn.objects) > 12
    assert len(drawn.verbs) >= 10
    assert len(drawn.hois) == len(drawn_triplets()) >= 40
    assert NO_INTERACTION in drawn.verbs
    assert drawn.object_prompts == (*(hico.object_prompts[i] for i in rows.objects), "a photo of nothing")
    assert drawn.verb_prompts == tuple(hico.verb_prompts[i] for i in rows.verbs)
    for (verb, thing), prompt, row in zip(drawn.hois, drawn.hoi_prompts, rows.hois, strict=True):
        assert hico.hois[row] == (rows.verbs[verb], rows.objects[thing])
        assert hico.hoi_prompts[row] == prompt


def test_the_committed_splits_are_what_their_rule_chooses():
    committed = splits._splits()
    fresh = choose()
    assert [" ".join(triplet) for triplet in committed["default"].by_frequency] == fresh["by_frequency"]
    for name in ("rf_uc", "nf_uc", "uo", "uv"):
        assert {" ".join(triplet) for triplet in committed[name].unseen} == set(fresh[name])


def test_every_action_has_its_place_in_the_order_of_frequency():
    split = split_named("default")
    assert sorted(split.by_frequency) == sorted(ACTS)
    assert split.rare == set(split.by_frequency[-len(split.rare) :])
    assert not split.unseen


@pytest.mark.parametrize("name", ["rf_uc", "nf_uc"])
def test_unseen_combinations_leave_every_verb_and_object_seen(name: str):
    unseen = split_named(name).unseen
    seen = set(ACTS) - unseen
    assert len(unseen) >= 8
    assert {verb for verb, _ in seen} == {verb for verb, _ in ACTS}
    assert {thing for _, thing in seen} == {thing for _, thing in ACTS}


def test_rare_first_is_within_the_rare_and_non_rare_first_is_not():
    rare = split_named("default").rare
    assert split_named("rf_uc").unseen <= rare
    assert not split_named("nf_uc").unseen & rare


def test_unseen_objects_and_verbs_are_wholly_unseen():
    objects, verbs = split_named("uo"), split_named("uv")
    assert len(objects.unseen_objects) == 3
    assert objects.unseen == {triplet for triplet in drawn_triplets() if triplet[1] in objects.unseen_objects}
    assert {verb for verb, _ in set(ACTS) - objects.unseen} == {verb for verb, _ in ACTS}
    gone = {verb for verb, _ in verbs.unseen}
    assert len(gone) == 4
    assert verbs.unseen == {triplet for triplet in ACTS if triplet[0] in gone}
    assert {thing for _, thing in set(ACTS) - verbs.unseen} == {thing for _, thing in ACTS}


def test_frequencies_have_a_long_tail_with_a_handful_of_rare_instances():
    split = split_named("default")
    shares = Frequencies(split, "long_tail").shares
    assert sum(shares.values()) == pytest.approx(1.0)
    common = [shares[triplet] for triplet in split.by_frequency if triplet not in split.rare]
    assert common == sorted(common, reverse=True)
    assert common[0] > 10 * common[-1]
    for triplet in split.rare:
        assert 0 < shares[triplet] < common[-1] / 5
    assert 2 <= 10_000 * RARE_PER_SCENE <= 10
    equal = Frequencies(split, "equal").shares
    assert set(equal) == drawn_triplets()
    assert len(set(equal.values())) == 1


def test_triplets_are_drawn_as_often_as_their_frequency_says():
    frequencies = Frequencies(split_named("default"), "long_tail")
    rng = np.random.default_rng(0)
    drawn = Counter(frequencies(rng) for _ in range(20_000))
    for triplet, share in frequencies.shares.items():
        expected = 20_000 * share
        assert abs(drawn[triplet] - expected) < 5 * expected**0.5 + 1, triplet


def test_annotations_are_of_the_right_form_and_inside_the_picture(many: list[ImageAnnotation]):
    known = hoi_index()
    pairs = 0
    for annotation in many:
        x0, y0, x1, y1 = annotation.boxes_xyxy.T
        assert ((x0 >= 0) & (y0 >= 0) & (x0 < x1) & (y0 < y1) & (x1 <= 256) & (y1 <= 192)).all()
        assert len(annotation.interactions) > 0
        humans, things = annotation.interactions[:, 0], annotation.interactions[:, 1]
        assert (annotation.labels[humans] == 0).all()
        assert (annotation.labels[things] > 0).all()
        assert all(triplet in known for triplet in seen_triplets(annotation))
        pairs += len(annotation.interactions)
    assert 1.2 < pairs / len(many) < 3.0


def test_a_scene_depends_on_its_stream_seed_and_number_only():
    world = DrawnWorld(WorldConfig(seed=4))
    again = pickle.loads(pickle.dumps(world))
    for index in (7, 0, 3):
        assert np.array_equal(world.picture(index).rgb, again.picture(index).rgb)
        assert world.scene(index) == again.scene(index)
    others = (WorldConfig(seed=5), WorldConfig(seed=4, stream="test"), WorldConfig(seed=4, stream="validation"))
    for other in others:
        assert DrawnWorld(other).scene(7) != world.scene(7)


def test_another_process_draws_the_same_pictures():
    program = (
        "import hashlib; from hoiclip.data.drawn.world import DrawnWorld; "
        "print(hashlib.sha256(b''.join(DrawnWorld().picture(i).rgb.tobytes() for i in range(3))).hexdigest())"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1] != ""


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_a_fraction_is_the_beginning_of_the_whole_and_repeats(fraction: int):
    part, whole = DrawnWorld(WorldConfig(fraction=fraction)), DrawnWorld()
    size = ALL_SCENES * fraction // 100
    assert part.size == size
    assert part.scene(size - 1) == whole.scene(size - 1)
    assert part.scene(size + 2) == whole.scene(2)


def test_workers_share_the_scenes_without_overlap():
    world = DrawnWorld()
    halves = [world.pictures(start, step=2) for start in (0, 1)]
    names = [next(half).annotation.file_name for _ in range(3) for half in halves]
    assert names == [world.annotation(index).file_name for index in range(6)]


@pytest.mark.parametrize("name", [name for name in SPLIT_NAMES if name != "default"])
def test_training_never_sees_an_unseen_pair_but_pictures_still_show_it(name: str):
    split = split_named(name)
    world = DrawnWorld(WorldConfig(seed=1, split=name, frequencies="equal"))
    hidden = 0
    for index in range(150):
        scene, annotation = world.scene_and_annotation(index)
        assert len(annotation.interactions) > 0
        assert not set(seen_triplets(annotation)) & split.unseen
        labels = {drawn_vocabulary().objects[label] for label in annotation.labels.tolist()}
        assert not labels & split.unseen_objects
        every = annotate(scene, Placed(scene).truth(), "", split_named("default"))
        hidden += len(every.interactions) - len(annotation.interactions)
    assert hidden > 0


def test_a_pair_hidden_behind_somebody_is_left_out():
    rng = np.random.default_rng(0)
    person = Person(id=1, look=random_look(rng), x_px=128, ground_px=170, height_px=100, depth=170)
    done = act_out(person, "hold", "cup", rng)
    scene = Scene(
        width_px=256,
        height_px=192,
        backdrop=Backdrop(kind="room", seed=1),
        people=(done.person,),
        things=(done.thing,),
        interactions=(Interaction(person=1, thing=done.thing.id, verbs=("hold",)),),
    )
    (pair,) = draw_scene(scene).pairs
    assert pair.label == "cup"
    horse = act_out(replace(person, id=10, depth=300.0, height_px=170), "ride", "horse", rng)
    crowded = replace(
        scene, people=(*scene.people, replace(horse.person, x_px=128)), things=(*scene.things, horse.thing)
    )
    frame = draw_scene(crowded)
    assert not frame.pairs
    assert {entity.label for entity in frame.entities} >= {"person", "horse"}


def test_visible_shares_are_those_of_the_pixels():
    """Against a count on the full picture: what of a bright thing is left after everything is painted."""
    compared = 0
    for index in range(12):
        scene = DrawnWorld(WorldConfig(seed=2, frequencies="equal")).scene(index)
        for entity in Placed(scene).truth().entities:
            thing = next((one for one in scene.things if one.id == entity.id), None)
            if thing is None:
                continue
            painted = [
                draw_scene(replace(scene, things=tuple(_in(one, thing.id, colour) for one in scene.things))).rgb
                for colour in ((255, 0, 255), (0, 255, 0))
            ]
            alone = [
                draw_scene(
                    replace(scene, people=(), interactions=(), cords=(), things=(_in(thing, thing.id, colour),))
                ).rgb
                for colour in ((255, 0, 255), (0, 255, 0))
            ]
            left, whole = (np.abs(a.astype(int) - b).max(axis=2) > 60 for a, b in (painted, alone))
            x0, y0, x1, y1 = entity.box_xyxy
            if whole.sum() > 120 and min(x0, y0) > 1 and x1 < 255 and y1 < 191:
                assert entity.visible == pytest.approx(left.sum() / whole.sum(), abs=0.17), (index, thing.name)
                compared += 1
    assert compared > 12


def _in(thing, id, colour):
    return replace(thing, main=colour, accent=colour) if thing.id == id else thing


def test_who_does_nothing_beside_a_thing_has_no_interaction_with_it(many: list[ImageAnnotation]):
    idle_pictures = 0
    for annotation in many:
        doing = {True: set(), False: set()}
        for (human, _, _), (verb, _) in zip(annotation.interactions.tolist(), seen_triplets(annotation), strict=True):
            doing[verb == NO_INTERACTION].add(human)
        assert not doing[True] & doing[False]
        idle_pictures += bool(doing[True])
    assert idle_pictures > 20


def test_a_mixture_has_frames_of_videos_in_groups_of_neighbours() -> None:
    world = DrawnWorld(WorldConfig(seed=1, frequencies="equal", video_fraction=0.5))
    scenes = [world.scene(index) for index in range(0, 80)]
    alike = [first.backdrop == second.backdrop for first, second in zip(scenes[::2], scenes[1::2], strict=True)]
    assert 10 < sum(alike) < 30, "half of the groups are of a video"
    for first, second, of_a_video in zip(scenes[::2], scenes[1::2], alike, strict=True):
        assert not of_a_video or first != second
    whole = DrawnWorld(WorldConfig(seed=1, frequencies="equal", video_fraction=1.0))
    for index in range(6):
        picture = whole.picture(index)
        assert np.array_equal(picture.rgb, pickle.loads(pickle.dumps(whole)).picture(index).rgb)
        assert picture.annotation.width_px == picture.rgb.shape[1]
        expected = annotate(whole.scene(index), Placed(whole.scene(index)).truth(), "", split_named("default"))
        assert np.array_equal(picture.annotation.interactions, expected.interactions)


def test_a_frame_that_a_split_empties_is_left_out() -> None:
    world = DrawnWorld(WorldConfig(seed=2, split="uv", frequencies="equal", video_fraction=1.0))
    for index in range(60):
        scene, annotation = world.scene_and_annotation(index)
        assert not set(seen_triplets(annotation)) & split_named("uv").unseen
        assert len(annotation.interactions) or not Placed(scene).truth().pairs


def test_optics_change_light_and_sharpness_and_nothing_else() -> None:
    plain, recorded = (DrawnWorld(WorldConfig(seed=1, optics=optics)) for optics in (False, True))
    changed = 0
    for index in range(12):
        a, b = plain.picture(index), recorded.picture(index)
        assert a.rgb.shape == b.rgb.shape
        assert b.rgb.dtype == np.uint8
        assert np.array_equal(b.rgb, recorded.picture(index).rgb)
        assert np.array_equal(a.annotation.boxes_xyxy, b.annotation.boxes_xyxy)
        changed += not np.array_equal(a.rgb, b.rgb)
        # Edges stay where they are: what is bright in one is bright in the other.
        assert np.corrcoef(a.rgb.ravel(), b.rgb.ravel())[0, 1] > 0.8
    assert changed > 8


def test_rare_actions_are_not_what_videos_show_most() -> None:
    seconds = Counter()
    for seed in range(500, 560):
        for event in random_script(VideoConfig(), seed).events:
            seconds[event.verb, event.label] += event.end_s - event.start_s
    rare = split_named("default").rare
    assert sum(seconds[triplet] for triplet in rare) < 0.2 * sum(seconds.values())


def test_captions_tell_the_prompts_of_their_pairs(many: list[ImageAnnotation]):
    rng, prompts = np.random.default_rng(0), drawn_vocabulary().hoi_prompts
    starts = Counter()
    for annotation in many[:200]:
        crops = pair_crops(annotation, rng)
        assert sorted(hoi for crop in crops for hoi in crop.hois) == sorted(annotated_hois(annotation))
        for crop in [*crops, scene_caption(annotation, rng)]:
            x0, y0, x1, y1 = crop.box_xyxy
            assert 0 <= x0 < x1 <= 256
            assert 0 <= y0 < y1 <= 192
            for hoi in crop.hois:
                assert prompts[hoi].removeprefix("a photo of ") in crop.caption
            starts[crop.caption.split(" person")[0]] += 1
    assert len(starts) == len(TEMPLATES)


def test_a_cut_holds_both_boxes_of_its_pair(many: list[ImageAnnotation]):
    for annotation in many[:100]:
        for crop, (human, thing, _) in zip(
            pair_crops(annotation, np.random.default_rng(1)), annotation.interactions.tolist(), strict=False
        ):
            boxes = annotation.boxes_xyxy[[human, thing]]
            assert (boxes[:, :2] >= np.array(crop.box_xyxy[:2]) - 1e-3).all()
            assert (boxes[:, 2:] <= np.array(crop.box_xyxy[2:]) + 1e-3).all()


@pytest.mark.parametrize("name", FIXED_SETS)
def test_fixed_sets_are_what_they_were(name: str):
    now, then = fingerprint(fixed_set(name)), committed_fingerprints()[name]
    colours, recorded = now.pop("mean_colours"), then["mean_colours"]
    assert now == {key: value for key, value in then.items() if key != "mean_colours"}
    # Anti-aliasing differs between builds of OpenCV, by far less than one grey level on the mean.
    np.testing.assert_allclose(colours, recorded, atol=1.0)


def test_the_test_set_is_large_and_shows_every_hoi():
    chosen = fixed_set("test")
    assert chosen.count >= 1_500
    told = Counter(hoi for annotation in chosen.annotations() for hoi in annotated_hois(annotation))
    assert set(told) == set(range(len(drawn_vocabulary().hois)))
    assert min(told.values()) >= 10


def test_wrong_arguments_are_refused_with_what_was_found():
    for wrong, said in (
        ({"split": "uc9"}, "unknown split 'uc9'"),
        ({"fraction": 33}, "5, 15, 25, 50, 100"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"stream": "dev"}, "stream must be"),
        ({"frequencies": "zipf"}, "frequencies must be"),
        ({"video_fraction": 1.5}, "video_fraction must be"),
        ({"width_px": 3}, "16x16"),
    ):
        with pytest.raises(ValueError, match=said):
            WorldConfig(**wrong)
    with pytest.raises(ValueError, match="count from 0"):
        DrawnWorld().scene(-1)
    with pytest.raises(ValueError, match="unknown fixed set"):
        fixed_set("train")

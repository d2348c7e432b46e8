"""The synthetic world as a dataset: splits like the paper's, a long tail, exact annotations, fixed sets."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hoiclip.core.vocabulary import load_vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.samples import SampleConfig
from hoiclip.synthetic import splits
from hoiclip.synthetic.background import Backdrop
from hoiclip.synthetic.captions import TEMPLATES, annotated_hois, pair_crops, scene_caption
from hoiclip.synthetic.compose import act_out
from hoiclip.synthetic.dataset import SyntheticDataset
from hoiclip.synthetic.draw import PlacedScene, draw_scene
from hoiclip.synthetic.figure import random_appearance
from hoiclip.synthetic.fixed_sets import FIXED_SETS, committed_fingerprints, fingerprint, fixed_set
from hoiclip.synthetic.repertoire import ACTS, NO_INTERACTION
from hoiclip.synthetic.scene import Person, SceneInteraction, SyntheticScene
from hoiclip.synthetic.splits import FRACTIONS, SPLIT_NAMES, choose, synthetic_split
from hoiclip.synthetic.video import VideoConfig, random_script
from hoiclip.synthetic.vocabulary import (
    hico_indices,
    hoi_index,
    is_synthetic,
    named_vocabulary,
    synthetic_triplets,
    synthetic_vocabulary,
)
from hoiclip.synthetic.world import ALL_SCENES, RARE_PER_SCENE, Frequencies, SyntheticWorld, WorldConfig, annotate


@pytest.fixture(scope="module")
def many() -> list[ImageAnnotation]:
    world = SyntheticWorld(WorldConfig(seed=4))
    return [world.annotation(index) for index in range(600)]


def seen_triplets(annotation: ImageAnnotation) -> list[tuple[str, str]]:
    vocabulary = synthetic_vocabulary()
    return [
        (vocabulary.verbs[verb], vocabulary.objects[annotation.labels[obj]])
        for _, obj, verb in annotation.interactions.tolist()
    ]


def test_synthetic_vocabulary_is_a_subset_of_hico():
    hico, synthetic, rows = load_vocabulary("hico"), synthetic_vocabulary(), hico_indices()
    assert synthetic.objects[0] == "person"
    assert len(synthetic.objects) > 12
    assert len(synthetic.verbs) >= 10
    assert len(synthetic.hois) == len(synthetic_triplets()) >= 40
    assert NO_INTERACTION in synthetic.verbs
    assert synthetic.object_prompts == (*(hico.object_prompts[i] for i in rows.objects), "a photo of nothing")
    assert synthetic.verb_prompts == tuple(hico.verb_prompts[i] for i in rows.verbs)
    for (verb, obj), prompt, row in zip(synthetic.hois, synthetic.hoi_prompts, rows.hois, strict=True):
        assert hico.hois[row] == (rows.verbs[verb], rows.objects[obj])
        assert hico.hoi_prompts[row] == prompt


def test_committed_splits_are_those_of_their_rule():
    committed = splits._splits()
    fresh = choose()
    assert [" ".join(triplet) for triplet in committed["default"].by_frequency] == fresh["by_frequency"]
    for name in ("rf_uc", "nf_uc", "uo", "uv"):
        assert {" ".join(triplet) for triplet in committed[name].unseen} == set(fresh[name])


def test_split_orders_every_action_by_frequency():
    split = synthetic_split("default")
    assert sorted(split.by_frequency) == sorted(ACTS)
    assert split.rare == set(split.by_frequency[-len(split.rare) :])
    assert not split.unseen


@pytest.mark.parametrize("name", ["rf_uc", "nf_uc"])
def test_unseen_combinations_leave_every_verb_and_object_seen(name: str):
    unseen = synthetic_split(name).unseen
    seen = set(ACTS) - unseen
    assert len(unseen) >= 8
    assert {verb for verb, _ in seen} == {verb for verb, _ in ACTS}
    assert {obj for _, obj in seen} == {obj for _, obj in ACTS}


def test_rare_first_is_within_the_rare_and_non_rare_first_is_not():
    rare = synthetic_split("default").rare
    assert synthetic_split("rf_uc").unseen <= rare
    assert not synthetic_split("nf_uc").unseen & rare


def test_unseen_objects_and_verbs_are_wholly_unseen():
    objects, verbs = synthetic_split("uo"), synthetic_split("uv")
    assert len(objects.unseen_objects) == 3
    assert objects.unseen == {triplet for triplet in synthetic_triplets() if triplet[1] in objects.unseen_objects}
    assert {verb for verb, _ in set(ACTS) - objects.unseen} == {verb for verb, _ in ACTS}
    unseen_verbs = {verb for verb, _ in verbs.unseen}
    assert len(unseen_verbs) == 4
    assert verbs.unseen == {triplet for triplet in ACTS if triplet[0] in unseen_verbs}
    assert {obj for _, obj in set(ACTS) - verbs.unseen} == {obj for _, obj in ACTS}


def test_frequencies_have_a_long_tail_with_a_handful_of_rare_instances():
    split = synthetic_split("default")
    probabilities = Frequencies(split, "long_tail").probabilities
    assert sum(probabilities.values()) == pytest.approx(1.0)
    common = [probabilities[triplet] for triplet in split.by_frequency if triplet not in split.rare]
    assert common == sorted(common, reverse=True)
    assert common[0] > 10 * common[-1]
    for triplet in split.rare:
        assert 0 < probabilities[triplet] < common[-1] / 5
    assert 2 <= 10_000 * RARE_PER_SCENE <= 10
    equal = Frequencies(split, "equal").probabilities
    assert set(equal) == synthetic_triplets()
    assert len(set(equal.values())) == 1


def test_triplets_occur_as_often_as_their_frequency():
    frequencies = Frequencies(synthetic_split("default"), "long_tail")
    rng = np.random.default_rng(0)
    counts = Counter(frequencies(rng) for _ in range(20_000))
    for triplet, probability in frequencies.probabilities.items():
        expected = 20_000 * probability
        assert abs(counts[triplet] - expected) < 5 * expected**0.5 + 1, triplet


def test_annotations_are_of_the_right_form_and_inside_the_image(many: list[ImageAnnotation]):
    known = hoi_index()
    pairs = 0
    for annotation in many:
        x0, y0, x1, y1 = annotation.boxes_xyxy.T
        assert ((x0 >= 0) & (y0 >= 0) & (x0 < x1) & (y0 < y1) & (x1 <= 256) & (y1 <= 192)).all()
        assert len(annotation.interactions) > 0
        humans, objects = annotation.interactions[:, 0], annotation.interactions[:, 1]
        assert (annotation.labels[humans] == 0).all()
        assert (annotation.labels[objects] > 0).all()
        assert all(triplet in known for triplet in seen_triplets(annotation))
        pairs += len(annotation.interactions)
    assert 1.2 < pairs / len(many) < 3.0


def test_scene_depends_on_its_stream_seed_and_number_alone():
    world = SyntheticWorld(WorldConfig(seed=4))
    again = pickle.loads(pickle.dumps(world))
    for index in (7, 0, 3):
        assert np.array_equal(world.image(index).rgb, again.image(index).rgb)
        assert world.scene(index) == again.scene(index)
    others = (WorldConfig(seed=5), WorldConfig(seed=4, stream="test"), WorldConfig(seed=4, stream="validation"))
    for other in others:
        assert SyntheticWorld(other).scene(7) != world.scene(7)


def test_images_are_the_same_in_another_process():
    program = (
        "import hashlib; from hoiclip.synthetic.world import SyntheticWorld; "
        "print(hashlib.sha256(b''.join(SyntheticWorld().image(i).rgb.tobytes() for i in range(3))).hexdigest())"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] != ""


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_fraction_is_the_beginning_of_the_whole_and_repeats(fraction: int):
    subset, whole = SyntheticWorld(WorldConfig(fraction=fraction)), SyntheticWorld()
    size = ALL_SCENES * fraction // 100
    assert subset.size == size
    assert subset.scene(size - 1) == whole.scene(size - 1)
    assert subset.scene(size + 2) == whole.scene(2)


def test_workers_divide_the_scenes_without_overlap():
    world = SyntheticWorld()
    halves = [world.images(start, step=2) for start in (0, 1)]
    names = [next(half).annotation.file_name for _ in range(3) for half in halves]
    assert names == [world.annotation(index).file_name for index in range(6)]


@pytest.mark.parametrize("name", [name for name in SPLIT_NAMES if name != "default"])
def test_unseen_pairs_are_drawn_but_never_annotated_for_training(name: str):
    split = synthetic_split(name)
    world = SyntheticWorld(WorldConfig(seed=1, split=name, frequencies="equal"))
    hidden = 0
    for index in range(150):
        scene, annotation = world.scene_and_annotation(index)
        assert len(annotation.interactions) > 0
        assert not set(seen_triplets(annotation)) & split.unseen
        labels = {synthetic_vocabulary().objects[label] for label in annotation.labels.tolist()}
        assert not labels & split.unseen_objects
        every = annotate(scene, PlacedScene(scene).ground_truth(), "", synthetic_split("default"))
        hidden += len(every.interactions) - len(annotation.interactions)
    assert hidden > 0


def test_hidden_pair_is_left_out():
    rng = np.random.default_rng(0)
    person = Person(id=1, appearance=random_appearance(rng), x_px=128, ground_px=170, height_px=100, depth=170)
    done = act_out(person, "hold", "cup", rng)
    scene = SyntheticScene(
        width_px=256,
        height_px=192,
        backdrop=Backdrop(kind="room", seed=1),
        people=(done.person,),
        objects=(done.obj,),
        interactions=(SceneInteraction(person_id=1, object_id=done.obj.id, verbs=("hold",)),),
    )
    (pair,) = draw_scene(scene).pairs
    assert pair.label == "cup"
    horse = act_out(replace(person, id=10, depth=300.0, height_px=170), "ride", "horse", rng)
    crowded = replace(
        scene, people=(*scene.people, replace(horse.person, x_px=128)), objects=(*scene.objects, horse.obj)
    )
    frame = draw_scene(crowded)
    assert not frame.pairs
    assert {entity.label for entity in frame.entities} >= {"person", "horse"}


def test_visible_fractions_are_those_of_the_pixels():
    """Against a count on the full image: pixels of a bright object that remain after everything is painted."""
    compared = 0
    for index in range(12):
        scene = SyntheticWorld(WorldConfig(seed=2, frequencies="equal")).scene(index)
        for entity in PlacedScene(scene).ground_truth().entities:
            obj = next((candidate for candidate in scene.objects if candidate.id == entity.id), None)
            if obj is None:
                continue
            painted = [
                draw_scene(replace(scene, objects=tuple(_in(other, obj.id, colour) for other in scene.objects))).rgb
                for colour in ((255, 0, 255), (0, 255, 0))
            ]
            alone = [
                draw_scene(
                    replace(scene, people=(), interactions=(), cords=(), objects=(_in(obj, obj.id, colour),))
                ).rgb
                for colour in ((255, 0, 255), (0, 255, 0))
            ]
            left, whole = (np.abs(a.astype(int) - b).max(axis=2) > 60 for a, b in (painted, alone))
            x0, y0, x1, y1 = entity.box_xyxy
            if whole.sum() > 120 and min(x0, y0) > 1 and x1 < 255 and y1 < 191:
                assert entity.visible == pytest.approx(left.sum() / whole.sum(), abs=0.17), (index, obj.name)
                compared += 1
    assert compared > 12


def _in(obj, id, colour):
    return replace(obj, main=colour, accent=colour) if obj.id == id else obj


def test_idle_people_beside_an_object_have_no_interaction_with_it(many: list[ImageAnnotation]):
    idle_images = 0
    for annotation in many:
        doing = {True: set(), False: set()}
        for (human, _, _), (verb, _) in zip(annotation.interactions.tolist(), seen_triplets(annotation), strict=True):
            doing[verb == NO_INTERACTION].add(human)
        assert not doing[True] & doing[False]
        idle_images += bool(doing[True])
    assert idle_images > 20


def test_video_fraction_gives_frames_of_videos_in_groups() -> None:
    world = SyntheticWorld(WorldConfig(seed=1, frequencies="equal", video_fraction=0.5))
    scenes = [world.scene(index) for index in range(0, 80)]
    alike = [first.backdrop == second.backdrop for first, second in zip(scenes[::2], scenes[1::2], strict=True)]
    assert 10 < sum(alike) < 30, "half of the groups are of a video"
    for first, second, of_a_video in zip(scenes[::2], scenes[1::2], alike, strict=True):
        assert not of_a_video or first != second
    whole = SyntheticWorld(WorldConfig(seed=1, frequencies="equal", video_fraction=1.0))
    for index in range(6):
        image = whole.image(index)
        assert np.array_equal(image.rgb, pickle.loads(pickle.dumps(whole)).image(index).rgb)
        assert image.annotation.width_px == image.rgb.shape[1]
        expected = annotate(
            whole.scene(index), PlacedScene(whole.scene(index)).ground_truth(), "", synthetic_split("default")
        )
        assert np.array_equal(image.annotation.interactions, expected.interactions)


def test_frame_that_a_split_empties_is_left_out() -> None:
    world = SyntheticWorld(WorldConfig(seed=2, split="uv", frequencies="equal", video_fraction=1.0))
    for index in range(60):
        scene, annotation = world.scene_and_annotation(index)
        assert not set(seen_triplets(annotation)) & synthetic_split("uv").unseen
        assert len(annotation.interactions) or not PlacedScene(scene).ground_truth().pairs


def test_optics_change_light_and_sharpness_and_nothing_else() -> None:
    plain, recorded = (SyntheticWorld(WorldConfig(seed=1, optics=optics)) for optics in (False, True))
    changed = 0
    for index in range(12):
        a, b = plain.image(index), recorded.image(index)
        assert a.rgb.shape == b.rgb.shape
        assert b.rgb.dtype == np.uint8
        assert np.array_equal(b.rgb, recorded.image(index).rgb)
        assert np.array_equal(a.annotation.boxes_xyxy, b.annotation.boxes_xyxy)
        changed += not np.array_equal(a.rgb, b.rgb)
        # Edges stay where they are: what is bright in one is bright in the other.
        assert np.corrcoef(a.rgb.ravel(), b.rgb.ravel())[0, 1] > 0.8
    assert changed > 8


def test_rare_actions_are_not_the_most_common_in_videos() -> None:
    seconds = Counter()
    for seed in range(500, 560):
        for event in random_script(VideoConfig(), seed).events:
            seconds[event.verb, event.label] += event.end_s - event.start_s
    rare = synthetic_split("default").rare
    assert sum(seconds[triplet] for triplet in rare) < 0.2 * sum(seconds.values())


def test_captions_contain_the_prompts_of_their_pairs(many: list[ImageAnnotation]):
    rng, prompts = np.random.default_rng(0), synthetic_vocabulary().hoi_prompts
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


def test_crop_holds_both_boxes_of_its_pair(many: list[ImageAnnotation]):
    for annotation in many[:100]:
        for crop, (human, obj, _) in zip(
            pair_crops(annotation, np.random.default_rng(1)), annotation.interactions.tolist(), strict=False
        ):
            boxes = annotation.boxes_xyxy[[human, obj]]
            assert (boxes[:, :2] >= np.array(crop.box_xyxy[:2]) - 1e-3).all()
            assert (boxes[:, 2:] <= np.array(crop.box_xyxy[2:]) + 1e-3).all()


@pytest.mark.thorough
@pytest.mark.parametrize("name", FIXED_SETS)
def test_fixed_sets_are_unchanged(name: str):
    now, then = fingerprint(fixed_set(name)), committed_fingerprints()[name]
    colours, recorded = now.pop("mean_colours"), then["mean_colours"]
    assert now == {key: value for key, value in then.items() if key != "mean_colours"}
    # Anti-aliasing differs between builds of OpenCV, by far less than one grey level on the mean.
    np.testing.assert_allclose(colours, recorded, atol=1.0)


@pytest.mark.thorough
def test_test_set_is_large_and_shows_every_hoi():
    chosen = fixed_set("test")
    assert chosen.count >= 1_500
    counts = Counter(hoi for annotation in chosen.annotations() for hoi in annotated_hois(annotation))
    assert set(counts) == set(range(len(synthetic_vocabulary().hois)))
    assert min(counts.values()) >= 10


def test_world_config_refuses_wrong_arguments():
    for wrong, message in (
        ({"split": "uc9"}, "unknown split 'uc9'"),
        ({"fraction": 33}, "5, 15, 25, 50, 100"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"stream": "dev"}, "stream must be"),
        ({"frequencies": "zipf"}, "frequencies must be"),
        ({"video_fraction": 1.5}, "video_fraction must be"),
        ({"width_px": 3}, "16x16"),
    ):
        with pytest.raises(ValueError, match=message):
            WorldConfig(**wrong)
    with pytest.raises(ValueError, match="count from 0"):
        SyntheticWorld().scene(-1)
    with pytest.raises(ValueError, match="unknown fixed set"):
        fixed_set("train")


def test_synthetic_dataset_hides_unseen_hois_and_draws_at_the_size_of_the_model():
    dataset = SyntheticDataset(WorldConfig(seed=1, split="uv"))
    assert dataset.unseen_hois == synthetic_split("uv").unseen_hois
    world = SyntheticWorld(dataset.config)
    sample = dataset.samples(SampleConfig(short_side_px=192, max_side_px=256, clip_side_px=64))[3]
    assert sample.detector_chw.shape == (3, 192, 256)
    assert sample.targets.hoi_labels.sum() == len(world.annotation(3).interactions)
    image, annotation = next(dataset.examples())
    assert np.array_equal(np.asarray(image), world.image(0).rgb)
    assert np.array_equal(annotation.interactions, world.annotation(0).interactions)
    with pytest.raises(ValueError, match="short side of 96 px"):
        dataset.samples(SampleConfig(short_side_px=96, max_side_px=128))


def test_named_vocabulary_is_the_synthetic_one_or_a_bundled_one():
    assert named_vocabulary("drawn") == synthetic_vocabulary()
    assert named_vocabulary("hico") == load_vocabulary("hico")
    assert is_synthetic(synthetic_vocabulary())
    assert not is_synthetic(load_vocabulary("hico"))

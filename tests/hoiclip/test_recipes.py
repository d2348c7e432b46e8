"""Recipes: every bundled one is complete, and a wrong one is one error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hoiclip.core.errors import ModelError, UsageError
from hoiclip.core.model_file import load_model_file
from hoiclip.core.vocabulary import vocabulary_from_words
from hoiclip.data.formats.hoia import write_hoia
from hoiclip.data.samples import SampleConfig
from hoiclip.training.assemble import dataset_of, vocabulary_of
from hoiclip.training.recipe import Recipe, read_recipe
from hoiclip_engine.models import find_model
from tests.hoiclip.small_datasets import FRUIT, fruit, save_noise

FOLDER = Path(__file__).resolve().parents[2] / "hoiclip" / "recipes"
RECIPES = sorted(FOLDER.glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_bundled_recipe_fits_its_vocabulary_and_split(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    hidden = dataset_of(recipe, vocabulary_of(recipe)).unseen_hois
    assert bool(hidden) == (recipe.data.split != "default")


def test_official_recipes_have_the_settings_of_the_paper() -> None:
    hico, vcoco, rare_first = (read_recipe(FOLDER / f"{name}.toml") for name in ("hico", "vcoco", "hico_rare_first"))
    assert (hico.optimizer.lr, hico.optimizer.backbone_lr, hico.optimizer.clip_norm) == (1e-4, 1e-5, 0.1)
    assert (hico.losses.hoi, hico.losses.box_l1, hico.losses.box_giou, hico.losses.no_object_weight) == (2, 2.5, 1, 0.1)
    assert (hico.model.verb_weight, vcoco.model.verb_weight) == (0.5, 0.1)
    assert hico.schedule.factor(hico.schedule.steps * 59 // 90) == 1
    assert hico.schedule.factor(hico.schedule.steps * 61 // 90) == pytest.approx(0.1)
    assert (hico.auxiliary.query_groups, hico.auxiliary.dense_heads, hico.auxiliary.batch_norm) == (1, False, False)
    assert len(dataset_of(rare_first, vocabulary_of(rare_first)).unseen_hois) == 120
    assert vcoco.optimizer == hico.optimizer


def test_recipe_with_an_initial_model_has_its_sizes_and_its_own_vocabulary(tmp_path: Path) -> None:
    words = vocabulary_from_words("mine", ["ride bicycle", "walk dog"])
    (tmp_path / "mine.json").write_text(words.to_json())
    recipe = read_recipe(
        FOLDER / "finetune.toml", **{"data.vocabulary": str(tmp_path / "mine.json"), "model.queries": 8}
    )
    drawn = load_model_file(find_model("drawn")).config
    counts = {"num_object_classes": 3, "num_verbs": 2, "num_hois": 2}
    assert recipe.model == replace(drawn, queries=8, **counts)
    with pytest.raises(ModelError, match=r"there is no file none\.safetensors"):
        read_recipe(FOLDER / "finetune.toml", **{"init.model": "none.safetensors"})


def test_recipe_values_can_be_overridden() -> None:
    recipe = read_recipe(FOLDER / "drawn.toml", **{"schedule.steps": 400, "seed": 9})
    assert (recipe.schedule.steps, recipe.seed) == (400, 9)
    with pytest.raises(UsageError, match=r"\[start\] is called \[init\] now"):
        read_recipe(FOLDER / "drawn.toml", **{"start.clip": ""})


def test_recipe_softens_the_augmentation_of_images(tmp_path: Path) -> None:
    """Mirrored always or never, and with neither crop nor jitter, boxes are relative to the image as they were."""
    write_hoia(tmp_path / "fruit.json", [fruit()], FRUIT)
    save_noise(tmp_path / "a.png")
    images = {"data.kind": "images", "data.annotations": str(tmp_path / "fruit.json"), "data.images": str(tmp_path)}

    def left_sides(**settings: float) -> set[float]:
        softer = {"data.crop": 0.0, "data.jitter": 0.0} | {f"data.{name}": value for name, value in settings.items()}
        recipe = read_recipe(FOLDER / "drawn.toml", **images, **softer)
        samples = dataset_of(recipe, FRUIT).samples(SampleConfig.for_model(recipe.model))
        boxes = [samples[number].targets.human_boxes_cxcywh[0] for number in range(8)]
        return {round(float(box[0] - box[2] / 2), 2) for box in boxes}

    assert left_sides(flip=0.0) == {0.03}
    assert left_sides(flip=1.0) == {0.53}
    assert len(left_sides(flip=0.0, crop=1.0)) > 1
    with pytest.raises(UsageError, match="jitter in"):
        left_sides(jitter=1.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no section \["),
        ("[schedule]\nsteps = 3\n[model]\nwheels = 4\n", "unknown fields"),
        ("[schedule]\nsteps = 0\n[model]\n", "steps"),
        ("[schedule]\nsteps = 3\n[optimizer]\nspeed = 3\n[model]\n", "optimizer has no speed"),
        ('[schedule]\nsteps = 3\n[optimizer]\nprecision = "int4"\n[model]\n', "precision must be one of"),
        ('[schedule]\nsteps = "many"\n[model]\n', "schedule.steps must be a whole number, got 'many'"),
        ("[schedule]\nsteps = 3\n[optimizer]\nlr = true\n[model]\n", "optimizer.lr must be a number"),
        ("[schedule]\nsteps = 3\n[init]\nclip = 3\n[model]\n", "init.clip must be a text"),
        ("[schedule]\nsteps = 3\n[optimizer]\nbatch_size = 0\n[model]\n", "batch_size and accumulate"),
        ("[schedule]\nsteps = 3\n[auxiliary]\nquery_groups = 0\n[model]\n", "query_groups"),
        ("save_every = 0\n[schedule]\nsteps = 3\n[model]\n", "save_every at least 1"),
        ('task = "clip"\n[data]\nkind = "images"\n[schedule]\nsteps = 3\n[model]\n', "synthetic scenes only"),
        ('task = "dance"\n[schedule]\nsteps = 3\n[model]\n', "task must be one of"),
        ("[schedule\n", "no recipe in TOML"),
        ('extends = "recipe.toml"\n', "lead back"),
    ],
)
def test_wrong_recipe_is_one_error(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(Exception, match=message) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("[start]\n[model]\n", "[start]", "[init]"),
        ("[aids]\n[model]\n", "[aids]", "[auxiliary]"),
        ("[init]\ntext_rows=true\n", "init.text_rows", "init.text_embeddings"),
        ("[init]\nverb_rows=true\n", "init.verb_rows", "init.verb_embeddings"),
        ('[data]\nkind="drawn"\n', 'data.kind\x20"drawn"', '"synthetic"'),
        ('[data]\nkind="pictures"\n', 'data.kind\x20"pictures"', '"images"'),
    ],
)
def test_recipe_with_an_old_name_is_one_line_with_the_new_one(text: str, old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_recipe(path)
    assert str(caught.value) == f"{path}: {old} is called {new} now; rename it"


def test_bundled_recipe_is_found_by_its_name_after_local_files(tmp_path: Path) -> None:
    assert read_recipe(Path("drawn.toml")) == read_recipe(FOLDER / "drawn.toml")
    own = tmp_path / "mine.toml"
    own.write_text('extends = "drawn.toml"\n[schedule]\nsteps = 700\n')
    assert read_recipe(own).schedule.steps == 700
    assert read_recipe(own).model == read_recipe(FOLDER / "drawn.toml").model
    (tmp_path / "drawn.toml").write_text('extends = "drawn_clip.toml"\nseed = 77\n')
    assert read_recipe(own).seed == 77
    with pytest.raises(UsageError, match=r"bundled are drawn\.toml"):
        read_recipe(tmp_path / "elsewhere" / "drawn.toml")


def test_missing_recipe_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no recipe"):
        read_recipe(tmp_path / "none.toml")


def test_recipe_survives_a_round_trip_through_a_dict() -> None:
    recipe = read_recipe(FOLDER / "drawn.toml")
    assert isinstance(recipe, Recipe)
    assert recipe.to_dict()["model"]["clip_stem"] == (32, 64, 96)

"""Other words for a model: what it knows stays as it is to the bit, what is new follows its text embedding."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

import hoiclip
from hoiclip.checkpoint.open_vocabulary import find_with_vocabulary, swap_vocabulary
from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import FittedTracking, ModelFile, load_model_file, save_model_file
from hoiclip.core.postprocess import PostprocessConfig
from hoiclip.core.vocabulary import Vocabulary, load_vocabulary, vocabulary_from_words
from hoiclip.model import HOICLIP
from hoiclip_engine import Engine, EngineConfig
from hoiclip_engine.models import find_model
from tests.engine.untrained import CONFIG, config_for, untrained_model

WORDS = ("ride bicycle", "hold cup", "carry suitcase")
"""Interactions that the bundled model knows."""


@pytest.fixture(scope="module")
def drawn() -> ModelFile:
    return load_model_file(find_model("drawn"))


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path / "cache"))


def embed_nothing(prompts: object) -> NDArray[np.float32]:
    raise AssertionError(f"asked for {prompts}")


def predict(model: HOICLIP) -> dict[str, NDArray[np.float32]]:
    """Logits and boxes of one image of noise."""
    generator = torch.Generator().manual_seed(0)
    side = model.config.clip_image_px
    image = torch.randn(1, 3, 192, 256, generator=generator)
    clip_image = torch.randn(1, 3, side, side, generator=generator)
    with torch.inference_mode():
        outputs = model(image, torch.zeros(1, 192, 256, dtype=torch.bool), clip_image)
    return {name: value.numpy() for name, value in outputs._asdict().items()}


def swapped_module(model: ModelFile, words: Vocabulary, path: Path, embed: object = embed_nothing) -> HOICLIP:
    swapped = swap_vocabulary(model, words, embed)  # type: ignore[arg-type]
    save_model_file(path, swapped.tensors, swapped.config, swapped.vocabulary, swapped.provenance)
    return load_model_file(path).build()


def subset(own: Vocabulary, hois: list[int]) -> Vocabulary:
    """Some of the interactions, with objects and verbs in another order."""
    named = [own.named_hois[index] for index in hois]
    objects = tuple(sorted({obj for _, obj in named if obj}, reverse=True))
    verbs = tuple(sorted({verb for verb, _ in named}, reverse=True))
    last = own.object_prompts[len(own.objects) :]
    return Vocabulary(
        name="subset",
        objects=objects,
        verbs=verbs,
        hois=tuple((verbs.index(verb), objects.index(obj) if obj else len(objects)) for verb, obj in named),
        hoi_prompts=tuple(own.hoi_prompts[index] for index in hois),
        object_prompts=(*(own.object_prompts[own.objects.index(obj)] for obj in objects), *last),
        verb_prompts=tuple(own.verb_prompts[own.verbs.index(verb)] for verb in verbs),
    )


def test_known_words_in_any_order_keep_their_logits(drawn: ModelFile, tmp_path: Path) -> None:
    own = drawn.vocabulary
    hois = [int(index) for index in np.random.default_rng(0).permutation(len(own.hois))[:40]]
    swapped = swapped_module(drawn, subset(own, hois), tmp_path / "subset.safetensors")
    before, after = predict(drawn.build()), predict(swapped)
    np.testing.assert_array_equal(after["hoi_logits"], before["hoi_logits"][..., hois])
    np.testing.assert_array_equal(after["human_boxes_cxcywh"], before["human_boxes_cxcywh"])
    objects = load_model_file(tmp_path / "subset.safetensors").vocabulary.objects
    assert set(objects) == set(own.objects)  # those without an interaction still compete for the label
    order = [own.objects.index(name) for name in objects]
    np.testing.assert_array_equal(after["object_logits"], before["object_logits"][..., [*order, len(own.objects)]])


def test_hoi_of_other_verbs_keeps_them_without_interactions(tmp_path: Path) -> None:
    """Official V-COCO weights add verbs to an HOI that are not its own."""
    vocabulary = load_vocabulary("vcoco")
    config = config_for(vocabulary)
    torch.manual_seed(0)
    state = HOICLIP(config).state_dict()
    state["heads.verb_to_hoi"] = (torch.rand_like(state["heads.verb_to_hoi"]) < 0.05).float()
    save_model_file(tmp_path / "vcoco.safetensors", state, config, vocabulary, {})
    model = load_model_file(tmp_path / "vcoco.safetensors")
    hois = [5, 100, 17]
    swapped = swapped_module(model, subset(vocabulary, hois), tmp_path / "subset.safetensors")
    np.testing.assert_allclose(
        predict(swapped)["hoi_logits"], predict(model.build())["hoi_logits"][..., hois], atol=1e-5
    )  # sums of other lengths round otherwise
    words = load_model_file(tmp_path / "subset.safetensors").vocabulary
    assert len(words.verbs) > len({verb for verb, _ in words.hois})


def test_new_interaction_of_known_verb_has_its_text_embedding_and_its_verb(drawn: ModelFile, tmp_path: Path) -> None:
    words = vocabulary_from_words("new", ["ride suitcase", "hold cup"])
    row = np.random.default_rng(1).normal(size=drawn.config.clip_embed).astype(np.float32)
    asked: list[str] = []

    def embed(prompts: list[str]) -> NDArray[np.float32]:
        asked.extend(prompts)
        return row[None] * 7  # need not be of unit length

    swapped = swapped_module(drawn, words, tmp_path / "new.safetensors", embed)
    assert asked == ["a photo of a person riding a suitcase"]
    heads, own = swapped.heads, drawn.build().heads
    np.testing.assert_allclose(heads.hoi_classifier.weight[0], row / np.linalg.norm(row), atol=1e-3)  # half precision
    assert float(heads.hoi_classifier.bias[0]) == pytest.approx(float(own.hoi_classifier.bias.mean()), abs=1e-3)
    ride = drawn.vocabulary.verbs.index("ride")
    torch.testing.assert_close(
        heads.verb_classifier.weight.T @ heads.verb_to_hoi[:, 0], own.verb_classifier.weight[ride]
    )


def test_new_verb_adds_no_logit_of_its_own(drawn: ModelFile, tmp_path: Path) -> None:
    words = vocabulary_from_words("new", ["juggle frisbee", "throw frisbee"])
    rng = np.random.default_rng(2)
    swapped = swapped_module(
        drawn,
        words,
        tmp_path / "new.safetensors",
        lambda prompts: rng.normal(size=(len(prompts), drawn.config.clip_embed)).astype(np.float32),
    )
    z = torch.randn(3, drawn.config.clip_embed, generator=torch.Generator().manual_seed(0))
    direct = swapped.heads.log_scale.exp() * swapped.heads.hoi_classifier(torch.nn.functional.normalize(z, dim=-1))
    torch.testing.assert_close(swapped.heads.hoi_logits(z)[:, 0], direct[:, 0])
    assert load_model_file(tmp_path / "new.safetensors").notice.endswith("from no image")


def embeddings_file(path: Path, words: Vocabulary, rows: dict[str, NDArray[np.float32]]) -> Path:
    save_file(rows, path, metadata={"vocabulary": words.to_json()})
    return path


def own_rows(model: ModelFile, words: Vocabulary, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """The model's text embeddings of prompts that it knows, and noise for others."""
    rng = np.random.default_rng(seed)
    own = model.text_embeddings()
    width = model.config.clip_embed
    return {
        name: np.array([own.get(text, rng.normal(size=width) / width**0.5) for text in texts], np.float32)
        for name, texts in words.prompts_by_tensor.items()
    }


def test_words_without_embeddings_are_named_with_what_to_do(drawn: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    path.write_text(vocabulary_from_words("v", ["push trolley", *WORDS]).to_json())
    with pytest.raises(ModelError, match=r"pushing a trolley.*hoiclip vocab build") as caught:
        find_with_vocabulary(drawn.path, path)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_swapped_file_is_made_once_and_again_for_other_words_or_rows(drawn: ModelFile, tmp_path: Path) -> None:
    words = vocabulary_from_words("v", ["push trolley", *WORDS])
    first = embeddings_file(tmp_path / "first.safetensors", words, own_rows(drawn, words))
    made = find_with_vocabulary(drawn.path, first)
    stamp = made.stat().st_mtime_ns
    assert find_with_vocabulary(drawn.path, first) == made
    assert made.stat().st_mtime_ns == stamp
    second = embeddings_file(tmp_path / "second.safetensors", words, own_rows(drawn, words, seed=1))
    assert find_with_vocabulary(drawn.path, second) != made
    assert load_model_file(made).vocabulary.named_hois == words.named_hois


def test_embeddings_of_another_text_tower_are_refused(drawn: ModelFile, tmp_path: Path) -> None:
    words = vocabulary_from_words("v", ["push trolley", *WORDS])
    rows = {name: np.roll(value, 1, axis=-1) for name, value in own_rows(drawn, words).items()}
    with pytest.raises(ModelError, match="another text tower"):
        find_with_vocabulary(drawn.path, embeddings_file(tmp_path / "v.safetensors", words, rows))
    rows = {name: value[:, :64] for name, value in own_rows(drawn, words).items()}
    with pytest.raises(ModelError, match=r"width 128.*64"):
        find_with_vocabulary(drawn.path, embeddings_file(tmp_path / "v.safetensors", words, rows))


def test_model_whose_classifier_is_no_text_takes_no_new_words(tmp_path: Path) -> None:
    state = load_model_file(untrained_model()).tensors()
    state["heads.hoi_classifier.weight"] = np.roll(state["heads.hoi_classifier.weight"], 1, axis=-1)
    save_model_file(tmp_path / "random.safetensors", state, CONFIG, load_vocabulary("hico"), {})
    model = load_model_file(tmp_path / "random.safetensors")
    words = vocabulary_from_words("v", ["juggle frisbee"])
    with pytest.raises(ModelError, match="not made of text embeddings"):
        swap_vocabulary(model, words, lambda prompts: np.ones((len(prompts), 64), np.float32))
    assert swap_vocabulary(model, vocabulary_from_words("v", ["catch frisbee"]), embed_nothing).config.num_hois == 1


@pytest.mark.parametrize("kind", ["empty", "model", "rows missing", "not finite"])
def test_file_that_is_no_text_embeddings_is_one_line(drawn: ModelFile, tmp_path: Path, kind: str) -> None:
    path, words = tmp_path / "v.safetensors", vocabulary_from_words("v", WORDS)
    rows = own_rows(drawn, words)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "model":
        path = untrained_model()
    elif kind == "rows missing":
        embeddings_file(path, words, rows | {"hoi_rows": rows["hoi_rows"][:-1]})
    else:
        embeddings_file(path, words, rows | {"hoi_rows": rows["hoi_rows"] * np.float32(np.nan)})
    with pytest.raises(ModelError, match="vocab build") as caught:
        find_with_vocabulary(drawn.path, path)
    assert "\n" not in str(caught.value)


def test_engine_reports_new_words_only_and_known_ones_as_before(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    path.write_text(vocabulary_from_words("v", WORDS).to_json())
    rgb = np.random.default_rng(0).integers(0, 255, (192, 256, 3), np.uint8)
    config = EngineConfig(backend="torch", postprocess=PostprocessConfig(top_k=10_000))
    with Engine.load("drawn", config, path) as engine, Engine.load("drawn", config) as whole:
        found, before = engine.detect(rgb), whole.detect(rgb)
        names, all_names = engine.vocabulary.named_hois, whole.vocabulary.named_hois
    assert {" ".join(names[hoi]) for hoi in found.hoi} <= set(WORDS)
    best = {hoi: float(before.score[before.hoi == hoi].max()) for hoi in np.unique(before.hoi)}
    again = {all_names.index(names[hoi]): float(found.score[found.hoi == hoi].max()) for hoi in np.unique(found.hoi)}
    shared = best.keys() & again.keys()
    assert shared
    # Products of fewer columns round otherwise.
    assert [again[hoi] for hoi in shared] == pytest.approx([best[hoi] for hoi in shared], abs=1e-6)


def test_fitted_scores_of_verbs_go_along_and_a_new_verb_gets_the_median(drawn: ModelFile, tmp_path: Path) -> None:
    scores = {verb: (0.3 + 0.01 * row, 0.1) for row, verb in enumerate(drawn.vocabulary.verbs)}
    words = vocabulary_from_words("v", ["juggle frisbee", "ride bicycle"])
    rows = embeddings_file(tmp_path / "v.safetensors", words, own_rows(drawn, words))
    for name, fitted in (("fitted", FittedTracking(verb_scores=scores, faint_overlap=0.3)), ("plain", None)):
        path = tmp_path / f"{name}.safetensors"
        save_model_file(path, drawn.tensors(), drawn.config, drawn.vocabulary, drawn.provenance, fitted)
    swapped = load_model_file(find_model(tmp_path / "fitted.safetensors", rows)).tracking
    assert swapped is not None
    assert swapped.faint_overlap == 0.3
    assert swapped.verb_scores["ride"] == scores["ride"]
    assert swapped.verb_scores["juggle"] == pytest.approx((np.median([start for start, _ in scores.values()]), 0.1))
    assert load_model_file(find_model(tmp_path / "plain.safetensors", rows)).tracking is None


def test_swapped_model_is_a_model_file_like_any_other(drawn: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    path.write_text(vocabulary_from_words("my words", WORDS).to_json())
    made = find_model("drawn", path)
    assert made.name == "drawn-my_words.safetensors"
    assert hoiclip.load_model(made).config.num_hois == len(WORDS)
    provenance = load_model_file(made).provenance
    assert provenance["words"] == {"from": "drawn", "sha256": drawn.sha256(), "new_hois": 0}
    assert json.dumps(provenance["recipe"]) == json.dumps(drawn.provenance["recipe"])

"""Vocabularies: the bundled ones, and any JSON, which is a vocabulary or one error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import ModelError, UsageError
from hoiclip.core.vocabulary import NO_INTERACTION, Vocabulary, load_vocabulary, vocabulary_from_words

SMALL: dict[str, Any] = {
    "name": "small",
    "objects": ["person", "sports_ball"],
    "verbs": ["hold", "sit_on"],
    "hois": [[0, 1], [1, 0]],
    "hoi_prompts": ["holding a ball", "sitting on a person"],
    "object_prompts": ["a person", "a ball", "nothing"],
    "verb_prompts": ["holding", "sitting"],
}


def test_hico_has_600_interactions_of_117_verbs_with_80_objects() -> None:
    hico = load_vocabulary("hico")
    assert (len(hico.objects), len(hico.verbs), len(hico.hois)) == (80, 117, 600)
    assert hico.num_object_classes == 80
    assert not hico.has_no_object_class
    assert "person" in hico.objects
    assert sum(hico.verbs[verb] == NO_INTERACTION for verb, _ in hico.hois) == 80
    assert len(set(hico.hois)) == 600


def test_vcoco_lets_a_person_act_without_an_object() -> None:
    vcoco = load_vocabulary("vcoco")
    assert (len(vcoco.objects), len(vcoco.hois)) == (80, 263)
    assert vcoco.num_object_classes == 81
    assert vcoco.has_no_object_class
    assert vcoco.object_name(80) == ""
    assert any(obj == 80 for _, obj in vcoco.hois)


def test_unknown_vocabulary_error_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match="hico, vcoco"):
        load_vocabulary("coco")


@pytest.mark.parametrize("name", ["hico", "vcoco"])
def test_vocabulary_survives_a_round_trip_through_json(name: str) -> None:
    vocabulary = load_vocabulary(name)
    again = Vocabulary.from_dict(json.loads(vocabulary.to_json()))
    assert again == vocabulary
    assert again.sha256 == vocabulary.sha256


def test_hash_differs_between_vocabularies() -> None:
    vocabulary = Vocabulary.from_dict(SMALL)
    other = Vocabulary.from_dict({**SMALL, "hois": [[0, 1], [1, 1]]})
    assert vocabulary.sha256 != other.sha256


def test_names_are_readable() -> None:
    small = Vocabulary.from_dict(SMALL)
    assert small.object_name(1) == "sports ball"
    assert small.verb_name(1) == "sit on"
    assert small.object_name(-1) == small.object_name(2) == ""


@pytest.mark.parametrize("field", sorted(SMALL))
def test_missing_field_is_named(field: str) -> None:
    with pytest.raises(ModelError, match=field):
        Vocabulary.from_dict({key: value for key, value in SMALL.items() if key != field})


@pytest.mark.parametrize(
    "change",
    [
        {"objects": []},
        {"verbs": "hold"},
        {"objects": {"person": 0, "ball": 1}},
        {"objects": ["person", 7]},
        {"objects": ["person", "ball\n"]},
        {"verbs": ["hold", "\ud800"]},
        {"verbs": ["hold", "\x1b[31msit"]},
        {"name": None},
        {"hois": [[0, 1], [2, 0]]},
        {"hois": [[0, 1], [-1, 0]]},
        {"hois": [[0, 1], [0, 2]]},
        {"hois": [[0, 1], [0]]},
        {"hois": [[0, 1], [0.5, 1]]},
        {"hois": [[0, 1], [float("inf"), 1]]},
        {"hois": [[0, 1]]},
        {"hoi_prompts": ["one"]},
        {"verb_prompts": ["one"]},
        {"object_prompts": ["a person", "a ball"]},
        {"object_prompts": ["a", "b", "c", "d", "e"]},
    ],
    ids=repr,
)
def test_vocabulary_that_does_not_fit_together_is_one_error(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as caught:
        Vocabulary.from_dict({**SMALL, **change})
    assert "\n" not in str(caught.value)


any_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def changed(inner: Callable[[str], st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """SMALL with one field replaced."""
    return st.sampled_from(sorted(SMALL)).flatmap(lambda key: inner(key).map(lambda value: {**SMALL, key: value}))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(any_json | changed(lambda _: any_json) | changed(lambda _: st.lists(any_json, min_size=2, max_size=2)))
def test_any_json_is_a_vocabulary_or_one_error(data: Any) -> None:
    try:
        vocabulary = Vocabulary.from_dict(data)
    except ModelError:
        return
    assert Vocabulary.from_dict(json.loads(vocabulary.to_json())) == vocabulary
    assert len(vocabulary.sha256) == 64


def test_words_become_a_vocabulary_with_prompts() -> None:
    lines = ["carry box  # heavy", "", "sit on bench", "eat hot dog", "mop floor", "push hand_cart", "open umbrella"]
    words = vocabulary_from_words("mine", [*lines, "carry box", "Wave"])
    assert words.named_hois[:4] == (("carry", "box"), ("sit_on", "bench"), ("eat", "hot_dog"), ("mop", "floor"))
    assert words.hoi_prompts == (
        "a photo of a person carrying a box",
        "a photo of a person sitting on a bench",
        "a photo of a person eating a hot dog",
        "a photo of a person mopping a floor",
        "a photo of a person pushing a hand cart",
        "a photo of a person opening a umbrella",  # as in HICO-DET's own list
        "a photo of a person waving",
    )
    assert words.objects[0] == "person"
    assert words.has_no_object_class  # for "wave"
    assert not vocabulary_from_words("mine", lines).has_no_object_class


def test_words_of_hico_give_its_prompts() -> None:
    hico = load_vocabulary("hico")
    words = vocabulary_from_words("hico", [f"{verb} {obj}" for verb, obj in hico.named_hois])
    assert words.hoi_prompts == hico.hoi_prompts
    assert dict(zip(words.verbs, words.verb_prompts, strict=True)) == dict(
        zip(hico.verbs, hico.verb_prompts, strict=True)
    )
    assert set(words.object_prompts) == set(hico.object_prompts)


@pytest.mark.parametrize(
    ("verb", "doing"),
    [
        ("use", "using"),
        ("lie", "lying"),
        ("see", "seeing"),
        ("open", "opening"),
        ("grab", "grabbing"),
        ("fix", "fixing"),
    ],
)
def test_verb_gets_its_form_in_prompts(verb: str, doing: str) -> None:
    assert vocabulary_from_words("v", [f"{verb} it"]).verb_prompts == (f"a photo of a person {doing}",)


@pytest.mark.parametrize(
    ("lines", "message"), [([], "found none"), (["carry box", "carry b\x07x"], "line 2"), (["x" * 50], "line 1")]
)
def test_words_that_are_none_are_one_line(lines: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        vocabulary_from_words("v", lines)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_a_vocabulary_or_one_error(text: str) -> None:
    try:
        words = vocabulary_from_words("v", text.splitlines())
    except UsageError:
        return
    assert Vocabulary.from_dict(json.loads(words.to_json())) == words

"""What the small CLIP is told apart from, and what it is not: nothing that is true of a picture counts as wrong."""

from __future__ import annotations

import torch

from hoiclip.data.drawn.fixed_sets import fixed_set
from hoiclip.data.drawn.vocabulary import drawn_vocabulary
from hoiclip.training.clip_task import ClipTask, texts_of
from hoiclip.training.drawn_samples import DrawnClipSamples
from hoiclip.training.recipe import read_recipe
from hoiclip.training.small_clip import Caption, ClipSample, SmallClip
from tests.hoiclip.test_recipes import FOLDER
from tests.hoiclip.test_start_weights import SMALL, WORDS

PROMPTS = dict(enumerate(WORDS.hoi_prompts))


def sample(told: set[int], true: set[int] | None = None, words: str = "{}", seed: int = 0) -> ClipSample:
    generator = torch.Generator().manual_seed(seed)
    return ClipSample(
        image=torch.randn(3, 32, 32, generator=generator),
        caption=Caption(
            words.format(" and ".join(WORDS.hoi_prompts[hoi] for hoi in sorted(told))),
            frozenset(told),
            frozenset(told if true is None else true),
        ),
        things=torch.zeros(2, 2, dtype=torch.int64),
    )


def losses(clip: SmallClip, samples: list[ClipSample], prompts: dict[int, str]) -> dict[str, torch.Tensor]:
    texts, own, also_true = texts_of([one.caption for one in samples], prompts)
    things = torch.stack([one.things for one in samples])
    return clip.losses(torch.stack([one.image for one in samples]), texts, own, also_true, things)


def test_other_words_for_the_same_are_one_text() -> None:
    texts, own, also_true = texts_of(
        [sample({1}).caption, sample({1}, words="we see {}").caption, sample({2}).caption], PROMPTS
    )
    assert own[0] == own[1] != own[2]
    assert texts[own[0]] == WORDS.hoi_prompts[1]
    assert len(texts) == len(PROMPTS)
    assert not also_true.any()


def test_a_text_that_is_true_of_a_picture_is_not_set_against_it() -> None:
    captions = [sample({0, 1}, true={0, 1, 3}).caption, sample({2}).caption]
    texts, own, also_true = texts_of(captions, PROMPTS)
    true_of_first = {text for text, true in zip(texts, also_true[0].tolist(), strict=True) if true}
    assert true_of_first == {WORDS.hoi_prompts[hoi] for hoi in (0, 1, 3)}
    assert not also_true[1].any()
    assert not also_true[torch.arange(2), own].any()


def test_only_false_texts_change_the_loss() -> None:
    torch.manual_seed(0)
    clip = SmallClip(SMALL, WORDS.hoi_prompts)
    samples = [sample({0}, true={0, 1})]
    alone = losses(clip, samples, {0: PROMPTS[0]})
    with_a_true_one = losses(clip, samples, {0: PROMPTS[0], 1: PROMPTS[1]})
    with_a_false_one = losses(clip, samples, {0: PROMPTS[0], 2: PROMPTS[2]})
    torch.testing.assert_close(with_a_true_one["to_texts"], alone["to_texts"])
    assert with_a_false_one["to_texts"] > alone["to_texts"] + 1e-3


def test_a_picture_twice_weighs_as_one() -> None:
    torch.manual_seed(0)
    clip = SmallClip(SMALL, WORDS.hoi_prompts)
    once, twice = (losses(clip, [sample({0})] * count, PROMPTS) for count in (1, 2))
    torch.testing.assert_close(twice["to_texts"], once["to_texts"])


def test_gradients_are_finite_where_texts_are_masked() -> None:
    torch.manual_seed(0)
    clip = SmallClip(SMALL, WORDS.hoi_prompts)
    total = sum(losses(clip, [sample({0}, {0, 1, 2}), sample({1}, seed=1)], PROMPTS).values())
    total.backward()
    assert all(bool(p.grad.isfinite().all()) for p in clip.parameters() if p.grad is not None)


def test_drawn_samples_say_what_is_true_of_cuts_and_scenes() -> None:
    recipe = read_recipe(FOLDER / "drawn_clip.toml")
    samples = DrawnClipSamples(fixed_set("validation").world, recipe.model)
    for number in range(12):
        one = samples[number].caption
        assert one.told <= one.true
        prompts = drawn_vocabulary().hoi_prompts
        assert all(prompts[hoi].removeprefix("a photo of ") in one.text for hoi in one.told)


def test_a_step_of_the_task_knows_hidden_prompts_neither_as_right_nor_as_wrong() -> None:
    torch.manual_seed(0)
    recipe = read_recipe(FOLDER / "drawn_clip.toml", **{"optimizer.precision": "fp32"})
    task = ClipTask(SmallClip(SMALL, WORDS.hoi_prompts), {0: PROMPTS[0]}, recipe)
    batch = task.collate([sample({0}), sample({0}, seed=1)])
    # Every picture has the only text there is: nothing to be told apart.
    assert task(batch).numbers["to_texts"] == 0

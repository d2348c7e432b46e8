"""Loss of the small CLIP: texts that are true of an image are no negatives of it."""

from __future__ import annotations

import torch

from hoiclip.synthetic.fixed_sets import fixed_set
from hoiclip.synthetic.vocabulary import synthetic_vocabulary
from hoiclip.training.recipe import read_recipe
from hoiclip.training.small_clip import Caption, ClipSample, SmallClip
from hoiclip.training.synthetic_samples import SyntheticClipSamples
from hoiclip.training.tasks import ClipTask, texts_of
from tests.hoiclip.test_initial_weights import SMALL, WORDS
from tests.hoiclip.test_recipes import FOLDER

PROMPTS = dict(enumerate(WORDS.hoi_prompts))


def sample(mentioned: set[int], shown: set[int] | None = None, words: str = "{}", seed: int = 0) -> ClipSample:
    generator = torch.Generator().manual_seed(seed)
    return ClipSample(
        image=torch.randn(3, 32, 32, generator=generator),
        caption=Caption(
            words.format(" and ".join(WORDS.hoi_prompts[hoi] for hoi in sorted(mentioned))),
            frozenset(mentioned),
            frozenset(mentioned if shown is None else shown),
        ),
        patch_labels=torch.zeros(2, 2, dtype=torch.int64),
    )


def losses(clip: SmallClip, samples: list[ClipSample], prompts: dict[int, str]) -> dict[str, torch.Tensor]:
    texts, own, also_shown = texts_of([clip_sample.caption for clip_sample in samples], prompts)
    patch_labels = torch.stack([clip_sample.patch_labels for clip_sample in samples])
    return clip.losses(
        torch.stack([clip_sample.image for clip_sample in samples]), texts, own, also_shown, patch_labels
    )


def test_wordings_of_the_same_hois_are_one_text() -> None:
    texts, own, also_shown = texts_of(
        [sample({1}).caption, sample({1}, words="we see {}").caption, sample({2}).caption], PROMPTS
    )
    assert own[0] == own[1] != own[2]
    assert texts[own[0]] == WORDS.hoi_prompts[1]
    assert len(texts) == len(PROMPTS)
    assert not also_shown.any()


def test_text_that_is_true_of_an_image_is_no_negative() -> None:
    captions = [sample({0, 1}, shown={0, 1, 3}).caption, sample({2}).caption]
    texts, own, also_shown = texts_of(captions, PROMPTS)
    true_of_first = {text for text, shown in zip(texts, also_shown[0].tolist(), strict=True) if shown}
    assert true_of_first == {WORDS.hoi_prompts[hoi] for hoi in (0, 1, 3)}
    assert not also_shown[1].any()
    assert not also_shown[torch.arange(2), own].any()


def test_only_false_texts_change_the_loss() -> None:
    torch.manual_seed(0)
    clip = SmallClip(SMALL, WORDS.hoi_prompts)
    samples = [sample({0}, shown={0, 1})]
    alone = losses(clip, samples, {0: PROMPTS[0]})
    with_a_true_one = losses(clip, samples, {0: PROMPTS[0], 1: PROMPTS[1]})
    with_a_false_one = losses(clip, samples, {0: PROMPTS[0], 2: PROMPTS[2]})
    torch.testing.assert_close(with_a_true_one["to_texts"], alone["to_texts"])
    assert with_a_false_one["to_texts"] > alone["to_texts"] + 1e-3


def test_image_twice_has_the_weight_of_one() -> None:
    torch.manual_seed(0)
    clip = SmallClip(SMALL, WORDS.hoi_prompts)
    once, twice = (losses(clip, [sample({0})] * count, PROMPTS) for count in (1, 2))
    torch.testing.assert_close(twice["to_texts"], once["to_texts"])


def test_gradients_with_masked_texts_are_finite() -> None:
    torch.manual_seed(0)
    clip = SmallClip(SMALL, WORDS.hoi_prompts)
    total = sum(losses(clip, [sample({0}, {0, 1, 2}), sample({1}, seed=1)], PROMPTS).values())
    total.backward()
    assert all(bool(p.grad.isfinite().all()) for p in clip.parameters() if p.grad is not None)


def test_synthetic_clip_samples_list_all_hois_of_crops_and_scenes() -> None:
    recipe = read_recipe(FOLDER / "drawn_clip.toml")
    samples = SyntheticClipSamples(fixed_set("validation").world, recipe.model)
    for number in range(12):
        caption = samples[number].caption
        assert caption.mentioned <= caption.shown
        prompts = synthetic_vocabulary().hoi_prompts
        assert all(prompts[hoi].removeprefix("a photo of ") in caption.text for hoi in caption.mentioned)


def test_clip_task_uses_hidden_prompts_neither_as_positives_nor_as_negatives() -> None:
    torch.manual_seed(0)
    recipe = read_recipe(FOLDER / "drawn_clip.toml", **{"optimizer.precision": "fp32"})
    task = ClipTask(SmallClip(SMALL, WORDS.hoi_prompts), {0: PROMPTS[0]}, recipe)
    batch = task.collate([sample({0}), sample({0}, seed=1)])
    # Every image has the only text: there are no negatives.
    assert task(batch).numbers["to_texts"] == 0

"""Initial weights of training: a CLIP, text embeddings, verb embeddings without leaks, DETR."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import Tensor

from hoiclip.checkpoint.official import detr_weights
from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import load_model_file, save_model_file
from hoiclip.core.vocabulary import Vocabulary, vocabulary_from_words
from hoiclip.model import HOICLIP, ModelConfig
from hoiclip.training.initial_weights import (
    DETECTOR,
    TEXT_TENSORS,
    init_classifiers,
    initial_model,
    load_clip_weights,
    load_detector_weights,
    load_model_weights,
    save_clip,
    select_weights,
)
from hoiclip.training.losses import LossConfig
from hoiclip.training.matching import MatchCosts
from hoiclip.training.small_clip import SmallClip
from hoiclip.training.tasks import HoiTask
from hoiclip.training.verb_embeddings import verb_embeddings_from_crops
from hoiclip_engine.models import find_model
from tests.golden.rule import official_keys
from tests.hoiclip.test_training_model import SMALL
from tests.hoiclip.tiny_run import RECIPE, NoiseSamples

WORDS = Vocabulary(
    name="tiny",
    objects=("person", "cup", "dog"),
    verbs=("hold", "walk", "wash", "hug"),
    hois=((0, 1), (1, 2), (2, 1), (2, 2), (3, 0)),
    hoi_prompts=("a hand and a cup", "a man and a dog", "a cup", "a dog", "a man"),
    object_prompts=("a man", "a cup", "a dog", "nothing"),
    verb_prompts=("hold", "walk", "wash", "hug"),
)


def saved_model(path: Path, config: ModelConfig, vocabulary: Vocabulary = WORDS) -> HOICLIP:
    torch.manual_seed(3)
    model = HOICLIP(config)
    save_model_file(path, model.state_dict(), config, vocabulary, {})
    return model.eval()


def test_initial_model_brings_all_of_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    trained, model = saved_model(path, SMALL), HOICLIP(SMALL)
    load_model_weights(model, str(path), WORDS)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in trained.state_dict().items())


@torch.inference_mode()
def test_fine_memory_starts_as_the_coarse_memory(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    coarse, fine = saved_model(path, SMALL), HOICLIP(replace(SMALL, fine_memory=True)).eval()
    load_model_weights(fine, str(path), WORDS)
    images, padding = torch.randn(1, 3, 64, 96), torch.zeros(1, 64, 96, dtype=torch.bool)
    (few, *_), (many, *_) = coarse.encode(images, padding), fine.encode(images, padding)
    assert (few.shape[1], many.shape[1]) == (4 * 6, 8 * 12)
    grown = few.unflatten(1, (4, 6)).repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1, 2)
    torch.testing.assert_close(many, grown, atol=1e-6, rtol=1e-6)


def test_selected_channels_are_the_same_in_every_tensor() -> None:
    torch.manual_seed(0)
    large = replace(SMALL, hidden=32, feedforward=32, encoder_layers=2, clip_image_px=64)
    teacher, student = HOICLIP(large).state_dict(), HOICLIP(SMALL)
    for index in range(len(teacher["clip.positional_embedding"])):
        teacher["clip.positional_embedding"][index] = index
    before = {key: value.clone() for key, value in student.state_dict().items()}
    select_weights(student, teacher)
    after = student.state_dict()
    half = torch.arange(16).div(2, rounding_mode="floor") * 4 + torch.arange(16) % 2  # 0, 1, 4, 5, 8, ...
    heads = "heads.human_box.layers"
    torch.testing.assert_close(after[f"{heads}.0.weight"], teacher[f"{heads}.0.weight"][half][:, half])
    torch.testing.assert_close(after[f"{heads}.2.weight"], teacher[f"{heads}.2.weight"][:, half])
    qkv = "encoder.layers.0.attention.in_proj_weight"
    blocks = torch.cat([half + 32 * block for block in range(3)])  # queries stay queries, keys keys
    torch.testing.assert_close(after[qkv], teacher[qkv][blocks][:, half])
    torch.testing.assert_close(after["backbone.conv.weight"], teacher["backbone.conv.weight"])
    # Of the image and 4 by 4 patches to 2 by 2: each stands for its four.
    torch.testing.assert_close(after["clip.positional_embedding"][:, 0], torch.tensor([0, 3.5, 5.5, 11.5, 13.5]))
    assert torch.equal(after["heads.hoi_classifier.weight"], teacher["heads.hoi_classifier.weight"])
    assert set(before) == set(after)


def test_norms_of_another_kind_of_block_are_not_selected() -> None:
    torch.manual_seed(0)
    bottleneck, student = replace(SMALL, backbone_block="bottleneck", backbone_widths=(8, 8, 8, 8)), HOICLIP(SMALL)
    teacher = {key: torch.randn_like(value) for key, value in HOICLIP(bottleneck).state_dict().items()}
    before = {key: value.clone() for key, value in student.state_dict().items()}
    select_weights(student, teacher)
    after = student.state_dict()
    changed = {key for key, value in after.items() if key.startswith("backbone.") and not value.equal(before[key])}
    assert {key for key in changed if ".stages." in key and ".shortcut." not in key} == set()
    assert {"backbone.conv.weight", "backbone.bn.running_var"} <= changed


def test_nothing_is_selected_for_a_wider_layer() -> None:
    torch.manual_seed(0)
    teacher, student = HOICLIP(SMALL).state_dict(), HOICLIP(replace(SMALL, feedforward=32))
    before = {key: value.clone() for key, value in student.state_dict().items()}
    select_weights(student, teacher)
    for key, value in student.state_dict().items():
        wider = teacher[key].shape != value.shape
        torch.testing.assert_close(value, before[key] if wider else teacher[key], rtol=0, atol=0)


def test_initial_model_of_another_size_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    saved_model(path, replace(SMALL, hidden=32))
    with pytest.raises(ModelError, match="another size than the model"):
        load_model_weights(HOICLIP(SMALL), str(path), WORDS)
    with pytest.raises(ModelError, match="there is no file"):
        load_model_weights(HOICLIP(SMALL), str(tmp_path / "none.safetensors"), WORDS)


def test_initial_model_of_another_vocabulary_brings_known_rows_and_embeddings_of_new_words(tmp_path: Path) -> None:
    drawn = load_model_file(find_model("drawn"))
    words = vocabulary_from_words("mine", ["juggle frisbee", "ride bicycle"])
    rng = np.random.default_rng(0)
    rows = {
        name: rng.normal(size=(len(texts), drawn.config.clip_embed)).astype(np.float32)
        for name, texts in words.prompts_by_tensor.items()
    }
    known = dict(zip(drawn.vocabulary.prompts_by_tensor["object_rows"], drawn.tensor("object_rows"), strict=True))
    rows["object_rows"] = np.array([known[text] for text in words.object_prompts])
    rows["hoi_rows"][1] = drawn.tensor("hoi_rows")[drawn.vocabulary.named_hois.index(("ride", "bicycle"))]
    rows["verb_rows"][1] = drawn.tensor("verb_rows")[drawn.vocabulary.verbs.index("ride")]
    save_file(rows, tmp_path / "rows.safetensors", metadata={"vocabulary": words.to_json()})
    config = replace(drawn.config, num_object_classes=3, num_verbs=2, num_hois=2)
    model, own = HOICLIP(config), drawn.build()
    load_model_weights(model, "drawn", words, str(tmp_path / "rows.safetensors"))
    ride = drawn.vocabulary.named_hois.index(("ride", "bicycle"))
    assert torch.equal(model.heads.hoi_classifier.weight[1], own.heads.hoi_classifier.weight[ride])
    unit = torch.nn.functional.normalize(torch.from_numpy(rows["hoi_rows"][0]), dim=0)
    torch.testing.assert_close(model.heads.hoi_classifier.weight[0], unit, atol=1e-3, rtol=0)  # stored in halves
    assert model.heads.verb_to_hoi.tolist() == [[1, 0], [0, 1]]  # a new verb can be learned
    assert torch.equal(model.backbone.conv.weight, own.backbone.conv.weight)
    with pytest.raises(ModelError, match="none of 'a photo of a person carrying a suitcase'"):
        load_model_weights(
            model, "drawn", vocabulary_from_words("other", ["carry suitcase"]), str(tmp_path / "rows.safetensors")
        )


def test_fetched_model_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path))
    (tmp_path / "models").mkdir()
    saved_model(tmp_path / "models" / "tiny.safetensors", SMALL)
    assert initial_model("tiny").vocabulary == WORDS
    with pytest.raises(ModelError, match="there is no file other"):
        initial_model("other")


def test_bundled_model_is_found_by_its_name() -> None:
    bundled = load_model_file(find_model("drawn"))
    model = HOICLIP(bundled.config)
    load_model_weights(model, "drawn", bundled.vocabulary)
    assert torch.equal(model.state_dict()["hoi_rows"], bundled.build().state_dict()["hoi_rows"])


def test_initial_clip_fits_a_model_of_its_size_only(tmp_path: Path) -> None:
    torch.manual_seed(0)
    clip = SmallClip(SMALL, [*WORDS.hoi_prompts, *WORDS.object_prompts, *WORDS.verb_prompts])
    text_embeddings = {
        name: clip.text_embeddings(texts)
        for name, texts in zip(TEXT_TENSORS, (WORDS.hoi_prompts, WORDS.object_prompts, WORDS.verb_prompts), strict=True)
    }
    path = tmp_path / "clip.safetensors"
    save_clip(path, clip.image.state_dict(), text_embeddings, {"why": "test"})
    model = HOICLIP(SMALL)
    load_clip_weights(model, path, WORDS)
    assert all(torch.equal(model.clip.state_dict()[key], value) for key, value in clip.image.state_dict().items())
    init_classifiers(model, WORDS, text_embeddings=True, bias=-0.3)
    torch.testing.assert_close(model.heads.hoi_classifier.weight.norm(dim=1), torch.ones(5))
    assert model.heads.verb_to_hoi.sum(0).tolist() == [1] * 5
    assert model.heads.hoi_classifier.bias.tolist() == pytest.approx([-0.3] * 5)
    with pytest.raises(ModelError, match="another size"):
        load_clip_weights(HOICLIP(ModelConfig()), path, WORDS)
    with pytest.raises(ModelError, match="there is no file"):
        load_clip_weights(model, tmp_path / "none.safetensors", WORDS)


def test_small_text_tower_refuses_unknown_words() -> None:
    clip = SmallClip(SMALL, WORDS.hoi_prompts)
    with pytest.raises(ValueError, match="not in the vocabulary of this tower"):
        clip.text_embeddings(["a zebra"])


def test_verb_embeddings_are_made_of_seen_crops_only() -> None:
    """A hidden class changes no embedding, and a verb without crops keeps its text embedding."""
    torch.manual_seed(0)
    tower = HOICLIP(SMALL).clip.eval()
    fallback = torch.randn(4, SMALL.clip_embed)

    def crops(seen: tuple[int, ...]) -> Iterator[tuple[Tensor, Tensor, tuple[int, ...], int]]:
        for hoi in seen:
            generator = torch.Generator().manual_seed(hoi)
            pair, obj = torch.randn(2, 3, 32, 32, generator=generator)
            yield pair, obj, (hoi,), WORDS.hois[hoi][1]

    some = verb_embeddings_from_crops(tower, crops((0, 1, 2)), WORDS, fallback)
    torch.testing.assert_close(some.norm(dim=1), torch.ones(4))
    unit = torch.nn.functional.normalize(fallback, dim=-1)
    assert torch.equal(some[3], unit[3])  # hug was not seen
    assert not torch.equal(some[0], unit[0])
    more = verb_embeddings_from_crops(tower, crops((0, 1, 2, 4)), WORDS, fallback)
    assert torch.equal(more[1], some[1])
    assert not torch.equal(more[3], some[3])


def detr_like(decoder_layers: int = 6) -> dict[str, Tensor]:
    """DETR-R50's keys and shapes, made of the official HOICLIP ones."""
    state = {"query_embed.weight": torch.zeros(100, 256), "class_embed.weight": torch.zeros(92, 256)}
    for key, shape in official_keys("hico").items():
        value = torch.tensor(0.5).expand(shape)
        if key.startswith(("backbone.", "transformer.encoder.", "input_proj.")):
            state[key] = value
        elif key.startswith("transformer.instance_decoder."):
            name = key.replace("instance_decoder", "decoder")
            state[name] = value
            if ".layers.0." in name:
                for layer in range(3, decoder_layers):
                    state[name.replace(".layers.0.", f".layers.{layer}.")] = value
        elif key.startswith("hum_bbox_embed."):
            state[key.removeprefix("hum_")] = value
    return state


def test_detr_brings_backbone_encoder_decoder_and_both_box_heads(tmp_path: Path) -> None:
    path = tmp_path / "detr.pth"
    torch.save({"model": detr_like()}, path)
    with torch.device("meta"):
        wanted = {key: tuple(value.shape) for key, value in HOICLIP(ModelConfig()).state_dict().items()}
    state = detr_weights(path, wanted)
    assert set(state) < set(wanted)
    fresh = {key.split(".")[0] for key in set(wanted) - set(state)}
    assert not fresh & {"backbone", "encoder", "input_projection"}
    assert {"heads.human_box.layers.2.bias", "heads.object_box.layers.2.bias"} < set(state)
    left = {key for key in set(wanted) - set(state) if key.startswith("instance_decoder.")}
    assert left == {f"instance_decoder.{kind}_queries" for kind in ("human", "object", "pair")}


def test_initial_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"model": {"weight": torch.zeros(3)}}, path)
    with pytest.raises(ModelError, match="Is it DETR"):
        detr_weights(path, {})


def test_initial_detector_brings_boxes_and_no_class(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = HOICLIP(SMALL)
    path = tmp_path / "detector.safetensors"
    save_model_file(path, trained.state_dict(), SMALL, WORDS, {"kind": "test"})
    model = HOICLIP(SMALL)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load_detector_weights(model, path)
    for key, value in model.state_dict().items():
        source = trained.state_dict() if key.startswith(DETECTOR) else before
        assert torch.equal(value, source[key]), key
    assert not any("classifier" in key or "clip" in key or "rows" in key for key in before if key.startswith(DETECTOR))
    with pytest.raises(ModelError, match="another size"):
        load_detector_weights(HOICLIP(replace(SMALL, hidden=24)), path)


def test_detector_recipe_learns_from_no_hoi() -> None:
    """Its HOI labels may be anything: gradients stay the same."""
    recipe = replace(RECIPE, losses=LossConfig(hoi=0.0, match=MatchCosts(hoi=0.0)))

    def gradients(shift: int) -> list[Tensor]:
        torch.manual_seed(3)
        task = HoiTask(HOICLIP(SMALL), recipe)
        samples = [NoiseSamples()[number] for number in range(2)]
        for sample in samples:
            sample.targets.hoi_labels.copy_(sample.targets.hoi_labels.roll(shift, 1))
        task(task.collate(samples)).total.backward()
        return [p.grad for p in task.parameters() if p.grad is not None]

    for first, second in zip(gradients(0), gradients(2), strict=True):
        assert torch.equal(first, second)

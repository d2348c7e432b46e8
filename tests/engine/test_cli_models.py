"""The commands about models and vocabularies."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hoiclip.core.model_file import load_model_file, save_model_file
from hoiclip.core.vocabulary import Vocabulary, load_vocabulary
from tests.engine.command_output import Cli
from tests.engine.untrained import NOTICE


def test_models_are_known_by_the_name_of_their_file(
    model: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path))
    (tmp_path / "models").mkdir()
    shutil.copy(model, tmp_path / "models" / "mine.safetensors")
    listed = cli("models", "list")
    assert listed.code == 0
    assert "mine" in listed.out
    assert "untrained" in listed.out
    (tmp_path / "models" / "half.safetensors").write_bytes(model.read_bytes()[:5000])
    listed = cli("models", "list")
    assert listed.code == 0
    assert "half" in listed.out
    assert "damaged" in listed.out
    assert "mine" in listed.out
    facts = json.loads(cli("models", "info", "mine", "--json").out)
    assert facts["vocabulary"] == {"name": "hico", "objects": 80, "verbs": 117, "hois": 600}
    assert facts["provenance"]["notice"] == NOTICE
    assert facts["config"]["queries"] == 16
    assert facts["size_bytes"] == model.stat().st_size
    assert facts["sha256"] == load_model_file(model).sha256()
    assert facts["sha256"][:40] in cli("models", "info", "mine").out
    assert cli("models", "verify", "mine").code == 0


def test_names_with_brackets_are_printed_as_they_are(model: Path, tmp_path: Path, cli: Cli, clip: Path) -> None:
    odd = tmp_path / "[bold] [red]odd.safetensors"
    header = load_model_file(model)
    save_model_file(odd, load_file(model), header.config, header.vocabulary, {"notice": "[/x] take [bold]care"})
    assert str(odd) in cli("models", "verify", odd).err
    assert "[red]odd" in cli("models", "info", odd).out
    said = cli("run", clip, "--model", odd, "--backend", "torch", "--jsonl", os.devnull)
    assert said.code == 0
    assert "[/x] take [bold]care" in said.err


# Vocabularies.


@pytest.mark.parametrize("name", ["hico", "vcoco"])
def test_shown_vocabulary_is_the_bundled_one(name: str, tmp_path: Path, cli: Cli) -> None:
    shown = cli("vocab", "show", name, "--json")
    assert shown.code == 0
    assert Vocabulary.from_dict(json.loads(shown.out)) == load_vocabulary(name)
    copy = tmp_path / "mine.json"
    copy.write_text(shown.out, encoding="utf-8")
    assert cli("vocab", "show", copy, "--json").out == shown.out
    table = cli("vocab", "show", name)
    assert all(verb.replace("_", " ") in table.out for verb in load_vocabulary(name).verbs)


def test_list_of_interactions_becomes_a_vocabulary_file(tmp_path: Path, cli: Cli) -> None:
    words, target = tmp_path / "words.txt", tmp_path / "depot.json"
    words.write_text("carry box\npush trolley\n")
    made = cli("vocab", "new", words, "-o", target)
    assert made.code == 0, made.err
    assert "3 objects, 2 verbs, 2 interactions" in made.err
    assert load_vocabulary(str(target)).hoi_prompts[1] == "a photo of a person pushing a trolley"
    assert cli("vocab", "show", target).code == 0


@pytest.mark.parametrize(
    ("text", "output", "message"),
    [
        ("carry box\n(push) trolley\n", "v.json", "line 2: expected words"),
        ("# nothing\n", "v.json", "found none"),
        (None, "v.json", "No such file"),
        ("carry box\n", "v.txt", "written as .json"),
        ("carry box\n", "words.txt", "written as .json"),
    ],
)
def test_list_that_is_none_is_one_line_and_leaves_nothing(
    tmp_path: Path, cli: Cli, text: str | None, output: str, message: str
) -> None:
    words = tmp_path / "words.txt"
    if text is not None:
        words.write_text(text)
    before = sorted(tmp_path.iterdir())
    failed = cli("vocab", "new", words, "-o", tmp_path / output)
    assert failed.code == 2
    assert message in failed.err
    assert failed.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_vocabulary_of_a_model_can_be_shown(model: Path, cli: Cli) -> None:
    assert Vocabulary.from_dict(json.loads(cli("vocab", "show", model, "--json").out)) == load_vocabulary("hico")


@pytest.mark.parametrize("content", [None, b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"name": "x"}', b"[" * 100_000])
def test_vocabulary_file_that_is_none_is_one_line_and_exit_code_4(
    content: bytes | None, tmp_path: Path, cli: Cli
) -> None:
    path = tmp_path / "words.json"
    if content is not None:
        path.write_bytes(content)
    assert cli("vocab", "show", path).is_one_error(4)


WIDTH, LAYERS, CONTEXT = 64, 2, 77


def clip_text_state() -> dict[str, torch.Tensor]:
    """A CLIP text tower of one head, with an image tower's tensor beside it that must be left alone."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return 0.1 * torch.randn(shape, generator=random)

    state = {
        "token_embedding.weight": normal(49408, WIDTH).half(),
        "positional_embedding": normal(CONTEXT, WIDTH),
        "text_projection": normal(WIDTH, 32),
        "ln_final.weight": torch.ones(WIDTH),
        "ln_final.bias": torch.zeros(WIDTH),
        "visual.proj": normal(3, 3),
        "logit_scale": torch.tensor(4.6),
    }
    for layer in range(LAYERS):
        block = f"transformer.resblocks.{layer}."
        state |= {
            f"{block}attn.in_proj_weight": normal(3 * WIDTH, WIDTH),
            f"{block}attn.in_proj_bias": normal(3 * WIDTH),
            f"{block}attn.out_proj.weight": normal(WIDTH, WIDTH),
            f"{block}attn.out_proj.bias": normal(WIDTH),
            f"{block}mlp.c_fc.weight": normal(4 * WIDTH, WIDTH),
            f"{block}mlp.c_fc.bias": normal(4 * WIDTH),
            f"{block}mlp.c_proj.weight": normal(WIDTH, 4 * WIDTH),
            f"{block}mlp.c_proj.bias": normal(WIDTH),
            **{f"{block}{norm}.weight": torch.ones(WIDTH) for norm in ("ln_1", "ln_2")},
            **{f"{block}{norm}.bias": torch.zeros(WIDTH) for norm in ("ln_1", "ln_2")},
        }
    return state


@pytest.fixture
def small_vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "words.json"
    words = Vocabulary(
        name="small",
        objects=("person", "cup"),
        verbs=("hold", "fill"),
        hois=((0, 1), (1, 1)),
        hoi_prompts=("a photo of a person holding a cup", "a photo of a person filling a cup"),
        object_prompts=("a photo of a person", "a photo of a cup", "a photo of nothing"),
        verb_prompts=("a photo of a person holding something", "a photo of a person filling something"),
    )
    path.write_text(words.to_json(), encoding="utf-8")
    return path


def test_text_embeddings_are_unit_vectors_and_are_encoded_once(
    small_vocabulary: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file as save_tensors

    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path / "cache"))
    state = clip_text_state()
    save_tensors(state, tmp_path / "clip.safetensors")
    torch.save(state, tmp_path / "clip.pt")
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    built = cli("vocab", "build", small_vocabulary, "--weights", tmp_path / "clip.safetensors", "-o", first)
    assert (built.code, built.out) == (0, ""), built.err
    rows = load_file(first)
    assert {name: tuple(value.shape) for name, value in rows.items()} == {
        "hoi_rows": (2, 32),
        "object_rows": (3, 32),
        "verb_rows": (2, 32),
    }
    for value in rows.values():
        torch.testing.assert_close(value.norm(dim=-1), torch.ones(len(value)))
        assert not torch.allclose(value[0], value[1])

    def fail(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr("hoiclip.checkpoint.text_embeddings.encode", fail)
    assert cli("vocab", "build", small_vocabulary, "--weights", tmp_path / "clip.pt", "-o", second).code == 0
    again = load_file(second)
    assert all(torch.equal(rows[name], again[name]) for name in rows)


def test_weights_that_are_no_clip_are_one_line_and_leave_nothing(
    small_vocabulary: Path, tmp_path: Path, cli: Cli
) -> None:
    from safetensors.torch import save_file as save_tensors

    state = clip_text_state()
    broken: dict[str, dict[str, torch.Tensor]] = {
        "other": {"weight": torch.zeros(2)},
        "no_layers": {key: value for key, value in state.items() if not key.startswith("transformer.")},
        "half_a_layer": {key: value for key, value in state.items() if "c_proj" not in key},
        "flat": {**state, "positional_embedding": torch.zeros(CONTEXT)},
        "thin": {**state, "positional_embedding": torch.zeros(CONTEXT, 8)},
        "no_width": {**state, "text_projection": torch.zeros(WIDTH)},
        "other_layers": {**state, "transformer.resblocks.x.ln_1.weight": torch.zeros(2)},
    }
    files = [tmp_path / f"{name}.safetensors" for name in broken]
    for file, tensors in zip(files, broken.values(), strict=True):
        save_tensors(tensors, file)
    text = tmp_path / "text.pt"
    text.write_text("no weights\n", encoding="utf-8")
    target = tmp_path / "rows.safetensors"
    for weights in (*files, text, tmp_path / "missing.pt"):
        assert cli("vocab", "build", small_vocabulary, "--weights", weights, "-o", target).is_one_error(4)
    assert not target.exists()
    assert cli("vocab", "build", small_vocabulary, "--weights", files[0], "-o", tmp_path / "rows.npy").is_one_error(2)
    assert cli("vocab", "build", small_vocabulary, "--weights", files[0], "-o", files[0]).is_one_error(2)


# Doctor, version, and the process itself.

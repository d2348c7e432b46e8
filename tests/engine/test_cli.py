"""What every command promises: exit codes, one line on standard error, nothing else where something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file

from hoiclip import __version__
from hoiclip.checkpoint.model_file import load_model_file, save_model_file
from hoiclip.vocabulary import Vocabulary, load_vocabulary
from hoiclip_engine.cli import main
from hoiclip_engine.untrained import NOTICE, untrained_model
from tests.engine.making_videos import write_clip

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Said:
    """What a command left."""

    code: int
    out: str
    err: str

    def is_one_error(self, code: int) -> bool:
        """Exactly one line, on standard error, for a person who has never seen Python."""
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("hoiclip"), self.err
        assert "internal error" not in self.err
        assert (self.code, self.out) == (code, ""), self.err
        return True


Cli = Callable[..., Said]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def call(*argv: object) -> Said:
        try:
            code = main([str(word) for word in argv])
        except SystemExit as end:
            code = int(end.code or 0)
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def model() -> Path:
    return untrained_model()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", [0, 40, 80])


PYTHONPATH = os.pathsep.join(str(ROOT / folder) for folder in ("", "engine", "kernels"))


def python(*argv: object, stdout: int = subprocess.PIPE) -> Said:
    """Python in a process of its own, as a user's shell would start it."""
    done = subprocess.run(
        [sys.executable, *map(str, argv)],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    return Said(done.returncode, done.stdout or "", done.stderr)


# Usage.


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fly"],
        ["run"],
        ["models"],
        ["vocab", "show"],
        ["run", "clip.mp4", "--nope"],
        ["run", "clip.mp4", "--detect-every", "0"],
        ["run", "clip.mp4", "--detect-every", "x"],
        ["run", "clip.mp4", "--policy", "latest"],
        ["run", "clip.mp4", "--precision", "int8"],
        ["run", "clip.mp4", "--precision", "int3"],
        ["run", "clip.mp4", "--backend", "magic"],
        ["run", "clip.mp4", "--short-side", "8"],
        ["run", "clip.mp4", "--min-score", "1.5"],
        ["run", "clip.mp4", "--min-score", "nan"],
        ["run", "clip.mp4", "--start", "-1"],
        ["run", "clip.mp4", "--start", "inf"],
        ["run", "clip.mp4", "--duration", "0"],
        ["run", "clip.mp4", "--duration", "nan"],
        ["run", "clip.mp4", "--max-frames", "0"],
    ],
    ids=lambda argv: " ".join(argv) or "nothing",
)
def test_a_command_that_makes_no_sense_is_one_line_and_exit_code_2(argv: list[str], model: Path, cli: Cli) -> None:
    if argv[:1] == ["run"] and len(argv) > 1:
        argv = [*argv, "--model", str(model)]
    assert cli(*argv).is_one_error(2)


def test_outputs_neither_overwrite_the_source_nor_each_other(clip: Path, model: Path, tmp_path: Path, cli: Cli) -> None:
    before = clip.read_bytes()
    run = ("run", clip, "--model", model, "--backend", "torch")
    (tmp_path / "link.mp4").symlink_to(clip)
    out = tmp_path / "out"
    for outputs in (
        ("-o", clip),
        ("--jsonl", clip),
        ("-o", clip.parent / "." / clip.name),
        ("-o", tmp_path / "link.mp4"),
        ("--jsonl", out, "--mot", out),
        ("--jsonl", "-", "--vtt", "-"),
    ):
        assert cli(*run, *outputs).is_one_error(2)
    assert clip.read_bytes() == before
    assert not out.exists()


def test_a_video_with_an_unknown_ending_is_refused_before_anything_is_written(
    clip: Path, model: Path, tmp_path: Path, cli: Cli
) -> None:
    said = cli("run", clip, "--model", model, "-o", tmp_path / "out.xyz", "--jsonl", tmp_path / "out.jsonl")
    assert said.is_one_error(2)
    assert ".mp4" in said.err
    assert list(tmp_path.iterdir()) == []


# Sources.


def sound_only(path: Path) -> Path:
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_source_that_cannot_be_read_is_one_line_and_exit_code_3(model: Path, tmp_path: Path, cli: Cli) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("these are notes\n" * 20, encoding="utf-8")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    sound = sound_only(tmp_path / "sound.wav")
    results = tmp_path / "results"
    results.mkdir()
    for source in (tmp_path / "missing.mp4", tmp_path, text, empty, sound, "0", "-", "x" * 5000):
        said = cli(
            "run", source, "--model", model, "--backend", "torch", "-o", results / "o.mp4", "--jsonl", results / "o"
        )
        assert said.is_one_error(3)
        assert list(results.iterdir()) == []


def test_a_start_behind_the_end_is_a_source_error(clip: Path, model: Path, cli: Cli) -> None:
    said = cli("run", clip, "--model", model, "--backend", "torch", "--start", 60, "--jsonl", os.devnull)
    assert said.code == 3
    assert said.err.splitlines()[-1].startswith("hoiclip: expected a frame 60 s after the start")


URL = "rtsp://user:secret@host/x"


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["run", URL], 3),
        (["run", URL, "--debug"], 3),
        (["run", "rtsp://host/x?password=secret"], 3),
        ([URL], 2),
        (["run", "clip.mp4", URL], 2),
        (["run", URL, "--jsonl", "same", "--mot", "same"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_password_never_shows(argv: list[str], code: int, model: Path, cli: Cli) -> None:
    said = cli(*argv, *(["--model", str(model), "--backend", "torch"] if argv[0] == "run" else []))
    assert said.code == code
    assert "secret" not in said.out + said.err
    assert said.err


# Models and backends.


def truncated(model: Path, path: Path, share: float) -> Path:
    data = model.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def test_a_model_that_cannot_be_read_is_one_line_and_exit_code_4(
    clip: Path, model: Path, tmp_path: Path, cli: Cli
) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": np.zeros((2, 2), np.float32)}, foreign, metadata={"format": "pt"})
    text = tmp_path / "text.safetensors"
    text.write_text("not tensors\n", encoding="utf-8")
    models = [truncated(model, tmp_path / f"cut{share}.safetensors", share) for share in (0, 0.001, 0.5, 0.999)]
    for bad in (*models, foreign, text, tmp_path, "nobody", "x" * 5000):
        for argv in (("run", clip, "--model", bad), ("models", "info", bad), ("models", "verify", bad)):
            assert cli(*argv).is_one_error(4)


def test_verify_tells_a_whole_model_from_one_with_values_that_are_not_finite(
    model: Path, tmp_path: Path, cli: Cli
) -> None:
    good = cli("models", "verify", model)
    assert (good.code, good.out) == (0, "")
    assert load_model_file(model).sha256() in good.err
    header, state = load_model_file(model), load_file(model)
    state["heads.human_box.layers.0.weight"][3, 5] = torch.nan
    broken = tmp_path / "broken.safetensors"
    save_model_file(broken, state, header.config, header.vocabulary, header.provenance)
    said = cli("models", "verify", broken)
    assert said.is_one_error(4)
    assert "heads.human_box.layers.0.weight" in said.err


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_a_planned_backend_is_exit_code_5(backend: str, clip: Path, model: Path, cli: Cli) -> None:
    assert cli("run", clip, "--model", model, "--backend", backend).is_one_error(5)


def test_a_backend_that_is_not_installed_names_what_to_install(
    clip: Path, model: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoiclip_engine.backends.installed", lambda name: name != "openvino")
    said = cli("run", clip, "--model", model, "--backend", "openvino")
    assert said.is_one_error(5)
    assert "pip install openvino" in said.err


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
def test_a_shown_vocabulary_is_the_bundled_one(name: str, tmp_path: Path, cli: Cli) -> None:
    shown = cli("vocab", "show", name, "--json")
    assert shown.code == 0
    assert Vocabulary.from_dict(json.loads(shown.out)) == load_vocabulary(name)
    copy = tmp_path / "mine.json"
    copy.write_text(shown.out, encoding="utf-8")
    assert cli("vocab", "show", copy, "--json").out == shown.out
    table = cli("vocab", "show", name)
    assert all(verb.replace("_", " ") in table.out for verb in load_vocabulary(name).verbs)


def test_the_vocabulary_of_a_model_can_be_shown(model: Path, cli: Cli) -> None:
    assert Vocabulary.from_dict(json.loads(cli("vocab", "show", model, "--json").out)) == load_vocabulary("hico")


@pytest.mark.parametrize("content", [None, b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"name": "x"}', b"[" * 100_000])
def test_a_vocabulary_file_that_is_none_is_one_line_and_exit_code_4(
    content: bytes | None, tmp_path: Path, cli: Cli
) -> None:
    path = tmp_path / "words.json"
    if content is not None:
        path.write_bytes(content)
    assert cli("vocab", "show", path).is_one_error(4)


WIDTH, LAYERS, CONTEXT = 64, 2, 77


def clip_text_state() -> dict[str, torch.Tensor]:
    """A CLIP text tower of one head, with a picture tower's tensor beside it that must be left alone."""
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


def test_text_rows_are_unit_rows_and_are_encoded_once(
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

    def nobody(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr("hoiclip.text.encode", nobody)
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


def test_doctor_reports_packages_and_what_auto_takes(cli: Cli) -> None:
    facts = json.loads(cli("doctor", "--json").out)
    assert facts["hoiclip"] == __version__
    assert facts["torch"].startswith(torch.__version__.split("+")[0])
    assert facts["backend torch"] == "ready"
    assert "not part of this version" in facts["backend tensorrt"]
    assert facts["auto takes"].split(",")[0] in ("torch", "openvino", "onnxruntime")
    table = cli("doctor")
    assert table.code == 0
    assert all(name in table.out for name in ("numpy", "openvino", "auto takes"))


def test_the_version_is_told(cli: Cli) -> None:
    assert cli("--version") == Said(0, f"hoiclip {__version__}\n", "")


def test_an_internal_error_is_one_line_and_a_traceback_only_when_asked_for(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_as_json: bool) -> int:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("hoiclip_engine.commands.doctor.doctor", fail)
    said = cli("doctor")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "RuntimeError: first line second line" in said.err
    assert "Traceback" in cli("doctor", "--debug").err


def test_a_process_ends_with_the_exit_code_and_says_one_line(model: Path) -> None:
    said = python("-m", "hoiclip_engine.cli", "run", "/nowhere/missing.mp4", "--model", model, "--backend", "torch")
    assert said.is_one_error(3)


def test_a_reader_that_goes_away_is_exit_code_7_without_a_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        said = python("-m", "hoiclip_engine.cli", "vocab", "show", "vcoco", "--json", stdout=writer)
    finally:
        os.close(writer)
    assert said == Said(7, "", "")


WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None; from hoiclip_engine.cli import main; sys.exit(main(sys.argv[1:]))"
)


imports_torch = pytest.mark.xfail(strict=True, reason="hoiclip/model/__init__.py imports torch for ModelConfig")


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(["models", "info", "MODEL", "--json"], marks=imports_torch),
        ["vocab", "show", "hico"],
        ["doctor"],
    ],
)
def test_looking_around_needs_no_torch(argv: list[str], model: Path) -> None:
    said = python("-c", WITHOUT_TORCH, *(str(model) if word == "MODEL" else word for word in argv))
    assert said.code == 0, said.err
    assert said.out

"""What every command promises: exit codes, one line on standard error, nothing else where something is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import av
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hoiclip import __version__
from hoiclip.core.model_file import load_model_file, save_model_file
from tests.engine.command_output import Cli, CommandOutput, python
from tests.engine.run_processes import QUICK_BACKEND

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
        ["run", "clip.mp4", "--policy", "fastest"],
        ["run", "clip.mp4", "--batch", "0"],
        ["run", "clip.mp4", "--timeout", "0"],
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
def test_command_that_makes_no_sense_is_one_line_and_exit_code_2(argv: list[str], model: Path, cli: Cli) -> None:
    if argv[:1] == ["run"] and len(argv) > 1:
        argv = [*argv, "--model", str(model)]
    assert cli(*argv).is_one_error(2)


def test_outputs_neither_overwrite_the_source_nor_each_other(clip: Path, model: Path, tmp_path: Path, cli: Cli) -> None:
    before = clip.read_bytes()
    run = ("run", clip, "--model", model, "--backend", QUICK_BACKEND)
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


def test_video_with_an_unknown_ending_is_refused_before_anything_is_written(
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


def test_source_that_cannot_be_read_is_one_line_and_exit_code_3(model: Path, tmp_path: Path, cli: Cli) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("these are notes\n" * 20, encoding="utf-8")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    sound = sound_only(tmp_path / "sound.wav")
    results = tmp_path / "results"
    results.mkdir()
    for source in (tmp_path / "missing.mp4", results, text, empty, sound, "0", "-", "x" * 5000):
        said = cli(
            "run",
            source,
            "--model",
            model,
            "--backend",
            QUICK_BACKEND,
            "-o",
            results / "o.mp4",
            "--jsonl",
            results / "o",
        )
        assert said.is_one_error(3)
        assert list(results.iterdir()) == []


def test_start_behind_the_end_is_a_source_error(clip: Path, model: Path, cli: Cli) -> None:
    said = cli("run", clip, "--model", model, "--backend", QUICK_BACKEND, "--start", 60, "--jsonl", os.devnull)
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
        (["run", "clip.mp4", URL], 3),
        (["run", URL, "--jsonl", "same", "--mot", "same"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_password_never_shows(argv: list[str], code: int, model: Path, cli: Cli) -> None:
    said = cli(*argv, *(["--model", model, "--backend", QUICK_BACKEND, "--timeout", 0.3] if argv[0] == "run" else []))
    assert said.code == code
    assert "secret" not in said.out + said.err
    assert said.err


# Models and backends.


def truncated(model: Path, path: Path, share: float) -> Path:
    data = model.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def test_model_that_cannot_be_read_is_one_line_and_exit_code_4(
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


def test_verify_accepts_a_whole_model_and_refuses_values_that_are_not_finite(
    model: Path, tmp_path: Path, cli: Cli
) -> None:
    good = cli("models", "verify", model)
    assert (good.code, good.out) == (0, "")
    assert load_model_file(model).sha256() in good.err
    import torch

    header, state = load_model_file(model), {name: torch.from_numpy(value) for name, value in load_file(model).items()}
    state["heads.human_box.layers.0.weight"][3, 5] = torch.nan
    broken = tmp_path / "broken.safetensors"
    save_model_file(broken, state, header.config, header.vocabulary, header.provenance)
    said = cli("models", "verify", broken)
    assert said.is_one_error(4)
    assert "heads.human_box.layers.0.weight" in said.err


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_planned_backend_is_exit_code_5(backend: str, clip: Path, model: Path, cli: Cli) -> None:
    assert cli("run", clip, "--model", model, "--backend", backend).is_one_error(5)


def test_backend_that_is_not_installed_names_what_to_install(
    clip: Path, model: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoiclip_engine.backends.registry.is_installed", lambda name: name != "openvino")
    said = cli("run", clip, "--model", model, "--backend", "openvino")
    assert said.is_one_error(5)
    assert "pip install openvino" in said.err


def test_doctor_reports_packages_and_what_auto_takes(cli: Cli) -> None:
    torch = pytest.importorskip("torch")
    facts = json.loads(cli("doctor", "--json").out)
    assert facts["hoiclip"] == __version__
    assert facts["torch"].startswith(torch.__version__.split("+")[0])
    assert facts["backend torch"] == "ready"
    assert facts["backend tensorrt"] == "ready" or "hoiclip[tensorrt]" in facts["backend tensorrt"]
    assert "faster than fp32 here" in facts["backend openvino"] or facts["backend openvino"] == "ready"
    assert "h264" in facts["decoders"]
    assert facts["auto takes for drawn"].startswith(facts["auto takes"])
    assert facts["tensorboard"][0].isdigit() or "hoiclip[tensorboard]" in facts["tensorboard"]
    assert facts["auto takes"].split(",")[0] in ("torch", "openvino", "onnxruntime")
    table = cli("doctor")
    assert table.code == 0
    assert all(name in table.out for name in ("numpy", "openvino", "auto takes"))


def test_version_is_printed(cli: Cli) -> None:
    assert cli("--version") == CommandOutput(0, f"hoiclip {__version__}\n", "")


def test_internal_error_is_one_line_and_a_traceback_only_when_asked_for(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_as_json: bool) -> int:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("hoiclip_engine.cli.doctor.doctor", fail)
    said = cli("doctor")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "RuntimeError: first line second line" in said.err
    assert "Traceback" in cli("doctor", "--debug").err


def test_process_ends_with_the_exit_code_and_one_line(model: Path) -> None:
    said = python(
        "-m", "hoiclip_engine.cli", "run", "/nowhere/missing.mp4", "--model", model, "--backend", QUICK_BACKEND
    )
    assert said.is_one_error(3)


def test_reader_that_goes_away_is_exit_code_7_without_a_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        said = python("-m", "hoiclip_engine.cli", "vocab", "show", "vcoco", "--json", stdout=writer)
    finally:
        os.close(writer)
    assert said == CommandOutput(7, "", "")


WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None; from hoiclip_engine.cli.main import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.mark.parametrize(
    "argv",
    [
        ["models", "info", "MODEL", "--json"],
        ["vocab", "show", "hico"],
        ["doctor"],
    ],
)
def test_listing_and_showing_need_no_torch(argv: list[str], model: Path) -> None:
    said = python("-c", WITHOUT_TORCH, *(str(model) if word == "MODEL" else word for word in argv))
    assert said.code == 0, said.err
    assert said.out

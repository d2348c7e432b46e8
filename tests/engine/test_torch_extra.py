"""What an installation without the extra `torch` says to those who ask for what needs it: one line, exit code 5."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from hoiclip import load_model
from hoiclip.errors import BackendMissing
from hoiclip.torch_extra import EXTRA
from hoiclip_engine.cli import main
from tests.engine.untrained import GIVEN, untrained_folder, untrained_model


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As where the extra is not installed; the tests of a fresh environment run this file where it really is not."""
    monkeypatch.setenv(GIVEN, str(untrained_folder()))
    for name in ("torch", "onnx", "onnxscript", "open_clip"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path / "cache"))


def said_by(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str]:
    code = main([str(word) for word in argv])
    return code, capsys.readouterr().err


ASKING: dict[str, tuple[object, ...]] = {
    "several at once": ("run", "CLIP", "CLIP", "--model", "FOLDER", "--batch", 2, "--backend", "onnxruntime"),
    "run": ("run", "CLIP", "--model", "drawn", "--backend", "onnxruntime"),
    "run with OpenVINO": ("run", "CLIP", "--model", "drawn", "--backend", "openvino"),
    "run with torch": ("run", "CLIP", "--model", "drawn", "--backend", "torch"),
    "demo": ("demo", "--out", "OUT"),
    "export": ("export", "drawn", "-o", "OUT"),
    "build": ("build", "drawn", "--backend", "openvino", "--precision", "int8"),
    "train": ("train", "drawn.toml", "--out", "OUT"),
    "vocab build": ("vocab", "build", "hico", "-o", "OUT.safetensors"),
    "models import": ("models", "import", "OUT.pth", "-o", "OUT.safetensors"),
    "models verify": ("models", "verify", "drawn"),
    "eval": ("eval", "video", "FILMS", "--model", "drawn"),
}


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("name", ASKING)
def test_what_needs_torch_names_the_extra(
    name: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoiclip_engine.commands.demo.DURATION_S", 0.2)
    (tmp_path / "films").mkdir()
    if name == "eval":
        assert main(["data", "draw", "--out", str(tmp_path / "films"), "--video", "1", "--duration", "1"]) == 0
        capsys.readouterr()
    places = {"CLIP": clip, "FILMS": tmp_path / "films", "FOLDER": untrained_folder()}
    argv = [places.get(str(word)) or str(word).replace("OUT", str(tmp_path / "out")) for word in ASKING[name]]
    code, err = said_by(capsys, *argv)
    assert code == 5, err
    (line,) = [line for line in err.splitlines() if line.startswith("hoiclip: ")]
    assert f"pip install {EXTRA}" in line
    assert "internal error" not in err
    if name.startswith("run with O") or name in ("run", "demo", "export"):
        assert "--with-model" in line  # how to do without torch here
    if name == "several at once":
        assert "run without --batch" in line
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.usefixtures("bare")
def test_python_hears_the_same() -> None:
    with pytest.raises(BackendMissing, match=r"pip install 'hoiclip\[torch\]'"):
        load_model(untrained_model())
    with pytest.raises(BackendMissing, match=r"training needs torch"):
        __import__("hoiclip_engine", fromlist=["train_model"]).train_model  # noqa: B018


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "auto"])
def test_an_exported_folder_runs(backend: str, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if backend != "auto" and importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} has no wheels here")
    argv = ("run", clip, "--model", untrained_folder(), "--backend", backend, "--jsonl", "-")
    assert said_by(capsys, *argv)[0] == 0


@pytest.mark.usefixtures("bare")
def test_doctor_tells_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    assert main(["doctor", "--json"]) == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert "--with-model" in facts["auto takes for drawn"]
    assert EXTRA in facts["backend torch"]

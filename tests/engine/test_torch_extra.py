"""Installation without the extra `torch`: what needs it ends with one line that names it, and exit code 5."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

import hoiclip_engine
from hoiclip import load_model
from hoiclip.core.errors import BackendMissing
from hoiclip.core.torch_extra import EXTRA
from hoiclip_engine.cli.main import main
from tests.engine.untrained import FOLDER_VARIABLE, untrained_folder, untrained_model

pytestmark = pytest.mark.thorough


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Environment in which torch seems not installed; a fresh environment runs this file without it."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(untrained_folder()))
    for name in ("torch", "onnx", "onnxscript", "open_clip"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path / "cache"))


def run_command(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str]:
    code = main([str(word) for word in argv])
    return code, capsys.readouterr().err


COMMANDS: dict[str, tuple[object, ...]] = {
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
    "eval": ("eval", "video", "VIDEOS", "--model", "drawn"),
}


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("name", COMMANDS)
def test_commands_without_torch_name_the_extra(
    name: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoiclip_engine.cli.demo.DURATION_S", 0.2)
    (tmp_path / "videos").mkdir()
    if name == "eval":
        assert main(["data", "draw", "--out", str(tmp_path / "videos"), "--video", "1", "--duration", "1"]) == 0
        capsys.readouterr()
    paths = {"CLIP": clip, "VIDEOS": tmp_path / "videos", "FOLDER": untrained_folder()}
    argv = [paths.get(str(word)) or str(word).replace("OUT", str(tmp_path / "out")) for word in COMMANDS[name]]
    code, err = run_command(capsys, *argv)
    assert code == 5, err
    (line,) = [line for line in err.splitlines() if line.startswith("hoiclip: ")]
    assert f"pip install {EXTRA}" in line
    assert "internal error" not in err
    if name.startswith("run with O") or name in ("run", "demo", "export"):
        assert "--with-model" in line  # the alternative without torch
    if name == "several at once":
        assert "run without --batch" in line
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.usefixtures("bare")
def test_python_api_without_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(vars(hoiclip_engine), "train_model", raising=False)  # where an earlier test imported it
    with pytest.raises(BackendMissing, match=r"pip install 'hoiclip\[torch\]'"):
        load_model(untrained_model())
    with pytest.raises(BackendMissing, match=r"training needs torch"):
        hoiclip_engine.train_model  # noqa: B018


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "auto"])
def test_exported_folder_runs_without_torch(backend: str, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if backend != "auto" and importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} has no wheels here")
    argv = ("run", clip, "--model", untrained_folder(), "--backend", backend, "--jsonl", "-")
    assert run_command(capsys, *argv)[0] == 0


@pytest.mark.usefixtures("bare")
def test_doctor_names_the_missing_extra(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    assert main(["doctor", "--json"]) == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert "--with-model" in facts["auto takes for drawn"]
    assert EXTRA in facts["backend torch"]

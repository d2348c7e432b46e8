"""What an edge box installs, in a fresh environment of every supported Python.

It holds no torch, its tests pass, and it says the same of a video as the installation that exported the model.
"""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hoiclip_engine.cli.main import main
from tests.engine.run_processes import json_lines, of_type
from tests.engine.untrained import FOLDER_VARIABLE, untrained_folder
from tests.fresh.environments import VERSIONS, Environment, copy_tests, made, wheel_of_the_checkout

pytestmark = pytest.mark.slow
BACKENDS = ("openvino", "onnxruntime")
MUST_RUN = (
    "tests.engine.test_cli_run",
    "tests.engine.test_bundle",
    "tests.engine.test_openvino_backend",
    "tests.engine.test_pair_tracker",
    "tests.engine.test_preprocess",
    "tests.engine.test_torch_extra",
    "tests.engine.test_video_source",
    "tests.kernels.test_pair_decode",
    "tests.kernels.test_preprocess",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_of_the_checkout(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module", params=VERSIONS)
def environment(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return made(request.param, wheel, tmp_path_factory.mktemp(f"python{request.param}") / "venv")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model as an edge box gets it, and a video."""
    folder = tmp_path_factory.mktemp("drawn")
    assert main(["export", "drawn", "-o", str(folder / "model"), "--with-model"]) == 0
    assert main(["data", "draw", "--out", str(folder), "--video", "1", "--set", "test", "--duration", "6"]) == 0
    return folder


def lines_here(drawn: Path, backend: str) -> list[dict[str, Any]]:
    """JSON lines of the video by this installation."""
    lines = drawn / f"{backend}.jsonl"
    if not lines.exists():
        words = ["--model", "drawn", "--backend", backend, "--precision", "fp32"]
        assert main(["run", str(video(drawn)), "--jsonl", str(lines), *words]) == 0
    return json_lines(lines.read_text())


def video(folder: Path) -> Path:
    (found,) = folder.glob("*.mp4")
    return found


def test_there_is_no_torch(environment: Environment, tmp_path: Path) -> None:
    for name in ("torch", "onnx", "onnxscript", "open_clip"):
        assert environment.run("python", "-c", f"import {name}", cwd=tmp_path).returncode == 1
    done = environment.run("python", "-c", "import hoiclip_engine, sys; print(hoiclip_engine.__file__)", cwd=tmp_path)
    assert done.stdout.startswith(str(environment.folder))
    facts = json.loads(environment.run("hoiclip", "doctor", "--json", cwd=tmp_path).stdout)
    assert facts["python"].startswith(environment.version)
    assert facts["torch"] == "not installed; pip install 'hoiclip[torch]' brings it"
    assert facts["auto takes"] in BACKENDS


@pytest.mark.parametrize("backend", BACKENDS)
def test_exported_folder_gives_the_same_lines(
    environment: Environment, drawn: Path, tmp_path: Path, backend: str
) -> None:
    words = ("run", video(drawn), "--model", drawn / "model", "--backend", backend, "--jsonl", tmp_path / "out.jsonl")
    done = environment.run("hoiclip", *words, cwd=tmp_path, HOICLIP_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    expected, found = lines_here(drawn, backend), json_lines((tmp_path / "out.jsonl").read_text())
    assert found[0] == expected[0] | {"hoiclip": found[0].get("hoiclip")} or found[0].keys() == expected[0].keys()
    assert of_type(found, "event")
    for kind in ("frame", "event"):
        assert rounded(of_type(found, kind)) == rounded(of_type(expected, kind))


def rounded(lines: list[dict[str, Any]]) -> Any:
    """Other versions of a library sum in another order: half a pixel of a box, a hundredth of a score."""

    def rounded_value(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded_value(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [rounded_value(inner) for inner in value]
        return pytest.approx(value, abs=0.5 if value > 1 else 0.01) if isinstance(value, float) else value

    return rounded_value(lines)


def test_without_a_folder_it_says_what_to_do(environment: Environment, drawn: Path, tmp_path: Path) -> None:
    done = environment.run("hoiclip", "run", video(drawn), cwd=tmp_path, HOICLIP_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 5
    assert "hoiclip export MODEL -o DIR --with-model" in done.stderr


@pytest.mark.parametrize(
    ("folders", "at_least"), [(MUST_RUN, 250), (("tests.engine", "tests.kernels"), 1050)], ids=["core", "all"]
)
def test_tests_of_the_runtime_pass(
    environment: Environment, tmp_path: Path, folders: Sequence[str], at_least: int
) -> None:
    """The core of them in a minute, all in ten (1,091 when this was written). Nothing may pass by skipping."""
    copy_tests(tmp_path)
    report = tmp_path / "report.xml"
    folder = shutil.copytree(untrained_folder(), tmp_path / "model")
    chosen = [
        path if (tmp_path / path).is_dir() else f"{path}.py" for path in (name.replace(".", "/") for name in folders)
    ]
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, f"--junitxml={report}")
    done = environment.run("python", *words, cwd=tmp_path, **{FOLDER_VARIABLE: str(folder)})
    assert done.returncode == 0, done.stdout[-8000:]
    cases = xml.etree.ElementTree.parse(report).getroot().iter("testcase")
    passed = [case.get("classname", "") for case in cases if not len(case)]
    assert len(passed) >= at_least
    assert set(MUST_RUN) <= set(passed)

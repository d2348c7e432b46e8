"""Commands of README and the guides are run: in a folder with small files of the same names.

By default commands run in this process, those that take a minute are left to the slow test, in which a real shell runs
every line. What can only be parsed here is listed with its reason; test_grammar.py holds all of it to the grammar.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.documents import documents, shell_lines, simple_commands
from tests.docs.prepared import prepare
from tests.engine.command_output import PYTHONPATH, Cli
from website.links import ROOT

pytestmark = pytest.mark.thorough

ONLY_PARSED = {
    r"(rtsp|rtmp|udp|https)://|cameras\.txt|hoiclip run 0\b": "cameras and hosts; tests/engine has a server for each",
    r"^hoiclip models fetch \w": "tests/engine/test_cli_models_fetch.py, from a server on this machine",
    r"^hoiclip models import": "tests/hoiclip/test_official_import.py, on files in the official layout of 870 MB",
    r"^(hoiclip train|torchrun|tensorboard)": "hours; tests/engine/test_cli_train.py runs the guide's, made smaller",
    r"vocab build": "tests/hoiclip/test_vocabulary.py, by a text tower of its own: no CLIP weights here",
    r"--vocabulary rows": "tests/hoiclip/test_open_vocabulary.py, with text embeddings of the tests' own",
    r"^hoiclip archive": "tests/engine/test_archive_ray.py; needs Ray, which make test-archive installs",
    r"^make ": "a test that tests",
    r"import pandas": "no dependency of ours",
    r"--start 2 ": "tests/engine/test_cli_run.py; the clip of these tests is shorter",
    r"^(pip|git|cmake|export|cd|mpv|curl|source) ": "changes the machine, or needs what is not ours",
    r"hoiclip build hico": "tests/engine/test_cli_build.py, on small models",
    r"^hoiclip data convert": "tests/hoiclip/test_data_formats.py, on files of those formats",
    r"^hoiclip data check depot": "tests/docs/test_own_dataset.py, after the conversion",
}
OWN_TESTS = {
    "training.md": "tests/engine/test_cli_train.py, word by word",
    "triton.md": "tests/engine/test_triton_repository.py and test_triton_server.py",
    "benchmark.md": "tests/engine/test_bench_command.py",
    "archive.md": "tests/engine/test_archive_ray.py",
    "deploy.md": "for other machines",
    "live_control.md": "tests/docs/test_live_control.py, on a running page",
    "capacity.md": "counts, runs nothing",
    "shop_floor.md": "tests/docs/test_audience_guides.py, with broker and receiver",
    "retail.md": "tests/docs/test_audience_guides.py, with PostgreSQL",
    "research.md": "tests/docs/test_audience_guides.py",
    "CONTRIBUTING.md": "make, which runs this test",
}
SMALLER = {
    r"--images \d+": "--images 3",
    r"--video \d+": "--video 1 --duration 0.5",
    r"127\.0\.0\.1:80\d\d|--live 80\d\d": lambda found: "--live 0" if found[0].startswith("--live") else "127.0.0.1:0",
    r"(hoiclip bench .*)": r"\1 --duration 1",
    r"(hoiclip distill .*)": r"\1 --steps 2 --workers 0",
    r"(hoiclip tune .*)--target \S+": r"\1--target fps=0.1 --max-frames 20",
    r"(hoiclip build .*)": r"\1 --precision int8 --force --gate-pictures 4 --calibration-pictures 8",
}
SLOW = r"hoiclip (build|export|bench|tune)|python examples"
"""Half a minute each."""
IN_PROCESS = ("README.md", "first_video.md", "own_dataset.md", "own_model.md", "own_vocabulary.md", "rules.md")
"""What a stranger reads first; the others wait for the slow test."""
GUIDES = [path for path in documents() if shell_lines(path.read_text(encoding="utf-8")) and path.name not in OWN_TESTS]


def lines_to_run(document: Path) -> list[str]:
    lines = shell_lines(document.read_text(encoding="utf-8"))
    for pattern, smaller in SMALLER.items():
        lines = [re.sub(pattern, smaller, line) for line in lines]
    return [line for line in lines if not any(re.search(pattern, line) for pattern in ONLY_PARSED)]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("document", [path for path in GUIDES if path.name in IN_PROCESS], ids=lambda path: path.name)
def test_its_commands_run(document: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as a reader would."""
    monkeypatch.chdir(prepare(tmp_path, document))
    for line in lines_to_run(document):
        for words in simple_commands(line):
            if words[0] != "hoiclip" or re.search(SLOW, line):
                continue
            said = cli(*words[1:])
            assert said.code == 0, (line, said.err)
            if target := re.search(r"> (\S+)$", line):
                Path(target[1]).write_text(said.out, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("document", GUIDES, ids=lambda path: path.name)
def test_shell_runs_its_commands(document: Path, tmp_path: Path) -> None:
    """As they stand, with the backend that a reader gets."""
    folder = prepare(tmp_path, document)
    programs = tmp_path / ".bin"
    programs.mkdir()
    for name, call in (("hoiclip", "-m hoiclip_engine.cli"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {call} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "PATH": f"{programs}:{os.environ['PATH']}"}
    for line in lines_to_run(document):
        missing = [
            words[0] for words in simple_commands(line) if "=" not in words[0] and not _program(words[0], environment)
        ]
        if missing:
            continue
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, (line, done.stderr)


def _program(name: str, environment: dict[str, str]) -> str | None:
    return shutil.which(name, path=environment["PATH"])


def test_lists_name_only_what_exists() -> None:
    """A reason for what no page says any more would hide the next fault."""
    lines = [line for path in documents() for line in shell_lines(path.read_text(encoding="utf-8"))]
    assert [pattern for pattern in [*ONLY_PARSED, SLOW] if not any(re.search(pattern, line) for line in lines)] == []
    assert {name for name in OWN_TESTS if not any((ROOT / where / name).is_file() for where in ("", "docs"))} == set()

"""The curl examples of docs/live_control.md, typed by a shell against a running page."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.documents import shell_lines
from tests.engine.supervised_runs import TOKEN, SupervisedPage, supervised, wait_until
from website.links import ROOT

pytestmark = [pytest.mark.thorough, pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")]

LINES = shell_lines((ROOT / "docs" / "live_control.md").read_text(encoding="utf-8"))


def test_curl_examples_do_what_the_guide_says(tmp_path: Path) -> None:
    (tmp_path / "typed" / "state").mkdir(parents=True)
    (tmp_path / "typed" / "state" / "token").write_text(f"{TOKEN}\n", encoding="utf-8")
    with supervised(tmp_path) as page:
        settings = [line for line in LINES if line.startswith("export ")]
        requests = [line for line in LINES if line.startswith("curl ")]
        said = [type_in(page, tmp_path / "typed", [*settings, request]) for request in requests]
        added, sources, paused, resumed, empty, rules, events, removed = said
        assert json.loads(added)["name"] == "door"
        assert [source["id"] for source in json.loads(sources)["sources"]] == [1]
        assert json.loads(paused)["state"] == "paused"
        assert json.loads(resumed)["state"] in ("starting", "running")
        assert json.loads(empty) == {"rule": []}
        assert json.loads(rules)["rule"][0]["name"] == "rides here"
        assert json.loads(events)["events"] == []
        assert removed == ""
        wait_until(lambda: page.control.sources() == [])
        assert not any("password" in text for text in said)


def type_in(page: SupervisedPage, folder: Path, lines: list[str]) -> str:
    script = "\n".join(lines).replace("127.0.0.1:8080", page.host)
    done = subprocess.run(["bash", "-ec", script], cwd=folder, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, (lines[-1], done.stdout, done.stderr)
    return done.stdout

"""The guides for a shop floor, for retail and for research: each of their commands is run, with stand-ins.

A synthetic clip of a second stands in for cameras, the bundled model for weights of one's own; broker, receiver and
database are real ones on this machine.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hoiclip_engine.cli import console
from hoiclip_engine.models import find_model
from tests.docs.documents import shell_lines
from tests.docs.prepared import drawn_clip, prepare
from tests.engine.archive_runs import RayPoolStandIn
from tests.engine.command_output import PYTHONPATH, Cli
from tests.engine.mosquitto import Mosquitto, subscriber
from tests.engine.postgres_server import PASSWORD, USER, PostgresServer
from tests.engine.run_processes import QUICK_BACKEND
from tests.engine.supervised_runs import wait_until
from website.links import ROOT

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("quick")]

DOCS = ROOT / "docs"
GUIDES = ("shop_floor.md", "retail.md", "research.md")
MOST_COMMANDS = 8
FRAMES = 8
CAMERA = re.compile(r"^rtsp://user:password@([\w-]+)/stream$", re.MULTILINE)


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """COLUMNS would come too late where it was set when the terminal was imported, as by pytest-xdist."""
    monkeypatch.setattr(console.results, "_width", 200)


def lines_of(guide: str) -> list[str]:
    return shell_lines((DOCS / guide).read_text(encoding="utf-8"))


def folder_of(guide: str, tmp_path: Path, **smaller: str) -> Path:
    """A reader's folder, with files of the guide in which cameras are clips. Args: smaller: other values in TOML."""
    folder = prepare(tmp_path, DOCS / guide)
    drawn_clip(folder / "demo/clip.mp4", FRAMES)
    cameras = folder / "cameras.txt"
    if cameras.is_file():
        for name in CAMERA.findall(cameras.read_text(encoding="utf-8")):
            shutil.copy(folder / "demo/clip.mp4", folder / f"{name}.mp4")
        cameras.write_text(CAMERA.sub(r"\1.mp4", cameras.read_text(encoding="utf-8")), encoding="utf-8")
    for rules in folder.glob("*.toml"):
        text = rules.read_text(encoding="utf-8")
        for key, value in smaller.items():
            text = re.sub(rf"^{key} = \S+", f"{key} = {value}", text, flags=re.MULTILINE)
        rules.write_text(text, encoding="utf-8")
    return folder


class Reader:
    """Types the lines of a guide, one after the other, and reads what they print."""

    def __init__(self, guide: str, cli: Cli) -> None:
        self._lines, self._cli = lines_of(guide), cli

    def next_line(self, begin: str, *stand_ins: tuple[str, str]) -> str:
        """The next line, which begins so. Args: stand_ins: texts of it, and what stands in for them."""
        line = self._lines.pop(0)
        assert line.startswith(begin), line
        for text, stand_in in stand_ins:
            assert text in line, line
            line = line.replace(text, stand_in)
        return line

    def types(self, *begins: str, stand_ins: Sequence[tuple[str, str]] = ()) -> str:
        """Types the next lines, which begin so. Returns: output of the last one."""
        out = ""
        for begin in begins:
            line = self.next_line(f"hoiclip {begin}", *stand_ins)
            said = self._cli(*shlex.split(line)[1:])
            assert said.code == 0, (line, said.err)
            out = said.out
        return out

    def has_finished(self) -> bool:
        return not self._lines


@pytest.mark.parametrize("guide", GUIDES)
def test_guide_has_few_commands_and_links_where_a_model_comes_from(guide: str) -> None:
    text = (DOCS / guide).read_text(encoding="utf-8")
    assert len(lines_of(guide)) <= MOST_COMMANDS
    assert "](own_model.md)" in text
    assert re.search(r"bundled model\s+knows", text.replace("> ", ""))


@contextmanager
def alarm_receiver() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Port of a receiver of webhooks, and the events that it has received."""
    events: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            events.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["events"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.server_address[1], events
    finally:
        server.shutdown()
        server.server_close()


def run_until(line: str, condition: Callable[[], object]) -> None:
    """Runs a command as a process until a condition holds, and interrupts it as a supervisor of services would."""
    words = [sys.executable, "-m", "hoiclip_engine.cli", *shlex.split(line)[1:], "--backend", QUICK_BACKEND]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: condition() or process.poll() is not None, 120)
        assert process.poll() is None, process.communicate()[1]
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "Traceback" not in err


def test_shop_floor_leads_to_alarms_evidence_and_a_record(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of("shop_floor.md", tmp_path, absent_for_s="0.2")
    shutil.copy(find_model("drawn"), folder / "floor.safetensors")
    monkeypatch.chdir(folder)
    reader = Reader("shop_floor.md", cli)
    assert "nobody holds the rail" in reader.types("rules check", "run", "events list")
    assert {path.suffix for path in (folder / "evidence").glob("*nobody_holds_the_rail*")} == {".jpg", ".mp4"}
    with Mosquitto(tmp_path / "broker") as broker, subscriber(broker) as seen, alarm_receiver() as (port, events):
        alarms = [f"plant/hoiclip/press-{n}_{n}/rules/nobody_holds_the_rail" for n in (1, 2)]
        line = reader.next_line(
            "hoiclip run",
            ("mqtt://127.0.0.1/", f"mqtt://{broker.host}/"),
            ("127.0.0.1:8090", f"127.0.0.1:{port}"),
            ("127.0.0.1:8080", "127.0.0.1:0"),
        )
        run_until(line, lambda: all(seen.on(alarm) for alarm in alarms) and events)
        assert {found.fields["kind"] for found in seen.on(alarms[0])} <= {"rule.start", "rule.end"}
        assert seen.on(alarms[0])[0].fields["kind"] == "rule.start"
        assert any("nobody holds the rail" in found.payload for found in seen.seen if "homeassistant/" in found.topic)
    assert "rule_start" in [event["event"] for event in events]
    assert (folder / "outbox.sqlite").is_file()
    assert "press-1.mp4" in (folder / "state/state.json").read_text(encoding="utf-8")
    assert "press-1.mp4" in reader.types("events list", "events stats")
    reader.types("events prune")
    assert reader.has_finished()


def test_retail_leads_to_counts_and_forgets_them(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of("retail.md", tmp_path)
    shutil.copy(find_model("drawn"), folder / "shop.safetensors")
    monkeypatch.chdir(folder)
    reader = Reader("retail.md", cli)
    reader.types("rules check", "run", "events list", "events stats", "events export")
    with (folder / "shop.csv").open(encoding="utf-8", newline="") as file:
        assert {row["source"] for row in csv.DictReader(file)} == {"demo/clip.mp4"}
    server = PostgresServer()
    try:
        database = server.new_database().rpartition("/")[2]
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
        real = [("postgresql://shop@127.0.0.1/events", f"postgresql://{USER}@127.0.0.1:{server.port}/{database}")]
        assert "shelf-3.mp4" in reader.types("run", "events stats", stand_ins=real)
        reader.types("events prune", stand_ins=real)
    finally:
        server.close()
    assert reader.has_finished()


def test_research_leads_to_equal_runs_an_archive_metrics_and_own_words(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of("research.md", tmp_path)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("hoiclip_engine.archive.ray_pool.RayPool", RayPoolStandIn)
    reader = Reader("research.md", cli)
    reader.types("run", "run")
    compared = subprocess.run(["bash", "-c", reader.next_line("cmp ")], capture_output=True, text=True)
    assert compared.stdout == "the same\n", compared
    assert (folder / "boxes.json").is_file()
    reader.types("archive")
    assert (folder / "results/jsonl/one.jsonl").is_file()
    reader.types("data draw", stand_ins=[("--video 4", "--video 1 --duration 0.5")])
    reader.types("eval video")
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert (folder / "report").is_dir()
    reader.types("vocab new", "run")
    header = json.loads((folder / "words.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert (header["vocabulary"]["name"], header["vocabulary"]["verbs"]) == ("words", 3)
    assert reader.has_finished()

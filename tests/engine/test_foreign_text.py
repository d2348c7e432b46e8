"""Foreign text reaches terminals and spreadsheets only as text."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.model_file import load_model_file
from hoiclip.core.printable import one_line, printable, spreadsheet_text
from hoiclip_engine.cli.console import messages, progress, results, say, table
from tests.engine.command_output import Cli
from tests.engine.untrained import edited_model

EVIL = "\x1b]0;owned\x07\x1b[31mred\x9b2J\x7f\u202egnp.exe\u2066\r\b[/bold]\x00"
RAW = set(map(chr, [*range(9), *range(11, 32), *range(127, 160), 0x202E, 0x2066, 0x2028]))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(st.characters(max_codepoint=0x2FFF)))
def test_foreign_text_keeps_nothing_unsafe(text: str) -> None:
    assert not RAW & set(printable(text))
    assert not RAW & set(one_line(text))
    assert "\n" not in one_line(text)
    assert printable(printable(text)) == printable(text)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text())
def test_foreign_json_keeps_its_meaning(text: str) -> None:
    assert json.loads(printable(json.dumps(text))) == text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1"])
def test_csv_cell_is_never_a_formula(text: str) -> None:
    assert spreadsheet_text(text) == f"'{text}"
    assert spreadsheet_text("ride a-b=c@d") == "ride a-b=c@d"


def test_terminal_receives_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    messages.print(f"Note: {EVIL}\nsecond")
    messages.print(table(EVIL, ("a",), [(EVIL,)]))
    results.print(table(EVIL, ("a",), [(EVIL,)]))
    say(json.dumps(EVIL))
    bar = progress()
    bar.add_task(EVIL, total=1, rate=EVIL)
    messages.print(bar.get_renderable())
    captured = capsys.readouterr()
    assert not RAW & set(captured.out + captured.err)
    assert "Note: \\u001b]0;owned" in captured.err
    assert captured.err.splitlines()[0].endswith("second"), "a message is one line"


def test_closed_message_pipe_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class ClosedStream:
        encoding = "utf-8"

        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

        def flush(self) -> None:
            raise BrokenPipeError(32, "Broken pipe")

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr("sys.stderr", ClosedStream())
    messages.print("anything")


def test_model_file_cannot_control_the_terminal(tmp_path: Path, model: Path, clip: Path, cli: Cli) -> None:
    def edit(metadata: dict[str, str]) -> None:
        metadata["provenance"] = json.dumps({"kind": EVIL, "notice": EVIL, EVIL: EVIL})

    evil = edited_model(tmp_path / "m.safetensors", edit)
    assert load_model_file(evil).notice == EVIL
    for argv in (
        ("models", "info", evil),
        ("models", "info", evil, "--json"),
        ("models", "verify", evil),
        ("run", tmp_path / f"{EVIL[:-1]}.mp4", "--model", evil),
        ("models", "info", tmp_path / EVIL[:-1]),
        ("run", clip, f"--{EVIL}"),
        ("eval", "--data", tmp_path / EVIL[:-1], "--images", tmp_path, "--model", evil),
    ):
        captured = cli(*argv)
        assert not RAW & set(captured.out + captured.err), argv


def test_warnings_are_one_clean_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from hoiclip_engine.cli import models

    def list_models() -> int:
        logging.getLogger("hoiclip").warning("%s\nend", EVIL)
        return 0

    monkeypatch.setattr(models, "list_models", list_models)
    captured = cli("models", "list")
    assert not RAW & set(captured.err)
    assert captured.err.count("\n") == 1


def test_csv_names_are_text(tmp_path: Path) -> None:
    import dataclasses

    from hoiclip_engine.sinks.text_sinks import CsvSink
    from hoiclip_engine.types.frame import Frame
    from tests.engine.frame_results import Row, frame_result, header, summary

    plain = header()
    words = plain.vocabulary
    evil = dataclasses.replace(
        words,
        verbs=tuple(f"=cmd({verb})" for verb in words.verbs),
        objects=tuple(f"@{name}" for name in words.objects),
    )
    sink = CsvSink(tmp_path / "out.csv")
    sink.start(dataclasses.replace(plain, vocabulary=evil))
    import numpy as np

    sink.write(frame_result(Frame(np.zeros((48, 64, 3), np.uint8), 0.0, 0), Row()))
    sink.finish(summary())
    rows = list(csv.DictReader((tmp_path / "out.csv").open(encoding="utf-8")))
    assert rows
    for row in rows:
        assert row["label"].startswith("'@")
        assert row["verb"].startswith("'=cmd(") or not row["verb"]

"""Progress bar and log lines."""

from __future__ import annotations

import json
import logging
import warnings
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoiclip_engine.cli.console import logging_to_stderr, messages, progress, table
from hoiclip_engine.cli.main import main


def test_progress_shows_the_remaining_time_of_slow_steps() -> None:
    now_s = 0.0
    bar = progress()
    bar.get_time = lambda: now_s
    task = bar.add_task("steps", total=10, rate="")
    for done in range(1, 5):
        now_s = 90.0 * done
        bar.update(task, completed=done)
    assert bar.tasks[0].time_remaining == 6 * 90


def test_progress_ignores_steps_of_an_earlier_run() -> None:
    now_s = 0.0
    bar = progress()
    bar.get_time = lambda: now_s
    task = bar.add_task("steps", total=1000, rate="")
    for step in (901, 902, 903):  # resumed at 900
        now_s += 2.0
        bar.update(task, completed=step)
    assert bar.tasks[0].time_remaining == 97 * 2


# The log.

log = logging.getLogger("hoiclip")


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_json_log_has_a_line_for_everything(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("json", None):
        log.warning("lost %d", 3, extra={"source": "camera"})
        log.debug("not shown")
        logging.getLogger("some.library").error("theirs\nin two lines")
        warnings.warn("old argument", stacklevel=1)
        messages.print("Note: \x1b[31mred", style="yellow", source="clip.mp4")
        messages.print("Wrote out.mp4")
        messages.print(table("Summary", ("what", "value"), [("frames", "10 decoded"), ("found", 3)]))
        with progress() as bar, messages.status("Preparing"):
            bar.console.print("above the bar")
    found = lines(capsys)
    assert [(line["level"], line["logger"], line.get("source")) for line in found] == [
        ("warning", "hoiclip", "camera"),
        ("error", "some.library", None),
        ("warning", "py.warnings", None),
        ("warning", "hoiclip", "clip.mp4"),
        ("info", "hoiclip", None),
        ("info", "hoiclip", None),
        ("info", "hoiclip", None),
    ]
    shown = [line["message"] for line in found]
    assert shown[:2] == ["lost 3", "theirs in two lines"]
    assert shown[3:] == [
        "Note: \\u001b[31mred",
        "Wrote out.mp4",
        "Summary: frames 10 decoded; found 3",
        "above the bar",
    ]
    times = [datetime.fromisoformat(line["time"]) for line in found]
    assert times == sorted(times)
    assert times[0].utcoffset() == timedelta(0)
    assert abs(datetime.now(timezone.utc) - times[0]) < timedelta(seconds=60)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", "debug info warning error print note"),
        ("info", "info warning error print note"),
        ("warning", "warning error note"),
        ("error", "error"),
        (None, "info warning error print note"),
    ],
)
@pytest.mark.parametrize("style", ["text", "json"])
def test_log_level_is_the_least_that_is_printed(
    style: str, level: str | None, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to_stderr(style, level):
        for each in (log.debug, log.info, log.warning, log.error):
            each(each.__name__)
        messages.print("print")
        messages.print("note", style="yellow")
    printed = capsys.readouterr().err.splitlines()
    shown = [json.loads(line)["message"] if style == "json" else line for line in printed]
    if style == "text" and level is None:  # as ever
        expected = "warning error print note"
    assert shown == expected.split()


def test_log_is_as_before_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    handlers, level = list(logging.getLogger().handlers), log.level
    with logging_to_stderr("json", "debug"):
        pass
    assert (logging.getLogger().handlers, log.level) == (handlers, level)
    messages.print("text again")
    assert capsys.readouterr().err == "text again\n"


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=st.text(max_size=60), scheme=st.sampled_from(["rtsp", "mqtts", "https"]))
def test_json_log_holds_no_credentials_and_is_one_line(
    text: str, scheme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to_stderr("json", None):
        log.warning("%s %s://user:s3cret@host/x?token=s3cret %s", text, scheme, text)
    (line,) = capsys.readouterr().err.splitlines()
    assert "s3cret" not in line
    assert f"{scheme}://host/x" in json.loads(line)["message"]


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_json_log_has_the_error_of_a_command(
    debug: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(tmp_path / "missing.mp4"), "--log-format", "json", *debug]) == 3
    (line,) = [line for line in lines(capsys) if line["level"] == "error"]
    assert "missing.mp4" in line["message"]
    assert ("Traceback" in line.get("traceback", "")) == bool(debug)

"""hoiclip events, and the record that hoiclip run writes with --db."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from hoiclip_engine.cli.events import moment
from hoiclip_engine.events.event_store import EventFilter, EventStore
from hoiclip_engine.events.record import Recorder
from hoiclip_engine.types.rule_hits import Evidence
from tests.engine.command_output import Cli, CommandOutput, python
from tests.engine.frame_results import header, summary
from tests.engine.recorded import hit_at, result, verb_event
from tests.engine.run_processes import QUICK_BACKEND

RUN = "3f2a9c1e" + "0" * 24


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A ride from 1 to 2 s, a hit of "=rides <here>" with a clip, and another run, of a day before."""
    path = tmp_path / "events.sqlite"
    clip = tmp_path / "evidence.mp4"
    clip.write_bytes(b"a clip")
    recorder = Recorder(path)
    now = datetime.now(timezone.utc)
    for run_id, started in ((RUN, now), ("77" * 16, now - timedelta(days=1))):
        sink = recorder.sink()
        sink.start(dataclasses.replace(header(source="rtsp://cam/1"), run_id=run_id, started_at=started))
        sink.write(result(0.5))
        events = [verb_event("start", 1.0), verb_event("end", 1.0, 2.0)]
        hits = [hit_at("start", 100, rule="=rides <here>"), hit_at("end", 100, lasted_s=1.5, rule="=rides <here>")]
        sink.write(result(2.0, events=events, hits=hits if run_id == RUN else []))
        sink.finish(summary())
    recorder.put_evidence(
        Evidence(
            run_id=RUN,
            source="rtsp://cam/1",
            hit=100,
            rule="=rides <here>",
            pair=1,
            verb="ride",
            start_s=1.0,
            snapshot=None,
            clip=clip,
            clip_start_s=0.0,
            clip_end_s=3.0,
        )
    )
    recorder.close()
    return path


def test_list_is_a_table_of_what_happened_with_whole_ids(cli: Cli, db: Path) -> None:
    said = cli("events", "list", "--db", db)
    assert said.code == 0, said.err
    for text in ("3f2a9c1e-e0", "3f2a9c1e-r100", "77777777-e0", "person 1", "=rides"):
        assert text in said.out


def test_list_as_json_has_a_line_for_each(cli: Cli, db: Path) -> None:
    said = cli("events", "list", "--db", db, "--json", "--since", "2h", "--rule", "=rides <here>")
    (line,) = map(json.loads, said.out.splitlines())
    assert (line["id"], line["kind"], line["start_s"], line["end_s"]) == ("3f2a9c1e-r100", "rule", 1.0, 2.5)
    assert line["clip"].endswith("evidence.mp4")


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--verb", "ride"], 3),
        (["--verb", "sit on"], 0),
        (["--object", "bicycle", "--human", "1", "--source", "cam/1"], 3),
        (["--until", "2h"], 1),
        (["--since", "2000-01-01", "--until", "2000-01-02T00:00:00Z"], 0),
        (["--limit", "1"], 1),
        (["--run", "77"], 1),
    ],
)
def test_filters_are_those_of_the_store(cli: Cli, db: Path, options: list[str], count: int) -> None:
    assert len(cli("events", "list", "--db", db, "--json", *options).out.splitlines()) == count


def test_show_has_every_field(cli: Cli, db: Path) -> None:
    assert json.loads(cli("events", "show", "3f2a9c1e-e0", "--db", db, "--json").out)["evidence_s"] == [1.0, 2.0]
    assert "peak_score" in cli("events", "show", "3f2a9c1e-e0", "--db", db).out


def test_export_writes_json_lines_csv_and_webvtt(cli: Cli, db: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli("events", "export", "--db", db, "-o", out).code == 0
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == ["77777777-e0", "3f2a9c1e-e0", "3f2a9c1e-r100"]
    said = cli("events", "export", "--db", db, "--format", "csv", "--rule", "=rides <here>")
    (row,) = csv.DictReader(io.StringIO(said.out))
    assert (row["id"], row["rule"], row["end_s"]) == ("3f2a9c1e-r100", "'=rides <here>", "2.5")
    said = cli("events", "export", "--db", db, "--format", "vtt", "--run", "3f2a")
    assert said.out == (
        "WEBVTT\n\n"
        "00:00:00.500 --> 00:00:01.500\nperson 1 ride bicycle 2\n\n"
        "00:00:00.500 --> 00:00:02.000\n=rides &lt;here&gt;: person 1 ride bicycle 2\n\n"
    )


def test_webvtt_of_several_runs_is_refused(cli: Cli, db: Path, tmp_path: Path) -> None:
    said = cli("events", "export", "--db", db, "--format", "vtt", "-o", tmp_path / "out.vtt")
    assert said.is_one_error(2)
    assert not list(tmp_path.glob("*out.vtt*"))


def test_stats_count_by_rule_verb_source_and_hour(cli: Cli, db: Path) -> None:
    totals = json.loads(cli("events", "stats", "--db", db, "--json", "--since", "2h").out)
    assert totals["rule"] == [{"name": "=rides <here>", "events": 0, "hits": 1, "seconds": 1.5}]
    assert totals["verb"] == [{"name": "ride", "events": 1, "hits": 1, "seconds": 1.0}]
    assert [total["name"] for total in totals["source"]] == ["rtsp://cam/1"]
    assert len(totals["hour"]) in (1, 2)
    assert "rtsp://cam/1" in cli("events", "stats", "--db", db).out


def test_clip_prints_the_path_or_copies_it(cli: Cli, db: Path, tmp_path: Path) -> None:
    assert cli("events", "clip", "3f2a9c1e-r100", "--db", db).out == f"{tmp_path / 'evidence.mp4'}\n"
    copy = tmp_path / "copy.mp4"
    assert cli("events", "clip", "3f2a9c1e-r100", "--db", db, "-o", copy) == CommandOutput(0, "", "")
    assert copy.read_bytes() == b"a clip"


@pytest.mark.parametrize("target", ["evidence.mp4", "events.sqlite", "link.mp4"])
def test_clip_is_never_copied_over_itself_or_the_record(cli: Cli, db: Path, tmp_path: Path, target: str) -> None:
    os.link(tmp_path / "evidence.mp4", tmp_path / "link.mp4")
    before = (tmp_path / target).read_bytes()
    assert cli("events", "clip", "3f2a9c1e-r100", "--db", db, "-o", tmp_path / target).is_one_error(2)
    assert (tmp_path / target).read_bytes() == before


def test_clip_that_is_gone_or_never_was_is_one_error(cli: Cli, db: Path, tmp_path: Path) -> None:
    assert cli("events", "clip", "3f2a9c1e-e0", "--db", db).is_one_error(3)
    (tmp_path / "evidence.mp4").unlink()
    assert cli("events", "clip", "3f2a9c1e-r100", "--db", db, "-o", tmp_path / "x.mp4").is_one_error(3)
    assert not (tmp_path / "x.mp4").exists()


def test_prune_deletes_by_age(cli: Cli, db: Path) -> None:
    said = cli("events", "prune", "--db", db, "--older-than", "12h")
    assert (said.code, said.out) == (0, "")
    assert {event.run_id for event in EventStore(db).query()} == {RUN}


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["list", "--db", "missing.sqlite"],
        ["list", "--db", "mysql://user:pw@host/db"],
        ["list", "--db", "DB", "--since", "yesterday"],
        ["list", "--db", "DB", "--since", "999999y"],
        ["list", "--db", "DB", "--limit", "0"],
        ["show", "e0", "--db", "DB"],
        ["show", "3f2a9c1e-e7", "--db", "DB"],
        ["prune", "--db", "DB", "--older-than", "-1d"],
        ["prune", "--db", "missing.sqlite", "--older-than", "1d"],
        ["export", "--db", "DB", "-o", "DB"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_one_error(
    cli: Cli, db: Path, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("events", *(str(db) if word == "DB" else word for word in words)).is_one_error(2)
    assert not Path("missing.sqlite").exists()


def test_reader_that_goes_away_ends_it_quietly(db: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        said = python("-m", "hoiclip_engine.cli", "events", "export", "--db", db, stdout=writer)
    finally:
        os.close(writer)
    assert said == CommandOutput(7, "", "")


def test_time_is_a_distance_or_iso_with_or_without_a_zone() -> None:
    assert abs(moment("90m") - datetime.now(timezone.utc) + timedelta(minutes=90)) < timedelta(seconds=5)
    assert moment("2026-01-31T12:00:00Z") == datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
    assert moment("2026-01-31T12:00:00+02:00") == datetime(2026, 1, 31, 10, tzinfo=timezone.utc)
    assert moment("2026-01-31") == datetime(2026, 1, 31).astimezone()


def test_run_records_what_it_finds(cli: Cli, clip: Path, model: Path, tmp_path: Path) -> None:
    db, lines = tmp_path / "events.sqlite", tmp_path / "out.jsonl"
    options = ["--model", model, "--backend", QUICK_BACKEND, "--min-score", "0"]
    for _ in range(2):
        said = cli("run", clip, *options, "--db", db, "--db-keep", "30d", "--jsonl", lines)
        assert said.code == 0, said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.sqlite", "out.jsonl"]
    expected = [
        (line["pair"], line["verb"], line["pts_s"])
        for line in map(json.loads, lines.read_text(encoding="utf-8").splitlines())
        if line["type"] == "event" and line["event"] == "end"
    ]
    runs: dict[str, list[object]] = {}
    for event in EventStore(db).query(EventFilter(newest_first=False)):
        runs.setdefault(event.run_id, []).append((event.pair, event.verb, round(event.end_s or 0.0, 6)))
    assert len(runs) == 2 if expected else not runs
    assert all(sorted(found, key=str) == sorted(expected, key=str) for found in runs.values())


@pytest.mark.parametrize(
    "options",
    [
        ["--db", "CLIP"],
        ["--db", "x.jsonl", "--jsonl", "x.jsonl"],
        ["--db", "x", "--jsonl", "x-wal"],
        ["--db", "."],
        ["--db", "ftp://host/x"],
        ["--db", "notes.txt"],
        ["--db-keep", "30d"],
        ["--db", "x", "--db-keep", "soon"],
    ],
    ids=" ".join,
)
def test_run_refuses_a_database_that_makes_no_sense(
    cli: Cli, clip: Path, model: Path, tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("my notes", encoding="utf-8")
    before = clip.read_bytes()
    words = [str(clip) if word == "CLIP" else word for word in options]
    assert cli("run", clip, "--model", model, "--backend", QUICK_BACKEND, *words).is_one_error(2)
    assert clip.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert Path("notes.txt").read_text(encoding="utf-8") == "my notes"

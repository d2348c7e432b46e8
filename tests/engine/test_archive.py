"""An archive without Ray: what is tracked over parts is what a single run gives, and every stop can be gone on from."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hoiclip.errors import HoiclipError, UsageError
from hoiclip_engine.archive.lead import MOST_DEATHS
from hoiclip_engine.archive.manifest import Manifest
from hoiclip_engine.archive.work import FileJob, Report
from hoiclip_engine.archive.workplace import Workplace, whole_file
from hoiclip_engine.engine import Engine
from hoiclip_engine.video.decode import threads_for
from hoiclip_engine.video.source import open_video
from hoiclip_engine.video.source_config import SourceConfig
from tests.docs.documents import blocks
from tests.engine.archives import TORCH, Workers, lead, repeatable, single_run, write_film
from tests.engine.making_videos import write_clip
from tests.engine.saying import PYTHONPATH, ROOT, Cli
from tests.engine.untrained import untrained_model

NAMES = ("a", "b")
FRAMES = 40


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.load(untrained_model(), TORCH) as made:
        yield made


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    return [write_film(folder / f"{name}.mp4", FRAMES) for name in NAMES]


@pytest.fixture(scope="module")
def singles(engine: Engine, films: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("singles")
    return {film.stem: single_run(engine, film, folder) for film in films}


def states(manifest: Manifest) -> dict[str, str]:
    return {entry.name: entry.state for entry in manifest.entries}


def results(out: Path) -> dict[str, list[str]]:
    return {path.stem: repeatable(path) for path in (out / "jsonl").iterdir()}


@pytest.mark.parametrize("detect_every", [1, 4])
def test_tracks_over_parts_are_those_of_a_single_run(
    engine: Engine, films: list[Path], tmp_path: Path, detect_every: int
) -> None:
    pool = Workers(detect_every)
    _, manifest = lead(engine, tmp_path / "out", films, pool, detect_every)
    assert len(pool.looked_at) == len(set(pool.looked_at)) > len(films)
    expected = {film.stem: single_run(engine, film, tmp_path, detect_every) for film in films}
    assert any('"type":"event"' in line for line in expected["a"])
    assert results(tmp_path / "out") == expected
    assert [(e.state, e.frames, e.units_done == e.units) for e in manifest.entries] == [("done", FRAMES, True)] * 2
    assert list((tmp_path / "out" / "work").iterdir()) == []


def test_parquet_has_a_row_for_each_pair_of_a_frame_line(
    engine: Engine, films: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead(engine, tmp_path / "results", films[:1], Workers())
    rows = pq.read_table(tmp_path / "results" / "parquet" / "a.parquet").to_pylist()
    lines = [json.loads(line) for line in results(tmp_path / "results")["a"]]
    expected = [
        (line["index"], line["pts_s"], pair) for line in lines if line["type"] == "frame" for pair in line["pairs"]
    ]
    assert [(row["frame"], row["pts_s"], row["pair"]) for row in rows] == [
        (i, t, pair["pair"]) for i, t, pair in expected
    ]
    for row, (_, _, pair) in zip(rows, expected, strict=True):
        assert (row["human"], row["object"], row["label"]) == (pair["human"], pair["object"], pair["label"])
        assert row["score"] == pytest.approx(pair["score"], abs=1e-6)
        assert [verb["verb"] for verb in row["verbs"]] == [verb["verb"] for verb in pair["verbs"]]
        box = [row[f"object_{corner}_px"] for corner in ("x1", "y1", "x2", "y2")]
        assert box == ([None] * 4 if pair["object_box_xyxy"] is None else pytest.approx(pair["object_box_xyxy"]))
    monkeypatch.chdir(tmp_path)
    (code,) = blocks((ROOT / "docs" / "archive.md").read_text(encoding="utf-8"), "python")
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["table"].num_rows == len(rows)


def test_a_damaged_file_is_told_of_and_does_not_stop_the_others(
    engine: Engine, films: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(bytes(range(256)) * 40)
    _, manifest = lead(engine, tmp_path / "out", [tmp_path / "broken.mp4", tmp_path / "gone.mp4", films[0]], Workers())
    assert states(manifest) == {"broken": "failed", "gone": "failed", "a": "done"}
    errors = {entry.name: entry.error or "" for entry in manifest.entries}
    assert "expected a video or image file" in errors["broken"]
    assert "found nothing at" in errors["gone"]
    assert set(results(tmp_path / "out")) == {"a"}


def test_a_file_that_ends_its_worker_is_tried_alone_and_given_up(
    engine: Engine, films: list[Path], tmp_path: Path, singles: dict[str, list[str]]
) -> None:
    pool = Workers(deadly=["a"])
    _, manifest = lead(engine, tmp_path / "out", films, pool)
    assert states(manifest) == {"a": "failed", "b": "done"}
    assert f"{MOST_DEATHS} processes dead that looked at it" in (manifest.entries[0].error or "")
    assert pool.looked_at.count(("a", "00000")) == MOST_DEATHS
    assert len([unit for name, unit in pool.looked_at if name == "a"]) <= MOST_DEATHS + pool.workers - 1
    assert pool.rounds == [2, 1, 1]
    assert results(tmp_path / "out") == {"b": singles["b"]}


def test_a_worker_that_dies_once_loses_nothing_and_doubles_nothing(
    engine: Engine, films: list[Path], tmp_path: Path, singles: dict[str, list[str]]
) -> None:
    pool = Workers(deadly=["a"], deaths=1)
    _, manifest = lead(engine, tmp_path / "out", films, pool)
    assert set(states(manifest).values()) == {"done"}
    assert results(tmp_path / "out") == singles
    assert pool.looked_at.count(("a", "00000")) == 2
    assert len(pool.looked_at) == len(set(pool.looked_at)) + 1


def test_looks_that_a_disk_has_damaged_are_an_error_of_their_file(
    engine: Engine, films: list[Path], tmp_path: Path
) -> None:
    first = Leaving()
    first.leader, _ = lead(engine, tmp_path / "out", films[:1])
    first.leader.work(first)
    first.leader.close()
    (looks,) = (tmp_path / "out").glob("work/a/*.looks.parquet")
    looks.write_bytes(looks.read_bytes()[:-30])
    _, manifest = lead(engine, tmp_path / "out", films[:1], Workers())
    assert manifest.entries[0].state == "failed"
    assert "found it damaged" in (manifest.entries[0].error or "")


class Leaving(Workers):
    """Stops its leader after the first part that was looked at."""

    leader = None

    def _look_at(self, job: FileJob) -> Report | None:
        report = super()._look_at(job)
        assert self.leader is not None
        self.leader.stop()
        return report


def test_the_next_call_goes_on_where_an_interrupted_one_stopped(
    engine: Engine, films: list[Path], tmp_path: Path, singles: dict[str, list[str]]
) -> None:
    first = Leaving()
    first.leader, manifest = lead(engine, tmp_path / "out", films)
    first.leader.work(first)
    first.leader.close()
    assert states(manifest) == {"a": "pending", "b": "pending"}
    assert results(tmp_path / "out") == {}
    second = Workers()
    _, manifest = lead(engine, tmp_path / "out", films, second)
    assert set(states(manifest).values()) == {"done"}
    assert results(tmp_path / "out") == singles
    assert len(first.looked_at) == 1
    assert set(first.looked_at).isdisjoint(second.looked_at)
    third = Workers()
    lead(engine, tmp_path / "out", films, third)
    assert (third.looked_at, third.rounds) == ([], [])


def test_a_file_that_changed_is_looked_at_anew(engine: Engine, films: list[Path], tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(films[0].read_bytes())
    lead(engine, tmp_path / "out", [film], Workers())
    write_film(film, 12)
    os.utime(film, (1, 1))
    again = Workers()
    _, manifest = lead(engine, tmp_path / "out", [film], again)
    assert again.looked_at
    assert manifest.entries[0].frames == 12


def test_parts_that_do_not_fit_are_thrown_away_for_the_whole_file(
    engine: Engine, films: list[Path], tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    data = bytearray(films[0].read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    film.write_bytes(data)
    pool = Workers()
    _, manifest = lead(engine, tmp_path / "out", [film], pool)
    assert ("film", "whole") in pool.looked_at
    assert manifest.entries[0].uncut_because
    assert results(tmp_path / "out")["film"] == single_run(engine, film, tmp_path)


def test_photos_and_raw_streams_are_part_of_an_archive(engine: Engine, tmp_path: Path) -> None:
    raw = write_clip(tmp_path / "raw.h264", [40 * i for i in range(30)], container_format="h264")
    photo = write_clip(tmp_path / "photo.png", [0], codec="png", pix_fmt="rgb24")
    lead(engine, tmp_path / "out", [raw, photo], Workers())
    assert results(tmp_path / "out") == {path.stem: single_run(engine, path, tmp_path) for path in (raw, photo)}


class Absent(Workers):
    def run(self, jobs, *, workers):  # type: ignore[no-untyped-def]
        """Nobody begins."""
        yield None


def test_workers_that_never_begin_are_an_error_and_no_endless_loop(
    engine: Engine, films: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(HoiclipError, match="none begins"):
        lead(engine, tmp_path / "out", films, Absent())


def test_results_of_another_model_are_not_mixed_in(tmp_path: Path) -> None:
    Manifest.at(tmp_path, {"model_sha256": "a", "detect_every": 1}, {}).keep()
    with pytest.raises(UsageError, match="detect_every 1, now 2"):
        Manifest.at(tmp_path, {"model_sha256": "a", "detect_every": 2}, {})
    assert Manifest.at(tmp_path, {"model_sha256": "a", "detect_every": 1}, {}).entries == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema":"hoiclip-archive/1","settings":{},"sources":[{"a":1}]}'])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UsageError, match="damaged"):
        Manifest.at(tmp_path, {}, {})


def test_names_stay_when_sources_come_to_it(tmp_path: Path) -> None:
    manifest = Manifest.at(tmp_path, {}, {})
    manifest.add(["/x/clip.mp4"])
    manifest.keep()
    again = Manifest.at(tmp_path, {}, {})
    entries = again.add(["/a/clip.mp4", "/x/clip.mp4", "/a/clip.mp4"])
    assert [(entry.source, entry.name) for entry in entries] == [("/a/clip.mp4", "clip-2"), ("/x/clip.mp4", "clip")]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "x"

    def write(fail: bool) -> None:
        with whole_file(target) as path:
            path.write_text("half")
            assert not target.exists()
            if fail:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        write(fail=True)
    assert list(tmp_path.iterdir()) == []
    write(fail=False)
    assert target.read_text() == "half"


def test_marks_of_ended_processes_are_tidied(tmp_path: Path) -> None:
    place = Workplace(tmp_path / "w")
    place.begin("plan")
    place.begin("plan")
    assert (place.tries("plan"), place.tries("00000")) == (2, 0)
    place.tidy()
    assert place.tries("plan") == 0


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["rtsp://user:secret@host/live"], "hoiclip run follows streams"),
        (["-"], "hoiclip run follows streams"),
        (["{clip}", "--segment-seconds", "0"], "at least a second"),
        (["{clip}", "--detect-every", "auto"], "whole number"),
        (["{clip}", "--min-score", "7"], "min_score"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    cli: Cli, clip: Path, tmp_path: Path, argv: list[str], says: str
) -> None:
    said = cli("archive", *(word.format(clip=clip) for word in argv), "-o", tmp_path / "out")
    assert said.is_one_error(2)
    assert says in said.err
    assert "secret" not in said.err
    assert not (tmp_path / "out").exists()


def test_what_stands_for_damage_does_not_depend_on_a_workers_share_of_the_processors(shared: Path) -> None:
    """Concealment is a matter of the decoder's threads, which ffmpeg counts by the processors that it may use."""
    video = shared / "data" / "videos" / "corrupted_49of50.mp4"

    def pictures(config: SourceConfig) -> str:
        with open_video(video, config) as source:
            return hashlib.sha256(b"".join(hashlib.sha256(frame.rgb.data).digest() for frame in source)).hexdigest()

    expected = pictures(SourceConfig())
    have = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(have)})
        assert pictures(SourceConfig(decoder_threads=threads_for(len(have)))) == expected
    finally:
        os.sched_setaffinity(0, have)


def test_processes_that_share_a_machine_keep_to_different_processors() -> None:
    code = (
        "import os, sys; from hoiclip_engine.cpu import pin_to_share; pin_to_share({shares}); "
        "print(sorted(os.sched_getaffinity(0)), flush=True); sys.stdin.read()"
    )
    have = sorted(os.sched_getaffinity(0))
    shares = min(2, len(have))
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    sharing = [
        subprocess.Popen(
            [sys.executable, "-c", code.format(shares=shares)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(shares)
    ]
    told = [json.loads(one.stdout.readline()) for one in sharing if one.stdout]
    for one in sharing:
        one.communicate(timeout=30)
    assert sorted(cpu for mine in told for cpu in mine) == have

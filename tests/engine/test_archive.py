"""Archive without Ray: tracks over segments equal those of a single run, and every interruption can be resumed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hoiclip.core.atomic_write import atomic_write
from hoiclip.core.errors import HoiclipError, UsageError
from hoiclip_engine.archive.coordinator import MOST_DEATHS
from hoiclip_engine.archive.manifest import Manifest
from hoiclip_engine.archive.work_directory import FileJob, JobReport, WorkDirectory
from hoiclip_engine.archive.worker import plan_work_items
from hoiclip_engine.engine import Engine
from hoiclip_engine.events.rules import Rule, RuleSet
from hoiclip_engine.sources.base import SourceConfig
from hoiclip_engine.sources.decoder import default_decoder_threads
from hoiclip_engine.sources.file import open_video
from tests.docs.documents import blocks
from tests.engine.archive_runs import (
    TORCH,
    RayPoolStandIn,
    Workers,
    coordinate,
    repeatable,
    single_run,
    write_video,
)
from tests.engine.command_output import PYTHONPATH, ROOT, Cli, CommandOutput
from tests.engine.untrained import untrained_model
from tests.engine.video_files import write_clip

pytestmark = pytest.mark.thorough

NAMES = ("a", "b")
FRAMES = 40


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.load(untrained_model(), TORCH) as made:
        yield made


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{name}.mp4", FRAMES) for name in NAMES]


@pytest.fixture(scope="module")
def singles(engine: Engine, videos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("singles")
    return {video.stem: single_run(engine, video, folder) for video in videos}


def states(manifest: Manifest) -> dict[str, str]:
    return {entry.name: entry.state for entry in manifest.entries}


def results(out: Path) -> dict[str, list[str]]:
    return {path.stem: repeatable(path) for path in (out / "jsonl").iterdir()}


@pytest.mark.parametrize("detect_every", [1, 4])
def test_archive_tracks_over_segments_equal_those_of_a_single_run(
    engine: Engine, videos: list[Path], tmp_path: Path, detect_every: int
) -> None:
    pool = Workers(detect_every)
    _, manifest = coordinate(engine, tmp_path / "out", videos, pool, detect_every)
    assert len(pool.processed) == len(set(pool.processed)) > len(videos)
    expected = {video.stem: single_run(engine, video, tmp_path, detect_every) for video in videos}
    assert any('"type":"event"' in line for line in expected["a"])
    assert results(tmp_path / "out") == expected
    assert [(e.state, e.frames, e.units_done == e.units) for e in manifest.entries] == [("done", FRAMES, True)] * 2
    assert list((tmp_path / "out" / "work").iterdir()) == []


def test_parquet_has_a_row_for_each_pair_of_a_frame_line(
    engine: Engine, videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinate(engine, tmp_path / "results", videos[:1], Workers())
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


def test_damaged_file_is_reported_and_does_not_stop_the_others(
    engine: Engine, videos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(bytes(range(256)) * 40)
    _, manifest = coordinate(
        engine, tmp_path / "out", [tmp_path / "broken.mp4", tmp_path / "missing.mp4", videos[0]], Workers()
    )
    assert states(manifest) == {"broken": "failed", "missing": "failed", "a": "done"}
    errors = {entry.name: entry.error or "" for entry in manifest.entries}
    assert "expected a video or image file" in errors["broken"]
    assert "found nothing at" in errors["missing"]
    assert set(results(tmp_path / "out")) == {"a"}


def test_file_that_kills_its_worker_is_tried_alone_and_given_up(
    engine: Engine, videos: list[Path], tmp_path: Path, singles: dict[str, list[str]]
) -> None:
    pool = Workers(deadly=["a"])
    _, manifest = coordinate(engine, tmp_path / "out", videos, pool)
    assert states(manifest) == {"a": "failed", "b": "done"}
    assert f"{MOST_DEATHS} processes dead that processed it" in (manifest.entries[0].error or "")
    assert pool.processed.count(("a", "00000")) == MOST_DEATHS
    assert len([work_item for name, work_item in pool.processed if name == "a"]) <= MOST_DEATHS + pool.workers - 1
    assert pool.rounds == [2, 1, 1]
    assert results(tmp_path / "out") == {"b": singles["b"]}


def test_worker_that_dies_once_loses_and_duplicates_nothing(
    engine: Engine, videos: list[Path], tmp_path: Path, singles: dict[str, list[str]]
) -> None:
    pool = Workers(deadly=["a"], deaths=1)
    _, manifest = coordinate(engine, tmp_path / "out", videos, pool)
    assert set(states(manifest).values()) == {"done"}
    assert results(tmp_path / "out") == singles
    assert pool.processed.count(("a", "00000")) == 2
    assert len(pool.processed) == len(set(pool.processed)) + 1


def test_damaged_cached_detections_are_an_error_of_their_file(
    engine: Engine, videos: list[Path], tmp_path: Path
) -> None:
    first = StoppingWorkers()
    first.coordinator, _ = coordinate(engine, tmp_path / "out", videos[:1])
    first.coordinator.work(first)
    first.coordinator.close()
    (cached,) = (tmp_path / "out").glob("work/a/*.looks.parquet")
    cached.write_bytes(cached.read_bytes()[:-30])
    _, manifest = coordinate(engine, tmp_path / "out", videos[:1], Workers())
    assert manifest.entries[0].state == "failed"
    assert "found them damaged" in (manifest.entries[0].error or "")


class StoppingWorkers(Workers):
    """Stops its coordinator after the first work item."""

    coordinator = None

    def _process(self, job: FileJob) -> JobReport | None:
        report = super()._process(job)
        assert self.coordinator is not None
        self.coordinator.stop()
        return report


def test_archive_resumes_after_an_interrupted_call(
    engine: Engine, videos: list[Path], tmp_path: Path, singles: dict[str, list[str]]
) -> None:
    first = StoppingWorkers()
    first.coordinator, manifest = coordinate(engine, tmp_path / "out", videos)
    first.coordinator.work(first)
    first.coordinator.close()
    assert states(manifest) == {"a": "pending", "b": "pending"}
    assert results(tmp_path / "out") == {}
    second = Workers()
    _, manifest = coordinate(engine, tmp_path / "out", videos, second)
    assert set(states(manifest).values()) == {"done"}
    assert results(tmp_path / "out") == singles
    assert len(first.processed) == 1
    assert set(first.processed).isdisjoint(second.processed)
    third = Workers()
    coordinate(engine, tmp_path / "out", videos, third)
    assert (third.processed, third.rounds) == ([], [])


ALWAYS = RuleSet(rules=(Rule(name="always", update_every_s=0.2),))
"""Holds for every active verb."""


class ReversedWorkers(Workers):
    """Hands the last segment of the last file out first."""

    def run(self, jobs: Sequence[FileJob], *, workers: int) -> Generator[JobReport | None, None, None]:
        items = [item for job in jobs for item in plan_work_items(job)]
        for item in reversed(items):
            yield self._process(item) if isinstance(item, FileJob) else item


@pytest.mark.parametrize("detect_every", [1, 4])
def test_hits_of_rules_are_those_of_a_single_run_whatever_the_order_of_segments(
    engine: Engine, videos: list[Path], tmp_path: Path, detect_every: int
) -> None:
    for name, pool in (("ordered", Workers(detect_every)), ("reversed", ReversedWorkers(detect_every))):
        _, manifest = coordinate(engine, tmp_path / name, videos, pool, detect_every, ALWAYS)
        assert all(entry.hits for entry in manifest.entries)
    expected = {video.stem: single_run(engine, video, tmp_path, detect_every, ALWAYS) for video in videos}
    assert results(tmp_path / "ordered") == results(tmp_path / "reversed") == expected


def test_hit_that_lasts_over_segments_is_one(engine: Engine, videos: list[Path], tmp_path: Path) -> None:
    coordinator, _ = coordinate(engine, tmp_path / "out", videos[:1], rules=ALWAYS)
    first = StoppingWorkers()
    first.coordinator = coordinator
    coordinator.work(first)
    coordinator.close()
    _, manifest = coordinate(engine, tmp_path / "out", videos[:1], Workers(), rules=ALWAYS)
    hits = [json.loads(line) for line in results(tmp_path / "out")["a"] if '"type":"rule"' in line]
    numbers = {event: [hit["hit"] for hit in hits if hit["event"] == event] for event in ("start", "end")}
    assert numbers["start"] == list(range(manifest.entries[0].hits or 0))
    assert sorted(numbers["end"]) == numbers["start"]
    lasted_s = [hit["pts_s"] - hit["start_s"] for hit in hits if hit["event"] == "end"]
    assert max(lasted_s) > 0.5, "none lasts over a segment"


RULES = """
[[rule]]
name = "rides"
verbs = ["{verb}"]
schedule = {{ days = ["mon"] }}
"""


def test_archive_command_checks_rules_and_refuses_others_for_the_same_folder(
    cli: Cli, videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoiclip_engine.archive.ray_pool.RayPool", RayPoolStandIn)
    rules, out = tmp_path / "rules.toml", tmp_path / "out"

    def archive(*more: object) -> CommandOutput:
        options = ("--model", untrained_model(), "--backend", "torch", "--rules", rules)
        return cli("archive", videos[0], "-o", out, *options, *more)

    rules.write_text(RULES.format(verb="levitate"), encoding="utf-8")
    said = archive()
    assert said.is_one_error(2)
    assert "levitate" in said.err
    assert not out.exists()
    rules.write_text(RULES.format(verb="ride"), encoding="utf-8")
    said = archive()
    assert said.code == 0, said.err
    assert "schedules do not count in files" in said.err
    assert re.search(r"rules +│ \d+ hits", said.err)
    (settings, source) = (json.loads((out / "manifest.json").read_text())[key] for key in ("settings", "sources"))
    assert settings["rules"][0]["name"] == "rides"
    assert isinstance(source[0]["hits"], int)
    assert json.loads((out / "jsonl" / "a.jsonl").read_text().splitlines()[-1])["hits"] == source[0]["hits"]
    assert archive().code == 0
    assert archive("--clock", "2026-01-31T08:00Z").is_one_error(2)
    rules.write_text(RULES.format(verb="carry"), encoding="utf-8")
    said = archive()
    assert said.is_one_error(2)
    assert "other rules" in said.err


def test_changed_file_is_processed_anew(engine: Engine, videos: list[Path], tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(videos[0].read_bytes())
    coordinate(engine, tmp_path / "out", [video], Workers())
    write_video(video, 12)
    os.utime(video, (1, 1))
    again = Workers()
    _, manifest = coordinate(engine, tmp_path / "out", [video], again)
    assert again.processed
    assert manifest.entries[0].frames == 12


def test_mismatched_segments_are_discarded_for_the_atomic_write(
    engine: Engine, videos: list[Path], tmp_path: Path
) -> None:
    video = tmp_path / "video.mp4"
    data = bytearray(videos[0].read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    video.write_bytes(data)
    pool = Workers()
    _, manifest = coordinate(engine, tmp_path / "out", [video], pool)
    assert ("video", "whole") in pool.processed
    assert manifest.entries[0].uncut_because
    assert results(tmp_path / "out")["video"] == single_run(engine, video, tmp_path)


def test_archive_takes_photos_and_raw_streams(engine: Engine, tmp_path: Path) -> None:
    raw = write_clip(tmp_path / "raw.h264", [40 * i for i in range(30)], container_format="h264")
    photo = write_clip(tmp_path / "photo.png", [0], codec="png", pix_fmt="rgb24")
    coordinate(engine, tmp_path / "out", [raw, photo], Workers())
    assert results(tmp_path / "out") == {path.stem: single_run(engine, path, tmp_path) for path in (raw, photo)}


class AbsentWorkers(Workers):
    def run(self, jobs, *, workers):  # type: ignore[no-untyped-def]
        """No job begins."""
        yield None


def test_workers_that_never_begin_are_an_error(engine: Engine, videos: list[Path], tmp_path: Path) -> None:
    with pytest.raises(HoiclipError, match="none begins"):
        coordinate(engine, tmp_path / "out", videos, AbsentWorkers())


def test_manifest_refuses_results_of_another_model(tmp_path: Path) -> None:
    Manifest.at(tmp_path, {"model_sha256": "a", "detect_every": 1}, {}).keep()
    with pytest.raises(UsageError, match="detect_every 1, now 2"):
        Manifest.at(tmp_path, {"model_sha256": "a", "detect_every": 2}, {})
    assert Manifest.at(tmp_path, {"model_sha256": "a", "detect_every": 1}, {}).entries == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema":"hoiclip-archive/1","settings":{},"sources":[{"a":1}]}'])
def test_manifest_with_other_content_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UsageError, match="damaged"):
        Manifest.at(tmp_path, {}, {})


def test_manifest_keeps_names_when_sources_are_added(tmp_path: Path) -> None:
    manifest = Manifest.at(tmp_path, {}, {})
    manifest.add(["/x/clip.mp4"])
    manifest.keep()
    again = Manifest.at(tmp_path, {}, {})
    entries = again.add(["/a/clip.mp4", "/x/clip.mp4", "/a/clip.mp4"])
    assert [(entry.source, entry.name) for entry in entries] == [("/a/clip.mp4", "clip-2"), ("/x/clip.mp4", "clip")]


def test_atomic_write_leaves_a_whole_file_or_none(tmp_path: Path) -> None:
    target = tmp_path / "x"

    def write(fail: bool) -> None:
        with atomic_write(target) as path:
            path.write_text("half")
            assert not target.exists()
            if fail:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        write(fail=True)
    assert list(tmp_path.iterdir()) == []
    write(fail=False)
    assert target.read_text() == "half"


def test_work_directory_tidies_marks_of_ended_processes(tmp_path: Path) -> None:
    directory = WorkDirectory(tmp_path / "w")
    directory.begin("plan")
    directory.begin("plan")
    assert (directory.tries("plan"), directory.tries("00000")) == (2, 0)
    directory.tidy()
    assert directory.tries("plan") == 0


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["rtsp://user:secret@host/live"], "hoiclip run follows streams"),
        (["-"], "hoiclip run follows streams"),
        (["{clip}", "--segment-seconds", "0"], "at least a second"),
        (["{clip}", "--detect-every", "0"], "at least 1"),
        (["{clip}", "--clip-every", "often"], "whole number or auto"),
        (["{clip}", "--min-score", "7"], "min_score"),
        (["{clip}", "--clock", "2026-01-31T08:00"], "name the rules"),
        (["{clip}", "--rules", "nowhere.toml"], "rules file"),
    ],
)
def test_archive_refuses_impossible_options_in_one_line(
    cli: Cli, clip: Path, tmp_path: Path, argv: list[str], says: str
) -> None:
    output = cli("archive", *(word.format(clip=clip) for word in argv), "-o", tmp_path / "out")
    assert output.is_one_error(2)
    assert says in output.err
    assert "secret" not in output.err
    assert not (tmp_path / "out").exists()


def test_concealed_damage_does_not_depend_on_the_processors_of_a_worker(shared: Path) -> None:
    """Concealment depends on the number of decoder threads, which ffmpeg takes from the processors that it may use."""
    video = shared / "data" / "videos" / "corrupted_49of50.mp4"

    def images(config: SourceConfig) -> str:
        with open_video(video, config) as source:
            return hashlib.sha256(b"".join(hashlib.sha256(frame.rgb.data).digest() for frame in source)).hexdigest()

    expected = images(SourceConfig())
    have = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(have)})
        assert images(SourceConfig(decoder_threads=default_decoder_threads(len(have)))) == expected
    finally:
        os.sched_setaffinity(0, have)


def test_processes_on_one_machine_are_pinned_to_different_processors() -> None:
    code = (
        "import os, sys; from hoiclip_engine.backends.cpu import pin_to_cpu_slot; pin_to_cpu_slot({shares}); "
        "print(sorted(os.sched_getaffinity(0)), flush=True); sys.stdin.read()"
    )
    have = sorted(os.sched_getaffinity(0))
    shares = min(2, len(have))
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code.format(shares=shares)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(shares)
    ]
    pinned = [json.loads(process.stdout.readline()) for process in processes if process.stdout]
    for process in processes:
        process.communicate(timeout=30)
    assert sorted(cpu for cpus in pinned for cpu in cpus) == have

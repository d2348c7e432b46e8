"""The demo as a newcomer sees it: whole, told in a table, and held against the ground truth of its clip."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hoiclip.data.drawn.vocabulary import drawn_vocabulary
from hoiclip.evaluation.video import Agreement, Segment, agreement, aligned, read_results, read_truth
from hoiclip_engine.commands.demo import interaction_rows
from hoiclip_engine.video.source import open_video
from tests.hoiclip.making_films import VOCABULARY, Pair, film

# What the bundled model reaches: all seven found, six of ten shown are true. 0.9 and 0.9 is what a demo should
# have: raise them with a better model.
MIN_FOUND, MIN_TRUE = 0.9, 0.6
WORDS = drawn_vocabulary()


@dataclass(frozen=True)
class Demo:
    folder: Path
    stdout: str
    stderr: str

    def agreement(self) -> Agreement:
        truth = read_truth(self.folder / "clip.jsonl", WORDS)
        found = read_results(self.folder / "demo.jsonl", WORDS)
        return agreement(aligned("demo", truth, found, len(WORDS.verbs)), WORDS)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    argv = [sys.executable, "-m", "hoiclip_engine.cli", "demo", "--out", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Demo(folder, done.stdout, done.stderr)


def lines(segments: tuple[Segment, ...]) -> str:
    rows = (f"{WORDS.verbs[s.verb]} {WORDS.objects[s.label]} {s.start_s:.2f}-{s.end_s:.2f} s" for s in segments)
    return ", ".join(rows) or "none"


def test_the_demo_finds_and_shows_what_is_true(demo: Demo) -> None:
    got = demo.agreement()
    numbers = (
        f"found {got.recall:.2f} of the true interactions (at least {MIN_FOUND}), "
        f"{got.precision:.2f} of those shown are true (at least {MIN_TRUE}); "
        f"missed: {lines(got.missed)}; wrong: {lines(got.wrong)}"
    )
    assert len(got.found) + len(got.missed) >= 7, "the clip has become poorer"
    assert got.recall >= MIN_FOUND, numbers
    assert got.precision >= MIN_TRUE, numbers


def test_the_demo_leaves_clip_truth_video_and_lines(demo: Demo) -> None:
    assert {path.name for path in demo.folder.iterdir()} == {"clip.mp4", "clip.jsonl", "demo.mp4", "demo.jsonl"}
    with open_video(demo.folder / "clip.mp4") as clip, open_video(demo.folder / "demo.mp4") as video:
        assert (clip.info.width_px, clip.info.height_px) == (video.info.width_px, video.info.height_px)
        times = [[frame.pts_s for frame in source] for source in (clip, video)]
    assert len(times[0]) == 250
    assert times[0] == pytest.approx(times[1])
    assert "demo.mp4" in demo.stderr


def test_the_table_is_plain_and_tells_what_the_video_shows(demo: Demo) -> None:
    title, header, *rows = [line for line in demo.stdout.splitlines() if line.strip()]
    assert "demo.mp4" in title
    assert header.split() == ["who", "does", "what", "from", "to", "for"]
    shown = read_results(demo.folder / "demo.jsonl", WORDS)
    told = [" ".join(row) for row in interaction_rows(shown, WORDS)]
    assert [" ".join(row.split()) for row in rows] == told
    assert told
    assert demo.stdout.isascii(), "no lines of boxes, no colours"


def test_a_verb_that_pauses_for_a_moment_is_one_row() -> None:
    held, idle = Pair(), replace(Pair(), active=())
    frames = film(*[[held]] * 10, *[[idle]] * 2, *[[held]] * 10, *[[idle]] * 5, *[[held]] * 3)
    assert list(interaction_rows(frames, VOCABULARY)) == [
        ("person 1", "hold cup 2", "0.00 s", "2.20 s", "2.20 s"),
        ("person 1", "hold cup 2", "2.70 s", "3.00 s", "0.30 s"),
    ]


def test_rows_come_in_order_of_their_start_whoever_does_it() -> None:
    first, second = Pair(pair=9, human=8, object=7), Pair()
    frames = film(*[[first]] * 5, *[[first, second]] * 5)
    assert [row[0] for row in interaction_rows(frames, VOCABULARY)] == ["person 8", "person 1"]

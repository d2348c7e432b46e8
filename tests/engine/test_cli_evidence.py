"""hoiclip run --evidence: what is written, limits, and options that make no sense."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import pytest

from hoiclip_engine.cli.options import age, byte_size
from hoiclip_engine.events.evidence_folder import EvidenceFolder, own_files
from hoiclip_engine.sources.file import open_video
from tests.docs.prepared import drawn_clip
from tests.engine.command_output import Cli
from tests.engine.run_processes import QUICK_BACKEND, json_lines, of_type
from tests.engine.test_evidence_folder import everything


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds in which a person rides, at 12.5 frames a second."""
    return drawn_clip(tmp_path_factory.mktemp("drawn") / "clip.mp4", frames=50)


@pytest.mark.thorough
def test_every_verb_event_of_a_run_has_its_files(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    folder, lines = tmp_path / "evidence", tmp_path / "out.jsonl"
    words = ["run", drawn, "--evidence", folder, "--evidence-before", 0.5, "--evidence-after", 0.5, "--jsonl", lines]
    output = cli(*words, "--backend", QUICK_BACKEND)
    assert output.code == 0, output.err
    starts = [
        event for event in of_type(json_lines(lines.read_text(encoding="utf-8")), "event") if event["event"] == "start"
    ]
    assert len(starts) > 2
    assert f"{len(starts)} written, 0 dropped" in output.err
    own = sorted(own_files(folder))
    assert len(own) == 2 * len(starts)
    for event in starts:
        name = f"000h00m{event['pts_s']:06.3f}s_clip_{event['verb']}_{event['pair']}"
        assert {path.suffix for path in own if path.stem.removesuffix("-2") == name} == {".jpg", ".mp4"}
    with open_video(drawn) as source:
        frames = list(source)
    for path in own:
        if path.suffix == ".mp4":
            with open_video(path) as source:
                shown = list(source)
            # Which frame it begins with is not in the file: its first frame is found among those of the source.
            (first,) = [row for row, frame in enumerate(frames) if np.array_equal(frame.rgb, shown[0].rgb)][:1]
            assert all(
                np.array_equal(ours.rgb, theirs.rgb) for ours, theirs in zip(shown, frames[first:], strict=False)
            )


@pytest.mark.thorough
def test_several_sources_share_a_folder_and_its_limits(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("north", "south"):
        shutil.copy(drawn, videos / f"{name}.mp4")
    folder = tmp_path / "evidence"
    output = cli(
        "run", videos, "--evidence", folder, "--evidence-max-files", 6, "--evidence-max-bytes", "300kB",
        "--backend", QUICK_BACKEND,
    )  # fmt: skip
    assert output.code == 0, output.err
    assert 0 < len(list(own_files(folder))) <= 6
    assert everything(folder) <= 300_000
    assert any("_south_" in path.name for path in own_files(folder))


def test_evidence_options_without_a_folder_are_refused(cli: Cli, clip: Path) -> None:
    assert cli("run", clip, "--evidence-before", 2).is_one_error(2)


@pytest.mark.parametrize(
    "wrong",
    [
        ("--evidence-before", "-1"),
        ("--evidence-after", "nan"),
        ("--evidence-max-files", "1"),
        ("--evidence-max-bytes", "0"),
        ("--evidence-max-bytes", "1XB"),
        ("--evidence-max-bytes", "1iB"),
        ("--evidence-max-age", "0d"),
        ("--evidence-max-age", "7"),
    ],
)
def test_options_that_make_no_sense_are_one_line(cli: Cli, clip: Path, tmp_path: Path, wrong: tuple[str, str]) -> None:
    assert cli("run", clip, "--evidence", tmp_path / "evidence", *wrong).is_one_error(2)
    assert not (tmp_path / "evidence").exists()


def test_evidence_never_goes_into_the_folder_of_the_sources(cli: Cli, clip: Path, tmp_path: Path) -> None:
    shutil.copy(clip, tmp_path / "a.mp4")
    assert cli("run", tmp_path, "--evidence", tmp_path).is_one_error(2)


def test_evidence_that_is_a_source_is_never_removed(cli: Cli, clip: Path, tmp_path: Path) -> None:
    with EvidenceFolder(tmp_path) as folder:
        path = folder.store("000h00m01.000s_cam_ride_1", {".mp4": clip.read_bytes()})[".mp4"]
    assert cli("run", path, "--evidence", tmp_path).is_one_error(2)


def test_folder_of_another_run_is_refused(cli: Cli, clip: Path, tmp_path: Path, model: Path) -> None:
    with EvidenceFolder(tmp_path):
        output = cli("run", clip, "--model", model, "--backend", QUICK_BACKEND, "--evidence", tmp_path)
    assert output.code == 2
    assert "another run writes" in output.err


@pytest.mark.parametrize(
    ("text", "size"), [("5", 5), ("500MB", 500_000_000), ("1.5GB", 1_500_000_000), ("2GiB", 2 << 30), ("3kB", 3000)]
)
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert byte_size(text) == size


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5h", 5400), ("30m", 1800), ("7d", 604_800)])
def test_ages_are_read_with_their_units(text: str, seconds: float) -> None:
    assert age(text) == seconds


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1e9", "1 GB", "9" * 30, "∞B", "1GBx"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        byte_size(text)

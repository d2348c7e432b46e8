"""hoiclip distill: from a folder of images and a short video to a student that runs, and runs that cannot start."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hoiclip.core.model_file import load_model_file
from hoiclip.synthetic.world import WorldConfig
from hoiclip.training.student import SIZES as STUDENTS
from hoiclip_engine.cli.distill import SIZES
from hoiclip_engine.cli.draw import draw_images
from hoiclip_engine.models import find_model
from tests.docs.prepared import drawn_clip
from tests.engine.command_output import Cli
from tests.engine.video_files import write_clip
from tests.hoiclip.tiny_students import TINY

IMAGES = 4


@pytest.fixture(scope="module", autouse=True)
def _tiny_sizes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STUDENTS, "nano", TINY)  # type: ignore[arg-type]
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with annotations, and a clip of eight frames in 0.56 s."""
    made = tmp_path_factory.mktemp("distill")
    draw_images(made / "drawn", IMAGES, WorldConfig(seed=5), ".png")
    drawn_clip(made / "clip.mp4", frames=8)
    return made


def test_images_and_a_video_become_a_student_that_runs(folder: Path, cli: Cli, tmp_path: Path) -> None:
    student, report = tmp_path / "student.safetensors", tmp_path / "report.json"
    words = ["distill", "drawn", folder / "drawn/images", folder / "clip.mp4", "-o", student, "--steps", 2]
    words += ["--every", 0.16, "--workers", 0, "--json", report]
    words += ["--data", folder / "drawn/annotations.json", "--images", folder / "drawn/images"]
    said = cli(*words)
    assert said.code == 0, said.err
    assert "agreement (F1)" in said.out
    facts = json.loads(report.read_text())
    made = load_model_file(student)
    assert made.vocabulary == load_model_file(find_model("drawn")).vocabulary
    assert facts["student"]["sha256"] == made.sha256()
    # Three images, and all but the last of the four frames that are 0.16 s apart.
    assert (facts["frames"], facts["agreement"]["images"]) == (IMAGES + 3, 1)
    assert facts["teacher"]["mAP"] > 30
    assert 0 <= facts["student"]["mAP"] < facts["teacher"]["mAP"]
    assert made.provenance["sources"] == IMAGES + 1
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "student.run/teacher").iterdir()}
    assert len(kept) == 2 * IMAGES + 5
    again = cli(*words[:-4])
    assert again.code == 0, again.err
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert json.loads(report.read_text())["agreement"] == facts["agreement"]
    assert "mAP" not in json.loads(report.read_text())["student"]
    assert cli("models", "verify", student).code == 0
    ran = cli("run", folder / "clip.mp4", "--model", student, "--backend", "torch", "--jsonl", tmp_path / "pairs.jsonl")
    assert ran.code == 0, ran.err


def test_damaged_source_is_left_out(folder: Path, cli: Cli, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(folder / "drawn/images", images)
    (images / "damaged.png").write_bytes(b"no image")
    said = cli(
        "distill", "drawn", images, "-o", tmp_path / "s.safetensors", "--steps", 1, "--workers", 0, "--json", "-"
    )
    assert said.code == 0, said.err
    assert "left out: 1 of 5 sources" in said.err
    assert json.loads(said.out)["frames"] == IMAGES - 1


def test_help_names_every_size() -> None:
    assert tuple(STUDENTS) == SIZES


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["drawn", "EMPTY", "-o", "OUT"], 3, "none by their suffix"),
        (["drawn", "DAMAGED", "-o", "OUT"], 3, "damaged.png"),
        (["drawn", "ONE", "-o", "OUT"], 3, "at least two frames"),
        (["drawn", "GREY", "-o", "OUT"], 3, "confident of none"),
        (["drawn", "0", "-o", "OUT"], 2, "image and video files"),
        (["drawn", "rtsp://me:secret@host/a", "-o", "OUT"], 2, "image and video files"),
        (["none", "ONE", "-o", "OUT"], 4, "known name"),
        (["DAMAGED", "ONE", "-o", "OUT"], 4, "safetensors"),
        (["drawn", "ONE", "-o", "OUT.pt"], 2, "ends in .safetensors"),
        (["drawn", "ONE", "-o", "OUT", "--every", "0"], 2, "more than 0"),
        (["drawn", "ONE", "-o", "OUT", "--steps", "0"], 2, "whole number"),
        (["drawn", "ONE", "-o", "OUT", "--data", "a.json"], 2, "--images DIR"),
        (["drawn", "ONE", "-o", "OUT", "--size", "huge"], 2, "choose from"),
        (["MODEL", "ONE", "-o", "MODEL"], 2, "different files"),
        (["drawn", "ONE", "-o", "OUT", "--json", "ONE"], 2, "different files"),
        (["drawn", "ONE", "-o", "OUT", "--run", "EMPTY", "--json", "EMPTY/log.jsonl"], 2, "different files"),
        (["drawn", "EMPTY", "-o", "OUT", "--run", "/proc/none"], 3, "none by their suffix"),
        (["drawn", "ONE", "-o", "OUT", "--run", "/proc/none"], 7, "/proc/none"),
    ],
)
def test_run_that_cannot_start_is_one_line(words: list[str], code: int, says: str, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.png").write_bytes(b"no image")
    Image.fromarray(np.full((48, 64, 3), 128, np.uint8)).save(tmp_path / "one.png")
    if "GREY" in words:
        write_clip(tmp_path / "grey.mp4", [0, 1000, 2000])
    if "MODEL" in words:
        shutil.copy(find_model("drawn"), tmp_path / "model.safetensors")
    names = {
        "EMPTY": "empty",
        "EMPTY/log.jsonl": "empty/log.jsonl",
        "DAMAGED": "damaged.png",
        "ONE": "one.png",
        "GREY": "grey.mp4",
        "MODEL": "model.safetensors",
        "OUT": "out.safetensors",
        "OUT.pt": "out.pt",
    }
    said = cli("distill", *(tmp_path / names[word] if word in names else word for word in words), "--workers", 0)
    assert said.is_one_error(code)
    assert says in said.err
    assert "secret" not in said.err
    assert not (tmp_path / "out.safetensors").exists()

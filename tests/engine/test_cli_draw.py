"""hoiclip data draw: files that our own readers take, with the ground truth beside them."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from hoiclip.data.formats.hoia import read_hoia
from hoiclip.synthetic.fixed_sets import fixed_set
from hoiclip.synthetic.video import VideoConfig, random_script
from hoiclip.synthetic.vocabulary import synthetic_vocabulary
from hoiclip.synthetic.world import SyntheticWorld, WorldConfig
from hoiclip_engine.cli.main import main


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_draw_writes_images_and_annotations_of_the_world(tmp_path: Path, suffix: str):
    code = main(["data", "draw", "--out", str(tmp_path), "--images", "5", "--seed", "3", "--format", suffix])
    assert code == 0
    world = SyntheticWorld(WorldConfig(seed=3))
    annotations = read_hoia(tmp_path / "annotations.json", synthetic_vocabulary())
    assert len(annotations) == 5
    for index, annotation in enumerate(annotations):
        image = world.image(index)
        np.testing.assert_array_equal(annotation.boxes_xyxy, image.annotation.boxes_xyxy)
        np.testing.assert_array_equal(annotation.interactions, image.annotation.interactions)
        written = cv2.imread(str(tmp_path / "images" / annotation.file_name))[..., ::-1]
        # JPEG halves the resolution of colour, and with it the backdrop's coloured grain; PNG changes nothing.
        assert np.abs(written.astype(int) - image.rgb).mean() <= (0 if suffix == "png" else 6)


def test_drawn_dataset_passes_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert (
        main(["data", "draw", "--out", str(tmp_path), "--images", "20", "--split", "rf_uc", "--size", "160x120"]) == 0
    )
    capsys.readouterr()
    images = str(tmp_path / "images")
    assert main(["data", "check", str(tmp_path / "annotations.json"), "--images", images, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["images"] == 20
    assert report["errors"] == 0


def test_draw_set_test_is_the_fixed_set(tmp_path: Path):
    assert main(["data", "draw", "--out", str(tmp_path), "--images", "2", "--set", "test"]) == 0
    first = SyntheticWorld(fixed_set("test").world).annotation(0)
    written = read_hoia(tmp_path / "annotations.json", synthetic_vocabulary())[0]
    assert written.file_name.startswith(first.file_name)
    np.testing.assert_array_equal(written.boxes_xyxy, first.boxes_xyxy)


def test_draw_writes_video_with_its_ground_truth(tmp_path: Path):
    arguments = ["--video", "1", "--seed", "4", "--fps", "8", "--duration", "9", "--size", "160x120", "--uneven"]
    assert main(["data", "draw", "--out", str(tmp_path), *arguments]) == 0
    config = VideoConfig(width_px=160, height_px=120, fps=8.0, duration_s=9.0, uneven=True)
    script = random_script(config, 4)
    lines = [json.loads(line) for line in (tmp_path / "film_0004.jsonl").read_text(encoding="utf-8").splitlines()]
    header, frames = lines[0], [line for line in lines if line["type"] == "frame"]
    assert (header["schema"], header["model"]) == ("hoiclip/1", "ground truth")
    with av.open(str(tmp_path / "film_0004.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert len(times) == len(frames) == len(script.pts_s)
    assert times == pytest.approx(script.pts_s, abs=1e-3)
    assert [line["pts_s"] for line in frames] == pytest.approx(script.pts_s, abs=1e-6)
    events = [line for line in lines if line["type"] == "event"]
    assert len(events) == 2 * len(script.events) > 0
    assert [line["pts_s"] for line in events] == sorted(line["pts_s"] for line in events)
    expected = list(script.frames())
    assert [len(line["pairs"]) for line in frames] == [len(frame.pairs) for frame in expected]
    pairs = {(pair["human"], pair["object"]): pair["pair"] for line in frames for pair in line["pairs"]}
    assert len(set(pairs.values())) == len(pairs) > 0
    for event in events:
        assert pairs.get((event["human"], event["object"]), event["pair"]) == event["pair"]
    assert lines[-1]["type"] == "summary"
    assert lines[-1]["decoded"] == len(frames)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "0"], "whole number from 1"),
        (["--images", "2", "--size", "big"], "WIDTHxHEIGHT"),
        (["--images", "2", "--size", "8x8"], "16x16"),
        (["--images", "2", "--split", "uc7"], "unknown split 'uc7'"),
        (["--images", "2", "--fraction", "7"], "5, 15, 25, 50, 100"),
        (["--video", "1", "--fps", "0"], "fps"),
        (["--images", "2", "--seed", "-1"], "whole number from 0"),
        ([], "required"),
    ],
)
def test_draw_wrong_arguments_are_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    try:
        code = main(["data", "draw", "--out", str(tmp_path / "out"), *arguments])
    except SystemExit as error:
        code = error.code
    assert code == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["--images", "--video"])
def test_draw_into_a_file_is_one_error_with_exit_code_7(tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str):
    (tmp_path / "taken").write_text("")
    assert main(["data", "draw", "--out", str(tmp_path / "taken"), what, "1"]) == 7
    assert "cannot make the folder" in capsys.readouterr().err

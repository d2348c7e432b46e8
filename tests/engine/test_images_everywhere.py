"""An image file is the same pixels, or a refusal, in `run`, training, evaluation, calibration and `data check`."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.check import check
from hoiclip.data.hoia import write_hoia
from hoiclip.data.image_file import ImageError, read_rgb
from hoiclip.data.rows import image_annotation
from hoiclip.errors import HoiclipError
from hoiclip_engine.calibration import CalibrationConfig, calibration_set
from hoiclip_engine.evaluate import FolderPictures
from hoiclip_engine.video.encoded_picture import decoded
from hoiclip_engine.video.piped import PipedSource
from hoiclip_engine.video.source import open_video
from hoiclip_engine.video.source_config import SourceConfig
from tests.hoiclip.making_data import FRUIT
from tests.hoiclip.making_images import HEIGHT, READABLE, REFUSED, RGB, WIDTH, colours

Read = Callable[[Path], RGB]


def by_run(path: Path) -> RGB:
    with open_video(path) as source:
        (frame,) = source
    assert (source.info.width_px, source.info.height_px) == frame.rgb.shape[1::-1]
    return frame.rgb


def by_run_from_a_pipe(path: Path) -> RGB:
    out, into = os.pipe()
    with os.fdopen(into, "wb") as pipe:
        pipe.write(path.read_bytes())  # less than a pipe holds
    source = PipedSource(SourceConfig(), out)
    (frame,) = source
    source.close()
    os.close(out)
    return frame.rgb


def by_evaluation(path: Path, size_wh: tuple[int, int] = (0, 0)) -> RGB:
    pictures = FolderPictures(path.parent, [annotation(path, size_wh)])
    rgb = pictures.rgb(0)
    assert pictures.hw(0) == rgb.shape[:2]
    return rgb


def by_training(path: Path, size_wh: tuple[int, int] = (0, 0)) -> RGB:
    from hoiclip.data.dataset import read_image

    return np.asarray(read_image(path.parent, annotation(path, size_wh)))


def annotation(path: Path, size_wh: tuple[int, int] = (0, 0)) -> ImageAnnotation:
    return image_annotation(path.name, [(1, 1, 9, 9)], [1], [], *size_wh)


READERS: dict[str, Read] = {
    "run": by_run,
    "evaluation": by_evaluation,
    "calibration": lambda path: calibration_set(CalibrationConfig(source=str(path))).checked[0],
    "an encoded image": lambda path: decoded(path.read_bytes(), 1 << 20),
}


def problems(path: Path, size_wh: tuple[int, int] = (0, 0)) -> list[str]:
    """What `data check` finds."""
    write_hoia(path.parent / "set.json", [annotation(path, size_wh)], FRUIT)
    found = check(path.parent / "set.json", FRUIT, images_dir=path.parent).problems
    return [f"{one.kind}: {one.detail}" for one in found if one.kind != "empty-image"]


@pytest.mark.parametrize("kind", READABLE)
def test_every_kind_of_image_has_its_colours_wherever_it_is_read(kind: str, tmp_path: Path) -> None:
    name, write, wanted, levels = READABLE[kind]
    path = tmp_path / name
    write(path)
    rgb = np.asarray(read_rgb(path))
    assert np.abs(rgb.astype(int) - wanted).max() <= levels
    for reader, read in READERS.items():
        if path.suffix == ".gif" and reader == "an encoded image":
            continue  # refused there, as a video
        assert np.array_equal(read(path), rgb), reader
    assert problems(path) == []


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_decoded_rightly_is_refused_wherever_it_is_read(kind: str, tmp_path: Path) -> None:
    name, write, words = REFUSED[kind]
    path = tmp_path / name
    write(path)
    with pytest.raises(ImageError, match=words):
        read_rgb(path)
    for reader, read in READERS.items():
        with pytest.raises(HoiclipError) as caught:
            read(path)
        assert caught.value.exit_code == 3, reader
        assert "\n" not in str(caught.value)
    (found,) = problems(path)
    assert found.startswith("unreadable-image: ")
    assert re.search(words, found)


@pytest.mark.parametrize("kind", ["16-bit grey.png", "rgba.png", "jpeg in.tiff"])
def test_training_reads_the_same(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    name, write, _, _ = READABLE[kind]
    write(tmp_path / name)
    assert np.array_equal(by_training(tmp_path / name), by_run(tmp_path / name))


@pytest.mark.parametrize("kind", ["16-bit grey.png", "rgb.jpg", "rgba.webp"])
def test_an_image_on_a_pipe_is_the_same(kind: str, tmp_path: Path) -> None:
    name, write, _, _ = READABLE[kind]
    write(tmp_path / name)
    assert np.array_equal(by_run_from_a_pipe(tmp_path / name), by_run(tmp_path / name))


# Orientation: upright, unless the annotated size is that of the stored image alone.

STORED = (WIDTH, HEIGHT)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_annotated_size_and_exif_tell_how_an_image_lies(orientation: int, suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(colours()).save(path, exif=exif, quality=100, lossless=True)
    upright = by_run(path)
    turned = orientation >= 5
    for size_wh, said in (((0, 0), "does not tell"), (upright.shape[1::-1], "read upright"), (STORED, "read")):
        lies = as_stored(path) if turned and size_wh == STORED else upright
        assert np.array_equal(by_evaluation(path, size_wh), lies)
        (found,) = problems(path, size_wh)
        assert f"orientation: EXIF orientation {orientation}" in found
        assert said in found
        assert ("as stored" in found) == (turned and size_wh == STORED)
    assert problems(path, (STORED[0] + 1, STORED[1]))[-1].startswith("size-mismatch")


def as_stored(path: Path) -> RGB:
    """Read without anything of ours; Pillow itself may turn a TIFF."""
    return colours() if path.suffix == ".tiff" else np.asarray(Image.open(path).convert("RGB"))


def test_damaged_exif_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(colours()).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 40)
    assert problems(path) == []
    assert by_run(path).shape == (HEIGHT, WIDTH, 3)


def test_the_first_of_several_images_is_read_and_said(tmp_path: Path) -> None:
    path = tmp_path / "pages.tiff"
    other = Image.new("RGB", (WIDTH, HEIGHT))
    Image.fromarray(colours()).save(path, save_all=True, append_images=[other])
    assert np.array_equal(by_run(path), colours())
    assert np.array_equal(by_evaluation(path), colours())
    assert problems(path) == ["several-images: 2 images in one file, of which the first is read"]


def test_a_pipe_and_a_directory_are_findings(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name, said in (("pipe.png", "a named pipe"), ("folder.png", "a directory")):
        (found,) = problems(tmp_path / name)
        assert found.startswith("unreadable-image")
        assert said in found
        with pytest.raises(HoiclipError, match=f"{name} that is no regular file"):
            by_evaluation(tmp_path / name)


def test_giant_images_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "giant.pgm"
    path.write_bytes(b"P5 10000 10000 255\n" + bytes(100))
    for read in (READERS["run"], READERS["evaluation"]):
        with pytest.raises(HoiclipError, match="pixels"):
            read(path)
    (found,) = problems(path)
    assert "pixels" in found


@settings(deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(READABLE)), seed=st.integers(0, 1 << 30))
def test_damaged_bytes_are_an_image_or_one_refusal(kind: str, seed: int, tmp_path: Path) -> None:
    name, write, _, _ = READABLE[kind]
    write(tmp_path / name)
    data, rng = bytearray((tmp_path / name).read_bytes()), random.Random(seed)
    for _ in range(rng.randrange(1, 8)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    try:
        rgb = read_rgb(BytesIO(data[: rng.randrange(len(data) // 2, len(data) + 1)]), max_pixels=1 << 20)
    except ImageError:
        return
    assert rgb.mode == "RGB"

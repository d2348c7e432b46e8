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

from hoiclip.core.array_types import RGB
from hoiclip.core.errors import HoiclipError
from hoiclip.data.annotations import ImageAnnotation, image_annotation
from hoiclip.data.check import check
from hoiclip.data.formats.hoia import write_hoia
from hoiclip.data.image_file import ImageError, read_rgb
from hoiclip.data.images import FolderImages
from hoiclip_engine.quantization.calibration import CalibrationConfig, calibration_set
from hoiclip_engine.sources.base import SourceConfig
from hoiclip_engine.sources.file import StdinSource, decode_image, open_video
from tests.hoiclip.image_files import HEIGHT, READABLE, REFUSED, WIDTH, colours
from tests.hoiclip.small_datasets import FRUIT

Read = Callable[[Path], RGB]


def read_by_run(path: Path) -> RGB:
    with open_video(path) as source:
        (frame,) = source
    assert (source.info.width_px, source.info.height_px) == frame.rgb.shape[1::-1]
    return frame.rgb


def read_by_run_from_stdin(path: Path) -> RGB:
    out, into = os.pipe()
    with os.fdopen(into, "wb") as pipe:
        pipe.write(path.read_bytes())  # less than a pipe holds
    source = StdinSource(SourceConfig(), out)
    (frame,) = source
    source.close()
    os.close(out)
    return frame.rgb


def read_by_evaluation(path: Path, size_wh: tuple[int, int] = (0, 0)) -> RGB:
    images = FolderImages(path.parent, [annotation(path, size_wh)])
    rgb = images.rgb(0)
    assert images.hw(0) == rgb.shape[:2]
    return rgb


def read_by_training(path: Path, size_wh: tuple[int, int] = (0, 0)) -> RGB:
    from hoiclip.data.dataset import read_image

    return np.asarray(read_image(path.parent, annotation(path, size_wh)))


def annotation(path: Path, size_wh: tuple[int, int] = (0, 0)) -> ImageAnnotation:
    return image_annotation(path.name, [(1, 1, 9, 9)], [1], [], *size_wh)


READERS: dict[str, Read] = {
    "run": read_by_run,
    "evaluation": read_by_evaluation,
    "calibration": lambda path: calibration_set(CalibrationConfig(source=str(path))).checked[0],
    "an encoded image": lambda path: decode_image(path.read_bytes(), 1 << 20),
}


def problems(path: Path, size_wh: tuple[int, int] = (0, 0)) -> list[str]:
    """Problems that `data check` finds."""
    write_hoia(path.parent / "set.json", [annotation(path, size_wh)], FRUIT)
    found = check(path.parent / "set.json", FRUIT, images_dir=path.parent).problems
    return [f"{problem.kind}: {problem.detail}" for problem in found if problem.kind != "empty-image"]


@pytest.mark.parametrize("kind", READABLE)
def test_image_kinds_have_the_same_colours_in_all_readers(kind: str, tmp_path: Path) -> None:
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
def test_unsupported_image_is_refused_by_all_readers(kind: str, tmp_path: Path) -> None:
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
def test_training_reads_the_same_pixels(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    name, write, _, _ = READABLE[kind]
    write(tmp_path / name)
    assert np.array_equal(read_by_training(tmp_path / name), read_by_run(tmp_path / name))


@pytest.mark.parametrize("kind", ["16-bit grey.png", "rgb.jpg", "rgba.webp"])
def test_image_on_stdin_has_the_same_pixels(kind: str, tmp_path: Path) -> None:
    name, write, _, _ = READABLE[kind]
    write(tmp_path / name)
    assert np.array_equal(read_by_run_from_stdin(tmp_path / name), read_by_run(tmp_path / name))


# Orientation: upright, unless the annotated size is that of the stored image alone.

STORED = (WIDTH, HEIGHT)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_annotated_size_and_exif_determine_the_orientation(orientation: int, suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(colours()).save(path, exif=exif, quality=100, lossless=True)
    upright = read_by_run(path)
    turned = orientation >= 5
    for size_wh, wording in (((0, 0), "does not say"), (upright.shape[1::-1], "read upright"), (STORED, "read")):
        expected = as_stored(path) if turned and size_wh == STORED else upright
        assert np.array_equal(read_by_evaluation(path, size_wh), expected)
        (found,) = problems(path, size_wh)
        assert f"orientation: EXIF orientation {orientation}" in found
        assert wording in found
        assert ("as stored" in found) == (turned and size_wh == STORED)
    assert problems(path, (STORED[0] + 1, STORED[1]))[-1].startswith("size-mismatch")


def as_stored(path: Path) -> RGB:
    """Image as stored, read without our code; Pillow itself may turn a TIFF."""
    return colours() if path.suffix == ".tiff" else np.asarray(Image.open(path).convert("RGB"))


def test_damaged_exif_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(colours()).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 40)
    assert problems(path) == []
    assert read_by_run(path).shape == (HEIGHT, WIDTH, 3)


def test_first_of_several_images_is_read_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "pages.tiff"
    other = Image.new("RGB", (WIDTH, HEIGHT))
    Image.fromarray(colours()).save(path, save_all=True, append_images=[other])
    assert np.array_equal(read_by_run(path), colours())
    assert np.array_equal(read_by_evaluation(path), colours())
    assert problems(path) == ["several-images: 2 images in one file, of which the first is read"]


def test_pipe_and_directory_are_reported_as_problems(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name, wording in (("pipe.png", "a named pipe"), ("folder.png", "a directory")):
        (found,) = problems(tmp_path / name)
        assert found.startswith("unreadable-image")
        assert wording in found
        with pytest.raises(HoiclipError, match=f"{name} that is no regular file"):
            read_by_evaluation(tmp_path / name)


def test_giant_images_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "giant.pgm"
    path.write_bytes(b"P5 10000 10000 255\n" + bytes(100))
    for read in (READERS["run"], READERS["evaluation"]):
        with pytest.raises(HoiclipError, match="pixels"):
            read(path)
    (found,) = problems(path)
    assert "pixels" in found


@settings(deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(READABLE)), seed=st.integers(0, 1 << 30))
def test_damaged_bytes_give_an_image_or_a_refusal(kind: str, seed: int, tmp_path: Path) -> None:
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

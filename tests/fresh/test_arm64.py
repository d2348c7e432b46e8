"""aarch64: the wheel runs there, emulated, as it does here, and the pip steps of the Jetson images find all wheels."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import xml.etree.ElementTree
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import pytest

from hoiclip.synthetic.clip import draw_clip
from hoiclip_engine.cli.main import main
from tests.deploy.test_images import DEPLOY, values
from tests.engine.run_processes import json_lines, of_type
from tests.fresh.arm64 import Arm64Root, made_root, require_programs, resolved_for_arm64
from tests.fresh.environments import copy_tests, wheel_of_the_checkout
from tests.fresh.test_without_torch import rounded

pytestmark = pytest.mark.slow

BACKEND = "onnxruntime"
RUNTIME_TESTS = (
    "tests/engine/test_pair_tracker.py",
    "tests/engine/test_timestamps.py",
    "tests/kernels/test_box_iou.py",
    "tests/kernels/test_pair_decode.py",
    "tests/kernels/test_pair_nms.py",
)
"""Tracking and the operators that Numba compiles; all of the runtime's tests would take hours of emulation."""
GLIBC = {"22.04": "2_35", "24.04": "2_39"}
"""Of Ubuntu's releases."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_of_the_checkout(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def root(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arm64Root]:
    require_programs()
    folder = tmp_path_factory.mktemp("arm64")
    yield made_root(folder / "root", wheel)
    shutil.rmtree(folder)  # more than a gigabyte


def test_fresh_start_says_what_it_has(root: Arm64Root) -> None:
    assert root.run("uname", "-m").stdout.strip() == "aarch64"
    done = root.run("hoiclip", "doctor", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["auto takes"] == BACKEND
    assert facts["torch"].startswith("not installed")


def rgb_clip(path: Path, frames: int = 10) -> Path:
    """Frames of the clip of `hoiclip demo`, from a moment when something happens, in RGB and without loss."""
    fps = Fraction(25, 2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 256, 192, "bgr0"
        for index, drawn in enumerate(islice(draw_clip(256, 192, float(fps), 9.0, 7), 31, 31 + frames)):
            frame = av.VideoFrame.from_ndarray(drawn.rgb, format="rgb24")
            frame.pts, frame.time_base = index, 1 / fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_video_gives_the_lines_of_x86(root: Arm64Root, tmp_path: Path) -> None:
    """Of a video in RGB: FFmpeg turns YUV into colours that differ by up to 2 of 255 between ARM and x86-64.

    Pairs, identities, verbs and events are the same; boxes and scores within `rounded`, as ARM's vector code sums in
    another order.
    """
    box = root.folder / "box"
    assert main(["export", "drawn", "-o", str(box / "model"), "--with-model"]) == 0
    video, here = rgb_clip(box / "clip.mkv"), tmp_path / "here.jsonl"
    words = ["--model", str(box / "model"), "--backend", BACKEND, "--jsonl", str(here)]
    assert main(["run", str(video), *words]) == 0
    argv = ("hoiclip", "run", video.name, "--model", "model", "--backend", BACKEND, "--jsonl", "there.jsonl")
    done = root.run(*argv, cwd="/box", HOICLIP_CACHE="/box/cache")
    assert done.returncode == 0, done.stderr[-4000:]
    expected, found = (json_lines(path.read_text()) for path in (here, box / "there.jsonl"))
    assert sum(len(frame["pairs"]) for frame in of_type(found, "frame")) > 10
    for kind in ("frame", "event"):
        assert rounded(of_type(found, kind)) == rounded(of_type(expected, kind))


def test_tests_of_tracking_and_operators_pass(root: Arm64Root) -> None:
    folder = root.folder / "checkout"
    folder.mkdir()
    copy_tests(folder)
    words = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--junitxml=report.xml")
    done = root.run("python", "-m", "pytest", *words, *RUNTIME_TESTS, cwd="/checkout")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    cases = list(xml.etree.ElementTree.parse(folder / "report.xml").getroot().iter("testcase"))
    passed = {case.get("classname", "") for case in cases if not len(case)}
    assert {path.removesuffix(".py").replace("/", ".") for path in RUNTIME_TESTS} <= passed


def pip_steps(path: Path, wheel: Path, extras: str) -> list[list[str]]:
    """The requirements of each `pip install` of a Dockerfile."""
    ours = ("$(echo /wheels/*.whl)[${EXTRAS}]", f"hoiclip[{extras}] @ {wheel.as_uri()}")
    steps = [step for rest in values(path, "RUN") for step in re.findall(r"\bpip install ([^&;|]*)", rest)]
    return [[word.replace(*ours) for word in shlex.split(step) if not word.startswith("-")] for step in steps]


@pytest.fixture(scope="module")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uv")


def extras_of(path: Path) -> list[str]:
    """The default of an image, and what docs/deploy.md offers instead."""
    (default,) = (rest.partition("=")[2] for rest in values(path, "ARG") if rest.startswith("EXTRAS="))
    return list(dict.fromkeys((default, "serve")))


IMAGES = [(path, extras) for path in sorted(DEPLOY.glob("Dockerfile.jetpack*")) for extras in extras_of(path)]


@pytest.mark.parametrize(("path", "extras"), IMAGES, ids=[f"{path.suffix[1:]}-{extras}" for path, extras in IMAGES])
def test_pip_steps_of_the_image_find_wheels(path: Path, extras: str, wheel: Path, uv: Path) -> None:
    """Not run: what is installed. Python and Ubuntu are those that the Dockerfile names."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    about = re.search(r"Ubuntu (\d+\.\d+), Python (\d\.\d+)", first)
    assert about, first
    steps = pip_steps(path, wheel, extras)
    assert len(steps) == 2
    assert any(step[0].startswith(f"hoiclip[{extras}]") for step in steps)
    for step in steps:
        done = resolved_for_arm64(uv, about[2], GLIBC[about[1]], *step)
        assert done.returncode == 0, done.stderr[-3000:]

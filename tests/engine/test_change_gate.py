"""Inference on change: what is inferred, what counts again, and what outputs say about it."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.sinks import jsonl_sink
from hoiclip_engine.sinks.video_encoder import VideoEncoder
from hoiclip_engine.streaming.inference_schedule import ChangeConfig, ChangeGate
from hoiclip_engine.streaming.stream import StreamConfig
from hoiclip_engine.types.frame import DecodedImage, Frame
from hoiclip_kernels.preprocess.yuv420 import Yuv420
from tests.engine.archive_runs import TORCH, Workers, coordinate, repeatable, single_run
from tests.engine.command_output import Cli
from tests.engine.untrained import untrained_model

FPS = 25.0
RNG = np.random.default_rng(0)
SCENE = np.repeat(np.repeat(RNG.integers(40, 200, (12, 16, 3)), 40, 0), 40, 1).astype(np.float32)  # 480x640


def seen(*, noise: float = 0.0, square_px: int = 0, at: int = 100, grey: float = 0.0, seed: int = 0) -> np.ndarray:
    """The scene with a square of another colour, in some light, seen by a sensor."""
    image = SCENE + grey
    image[200 : 200 + square_px, at : at + square_px] += 60
    image = image + np.random.default_rng(seed).normal(0, noise, image.shape) if noise else image
    return np.clip(image, 0, 255).astype(np.uint8)


def reasons(images: list[np.ndarray], config: ChangeConfig | None = None) -> list[str | None]:
    gate = ChangeGate(config)
    return [gate.why_infer(Frame(image, index / FPS, index)) for index, image in enumerate(images)]


def test_still_scene_is_inferred_at_its_longest_interval_alone() -> None:
    found = reasons([seen(noise=3, seed=index) for index in range(130)])
    assert found[0] == "first"
    assert [index for index, reason in enumerate(found) if reason == "interval"] == [75]
    assert found.count(None) == 128


@pytest.mark.parametrize("full_range", [False, True])
def test_frames_are_compared_by_their_brightness_without_becoming_rgb(full_range: bool) -> None:
    """Grey levels of a full range, whatever the video keeps to: thresholds are the same."""

    def planes(change: float) -> DecodedImage:
        grey = np.full((480, 640), 100.0)
        grey[100:200, 100:200] += change
        y = np.round(grey if full_range else 16 + grey * 219 / 255).astype(np.uint8)
        half = np.full((240, 320), 128, np.uint8)
        return DecodedImage(Yuv420(y, half, half, "bt601", full_range), (480, 640), pytest.fail)

    for change, reason in ((4.0, None), (6.0, "changed")):
        images = [planes(0), planes(0), planes(change)]
        gate = ChangeGate(ChangeConfig(settle_s=0.0))
        assert [gate.why_infer(Frame(one, index / FPS, index)) for index, one in enumerate(images)][2] == reason


@pytest.mark.parametrize("noise", [0.0, 2.0, 6.0])
def test_change_is_inferred_at_once_and_until_it_has_settled(noise: float) -> None:
    images = [seen(noise=noise, seed=index) for index in range(30)]
    images += [seen(noise=noise, square_px=24, seed=100 + index) for index in range(20)]
    found = reasons(images)
    assert found[29] is None
    assert found[30] == "changed"
    settled = int(ChangeConfig().settle_s * FPS)
    assert found[31 : 31 + settled] == ["settling"] * settled
    assert found[32 + settled] is None


def test_small_object_is_a_change() -> None:
    """Ten pixels of 480: the model itself sees four of them."""
    assert reasons([seen(), seen(square_px=10)]) == ["first", "changed"]


def test_slow_motion_adds_up_until_it_is_a_change() -> None:
    images = [seen(square_px=40, at=100 + index // 5) for index in range(50)]
    found = reasons(images)
    assert "changed" in found[1:]
    gate = ChangeGate(ChangeConfig(settle_s=0.0, longest_s=100.0))
    inferred_at = 0
    for index, image in enumerate(images):
        if gate.why_infer(Frame(image, index / FPS, index)):
            inferred_at = index // 5
        assert index // 5 - inferred_at <= 3, "the image is never further from the inferred one than some pixels"


def test_light_that_changes_and_another_size_are_changes() -> None:
    assert reasons([seen(), seen(grey=20)]) == ["first", "changed"]
    assert reasons([seen(), seen()[::2, ::2].copy()]) == ["first", "changed"]


@settings(max_examples=30, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    steps=st.lists(st.floats(1e-3, 5), min_size=1, max_size=20),
    seed=st.integers(0, 99),
)
def test_no_more_than_the_longest_interval_passes_without_inference(
    sides: tuple[int, int], steps: list[float], seed: int
) -> None:
    rng, gate, inferred_s, now_s = np.random.default_rng(seed), ChangeGate(), -1.0, 0.0
    for index, step in enumerate(steps):
        now_s += step
        image = rng.integers(0, 255, (*sides, 3), dtype=np.uint8)
        reason = gate.why_infer(Frame(image, now_s, index))
        assert (reason == "first") is (index == 0)
        if reason is not None:
            inferred_s = now_s
        assert now_s - inferred_s < ChangeConfig().longest_s


# Streams.


@pytest.fixture(scope="module")
def still_then_moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty still frames, ten in which a square moves, thirty still ones."""
    places = [100] * 30 + [100 + 12 * step for step in range(10)] + [208] * 30
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    encoder = VideoEncoder(path, 640, 480, Fraction(1, 25))
    for index, at in enumerate(places):
        encoder.write(seen(square_px=60, at=at), index / FPS)
    encoder.close()
    return path


@pytest.mark.thorough
def test_file_is_inferred_where_it_changes_and_every_time_alike(
    still_then_moving: Path, cli: Cli, tmp_path: Path
) -> None:
    outputs = []
    for name in ("once", "again"):
        words = ["--detect-every", "auto", "--min-score", 0, "--jsonl", tmp_path / name]
        assert cli("run", still_then_moving, "--model", untrained_model(), *words).code == 0
        outputs.append((tmp_path / name).read_text().splitlines())
    assert outputs[0][1:-1] == outputs[1][1:-1]
    schema = json.loads((Path(jsonl_sink.__file__).parent / "hoiclip-1.schema.json").read_text())
    for line in outputs[0]:
        jsonschema.validate(json.loads(line), schema)
    frames = [line for line in map(json.loads, outputs[0]) if line["type"] == "frame"]
    assert len(frames) == 70
    found = [frame["reason"] for frame in frames]
    assert found[0] == "first"
    assert set(found[5:29]) == {"unchanged"}
    assert found[30] == "unchanged"  # the first of the moving places is that of before
    assert set(found[31:40]) == {"changed"}
    assert found[-1] == "unchanged"
    assert [frame["detected"] for frame in frames] == [reason not in ("unchanged", "busy") for reason in found]
    # The same image has the same pairs: what is not inferred again is neither lost nor moved.
    assert [pair["pair"] for pair in frames[28]["pairs"]] == [pair["pair"] for pair in frames[10]["pairs"]]
    boxes = [[pair["human_box_xyxy"] for pair in frames[index]["pairs"]] for index in (10, 28)]
    np.testing.assert_allclose(*boxes, atol=2)
    every = cli("run", still_then_moving, "--model", untrained_model(), "--jsonl", "-")
    assert '"reason"' not in every.out


@pytest.mark.thorough
def test_live_stream_repeats_unchanged_frames(still_then_moving: Path) -> None:
    with Engine.load(untrained_model(), EngineConfig(backend="torch")) as engine:
        config = StreamConfig(policy="latest", detect_every="auto")
        found = list(engine.open(still_then_moving, config))
    reasons_found = [result.reason for result in found]
    assert reasons_found[0] == "first"
    assert "unchanged" in reasons_found
    assert "changed" in reasons_found
    assert all(result.detected is (result.reason not in ("unchanged", "busy")) for result in found)


@pytest.mark.thorough
def test_archive_infers_what_a_run_does_and_the_first_frame_of_each_segment(
    still_then_moving: Path, tmp_path: Path
) -> None:
    def archived(name: str, segment_s: float) -> tuple[list[str], int]:
        with Engine.load(untrained_model(), TORCH) as engine:
            _, manifest = coordinate(
                engine, tmp_path / name, [still_then_moving], Workers("auto"), "auto", segment_s=segment_s
            )
        (entry,) = manifest.entries
        assert entry.state == "done"
        return repeatable(tmp_path / name / "jsonl" / "video.jsonl"), entry.units

    def reasons_in(lines: list[str]) -> list[str]:
        return [line["reason"] for line in map(json.loads, lines) if line["type"] == "frame"]

    with Engine.load(untrained_model(), TORCH) as engine:
        expected = single_run(engine, still_then_moving, tmp_path, "auto")
    whole, items = archived("whole", 60)
    assert (whole, items) == (expected, 1)
    split, items = archived("split", 0.5)
    assert items > 1
    assert reasons_in(split).count("first") == items
    for index, reason in enumerate(reasons_in(expected)):
        if reason == "changed":
            assert reasons_in(split)[index] in ("changed", "settling", "first")
    assert reasons_in(split).count("unchanged") > 30

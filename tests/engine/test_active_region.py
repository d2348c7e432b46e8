"""Regions instead of whole frames: what they hold, what is inferred of them, and where its boxes are."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.detections import HOIDetections
from hoiclip.core.preprocess import PreprocessConfig, preprocess
from hoiclip.core.vocabulary import NO_OBJECT
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.session import open_frames
from hoiclip_engine.sinks import jsonl_sink
from hoiclip_engine.sinks.video_encoder import VideoEncoder
from hoiclip_engine.streaming.inference_schedule import RegionConfig, RegionSchedule, cut_out
from hoiclip_engine.streaming.inference_worker import ClipScene, Inference
from hoiclip_engine.streaming.stream import StreamConfig
from hoiclip_engine.types.frame import DecodedImage, Frame, FrameImage, host_rgb
from hoiclip_engine.types.results import FrameResult
from hoiclip_engine.types.tracked_pairs import TrackedPairs
from hoiclip_kernels.preprocess.yuv420 import Yuv420
from tests.engine.command_output import Cli
from tests.engine.untrained import untrained_model

SIZE_HW = 360, 640


def blank(square: tuple[int, int] | None = None, side_px: int = 40) -> np.ndarray:
    """A grey image, with a white square at x, y."""
    image = np.full((*SIZE_HW, 3), 90, np.uint8)
    if square is not None:
        x, y = square
        image[y : y + side_px, x : x + side_px] = 255
    return image


def tracked(*boxes: tuple[float, float, float, float]) -> TrackedPairs:
    count = len(boxes)
    rows = np.arange(count, dtype=np.int64)
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    nothing = np.zeros((count, 1), np.float32)
    return TrackedPairs(
        pair=rows, human=rows, object=rows, human_boxes_xyxy=xyxy, object_boxes_xyxy=xyxy, label=rows,
        score=np.ones(count, np.float32), verb_scores=nothing, verb_active=nothing > 1,
    )  # fmt: skip


def test_whole_frames_alone_need_no_comparison() -> None:
    schedule = RegionSchedule(1)
    image = DecodedImage(Yuv420(*[np.zeros((2, 2), np.uint8)] * 3), (2, 2), pytest.fail)
    assert [schedule.region_of(Frame(image, float(i), i)) for i in range(3)] == [None] * 3


def test_every_nth_inference_and_frames_without_anything_are_whole() -> None:
    schedule, regions = RegionSchedule(4), []
    for index in range(12):
        regions.append(schedule.region_of(Frame(blank(), index / 25, index)))
        schedule.track(tracked((300, 100, 360, 200)) if index < 8 else tracked())
    whole = [index for index, region in enumerate(regions) if region is None]
    assert whole == [0, 4, 8, 9, 10, 11]


def test_change_since_the_last_whole_frame_is_in_the_region() -> None:
    schedule = RegionSchedule(10)
    assert schedule.region_of(Frame(blank(), 0.0, 0)) is None
    schedule.track(tracked((300, 100, 360, 200)))
    x1, y1, x2, y2 = schedule.region_of(Frame(blank((500, 250)), 0.04, 1)) or (0, 0, 0, 0)
    assert x1 <= 300
    assert y1 <= 100
    assert x2 >= 540
    assert y2 >= 290


def test_another_size_and_a_change_everywhere_are_whole() -> None:
    schedule = RegionSchedule(10)
    for index, image in enumerate((blank(), blank()[::2, ::2].copy(), blank()[::2, ::2] + np.uint8(60))):
        assert schedule.region_of(Frame(image, index / 25, index)) is None
        schedule.track(tracked((10, 10, 20, 20)))


def test_region_of_a_larger_frame_is_not_taken_over() -> None:
    schedule, narrow = RegionSchedule(2), np.ascontiguousarray(blank()[:, :620])
    for index, image in enumerate((blank(), blank(), narrow, narrow)):
        region = schedule.region_of(Frame(image, index / 25, index))
        schedule.track(tracked((600, 300, 615, 340)))
        assert (region is None) is (index % 2 == 0)
        assert region is None or region[2] <= image.shape[1]


@settings(max_examples=60, deadline=None)
@given(
    size_hw=st.tuples(st.integers(2, 700), st.integers(2, 700)),
    boxes=st.lists(st.tuples(*[st.floats(-200, 900)] * 4), min_size=1, max_size=4),
)
def test_region_holds_the_pairs_and_has_the_shape_of_the_frame(
    size_hw: tuple[int, int], boxes: list[tuple[float, float, float, float]]
) -> None:
    schedule, image = RegionSchedule(1000), np.zeros((*size_hw, 3), np.uint8)
    ordered = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
    schedule.region_of(Frame(image, 0.0, 0))
    schedule.track(tracked(*ordered))
    region = schedule.region_of(Frame(image, 0.1, 1))
    if region is None:
        return
    x1, y1, x2, y2 = region
    height, width = size_hw
    assert 0 <= x1 < x2 <= width
    assert 0 <= y1 < y2 <= height
    assert (x1 % 2, y1 % 2) == (0, 0)
    assert abs((x2 - x1) / width - (y2 - y1) / height) <= 2 / min(size_hw), "both sides shrink alike, but for rounding"
    assert (x2 - x1) / width <= RegionConfig().largest + 2 / width
    for box in ordered:
        assert x1 <= np.clip(box[0], 0, width) + 1
        assert np.clip(box[2], 0, width) <= x2 + 1
        assert y1 <= np.clip(box[1], 0, height) + 1
        assert np.clip(box[3], 0, height) <= y2 + 1


def test_region_stays_while_what_is_in_it_hardly_moves() -> None:
    schedule, regions = RegionSchedule(1000), set()
    for index in range(20):
        regions.add(schedule.region_of(Frame(blank(), index / 25, index)))
        schedule.track(tracked((300 + index / 2, 100, 360 + index / 2, 280)))
    assert len(regions) == 2  # the first frame is whole


@pytest.mark.parametrize("odd", [False, True])
def test_planes_of_a_region_have_its_colours(odd: bool) -> None:
    height, width = (89, 121) if odd else (90, 120)
    rng = np.random.default_rng(0)
    half = (height + 1) // 2, (width + 1) // 2
    planes = Yuv420(*(rng.integers(60, 190, size, np.uint8) for size in ((height, width), half, half)), "bt601")
    rgb = np.repeat(np.repeat(rng.integers(0, 255, (*half, 3), np.uint8), 2, 0), 2, 1)[:height, :width]
    image, region = DecodedImage(planes, (height, width), lambda: rgb.copy()), (30, 20, width, height)
    part = cut_out(image, region)
    assert isinstance(part, DecodedImage)
    assert part.shape == (height - 20, width - 30, 3)
    np.testing.assert_array_equal(host_rgb(part), rgb[20:, 30:])
    found = part.planes
    assert isinstance(found, Yuv420)
    expected = planes.y_hw[20:, 30:], planes.u_hw[10:, 15:], planes.v_hw[10:, 15:]
    for plane, same in zip(found.planes, expected, strict=True):
        np.testing.assert_array_equal(plane, same)
    assert (found.matrix, found.full_range) == (planes.matrix, planes.full_range)
    assert preprocess(found, PreprocessConfig(short_side_px=32, clip_side_px=16)).original_hw == (part.shape[:2],)
    np.testing.assert_array_equal(cut_out(rgb, region), rgb[20:, 30:])


def white_square(image: FrameImage) -> HOIDetections:
    """Finds the white square of an image, and nothing where there is none."""
    white = (host_rgb(image) > 200).all(-1)
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    count = int(len(rows) > 0)
    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] if count else []
    ids, ones = np.zeros(count, np.int64), np.ones(count)
    boxes = np.array(box, np.float32).reshape(count, 4)
    return HOIDetections(
        query=ids, human_boxes_xyxy=boxes, object_boxes_xyxy=boxes, label=ids + NO_OBJECT, verb=ids, hoi=ids,
        score=ones, verb_score=ones,
    )  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A white square that walks to the right for two seconds."""
    path = tmp_path_factory.mktemp("region") / "walk.mp4"
    encoder = VideoEncoder(path, SIZE_HW[1], SIZE_HW[0], Fraction(1, 25))
    for index in range(50):
        encoder.write(blank((100 + 4 * index, 160)), index / 25)
    encoder.close()
    return path


def walk(engine: Engine, clip: Path, config: StreamConfig, depth: int) -> tuple[list[FrameResult], list[int]]:
    """Results of the walk with a detector of white squares, and the widths of the images it was given."""
    widths: list[int] = []

    def detect(image: FrameImage) -> Inference:
        widths.append(image.shape[1])
        return Inference(white_square(image), {})

    with ThreadPoolExecutor(1) as pool:

        def infer(image: FrameImage, scene: ClipScene | None = None) -> Future[Inference]:
            return pool.submit(detect, image)

        stream = engine.stream_factory.open(open_frames(clip), infer, config, prefetch_depth=depth)
        return list(stream), widths


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(untrained_model(), EngineConfig(backend="torch"))


@pytest.mark.parametrize("depth", [1, 4])
def test_boxes_are_those_of_whole_frames(engine: Engine, clip: Path, depth: int) -> None:
    results, widths = walk(engine, clip, StreamConfig(whole_every=5), depth)
    assert widths.count(SIZE_HW[1]) == 10
    assert sum(width < SIZE_HW[1] * RegionConfig().largest for width in widths) == 40
    assert [result.region is None for result in results] == [index % 5 == 0 for index in range(50)]
    for result in results[5:]:
        x, box = 100 + 4 * result.index, result.pairs.human_boxes_xyxy[0]
        expected = (x, 160, x + 40, 200)
        np.testing.assert_allclose(box, expected, atol=4)  # smoothed by the tracker, and edges blurred by the encoder


def test_file_gives_the_same_regions_every_time(engine: Engine, clip: Path) -> None:
    config = StreamConfig(whole_every=7)
    first, second = ([result.region for result in walk(engine, clip, config, 3)[0]] for _ in range(2))
    assert first == second


@pytest.mark.thorough
def test_run_writes_regions_and_refuses_zero(cli: Cli, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    words = ["--model", untrained_model(), "--backend", "torch", "--min-score", "0", "--max-frames", "6"]
    found = cli("run", clip, *words, "--whole-every", "3", "--jsonl", out)
    assert found.code == 0, found.err
    schema = json.loads((Path(jsonl_sink.__file__).parent / "hoiclip-1.schema.json").read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        jsonschema.validate(line, schema)
    regions = [line.get("region_xyxy") for line in lines if line["type"] == "frame"]
    assert regions[0] is None
    assert regions[3] is None
    refused = cli("run", clip, *words, "--whole-every", "0")
    assert refused.code == 2
    assert "whole_every must be at least 1, got 0" in refused.err

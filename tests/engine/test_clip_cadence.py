"""CLIP at its own cadence: what is kept of a scene, when it is inferred anew, and that nothing else changes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import wait
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from hoiclip.core.detections import HOIDetections
from hoiclip.core.model_file import ModelFile, load_model_file
from hoiclip.core.preprocess import ModelInput, PreprocessConfig, preprocess
from hoiclip.core.raw_output import RawOutput
from hoiclip_engine.backends import openvino_backend, torch_backend
from hoiclip_engine.backends.base import Backend, Capacity, ClipKeepingBackend, ClipView
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.export.graph_spec import MODEL_OUTPUTS
from hoiclip_engine.sinks.video_encoder import VideoEncoder
from hoiclip_engine.streaming.inference_schedule import SceneSchedule
from hoiclip_engine.streaming.inference_worker import ClipScene, InferenceWorker
from hoiclip_engine.streaming.stream import StreamConfig
from hoiclip_engine.types.frame import Frame
from tests.engine.command_output import Cli
from tests.engine.untrained import untrained_model
from tests.engine.video_files import write_clip

PADDED_HW = (128, 160)
KEEPING = Capacity(keeps_clip=True)
Load = Callable[..., Backend]


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return load_model_file(untrained_model())


def prepared(seed: int) -> ModelInput:
    rgb = np.random.default_rng(seed).integers(0, 256, (120, 150, 3), dtype=np.uint8)
    config = PreprocessConfig(short_side_px=100, max_side_px=160, clip_side_px=64, padded_hw=PADDED_HW)
    return preprocess(rgb, config)


@pytest.mark.parametrize("load", [openvino_backend.load, torch_backend.load])
def test_two_parts_equal_the_whole(load: Load, model: ModelFile) -> None:
    whole = load(model, PADDED_HW, "fp32", None)
    parts = cast(ClipKeepingBackend, load(model, PADDED_HW, "fp32", None, KEEPING))
    assert parts.capacity.keeps_clip
    assert not whole.capacity.keeps_clip
    for seed in range(3):
        image = prepared(seed)
        expected, called, found = whole(image), parts(image), parts.infer(image, parts.view(image))
        for name in MODEL_OUTPUTS:
            np.testing.assert_array_equal(getattr(called, name), getattr(found, name))
            # The same operators, which the compiler may fuse otherwise.
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=2e-4)


@pytest.mark.parametrize("load", [openvino_backend.load, torch_backend.load])
def test_view_of_another_image_changes_hois_and_no_boxes(load: Load, model: ModelFile) -> None:
    parts = cast(ClipKeepingBackend, load(model, PADDED_HW, "fp32", None, KEEPING))
    image, other = prepared(0), prepared(1)
    own, foreign = parts.infer(image, parts.view(image)), parts.infer(image, parts.view(other))
    np.testing.assert_array_equal(foreign.human_boxes_cxcywh, own.human_boxes_cxcywh)
    np.testing.assert_array_equal(foreign.object_logits, own.object_logits)
    np.testing.assert_array_equal(foreign.clip_cls, parts(other).clip_cls)
    assert np.abs(foreign.hoi_logits - own.hoi_logits).max() > 1e-3


def test_parts_take_one_image_a_call(model: ModelFile) -> None:
    parts = openvino_backend.load(model, PADDED_HW, "fp32", None, Capacity(batch=4, num_requests=2, keeps_clip=True))
    assert parts.capacity == Capacity(batch=1, num_requests=2, keeps_clip=True)


class FakeBackend:
    """Logits are the brightness of the image that CLIP has seen."""

    name, padded_hw = "fake", (64, 64)

    def __init__(self, num_requests: int = 1, fails: int = 0) -> None:
        self.capacity = Capacity(num_requests=num_requests, keeps_clip=True)
        self.views, self.inferences, self.fails = 0, 0, fails

    def __call__(self, model_input: ModelInput) -> RawOutput:
        raise AssertionError("in two parts")

    def view(self, model_input: ModelInput) -> ClipView:
        self.views += 1
        time.sleep(0.02)
        if self.views <= self.fails:
            raise RuntimeError("no view")
        return {"seen": model_input.clip_bchw[:, 0, 0, 0].copy()}

    def infer(self, model_input: ModelInput, view: ClipView) -> RawOutput:
        self.inferences += 1
        return RawOutput(
            hoi_logits=np.asarray(view["seen"], np.float32)[:, None, None],
            object_logits=np.zeros((1, 1, 2), np.float32),
            human_boxes_cxcywh=np.zeros((1, 1, 4), np.float32),
            object_boxes_cxcywh=np.zeros((1, 1, 4), np.float32),
            clip_cls=np.zeros((1, 1), np.float32),
        )

    def close(self) -> None:
        pass


def worker_of(backend: FakeBackend) -> InferenceWorker:
    config = PreprocessConfig(short_side_px=64, max_side_px=64, clip_side_px=32, padded_hw=(64, 64))

    def seen(raw: RawOutput, _hw: tuple[int, int]) -> HOIDetections:
        return cast(HOIDetections, float(raw.hoi_logits[0, 0, 0]))

    return InferenceWorker(cast(Backend, backend), config, seen, prefetch=True)


def image(level: int) -> Any:
    return np.full((64, 64, 3), level, np.uint8)


def prepared_level(level: int) -> np.float32:
    """The first value of the CLIP image."""
    config = PreprocessConfig(short_side_px=64, max_side_px=64, clip_side_px=32, padded_hw=(64, 64))
    return cast(np.float32, preprocess(image(level), config).clip_bchw[0, 0, 0, 0])


@pytest.mark.parametrize("num_requests", [1, 3])
def test_scene_is_viewed_once_whatever_threads_infer_it(num_requests: int) -> None:
    backend = FakeBackend(num_requests)
    worker = worker_of(backend)
    scenes = [ClipScene(image(60 * number)) for number in range(4)]
    futures = [
        worker.infer(image(60 * number + shade), scene) for number, scene in enumerate(scenes) for shade in range(5)
    ]
    found = [cast(Any, future.result().detections) for future in futures]
    worker.close()
    assert (backend.views, backend.inferences) == (4, 20)
    expected = [float(prepared_level(60 * number)) for number in range(4) for _ in range(5)]
    assert found == pytest.approx(expected)
    assert sum("clip" in future.result().stage_ms for future in futures) == 4


def test_view_that_fails_is_tried_again_by_the_next_frame() -> None:
    worker = worker_of(FakeBackend(fails=1))
    scene = ClipScene(image(1))
    first, second = worker.infer(image(1), scene), worker.infer(image(2), scene)
    wait([first, second])
    worker.close()
    errors = [future.exception() for future in (first, second)]
    assert sorted(str(error) for error in errors) == ["None", "no view"]


def test_cancelled_frame_leaves_its_scene_to_the_others() -> None:
    backend = FakeBackend()
    worker, scene = worker_of(backend), ClipScene(image(1))
    before = [worker.infer(image(9), ClipScene(image(9))) for _ in range(4)]  # while these are inferred, others wait
    cancelled, following = worker.infer(image(1), scene), worker.infer(image(2), scene)
    assert cancelled.cancel()
    assert isinstance(cast(Any, following.result().detections), float)
    worker.close()
    assert backend.views == len(before) + 1


def scenes_of(schedule: SceneSchedule, images: list[Any]) -> list[int]:
    """Number of the scene of each frame, at 25 fps."""
    found = [schedule.scene_of(Frame(rgb, index / 25, index)) for index, rgb in enumerate(images)]
    numbers: dict[int, int] = {}
    return [numbers.setdefault(id(scene), len(numbers)) for scene in found]


def test_every_nth_inference_begins_a_scene() -> None:
    assert scenes_of(SceneSchedule(3), [image(9)] * 8) == [0, 0, 0, 1, 1, 1, 2, 2]
    assert SceneSchedule(1).scene_of(Frame(image(9), 0.0, 0)) is None


def test_auto_begins_a_scene_where_the_image_changes_or_after_a_second() -> None:
    rng = np.random.default_rng(0)
    still = np.kron(rng.integers(40, 200, (6, 8, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    changed = still.copy()
    changed[:, 200:] = 255 - changed[:, 200:]
    noisy = [np.clip(still + rng.normal(0, 3, still.shape), 0, 255).astype(np.uint8) for _ in range(20)]
    numbers = scenes_of(SceneSchedule("auto"), [*noisy, *[changed] * 20, *[changed] * 20])
    assert numbers[:20] == [0] * 20
    assert numbers[20:45] == [1] * 25
    assert numbers[45:] == [2] * 15


@pytest.mark.parametrize("policy", ["lossless", "latest"])
def test_stream_infers_clip_with_every_second_detection(policy: Any, tmp_path: Path) -> None:
    video = write_clip(tmp_path / "clip.mp4", [20 * n for n in range(9)])
    config = StreamConfig(policy=policy, detect_every=2, clip_every=2)
    with Engine.load(untrained_model(), EngineConfig(backend="openvino", precision="fp32")) as engine:
        inferred = [result for result in engine.stream(video, config) if result.detected]
    assert len(inferred) > 2
    # Of two that are inferred at the same time, either may be the one that CLIP is timed with.
    assert sum("clip" in result.stage_ms for result in inferred) == -(-len(inferred) // 2)


@pytest.mark.parametrize("every", ["3", "auto"])
def test_scene_that_stays_gives_the_results_of_every_frame(every: str, tmp_path: Path, cli: Cli) -> None:
    """A video of one image: what CLIP saw in its first frame is what it would see in all."""
    encoder = VideoEncoder(tmp_path / "clip.mp4", 160, 120, Fraction(1, 25))
    scene = np.kron(np.random.default_rng(0).integers(0, 256, (6, 8, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    for number in range(9):
        encoder.write(scene, number / 25)
    encoder.close()
    runs = []
    for options in ([], ["--clip-every", every]):
        words = ("--model", untrained_model(), "--precision", "fp32", "--min-score", 0, "--jsonl", "-", *options)
        found = cli("run", tmp_path / "clip.mp4", *words)
        assert found.code == 0, found.err
        runs.append([json.loads(line) for line in found.out.splitlines()])
    frames = [[line["pairs"] for line in lines if line["type"] == "frame"] for lines in runs]
    assert len(frames[0]) == 9
    assert frames[0][-1]
    for with_all, with_some in zip(*frames, strict=True):
        scores = [
            {(pair["pair"], verb["verb"]): verb["score"] for pair in pairs for verb in pair["verbs"]}
            for pairs in (with_all, with_some)
        ]
        assert scores[1] == pytest.approx(scores[0], abs=0.01)  # frames of one image differ by their compression


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--clip-every", "0"], "clip_every must be at least 1, got 0"),
        (["--clip-every", "often"], "expected a whole number or auto, got 'often'"),
        (["--clip-every", "2", "--backend", "onnxruntime"], "CLIP cannot run less often with onnxruntime in fp32"),
    ],
)
def test_cadence_that_cannot_be_had_is_one_line(options: list[str], line: str, clip: Path, cli: Cli) -> None:
    found = cli("run", clip, "--model", untrained_model(), "--jsonl", "-", *options)
    assert found.code == 2
    assert line in found.err

"""Frames that stay where they were decoded, from the decoder to the backend: here NV12 in memory of the host, which
PyAV exports by DLPack in the same way. The kernel that reads them: tests/kernels/test_frames_on_device.py."""

from __future__ import annotations

import gc
import logging
import weakref
from concurrent.futures import Future
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.codec.hwaccel import HWAccel
from av.video.frame import VideoFrame

from hoiclip.core.errors import SourceError
from hoiclip.core.preprocess import PreprocessConfig
from hoiclip.core.raw_output import RawOutput
from hoiclip_engine import session
from hoiclip_engine.backends.base import Backend, Capacity
from hoiclip_engine.backends.registry import takes_device_frames
from hoiclip_engine.sources import container, frame_conversion
from hoiclip_engine.sources.base import SourceConfig
from hoiclip_engine.sources.file import open_video
from hoiclip_engine.sources.frame_conversion import DeviceImages
from hoiclip_engine.streaming.inference_worker import Inference, InferenceWorker
from hoiclip_engine.types.frame import DeviceImage, Frame
from hoiclip_kernels.preprocess.nv12 import Nv12, rgb_of
from tests.engine.fake_source import FakeSource
from tests.engine.test_inference_worker import FakeBackend, brightness
from tests.engine.test_stream import stream_of
from tests.engine.video_files import image, write_clip

pytestmark = pytest.mark.skipif(not hasattr(VideoFrame, "sw_format"), reason="PyAV 17 leaves no frame on a GPU")

SIZE_PX = (98, 66)  # rows are padded to 112 bytes
ON_DEVICE = SourceConfig(device_frames=True)


@pytest.fixture
def memory_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded frames count as being on a GPU."""
    monkeypatch.setattr(frame_conversion, "is_on_gpu", lambda frame: True)


def nv12_clip(path: Path, count: int = 6, **options: Any) -> Path:
    options = {"size_px": SIZE_PX, "codec": "rawvideo", "pix_fmt": "nv12", **options}
    return write_clip(path, [40 * index for index in range(count)], **options)


def nv12_frame(rgb: np.ndarray[Any, Any] | None = None, form: str = "nv12") -> VideoFrame:
    return VideoFrame.from_ndarray(image(1, *SIZE_PX) if rgb is None else rgb, format="rgb24").reformat(format=form)


def on_host(planes: Nv12) -> Nv12:
    """The planes as arrays of the same memory."""
    return planes._replace(y_hw=np.from_dlpack(planes.y_hw), uv_hw2=np.from_dlpack(planes.uv_hw2))


@pytest.mark.usefixtures("memory_of_the_host")
def test_frames_stay_on_the_device_until_their_rgb_is_requested(tmp_path: Path) -> None:
    clip = nv12_clip(tmp_path / "clip.nut")
    with open_video(clip, ON_DEVICE) as source, open_video(clip) as plain:
        assert (source.info.width_px, source.info.height_px, source.info.pixel_format) == (*SIZE_PX, "nv12")
        for frame, expected in zip(source, plain, strict=True):
            assert isinstance(frame.image, DeviceImage)
            assert isinstance(expected.image, np.ndarray)
            assert (frame.width_px, frame.height_px) == SIZE_PX
            assert not frame.image.is_converted
            rgb = frame.rgb
            assert np.array_equal(rgb, expected.rgb)
            assert frame.rgb is rgb, "copied to the host once"


@pytest.mark.parametrize(("colorspace", "matrix"), [(1, "bt709"), (5, "bt601"), (6, "bt601"), (9, "bt2020")])
@pytest.mark.parametrize("full_range", [False, True])
def test_planes_carry_matrix_and_range_of_the_frame(colorspace: int, matrix: str, full_range: bool) -> None:
    for colour in ((200, 40, 60), (20, 180, 90), (128, 128, 128), (40, 60, 220)):
        frame = nv12_frame(np.full((66, 98, 3), colour, np.uint8))
        frame.colorspace, frame.color_range = colorspace, 2 if full_range else 1
        taken = DeviceImages("clip", "h264").take(frame, is_whole=True)
        assert taken is not None
        assert (taken.planes.matrix, taken.planes.full_range) == (matrix, full_range)
        # Of one colour, so that swscale has nothing to interpolate. Its tables are two or three levels too dark
        # where the range is limited: 126 of 16..235 becomes 126, not 128.
        assert np.abs(rgb_of(on_host(taken.planes)).astype(int) - taken.rgb()).max() <= 3


def test_unlabelled_frame_has_the_matrix_of_its_height() -> None:
    for height_px, matrix in ((66, "bt601"), (720, "bt709")):
        taken = DeviceImages("clip", "h264").take(nv12_frame(np.zeros((height_px, 98, 3), np.uint8)), is_whole=True)
        assert taken is not None
        assert (taken.planes.matrix, taken.planes.full_range) == (matrix, False)


@pytest.mark.usefixtures("memory_of_the_host")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"size_px": (97, 66)}, "97x66 px is not even"),
        ({"size_px": (98, 65)}, "98x65 px is not even"),
        ({"codec": "libx264", "pix_fmt": "yuv420p"}, "their pixels are yuv420p, not nv12"),
        ({"codec": "libx264", "aspect": Fraction(2)}, "they are turned, cropped or without square pixels"),
        ({"codec": "libx264", "rotation_deg": 90}, "they are turned, cropped or without square pixels"),
    ],
)
def test_frame_that_cannot_stay_is_converted_with_one_note(
    tmp_path: Path, options: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    clip = nv12_clip(tmp_path / ("clip.mp4" if "codec" in options else "clip.nut"), **options)
    with open_video(clip, ON_DEVICE) as source, open_video(clip) as plain:
        for frame, expected in zip(source, plain, strict=True):
            assert not isinstance(frame.image, DeviceImage)
            assert np.array_equal(frame.rgb, expected.rgb)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == f"{clip}: frames are copied from the GPU before inference: {reason}"


def test_frame_of_another_matrix_is_converted(caplog: pytest.LogCaptureFixture) -> None:
    frame = nv12_frame()
    frame.colorspace = 7  # SMPTE 240M
    assert DeviceImages("clip", "h264").take(frame, is_whole=True) is None
    assert "colour matrix" in caplog.text


@pytest.mark.usefixtures("memory_of_the_host")
def test_number_of_frames_on_the_device_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(frame_conversion, "_DEVICE_BYTES", 0)
    clip = nv12_clip(tmp_path / "clip.nut", 9)
    with open_video(clip, ON_DEVICE) as source:
        held = list(source)  # as a user may who collects results
        kinds = [isinstance(frame.image, DeviceImage) for frame in held]
        assert kinds == [True] * 4 + [False] * 5
    assert len(caplog.records) == 1
    with open_video(clip, ON_DEVICE) as source:
        assert all(isinstance(frame.image, DeviceImage) for frame in source), "memory without a reference is free again"


@pytest.mark.usefixtures("memory_of_the_host")
def test_planes_outlive_the_decoder_and_are_freed_with_the_frame(tmp_path: Path) -> None:
    with open_video(nv12_clip(tmp_path / "clip.nut"), ON_DEVICE) as source:
        frames = list(source)
    taken = frames[0].image
    assert isinstance(taken, DeviceImage)
    arrays, before = on_host(taken.planes), rgb_of(on_host(taken.planes))
    gone = weakref.ref(taken)
    del frames, taken
    gc.collect()
    assert gone() is None
    assert np.array_equal(rgb_of(arrays), before), "a tensor keeps its memory by itself"


def test_failing_copy_is_one_line_that_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = DeviceImages("rtsp://camera", "h264").take(nv12_frame(), is_whole=True)
    assert taken is not None

    def fail(*_: object) -> None:
        raise av.error.ExternalError(542398533, "Generic error in an external library")

    monkeypatch.setattr(frame_conversion.RgbConverter, "convert", fail)
    with pytest.raises(SourceError, match=r"^expected a decoded frame of rtsp://camera on .*; use --hwaccel none$"):
        taken.rgb()


class FakeDeviceBackend(FakeBackend):
    """Reports the first luma byte of each frame in place of a logit."""

    takes_device_frames = True

    def __init__(self, capacity: Capacity, *, error: Exception | None = None) -> None:
        super().__init__(capacity)
        self._error = error
        self.on_device: list[int] = []
        self.alive: weakref.WeakSet[DeviceImage] = weakref.WeakSet()
        self.seen_alive: list[int] = []

    def infer_frames(self, frames: list[Nv12], plans: list[Any]) -> RawOutput:
        if self._error is not None:
            raise self._error
        gc.collect()
        self.seen_alive.append(len(self.alive))
        self.on_device.append(len(frames))
        assert [plan.padded_hw for plan in plans] == [self.padded_hw] * len(frames)
        levels = np.array([float(np.from_dlpack(frame.y_hw)[0, 0]) for frame in frames], np.float32)
        none = np.zeros((len(frames), 1, 4), np.float32)
        return RawOutput(
            hoi_logits=levels[:, None, None],
            object_logits=none[..., :2],
            human_boxes_cxcywh=none,
            object_boxes_cxcywh=none,
            clip_cls=none[..., 0],
        )


def worker_of(backend: FakeBackend) -> InferenceWorker:
    config = PreprocessConfig(short_side_px=64, max_side_px=64, clip_side_px=32, padded_hw=backend.padded_hw)
    return InferenceWorker(cast(Backend, backend), config, brightness, prefetch=False)


def device_image(level: int = 0) -> DeviceImage:
    taken = DeviceImages("clip", "h264").take(nv12_frame(np.full((66, 98, 3), level, np.uint8)), is_whole=True)
    assert taken is not None
    return taken


@pytest.mark.parametrize("batch", [1, 3])
def test_worker_hands_planes_to_the_backend_and_copies_no_image(batch: int) -> None:
    backend = FakeDeviceBackend(Capacity(batch=batch))
    worker = worker_of(backend)
    images = [device_image(level) for level in (0, 90, 255)]
    found = [worker.infer(one).result() for one in images]
    worker.close()
    assert backend.on_device == [batch] * 3
    assert backend.batches == []
    assert not any(one.is_converted for one in images)
    assert [inference.detections for inference in found] == [(16.0, (66, 98)), (93.0, (66, 98)), (235.0, (66, 98))]
    assert set(found[0].stage_ms) == {"infer", "postprocess"}


def test_frame_lives_until_the_backend_has_read_it_and_no_longer() -> None:
    backend = FakeDeviceBackend(Capacity())
    worker = worker_of(backend)

    def submit() -> Future[Inference]:
        one = device_image()
        backend.alive.add(one)
        return worker.infer(one)

    submit().result()
    assert backend.seen_alive == [1]
    submit().result()
    assert backend.seen_alive == [1, 1], "the frame before is gone"
    worker.close()
    gc.collect()
    assert len(backend.alive) == 0


def test_frame_goes_by_way_of_the_host_to_other_backends() -> None:
    backend = FakeBackend(Capacity())
    worker = worker_of(backend)
    one = device_image(200)
    on_the_host = worker.infer(one.rgb()).result()
    assert worker.infer(one).result().detections == on_the_host.detections
    worker.close()
    assert backend.batches == [1, 1]
    assert not worker.takes_device_frames


def test_failing_device_falls_back_to_the_host_with_one_note(caplog: pytest.LogCaptureFixture) -> None:
    backend = FakeDeviceBackend(Capacity(), error=ValueError("expected a frame on cuda:0, found it on cuda:1\nmore"))
    worker = worker_of(backend)
    one = device_image(200)
    found = [worker.infer(one).result().detections for _ in range(3)]
    assert found == [worker.infer(one.rgb()).result().detections] * 3
    worker.close()
    assert backend.on_device == []
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == (
        "frames are copied from the GPU before inference: ValueError there: expected a frame on cuda:0, "
        "found it on cuda:1"
    )


@pytest.mark.parametrize(("follows", "downloaded"), [(False, 0), (True, 5)])
def test_stream_copies_a_frame_to_the_host_only_for_who_sees_it(
    monkeypatch: pytest.MonkeyPatch, follows: bool, downloaded: int
) -> None:
    images = [device_image(level) for level in range(5)]

    class OnDevice(FakeSource):
        def __iter__(self) -> Any:
            return (Frame(one, index / 25, index) for index, one in enumerate(images))

    stream, tracker = stream_of(OnDevice(5))
    monkeypatch.setattr(type(tracker), "follows_camera", follows)
    assert [result.frame.image for result in stream] == images
    assert sum(one.is_converted for one in images) == downloaded


# What PyAV and ffmpeg are asked for


def test_accelerator_that_keeps_frames_is_in_torch_s_context(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    made: list[HWAccel] = []

    class Spied:
        def __new__(cls, *arguments: Any, **options: Any) -> Any:
            made.append(HWAccel(*arguments, **options))
            return cls if options.get("is_hw_owned") else made[-1]

        @staticmethod
        def create(codec: av.Codec) -> None:
            assert codec.name == "h264"

    contexts: list[str] = []
    monkeypatch.setattr(torch, "zeros", lambda _, device: contexts.append(device))
    monkeypatch.setattr(container, "HWAccel", Spied)
    monkeypatch.setattr(container, "cuda_decoding_available", lambda: True)
    container.hardware_accelerator("auto", device_frames=True)
    (accelerator,) = made
    assert contexts == ["cuda:0"]
    assert accelerator.is_hw_owned
    assert accelerator.options == {"primary_ctx": "0", "current_ctx": "1"}
    assert accelerator.device_id == 0
    container.hardware_accelerator("cuda")
    assert not made[-1].is_hw_owned


def test_accelerator_that_cannot_keep_frames_copies_them_with_one_note(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if container.cuda_decoding_available():
        pytest.skip("this machine has a CUDA device")
    container._warn_once.cache_clear()
    monkeypatch.setattr(container, "cuda_decoding_available", lambda: True)
    for choice in ("auto", "cuda"):
        accelerator = container.hardware_accelerator(choice, device_frames=True)  # type: ignore[arg-type]
        assert accelerator is not None
        assert not accelerator.is_hw_owned
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("decoded frames are copied to the host, as they cannot stay on the GPU (")
    assert caplog.records[0].levelno == logging.WARNING


def test_planes_export_dlpack_without_a_stream() -> None:
    luma, chroma = nv12_frame().planes
    assert luma.__dlpack_device__() == (1, 0), "the host; 2 would be CUDA"
    assert type(luma.__dlpack__()).__name__ == "PyCapsule"
    y_hw, uv_hw2 = np.from_dlpack(cast(Any, luma)), np.from_dlpack(cast(Any, chroma))
    assert (y_hw.shape, y_hw.strides[0] > SIZE_PX[0]) == ((66, 98), True), "rows are padded"
    assert (uv_hw2.shape, y_hw.dtype) == ((33, 49, 2), np.uint8)


def test_only_torch_takes_device_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any(takes_device_frames(name) for name in ("openvino", "onnxruntime", "tensorrt", "tensorrt-rtx"))
    pytest.importorskip("torch")
    from hoiclip_engine.backends import torch_backend

    monkeypatch.setattr(torch_backend, "takes_device_frames", lambda: True)
    assert takes_device_frames("torch")


@pytest.mark.parametrize("device_frames", [False, True])
def test_sources_are_opened_as_the_model_takes_them(monkeypatch: pytest.MonkeyPatch, device_frames: bool) -> None:
    from hoiclip_engine.sources import open_source

    opened: list[SourceConfig] = []
    monkeypatch.setattr(open_source, "open_source", lambda _, config: opened.append(config))
    session.open_frames("clip.mp4", SourceConfig(hwaccel="auto"), device_frames=device_frames)
    assert opened == [SourceConfig(hwaccel="auto", device_frames=device_frames)]


@pytest.mark.gpu
def test_cuda_keeps_frames_on_the_gpu_and_their_rgb_is_that_of_the_host_s_path(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [40 * index for index in range(30)], size_px=(320, 240))
    on_gpu = SourceConfig(hwaccel="cuda", device_frames=True)
    with open_video(clip, SourceConfig(hwaccel="cuda")) as copied, open_video(clip, on_gpu) as kept:
        for ours, theirs in zip(kept, copied, strict=True):
            assert isinstance(ours.image, DeviceImage)
            assert cast(Any, ours.image.planes.y_hw).__dlpack_device__() == (2, 0)
            assert np.array_equal(ours.rgb, theirs.rgb), "one copy and one conversion, only later"

"""Frames of a hardware decoder into the buffers of a model: the Triton kernel by way of DLPack planes and the backend,
against the reference on the host. Interpreted where there is no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from hoiclip.core.model_file import load_model_file
from hoiclip.core.preprocess import PreprocessConfig, plan_for, stack
from hoiclip.core.preprocess import preprocess as preprocess_on_host
from hoiclip.core.raw_output import RawOutput
from hoiclip_engine.backends import torch_backend, torch_cuda_graph
from hoiclip_engine.backends.base import DeviceBackend
from hoiclip_engine.backends.torch_backend import TorchBackend
from hoiclip_engine.backends.torch_cuda_graph import GraphedModel, as_tensors
from hoiclip_kernels.preprocess import Inputs, Nv12, Plan, preprocess
from hoiclip_kernels.preprocess.nv12 import rgb_of
from tests.engine.test_torch_backend import arrays, no_graphs
from tests.engine.untrained import untrained_model

__all__ = ["no_graphs"]
pytestmark = pytest.mark.thorough
SMALL = PreprocessConfig(short_side_px=12, max_side_px=20, clip_side_px=8, padded_hw=(16, 24))
DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"
PADDED_HW = (96, 160)
CONFIG = PreprocessConfig(short_side_px=96, max_side_px=160, clip_side_px=64, padded_hw=PADDED_HW)


def frame_of(size_hw: tuple[int, int], pitch: int, seed: int, matrix: str = "bt709", full_range: bool = False) -> Nv12:
    """Noise in NV12, its rows `pitch` bytes apart, as a decoder pads them; what lies between is noise too."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    rows, columns = -(-height // 2), -(-width // 2)
    luma = rng.integers(0, 256, (height, pitch), dtype=np.uint8)[:, :width]
    wide = rng.integers(0, 256, (rows, pitch), dtype=np.uint8)
    chroma = np.lib.stride_tricks.as_strided(wide, (rows, columns, 2), (pitch, 2, 1))
    return Nv12(luma, chroma, cast(Any, matrix), full_range)


def on_device(frame: Nv12) -> Nv12:
    """Tensors with the same padded rows, as planes are exported."""

    def moved(plane: np.ndarray[Any, Any]) -> torch.Tensor:
        pitch = plane.strides[0]
        flat = torch.zeros(pitch * len(plane), dtype=torch.uint8, device=DEVICE)
        tensor = flat.as_strided(plane.shape, (pitch, *plane.strides[1:]))
        return tensor.copy_(torch.from_numpy(np.ascontiguousarray(plane)))

    return frame._replace(y_hw=cast(Any, moved(frame.y_hw)), uv_hw2=cast(Any, moved(frame.uv_hw2)))


def assert_equal_inputs(found: Inputs, expected: Inputs) -> None:
    for ours, theirs in zip(cast(Any, found), expected, strict=True):
        assert torch.equal(ours.cpu(), torch.from_numpy(theirs).to(ours.dtype)), "bit for bit, but for the half"


# Few and small: interpreted, a pixel takes longer than a frame does on a GPU. All sizes: tests/kernels/test_triton.py.
@pytest.mark.parametrize(
    ("size_hw", "pitch", "matrix", "full_range", "padded_hw", "half"),
    [
        ((18, 26), 26, "bt709", False, (16, 24), False),
        ((17, 26), 64, "bt601", False, (16, 24), True),
        ((18, 25), 40, "bt601", True, (24, 16), False),
        ((25, 9), 33, "bt709", True, (12, 20), True),
        ((3, 5), 9, "bt2020", False, (12, 20), False),
    ],
)
def test_planes_become_the_reference_s_inputs(
    size_hw: tuple[int, int],
    pitch: int,
    matrix: str,
    full_range: bool,
    padded_hw: tuple[int, int],
    half: bool,
    seed: int,
) -> None:
    """Odd and even sides, padded rows, matrices and ranges, padded below and to the right; written in fp32 or fp16."""
    frame = frame_of(size_hw, pitch, seed, matrix, full_range)
    plan = plan_for(size_hw, PreprocessConfig(short_side_px=12, max_side_px=20, clip_side_px=8, padded_hw=padded_hw))
    dtype = torch.float16 if half else torch.float32
    sizes: list[tuple[tuple[int, ...], torch.dtype]] = [((3, *padded_hw), dtype), (padded_hw, torch.bool)]
    sizes.append(((3, 8, 8), dtype))
    out: Any = Inputs(*(torch.ones(size, dtype=kind, device=DEVICE) for size, kind in sizes))  # type: ignore[arg-type]
    preprocess(as_tensors(on_device(frame), torch.device(DEVICE)), plan, out)
    expected = preprocess(
        frame._replace(y_hw=np.ascontiguousarray(frame.y_hw), uv_hw2=np.ascontiguousarray(frame.uv_hw2)),
        plan,
        implementation="reference",
    )
    assert_equal_inputs(out, expected)


def test_planes_of_pyav_become_the_reference_s_inputs() -> None:
    av = pytest.importorskip("av")
    from hoiclip_engine.sources.frame_conversion import DeviceImages

    if DEVICE != "cpu":
        pytest.skip("these planes are on the host")
    rgb = np.random.default_rng(0).integers(0, 256, (18, 26, 3), dtype=np.uint8)
    decoded = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="nv12")
    taken = DeviceImages("clip", "h264").take(decoded, is_whole=True)
    assert taken is not None
    tensors = as_tensors(taken.planes, torch.device("cpu"))
    assert cast(Any, tensors.y_hw).stride()[0] > 26
    plan = plan_for((18, 26), SMALL)
    on_host = taken.planes._replace(y_hw=cast(Any, tensors.y_hw).numpy(), uv_hw2=cast(Any, tensors.uv_hw2).numpy())
    assert_equal_inputs(preprocess(tensors, plan), preprocess(on_host, plan, implementation="reference"))
    with pytest.raises(ValueError, match="expected a frame on meta, found it on cpu"):
        as_tensors(taken.planes, torch.device("meta"))


@pytest.fixture
def no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU the reference in place of the kernel, whose interpreter takes minutes for the images of a model."""

    def by_the_reference(frame: Nv12, plan: Plan, out: Any = None) -> Any:
        planes: Any = frame
        host = frame._replace(y_hw=planes.y_hw.numpy(), uv_hw2=planes.uv_hw2.numpy())
        made = Inputs(*map(torch.from_numpy, preprocess(host, plan, implementation="reference")))  # type: ignore[arg-type]
        return made if out is None else [target.copy_(source) for target, source in zip(out, made, strict=True)]

    if DEVICE == "cpu":
        monkeypatch.setattr(torch_cuda_graph, "preprocess", by_the_reference)
        monkeypatch.setattr(torch_backend, "preprocess", by_the_reference)


def batch(count: int) -> tuple[list[Nv12], list[Nv12], list[Plan]]:
    """Frames of the host and of the device, and their plans; each of another size."""
    sizes = [(66 + 2 * number, 98) for number in range(count)]
    frames = [frame_of(size, 128, number) for number, size in enumerate(sizes)]
    return frames, [on_device(frame) for frame in frames], [plan_for(size, CONFIG) for size in sizes]


def difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    return max(float(np.abs(found[name] - value).max()) for name, value in expected.items())


def check_graphed_model(device: str, count: int) -> None:
    model = GraphedModel(load_model_file(untrained_model()).build(), PADDED_HW, torch.float16, device, batch=count)
    frames, planes, plans = batch(count)
    expected = model(*arrays(stack([preprocess_on_host(rgb_of(frame), CONFIG) for frame in frames])))
    assert difference(model.infer_frames(planes, plans), expected) == 0, "the buffers have the same bits"
    if count > 1:
        assert expected["hoi_logits"][0].tolist() != expected["hoi_logits"][1].tolist(), "each row has its own frame"


@pytest.mark.usefixtures("no_graphs", "no_interpreter")
def test_model_s_buffers_take_frames_of_the_device_like_those_of_the_host() -> None:
    if DEVICE != "cpu":
        pytest.skip("the next test does it on the GPU")
    check_graphed_model("cpu", 2)


@pytest.mark.gpu
@pytest.mark.parametrize("count", [1, 3])
def test_cuda_graph_takes_frames_of_the_gpu_like_those_of_the_host(count: int) -> None:
    check_graphed_model("cuda", count)


@pytest.mark.gpu
def test_frame_freed_right_after_the_call_is_not_overwritten_before_it_was_read() -> None:
    model = GraphedModel(load_model_file(untrained_model()).build(), PADDED_HW, torch.float16, "cuda")
    frames, _, plans = batch(1)
    expected = model(*arrays(preprocess_on_host(rgb_of(frames[0]), CONFIG)))
    for _ in range(20):
        planes = on_device(frames[0])  # written on the default stream, as by a decoder, and not waited for
        found = model.infer_frames([planes], plans)
        memory: Any = planes.y_hw
        memory.zero_()
        assert difference(found, expected) == 0


@pytest.mark.usefixtures("no_interpreter")
def test_eager_backend_takes_frames_of_the_device_like_those_of_the_host() -> None:
    backend = TorchBackend(load_model_file(untrained_model()), PADDED_HW)
    assert isinstance(backend, DeviceBackend)
    assert backend.takes_device_frames == (DEVICE != "cpu")
    frames, planes, plans = batch(2)
    expected = backend(stack([preprocess_on_host(rgb_of(frame), CONFIG) for frame in frames]))
    found = backend.infer_frames(planes, plans)
    for name in RawOutput.__dataclass_fields__:
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    backend.close()


@pytest.mark.usefixtures("no_interpreter")
def test_engine_s_stream_infers_frames_where_they_were_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    if DEVICE != "cpu":
        pytest.skip("the frames are on the host")
    from hoiclip_engine import Engine
    from hoiclip_engine.engine import EngineConfig
    from hoiclip_engine.sources import frame_conversion
    from hoiclip_engine.types.frame import DeviceImage
    from tests.engine.video_files import write_clip

    clip = write_clip(tmp_path / "clip.nut", [0, 40, 80], size_px=(98, 66), codec="rawvideo", pix_fmt="nv12")
    monkeypatch.setattr(torch_backend, "takes_device_frames", lambda: True)
    monkeypatch.setattr(frame_conversion, "is_on_gpu", lambda frame: True)
    with Engine.load(untrained_model(), EngineConfig(backend="torch", precision="fp32")) as engine:
        for result in engine.stream(clip):
            assert isinstance(result.frame.image, DeviceImage)
            assert "preprocess" not in result.stage_ms, "the backend did it"
            assert not result.frame.image.is_converted
            assert result.frame.rgb.shape == (66, 98, 3)

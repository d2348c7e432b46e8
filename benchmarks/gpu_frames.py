"""Frames that stay on an NVIDIA GPU from decoder to model, against copying them to the host and back.

Part of benchmarks/gpu.py. Without av, or where it opens no CUDA device, only planes made on the GPU are timed: decoding
and the conversion to RGB, which only the path by the host needs, are left out, as the result line says.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import harness
from benchmarks.gpu_model import DEVICE, full_model
from benchmarks.harness import append, provenance, side_by_side
from hoiclip.core.preprocess import ModelInput, PreprocessConfig, plan_for
from hoiclip.core.preprocess import preprocess as preprocess_rgb
from hoiclip_engine.backends.torch_cuda_graph import GraphedModel
from hoiclip_kernels.preprocess import Nv12, Plan, example_inputs, preprocess
from hoiclip_kernels.preprocess.reference import DETECTOR_STD

SOURCE_HW, PITCH = (720, 1280), 1536
CONFIG = PreprocessConfig(short_side_px=480, max_side_px=640, padded_hw=(480, 640))
CLIP_FRAMES, PASSES = 100, 5
LEVELS = 4.0
"""Difference of an input, of 255, between both paths of a decoded clip. swscale's tables are up to three levels too
dark in limited range, and the resize rounds once more; it also interpolates colours, where ours repeats them: so
the clip's are smooth."""


def frames_on_gpu(rounds: int, path: Path | None) -> bool:
    """Compares inputs and times both paths, of synthetic planes and, where av decodes by CUDA, of a clip."""
    model = GraphedModel(full_model(path), (480, 640), torch.float16, DEVICE)
    good = synthetic_planes(model, SOURCE_HW, PITCH, CONFIG, rounds)
    if _decodes():
        with tempfile.TemporaryDirectory() as folder:
            good &= decoded_clip(model, write_clip(Path(folder) / "clip.mp4", SOURCE_HW), CONFIG)
    return good


def _decodes() -> bool:
    if importlib.util.find_spec("av") is None:
        return False
    from hoiclip_engine.sources.container import cuda_decoding_available

    return cuda_decoding_available()


def synthetic_planes(
    model: GraphedModel, source_hw: tuple[int, int], pitch: int, config: PreprocessConfig, rounds: int
) -> bool:
    """Equal inputs and answers are required: both paths compute colours and resize in the same integers."""
    plan = plan_for(source_hw, config)
    planes = padded_planes(source_hw, pitch)
    on_host = _contiguous(planes)

    def by_host() -> dict[str, Any]:
        inputs = preprocess(_contiguous(planes), plan)
        return model(*(array[None] for array in inputs))

    def on_device() -> dict[str, Any]:
        return model.infer_frames([planes], [plan])

    expected: Any = preprocess(on_host, plan)
    same_inputs = all(
        np.array_equal(ours, theirs.astype(ours.dtype))
        for ours, theirs in zip(_inputs_of(model, planes, plan), expected, strict=True)
    )
    first, second = by_host(), on_device()
    same = same_inputs and all(np.array_equal(first[name], second[name]) for name in first)
    times = side_by_side({"by host": by_host, "on gpu": on_device}, rounds, warmup=5)
    _append("synthetic planes", ["decoding", "conversion to RGB"], times, {"equal": same, "good": same})
    return same


def padded_planes(source_hw: tuple[int, int], pitch: int) -> Nv12:
    """NV12 on the device, its rows `pitch` bytes apart, as a decoder has them."""
    frame: Any = example_inputs(source_hw, nv12=True)
    made = []
    for plane in (frame.y_hw, frame.uv_hw2.reshape(len(frame.uv_hw2), -1)):
        wide = torch.zeros(len(plane), pitch, dtype=torch.uint8, device=DEVICE)
        wide[:, : plane.shape[1]] = torch.from_numpy(np.ascontiguousarray(plane)).to(DEVICE)
        made.append(wide[:, : plane.shape[1]])
    return Nv12(made[0], made[1].unflatten(1, (-1, 2)))  # type: ignore[arg-type]


def _contiguous(planes: Nv12) -> Nv12:
    """On the host, as ffmpeg copies a frame there."""
    y_hw, uv_hw2 = (np.ascontiguousarray(plane.cpu().numpy()) for plane in (planes.y_hw, planes.uv_hw2))  # type: ignore[attr-defined]
    return planes._replace(y_hw=y_hw, uv_hw2=uv_hw2)


def _inputs_of(model: GraphedModel, planes: Nv12, plan: Plan) -> list[Any]:
    """What the buffers of the model hold after preprocessing on the device."""
    with torch.inference_mode():
        model.fill([planes], [plan])
        torch.cuda.synchronize()
        return [buffer[0].cpu().numpy() for buffer in model._inputs]


def write_clip(path: Path, source_hw: tuple[int, int], count: int = CLIP_FRAMES) -> Path:
    """H.264 of smooth colours that move."""
    import av

    height, width = source_hw
    y, x = np.mgrid[:height, :width]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(count):
            phase = 2 * np.pi * number / count
            rgb = np.stack([np.sin(x / width * 3 + phase), np.cos(y / height * 3 + phase), np.sin((x + y) / width)], -1)
            frame = av.VideoFrame.from_ndarray((128 + 90 * rgb).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decoded_clip(model: GraphedModel, clip: Path, config: PreprocessConfig) -> bool:
    """Decoding included: RGB on the host, as `--hwaccel cuda` was, and planes that stay."""
    from hoiclip_engine.sources.base import SourceConfig
    from hoiclip_engine.sources.file import open_video
    from hoiclip_engine.types.frame import DeviceImage

    copied = SourceConfig(hwaccel="cuda")
    kept = SourceConfig(hwaccel="cuda", device_frames=True)

    def infer_kept(image: Any) -> None:
        model.infer_frames([image.planes], [plan_for(image.shape[:2], config)])

    def infer_copied(image: Any) -> None:
        made: ModelInput = preprocess_rgb(image, config)
        model(made.detector_bchw, made.mask_bhw, made.clip_bchw)

    def each(source_config: SourceConfig, infer: Callable[[Any], None]) -> Callable[[], None]:
        def run() -> None:
            with open_video(clip, source_config) as source:
                for frame in source:
                    infer(frame.image)

        return run

    with open_video(clip, copied) as copies, open_video(clip, kept) as keeps:
        rgb, image = next(iter(copies)).rgb, next(iter(keeps)).image
    stayed = isinstance(image, DeviceImage)
    difference = None
    if isinstance(image, DeviceImage):
        ours = _inputs_of(model, image.planes, plan_for(rgb.shape[:2], config))
        theirs = preprocess_rgb(rgb, config).detector_bchw[0]
        scale = 255 * np.array(DETECTOR_STD, np.float32)[:, None, None]
        difference = float((np.abs(ours[0].astype(np.float32) - theirs) * scale).max())
    good = difference is not None and difference <= LEVELS
    times = {}
    if stayed:
        passes = {"by host": each(copied, infer_copied), "on gpu": each(kept, infer_kept)}
        times = {
            name: [ms / CLIP_FRAMES for ms in samples] for name, samples in side_by_side(passes, PASSES, 1).items()
        }
    found = {"stayed_on_gpu": stayed, "max_level_difference": difference, "tolerance": LEVELS, "good": good}
    _append("H.264 decoded by CUDA", [], times, found)
    return good


def _append(frames: str, left_out: list[str], times: dict[str, list[float]], found: dict[str, Any]) -> None:
    ratio = None
    if times:
        ratio = round(float(np.median(times["by host"]) / np.median(times["on gpu"])), 3)
    append(
        "gpu",
        {
            "benchmark": "frames_on_gpu",
            "device": torch.cuda.get_device_name(),
            "frames": frames,
            "left_out": left_out,
            "precision": "fp16",
            "ms_per_frame": {name: harness.statistics(samples) for name, samples in times.items()},
            "times_as_fast_as_by_host": ratio,
            **found,
            **provenance("torch", "triton"),
        },
    )

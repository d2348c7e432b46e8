"""The model in half precision on CUDA: one graph per padded size, replayed for every image.

At batch 1 a GPU waits for launches most of the time; a CUDA graph launches all kernels of an inference at once. CLIP's
tower runs concurrently with the backbone: it has few cells and many small kernels, and neither needs the other.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from hoiclip.model import HOICLIP, Prediction
from hoiclip.model.gpu_inference import prepare_for_gpu
from hoiclip_kernels.preprocess import Inputs, Nv12, Plan, preprocess

WARM_UP = 3
"""Inferences before the capture, which may neither load libraries nor measure convolutions and Triton's tiles."""
_log = logging.getLogger("hoiclip")


class GraphedModel:
    """Holds its own buffers on both sides; call it from one thread."""

    def __init__(
        self,
        model: HOICLIP,
        padded_hw: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device | str = "cuda",
        batch: int = 1,
    ) -> None:
        """Takes the model over.

        Raises:
            ModelError: `dtype` cannot hold a weight.
        """
        clip = model.config.clip_image_px
        sizes = (batch, 3, *padded_hw), (batch, *padded_hw), (batch, 3, clip, clip)
        shapes = tuple(zip(sizes, (dtype, torch.bool, dtype), strict=True))
        self._model = prepare_for_gpu(model, dtype, device)
        with torch.inference_mode():
            self._sent = [_pinned(torch.zeros(shape, dtype=kind)) for shape, kind in shapes]
            self._inputs = [tensor.to(device) for tensor in self._sent]
            self._streams()
            with _measured_convolutions():
                for _ in range(WARM_UP):
                    self._outputs = self._infer()
                self._stream.synchronize()
                self._graph = self._captured()
            self._received = [_pinned(torch.zeros(output.shape, dtype=output.dtype)) for output in self._outputs]
        self._done = torch.cuda.Event()

    @property
    def graphed(self) -> bool:
        """Whether inferences are replays of a CUDA graph."""
        return self._graph is not None

    def __call__(self, *arrays: NDArray[np.generic]) -> dict[str, NDArray[np.float32]]:
        """Detector image, mask and CLIP image of the padded size to the fields of a Prediction, new arrays.

        Raises:
            ValueError: an array is not of the padded size.
        """
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            for array, sent, given in zip(arrays, self._sent, self._inputs, strict=True):
                if array.shape != sent.shape:
                    raise ValueError(f"expected {tuple(sent.shape)} for this padded size, got {array.shape}")
                sent.copy_(torch.from_numpy(array))  # halves it on the way into pinned memory
                given.copy_(sent, non_blocking=True)
            return self._answer()

    def infer_frames(self, frames: Sequence[Nv12], plans: Sequence[Plan]) -> dict[str, NDArray[np.float32]]:
        """A call with frames on this device, which are preprocessed straight into the buffers; see DeviceBackend."""
        with torch.inference_mode():
            # The decoder writes on the default stream, and there it overwrites what was freed. So there a frame is
            # whole, and stays it until it has been read.
            decoding = torch.cuda.default_stream()
            with torch.cuda.stream(decoding):
                self.fill(frames, plans)
            with torch.cuda.stream(self._stream):
                self._stream.wait_stream(decoding)
                return self._answer()

    def fill(self, frames: Sequence[Nv12], plans: Sequence[Plan]) -> None:
        """Preprocesses a batch into the buffers, on the current stream."""
        for row, (frame, plan) in enumerate(zip(frames, plans, strict=True)):
            out: Any = Inputs(*(given[row] for given in self._inputs))  # type: ignore[arg-type]
            preprocess(as_tensors(frame, self._inputs[0].device), plan, out)

    def _answer(self) -> dict[str, NDArray[np.float32]]:
        """Infers the contents of the buffers, and waits for the output."""
        self.replay()
        for received, output in zip(self._received, self._outputs, strict=True):
            received.copy_(output, non_blocking=True)
        self._done.record(self._stream)
        self._done.synchronize()
        return {name: tensor.numpy().copy() for name, tensor in zip(Prediction._fields, self._received, strict=True)}

    def replay(self) -> None:
        """Infers the contents of the buffers; returns before the GPU is done."""
        if self._graph is None:
            self._outputs = self._infer()
        else:
            self._graph.replay()

    def _streams(self) -> None:
        self._stream, self._clip_stream = torch.cuda.Stream(), torch.cuda.Stream()
        self._stream.wait_stream(torch.cuda.current_stream())

    def _infer(self) -> Prediction:
        """HOICLIP.forward on two streams."""
        images, padding, clip_images = self._inputs
        with torch.cuda.stream(self._stream):
            self._clip_stream.wait_stream(self._stream)
            with torch.cuda.stream(self._clip_stream):
                clip_tokens, clip_cls = self._model.view(clip_images)
            found = self._model.detect(images, padding)
            self._stream.wait_stream(self._clip_stream)
            hoi_logits = self._model.interact(found.pairs, found.memory, found.hidden_cells, clip_tokens)
        return Prediction(hoi_logits, *found[3:], clip_cls)

    def _captured(self) -> torch.cuda.CUDAGraph | None:
        graph = torch.cuda.CUDAGraph()
        try:
            # A failed capture leaves its stream current; the outer block puts the old one back. Other threads, such as
            # a decoder's, may go on allocating.
            with (
                torch.cuda.stream(self._stream),
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                self._outputs = self._infer()
        except RuntimeError as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            _log.warning("no CUDA graph of this model (%s): every kernel is launched by itself, which is slower", first)
            self._streams()
            self._outputs = self._infer()
            return None
        return graph


def as_tensors(frame: Nv12, device: torch.device) -> Nv12:
    """The planes as tensors of the same memory, which they keep alive.

    Raises:
        ValueError: they are on another device.
    """
    planes: list[Any] = [frame.y_hw, frame.uv_hw2]
    # Capsules, since torch would ask the planes to wait for its stream, and PyAV knows none: see infer_frames.
    tensors: list[Any] = [from_dlpack(plane.__dlpack__()) for plane in planes]
    if any(tensor.device != device for tensor in tensors):
        raise ValueError(f"expected a frame on {device}, found it on {tensors[0].device}")
    return frame._replace(y_hw=tensors[0], uv_hw2=tensors[1])


def _pinned(tensor: Tensor) -> Tensor:
    """Memory that a GPU copies from and to while the host continues."""
    return tensor.pin_memory() if torch.cuda.is_available() else tensor


@contextlib.contextmanager
def _measured_convolutions() -> Iterator[None]:
    """cuDNN tries its kernels at first use, which pays for shapes that never change."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before

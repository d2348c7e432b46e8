"""Inference of frames for any number of streams: preprocess, infer, postprocess, several frames in flight at once.

Streams submit frames and get futures. Threads prepare one frame while another is inferred, and frames that wait at the
same time, of whichever streams, become one batch where the backend takes several. Streams take turns, so that a file
whose frames all wait does not hold up a camera. Which frames are inferred, and when, is up to the stream.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from hoiclip.core.detections import HOIDetections
from hoiclip.core.errors import EngineClosed
from hoiclip.core.preprocess import ModelInput, PreprocessConfig, plan_for, preprocess, stack
from hoiclip.core.raw_output import RawOutput
from hoiclip_engine.backends.base import Backend, ClipKeepingBackend, ClipView, DeviceBackend
from hoiclip_engine.streaming.frame_reader import FrameReader, ReadFrame, ReadItem
from hoiclip_engine.types.frame import DeviceImage, Frame, FrameImage, host_planes, host_rgb

T = TypeVar("T")
_log = logging.getLogger("hoiclip")
Postprocess = Callable[[RawOutput, tuple[int, int]], HOIDetections]


@dataclass(frozen=True, slots=True)
class Inference:
    """Detections of one image, and how long each stage took."""

    detections: HOIDetections
    stage_ms: dict[str, float]


class ClipScene:
    """What CLIP sees of a scene, in its first image, whichever of its images is inferred first."""

    def __init__(self, image: FrameImage) -> None:
        self._image: FrameImage | None = image
        self._view: ClipView | None = None
        self._lock = threading.Lock()

    def view(self, infer: Callable[[FrameImage], ClipView]) -> ClipView:
        """Args: infer: called with the first image, once; again where it failed."""
        with self._lock:  # other images of the scene, in other threads, wait
            if self._image is not None:
                self._view, self._image = infer(self._image), None
            assert self._view is not None
            return self._view


class Infer(Protocol):
    """Submits an image (H, W, 3)."""

    def __call__(self, image: FrameImage, scene: ClipScene | None = None, /) -> Future[Inference]: ...


@dataclass(slots=True)
class _Request:
    image: FrameImage
    scene: ClipScene | None
    future: Future[Inference]


class InferenceWorker:
    """Threads around one compiled model, which they own: the last one to end closes it.

    `infer` may be called from any thread.
    """

    def __init__(self, backend: Backend, config: PreprocessConfig, postprocess: Postprocess, *, prefetch: bool) -> None:
        """
        Args:
            config: with the backend's padded size.
            prefetch: prepares frames while others are inferred, for throughput; without, each is inferred at once.
        """
        self._backend, self._config, self._postprocess = backend, config, postprocess
        takes_device = isinstance(backend, DeviceBackend) and backend.takes_device_frames
        self._device: DeviceBackend | None = backend if takes_device else None  # type: ignore[assignment]
        self._free_requests = threading.BoundedSemaphore(backend.capacity.num_requests)
        self._waiting: dict[object, deque[_Request]] = {}
        """Requests of every client that has any, the client whose turn it is first."""
        self._signals: queue.SimpleQueue[bool] = queue.SimpleQueue()
        """True for each request that waits, and False for each thread that is to end."""
        self._open = True
        self._lock = threading.RLock()
        """So that no request comes in behind what ends the threads, which a finalizer in any of them may put there."""
        self.num_threads = self._running = backend.capacity.num_requests + prefetch
        self._threads = [
            threading.Thread(target=self._work, name=f"hoiclip-infer-{number}", daemon=True)
            for number in range(self.num_threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def takes_device_frames(self) -> bool:
        """Whether images on a GPU are inferred without a copy on the host."""
        return self._device is not None

    @property
    def prefetch_depth(self) -> int:
        """Frames that must wait or be in flight so that no thread ever idles."""
        return self.num_threads * self._backend.capacity.batch + 1

    def infer(self, image: FrameImage, scene: ClipScene | None = None, client: object = None) -> Future[Inference]:
        """Submits an image (H, W, 3); the future holds its detections, or the error that prevented them.

        Args:
            scene: that of other images, for a backend that keeps what CLIP sees; None: of this image alone.
            client: clients take turns, each in the order of its requests.

        Raises:
            EngineClosed: the worker has been closed.
        """
        request = _Request(image, scene, Future())
        with self._lock:
            if not self._open:
                raise EngineClosed(
                    "expected an open session, found that it was closed meanwhile; open the stream again"
                )
            self._waiting.setdefault(client, deque()).append(request)
            self._signals.put(True)
        return request.future

    def end(self) -> None:
        """Ends the threads behind the requests that wait, without waiting for them; may be called again."""
        with self._lock:
            if self._open:
                self._open = False
                for _ in self._threads:
                    self._signals.put(False)

    def close(self) -> None:
        """Ends the threads and waits for them; may be called again."""
        self.end()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while self._answer(self._next_requests()):
            pass  # no image is held while it waits for the next
        with self._lock:
            self._running -= 1
            is_last = self._running == 0
        if is_last:
            self._backend.close()

    def _answer(self, requests: list[_Request] | None) -> bool:
        """Infers what was not cancelled; False at the end."""
        if requests is None:
            return False
        requests = [request for request in requests if request.future.set_running_or_notify_cancel()]
        try:
            inferences = self._infer(requests) if requests else []
        except BaseException as error:
            for request in requests:
                request.future.set_exception(error)
            return True
        for request, inference in zip(requests, inferences, strict=True):
            request.future.set_result(inference)
        return True

    def _next_requests(self) -> list[_Request] | None:
        """One frame, and as many as wait with it and fit into a batch; None at the end."""
        if not self._signals.get():
            return None
        requests = [self._next_request()]
        while len(requests) < self._backend.capacity.batch:
            try:
                waits = self._signals.get_nowait()
            except queue.Empty:
                break
            if not waits:
                self._signals.put(False)
                break
            requests.append(self._next_request())
        return requests

    def _next_request(self) -> _Request:
        """Of the client whose turn it is."""
        with self._lock:
            client = next(iter(self._waiting))
            requests = self._waiting.pop(client)
            request = requests.popleft()
            if requests:
                self._waiting[client] = requests
            return request

    def _infer(self, requests: list[_Request]) -> list[Inference]:
        images = [request.image for request in requests]
        raw, model_ms = self._on_device(images) or self._on_host(images, requests[0].scene)
        inferences: list[Inference] = []
        for row, image in enumerate(images):
            before = time.perf_counter()
            original_hw = int(image.shape[0]), int(image.shape[1])
            detections = self._postprocess(raw if len(raw) == 1 else raw.image(row), original_hw)
            stage_ms = {**model_ms, "postprocess": (time.perf_counter() - before) * 1e3}
            inferences.append(Inference(detections, stage_ms))
        return inferences

    def _on_host(self, images: list[FrameImage], scene: ClipScene | None) -> tuple[RawOutput, dict[str, float]]:
        """Output of the model, and milliseconds for each image."""
        started = time.perf_counter()
        model_input = stack(self._full_batch([self._prepared(image) for image in images]))
        prepared = time.perf_counter()
        view, clip_ms = self._view(images[0], model_input, scene)
        with self._free_requests:
            begun = time.perf_counter()
            raw = self._backend(model_input) if view is None else self._keeping.infer(model_input, view)
            raw.require_finite()
            inferred = time.perf_counter()
        return raw, {
            "preprocess": (prepared - started) * 1e3 / len(images),
            **clip_ms,
            "infer": (inferred - begun) * 1e3 / len(images),
        }

    def _prepared(self, image: FrameImage) -> ModelInput:
        planes = host_planes(image)
        return preprocess(host_rgb(image) if planes is None else planes, self._config)

    @property
    def _keeping(self) -> ClipKeepingBackend:
        return cast(ClipKeepingBackend, self._backend)

    def _view(
        self, image: FrameImage, model_input: ModelInput, scene: ClipScene | None
    ) -> tuple[ClipView | None, dict[str, float]]:
        """What CLIP sees of a scene, and how long it took if it had to be inferred; None: with every image anew."""
        stage_ms: dict[str, float] = {}
        if scene is None or not self._backend.capacity.keeps_clip:
            return None, stage_ms

        def infer(first: FrameImage) -> ClipView:
            seen = model_input if first is image else self._prepared(first)
            with self._free_requests:
                begun = time.perf_counter()
                view = self._keeping.view(seen)
                stage_ms["clip"] = (time.perf_counter() - begun) * 1e3
                return view

        return scene.view(infer), stage_ms

    def _on_device(self, images: list[FrameImage]) -> tuple[RawOutput, dict[str, float]] | None:
        """Likewise without a copy on the host, the GPU's preprocessing being part of `infer`; None where an image is on
        the host, and from the first failure on."""
        frames = [image.planes for image in images if isinstance(image, DeviceImage)]
        if self._device is None or len(frames) < len(images):
            return None
        plans = [plan_for((image.shape[0], image.shape[1]), self._config) for image in images]
        with self._free_requests:
            begun = time.perf_counter()
            try:
                raw = self._device.infer_frames(self._full_batch(frames), self._full_batch(plans))
            except Exception as error:  # of torch, Triton, its compiler or CUDA
                first = (str(error).splitlines() or [""])[0]
                _log.warning(
                    "frames are copied from the GPU before inference: %s there: %s", type(error).__name__, first
                )
                self._device = None
                return None
            inferred = time.perf_counter()
        return raw.require_finite(), {"infer": (inferred - begun) * 1e3 / len(images)}

    def _full_batch(self, items: list[T]) -> list[T]:
        """As many as the backend takes, the last one again where there are fewer."""
        return [*items, *[items[-1]] * (self._backend.capacity.batch - len(items))]


QUEUE_FRAMES = 4
"""Decoded frames waiting at most; decoding overlaps inference, and memory stays flat."""
MAX_FRAMES_WAITING = 32
"""Frames that wait at most for an inference, their own or the next one."""
_WAITING_BYTES = 2**28

Prefetched = tuple[ReadItem, Future[Inference] | None]
"""An item of the source, with the inference in flight for it, if it gets one."""
Submit = Callable[[Frame], Future[Inference]]
"""Submits a frame that is due."""
IsDue = Callable[[Frame], bool]
"""Whether a frame is to be inferred; called once for each, in order."""


def every_nth(every: int) -> IsDue:
    """Frames 0, N, 2 N ... by their index."""
    return lambda frame: frame.index % every == 0


def max_frames_waiting(width_px: int, height_px: int) -> int:
    """Number of frames of a size that may wait for inference."""
    return max(QUEUE_FRAMES, min(MAX_FRAMES_WAITING, _WAITING_BYTES // max(1, 3 * width_px * height_px)))


def prefetch_inferences(
    reader: FrameReader, submit: Submit, *, is_due: IsDue, depth: int, room: int
) -> Generator[Prefetched, None, None]:
    """Everything that is read, in order, with an inference in flight for every frame that is due. Unused ones are
    cancelled.

    Args:
        depth: frames that are submitted before the first result is needed.
        room: frames that wait at most.
    """
    waiting: deque[Prefetched] = deque()
    try:
        while True:
            while len(waiting) < room and _in_flight(waiting) < depth:
                item = reader.take(wait=not waiting)
                if item is None:
                    break
                due = isinstance(item, ReadFrame) and is_due(item.frame)
                waiting.append((item, submit(item.frame) if isinstance(item, ReadFrame) and due else None))
            if not waiting:
                return
            yield waiting.popleft()
    finally:
        for _, future in waiting:
            if future is not None:
                future.cancel()


def _in_flight(waiting: deque[Prefetched]) -> int:
    return sum(future is not None for _, future in waiting)

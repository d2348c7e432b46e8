"""The protocol of a compiled model, its capacity, and the names of backends and precisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hoiclip.core.model_file import ModelFile
    from hoiclip.core.preprocess import ModelInput
    from hoiclip.core.raw_output import RawOutput
    from hoiclip_kernels.preprocess import Nv12, Plan

BackendName = Literal["torch", "openvino", "onnxruntime", "tensorrt", "tensorrt-rtx"]
BACKENDS: tuple[BackendName, ...] = get_args(BackendName)
Precision = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Requested of a backend, and then offered by it, which may be less."""

    batch: int = 1
    """Images of one call; it takes exactly so many."""
    num_requests: int = 1
    """Concurrent calls, each from a thread of its own."""
    keeps_clip: bool = False
    """Whether CLIP can run less often than the rest, a ClipKeepingBackend; for one image a call."""

    def __post_init__(self) -> None:
        if self.batch < 1 or self.num_requests < 1:
            raise ValueError(f"batch and num_requests must be at least 1, got {self}")


SINGLE_IMAGE = Capacity()
"""One image at a time: the least latency."""


class Backend(Protocol):
    """A compiled model. Holds its own buffers; call it from at most `capacity.num_requests` threads at a time."""

    name: str
    padded_hw: tuple[int, int]
    """Size every input is padded to."""
    capacity: Capacity

    def __call__(self, model_input: ModelInput) -> RawOutput:
        """Infers a full batch of images of the padded size; the result owns its memory."""
        ...

    def close(self) -> None: ...


ClipView: TypeAlias = "Mapping[str, NDArray[Any]]"
"""All that the rest of a model takes from the CLIP image: CLIP's tokens, or what follows from them alone."""


class ClipKeepingBackend(Backend, Protocol):
    """A model in two parts. For each image, `infer(i, view(i))` equals a call."""

    def view(self, model_input: ModelInput) -> ClipView:
        """What CLIP sees, for later images of the same scene too."""
        ...

    def infer(self, model_input: ModelInput, view: ClipView) -> RawOutput:
        """The rest; the CLIP image is not read."""
        ...


@runtime_checkable
class DeviceBackend(Protocol):
    """A backend on a GPU that takes frames from the decoder there."""

    takes_device_frames: bool

    def infer_frames(self, frames: Sequence[Nv12], plans: Sequence[Plan]) -> RawOutput:
        """Preprocesses and infers a full batch; returns once the GPU has read the frames.

        Args:
            frames: planes that export DLPack, whose owner the caller keeps until this returns.
            plans: of each frame, for the padded size.

        Raises:
            ValueError: the planes are on another device.
        """
        ...


class BackendModule(Protocol):
    """The module of a backend: its library, its device, and how a model is loaded."""

    def library(self) -> str:
        """Name and version of the library that compiles."""
        ...

    def device(self) -> str:
        """The device it runs on here, as exactly as an engine depends on it."""
        ...

    def fast_precisions(self) -> tuple[Precision, ...]:
        """Precisions below fp32 that this machine accelerates, those to build first at the front."""
        ...

    def load(
        self,
        model: ModelFile,
        padded_hw: tuple[int, int],
        precision: Precision,
        graph: Path | None,
        capacity: Capacity,
    ) -> Backend:
        """Compiles the model; `graph` is the quantized graph of a build, None for the exported one."""
        ...

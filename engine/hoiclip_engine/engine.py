"""The engine: a model and how it is run; sessions and streams are made with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from hoiclip.core.detections import HOIDetections
from hoiclip.core.errors import UsageError
from hoiclip.core.model_file import ModelFile, load_model_file
from hoiclip.core.postprocess import PostprocessConfig, Postprocessor
from hoiclip.core.preprocess import PreprocessConfig, padded_size_for
from hoiclip.core.vocabulary import Vocabulary
from hoiclip_engine.backends.base import PRECISIONS, Backend, BackendName, Capacity
from hoiclip_engine.backends.cpu import cpu_count
from hoiclip_engine.backends.registry import load_backend, select_backend, takes_device_frames
from hoiclip_engine.models import find_model
from hoiclip_engine.quantization.builds import Build, Selection, select
from hoiclip_engine.session import Session, SessionCache, SessionConfig, open_frames
from hoiclip_engine.sources.base import FrameSource, SourceConfig
from hoiclip_engine.streaming.stream import Stream, StreamConfig, StreamFactory, policy_for
from hoiclip_engine.track.pair_tracker import TrackConfig
from hoiclip_engine.types.frame import FrameImage
from hoiclip_engine.types.results import FrameResult

MAX_REQUESTS = 4
"""Concurrent inference requests at most; each has its own buffers of the whole model."""
MAX_SHORT_SIDE_PX = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Backend, precision, image size, postprocessing and tracking of an engine."""

    backend: str = "auto"
    precision: str = "auto"
    """ "auto": the fastest that `hoiclip build` has made and passed here, else fp32. With both "auto", the fastest of
    all backends that `hoiclip build --backend all` has measured."""
    short_side_px: int | None = None
    """Short side that images are resized to; None: the training size. Smaller is faster."""
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    track: TrackConfig = field(default_factory=lambda: TrackConfig(min_verb_score=0.1))
    """Pairs for which the model scores no verb at all, not even no_interaction, are left out."""

    def __post_init__(self) -> None:
        if self.precision not in ("auto", *PRECISIONS):
            raise UsageError(f"unknown precision {self.precision!r}; there are auto, {', '.join(PRECISIONS)}")
        if self.short_side_px is not None and not 32 <= self.short_side_px <= MAX_SHORT_SIDE_PX:
            raise UsageError(f"the short side must be from 32 to {MAX_SHORT_SIDE_PX} px, got {self.short_side_px}")


class Engine:
    """Finds human-object interactions in images and streams. Immutable; may be called from any thread.

    `compile` gives a session of the caller's own. `detect`, `stream`, `open` and `streams` share a small cache of
    sessions: those in use are kept, and of the others the last one.
    """

    def __init__(self, model: ModelFile, config: EngineConfig | None = None, build: Build | None = None) -> None:
        """Args: build: replaces the build that the config's precision selects, e.g. to check it."""
        self.model = model
        config = config or EngineConfig()
        track = config.track if model.tracking is None else config.track.fitted(model.tracking, model.vocabulary.verbs)
        self.config = replace(config, track=track)
        if build is None:
            selection = select(model, self.config.backend, self.config.precision)
        else:
            selection = Selection(backend=select_backend(self.config.backend), build=build)
        self.backend_name: BackendName = selection.backend
        self.build = selection.build
        enhanced = self.config.postprocess.enhance_top_k is not None
        self.postprocess = Postprocessor(
            model.vocabulary, self.config.postprocess, model.tensor("hoi_rows") if enhanced else None
        )
        self.stream_factory = StreamFactory(
            model=model,
            backend_name=self.backend_name,
            precision=self.build.precision,
            track=self.config.track,
        )
        self._sessions = SessionCache(self._compile)

    @staticmethod
    def load(model: str | Path, config: EngineConfig | None = None, vocabulary: str | Path | None = None) -> Engine:
        """A bundled model by name, or a model file.

        Args:
            vocabulary: other words for it, as find_model takes them (docs/own_vocabulary.md).

        Raises:
            ModelError: no such model or no build of the requested precision exists, or the file is damaged.
            BackendMissing: the requested backend is not installed.
        """
        return Engine(load_model_file(find_model(model, vocabulary)), config)

    @property
    def vocabulary(self) -> Vocabulary:
        return self.model.vocabulary

    @property
    def takes_device_frames(self) -> bool:
        """Whether frames that CUDA decoded may stay on the GPU: `SourceConfig.device_frames`."""
        return takes_device_frames(self.backend_name)

    def compile(
        self,
        padded_hw: tuple[int, int],
        batch: int = 1,
        num_requests: int = 1,
        *,
        prefetch: bool = False,
        keeps_clip: bool = False,
    ) -> Session:
        """A session of the caller's own, to be closed by it; arguments as of SessionConfig.

        Raises:
            ModelError: the model file does not fit or cannot be compiled.
        """
        return self._compile(
            SessionConfig(
                padded_hw=padded_hw, batch=batch, num_requests=num_requests, prefetch=prefetch, keeps_clip=keeps_clip
            )
        )

    def detect(self, image: FrameImage) -> HOIDetections:
        """Triplets of one image (H, W, 3), by the official rules; of videos take `Frame.image`, as streams do."""
        config = SessionConfig(padded_hw=self.padded_size_for(image.shape[0], image.shape[1]))
        with self._sessions.lease(config, any_capacity=True) as session:
            return session.detect(image)

    def stream(
        self, source: str | Path, config: StreamConfig | None = None, source_config: SourceConfig | None = None
    ) -> Iterator[FrameResult]:
        """Results of every frame of a source; memory stays flat.

        Raises:
            SourceError: nothing can be read from the source.
        """
        yield from self.open(source, config, source_config)

    def open(
        self, source: str | Path, config: StreamConfig | None = None, source_config: SourceConfig | None = None
    ) -> Stream:
        """Like `stream`, with header and summary. The model is compiled here, so that frames come at once.

        Args:
            source: a file, a stream or a camera (docs/sources.md).
        """
        frames = open_frames(source, source_config, device_frames=self.takes_device_frames)
        return self.streams([frames], config or StreamConfig())[0]

    def streams(
        self, sources: Sequence[FrameSource], config: StreamConfig, batch: int = 1, *, concurrent: int = 1
    ) -> list[Stream]:
        """A stream of each source, to be iterated each in a thread of its own or one after the other.

        A file under the policy `latest` plays in real time.
        They share one session, padded to the largest image among them; frames that wait at the same time are inferred
        together, up to `batch` of them where the backend can. Each stream keeps its session until it ends, is closed
        or garbage-collected.

        Args:
            concurrent: streams at a time at least: others that share the session may be added later.

        Raises:
            ModelError: the model cannot be compiled; the sources are closed.
        """
        try:
            with self._sessions.lease(self.session_config_for(sources, config, batch, concurrent)) as session:
                return [session.stream(source, config) for source in sources]
        except BaseException:
            for source in sources:
                source.close()
            raise

    def session_config_for(
        self, sources: Sequence[FrameSource], config: StreamConfig, batch: int = 1, concurrent: int = 1
    ) -> SessionConfig:
        """The session that streams of these sources share; arguments as of `streams`.

        Raises:
            UsageError: lossless was asked of a source that does not wait.
        """
        played = config.policy == "latest"
        prefetch = any(not played and policy_for(config, source) == "lossless" for source in sources)
        sizes = [self.padded_size_for(source.info.height_px, source.info.width_px) for source in sources]
        return SessionConfig(
            padded_hw=(max(height for height, _ in sizes), max(width for _, width in sizes)),
            batch=batch,
            num_requests=num_requests_for(max(len(sources), concurrent), prefetch=prefetch),
            prefetch=prefetch,
            keeps_clip=config.clip_every != 1,
        )

    def preprocess_config(self, padded_hw: tuple[int, int] | None = None) -> PreprocessConfig:
        """The way images become inputs."""
        model = self.model.config
        short = self.config.short_side_px or model.short_side_px
        return PreprocessConfig(
            short_side_px=short,
            max_side_px=round(model.max_side_px * short / model.short_side_px),
            clip_side_px=model.clip_image_px,
            padded_hw=padded_hw,
        )

    def padded_size_for(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Height and width that images of a size are padded to."""
        return padded_size_for(height_px, width_px, self.preprocess_config(), self.model.config.stride_px)

    def load_backend(self, config: SessionConfig) -> Backend:
        """The compiled model of a session, without its workers; the caller closes it.

        Raises:
            ModelError: the model file does not fit or cannot be compiled.
            UsageError: the backend cannot run CLIP less often than the rest.
        """
        capacity = Capacity(batch=config.batch, num_requests=config.num_requests, keeps_clip=config.keeps_clip)
        build = self.build
        backend = load_backend(self.backend_name, self.model, config.padded_hw, build.precision, build.graph, capacity)
        if config.keeps_clip and not backend.capacity.keeps_clip:
            backend.close()
            raise UsageError(
                f"CLIP cannot run less often with {self.backend_name} in {build.precision}; "
                "take --backend openvino, or leave --clip-every out"
            )
        return backend

    def session(self, backend: Backend, config: SessionConfig) -> Session:
        """A session around a backend that is loaded already, and then belongs to it."""
        preprocess_config = self.preprocess_config(config.padded_hw)
        return Session(backend, preprocess_config, self.postprocess, self.stream_factory, config)

    def close(self) -> None:
        """Closes the cached sessions; the engine can be used again. Streams still iterated raise EngineClosed."""
        self._sessions.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _compile(self, config: SessionConfig) -> Session:
        return self.session(self.load_backend(config), config)


def num_requests_for(num_streams: int, *, prefetch: bool) -> int:
    """Concurrent requests for the most frames a second, or, for one live stream, one for the least latency."""
    return min(MAX_REQUESTS, cpu_count()) if prefetch or num_streams > 1 else 1

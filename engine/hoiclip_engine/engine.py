"""The engine: a model, a backend, and streams made with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from hoiclip.checkpoint.model_file import ModelFile, load_model_file
from hoiclip.errors import UsageError
from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.backends import Backend, BackendName, choose, load_backend
from hoiclip_engine.backends.capacity import ONE, Capacity
from hoiclip_engine.builds import Build, chosen_build
from hoiclip_engine.compiled_models import CompiledModel, CompiledModels, Lease, Needs
from hoiclip_engine.cpu import cpu_count
from hoiclip_engine.looker import RGB, Look, Looker
from hoiclip_engine.models import find_model
from hoiclip_engine.pairs import Pairs
from hoiclip_engine.pipeline import Stream, StreamConfig, policy_for
from hoiclip_engine.postprocess import PostprocessConfig, Postprocessor
from hoiclip_engine.precision import PRECISIONS
from hoiclip_engine.preprocess import PreprocessConfig, canvas_for
from hoiclip_engine.results import FrameResult, Policy, RunHeader
from hoiclip_engine.track.fitted_verbs import fitted
from hoiclip_engine.track.pair_tracker import PairTracker, TrackConfig
from hoiclip_engine.video.address import parse_address
from hoiclip_engine.video.frame_source import FrameSource
from hoiclip_engine.video.open_source import open_source
from hoiclip_engine.video.paced import PacedSource
from hoiclip_engine.video.source_config import SourceConfig
from hoiclip_engine.video.timestamps import nominal_step_s

MOST_LANES = 4
"""Looks at a time; each has its own buffers of the whole model."""
MAX_SHORT_SIDE_PX = 8192
WARM_UP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How a model is run."""

    backend: str = "auto"
    precision: str = "auto"
    """ "auto": the fastest that `hoiclip build` has made and passed here, else fp32."""
    short_side_px: int | None = None
    """Size the picture is looked at; None: what the model was trained for. Smaller is faster."""
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    track: TrackConfig = field(default_factory=lambda: TrackConfig(min_verb_score=0.1))
    """Pairs of which the model says nothing at all, not even that they do nothing, are left out."""

    def __post_init__(self) -> None:
        if self.precision not in ("auto", *PRECISIONS):
            raise UsageError(f"unknown precision {self.precision!r}; there are auto, {', '.join(PRECISIONS)}")
        if self.short_side_px is not None and not 32 <= self.short_side_px <= MAX_SHORT_SIDE_PX:
            raise UsageError(f"the short side must be from 32 to {MAX_SHORT_SIDE_PX} px, got {self.short_side_px}")


class Engine:
    """Finds human-object interactions in pictures and streams. May be called from any thread.

    The model is compiled for the size of the first picture it sees, and again for what needs another: one that is in
    use stays as it is, of those that are not, the last one.
    """

    def __init__(self, model: ModelFile, config: EngineConfig | None = None, build: Build | None = None) -> None:
        """Args: build: taken instead of what the config's precision stands for, e.g. because it is being checked."""
        self.model = model
        config = config or EngineConfig()
        self.config = replace(config, track=fitted(config.track, model.path, model.vocabulary.verbs))
        self.backend_name: BackendName = choose(self.config.backend)
        self.build = build or chosen_build(model, self.backend_name, self.config.precision)
        self._models = CompiledModels(self._compile)
        enhanced = self.config.postprocess.enhance_top_k is not None
        self.postprocess = Postprocessor(
            model.vocabulary, self.config.postprocess, model.rows("hoi_rows") if enhanced else None
        )

    @staticmethod
    def load(model: str | Path, config: EngineConfig | None = None) -> Engine:
        """A bundled model by name, or a model file.

        Raises:
            ModelError: there is no such model or no build of the wanted precision, or the file is damaged.
            BackendMissing: the wanted backend is not installed.
        """
        return Engine(load_model_file(find_model(model)), config)

    @property
    def vocabulary(self) -> Vocabulary:
        return self.model.vocabulary

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees what is compiled; the engine can be used again. Streams that are still iterated raise EngineClosed."""
        self._models.close()

    def detect(self, rgb: NDArray[np.uint8]) -> Pairs:
        """Triplets of one picture (H, W, 3), by the official rules."""
        needs = Needs(canvas_hw=self.canvas_for(rgb.shape[0], rgb.shape[1]), capacity=ONE, ahead=False)
        with self._models.lease(needs, any_capacity=True) as lease:
            return lease.looker.look(rgb).result().pairs

    def stream(
        self, source: str | Path, config: StreamConfig | None = None, part: SourceConfig | None = None
    ) -> Iterator[FrameResult]:
        """Results of every frame of a source; memory stays flat.

        Raises:
            SourceError: nothing can be read from the source.
        """
        yield from self.open(source, config, part)

    def open(self, source: str | Path, config: StreamConfig | None = None, part: SourceConfig | None = None) -> Stream:
        """Like `stream`, with header and summary. The model is compiled here, so that frames come at once.

        Args:
            source: a file, a stream or a camera (docs/sources.md).
        """
        config = config or StreamConfig()
        return self.streams([open_source(parse_address(str(source)), part)], config)[0]

    def streams(self, sources: Sequence[FrameSource], config: StreamConfig, batch: int = 1) -> list[Stream]:
        """A stream of each source, to be iterated each in a thread of its own or one after the other.

        A file under the policy `latest` plays in real time.
        They share one compiled model, padded to the largest picture among them; frames that wait at the same time are
        looked at together, up to `batch` of them where the backend can. Each stream keeps its model until it ends, is
        closed or forgotten.

        Raises:
            ModelError: the model cannot be compiled; the sources are closed.
        """
        sources = [_played(source) if config.policy == "latest" else source for source in sources]
        try:
            policies = [policy_for(config, source) for source in sources]
            sizes = [self.canvas_for(source.info.height_px, source.info.width_px) for source in sources]
            canvas_hw = max(rows for rows, _ in sizes), max(columns for _, columns in sizes)
            ahead = "lossless" in policies
            capacity = Capacity(batch=batch, lanes=lanes_for(len(sources), ahead=ahead))
            needs = Needs(canvas_hw=canvas_hw, capacity=capacity, ahead=ahead)
            leases = [self._models.lease(needs) for _ in sources]
            return [
                self._leased_stream(source, policy, lease, config)
                for source, policy, lease in zip(sources, policies, leases, strict=True)
            ]
        except BaseException:
            for source in sources:
                source.close()
            raise

    def lease_for_files(self, canvas_hw: tuple[int, int]) -> Lease:
        """What `streams` would look at a file with, for looks that are followed later.

        Raises:
            ModelError: the model cannot be compiled.
        """
        capacity = Capacity(lanes=lanes_for(1, ahead=True))
        return self._models.lease(Needs(canvas_hw=canvas_hw, capacity=capacity, ahead=True))

    def replay(self, source: FrameSource, look: Callable[[RGB], Future[Look]], config: StreamConfig) -> Stream:
        """The stream of a file whose frames were looked at before; nothing is compiled.

        Args:
            source: the file's frames, of which sizes and times count and no pixels.
            look: what was seen, asked for once for every frame that is due, in order.
        """
        tracker = self._tracker(source, config, "lossless", 0.0)
        return Stream(self._header(source, "lossless"), source, look, tracker, config)

    def _leased_stream(self, source: FrameSource, policy: Policy, lease: Lease, config: StreamConfig) -> Stream:
        tracker, looker = self._tracker(source, config, policy, lease.model.look_s), lease.looker
        return Stream(
            self._header(source, policy),
            source,
            looker.look,
            tracker,
            config,
            looks_ahead=looker.frames_ahead,
            on_end=lease.release,
        )

    def _tracker(self, source: FrameSource, config: StreamConfig, policy: Policy, look_s: float) -> PairTracker:
        track = self.config.track.for_photos() if source.info.is_photo else self.config.track
        interval_s = config.looks_every * nominal_step_s(source.info.average_rate)
        if policy == "latest":
            interval_s = max(interval_s, look_s)
        return PairTracker.for_vocabulary(self.vocabulary, track.for_looks_every(interval_s))

    def _header(self, source: FrameSource, policy: Policy) -> RunHeader:
        return RunHeader(
            model=self.model.name,
            model_sha256=self.model.sha256(),
            notice=self.model.notice,
            vocabulary=self.vocabulary,
            backend=self.backend_name,
            precision=self.build.precision,
            source=source.info.name,
            width_px=source.info.width_px,
            height_px=source.info.height_px,
            time_base=source.info.time_base,
            policy=policy,
        )

    def preprocess_config(self, canvas_hw: tuple[int, int] | None = None) -> PreprocessConfig:
        """How pictures become inputs."""
        model = self.model.config
        short = self.config.short_side_px or model.short_side_px
        return PreprocessConfig(
            short_side_px=short,
            max_side_px=round(model.max_side_px * short / model.short_side_px),
            clip_side_px=model.clip_image_px,
            canvas_hw=canvas_hw,
        )

    def canvas_for(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Height and width that pictures of a size are padded to."""
        return canvas_for(height_px, width_px, self.preprocess_config(), self.model.config.stride_px)

    def compiled(self, canvas_hw: tuple[int, int], wanted: Capacity = ONE) -> Backend:
        """The model for one canvas as streams run it, for whoever asks: it is theirs to close.

        Raises:
            ModelError: the model file does not fit or cannot be compiled.
        """
        return load_backend(self.backend_name, self.model, canvas_hw, self.build, wanted)

    def _compile(self, needs: Needs) -> CompiledModel:
        """Also takes the measure of a look."""
        backend = self.compiled(needs.canvas_hw, needs.capacity)
        looker = Looker(backend, self.preprocess_config(needs.canvas_hw), self.postprocess, ahead=needs.ahead)
        model = CompiledModel(needs=needs, backend=backend, looker=looker, look_s=0.0)
        # The first looks compile kernels and touch memory; they should not be frames of the stream.
        picture = np.zeros((*needs.canvas_hw, 3), np.uint8)
        try:
            for _ in range(WARM_UP):
                started = time.perf_counter()
                looker.look(picture).result()
                model.look_s = time.perf_counter() - started
        except BaseException:
            model.close()
            raise
        return model


def lanes_for(streams: int, *, ahead: bool) -> int:
    """Beside each other, looks are many; one after the other, each is quick."""
    return min(MOST_LANES, cpu_count()) if ahead or streams > 1 else 1


def _played(source: FrameSource) -> FrameSource:
    return source if source.is_live else PacedSource(source)

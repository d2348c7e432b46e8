"""The engine: a model, a backend, and streams made with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from hoiclip.checkpoint.model_file import ModelFile, load_model_file
from hoiclip.errors import UsageError
from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.backends import Backend, BackendName, choose, load_backend
from hoiclip_engine.builds import Build, chosen_build
from hoiclip_engine.clock import StageTimes
from hoiclip_engine.models import find_model
from hoiclip_engine.pairs import Pairs
from hoiclip_engine.pipeline import Stream, StreamConfig
from hoiclip_engine.postprocess import PostprocessConfig, Postprocessor
from hoiclip_engine.precision import PRECISIONS
from hoiclip_engine.preprocess import PreprocessConfig, canvas_for, preprocess
from hoiclip_engine.results import FrameResult, RunHeader
from hoiclip_engine.track.pair_tracker import PairTracker, TrackConfig
from hoiclip_engine.video.source import SourceConfig, VideoSource, open_video
from hoiclip_engine.video.timestamps import nominal_step_s


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How a model is run."""

    backend: str = "auto"
    precision: str = "auto"
    """ "auto": the fastest that `hoiclip build` has made and passed here, else fp32."""
    short_side_px: int | None = None
    """Size the picture is looked at; None: what the model was trained for. Smaller is faster."""
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    track: TrackConfig = field(default_factory=TrackConfig)

    def __post_init__(self) -> None:
        if self.precision not in ("auto", *PRECISIONS):
            raise UsageError(f"unknown precision {self.precision!r}; there are auto, {', '.join(PRECISIONS)}")
        if self.short_side_px is not None and self.short_side_px < 32:
            raise UsageError(f"the short side must be at least 32 px, got {self.short_side_px}")


class Engine:
    """Finds human-object interactions in pictures and streams.

    The backend is compiled for the size of the first picture it sees, and again when another stream needs another.
    """

    def __init__(self, model: ModelFile, config: EngineConfig | None = None, build: Build | None = None) -> None:
        """Args: build: taken instead of what the config's precision stands for, e.g. because it is being checked."""
        self.model = model
        self.config = config or EngineConfig()
        self.backend_name: BackendName = choose(self.config.backend)
        self.build = build or chosen_build(model, self.backend_name, self.config.precision)
        self._backend: Backend | None = None
        enhanced = self.config.postprocess.enhance_top_k is not None
        self._postprocess = Postprocessor(
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
        """Frees the compiled model; the engine can be used again."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def detect(self, rgb: NDArray[np.uint8]) -> Pairs:
        """Triplets of one picture (H, W, 3), by the official rules."""
        self._compile_for(rgb.shape[0], rgb.shape[1])
        return self._detect(rgb, StageTimes())

    def stream(
        self, source: str | Path, config: StreamConfig | None = None, part: SourceConfig | None = None
    ) -> Iterator[FrameResult]:
        """Results of every frame of a file; memory stays flat.

        Raises:
            SourceError: nothing can be read from the source.
        """
        yield from self.open(source, config, part)

    def open(self, source: str | Path, config: StreamConfig | None = None, part: SourceConfig | None = None) -> Stream:
        """Like `stream`, with header and summary. The model is compiled here, so that frames come at once."""
        video = open_video(source, part)
        try:
            self._compile_for(video.info.height_px, video.info.width_px)
            config = config or StreamConfig()
            tracker = self._tracker(video, config)
            return Stream(
                self._header(video), video, lambda frame, times: self._detect(frame.rgb, times), tracker, config
            )
        except BaseException:
            video.close()
            raise

    def _tracker(self, video: VideoSource, config: StreamConfig) -> PairTracker:
        track = self.config.track.for_photos() if video.info.is_photo else self.config.track
        patient = track.for_looks_every(config.detect_every * nominal_step_s(video.info.average_rate))
        return PairTracker.for_vocabulary(self.vocabulary, patient)

    def _header(self, video: VideoSource) -> RunHeader:
        return RunHeader(
            model=self.model.name,
            model_sha256=self.model.sha256(),
            notice=self.model.notice,
            vocabulary=self.vocabulary,
            backend=self.backend_name,
            precision=self.build.precision,
            source=video.info.name,
            width_px=video.info.width_px,
            height_px=video.info.height_px,
            time_base=video.info.time_base,
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
        stride = self.model.config.stride_px
        rows, columns = canvas_for(height_px, width_px, self.preprocess_config(), stride)
        return max(rows, 2 * stride), max(columns, 2 * stride)

    def _compile_for(self, height_px: int, width_px: int) -> None:
        canvas_hw = self.canvas_for(height_px, width_px)
        if self._backend is not None and self._backend.canvas_hw == canvas_hw:
            return
        self.close()
        self._backend = load_backend(self.backend_name, self.model, canvas_hw, self.build)
        # The first look compiles kernels and touches memory; it should not be a frame of the stream.
        self._detect(np.zeros((height_px, width_px, 3), np.uint8), StageTimes())

    def _detect(self, rgb: NDArray[np.uint8], times: StageTimes) -> Pairs:
        assert self._backend is not None
        with times.measure("preprocess"):
            model_input = preprocess(rgb, self.preprocess_config(self._backend.canvas_hw))
        with times.measure("infer"):
            raw = self._backend(model_input)
        with times.measure("postprocess"):
            return self._postprocess(raw, model_input.original_hw[0])

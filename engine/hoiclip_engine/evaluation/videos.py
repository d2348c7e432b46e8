"""The evaluation loop over videos: results of a stream, or of a finished run, aligned with ground truth and measured.

The metrics themselves are in hoiclip.evaluation.video; they know neither engines nor video files.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.errors import DataError
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.evaluation import Split
from hoiclip.evaluation.video import (
    AlignedVideo,
    VideoReport,
    align_video,
    measure_videos,
    read_ground_truth,
    read_results,
    read_size,
)
from hoiclip_engine.engine import Engine
from hoiclip_engine.sinks.hico_sink import video_frame
from hoiclip_engine.sources.file import open_video
from hoiclip_engine.sources.source_list import VIDEO_SUFFIXES
from hoiclip_engine.streaming.stream import StreamConfig
from hoiclip_engine.types.frame import Frame

GT_SUFFIX = ".jsonl"
_log = logging.getLogger("hoiclip")


def videos_in(folder: Path) -> list[Path]:
    """Finds videos that have their ground truth beside them.

    Raises:
        DataError: there is none.
    """
    found = _files(folder, VIDEO_SUFFIXES)
    with_ground_truth = [path for path in found if path.with_suffix(GT_SUFFIX).is_file()]
    if not with_ground_truth:
        raise DataError(
            f"expected videos in {folder}, each with its ground truth beside it (a.mp4, a.jsonl); found {len(found)} "
            "videos and no ground truth. Draw some: hoiclip data draw --video 4 --set test --out DIR"
        )
    if len(with_ground_truth) < len(found):
        first = next(path.name for path in found if path not in with_ground_truth)
        _log.warning(
            "left out of %s: %d videos without ground truth, first %s",
            folder,
            len(found) - len(with_ground_truth),
            first,
        )
    return with_ground_truth


def ground_truth_files(folder: Path) -> list[Path]:
    """Finds ground truth of videos; the videos themselves may be missing. A file is the ground truth of one video.

    Raises:
        DataError: there is none.
    """
    found = [folder] if folder.is_file() else _files(folder, (GT_SUFFIX,))
    if not found:
        raise DataError(
            f"expected the ground truth of videos in {folder} (a.jsonl for a.mp4), found none; name their folder"
        )
    return found


@dataclass(frozen=True, slots=True)
class MatchedVideo:
    """A video's ground truth and results, aligned, and the files of both."""

    aligned: AlignedVideo
    ground_truth: Path
    video: Path | None
    """None where only the ground truth is there."""
    results: Path | None = None
    """None where the model was run."""

    @property
    def size_wh(self) -> tuple[int, int] | None:
        """Size of its frames in pixels; None where neither ground truth nor results have it."""
        return read_size(self.ground_truth) or (read_size(self.results) if self.results else None)

    def inputs(self) -> list[Path]:
        """Every file that was read."""
        return [path for path in (self.ground_truth, self.video, self.results) if path is not None]

    def rgb(self, rows: Collection[int]) -> dict[int, NDArray[np.uint8]]:
        """Frames by their row in the ground truth; those that cannot be decoded are left out.

        Raises:
            SourceError: nothing can be read from the video.
        """
        if self.video is None or not rows:
            return {}
        found: dict[int, NDArray[np.uint8]] = {}
        with closing(open_video(str(self.video))) as source:
            for frame in source:
                if isinstance(frame, Frame) and frame.index in rows:
                    found[frame.index] = frame.rgb
                if len(found) == len(rows):
                    break
        return found


def evaluate_videos(
    engine: Engine,
    videos: Sequence[Path],
    splits: Iterable[Split] = (),
    on_video: Callable[[], None] = lambda: None,
    config: StreamConfig | None = None,
) -> VideoReport:
    """Runs every video as `hoiclip run` does, and measures the results.

    Raises:
        DataError: a ground truth cannot be read, or has other frames than its video.
    """
    matched = run_videos(engine, videos, on_video, config)
    return measure_videos([video.aligned for video in matched], engine.vocabulary, splits)


def run_videos(
    engine: Engine,
    videos: Sequence[Path],
    on_video: Callable[[], None] = lambda: None,
    config: StreamConfig | None = None,
) -> list[MatchedVideo]:
    """Runs every video as `hoiclip run` does.

    Raises:
        DataError: a ground truth cannot be read, or has other frames than its video.
    """
    matched = []
    for path in videos:
        matched.append(MatchedVideo(_run_video(engine, path, config), path.with_suffix(GT_SUFFIX), path))
        on_video()
    return matched


def finished_videos(vocabulary: Vocabulary, ground_truth_paths: Sequence[Path], results: Path) -> list[MatchedVideo]:
    """Reads the results of finished runs: one file, or a folder with a file for each video, named as its ground truth.

    A frame without a result counts as one in which nothing was found.

    Raises:
        DataError: a file is missing or not of the schema, or is of another video.
    """
    if results.is_file() and len(ground_truth_paths) > 1:
        raise DataError(
            f"expected results of {len(ground_truth_paths)} videos, found one file; name their folder, or one ground "
            "truth"
        )
    matched = []
    for path in ground_truth_paths:
        result_path = results if results.is_file() else results / path.name
        if not result_path.is_file():
            raise DataError(
                f"expected the results of {path.name} in {result_path}, found none; write them: run --jsonl"
            )
        if result_path.resolve() == path.resolve():
            raise DataError(
                f"{path} is the ground truth itself; name what a run wrote: hoiclip run VIDEO --jsonl RESULTS"
            )
        ground_truth = read_ground_truth(path, vocabulary)
        found = align_video(
            str(result_path), ground_truth, read_results(result_path, vocabulary), len(vocabulary.verbs)
        )
        beside = [video for suffix in sorted(VIDEO_SUFFIXES) if (video := path.with_suffix(suffix)).is_file()]
        matched.append(MatchedVideo(found, path, beside[0] if beside else None, result_path))
    return matched


def _run_video(engine: Engine, video: Path, config: StreamConfig | None) -> AlignedVideo:
    vocabulary = engine.vocabulary
    ground_truth = read_ground_truth(video.with_suffix(GT_SUFFIX), vocabulary)
    found = [video_frame(result.index, result.pts_s, result.pairs) for result in engine.stream(video, config)]
    if len(found) != len(ground_truth):
        raise DataError(
            f"{video} has {len(found)} frames and its ground truth {len(ground_truth)}; expected a frame line for "
            "every frame"
        )
    return align_video(str(video), ground_truth, found, len(vocabulary.verbs))


def _files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    except OSError as error:
        raise DataError(f"cannot list {folder} ({error.strerror}); name a folder of videos") from error

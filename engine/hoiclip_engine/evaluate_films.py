"""The one evaluation loop of films: what the stream, or a finished run, says of every frame against what is in it.

The metrics themselves are in hoiclip.evaluation.video; they know neither engines nor files of films.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hoiclip.errors import DataError
from hoiclip.evaluation import Split
from hoiclip.evaluation.video import (
    Aligned,
    FilmFrame,
    VideoReport,
    aligned,
    measure_films,
    read_results,
    read_size,
    read_truth,
)
from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.engine import Engine
from hoiclip_engine.frame import Frame
from hoiclip_engine.pairs import TrackedPairs
from hoiclip_engine.pipeline import StreamConfig
from hoiclip_engine.video.expand import VIDEOS
from hoiclip_engine.video.source import open_video

TRUTH_SUFFIX = ".jsonl"
_log = logging.getLogger("hoiclip")


def films_in(folder: Path) -> list[Path]:
    """Films that have their truth beside them.

    Raises:
        DataError: there is none.
    """
    found = _files(folder, VIDEOS)
    with_truth = [path for path in found if path.with_suffix(TRUTH_SUFFIX).is_file()]
    if not with_truth:
        raise DataError(
            f"expected films in {folder}, each with its truth beside it (a.mp4, a.jsonl); found {len(found)} films and "
            "no truth. Draw some: hoiclip data draw --video 4 --set test --out DIR"
        )
    if len(with_truth) < len(found):
        alone = next(path.name for path in found if path not in with_truth)
        _log.warning("left out of %s: %d films without truth, first %s", folder, len(found) - len(with_truth), alone)
    return with_truth


def truths_in(folder: Path) -> list[Path]:
    """Truth of films; the films themselves need not be there. A file is the truth of one film.

    Raises:
        DataError: there is none.
    """
    found = [folder] if folder.is_file() else _files(folder, (TRUTH_SUFFIX,))
    if not found:
        raise DataError(f"expected the truth of films in {folder} (a.jsonl for a.mp4), found none; name their folder")
    return found


@dataclass(frozen=True, slots=True)
class MatchedVideo:
    """A video's ground truth with what was found, and the files that both came from."""

    aligned: Aligned
    truth: Path
    video: Path | None
    """None where only the ground truth is there."""
    results: Path | None = None
    """None where the model was run."""

    @property
    def size_wh(self) -> tuple[int, int] | None:
        """Of its frames, in pixels, as far as ground truth or results say."""
        return read_size(self.truth) or (read_size(self.results) if self.results else None)

    def inputs(self) -> list[Path]:
        """Every file that was read."""
        return [path for path in (self.truth, self.video, self.results) if path is not None]

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


def evaluate_films(
    engine: Engine,
    films: Sequence[Path],
    splits: Iterable[Split] = (),
    on_film: Callable[[], None] = lambda: None,
    config: StreamConfig | None = None,
) -> VideoReport:
    """Runs every film as `hoiclip run` does, and measures.

    Raises:
        DataError: a truth cannot be read, or has other frames than its film.
    """
    videos = run_videos(engine, films, on_film, config)
    return measure_films([one.aligned for one in videos], engine.vocabulary, splits)


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
        matched.append(MatchedVideo(_watched(engine, path, config), path.with_suffix(TRUTH_SUFFIX), path))
        on_video()
    return matched


def finished_videos(vocabulary: Vocabulary, truths: Sequence[Path], results: Path) -> list[MatchedVideo]:
    """What finished runs wrote: one file, or a folder with a file for each video under the name of its ground truth.

    A frame that a run does not tell of counts as one in which it found nothing.

    Raises:
        DataError: a file is missing or not of the schema, or is of another video.
    """
    if results.is_file() and len(truths) > 1:
        raise DataError(f"expected results of {len(truths)} films, found one file; name their folder, or one truth")
    matched = []
    for path in truths:
        of_film = results if results.is_file() else results / path.name
        if not of_film.is_file():
            raise DataError(f"expected the results of {path.name} in {of_film}, found none; write them: run --jsonl")
        if of_film.resolve() == path.resolve():
            raise DataError(f"{path} is the truth itself; name what a run wrote: hoiclip run FILM --jsonl RESULTS")
        truth = read_truth(path, vocabulary)
        found = aligned(str(of_film), truth, read_results(of_film, vocabulary), len(vocabulary.verbs))
        beside = [video for suffix in sorted(VIDEOS) if (video := path.with_suffix(suffix)).is_file()]
        matched.append(MatchedVideo(found, path, beside[0] if beside else None, of_film))
    return matched


def film_frame(index: int, pts_s: float, pairs: TrackedPairs) -> FilmFrame:
    """A frame's tracked pairs in the form in which films are measured."""
    return FilmFrame(
        index=index,
        pts_s=pts_s,
        pair=pairs.pair,
        human=pairs.human,
        object=pairs.object,
        human_boxes_xyxy=pairs.human_boxes_xyxy.astype(np.float64),
        object_boxes_xyxy=pairs.object_boxes_xyxy.astype(np.float64),
        label=pairs.label,
        verb_scores=pairs.verb_scores.astype(np.float64),
        verb_active=pairs.verb_active,
    )


def _watched(engine: Engine, film: Path, config: StreamConfig | None) -> Aligned:
    vocabulary = engine.vocabulary
    truth = read_truth(film.with_suffix(TRUTH_SUFFIX), vocabulary)
    found = [film_frame(one.index, one.pts_s, one.pairs) for one in engine.stream(film, config)]
    if len(found) != len(truth):
        raise DataError(
            f"{film} has {len(found)} frames and its truth {len(truth)}; expected a frame line for every frame"
        )
    return aligned(str(film), truth, found, len(vocabulary.verbs))


def _files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    except OSError as error:
        raise DataError(f"cannot look into {folder} ({error.strerror}); name a folder of films") from error

"""The one evaluation loop of films: what the stream, or a finished run, says of every frame against what is in it.

The metrics themselves are in hoiclip.evaluation.video; they know neither engines nor files of films.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from hoiclip.errors import DataError
from hoiclip.evaluation import Split
from hoiclip.evaluation.video import (
    Aligned,
    FilmFrame,
    VideoReport,
    aligned,
    measure_films,
    read_results,
    read_truth,
)
from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.engine import Engine
from hoiclip_engine.pairs import TrackedPairs
from hoiclip_engine.pipeline import StreamConfig
from hoiclip_engine.video.expand import VIDEOS

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


def evaluate_films(
    engine: Engine,
    films: Sequence[Path],
    splits: Iterable[Split] = (),
    on_film: Callable[[], None] = lambda: None,
    config: StreamConfig | None = None,
) -> VideoReport:
    """Runs every film as `hoiclip run` does.

    Raises:
        DataError: a truth cannot be read, or has other frames than its film.
    """
    watched = []
    for film in films:
        watched.append(_watched(engine, film, config))
        on_film()
    return measure_films(watched, engine.vocabulary, splits)


def evaluate_results(vocabulary: Vocabulary, truths: Sequence[Path], results: Path) -> VideoReport:
    """What finished runs wrote: one file, or a folder with a file for each film under the name of its truth.

    A frame that a run does not tell of counts as one in which it found nothing.

    Raises:
        DataError: a file is missing or not of the schema, or is of another film.
    """
    if results.is_file() and len(truths) > 1:
        raise DataError(f"expected results of {len(truths)} films, found one file; name their folder, or one truth")
    read = []
    for path in truths:
        of_film = results if results.is_file() else results / path.name
        if not of_film.is_file():
            raise DataError(f"expected the results of {path.name} in {of_film}, found none; write them: run --jsonl")
        if of_film.resolve() == path.resolve():
            raise DataError(f"{path} is the truth itself; name what a run wrote: hoiclip run FILM --jsonl RESULTS")
        truth = read_truth(path, vocabulary)
        read.append(aligned(str(of_film), truth, read_results(of_film, vocabulary), len(vocabulary.verbs)))
    return measure_films(read, vocabulary)


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

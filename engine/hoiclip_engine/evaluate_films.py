"""What a user of the stream gets, measured on films: tracked pairs of every frame against what really happens in it.

Frame mAP counts each frame as a picture, by the rules for pictures. Entity recall is the share of humans and objects of
true interactions that some tracked human, or object of the right class, covers. Identity switches are how often a true
human or object that is found again has got another number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.errors import DataError
from hoiclip.evaluation import Evaluation, PredictedPairs, Split, choose_metric, evaluate
from hoiclip.evaluation.overlap import pixel_iou_matrix
from hoiclip.vocabulary import NO_OBJECT, Vocabulary
from hoiclip_engine.engine import Engine
from hoiclip_engine.film_truth import TrueFrame, read_film_truth
from hoiclip_engine.pairs import TrackedPairs

MIN_OVERLAP = 0.5
TRIPLETS = 100
"""Of a frame that count, the best first, as in pictures."""
FILM_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi")


@dataclass(slots=True)
class EntityCount:
    """Humans and objects of true interactions, over all frames of all films."""

    true: int = 0
    found: int = 0
    switches: int = 0
    _last: dict[int, int] = field(default_factory=dict)

    def new_film(self) -> None:
        self._last.clear()

    def add(self, truth: TrueFrame, pairs: TrackedPairs, person: int) -> None:
        """One frame."""
        one = truth.annotation
        acting = sorted({int(row) for row in one.interactions[:, :2].ravel() if row != NO_OBJECT})
        boxes, labels, ids = _tracked_entities(pairs, person)
        overlaps = pixel_iou_matrix(one.boxes_xyxy[acting], boxes)
        overlaps[one.labels[acting][:, None] != labels[None]] = 0
        for row, overlap in zip(acting, overlaps, strict=True):
            self.true += 1
            if len(overlap) and overlap.max() >= MIN_OVERLAP:
                self.found += 1
                entity, number = truth.entities[row], int(ids[overlap.argmax()])
                self.switches += self._last.get(entity, number) != number
                self._last[entity] = number


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmReport:
    """Numbers of several films."""

    frames: Evaluation
    """Every frame a picture."""
    entities: EntityCount
    films: int

    @property
    def summary(self) -> dict[str, float]:
        """Fractions."""
        entities = self.entities
        recall = entities.found / entities.true if entities.true else math.nan
        return {"frame mAP": next(iter(self.frames.summary.values())), "entity recall": recall}

    @property
    def counts(self) -> dict[str, int]:
        return {
            "films": self.films,
            "film_frames": len(self.frames.truths),
            "film_entities": self.entities.true,
            "identity_switches": self.entities.switches,
        }


def films_in(folder: Path) -> list[Path]:
    """Films that have their truth beside them.

    Raises:
        DataError: there is none.
    """
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in FILM_SUFFIXES)
    except OSError as error:
        raise DataError(f"cannot look into {folder} ({error.strerror}); name a folder of films") from error
    with_truth = [path for path in found if path.with_suffix(".jsonl").is_file()]
    if not with_truth:
        raise DataError(
            f"expected films in {folder}, each with its truth beside it (a.mp4, a.jsonl); found {len(found)} films and "
            "no truth. Draw some: hoiclip data draw --video 4 --set test --out DIR"
        )
    return with_truth


def evaluate_films(
    engine: Engine, films: Sequence[Path], splits: Iterable[Split] = (), on_film: Callable[[], None] = lambda: None
) -> FilmReport:
    """Runs every film as `hoiclip run` does.

    Raises:
        DataError: a truth cannot be read, or has other frames than its film.
    """
    vocabulary = engine.vocabulary
    metric = choose_metric("auto", vocabulary)
    entities = EntityCount()
    predictions: list[PredictedPairs] = []
    annotations: list[ImageAnnotation] = []
    for film in films:
        truth = read_film_truth(film.with_suffix(".jsonl"), vocabulary)
        entities.new_film()
        count = 0
        for count, result in enumerate(engine.stream(film), 1):
            if count <= len(truth):
                entities.add(truth[count - 1], result.pairs, vocabulary.person)
                predictions.append(predicted_triplets(result.pairs, vocabulary, by_verb=metric == "vcoco"))
        if count != len(truth):
            raise DataError(
                f"{film} has {count} frames and its truth {len(truth)}; expected a frame line for every frame"
            )
        annotations += [one.annotation for one in truth]
        on_film()
    frames = evaluate(metric, predictions, annotations, vocabulary, splits=tuple(splits))
    return FilmReport(frames=frames, entities=entities, films=len(films))


def predicted_triplets(pairs: TrackedPairs, vocabulary: Vocabulary, *, by_verb: bool = False) -> PredictedPairs:
    """The best HOIs of a frame's tracked pairs; their score is the smoothed one of the verb.

    Args:
        by_verb: categories are verbs, as V-COCO counts, rather than HOIs.
    """
    column = np.where(pairs.label == NO_OBJECT, len(vocabulary.objects), pairs.label)
    hoi_pv = _hoi_table(vocabulary)[:, column].T
    row, verb = np.nonzero((hoi_pv >= 0) & (pairs.verb_scores > 0))
    score = pairs.verb_scores[row, verb].astype(np.float64)
    best = np.argsort(-score, kind="stable")[:TRIPLETS]
    row, verb, score = row[best], verb[best], score[best]
    return PredictedPairs(
        human_boxes_xyxy=pairs.human_boxes_xyxy[row],
        object_boxes_xyxy=pairs.object_boxes_xyxy[row],
        label=pairs.label[row],
        category=verb.astype(np.int64) if by_verb else hoi_pv[row, verb],
        score=score,
        query=row.astype(np.int64),
    )


@lru_cache(maxsize=2)
def _hoi_table(vocabulary: Vocabulary) -> NDArray[np.int64]:
    """(V, O + 1) HOI of each verb and object, the last column for no object; -1 where there is none."""
    table = np.full((len(vocabulary.verbs), len(vocabulary.objects) + 1), -1, np.int64)
    table[tuple(np.array(vocabulary.hois).T)] = np.arange(len(vocabulary.hois))
    return table


def _tracked_entities(
    pairs: TrackedPairs, person: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Boxes (N, 4), labels and identities of all humans and objects."""
    things = pairs.object >= 0
    boxes = np.concatenate((pairs.human_boxes_xyxy, pairs.object_boxes_xyxy[things]))
    labels = np.concatenate((np.full(len(pairs), person, np.int64), pairs.label[things]))
    return boxes, labels, np.concatenate((pairs.human, pairs.object[things]))

"""Finds what is wrong with a dataset before hours are spent on training with it.

Errors make results wrong or stop training; warnings are worth checking. One pass over the annotations, and one over the
images where their folder is known; nothing is changed.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hoiclip.core.errors import DataError
from hoiclip.core.foreign_file import open_regular
from hoiclip.core.untrusted_values import read_json
from hoiclip.core.vocabulary import NO_OBJECT, Vocabulary
from hoiclip.data.annotations import ImageAnnotation, person_label
from hoiclip.data.formats.hoia import UNREADABLE, Problem, parse_hoia
from hoiclip.data.image_file import ImageError, ImageFile

KINDS: Mapping[str, str] = {
    "malformed": "error",
    "unknown-label": "error",
    "wrong-index": "error",
    "triplet-mismatch": "error",
    "unknown-triplet": "error",
    "human-no-person": "error",
    "degenerate-box": "error",
    "box-outside": "error",
    "one-based-boxes": "error",
    "duplicate-image": "error",
    "missing-image": "error",
    "unreadable-image": "error",
    "size-mismatch": "error",
    "leaked-name": "error",
    "leaked-picture": "error",
    "duplicate-interaction": "warning",
    "same-picture": "warning",
    "orientation": "warning",
    "several-images": "warning",
    "empty-image": "warning",
}
"""Every kind of finding, and whether it fails the check."""

_OUTSIDE_PX = 0.5
"""Rounding of coordinates is no error."""

_ONE_BASED_TOUCHES = 10
"""Boxes that must touch 1 or the full width before "none touches 0" counts as evidence; see `_one_based`."""

Progress = Callable[[Sequence[str]], Iterable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """Sizes, hashes and problems of the image files of a dataset."""

    size_wh: Mapping[str, tuple[int, int]]
    sha256: Mapping[str, str]
    problems: Sequence[Problem]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """Counts of a checked dataset, and the problems found."""

    images: int
    boxes: int
    interactions: int
    problems: tuple[Problem, ...]

    def count(self, severity: str) -> int:
        """Findings that are "error" or "warning"."""
        return sum(KINDS[problem.kind] == severity for problem in self.problems)


def check(
    path: Path,
    vocabulary: Vocabulary,
    *,
    images_dir: Path | None = None,
    against: Path | None = None,
    against_dir: Path | None = None,
    progress: Progress = lambda names: names,
) -> CheckReport:
    """Checks one HOI-A JSON file.

    Args:
        images_dir: folder of its images; without it images are not read.
        against: another split that must share no image with this one.
        against_dir: folder of that split's images; the same folder if not given.
        progress: wraps the file names while images are read.

    Raises:
        DataError: one of the files cannot be read at all, or the vocabulary has no person.
    """
    annotations, problems = parse_hoia(read_json(path), vocabulary)
    images = read_images(annotations, images_dir, progress)
    problems += images.problems
    annotations, mismatches = _sized(annotations, images)
    problems += mismatches
    for annotation in annotations:
        problems += _image_problems(annotation, vocabulary)
    problems += _one_based(annotations)
    problems += _repeated(annotations, images)
    if against is not None:
        others = parse_hoia(read_json(against), vocabulary)[0]
        if not others:
            raise DataError(f"{against} lists no image that can be compared; expected HOI-A JSON of another split")
        other_images = read_images(others, against_dir or images_dir, progress)
        problems += _leaks(images, _names(annotations), other_images, _names(others))
    return CheckReport(
        images=len(annotations),
        boxes=sum(len(annotation.labels) for annotation in annotations),
        interactions=sum(len(annotation.interactions) for annotation in annotations),
        problems=tuple(problems),
    )


def read_images(annotations: Sequence[ImageAnnotation], folder: Path | None, progress: Progress) -> ImageFacts:
    """Decodes every image once; without a folder nothing is known."""
    sizes: dict[str, tuple[int, int]] = {}
    hashes: dict[str, str] = {}
    problems: list[Problem] = []
    annotated = (
        {annotation.file_name: (annotation.width_px, annotation.height_px) for annotation in annotations}
        if folder is not None
        else {}
    )
    for name in progress(list(annotated)):
        path = (folder or Path()) / name
        try:
            with open_regular(path) as file:
                hashes[name] = _sha256(file)
                with ImageFile(file) as image:
                    image.rgb(annotated[name])
                    sizes[name] = image.size_wh(annotated[name])
                    problems += _notes(name, image, annotated[name])
        except OSError as error:
            kind = "unreadable-image" if path.exists() else "missing-image"
            problems.append(Problem(kind, name, f"{path}: {error.strerror or error}"))
        except ImageError as error:
            problems.append(Problem("unreadable-image", name, f"{path}: {error}"))
    return ImageFacts(size_wh=sizes, sha256=hashes, problems=problems)


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    file.seek(0)
    return digest.hexdigest()


def _notes(name: str, image: ImageFile, annotated_wh: tuple[int, int]) -> Iterator[Problem]:
    """Notes on images that can be read in more than one way."""
    if image.orientation != 1:
        detail = f"EXIF orientation {image.orientation}, "
        if image.as_stored(annotated_wh):
            detail += "read as stored, since the annotated size is that of the stored image"
        elif annotated_wh == image.upright_wh != image.stored_wh:
            detail += "read upright, as the annotated size is"
        else:
            detail += "read upright, as run reads it; check that its boxes are: the annotation does not say"
        yield Problem("orientation", name, detail)
    if image.frames > 1:
        yield Problem("several-images", name, f"{image.frames} images in one file, of which the first is read")


def _sized(annotations: Sequence[ImageAnnotation], images: ImageFacts) -> tuple[list[ImageAnnotation], list[Problem]]:
    """Replaces annotated sizes by those of the files, and reports where they differ."""
    sized, problems = [], []
    for annotation in annotations:
        annotated_wh = (annotation.width_px, annotation.height_px)
        real = images.size_wh.get(annotation.file_name, annotated_wh)
        if all(annotated_wh) and annotated_wh != real:
            detail = f"annotated as {annotated_wh[0]} x {annotated_wh[1]}, the file has {real[0]} x {real[1]}"
            problems.append(Problem("size-mismatch", annotation.file_name, detail))
        sized.append(replace(annotation, width_px=real[0], height_px=real[1]))
    return sized, problems


def _image_problems(annotation: ImageAnnotation, vocabulary: Vocabulary) -> Iterator[Problem]:
    if not len(annotation.interactions):
        yield Problem("empty-image", annotation.file_name, "no interactions")
    readable = annotation.labels != UNREADABLE
    x1, y1, x2, y2 = annotation.boxes_xyxy.T
    for row in np.flatnonzero(readable & ((x2 <= x1) | (y2 <= y1))):
        yield Problem(
            "degenerate-box", annotation.file_name, f"annotations[{row}].bbox {annotation.boxes_xyxy[row].tolist()}"
        )
    outside = (x1 < -_OUTSIDE_PX) | (y1 < -_OUTSIDE_PX)
    if annotation.width_px and annotation.height_px:
        outside |= (x2 > annotation.width_px + _OUTSIDE_PX) | (y2 > annotation.height_px + _OUTSIDE_PX)
    for row in np.flatnonzero(readable & outside):
        size = f"{annotation.width_px} x {annotation.height_px}" if annotation.width_px else "the image"
        detail = f"annotations[{row}].bbox {annotation.boxes_xyxy[row].tolist()} leaves {size}"
        yield Problem("box-outside", annotation.file_name, detail)
    yield from _interaction_problems(annotation, vocabulary)


def _interaction_problems(annotation: ImageAnnotation, vocabulary: Vocabulary) -> Iterator[Problem]:
    person, hois = person_label(vocabulary), set(vocabulary.hois)
    boxes = [
        (*box, label) for box, label in zip(annotation.boxes_xyxy.tolist(), annotation.labels.tolist(), strict=True)
    ]
    seen = set()
    for human, obj, verb in annotation.interactions.tolist():
        label = int(annotation.labels[obj]) if obj != NO_OBJECT else len(vocabulary.objects)
        if annotation.labels[human] not in (person, UNREADABLE):
            name = vocabulary.object_name(int(annotation.labels[human]))
            yield Problem("human-no-person", annotation.file_name, f"annotations[{human}] acts, but is labelled {name}")
        if label != UNREADABLE and (verb, label) not in hois:
            what = f"{vocabulary.verb_name(verb)} {vocabulary.object_name(label) or 'nothing'}"
            yield Problem("unknown-triplet", annotation.file_name, f"{what} is no HOI of {vocabulary.name}")
        pair = (boxes[human], boxes[obj] if obj != NO_OBJECT else None, verb)
        if pair in seen:
            detail = f"annotations[{human}] {vocabulary.verb_name(verb)} annotations[{obj}] a second time"
            yield Problem("duplicate-interaction", annotation.file_name, detail)
        seen.add(pair)


def _one_based(annotations: Sequence[ImageAnnotation]) -> Iterator[Problem]:
    """Reports coordinates that count from 1.

    People and objects are often cut by the border. Where pixels count from 0, at least every other box at the border
    has a 0 or the like, so that n boxes at 1 or at the full width, and none below 1, happen with probability 2^-n at
    most.
    """
    boxes = [annotation.boxes_xyxy[annotation.labels != UNREADABLE] for annotation in annotations]
    corners = np.concatenate([np.empty((0, 4), np.float32), *boxes])
    size_wh = np.repeat(
        [(annotation.width_px, annotation.height_px) for annotation in annotations], list(map(len, boxes)), axis=0
    )
    if not len(corners):
        return
    touching = (corners[:, :2] == 1).sum() + (corners[:, 2:] == size_wh).sum()
    if corners[:, :2].min() >= 1 and touching >= _ONE_BASED_TOUCHES:
        yield Problem(
            "one-based-boxes",
            "all images",
            f"no coordinate is below 1, and {touching} are 1 or the full size; subtract 1 from all of them",
        )


def _names(annotations: Iterable[ImageAnnotation]) -> set[str]:
    return {annotation.file_name for annotation in annotations}


def _repeated(annotations: Sequence[ImageAnnotation], images: ImageFacts) -> Iterator[Problem]:
    for name, times in Counter(annotation.file_name for annotation in annotations).items():
        if times > 1:
            yield Problem("duplicate-image", name, f"listed {times} times")
    for names in _by_hash(images).values():
        if len(names) > 1:
            yield Problem("same-picture", names[0], f"the same bytes as {', '.join(names[1:4])}")


def _leaks(ours: ImageFacts, our_names: set[str], theirs: ImageFacts, their_names: set[str]) -> Iterator[Problem]:
    """Images in both splits, by their bytes; by their name where the bytes are not known."""
    for name in sorted(our_names & their_names):
        if name not in ours.sha256 or name not in theirs.sha256:
            yield Problem("leaked-name", name, "both splits have an image of this name")
    other_names = _by_hash(theirs)
    for sha256, names in _by_hash(ours).items():
        for name in names if sha256 in other_names else ():
            yield Problem("leaked-picture", name, f"the other split has it as {', '.join(other_names[sha256][:3])}")


def _by_hash(images: ImageFacts) -> dict[str, list[str]]:
    names = defaultdict(list)
    for name, sha256 in images.sha256.items():
        names[sha256].append(name)
    return names

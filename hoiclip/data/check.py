"""Finds what is wrong with a data set before hours are spent on training with it.

Errors make results wrong or stop training; warnings are worth a look. One pass over the annotations, and one over the
pictures where their folder is known; nothing is changed.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.hoia import UNREADABLE, Problem, parse_hoia
from hoiclip.data.image_file import ImageError, ImageFile
from hoiclip.data.rows import person_label
from hoiclip.data.untrusted import read_json
from hoiclip.errors import DataError
from hoiclip.foreign_file import open_regular
from hoiclip.vocabulary import NO_OBJECT, Vocabulary

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
"""Boxes that must touch 1 or the full width before "none touches 0" is called no accident; see `_one_based`."""

Progress = Callable[[Sequence[str]], Iterable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """What is known of the picture files of a data set."""

    size_wh: Mapping[str, tuple[int, int]]
    sha256: Mapping[str, str]
    problems: Sequence[Problem]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How much was looked at, and what was found."""

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
) -> Report:
    """Looks at one HOI-A JSON file.

    Args:
        images_dir: folder of its pictures; without it pictures are not looked at.
        against: another split that must share no picture with this one.
        against_dir: folder of that split's pictures; the same folder if not given.
        progress: wraps the file names while pictures are read.

    Raises:
        DataError: one of the files cannot be read at all, or the vocabulary has no person.
    """
    annotations, problems = parse_hoia(read_json(path), vocabulary)
    pictures = look(annotations, images_dir, progress)
    problems += pictures.problems
    annotations, mismatches = _sized(annotations, pictures)
    problems += mismatches
    for one in annotations:
        problems += _image_problems(one, vocabulary)
    problems += _one_based(annotations)
    problems += _repeated(annotations, pictures)
    if against is not None:
        others = parse_hoia(read_json(against), vocabulary)[0]
        if not others:
            raise DataError(f"{against} lists no picture that can be compared; expected HOI-A JSON of another split")
        other_pictures = look(others, against_dir or images_dir, progress)
        problems += _leaks(pictures, _names(annotations), other_pictures, _names(others))
    return Report(
        images=len(annotations),
        boxes=sum(len(one.labels) for one in annotations),
        interactions=sum(len(one.interactions) for one in annotations),
        problems=tuple(problems),
    )


def look(annotations: Sequence[ImageAnnotation], folder: Path | None, progress: Progress) -> Pictures:
    """Decodes every picture once; without a folder nothing is known."""
    sizes: dict[str, tuple[int, int]] = {}
    hashes: dict[str, str] = {}
    problems: list[Problem] = []
    annotated = {one.file_name: (one.width_px, one.height_px) for one in annotations} if folder is not None else {}
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
    return Pictures(size_wh=sizes, sha256=hashes, problems=problems)


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    file.seek(0)
    return digest.hexdigest()


def _notes(name: str, image: ImageFile, annotated_wh: tuple[int, int]) -> Iterator[Problem]:
    """Where there is more than one way to read an image: which it is."""
    if image.orientation != 1:
        told = f"EXIF orientation {image.orientation}, "
        if image.as_stored(annotated_wh):
            told += "read as stored, since the annotated size is that of the stored image"
        elif annotated_wh == image.upright_wh != image.stored_wh:
            told += "read upright, as the annotated size is"
        else:
            told += "read upright, as run reads it; the annotation does not tell whether its boxes are, look at them"
        yield Problem("orientation", name, told)
    if image.frames > 1:
        yield Problem("several-images", name, f"{image.frames} images in one file, of which the first is read")


def _sized(annotations: Sequence[ImageAnnotation], pictures: Pictures) -> tuple[list[ImageAnnotation], list[Problem]]:
    """Sizes of the files take the place of what the annotations say of them."""
    sized, problems = [], []
    for one in annotations:
        said = (one.width_px, one.height_px)
        real = pictures.size_wh.get(one.file_name, said)
        if all(said) and said != real:
            detail = f"annotated as {said[0]} x {said[1]}, the file has {real[0]} x {real[1]}"
            problems.append(Problem("size-mismatch", one.file_name, detail))
        sized.append(replace(one, width_px=real[0], height_px=real[1]))
    return sized, problems


def _image_problems(one: ImageAnnotation, vocabulary: Vocabulary) -> Iterator[Problem]:
    if not len(one.interactions):
        yield Problem("empty-image", one.file_name, "no interactions")
    readable = one.labels != UNREADABLE
    x1, y1, x2, y2 = one.boxes_xyxy.T
    for row in np.flatnonzero(readable & ((x2 <= x1) | (y2 <= y1))):
        yield Problem("degenerate-box", one.file_name, f"annotations[{row}].bbox {one.boxes_xyxy[row].tolist()}")
    outside = (x1 < -_OUTSIDE_PX) | (y1 < -_OUTSIDE_PX)
    if one.width_px and one.height_px:
        outside |= (x2 > one.width_px + _OUTSIDE_PX) | (y2 > one.height_px + _OUTSIDE_PX)
    for row in np.flatnonzero(readable & outside):
        size = f"{one.width_px} x {one.height_px}" if one.width_px else "the picture"
        detail = f"annotations[{row}].bbox {one.boxes_xyxy[row].tolist()} leaves {size}"
        yield Problem("box-outside", one.file_name, detail)
    yield from _interaction_problems(one, vocabulary)


def _interaction_problems(one: ImageAnnotation, vocabulary: Vocabulary) -> Iterator[Problem]:
    person, hois = person_label(vocabulary), set(vocabulary.hois)
    boxes = [(*box, label) for box, label in zip(one.boxes_xyxy.tolist(), one.labels.tolist(), strict=True)]
    seen = set()
    for human, thing, verb in one.interactions.tolist():
        label = int(one.labels[thing]) if thing != NO_OBJECT else len(vocabulary.objects)
        if one.labels[human] not in (person, UNREADABLE):
            name = vocabulary.object_name(int(one.labels[human]))
            yield Problem("human-no-person", one.file_name, f"annotations[{human}] acts, but is labelled {name}")
        if label != UNREADABLE and (verb, label) not in hois:
            what = f"{vocabulary.verb_name(verb)} {vocabulary.object_name(label) or 'nothing'}"
            yield Problem("unknown-triplet", one.file_name, f"{what} is no HOI of {vocabulary.name}")
        pair = (boxes[human], boxes[thing] if thing != NO_OBJECT else None, verb)
        if pair in seen:
            detail = f"annotations[{human}] {vocabulary.verb_name(verb)} annotations[{thing}] a second time"
            yield Problem("duplicate-interaction", one.file_name, detail)
        seen.add(pair)


def _one_based(annotations: Sequence[ImageAnnotation]) -> Iterator[Problem]:
    """Whether coordinates count from 1.

    People and things are often cut by the border. Where pixels count from 0, at least every other box at the border has
    a 0 or the like, so that n boxes at 1 or at the full width, and none below 1, happen with probability 2^-n at most.
    """
    boxes = [one.boxes_xyxy[one.labels != UNREADABLE] for one in annotations]
    corners = np.concatenate([np.empty((0, 4), np.float32), *boxes])
    size_wh = np.repeat([(one.width_px, one.height_px) for one in annotations], list(map(len, boxes)), axis=0)
    if not len(corners):
        return
    touching = (corners[:, :2] == 1).sum() + (corners[:, 2:] == size_wh).sum()
    if corners[:, :2].min() >= 1 and touching >= _ONE_BASED_TOUCHES:
        yield Problem(
            "one-based-boxes",
            "all pictures",
            f"no coordinate is below 1, and {touching} are 1 or the full size; subtract 1 from all of them",
        )


def _names(annotations: Iterable[ImageAnnotation]) -> set[str]:
    return {one.file_name for one in annotations}


def _repeated(annotations: Sequence[ImageAnnotation], pictures: Pictures) -> Iterator[Problem]:
    for name, times in Counter(one.file_name for one in annotations).items():
        if times > 1:
            yield Problem("duplicate-image", name, f"listed {times} times")
    for names in _by_hash(pictures).values():
        if len(names) > 1:
            yield Problem("same-picture", names[0], f"the same bytes as {', '.join(names[1:4])}")


def _leaks(ours: Pictures, our_names: set[str], theirs: Pictures, their_names: set[str]) -> Iterator[Problem]:
    """Pictures in both splits: the bytes decide; where they are not known, the name does."""
    for name in sorted(our_names & their_names):
        if name not in ours.sha256 or name not in theirs.sha256:
            yield Problem("leaked-name", name, "both splits have a picture of this name")
    other_names = _by_hash(theirs)
    for sha256, names in _by_hash(ours).items():
        for name in names if sha256 in other_names else ():
            yield Problem("leaked-picture", name, f"the other split has it as {', '.join(other_names[sha256][:3])}")


def _by_hash(pictures: Pictures) -> dict[str, list[str]]:
    names = defaultdict(list)
    for name, sha256 in pictures.sha256.items():
        names[sha256].append(name)
    return names

"""HICO-DET from its original MATLAB file, and from the JSON form that other projects made of it.

Both hold 1-based pixels; one is subtracted from every coordinate, so that the first pixel is 0 (x2, y2 stay the last
pixel inside, as the official evaluation has it). Every HOI of the original has boxes of its own, so the same person may
appear several times, a few pixels apart; only identical boxes become one row.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hoiclip.core import untrusted_values as untrusted
from hoiclip.core.errors import DataError
from hoiclip.core.foreign_file import open_regular
from hoiclip.core.untrusted_values import Box, read_json
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import ImageAnnotation, Rows, person_label
from hoiclip.data.formats.coco import index_of, pair_columns

SPLITS = ("train", "test")
_MAT_HEADER, _MAT_COMPRESSED = 128, 15
_LARGEST_INFLATED = 1 << 29
"""Bytes; of anno_bbox.mat, by its 150,000 pairs, about a third."""


def read_hico_json(path: Path, vocabulary: Vocabulary) -> list[ImageAnnotation]:
    """Reads `instances_train2015.json` or `instances_test2015.json`; images without pairs are kept.

    Raises:
        DataError: the file cannot be read, has another form, or does not agree with itself or the vocabulary.
    """
    data = read_json(path)
    where = "the file"
    try:
        data = untrusted.fields(data, "HICO JSON")
        tables = _tables(data, vocabulary)
        annotations = []
        for name, size, item in pair_columns(data, "filenames", "size", "annotation"):
            where = file_name = untrusted.file_name(name, "filenames")
            rows = _json_rows(untrusted.fields(item, "annotation"), tables)
            if len(untrusted.items(size, "size")) != 2:
                raise ValueError(f"size must be width and height, found {untrusted.shown(size)}")
            annotations.append(rows.annotation(file_name, *(untrusted.size_px(side, "size") for side in size)))
    except ValueError as error:
        raise DataError(f"{path}: {where}: {error}") from error
    return annotations


@dataclass(frozen=True, slots=True)
class _Tables:
    """Maps of the file's own numbers to indices of the vocabulary."""

    labels: list[int]
    verbs: list[int]
    person: int
    hois: dict[int, tuple[int, int]]
    """HOI to (object, verb), all as the file numbers them."""


def _tables(data: dict[str, Any], vocabulary: Vocabulary) -> _Tables:
    hois: dict[int, tuple[int, int]] = {}
    for row in untrusted.items(data.get("correspondence"), "correspondence"):
        if not (isinstance(row, list) and len(row) == 3):
            raise ValueError(f"correspondence must hold HOI, object and verb, found {untrusted.shown(row)}")
        hoi, obj, verb = (untrusted.whole(value, "correspondence") for value in row)
        untrusted.only_once(hoi, hois, "HOI of correspondence")
        hois[hoi] = (obj, verb)
    return _Tables(
        [index_of(n, vocabulary.objects, "objects") for n in untrusted.items(data.get("objects"), "objects")],
        [index_of(n, vocabulary.verbs, "verbs") for n in untrusted.items(data.get("verbs"), "verbs")],
        person_label(vocabulary),
        hois,
    )


def _json_rows(image: dict[str, Any], tables: _Tables) -> Rows:
    rows = Rows()
    for human, other, hoi, obj, verb in pair_columns(image, "boxes_h", "boxes_o", "hoi", "object", "verb"):
        obj = untrusted.index(obj, "object", len(tables.labels))
        verb = untrusted.index(verb, "verb", len(tables.verbs))
        if tables.hois.get(untrusted.whole(hoi, "hoi")) != (obj, verb):
            raise ValueError(f"hoi {hoi} is not the one of object {obj} and verb {verb} in correspondence")
        human_row = rows.row(_zero_based(untrusted.box(human, "boxes_h")), tables.person)
        other_row = rows.row(_zero_based(untrusted.box(other, "boxes_o")), tables.labels[obj])
        rows.interact(human_row, other_row, tables.verbs[verb])
    return rows


def _zero_based(box: Box) -> Box:
    x1, y1, x2, y2 = box
    return x1 - 1, y1 - 1, x2 - 1, y2 - 1


def read_hico_mat(path: Path, vocabulary: Vocabulary, split: str) -> list[ImageAnnotation]:
    """Reads `anno_bbox.mat` of the official release. HOIs marked invisible have no boxes and are left out.

    Args:
        split: "train" or "test".

    Raises:
        DataError: the file cannot be read, has another form, or lists other HOIs than the vocabulary.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    data = _load_mat(path)
    where = "the file"
    try:
        _check_actions(data, vocabulary)
        annotations = []
        for i, image in enumerate(_structs(data.get(f"bbox_{split}"), f"bbox_{split}")):
            where = f"bbox_{split}({i + 1})"
            where = file_name = untrusted.file_name(_field(image, "filename"), "filename")
            annotations.append(_mat_rows(image, vocabulary).annotation(file_name, *_mat_size(image)))
    except ValueError as error:
        raise DataError(f"{path}: {where}: {error}") from error
    return annotations


def _load_mat(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        with open_regular(path) as file:
            _check_inflated(file)
            file.seek(0)
            loaded: dict[str, Any] = loadmat(file, squeeze_me=True, struct_as_record=False, chars_as_strings=True)
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror or error}); expected HICO-DET's anno_bbox.mat") from error
    except Exception as error:  # scipy's reader fails in many ways on damaged files
        raise DataError(f"{path} is no MATLAB file that scipy reads ({error}); expected anno_bbox.mat") from error
    return loaded


def _check_inflated(file: BinaryIO) -> None:
    """Raises ValueError where a MATLAB 5 file decompresses to more than any annotation takes."""
    order = {b"IM": "<", b"MI": ">"}.get(file.read(_MAT_HEADER)[-2:])
    inflated = 0
    while order and len(tag := file.read(8)) == 8:
        kind, size = struct.unpack(f"{order}2I", tag)
        if kind != _MAT_COMPRESSED:
            file.seek(size, os.SEEK_CUR)
            continue
        stream, left = zlib.decompressobj(), size
        while left and (block := file.read(min(left, 1 << 16))):
            left -= len(block)
            while block:
                inflated += len(stream.decompress(block, 1 << 20))
                block = stream.unconsumed_tail
                if inflated > _LARGEST_INFLATED:
                    raise ValueError(f"more than {_LARGEST_INFLATED >> 20} MiB when it is decompressed")


def _structs(value: object, field: str) -> list[Any]:
    """Structs of an array; scipy gives a single struct without an array, no struct as an empty array."""
    found = list(np.atleast_1d(np.asarray(value, object)).ravel())
    if not all(hasattr(struct, "_fieldnames") for struct in found):
        raise ValueError(f"{field} must be a struct array, found {untrusted.shown(value)}")
    return found


def _field(struct: Any, name: str) -> Any:
    if name not in struct._fieldnames:
        raise ValueError(f"expected a field {name}, found {', '.join(struct._fieldnames)}")
    return getattr(struct, name)


def _number(struct: Any, name: str) -> float:
    value = np.asarray(_field(struct, name))
    if value.size != 1 or value.dtype.kind not in "iuf" or not np.isfinite(value).all():
        raise ValueError(f"{name} must be one number, found {untrusted.shown(value.tolist())}")
    return float(value.reshape(()))


def _mat_size(image: Any) -> tuple[int, int]:
    sizes = _structs(_field(image, "size"), "size")
    if len(sizes) != 1:
        raise ValueError(f"size must be one struct, found {len(sizes)}")
    width, height = (untrusted.size_px(_number(sizes[0], name), name) for name in ("width", "height"))
    return width, height


def _check_actions(data: dict[str, Any], vocabulary: Vocabulary) -> None:
    """Checks that list_action, whose positions are HOI ids, lists the vocabulary's HOIs."""
    actions = _structs(data.get("list_action"), "list_action")
    if len(actions) != len(vocabulary.hois):
        raise ValueError(f"list_action must have {len(vocabulary.hois)} HOIs, found {len(actions)}")
    for i, (action, (verb, obj)) in enumerate(zip(actions, vocabulary.hois, strict=True)):
        found = str(_field(action, "vname")), str(_field(action, "nname"))
        if found != (vocabulary.verbs[verb], vocabulary.objects[obj]):
            raise ValueError(f"list_action({i + 1}) is {' '.join(found)}, not the vocabulary's HOI {i + 1}")


def _mat_rows(image: Any, vocabulary: Vocabulary) -> Rows:
    rows, person = Rows(), person_label(vocabulary)
    for hoi in _structs(_field(image, "hoi"), "hoi"):
        number = untrusted.whole(_number(hoi, "id"), "hoi.id")
        if not 1 <= number <= len(vocabulary.hois):
            raise ValueError(f"hoi.id must be 1 to {len(vocabulary.hois)}, found {untrusted.shown(number)}")
        verb, label = vocabulary.hois[number - 1]
        if untrusted.flag(_number(hoi, "invis"), "hoi.invis"):
            continue
        humans, others = _mat_boxes(hoi, "bboxhuman"), _mat_boxes(hoi, "bboxobject")
        for human, other in _connections(hoi, len(humans), len(others)):
            rows.interact(rows.row(humans[human], person), rows.row(others[other], label), verb)
    return rows


def _mat_boxes(hoi: Any, field: str) -> list[Box]:
    """Boxes, read by name: MATLAB's order of fields is x1, x2, y1, y2."""
    boxes = [
        untrusted.box([_number(box, name) for name in ("x1", "y1", "x2", "y2")], field)
        for box in _structs(_field(hoi, field), field)
    ]
    return [_zero_based(box) for box in boxes]


def _connections(hoi: Any, humans: int, others: int) -> Iterator[tuple[int, int]]:
    """1-based pairs of a human and an object."""
    pairs = np.asarray(_field(hoi, "connection"))
    if pairs.size % 2 or pairs.dtype.kind not in "iuf" or not np.isfinite(pairs).all():
        raise ValueError(f"connection must be pairs of numbers, found {untrusted.shown(pairs.tolist())}")
    for human, other in pairs.reshape(-1, 2).tolist():
        yield (
            untrusted.index(human - 1, "connection", humans),
            untrusted.index(other - 1, "connection", others),
        )

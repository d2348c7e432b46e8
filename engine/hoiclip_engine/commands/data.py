"""hoiclip data: what is wrong with a data set, and other people's formats as HOI-A JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.check import KINDS, Report, check
from hoiclip.data.hoia import Problem, write_hoia
from hoiclip.data.untrusted import read_json
from hoiclip.errors import DataError, UsageError
from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.commands.console import messages, progress, results, say, table
from hoiclip_engine.commands.distinct_files import require_distinct
from hoiclip_engine.commands.vocab import find_vocabulary, vocabulary_file

OWN_VOCABULARY = "vocabulary.json"
"""A data set of other labels brings them along under this name."""
_CHALLENGE_OBJECTS, _CHALLENGE_VERBS = ({str(code) for code in range(1, most + 1)} for most in (11, 10))


def check_file(
    path: Path,
    images_dir: Path | None,
    against: Path | None,
    against_dir: Path | None,
    vocabulary: str,
    as_json: bool,
) -> int:
    """Exit code 0 without errors (warnings do not count), else 3."""
    for folder in (images_dir, against_dir):
        if folder is not None and not folder.is_dir():
            raise DataError(f"expected a folder of pictures, found none at {folder}")
    report = check(
        path,
        _vocabulary_of(path, vocabulary),
        images_dir=images_dir,
        against=against,
        against_dir=against_dir,
        progress=_with_bar,
    )
    if as_json:
        say(json.dumps(_as_dict(report)))
    else:
        _print(path, report)
    return DataError.exit_code if report.count("error") else 0


def convert(
    source: Path,
    target: Path,
    form: str,
    instances: Path | None,
    split: str | None,
    vocabulary: str,
    skip_empty: bool,
) -> int:
    """Another format to HOI-A JSON."""
    default = "hico" if form.startswith("hico") else "vcoco"
    chosen = default if vocabulary == "auto" else vocabulary
    require_distinct([source, instances, vocabulary_file(chosen)], [target])
    names = find_vocabulary(chosen)
    annotations = _read(source, form, instances, split, names)
    if skip_empty:
        annotations = [one for one in annotations if len(one.interactions)]
    write_hoia(target, annotations, names)
    interactions = sum(len(one.interactions) for one in annotations)
    messages.print(f"Wrote {target}: {len(annotations)} pictures, {interactions} interactions")
    return 0


def _read(
    source: Path, form: str, instances: Path | None, split: str | None, vocabulary: Vocabulary
) -> list[ImageAnnotation]:
    match form:
        case "hico-mat":
            from hoiclip.data.hico import read_hico_mat

            if split is None:
                raise UsageError("anno_bbox.mat holds two splits; say which: --split train or --split test")
            return read_hico_mat(source, vocabulary, split)
        case "hico-json":
            from hoiclip.data.hico import read_hico_json

            return read_hico_json(source, vocabulary)
        case "vcoco":
            from hoiclip.data.vcoco import read_vsrl

            if instances is None:
                raise UsageError("V-COCO's boxes are COCO's; say where: --instances instances_vcoco_all_2014.json")
            return read_vsrl(source, instances, vocabulary)
        case _:
            from hoiclip.data.coco import read_pairs

            return read_pairs(source, vocabulary, instances)


def _vocabulary_of(path: Path, name: str) -> Vocabulary:
    """By name; or the data set's own; or told by whether interactions carry HOI numbers (HICO) or not (V-COCO).

    Raises:
        UsageError: it may be V-COCO, or of the HOI-A challenge, which counts objects to 11 and verbs to 10.
    """
    own = path.parent / OWN_VOCABULARY
    if name != "auto":
        return find_vocabulary(name)
    if own.is_file():
        return find_vocabulary(str(own))
    data = read_json(path)
    rows = list(_rows(data, "hoi_annotation"))
    if not rows or any("hoi_category_id" in row for row in rows):
        return find_vocabulary("hico")
    verbs, objects = _codes(rows), _codes(_rows(data, "annotations"))
    if verbs <= _CHALLENGE_VERBS and objects <= _CHALLENGE_OBJECTS and all(row.get("object_id") != -1 for row in rows):
        raise UsageError(
            f"{path} names no HOIs, and its numbers may be V-COCO's or those of the HOI-A challenge; say which: "
            "--vocabulary vcoco, or --vocabulary FILE.json with the challenge's (docs/own_vocabulary.md)"
        )
    return find_vocabulary("vcoco")


def _codes(rows: Iterable[dict[str, object]]) -> set[str]:
    """Numbers of their labels, as text: some files write them so."""
    return {str(row.get("category_id")).removesuffix(".0") for row in rows}


def _rows(data: object, field: str) -> Iterator[dict[str, object]]:
    for image in data if isinstance(data, list) else ():
        rows = image.get(field) if isinstance(image, dict) else None
        yield from (row for row in (rows if isinstance(rows, list) else ()) if isinstance(row, dict))


def _with_bar(names: Sequence[str]) -> Iterator[str]:
    with progress() as bar:
        task = bar.add_task("Pictures", total=len(names), rate="")
        for name in names:
            yield name
            bar.advance(task)


def _as_dict(report: Report) -> dict[str, object]:
    return {
        "images": report.images,
        "boxes": report.boxes,
        "interactions": report.interactions,
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "problems": [
            {"severity": KINDS[one.kind], "kind": one.kind, "image": one.image, "detail": one.detail}
            for one in report.problems
        ],
    }


def _print(path: Path, report: Report) -> None:
    first: dict[str, Problem] = {}
    for problem in report.problems:
        first.setdefault(problem.kind, problem)
    times = Counter(problem.kind for problem in report.problems)
    rows = [
        (KINDS[kind], kind, times[kind], f"{first[kind].image}: {first[kind].detail}")
        for kind in KINDS
        if kind in first
    ]
    if rows:
        results.print(table("", ("severity", "kind", "times", "for example"), rows))
    messages.print(
        f"{path}: {report.images} pictures, {report.boxes} boxes, {report.interactions} interactions; "
        f"{report.count('error')} errors, {report.count('warning')} warnings"
    )

"""hoiclip data: checks a dataset, and converts other formats to HOI-A JSON."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hoiclip.core.errors import DataError, UsageError
from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import messages, progress, results, say, table
from hoiclip_engine.cli.distinct_files import require_distinct

if TYPE_CHECKING:
    from hoiclip.core.vocabulary import Vocabulary
    from hoiclip.data.annotations import ImageAnnotation
    from hoiclip.data.check import CheckReport
    from hoiclip.data.formats.hoia import Problem
    from hoiclip.data.formats.tool_export import ToolExport


EXAMPLES = """\
  hoiclip data check annotations.json --images images
  hoiclip data convert anno_bbox.mat --from hico-mat --split train -o train.json
  hoiclip data convert export.json --from label-studio -o mine/annotations.json
  hoiclip data draw --out drawn --images 2000 --set test
  hoiclip data draw --out videos --video 8 --set test
"""
FORMATS = ("hico-mat", "hico-json", "vcoco", "coco-pairs")
TOOL_FORMATS = ("label-studio", "cvat", "coco-attributes")
_VOCABULARY = "hico|vcoco|FILE.json|MODEL"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=options.Parser)
    check = actions.add_parser("check", help="find faults in HOI-A JSON and its images")
    check.add_argument("file", type=Path, metavar="FILE.json")
    check.add_argument("--images", type=Path, metavar="DIR", help="folder of its images")
    check.add_argument("--against", type=Path, metavar="OTHER.json", help="another split, which must share no image")
    check.add_argument("--against-images", type=Path, metavar="DIR", help="its images (default: the same folder)")
    check.add_argument("--vocabulary", default="auto", metavar=_VOCABULARY, help="default: by the file")
    options.add_json(check)
    options.add_log(check)
    convert = actions.add_parser("convert", help="convert other formats into HOI-A JSON")
    convert.add_argument("original", type=Path, metavar="SRC")
    convert.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.json")
    convert.add_argument("--from", dest="form", required=True, choices=(*FORMATS, *TOOL_FORMATS), help="format of SRC")
    convert.add_argument("--instances", type=Path, metavar="COCO.json", help="COCO's boxes (vcoco, coco-pairs)")
    convert.add_argument("--split", choices=("train", "test"), help="part of anno_bbox.mat (hico-mat)")
    convert.add_argument(
        "--vocabulary", default="auto", metavar=_VOCABULARY, help="default: the format's, or vocabulary.json beside OUT"
    )
    convert.add_argument("--skip-empty", action="store_true", help="leave out images without interactions")
    options.add_log(convert)
    draw = actions.add_parser("draw", help="draw synthetic images or videos with their ground truth")
    _add_draw(draw)
    options.add_log(draw)


def _add_draw(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", type=options.positive, metavar="N", help="N images and HOI-A JSON")
    what.add_argument("--video", type=options.positive, metavar="N", help="N videos and JSON lines, schema hoiclip/1")
    parser.add_argument("--seed", type=options.seed, metavar="S", help="default: that of the set")
    parser.add_argument(
        "--size", type=options.size_px, default=(256, 192), metavar="WxH", help="pixels (default: 256x192)"
    )
    parser.add_argument(
        "--set",
        default="train",
        choices=("train", "validation", "test"),
        help="test: the evaluation set (default: train)",
    )
    parser.add_argument(
        "--split", default="default", metavar="NAME", help="zero-shot split: default, rf_uc, nf_uc, uo, uv"
    )
    parser.add_argument(
        "--fraction", type=options.integer, metavar="P", help="first 5, 15, 25, 50 or 100 percent of the training set"
    )
    parser.add_argument("--frequencies", choices=("long_tail", "equal"), help="of the HOIs (default: that of the set)")
    parser.add_argument("--format", default="jpg", choices=("jpg", "png"), help="of images (default: jpg)")
    parser.add_argument(
        "--fps", type=options.real, metavar="F", help="frames a second of a video (default: 25; test set: 12.5)"
    )
    parser.add_argument(
        "--duration", type=options.real, default=10.0, metavar="S", help="seconds of a video (default: 10)"
    )
    parser.add_argument("--uneven", action="store_true", help="frames of a video at irregular times")


def run(args: argparse.Namespace) -> int:
    match args.action:
        case "check":
            return check_file(args.file, args.images, args.against, args.against_images, args.vocabulary, args.json)
        case "draw":
            return _draw(args)
        case _:
            return convert(
                args.original, args.output, args.form, args.instances, args.split, args.vocabulary, args.skip_empty
            )


def _draw(args: argparse.Namespace) -> int:
    from hoiclip.synthetic.fixed_sets import VIDEO_SEEDS
    from hoiclip_engine.cli import draw

    try:
        video = draw.video_config(args.set, args.size, args.fps, args.duration, args.uneven)
        world = draw.world_config(args.set, args.seed, args.split, args.fraction, args.size, args.frequencies)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if args.video is not None:
        if args.seed is None and args.set == "test":
            return draw.draw_test_videos(args.out, args.video, video)
        return draw.draw_videos(args.out, args.video, video, VIDEO_SEEDS[args.set] if args.seed is None else args.seed)
    return draw.draw_images(args.out, args.images, world, f".{args.format}")


_CHALLENGE_OBJECTS, _CHALLENGE_VERBS = ({str(code) for code in range(1, most + 1)} for most in (11, 10))


def check_file(
    path: Path,
    images_dir: Path | None,
    against: Path | None,
    against_dir: Path | None,
    vocabulary: str,
    as_json: bool,
) -> int:
    """Checks a dataset. Exit code 0 without errors (warnings do not count), else 3."""
    from hoiclip.data.check import check

    for folder in (images_dir, against_dir):
        if folder is not None and not folder.is_dir():
            raise DataError(f"expected a folder of images, found none at {folder}")
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
    """Converts another format to HOI-A JSON."""
    from hoiclip.data.formats.hoia import write_hoia
    from hoiclip_engine.cli.vocab import find_vocabulary, vocabulary_file

    chosen = _format_vocabulary(form, target) if vocabulary == "auto" else vocabulary
    require_distinct([source, instances, vocabulary_file(chosen)], [target])
    names = find_vocabulary(chosen)
    export = _read_tool(source, form, names) if form in TOOL_FORMATS else None
    annotations = export.annotations if export else _read(source, form, instances, split, names)
    if skip_empty:
        annotations = [annotation for annotation in annotations if len(annotation.interactions)]
    write_hoia(target, annotations, names)
    messages.print(f"Wrote {target}: {_counts(annotations)}")
    for note, times in sorted(export.notes.items()) if export else ():
        if times:
            messages.print(f"{note}: {times}")
    return 0


def _format_vocabulary(form: str, target: Path) -> str:
    """The vocabulary of a format; that of annotation tools is a file beside the output, where data check finds it.

    Raises:
        UsageError: there is no such file.
    """
    from hoiclip.core.vocabulary import OWN_VOCABULARY

    if form not in TOOL_FORMATS:
        return "hico" if form.startswith("hico") else "vcoco"
    own = target.parent / OWN_VOCABULARY
    if not own.is_file():
        raise UsageError(
            f"labels and verbs of {form} need a vocabulary, and there is no {own}; write one (docs/own_vocabulary.md), "
            f"or say which: --vocabulary {_VOCABULARY}"
        )
    return str(own)


def _counts(annotations: Sequence[ImageAnnotation]) -> str:
    boxes = sum(len(annotation.labels) for annotation in annotations)
    pairs = sum(len({(human, obj) for human, obj, _ in image.interactions.tolist()}) for image in annotations)
    interactions = sum(len(annotation.interactions) for annotation in annotations)
    return f"{len(annotations)} images, {boxes} boxes, {pairs} pairs, {interactions} interactions"


def _read_tool(source: Path, form: str, vocabulary: Vocabulary) -> ToolExport:
    match form:
        case "label-studio":
            from hoiclip.data.formats.label_studio import read_label_studio

            return read_label_studio(source, vocabulary)
        case "cvat":
            from hoiclip.data.formats.cvat import read_cvat

            return read_cvat(source, vocabulary)
        case _:
            from hoiclip.data.formats.coco_attributes import read_coco_attributes

            return read_coco_attributes(source, vocabulary)


def _read(
    source: Path, form: str, instances: Path | None, split: str | None, vocabulary: Vocabulary
) -> list[ImageAnnotation]:
    match form:
        case "hico-mat":
            from hoiclip.data.formats.hico import read_hico_mat

            if split is None:
                raise UsageError("anno_bbox.mat holds two splits; say which: --split train or --split test")
            return read_hico_mat(source, vocabulary, split)
        case "hico-json":
            from hoiclip.data.formats.hico import read_hico_json

            return read_hico_json(source, vocabulary)
        case "vcoco":
            from hoiclip.data.formats.vcoco import read_vsrl

            if instances is None:
                raise UsageError("V-COCO's boxes are COCO's; say where: --instances instances_vcoco_all_2014.json")
            return read_vsrl(source, instances, vocabulary)
        case _:
            from hoiclip.data.formats.coco import read_pairs

            return read_pairs(source, vocabulary, instances)


def _vocabulary_of(path: Path, name: str) -> Vocabulary:
    """A vocabulary by name, or the dataset's own, or HICO's where interactions carry HOI numbers, else V-COCO's.

    Raises:
        UsageError: it may be V-COCO, or of the HOI-A challenge, which counts objects to 11 and verbs to 10.
    """
    from hoiclip.core.untrusted_values import read_json
    from hoiclip.core.vocabulary import OWN_VOCABULARY
    from hoiclip_engine.cli.vocab import find_vocabulary

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
        task = bar.add_task("Images", total=len(names), rate="")
        for name in names:
            yield name
            bar.advance(task)


def _as_dict(report: CheckReport) -> dict[str, object]:
    from hoiclip.data.check import KINDS

    return {
        "images": report.images,
        "boxes": report.boxes,
        "interactions": report.interactions,
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "problems": [
            {"severity": KINDS[problem.kind], "kind": problem.kind, "image": problem.image, "detail": problem.detail}
            for problem in report.problems
        ],
    }


def _print(path: Path, report: CheckReport) -> None:
    from hoiclip.data.check import KINDS

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
        f"{path}: {report.images} images, {report.boxes} boxes, {report.interactions} interactions; "
        f"{report.count('error')} errors, {report.count('warning')} warnings"
    )

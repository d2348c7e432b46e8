"""The command line's grammar: commands, options and what values they take."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import NoReturn

from hoiclip import __version__
from hoiclip_engine.printable import one_line

BACKENDS = ("auto", "torch", "openvino", "onnxruntime", "tensorrt", "tensorrt-rtx")
DATA_FORMATS = ("hico-mat", "hico-json", "vcoco", "coco-pairs")
MOST, MOST_REAL = 999_999_999, 1e9
MOST_AT_ONCE = 1024
"""Processes, streams, images of a batch."""
LARGEST_SIDE_PX = 16_384
_LONGEST_MESSAGE = 400
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line instead of argparse's usage block; a URL in the wrong place keeps its password to itself."""
        from hoiclip_engine.video.redact import redact

        line = re.sub(r"[A-Za-z][\w+.\-]+:/.*", lambda url: redact(url[0]), one_line(message))
        if len(line) > _LONGEST_MESSAGE:
            line = f"{line[:_LONGEST_MESSAGE]}..."
        self.exit(2, f"hoiclip: {line}; see {self.prog} --help\n")


def _size_px(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT."""
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text, re.ASCII)
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 < max(width, height) <= LARGEST_SIDE_PX:
        raise argparse.ArgumentTypeError(
            f"expected WIDTHxHEIGHT in pixels up to {LARGEST_SIDE_PX}, such as 256x192, got {text!r:.40}"
        )
    return width, height


def _size_or_dynamic(text: str) -> tuple[int, int] | None:
    """WIDTHxHEIGHT, or None for any."""
    return None if text == "dynamic" else _size_px(text)


def _batch(text: str) -> int | None:
    """A number of pictures, or None for any."""
    return None if text == "dynamic" else _few(text)


def _seed(text: str) -> int:
    return _int(text, 0)


def _count(text: str) -> int:
    """At least one."""
    return _int(text, 1)


def _few(text: str) -> int:
    """Things that are there at the same time."""
    return _int(text, 1, MOST_AT_ONCE)


def _workers(text: str) -> int:
    """Processes besides this one."""
    return _int(text, 0, MOST_AT_ONCE)


def _int(text: str, least: int = -MOST, most: int = MOST) -> int:
    """A whole number; what makes no sense to a command, it refuses itself."""
    if not re.fullmatch(r"[+-]?\d{1,9}", text, re.ASCII) or not least <= int(text) <= most:
        start = "expected a whole number"
        span = f" from {least} on" if most == MOST and least >= 0 else f" from {least} to {most}"
        raise argparse.ArgumentTypeError(f"{start}{span}, got {text!r:.40}")
    return int(text)


def _real(text: str) -> float:
    """A number that can be computed with: no NaN, nothing infinite, no more seconds than a century has."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= MOST_REAL:
        raise argparse.ArgumentTypeError(f"expected a number up to {MOST_REAL:g}, got {text!r:.40}")
    return value


def _every(text: str) -> int | str:
    """--detect-every."""
    try:
        return text if text == "auto" else _int(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"expected a whole number or auto, got {text!r:.40}") from None


def _percent(text: str) -> float:
    """A share of one."""
    if not re.fullmatch(r"\d{1,4}(\.\d{1,6})?%?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"expected percent such as 10%, got {text!r:.40}")
    return float(text.rstrip("%")) / 100


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="hoiclip", description="Human-object interactions in video: who does what with which thing.")
    parser.add_argument("--version", action="version", version=f"hoiclip {__version__}")
    common = Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    _add_run(commands.add_parser("run", parents=[common], help="find and track interactions in a video file"))
    _add_archive(
        commands.add_parser("archive", parents=[common], help="find and track in many files, by many processes")
    )
    _add_demo(commands.add_parser("demo", parents=[common], help="draw a clip and run on it"))
    _add_models(commands.add_parser("models", help="list, look into, import and check models"), common)
    _add_vocab(commands.add_parser("vocab", help="show vocabularies, build text rows"), common)
    measure = commands.add_parser("eval", parents=[common], help="measure a model on annotated pictures and films")
    _add_eval(measure, common)
    _add_data(commands.add_parser("data", help="check and convert data sets"), common)
    _add_export(commands.add_parser("export", parents=[common], help="write a model as ONNX graphs"))
    _add_build(commands.add_parser("build", parents=[common], help="make and check a faster form of a model"))
    _add_bench(commands.add_parser("bench", parents=[common], help="time model and pipeline, compare with a report"))
    _add_train(commands.add_parser("train", parents=[common], help="train a model by a recipe, or go on with it"))
    doctor = commands.add_parser("doctor", parents=[common], help="what is installed and what auto would take")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_run(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "source",
        nargs="+",
        metavar="SRC",
        help="video or picture file, folder, glob, list (.txt), -, camera (0) or stream (rtsp://, http://, ...)",
    )
    _add_outputs(p)
    p.add_argument(
        "--model", default="drawn", metavar="NAME|FILE|DIR", help="name, file or folder of export (default: drawn)"
    )
    p.add_argument("--backend", default="auto", choices=BACKENDS)
    p.add_argument("--precision", default="auto", choices=PRECISIONS)
    p.add_argument(
        "--policy",
        default="auto",
        choices=("auto", "lossless", "latest"),
        help="every frame (files), or the newest one, never behind (live; plays a file in real time)",
    )
    p.add_argument(
        "--detect-every",
        default=1,
        type=_every,
        metavar="auto|N",
        help="look at every Nth frame; auto: live, whenever the model is free",
    )
    p.add_argument(
        "--batch",
        default=1,
        type=_few,
        metavar="N",
        help="look at N sources together, where the backend can",
    )
    p.add_argument("--min-score", type=_real, metavar="X", help="show pairs from this score on")
    p.add_argument("--camera-motion", action="store_true", help="follow a camera that shakes or turns quickly")
    p.add_argument("--short-side", type=_int, metavar="PX", help="size to look at; default: what the model learned")
    p.add_argument("--start", type=_real, default=0.0, metavar="S", help="seconds after the first frame")
    p.add_argument("--duration", type=_real, metavar="S", help="seconds from the start on")
    p.add_argument("--max-frames", type=_int, metavar="N")
    p.add_argument("--transport", default="tcp", choices=("tcp", "udp"), help="of RTSP (default: tcp)")
    p.add_argument(
        "--timeout", type=_real, default=5.0, metavar="S", help="seconds without data until a stream counts as lost"
    )
    p.add_argument("--hwaccel", default="none", choices=("auto", "cuda", "none"), help="what decodes (default: none)")


def _add_archive(p: argparse.ArgumentParser) -> None:
    p.add_argument("source", nargs="+", metavar="SRC", help="video or picture file, folder, glob or list (.txt)")
    p.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="results; one that was begun goes on")
    p.add_argument("--model", default="drawn", metavar="NAME|FILE", help="model name or file (default: drawn)")
    p.add_argument("--backend", default="auto", choices=BACKENDS)
    p.add_argument("--precision", default="auto", choices=PRECISIONS)
    p.add_argument("--short-side", type=_int, metavar="PX", help="size to look at; default: what the model learned")
    p.add_argument("--detect-every", default=1, type=_count, metavar="N", help="look at every Nth frame")
    p.add_argument("--min-score", type=_real, metavar="X", help="show pairs from this score on")
    p.add_argument("--workers", type=_few, metavar="N", help="processes; default: one per GPU or four processors")
    p.add_argument(
        "--segment-seconds", type=_real, default=60.0, metavar="S", help="length of the parts of a file (default: 60)"
    )
    p.add_argument("--hwaccel", default="none", choices=("auto", "cuda", "none"), help="what decodes (default: none)")
    p.add_argument("--retry-failed", action="store_true", help="try files again that failed before")
    p.add_argument("--ray-address", metavar="HOST:PORT", help="a Ray cluster to use; default: one of its own, here")


def _add_outputs(p: argparse.ArgumentParser) -> None:
    files = p.add_argument_group("outputs", "files; with several sources, folders of a file for each")
    files.add_argument(
        "-o", "--output", metavar="OUT.mp4|URL", help="annotated video; or rtmp://, rtsp://, udp://, tcp://"
    )
    files.add_argument("--jsonl", metavar="PATH|-", help="every pair of every frame as JSON lines, schema hoiclip/1")
    files.add_argument("--csv", type=Path, metavar="PATH", help="a row per pair, frame and verb")
    files.add_argument("--mot", type=Path, metavar="PATH", help="MOTChallenge text")
    files.add_argument("--vtt", type=Path, metavar="PATH", help="interactions as WebVTT cues")
    files.add_argument("--coco", type=Path, metavar="PATH", help="humans and objects with their tracks as COCO JSON")
    files.add_argument("--hico", type=Path, metavar="DIR", help="detections as HICO-DET's evaluation reads them")
    files.add_argument("--webhook", metavar="URL", help="post events there; token in HOICLIP_WEBHOOK_TOKEN")
    files.add_argument("--live", metavar="HOST:PORT", help="a page to watch, with metrics (default host: 127.0.0.1)")
    files.add_argument("--live-token", metavar="TOKEN", help="better in HOICLIP_LIVE_TOKEN, which others cannot list")


def _add_export(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", metavar="NAME|FILE")
    _add_where(p)
    p.add_argument(
        "--size", default=None, type=_size_or_dynamic, metavar="WxH|dynamic", help="canvas (default: dynamic)"
    )
    p.add_argument("--batch", default=1, type=_batch, metavar="N|dynamic", help="pictures at once (default: 1)")
    p.add_argument(
        "--attention", default="plain", choices=("plain", "plugin"), help="plugin: one node for our TensorRT plugin"
    )
    p.add_argument("--opset", type=_int, default=20, choices=(19, 20))
    p.add_argument("--split", action="store_true", help="three graphs: detector, CLIP, interaction")
    p.add_argument("--with-model", action="store_true", help="the model file too: run --model DIR then needs no torch")
    p.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "int8"))
    p.add_argument("--for", dest="target", default="tensorrt", choices=("tensorrt", "openvino"), help="who will run it")
    _add_calibration(p)


def _add_where(p: argparse.ArgumentParser) -> None:
    where = p.add_mutually_exclusive_group(required=True)
    where.add_argument("-o", "--out", type=Path, metavar="DIR")
    where.add_argument("--triton-repo", type=Path, metavar="DIR", help="as models of Triton Inference Server")
    p.add_argument(
        "--triton-backend",
        choices=("onnxruntime", "tensorrt", "python"),
        help="what computes the graph there (default: onnxruntime)",
    )


def _add_calibration(p: argparse.ArgumentParser) -> None:
    p.add_argument("--calibrate", metavar="SRC", help="video, picture or folder of them to find scales on")
    p.add_argument("--calibration-pictures", type=_count, default=300, metavar="N")
    p.add_argument("--seed", type=_seed, default=0, help="of the choice of pictures")


def _add_build(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", metavar="NAME|FILE")
    p.add_argument("--backend", default="auto", choices=BACKENDS)
    p.add_argument("--precision", default="auto", choices=PRECISIONS, help="default: the fastest here")
    _add_calibration(p)
    p.add_argument("--short-side", type=_int, metavar="PX", help="size to check at; default: what the model learned")
    p.add_argument("--data", type=Path, metavar="FILE.json", help="annotations to measure mAP on, in HOI-A JSON")
    p.add_argument("--images", type=Path, metavar="DIR", help="folder of their pictures")
    p.add_argument("--gate-pictures", type=_count, metavar="N", help="of the benchmark; default: all")
    p.add_argument("--if-missing", action="store_true", help="do nothing where a run would take one that is there")
    p.add_argument("--force", action="store_true", help="keep it even if it loses too much; it says so")


def _add_bench(p: argparse.ArgumentParser) -> None:
    p.add_argument("source", nargs="*", metavar="SRC", help="films, folders, lists; default: films drawn for it")
    p.add_argument("--subject", default="both", choices=("model", "pipeline", "both"))
    p.add_argument(
        "--load",
        default="closed",
        choices=("closed", "open", "offline"),
        help="one query after the other; frames at a pace; a file as fast as it goes",
    )
    p.add_argument("--streams", type=_few, metavar="N", help="at once (default: one for each SRC)")
    p.add_argument("--fps", type=_real, metavar="F", help="frames a second of each stream (open; default: the film's)")
    p.add_argument("--times-rate", type=_real, metavar="X", help="instead: X times the rate of the closed load (open)")
    p.add_argument("--duration", type=_real, default=20.0, metavar="S", help="seconds to measure (default: 20)")
    p.add_argument("--blocks", type=_count, metavar="N", help="parts of them (default: 10 a second if closed, else 20)")
    p.add_argument("--cold-starts", type=_int, default=1, metavar="N", help="fresh processes to time (default: 1)")
    p.add_argument("--accuracy", type=_count, default=0, metavar="N", help="measure mAP on N annotated pictures")
    p.add_argument("--data", type=Path, metavar="FILE.json", help="their annotations, in HOI-A JSON (default: drawn)")
    p.add_argument("--images", type=Path, metavar="DIR", help="folder of their pictures")
    p.add_argument("--model", default="drawn", metavar="NAME|FILE", help="model name or file (default: drawn)")
    p.add_argument("--backend", default="auto", choices=BACKENDS)
    p.add_argument("--precision", default="auto", choices=PRECISIONS)
    p.add_argument("--short-side", type=_int, metavar="PX", help="size to look at; default: what the model learned")
    p.add_argument("--json", metavar="PATH|-", help="reports as JSON lines, schema hoiclip-bench/1, samples included")
    p.add_argument("--markdown", metavar="PATH|-", help="reports as tables (default: standard output)")
    p.add_argument("--plot", type=Path, metavar="PATH.png", help="latency over time, and its distribution")
    gate = p.add_argument_group("gate", "exit code 6 where this run is slower than a base by more than it may be")
    gate.add_argument("--compare", type=Path, metavar="BASE.json", help="what --json wrote before, on this machine")
    gate.add_argument(
        "--fail-on",
        action="append",
        default=[],
        metavar="METRIC:+N%",
        help="p50, p90, p99, mean: +N%%; throughput: -N%%; several may be named",
    )
    gate.add_argument(
        "--inject-slowdown", type=_percent, default=0.0, metavar="N%", help="make looks longer, to try the gate out"
    )


def _add_train(p: argparse.ArgumentParser) -> None:
    p.add_argument("recipe", type=Path, metavar="RECIPE.toml")
    p.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the run; an interrupted one goes on"
    )
    p.add_argument("--workers", type=_workers, default=1, metavar="N", help="processes that make samples (default: 1)")
    p.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="change the recipe")


def _add_demo(p: argparse.ArgumentParser) -> None:
    p.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="folder for the results")
    p.add_argument("--backend", default="auto", choices=BACKENDS)


def _add_eval(p: argparse.ArgumentParser, common: Parser) -> None:
    actions = p.add_subparsers(dest="action", metavar="video", parser_class=Parser)
    video = actions.add_parser("video", parents=[common], help="identities, verbs over time, trajectories of films")
    video.add_argument("films", type=Path, nargs="?", metavar="DIR", help="films with their truth, a.mp4 and a.jsonl")
    video.add_argument("--mot", type=Path, metavar="GT.txt", help="truth in MOTChallenge text instead of films")
    video.add_argument(
        "--results",
        type=Path,
        metavar="DIR|FILE",
        help="what was found, JSON lines or MOT text; default: run the model",
    )
    video.add_argument("--model", default="drawn", metavar="NAME|FILE", help="model name or file (default: drawn)")
    video.add_argument("--backend", default="auto", choices=BACKENDS)
    video.add_argument("--precision", default="auto", choices=PRECISIONS)
    video.add_argument("--detect-every", default=1, type=_every, metavar="auto|N", help="look at every Nth frame")
    video.add_argument("--json", metavar="PATH|-", help="all numbers as JSON")
    video.add_argument(
        "--report", type=Path, metavar="DIR", help="HTML page: why pairs are missed, event timelines, worst frames"
    )
    p.add_argument("--model", default="drawn", metavar="NAME|FILE", help="model name or file (default: drawn)")
    p.add_argument("--data", type=Path, metavar="FILE.json", help="annotations in HOI-A JSON")
    p.add_argument("--images", type=Path, metavar="DIR", help="folder of the pictures")
    p.add_argument("--films", type=Path, metavar="DIR", help="films with their truth beside them, a.mp4 and a.jsonl")
    p.add_argument("--metric", default="auto", choices=("auto", "hico", "hico-ko", "vcoco", "vcoco-official"))
    p.add_argument("--official", action="store_true", help="count as the official code does, quirks included")
    p.add_argument("--enhance", type=_int, metavar="K", help="training-free enhancement with the K nearest HOIs")
    p.add_argument("--split", nargs="+", default=[], metavar="NAME|FILE.json", help="e.g. rare_first (default: rare)")
    p.add_argument("--prior", type=Path, metavar="FILE.npy", help="V-COCO: factors on verbs given the object")
    p.add_argument("--report", type=Path, metavar="DIR", help="HTML page: why pairs are missed, worst images, JSON")
    p.add_argument("--json", metavar="PATH|-", help="all numbers as JSON")
    p.add_argument("--export", type=Path, metavar="DIR", help="detections in the official format")
    p.add_argument("--backend", default="auto", choices=BACKENDS)
    p.add_argument("--short-side", type=_int, metavar="PX", help="size to look at; default: what the model learned")
    p.add_argument("--max-images", type=_int, metavar="N")


def _add_models(p: argparse.ArgumentParser, common: Parser) -> None:
    actions = p.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=Parser)
    actions.add_parser("list", parents=[common], help="models with a name")
    info = actions.add_parser("info", parents=[common], help="what is in a model file")
    info.add_argument("model", metavar="NAME|FILE")
    info.add_argument("--json", action="store_true", help="print JSON")
    imported = actions.add_parser("import", parents=[common], help="make a model file of an official checkpoint")
    imported.add_argument("checkpoint", type=Path, metavar="CKPT.pth")
    imported.add_argument("-o", "--output", type=Path, required=True, metavar="X.safetensors")
    imported.add_argument("--labels", choices=("hico", "vcoco"), help="default: told by the number of classes")
    verify = actions.add_parser("verify", parents=[common], help="check that a model file is whole")
    verify.add_argument("model", metavar="NAME|FILE")


def _add_vocab(p: argparse.ArgumentParser, common: Parser) -> None:
    actions = p.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=Parser)
    show = actions.add_parser("show", parents=[common], help="interactions and prompts of a vocabulary")
    show.add_argument("name", metavar="hico|vcoco|FILE.json|MODEL")
    show.add_argument("--json", action="store_true", help="print JSON")
    build = actions.add_parser("build", parents=[common], help="prompts to text rows, by CLIP's text tower")
    build.add_argument("name", metavar="hico|vcoco|FILE.json|MODEL")
    build.add_argument("-o", "--output", type=Path, required=True, metavar="ROWS.safetensors")
    build.add_argument("--clip", default="ViT-B-32-quickgelu", metavar="NAME", help="open_clip's model name")
    build.add_argument(
        "--weights", default="openai", metavar="FILE|TAG", help="local CLIP weights, or what open_clip downloads"
    )


def _add_data(p: argparse.ArgumentParser, common: Parser) -> None:
    actions = p.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=Parser)
    check = actions.add_parser("check", parents=[common], help="find what is wrong with HOI-A JSON and its pictures")
    check.add_argument("file", type=Path, metavar="FILE.json")
    check.add_argument("--images", type=Path, metavar="DIR", help="folder of its pictures")
    check.add_argument("--against", type=Path, metavar="OTHER.json", help="another split, which must share no picture")
    check.add_argument("--against-images", type=Path, metavar="DIR", help="its pictures (default: the same folder)")
    check.add_argument(
        "--vocabulary", default="auto", metavar="hico|vcoco|FILE.json|MODEL", help="default: told by file"
    )
    check.add_argument("--json", action="store_true", help="print JSON")
    convert = actions.add_parser("convert", parents=[common], help="other formats to HOI-A JSON")
    convert.add_argument("original", type=Path, metavar="SRC")
    convert.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.json")
    convert.add_argument("--from", dest="form", required=True, choices=DATA_FORMATS, help="format of SRC")
    convert.add_argument("--instances", type=Path, metavar="COCO.json", help="COCO's boxes (vcoco, coco-pairs)")
    convert.add_argument("--split", choices=("train", "test"), help="which part of anno_bbox.mat (hico-mat)")
    convert.add_argument(
        "--vocabulary", default="auto", metavar="hico|vcoco|FILE.json|MODEL", help="default: the format's"
    )
    convert.add_argument("--skip-empty", action="store_true", help="leave out pictures without interactions")
    _add_draw(actions.add_parser("draw", parents=[common], help="draw pictures or films with their ground truth"))


def _add_draw(p: argparse.ArgumentParser) -> None:
    p.add_argument("--out", type=Path, required=True, metavar="DIR")
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", type=_count, metavar="N", help="pictures and HOI-A JSON")
    what.add_argument("--video", type=_count, metavar="N", help="films and JSON lines, schema hoiclip/1")
    p.add_argument("--seed", type=_seed, metavar="S", help="default: that of the set")
    p.add_argument("--size", type=_size_px, default=(256, 192), metavar="WxH", help="pixels (default: 256x192)")
    p.add_argument("--set", default="train", choices=("train", "validation", "test"), help="test: what is evaluated on")
    p.add_argument("--split", default="default", metavar="NAME", help="default, rf_uc, nf_uc, uo, uv: pairs left out")
    p.add_argument("--fraction", type=_int, metavar="P", help="first 5, 15, 25, 50 or 100 percent of the training set")
    p.add_argument("--frequencies", choices=("long_tail", "equal"), help="default: that of the set")
    p.add_argument("--format", default="jpg", choices=("jpg", "png"))
    p.add_argument("--fps", type=_real, metavar="F", help="frames a second of a film (default: 25; test set: 12.5)")
    p.add_argument("--duration", type=_real, default=10.0, metavar="S", help="length of a film")
    p.add_argument("--uneven", action="store_true", help="frames of a film at irregular times")

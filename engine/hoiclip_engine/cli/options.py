"""Parser, value types and the option groups that commands share. Imports nothing heavy: `--help` must be quick."""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hoiclip.core.errors import UsageError
from hoiclip.core.printable import one_line
from hoiclip.core.wall_time import read_time
from hoiclip_engine.backends.base import BACKENDS, PRECISIONS

if TYPE_CHECKING:
    from hoiclip_engine.events.rules import RuleSet
    from hoiclip_engine.track.pair_tracker import TrackConfig

LARGEST_INT, LARGEST_REAL = 999_999_999, 1e9
LARGEST_CONCURRENCY = 1024
"""Processes, streams, images of a batch."""
LARGEST_SIDE_PX = 16_384
_LONGEST_MESSAGE = 400


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line, and examples printed as they are written."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        if examples:
            kwargs["epilog"] = f"examples:\n{examples.rstrip()}"
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """One line instead of argparse's usage block; a URL in the wrong place keeps its password to itself."""
        from hoiclip_engine.sources.uri import redact

        line = re.sub(r"[A-Za-z][\w+.\-]+:/.*", lambda url: redact(url[0]), one_line(message))
        if len(line) > _LONGEST_MESSAGE:
            line = f"{line[:_LONGEST_MESSAGE]}..."
        self.exit(2, f"hoiclip: {line}; see {self.prog} --help\n")


def size_px(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT."""
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text, re.ASCII)
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 < max(width, height) <= LARGEST_SIDE_PX:
        raise argparse.ArgumentTypeError(
            f"expected WIDTHxHEIGHT in pixels up to {LARGEST_SIDE_PX}, such as 256x192, got {text!r:.40}"
        )
    return width, height


def size_or_dynamic(text: str) -> tuple[int, int] | None:
    """WIDTHxHEIGHT, or None for any."""
    return None if text == "dynamic" else size_px(text)


def batch_or_dynamic(text: str) -> int | None:
    """A number of images, or None for any."""
    return None if text == "dynamic" else concurrency(text)


def seed(text: str) -> int:
    return integer(text, 0)


def positive(text: str) -> int:
    """At least one."""
    return integer(text, 1)


def concurrency(text: str) -> int:
    """A number of processes, streams or images at a time."""
    return integer(text, 1, LARGEST_CONCURRENCY)


def workers(text: str) -> int:
    """Processes besides this one."""
    return integer(text, 0, LARGEST_CONCURRENCY)


def integer(text: str, least: int = -LARGEST_INT, most: int = LARGEST_INT) -> int:
    """A whole number; a command refuses what makes no sense to it."""
    if not re.fullmatch(r"[+-]?\d{1,9}", text, re.ASCII) or not least <= int(text) <= most:
        start = "expected a whole number"
        span = f" from {least} on" if most == LARGEST_INT and least >= 0 else f" from {least} to {most}"
        raise argparse.ArgumentTypeError(f"{start}{span}, got {text!r:.40}")
    return int(text)


def real(text: str) -> float:
    """A finite number, and no more seconds than a century has."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST_REAL:
        raise argparse.ArgumentTypeError(f"expected a number up to {LARGEST_REAL:g}, got {text!r:.40}")
    return value


def moment(text: str) -> datetime:
    """Date and time of day, with or without a time zone."""
    try:
        return read_time(text)
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"expected a time such as 2026-01-31T08:00, got {text!r:.40}") from None


_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_557_600}


def age(text: str) -> float:
    """A duration such as 90s, 30m, 2h, 7d, 4w or 1y, in seconds."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smhdwy])", text, re.ASCII)
    if found is None or not float(found[1]):
        raise argparse.ArgumentTypeError(f"expected a duration such as 30m, 2h or 7d, got {text!r:.40}")
    return float(found[1]) * _UNITS_S[found[2]]


def add_detect_every(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--detect-every",
        default=1,
        type=every_nth,
        metavar="auto|N",
        help="detect in every Nth frame (default: 1); auto: in frames that show a change",
    )


def add_clip_every(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--clip-every",
        default=1,
        type=every_nth,
        metavar="auto|N",
        help="CLIP sees every Nth inferred frame (default: 1); auto: where the scene changes",
    )


def add_whole_every(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--whole-every",
        default=1,
        type=integer,
        metavar="N",
        help="see the whole frame in every Nth inference (default: 1), in the others the region where something "
        "happens, larger",
    )


def every_nth(text: str) -> int | str:
    """N or auto; StreamConfig refuses numbers below 1."""
    try:
        return text if text == "auto" else integer(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"expected a whole number or auto, got {text!r:.40}") from None


def percent(text: str) -> float:
    """A fraction of one."""
    if not re.fullmatch(r"\d{1,4}(\.\d{1,6})?%?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"expected percent such as 10%, got {text!r:.40}")
    return float(text.rstrip("%")) / 100


def byte_size(text: str) -> int:
    """A number of bytes: 500MB, 1GB (of 10^9), 2GiB (of 2^30), or plain."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([kKMGT]?)(i?)B|(\d{1,18})", text, re.ASCII)
    if found is None or (found[3] and not found[2]):
        raise argparse.ArgumentTypeError(f"expected a size such as 500MB, 1GB or 2GiB, got {text!r:.40}")
    if found[4]:
        return int(found[4])
    step, prefix = 1024 if found[3] else 1000, " KMGT".index(found[2].upper() or " ")
    return round(float(found[1]) * float(step) ** prefix)


def add_log(parser: argparse.ArgumentParser) -> None:
    """Options of the messages on standard error, which every command has."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        "--log-format", default="text", choices=("text", "json"), help="messages as text (default) or as JSON lines"
    )
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="least level of messages (default: reports of the command, and warnings)",
    )


def add_model(parser: argparse.ArgumentParser, *, folders: bool = False) -> None:
    """--model, by default the bundled one, and --vocabulary.

    Args:
        folders: an exported folder will do too.
    """
    if folders:
        metavar, what = "NAME|FILE|DIR", "model name, file or exported folder"
    else:
        metavar, what = "NAME|FILE", "model name or file"
    parser.add_argument("--model", default="drawn", metavar=metavar, help=f"{what} (default: drawn)")
    add_vocabulary(parser)


def add_vocabulary(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--vocabulary",
        metavar="FILE",
        help="other words for the model, without training: a vocabulary (.json), or its text embeddings (.safetensors)",
    )


FASTEST_BUILD = "the fastest that hoiclip build made and passed here, else fp32"


def add_backend(
    parser: argparse.ArgumentParser,
    *,
    precision: bool = True,
    default_precision: str = FASTEST_BUILD,
    several: bool = False,
) -> None:
    """--backend and --precision.

    Args:
        default_precision: meaning of "auto".
        several: whether "all" may be asked for.
    """
    parser.add_argument(
        "--backend",
        default="auto",
        choices=("auto", *(("all",) if several else ()), *BACKENDS),
        help="inference backend, or all that run here (default: the first by rank)"
        if several
        else "inference backend (default: the fastest measured by hoiclip build, else the first by rank)",
    )
    if precision:
        parser.add_argument(
            "--precision",
            default="auto",
            choices=("auto", *PRECISIONS),
            help=f"default: {default_precision}",
        )


def add_short_side(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--short-side", type=integer, metavar="PX", help="inference short side (default: training size)"
    )


def add_calibration(parser: argparse.ArgumentParser) -> None:
    """Where the images of a calibration come from."""
    parser.add_argument("--calibrate", metavar="SRC", help="video, image or folder of them to calibrate on")
    parser.add_argument(
        "--calibration-pictures",
        dest="calibration_images",
        type=positive,
        default=300,
        metavar="N",
        help="images to calibrate with (default: 300)",
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="of the choice of images (default: 0)")


def add_hwaccel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hwaccel", default="none", choices=("auto", "cuda", "none"), help="video decoding hardware (default: none)"
    )


def add_rules(parser: argparse.ArgumentParser) -> None:
    rules = parser.add_argument_group("rules", "which interactions are worth a hit, where and for how long")
    rules.add_argument("--rules", type=Path, metavar="FILE.toml", help="rules whose hits are reported (docs/rules.md)")
    rules.add_argument(
        "--clock",
        type=moment,
        metavar="TIME",
        help="time of day at second 0 of a file, for schedules of rules, such as 2026-01-31T08:00",
    )


def rules_of(args: argparse.Namespace) -> RuleSet | None:
    """Rules of the options of `add_rules`; their words are not checked yet.

    Raises:
        UsageError: --clock without rules, or a rule that makes no sense.
    """
    if args.rules:
        from hoiclip_engine.events.rules import read_rules

        return read_rules(args.rules)
    if args.clock:
        raise UsageError("--clock is for schedules of rules; name the rules, such as --rules rules.toml")
    return None


def add_json_to(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", metavar="PATH|-", help=what)


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_annotated_images(parser: argparse.ArgumentParser, what: str) -> None:
    """--data and --images."""
    parser.add_argument("--data", type=Path, metavar="FILE.json", help=f"{what}, in HOI-A JSON")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of their images")


def track_config(min_score: float | None) -> TrackConfig:
    """How runs and archives track.

    Raises:
        ValueError: no score can be that.
    """
    from hoiclip_engine.engine import EngineConfig

    track = EngineConfig().track
    return track if min_score is None else replace(track, min_score=min_score)

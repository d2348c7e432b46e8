"""The command line: reads argv, calls a command with typed arguments, turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn, Protocol, cast

from hoiclip import __version__
from hoiclip.core.errors import HoiclipError, SinkError, UsageError
from hoiclip.core.printable import one_line, printable
from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import logging_to_stderr
from hoiclip_engine.cli.signals import Signalled, raising_on_signals
from hoiclip_kernels.dispatch import KernelError

INTERRUPTED = 128 + signal.SIGINT
_STREAM_FAILS = (errno.EBADF, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Command(Protocol):
    """A module of this package that is one command."""

    EXAMPLES: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...
    def run(self, args: argparse.Namespace) -> int: ...


_EXAMPLES = """\
  hoiclip demo                                            draws a clip and runs on it
  hoiclip run clip.mp4 -o annotated.mp4 --jsonl pairs.jsonl
  hoiclip COMMAND --help                                  options and examples of a command
"""
COMMANDS = {
    "run": "detect and track interactions in videos, images and streams",
    "archive": "detect and track in many files, by many processes",
    "events": "list, export and count what runs have recorded",
    "demo": "draw a clip and run on it",
    "models": "list, describe, fetch, import and verify models",
    "vocab": "make and show vocabularies, compute text embeddings",
    "rules": "check rules that say which interactions are worth a hit",
    "eval": "measure a model on annotated images and videos",
    "data": "check, convert and draw datasets",
    "export": "write a model as ONNX graphs",
    "build": "compile and check a faster build of a model",
    "tune": "measure settings of a run on a video, and choose one",
    "bench": "measure latency and throughput, compare with a report",
    "train": "train a model by a recipe, or resume the run",
    "distill": "train a small student of a model on images and videos without annotation",
    "doctor": "show what is installed, what auto selects and what is faster",
}
"""Modules of this package, and what they are for."""
_GROUPS = ("models", "vocab", "data", "rules", "events")
"""Their actions take --debug and the options of the log, not they themselves."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        Exit code: 0 ok, 2 usage, 3 source, 4 model or engine, 5 backend missing, 6 gate failed, 7 partial result,
        128 and the number of the signal that ended it: 129 after SIGHUP, 130 SIGINT, 143 SIGTERM.
    """
    words = sys.argv[1:] if argv is None else argv
    arguments = build_parser(next((word for word in words if word in COMMANDS), "")).parse_args(words)
    with logging_to_stderr(arguments.log_format, arguments.log_level):
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    """Runs the command; errors become a line and an exit code."""
    try:
        with raising_on_signals():
            code = command_module(arguments.command).run(arguments)
            sys.stdout.flush()  # here a reader that has gone away can still become an exit code
            return code
    except HoiclipError as error:
        return _fail(arguments, error, str(error), error.exit_code)
    except KernelError as error:
        return _fail(arguments, error, str(error), UsageError.exit_code)
    except KeyboardInterrupt as error:
        return 128 + error.number if isinstance(error, Signalled) else INTERRUPTED
    except BrokenPipeError:  # silent, as of any program whose reader has read enough
        _drop_stdout()
        return SinkError.exit_code
    except OSError as error:
        return _fail(arguments, error, _unforeseen(error), SinkError.exit_code)
    except Exception as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):  # torch has a RuntimeError for it
            return _fail(arguments, error, "out of memory; try a smaller --short-side, --size or --batch", 1)
        message = f"internal error, {type(error).__name__}: {error}; run again with --debug and report it"
        return _fail(arguments, error, message, 1)


def command() -> None:
    """The program; never returns."""
    _open_standard_streams()
    code = main()
    names = {thread.name for thread in threading.enumerate()}
    if (code == INTERRUPTED and "hoiclip-write" in names) or "hoiclip-source-run" in names:
        # The first after a second interrupt: it hangs in a pipe without a reader; the interpreter would wait for it.
        # The other compiles a model, or hangs in a source: the interpreter would end libraries that it is still in.
        os._exit(code)
    sys.exit(code)


def _open_standard_streams() -> None:
    """Closed ones would be the next files that are opened, and take what is printed; names that fit no encoding do."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # read-only for output: who wants to print hears that it is closed
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_stdout() -> None:
    """The interpreter flushes once more at exit, and would complain again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unforeseen(error: OSError) -> str:
    """What the system refused, where no command has a better word for it."""
    reason = error.strerror or str(error)
    if error.filename is None and error.errno in _STREAM_FAILS:
        _drop_stdout()
        return f"cannot write to standard output: {reason}; open it, make room, or name a file"
    what = "a file" if error.filename is None else str(error.filename)
    return f"cannot read or write {what}: {reason}; check the name, who may use it, and the room on the disk"


def _fail(arguments: argparse.Namespace, error: BaseException, message: str, code: int) -> int:
    from hoiclip_engine.sources.uri import redact

    line = one_line(message)
    for source in getattr(arguments, "source", None) or ():
        line = line.replace(source, redact(source))
    if arguments.log_format == "json":
        logging.getLogger("hoiclip").error("%s", line, exc_info=error if arguments.debug else None)
        return code
    with contextlib.suppress(OSError, ValueError):
        if arguments.debug:
            print(printable("".join(traceback.format_exception(error))), end="", file=sys.stderr)
        print(f"hoiclip: {line}", file=sys.stderr, flush=True)
    return code


class PrintCompletion(argparse.Action):
    """Prints a shell's completion script and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *values: object, **_: object) -> NoReturn:
        import shtab

        print(shtab.complete(parser, shell=str(values[1])))
        parser.exit()


def command_module(name: str) -> Command:
    return cast(Command, import_module(f"hoiclip_engine.cli.{name}"))


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Every command with its options; imports nothing that a command needs to run.

    Args:
        only: the command whose options are wanted, which saves importing the others; empty: of none.
    """
    parser = options.Parser(
        prog="hoiclip",
        description="Detects and tracks human-object interactions in video: who does what with which object.",
        examples=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"hoiclip {__version__}")
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=("bash", "zsh", "tcsh"),
        help="print a completion script for a shell",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=options.Parser)
    for name, text in COMMANDS.items():
        if only not in (None, name):
            subparsers.add_parser(name, help=text)
            continue
        command = command_module(name)
        about = f"{text[:1].upper()}{text[1:]}."
        subparser = subparsers.add_parser(name, help=text, description=about, examples=command.EXAMPLES)
        command.add_arguments(subparser)
        if name not in _GROUPS:
            options.add_log(subparser)
    return parser

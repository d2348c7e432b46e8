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
from dataclasses import replace
from typing import TYPE_CHECKING

from hoiclip.errors import BackendMissing, HoiclipError, SinkError, UsageError
from hoiclip.torch_extra import require_torch
from hoiclip_engine.cli_grammar import build_parser
from hoiclip_engine.commands.console import LogLines
from hoiclip_engine.commands.signals import Signalled, raising_on_signals
from hoiclip_engine.printable import one_line, printable
from hoiclip_kernels.dispatch import KernelError

if TYPE_CHECKING:
    from hoiclip_engine.commands.outputs import Outputs
    from hoiclip_engine.track.pair_tracker import TrackConfig

INTERRUPTED = 128 + signal.SIGINT
_STREAM_FAILS = (errno.EBADF, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        Exit code: 0 ok, 2 usage, 3 source, 4 model or engine, 5 backend missing, 6 gate failed, 7 partial result,
        128 and the number of the signal that ended it: 129 after SIGHUP, 130 SIGINT, 143 SIGTERM.
    """
    arguments = build_parser().parse_args(argv)
    log, lines = logging.getLogger("hoiclip"), LogLines(logging.WARNING)
    log.addHandler(lines)
    try:
        with raising_on_signals():
            code = _dispatch(arguments)
            sys.stdout.flush()  # here a reader that has gone away can still be told as an exit code
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
        said = f"internal error, {type(error).__name__}: {error}; run again with --debug and report it"
        return _fail(arguments, error, said, 1)
    finally:
        log.removeHandler(lines)


def command() -> None:
    """The program; never returns."""
    _open_standard_streams()
    code = main()
    if code == INTERRUPTED and any(thread.name == "hoiclip-write" for thread in threading.enumerate()):
        # After a second interrupt: it hangs in a pipe that nobody reads, and the interpreter would wait for it.
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
    from hoiclip_engine.video.redact import redact

    line = one_line(message)
    for source in getattr(arguments, "source", None) or ():
        line = line.replace(source, redact(source))
    with contextlib.suppress(OSError, ValueError):
        if arguments.debug:
            print(printable("".join(traceback.format_exception(error))), end="", file=sys.stderr)
        print(f"hoiclip: {line}", file=sys.stderr, flush=True)
    return code


def _dispatch(a: argparse.Namespace) -> int:
    """Imports only what the command needs: `models list` should not load torch."""
    match a.command:
        case "run":
            return _run(a)
        case "archive":
            return _archive(a)
        case "demo":
            from hoiclip_engine.commands.demo import demo

            return demo(a.out, a.backend)
        case "models":
            return _models(a)
        case "export":
            return _export(a)
        case "build":
            return _build(a)
        case "bench":
            return _bench(a)
        case "train":
            require_torch("training")
            from hoiclip_engine.commands.train import train

            return train(a.recipe, a.out, a.workers, a.set)
        case "vocab":
            from hoiclip_engine.commands import vocab

            if a.action == "show":
                return vocab.show(a.name, a.json)
            return vocab.build(a.name, a.output, a.clip, a.weights)
        case "data":
            return _data(a)
        case "eval":
            return _eval(a)
        case _:
            from hoiclip_engine.commands.doctor import doctor

            return doctor(a.json)


def _run(a: argparse.Namespace) -> int:
    from hoiclip_engine.commands.distinct_files import model_inputs, source_inputs
    from hoiclip_engine.commands.run import RunConfig, run
    from hoiclip_engine.engine import Engine, EngineConfig
    from hoiclip_engine.models import find_model
    from hoiclip_engine.pipeline import StreamConfig
    from hoiclip_engine.video.expand import expand_sources
    from hoiclip_engine.video.source_config import SourceConfig

    try:
        source = SourceConfig(
            start_s=a.start,
            duration_s=a.duration,
            max_frames=a.max_frames,
            transport=a.transport,
            timeout_s=a.timeout,
            hwaccel=a.hwaccel,
        )
        stream = StreamConfig(policy=a.policy, detect_every=a.detect_every)
        track = replace(_track(a), camera_motion=a.camera_motion)
    except ValueError as error:
        raise UsageError(str(error)) from error
    outputs = _outputs(a)
    config = EngineConfig(backend=a.backend, precision=a.precision, short_side_px=a.short_side, track=track)
    addresses = expand_sources(a.source)
    model = find_model(a.model)
    outputs.require_distinct(addresses, [*source_inputs(a.source, addresses), *model_inputs(model)], a.source)
    with Engine.load(model, config) as engine:
        return run(engine, addresses, outputs, RunConfig(stream=stream, source=source, batch=a.batch))


def _archive(a: argparse.Namespace) -> int:
    try:
        from hoiclip_engine.commands.archive import ArchiveConfig, archive
    except ImportError as error:
        raise BackendMissing(f"hoiclip archive needs {error.name}; pip install 'hoiclip[archive]'") from error
    from hoiclip_engine.commands.distinct_files import existing, model_inputs, require_distinct, source_inputs
    from hoiclip_engine.engine import EngineConfig
    from hoiclip_engine.models import find_model
    from hoiclip_engine.video.expand import expand_sources

    try:
        track = _track(a)
        config = ArchiveConfig(
            out=a.out,
            detect_every=a.detect_every,
            part_s=a.segment_seconds,
            hwaccel=a.hwaccel,
            workers=a.workers,
            retry_failed=a.retry_failed,
            ray_address=a.ray_address,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    engine = EngineConfig(backend=a.backend, precision=a.precision, short_side_px=a.short_side, track=track)
    addresses = expand_sources(a.source)
    require_distinct(
        [*source_inputs(a.source, addresses), *model_inputs(find_model(a.model))],
        existing(a.out, "manifest.json", ".lock", "jsonl/*", "parquet/*", "work/**/*"),
        [a.out],
        a.source,
    )
    return archive(a.model, engine, addresses, config)


def _track(a: argparse.Namespace) -> TrackConfig:
    """Raises ValueError: no score can be that."""
    from hoiclip_engine.engine import EngineConfig

    track = EngineConfig().track
    return track if a.min_score is None else replace(track, min_score=a.min_score)


def _outputs(a: argparse.Namespace) -> Outputs:
    from hoiclip_engine.commands.outputs import Outputs
    from hoiclip_engine.live.address import LiveAddress

    if a.live_token and not a.live:
        raise UsageError("--live-token is for --live; say where the page is to be, such as --live 127.0.0.1:8080")
    return Outputs(
        video=a.output,
        jsonl=a.jsonl,
        mot=a.mot,
        vtt=a.vtt,
        csv=a.csv,
        coco=a.coco,
        hico=a.hico,
        webhook=a.webhook,
        live=LiveAddress.parse(a.live, a.live_token) if a.live else None,
    )


def _eval(a: argparse.Namespace) -> int:
    if a.action == "video":
        return _eval_video(a)
    from hoiclip.checkpoint.model_file import load_model_file
    from hoiclip_engine.commands.eval import EvalRequest, evaluate_model
    from hoiclip_engine.engine import EngineConfig
    from hoiclip_engine.models import find_model

    request = EvalRequest(
        data=a.data,
        images=a.images,
        films=a.films,
        metric=a.metric,
        official=a.official,
        enhance=a.enhance,
        splits=tuple(a.split),
        prior=a.prior,
        max_images=a.max_images,
        json=a.json,
        report=a.report,
        export=a.export,
    )
    config = EngineConfig(backend=a.backend, short_side_px=a.short_side)
    return evaluate_model(load_model_file(find_model(a.model)), config, request)


def _eval_video(a: argparse.Namespace) -> int:
    from hoiclip_engine.commands.eval_video import VideoRequest, evaluate_video

    names = ("films", "mot", "results", "model", "backend", "precision", "detect_every", "json", "report")
    return evaluate_video(VideoRequest(**{name: getattr(a, name) for name in names}))


def _export(a: argparse.Namespace) -> int:
    from hoiclip.checkpoint.model_file import load_model_file
    from hoiclip_engine.calibration import CalibrationConfig
    from hoiclip_engine.commands.export import Reduction, export
    from hoiclip_engine.graph_form import GraphForm
    from hoiclip_engine.models import find_model
    from hoiclip_engine.triton_repo.form import RepositoryForm

    canvas_hw = None if a.size is None else (a.size[1], a.size[0])
    form = GraphForm(attention=a.attention, opset=a.opset, batch=a.batch, canvas_hw=canvas_hw)
    pictures = CalibrationConfig(source=a.calibrate, count=a.calibration_pictures, seed=a.seed)
    lower = None if a.precision == "fp32" else Reduction(precision=a.precision, target=a.target, calibration=pictures)
    if a.triton_backend and not a.triton_repo:
        raise UsageError("--triton-backend is for --triton-repo DIR")
    triton = RepositoryForm(backend=a.triton_backend or "onnxruntime") if a.triton_repo else None
    model, out = load_model_file(find_model(a.model)), a.triton_repo or a.out
    return export(model, out, form, a.split, lower, triton=triton, with_model=a.with_model)


def _build(a: argparse.Namespace) -> int:
    from hoiclip.checkpoint.model_file import load_model_file
    from hoiclip_engine.calibration import CalibrationConfig
    from hoiclip_engine.commands.build import BuildRequest, build
    from hoiclip_engine.models import find_model

    request = BuildRequest(
        backend=a.backend,
        precision=a.precision,
        short_side_px=a.short_side,
        calibration=CalibrationConfig(source=a.calibrate, count=a.calibration_pictures, seed=a.seed),
        data=a.data,
        images=a.images,
        gate_pictures=a.gate_pictures,
        force=a.force,
        if_missing=a.if_missing,
    )
    return build(load_model_file(find_model(a.model)), request)


def _bench(a: argparse.Namespace) -> int:
    from hoiclip.checkpoint.model_file import load_model_file
    from hoiclip_engine.bench.plan import BenchPlan, Subject
    from hoiclip_engine.bench.regression import FailOn
    from hoiclip_engine.bench.slowed import SlowedEngine
    from hoiclip_engine.commands.bench import BenchRequest, bench
    from hoiclip_engine.commands.distinct_files import model_inputs, require_distinct, source_inputs
    from hoiclip_engine.engine import EngineConfig
    from hoiclip_engine.models import find_model
    from hoiclip_engine.video.expand import expand_sources

    addresses = expand_sources(a.source)
    subjects: tuple[Subject, ...] = ("model", "pipeline") if a.subject == "both" else (a.subject,)
    plans = [
        BenchPlan(
            subject=subject,
            load=a.load,
            streams=a.streams or max(1, len(addresses)),
            fps=a.fps,
            times_rate=a.times_rate,
            seconds=a.duration,
            blocks=a.blocks,
            cold_starts=a.cold_starts,
            accuracy_pictures=a.accuracy,
            slowed_by=a.inject_slowdown,
        )
        for subject in subjects
    ]
    request = BenchRequest(
        plans=plans,
        json=a.json,
        markdown=a.markdown,
        plot=a.plot,
        compare=a.compare,
        fail_on=[FailOn.parse(text) for text in a.fail_on],
        data=a.data,
        images=a.images,
    )
    model = load_model_file(find_model(a.model))
    require_distinct(
        [*source_inputs(a.source, addresses), *model_inputs(model.path), a.compare, a.data, a.images],
        [*{a.json, a.markdown, "-"}, a.plot],
    )
    config = EngineConfig(backend=a.backend, precision=a.precision, short_side_px=a.short_side)
    with SlowedEngine(model, config, a.inject_slowdown) as engine:
        return bench(engine, addresses, request)


def _models(a: argparse.Namespace) -> int:
    from hoiclip_engine.commands import models

    match a.action:
        case "list":
            return models.list_models()
        case "info":
            return models.info(a.model, a.json)
        case "import":
            return models.import_official(a.checkpoint, a.output, a.labels)
        case _:
            return models.verify(a.model)


def _data(a: argparse.Namespace) -> int:
    from hoiclip_engine.commands import data

    match a.action:
        case "check":
            return data.check_file(a.file, a.images, a.against, a.against_images, a.vocabulary, a.json)
        case "draw":
            return _draw(a)
        case _:
            return data.convert(a.original, a.output, a.form, a.instances, a.split, a.vocabulary, a.skip_empty)


def _draw(a: argparse.Namespace) -> int:
    from hoiclip.data.drawn.fixed_sets import FILM_SEEDS
    from hoiclip_engine.commands import draw

    try:
        film = draw.film_config(a.set, a.size, a.fps, a.duration, a.uneven)
        world = draw.world_config(a.set, a.seed, a.split, a.fraction, a.size, a.frequencies)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if a.video is not None:
        if a.seed is None and a.set == "test":
            return draw.draw_test_videos(a.out, a.video, film)
        return draw.draw_films(a.out, a.video, film, FILM_SEEDS[a.set] if a.seed is None else a.seed)
    return draw.draw_pictures(a.out, a.images, world, f".{a.format}")


if __name__ == "__main__":
    command()

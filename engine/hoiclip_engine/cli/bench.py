"""hoiclip bench: loads on the model and on the pipeline, their reports, and a regression gate."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.core.errors import GateFailed, HoiclipError, UsageError
from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import messages, progress, say, working
from hoiclip_engine.cli.distinct_files import model_inputs, require_distinct, source_inputs

if TYPE_CHECKING:
    from hoiclip.data.images import EvaluationSet
    from hoiclip.synthetic.video import VideoConfig
    from hoiclip_engine.bench.load import BenchPlan, Block, MeasuredLoad
    from hoiclip_engine.bench.machine import Measurement
    from hoiclip_engine.bench.measure import VideoOpener
    from hoiclip_engine.bench.regression_gate import Change, FailOn
    from hoiclip_engine.engine import Engine
    from hoiclip_engine.sources.uri import SourceAddress


EXAMPLES = """\
  hoiclip bench                                           model and pipeline, on a video drawn for it
  hoiclip bench clip.mp4 --load open --fps 25 --streams 4
  hoiclip bench --json base.jsonl
  hoiclip bench --compare base.jsonl --fail-on p50:+10%
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", nargs="*", metavar="SRC", help="videos, folders, lists (default: a synthetic video)")
    parser.add_argument(
        "--subject", default="both", choices=("model", "pipeline", "both"), help="what is measured (default: both)"
    )
    parser.add_argument(
        "--load",
        default="closed",
        choices=("closed", "open", "offline"),
        help="closed: the next query when one is done; open: frames at a rate; offline: a file as fast as it goes "
        "(default: closed)",
    )
    parser.add_argument(
        "--streams", type=options.concurrency, metavar="N", help="concurrent streams (default: one for each SRC)"
    )
    parser.add_argument(
        "--fps", type=options.real, metavar="F", help="frames a second of each stream (open; default: the video's)"
    )
    parser.add_argument(
        "--times-rate", type=options.real, metavar="X", help="instead: X times the rate of the closed load (open)"
    )
    options.add_clip_every(parser)
    parser.add_argument(
        "--duration", type=options.real, default=20.0, metavar="S", help="seconds to measure (default: 20)"
    )
    parser.add_argument(
        "--blocks",
        type=options.positive,
        metavar="N",
        help="blocks they are divided into (default: 10 a second if closed, else 20)",
    )
    parser.add_argument(
        "--cold-starts", type=options.integer, default=1, metavar="N", help="fresh processes to time (default: 1)"
    )
    parser.add_argument(
        "--accuracy",
        type=lambda text: options.integer(text, 1),
        default=0,
        metavar="N",
        help="measure mAP on N annotated images",
    )
    options.add_annotated_images(parser, "their annotations (default: synthetic)")
    options.add_model(parser)
    options.add_backend(parser)
    options.add_short_side(parser)
    options.add_json_to(parser, "reports as JSON lines, schema hoiclip-bench/1, samples included")
    parser.add_argument("--markdown", metavar="PATH|-", help="reports as tables (default: standard output)")
    parser.add_argument("--plot", type=Path, metavar="PATH.png", help="latency over time, and its distribution")
    gate = parser.add_argument_group(
        "regression gate", "exit code 6 where this run is slower than a base by more than it may be"
    )
    gate.add_argument("--compare", type=Path, metavar="BASE.json", help="an earlier --json of this machine")
    gate.add_argument(
        "--fail-on",
        action="append",
        default=[],
        metavar="METRIC:+N%",
        help="p50, p90, p99, mean: +N%%; throughput: -N%%; may be repeated",
    )
    gate.add_argument(
        "--inject-slowdown",
        type=options.percent,
        default=0.0,
        metavar="N%",
        help="slow inference down, to try the gate out",
    )


def run(args: argparse.Namespace) -> int:
    from hoiclip.core.model_file import load_model_file
    from hoiclip_engine.bench.load import BenchPlan, Subject
    from hoiclip_engine.bench.regression_gate import FailOn
    from hoiclip_engine.engine import Engine, EngineConfig
    from hoiclip_engine.models import find_model
    from hoiclip_engine.sources.source_list import expand_sources

    addresses = expand_sources(args.source)
    subjects: tuple[Subject, ...] = ("model", "pipeline") if args.subject == "both" else (args.subject,)
    plans = [
        BenchPlan(
            subject=subject,
            load=args.load,
            streams=args.streams or max(1, len(addresses)),
            fps=args.fps,
            times_rate=args.times_rate,
            seconds=args.duration,
            blocks=args.blocks,
            cold_starts=args.cold_starts,
            accuracy_images=args.accuracy,
            clip_every=args.clip_every,
            slowed_by=args.inject_slowdown,
        )
        for subject in subjects
    ]
    request = BenchRequest(
        plans=plans,
        json=args.json,
        markdown=args.markdown,
        plot=args.plot,
        compare=args.compare,
        fail_on=[FailOn.parse(text) for text in args.fail_on],
        data=args.data,
        images=args.images,
    )
    original = find_model(args.model)
    require_distinct(
        [
            *source_inputs(args.source, addresses),
            *model_inputs(original, args.vocabulary),
            args.compare,
            args.data,
            args.images,
        ],
        [*{args.json, args.markdown, "-"}, args.plot],
    )
    model = load_model_file(find_model(original, args.vocabulary))
    config = EngineConfig(backend=args.backend, precision=args.precision, short_side_px=args.short_side)
    with Engine(model, config) as engine:
        return bench(engine, addresses, request)


STDOUT = "-"
MOST_ROUNDS = 3
"""Multiples of the duration that are measured at most, where the regression gate cannot decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """Options of the command."""

    plans: Sequence[BenchPlan]
    """One for each subject, of the same load."""
    json: str | None = None
    markdown: str | None = None
    plot: Path | None = None
    compare: Path | None = None
    fail_on: Sequence[FailOn] = ()
    data: Path | None = None
    """Annotated images to measure mAP on, instead of the synthetic test set."""
    images: Path | None = None

    def __post_init__(self) -> None:
        if (self.compare is None) != (not self.fail_on):
            raise UsageError(
                "a regression gate needs --compare BASE.json and at least one --fail-on, such as --fail-on p99:+5%"
            )
        if (self.data is None) != (self.images is None):
            raise UsageError("own annotated images need both --data FILE.json and --images DIR")
        if self.data is not None and not any(plan.accuracy_images for plan in self.plans):
            raise UsageError("--data and --images are for --accuracy N; say on how many images")
        if self.json == STDOUT and self.markdown == STDOUT:
            raise UsageError("standard output takes one of --json and --markdown; write the other one to a file")


def synthetic_video() -> VideoConfig:
    """The video that is drawn where no source is named."""
    from hoiclip.synthetic.video import VideoConfig

    return VideoConfig(width_px=640, height_px=480, fps=25.0, duration_s=4.0)


def bench(engine: Engine, addresses: Sequence[SourceAddress], request: BenchRequest) -> int:
    """Measures the plans, writes their reports and compares them with a base.

    Raises:
        GateFailed: slower than the base by more than allowed.
        HoiclipError: sources, model, base report or outputs are not as expected.
    """
    from hoiclip_engine.bench.regression_gate import read_reports
    from hoiclip_engine.bench.report import require_matplotlib

    if request.plot is not None:
        require_matplotlib()
    bases = None if request.compare is None else read_reports(request.compare)
    benchmark = _benchmark(engine, request)
    with _videos(addresses, request.plans[0].streams) as videos:
        cold_start = _cold_start(engine, videos[0][0], request.plans[0].cold_starts)
        accuracy = _accuracy(engine, request.plans[0].accuracy_images, benchmark)
        inputs = _Inputs(engine, [open_video for _, open_video in videos], cold_start, accuracy)
        reports = [_measure_until_clear(inputs, plan, bases or (), request) for plan in request.plans]
    _write(reports, request)
    if bases is not None:
        _compare(bases, reports, request)
    return 0


def _benchmark(engine: Engine, request: BenchRequest) -> EvaluationSet | None:
    """Evaluation set for --accuracy; None where accuracy is not measured."""
    from hoiclip.evaluation.image_loop import benchmark_set

    if not any(plan.accuracy_images for plan in request.plans):
        return None
    evaluation_set = benchmark_set(engine.model, request.data, request.images)
    if evaluation_set is None:
        raise UsageError(
            f"{engine.model.name} has no synthetic scenes; --accuracy needs --data FILE.json and --images DIR"
        )
    return evaluation_set


@contextmanager
def _videos(addresses: Sequence[SourceAddress], streams: int) -> Iterator[list[tuple[str, VideoOpener]]]:
    """Path and opener of a video for each stream; synthetic videos where there are no sources."""
    from hoiclip.synthetic.video import random_script
    from hoiclip_engine.cli.draw import draw_video
    from hoiclip_engine.sources.file import open_video

    others = [address.name for address in addresses if address.kind != "file"]
    if others:
        raise UsageError(f"expected files, which can be played again, found {others[0]}; record it first")
    with tempfile.TemporaryDirectory(prefix="hoiclip-bench-") as folder:
        paths = [address.location for address in addresses]
        if not paths:
            with working("Drawing videos"):
                paths = [str(Path(folder) / f"drawn-{seed}.mp4") for seed in range(min(streams, 4))]
                for seed, path in enumerate(paths):
                    draw_video(Path(path), random_script(synthetic_video(), seed))
        selected = [paths[row % len(paths)] for row in range(streams)]
        yield [(path, partial(open_video, path)) for path in selected]


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Inputs that all measurements of a command share."""

    engine: Engine
    videos: Sequence[VideoOpener]
    cold_start: Measurement
    accuracy: Measurement


def _measure_until_clear(
    inputs: _Inputs, plan: BenchPlan, bases: Sequence[Mapping[str, Any]], request: BenchRequest
) -> dict[str, Any]:
    """A report; of more blocks where the regression gate cannot decide."""
    report, measured = _measure(inputs, plan, [])
    for _ in range(MOST_ROUNDS - 1):
        changes = _changes(bases, report, request)
        if all(change.is_clear for change in changes):
            break
        messages.print("The change is close to the limit, or the machine is busy; measuring longer")
        report, measured = _measure(inputs, plan, measured.blocks)
    return report


def _measure(inputs: _Inputs, plan: BenchPlan, before: list[Block]) -> tuple[dict[str, Any], MeasuredLoad]:
    """Measures a plan. Args: before: blocks of the same plan that count as well."""
    from hoiclip_engine.bench.machine import Nvml, clocks, memory, throttling
    from hoiclip_engine.bench.measure import MachineWatch, artefact, clock_facts, device_wait, measure
    from hoiclip_engine.bench.report import Surroundings, commit, machine, make_report, versions

    engine = inputs.engine
    machine_watch = MachineWatch(Nvml())
    title = f"{engine.model.name}, {engine.backend_name} {engine.build.precision}: {plan.subject}, {plan.load} load"
    messages.print(f"Measuring {title}, {plan.seconds:g} s after a warm-up")
    measured_input, measured = measure(engine, inputs.videos, plan, machine_watch)
    if not measured.warm_up.stable:
        messages.print("Note: the warm-up never became stable; other programs may be at work", style="yellow")
    surroundings = Surroundings(
        memory=memory(machine_watch.memory, machine_watch.nvml, engine.backend_name),
        energy_per_frame_j=machine_watch.energy.per_frame_j(sum(block.frames for block in measured.blocks)).to_json(),
        clocks=clocks(machine_watch.before, machine_watch.after),
        throttling=throttling(machine_watch.before, machine_watch.after),
        artefact=artefact(engine, (measured_input.padded_px[1], measured_input.padded_px[0])),
        machine=machine(machine_watch.nvml),
        versions=versions(),
        commit=commit(),
        clock=clock_facts(device_wait(engine.backend_name)),
        cold_start_ms=inputs.cold_start.to_json(),
        accuracy=inputs.accuracy.to_json(),
    )
    measured = replace(measured, blocks=[*before, *measured.blocks])
    return make_report(plan, measured_input, measured, surroundings), measured


def _cold_start(engine: Engine, video: str, count: int) -> Measurement:
    from hoiclip_engine.bench.load import percentiles
    from hoiclip_engine.bench.machine import Measurement, unavailable
    from hoiclip_engine.bench.measure import first_result_ms

    if not count:
        return unavailable("not measured: --cold-starts N")
    options = [
        "--model",
        str(engine.model.path),
        "--backend",
        engine.backend_name,
        "--precision",
        engine.build.precision,
    ]
    if engine.config.short_side_px is not None:
        options += ["--short-side", str(engine.config.short_side_px)]
    try:
        with working("Starting fresh processes"):
            samples = [first_result_ms(video, options) for _ in range(count)]
    except HoiclipError as error:
        return unavailable(str(error))
    samples_ms = [round(ms, 1) for ms in samples]
    return Measurement(
        value={"median": percentiles(samples_ms)["p50"], "samples": samples_ms},
        source="hoiclip run to its first frame line",
    )


def _accuracy(engine: Engine, wanted: int, benchmark: EvaluationSet | None) -> Measurement:
    from hoiclip_engine.bench.measure import measured_accuracy, recorded_accuracy

    if benchmark is None or not wanted:
        return recorded_accuracy(engine)
    count = min(wanted, len(benchmark.annotations))
    with progress() as bar:
        task = bar.add_task("mAP", total=count, rate="")
        return measured_accuracy(engine, benchmark, count, lambda: bar.advance(task))


def _write(reports: Sequence[Mapping[str, Any]], request: BenchRequest) -> None:
    from hoiclip.core.atomic_write import write_file
    from hoiclip_engine.bench.report import as_line, markdown, plot

    lines = "".join(as_line(report) + "\n" for report in reports)
    page = markdown(reports)
    if request.json not in (None, STDOUT):
        write_file(Path(str(request.json)), lines)
    if request.markdown not in (None, STDOUT):
        write_file(Path(str(request.markdown)), page)
    if request.plot is not None:
        plot(reports, request.plot)
    say((lines if request.json == STDOUT else page).removesuffix("\n"))


def _changes(bases: Sequence[Mapping[str, Any]], report: Mapping[str, Any], request: BenchRequest) -> list[Change]:
    """Change of each gated metric."""
    from hoiclip_engine.bench.regression_gate import compare_runs, matching_report, timed_blocks

    if request.compare is None:
        return []
    base = timed_blocks(matching_report(bases, report, request.compare))
    return [compare_runs(base, timed_blocks(report), fail_on) for fail_on in request.fail_on]


def _compare(bases: Sequence[Mapping[str, Any]], reports: Sequence[Mapping[str, Any]], request: BenchRequest) -> None:
    failed = []
    for report in reports:
        for change in _changes(bases, report, request):
            sentence = f"{report['scenario']['subject']}, {change.sentence()}"
            messages.print(sentence)
            if change.verdict == "failed":
                failed.append(sentence)
    if failed:
        raise GateFailed(f"slower than {request.compare}: {'; '.join(failed)}")

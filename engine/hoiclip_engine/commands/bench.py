"""hoiclip bench: loads on the model and on the pipeline, reports of them, and a gate for slower ones."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hoiclip.data.drawn.video import VideoConfig, random_script
from hoiclip.errors import GateFailed, HoiclipError, UsageError
from hoiclip_engine.bench.artefact import artefact, measured_accuracy, recorded_accuracy
from hoiclip_engine.bench.base_report import matching, read_reports, timed_blocks
from hoiclip_engine.bench.cold_start import first_result_ms
from hoiclip_engine.bench.device_clock import clock_facts, device_wait
from hoiclip_engine.bench.loops import Measured
from hoiclip_engine.bench.machine_state import clocks, throttling
from hoiclip_engine.bench.markdown import markdown
from hoiclip_engine.bench.measure import Opened, Watched, measure
from hoiclip_engine.bench.memory import memory
from hoiclip_engine.bench.nvml import Nvml
from hoiclip_engine.bench.plan import BenchPlan
from hoiclip_engine.bench.plot import plot, require_matplotlib
from hoiclip_engine.bench.provenance import commit, machine, versions
from hoiclip_engine.bench.regression import Change, FailOn, compare_runs
from hoiclip_engine.bench.report import Surroundings, as_line, report, write_text
from hoiclip_engine.bench.sample import Block, percentiles
from hoiclip_engine.bench.told import Told, untold
from hoiclip_engine.commands.console import messages, progress, say, working
from hoiclip_engine.commands.draw import draw_film
from hoiclip_engine.engine import Engine
from hoiclip_engine.measured_set import MeasuredSet, benchmark_of
from hoiclip_engine.video.address import Address
from hoiclip_engine.video.source import open_video

DRAWN_FILM = VideoConfig(width_px=640, height_px=480, fps=25.0, duration_s=4.0)
STDOUT = "-"
MOST_ROUNDS = 3
"""Times the duration that is measured at most, where a gate cannot tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """What was asked for on the command line."""

    plans: Sequence[BenchPlan]
    """One for each subject, of the same load."""
    json: str | None = None
    markdown: str | None = None
    plot: Path | None = None
    compare: Path | None = None
    fail_on: Sequence[FailOn] = ()
    data: Path | None = None
    """Annotated pictures to measure mAP on, instead of the drawn test set."""
    images: Path | None = None

    def __post_init__(self) -> None:
        if (self.compare is None) != (not self.fail_on):
            raise UsageError("a gate needs --compare BASE.json and at least one --fail-on, such as --fail-on p99:+5%")
        if (self.data is None) != (self.images is None):
            raise UsageError("own annotated pictures need both --data FILE.json and --images DIR")
        if self.data is not None and not any(plan.accuracy_pictures for plan in self.plans):
            raise UsageError("--data and --images are for --accuracy N; say on how many pictures")
        if self.json == STDOUT and self.markdown == STDOUT:
            raise UsageError("standard output takes one of --json and --markdown; write the other one to a file")


def bench(engine: Engine, addresses: Sequence[Address], request: BenchRequest) -> int:
    """Measures, writes, compares.

    Raises:
        GateFailed: slower than the base by more than allowed.
        HoiclipError: sources, model, base report or outputs are not as expected.
    """
    if request.plot is not None:
        require_matplotlib()
    bases = None if request.compare is None else read_reports(request.compare)
    benchmark = _benchmark(engine, request)
    with _films(addresses, request.plans[0].streams) as films:
        cold_start = _cold_start(engine, films[0][0], request.plans[0].cold_starts)
        accuracy = _accuracy(engine, request.plans[0].accuracy_pictures, benchmark)
        job = _Job(engine, [opened for _, opened in films], cold_start, accuracy)
        reports = [_decided(job, plan, bases or (), request) for plan in request.plans]
    _write(reports, request)
    if bases is not None:
        _compare(bases, reports, request)
    return 0


def _benchmark(engine: Engine, request: BenchRequest) -> MeasuredSet | None:
    """What accuracy is measured on, if it is."""
    if not any(plan.accuracy_pictures for plan in request.plans):
        return None
    found = benchmark_of(engine.model, request.data, request.images)
    if found is None:
        raise UsageError(
            f"{engine.model.name} knows no drawn scenes; --accuracy needs --data FILE.json and --images DIR"
        )
    return found


@contextmanager
def _films(addresses: Sequence[Address], streams: int) -> Iterator[list[tuple[str, Opened]]]:
    """Path and opener of a film for each stream; without sources, films are drawn."""
    others = [address.name for address in addresses if address.kind != "file"]
    if others:
        raise UsageError(f"expected files, which can be played again, found {others[0]}; record it first")
    with tempfile.TemporaryDirectory(prefix="hoiclip-bench-") as folder:
        paths = [address.location for address in addresses]
        if not paths:
            with working("Drawing films"):
                paths = [str(Path(folder) / f"drawn-{seed}.mp4") for seed in range(min(streams, 4))]
                for seed, path in enumerate(paths):
                    draw_film(Path(path), random_script(DRAWN_FILM, seed))
        chosen = [paths[row % len(paths)] for row in range(streams)]
        yield [(path, partial(open_video, path)) for path in chosen]


@dataclass(frozen=True, slots=True)
class _Job:
    """What all measurements of a command share."""

    engine: Engine
    films: Sequence[Opened]
    cold_start: Told
    accuracy: Told


def _decided(job: _Job, plan: BenchPlan, bases: Sequence[Mapping[str, Any]], request: BenchRequest) -> dict[str, Any]:
    """A report; where a gate cannot tell, of more blocks."""
    made, measured = _measured(job, plan, [])
    for _ in range(MOST_ROUNDS - 1):
        changes = _changes(bases, made, request)
        if all(change.is_clear for change in changes):
            break
        messages.print("The change is close to the limit, or the machine is busy; measuring on")
        made, measured = _measured(job, plan, measured.blocks)
    return made


def _measured(job: _Job, plan: BenchPlan, before: list[Block]) -> tuple[dict[str, Any], Measured]:
    """Args: before: blocks of the same plan that count as well."""
    engine = job.engine
    watched = Watched(Nvml())
    what = f"{engine.model.name}, {engine.backend_name} {engine.build.precision}: {plan.subject}, {plan.load} load"
    messages.print(f"Measuring {what}, {plan.seconds:g} s after a warm-up")
    looked_at, measured = measure(engine, job.films, plan, watched)
    if not measured.warm_up.stable:
        messages.print("Note: the warm-up never became stable; other programs may be at work", style="yellow")
    around = Surroundings(
        memory=memory(watched.memory, watched.nvml, engine.backend_name),
        energy_per_frame_j=watched.energy.per_frame_j(sum(block.frames for block in measured.blocks)).to_json(),
        clocks=clocks(watched.before, watched.after),
        throttling=throttling(watched.before, watched.after),
        artefact=artefact(engine, (looked_at.canvas_px[1], looked_at.canvas_px[0])),
        machine=machine(watched.nvml),
        versions=versions(),
        commit=commit(),
        clock=clock_facts(device_wait(engine.backend_name)),
        cold_start_ms=job.cold_start.to_json(),
        accuracy=job.accuracy.to_json(),
    )
    measured = replace(measured, blocks=[*before, *measured.blocks])
    return report(plan, looked_at, measured, around), measured


def _cold_start(engine: Engine, film: str, count: int) -> Told:
    if not count:
        return untold("not asked for: --cold-starts N")
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
            samples = [first_result_ms(film, options) for _ in range(count)]
    except HoiclipError as error:
        return untold(str(error))
    shown = [round(ms, 1) for ms in samples]
    return Told(
        value={"median": percentiles(shown)["p50"], "samples": shown}, source="hoiclip run to its first frame line"
    )


def _accuracy(engine: Engine, wanted: int, benchmark: MeasuredSet | None) -> Told:
    if benchmark is None or not wanted:
        return recorded_accuracy(engine)
    count = min(wanted, len(benchmark.annotations))
    with progress() as bar:
        task = bar.add_task("mAP", total=count, rate="")
        return measured_accuracy(engine, benchmark, count, lambda: bar.advance(task))


def _write(reports: Sequence[Mapping[str, Any]], request: BenchRequest) -> None:
    lines = "".join(as_line(one) + "\n" for one in reports)
    page = markdown(reports)
    if request.json not in (None, STDOUT):
        write_text(Path(str(request.json)), lines)
    if request.markdown not in (None, STDOUT):
        write_text(Path(str(request.markdown)), page)
    if request.plot is not None:
        plot(reports, request.plot)
    say((lines if request.json == STDOUT else page).removesuffix("\n"))


def _changes(bases: Sequence[Mapping[str, Any]], made: Mapping[str, Any], request: BenchRequest) -> list[Change]:
    """One for each gate."""
    if request.compare is None:
        return []
    base = timed_blocks(matching(bases, made, request.compare))
    return [compare_runs(base, timed_blocks(made), gate) for gate in request.fail_on]


def _compare(bases: Sequence[Mapping[str, Any]], reports: Sequence[Mapping[str, Any]], request: BenchRequest) -> None:
    failed = []
    for made in reports:
        for change in _changes(bases, made, request):
            said = f"{made['scenario']['subject']}, {change.sentence()}"
            messages.print(said)
            if change.verdict == "failed":
                failed.append(said)
    if failed:
        raise GateFailed(f"slower than {request.compare}: {'; '.join(failed)}")

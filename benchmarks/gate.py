"""Does the gate of `hoiclip bench` notice ten percent, and nothing else? python -m benchmarks.gate

One base, then in turns a rerun that is unchanged and one whose looks take ten percent longer, each a process of its own
as in somebody's CI. Told are the exit codes, and what the same reports say of the other metrics.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.harness import append, provenance
from hoiclip.data.drawn.video import random_script
from hoiclip.errors import GateFailed
from hoiclip_engine.bench.base_report import read_reports, timed_blocks
from hoiclip_engine.bench.regression import STATISTICS, FailOn, compare_runs
from hoiclip_engine.commands.bench import DRAWN_FILM
from hoiclip_engine.commands.draw import draw_film

LIMIT = {metric: f"{metric}:{'-' if metric == 'throughput' else '+'}5%" for metric in STATISTICS}
SLOWDOWN = "10%"
BASE = 4
"""Times as long as a run: what is wrong with it is wrong with every comparison."""


def bench(film: Path, out: Path, seconds: float, *options: str) -> int:
    """One run; its exit code."""
    words = [sys.executable, "-m", "hoiclip_engine.cli", "bench", str(film), "--subject", "model", "--cold-starts", "0"]
    words += ["--duration", str(seconds), "--json", str(out), *options]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode not in (0, GateFailed.exit_code):
        raise SystemExit(f"hoiclip bench ended with {done.returncode}: {done.stderr}")
    print(" ".join(options[-2:]), done.returncode, done.stderr.strip().splitlines()[-1], file=sys.stderr)
    return done.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--metric", default="mean", choices=STATISTICS)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a run")
    parser.add_argument("--dry", action="store_true", help="write no result line")
    asked = parser.parse_args()
    codes: dict[str, list[int]] = {"unchanged": [], "slowed": []}
    metrics: dict[str, dict[str, Counter[str]]] = {kind: {name: Counter() for name in STATISTICS} for kind in codes}
    as_timed: dict[str, dict[str, Counter[str]]] = {kind: {name: Counter() for name in STATISTICS} for kind in codes}
    changes: dict[str, list[list[float]]] = {kind: [] for kind in codes}
    speeds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        film, base, now = (Path(folder) / name for name in ("film.mp4", "base.json", "now.json"))
        draw_film(film, random_script(DRAWN_FILM, 0))
        bench(film, base, BASE * asked.seconds)
        gate = ("--compare", str(base), "--fail-on", LIMIT[asked.metric])
        of_base = timed_blocks(read_reports(base)[-1])
        for _ in range(asked.runs):
            for kind, options in (("unchanged", ()), ("slowed", ("--inject-slowdown", SLOWDOWN))):
                codes[kind].append(bench(film, now, asked.seconds, *options, *gate))
                blocks = timed_blocks(read_reports(now)[-1])
                for name, limit in LIMIT.items():
                    change = compare_runs(of_base, blocks, FailOn.parse(limit))
                    metrics[kind][name][change.verdict] += 1
                    unscaled = compare_runs(of_base, blocks, FailOn.parse(limit), scaled=False)
                    as_timed[kind][name][unscaled.verdict] += 1
                    if name == asked.metric:
                        changes[kind].append([round(change.estimate, 4), round(unscaled.estimate, 4)])
                        speeds.append(round(change.speed_of_machine, 3))
    line = {
        "benchmark": "gate",
        "gate": LIMIT[asked.metric],
        "injected": SLOWDOWN,
        "seconds": asked.seconds,
        "runs": asked.runs,
        "unchanged_passed": codes["unchanged"].count(0),
        "slowed_failed": codes["slowed"].count(GateFailed.exit_code),
        "changes_scaled_and_as_timed": changes,
        "speed_of_machine": [min(speeds), max(speeds)],
        "verdicts": metrics,
        "verdicts_as_timed": as_timed,
    }
    if asked.dry:
        print(line)
    else:
        append("gate", {**line, **provenance("openvino", "numpy")})


if __name__ == "__main__":
    main()

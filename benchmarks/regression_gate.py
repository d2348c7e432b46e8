"""Accuracy of the regression gate of `hoiclip bench` on a slowdown of ten percent: python -m benchmarks.regression_gate

One base, then in turns an unchanged rerun and one whose inferences take ten percent longer, each in its own process as
in a CI. Results are the exit codes, and the verdicts on the other metrics by the same reports.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.harness import append, provenance
from hoiclip.core.errors import GateFailed
from hoiclip.synthetic.video import random_script
from hoiclip_engine.bench.regression_gate import STATISTICS, FailOn, compare_runs, read_reports, timed_blocks
from hoiclip_engine.cli.bench import synthetic_video
from hoiclip_engine.cli.draw import draw_video

LIMIT = {metric: f"{metric}:{'-' if metric == 'throughput' else '+'}5%" for metric in STATISTICS}
SLOWDOWN = "10%"
BASE = 4
"""Length of the base in runs: an error in it affects every comparison."""


def bench(video: Path, out: Path, seconds: float, *options: str) -> int:
    """Runs `hoiclip bench` once and returns its exit code."""
    words = [
        sys.executable,
        "-m",
        "hoiclip_engine.cli",
        "bench",
        str(video),
        "--subject",
        "model",
        "--cold-starts",
        "0",
    ]
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
    args = parser.parse_args()
    codes: dict[str, list[int]] = {"unchanged": [], "slowed": []}
    metrics: dict[str, dict[str, Counter[str]]] = {kind: {name: Counter() for name in STATISTICS} for kind in codes}
    as_timed: dict[str, dict[str, Counter[str]]] = {kind: {name: Counter() for name in STATISTICS} for kind in codes}
    changes: dict[str, list[list[float]]] = {kind: [] for kind in codes}
    speeds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        video, base, now = (Path(folder) / name for name in ("video.mp4", "base.json", "now.json"))
        draw_video(video, random_script(synthetic_video(), 0))
        bench(video, base, BASE * args.seconds)
        gate_options = ("--compare", str(base), "--fail-on", LIMIT[args.metric])
        of_base = timed_blocks(read_reports(base)[-1])
        for _ in range(args.runs):
            for kind, options in (("unchanged", ()), ("slowed", ("--inject-slowdown", SLOWDOWN))):
                codes[kind].append(bench(video, now, args.seconds, *options, *gate_options))
                blocks = timed_blocks(read_reports(now)[-1])
                for name, limit in LIMIT.items():
                    change = compare_runs(of_base, blocks, FailOn.parse(limit))
                    metrics[kind][name][change.verdict] += 1
                    unscaled = compare_runs(of_base, blocks, FailOn.parse(limit), scaled=False)
                    as_timed[kind][name][unscaled.verdict] += 1
                    if name == args.metric:
                        changes[kind].append([round(change.estimate, 4), round(unscaled.estimate, 4)])
                        speeds.append(round(change.speed_of_machine, 3))
    line = {
        "benchmark": "gate",
        "gate": LIMIT[args.metric],
        "injected": SLOWDOWN,
        "seconds": args.seconds,
        "runs": args.runs,
        "unchanged_passed": codes["unchanged"].count(0),
        "slowed_failed": codes["slowed"].count(GateFailed.exit_code),
        "changes_scaled_and_as_timed": changes,
        "speed_of_machine": [min(speeds), max(speeds)],
        "verdicts": metrics,
        "verdicts_as_timed": as_timed,
    }
    if args.dry:
        print(line)
    else:
        append("gate", {**line, **provenance("openvino", "numpy")})


if __name__ == "__main__":
    main()

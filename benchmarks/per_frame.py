"""Processor time of each frame, here and in another tree: python -m benchmarks.per_frame BEFORE

A synthetic video of 1280x720 in H.264, the bundled model in fp32, every frame inferred, to JSON lines and to an
annotated video. Each tree has a process of its own, and they take turns. User and system time of all threads of a
process counts, that of the model also by itself; imports, compiling and a first pass are over by then. Both run the
same model file. Run it on one core, where inference does not leave its thread: OMP_NUM_THREADS=1 taskset -c 0.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUTPUTS = {"JSON lines": ".jsonl", "annotated video": ".mp4"}
Turn = dict[str, float]


def serve(model: str, video: str) -> None:
    """Runs the pipeline once for each output named on standard input, and prints milliseconds per frame."""
    from hoiclip_engine.backends.openvino_backend import OpenVinoBackend
    from hoiclip_engine.engine import Engine, EngineConfig
    from hoiclip_engine.sinks.jsonl_sink import JsonlSink
    from hoiclip_engine.sinks.video_sink import VideoSink
    from hoiclip_engine.streaming.sink_writer import SinkWriter

    infer, infer_s = OpenVinoBackend.__call__, [0.0]

    def timed(backend: OpenVinoBackend, model_input: Any) -> Any:
        begun_s = time.thread_time()
        try:
            return infer(backend, model_input)
        finally:
            infer_s[0] += time.thread_time() - begun_s

    OpenVinoBackend.__call__ = timed  # type: ignore[method-assign, assignment]
    with Engine.load(model, EngineConfig(backend="openvino", precision="fp32")) as engine:
        for line in sys.stdin:
            out = line.strip()
            stream = engine.open(video)
            writer = SinkWriter([JsonlSink(out) if out.endswith(".jsonl") else VideoSink(out)], stream.times)
            infer_s[0], begun = 0.0, resource.getrusage(resource.RUSAGE_SELF)
            writer.start(stream.header)
            for result in stream:
                writer.put(result)
            writer.finish(stream.summary)
            used = resource.getrusage(resource.RUSAGE_SELF)
            cpu_s = used.ru_utime - begun.ru_utime + used.ru_stime - begun.ru_stime
            frames = stream.summary.detected
            turn = {"cpu": cpu_s * 1e3 / frames, "infer": infer_s[0] * 1e3 / frames, "frames": frames}
            print(json.dumps(turn), flush=True)


class Tree:
    """A worktree and the process that runs its code."""

    def __init__(self, root: Path, model: Path, video: Path) -> None:
        self.root = root
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (root, root / "engine", root / "kernels")))}
        command = [sys.executable, __file__, "--serve", str(model), str(video)]
        self._process = subprocess.Popen(
            command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def turn(self, out: Path) -> Turn:
        """Runs the pipeline once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{out}\n")
        self._process.stdin.flush()
        found: Turn = json.loads(self._process.stdout.readline())
        return found

    def commit(self) -> str:
        command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+"]
        return subprocess.run(command, cwd=self.root, stdout=subprocess.PIPE, check=True, text=True).stdout.strip()

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def fields(turns: list[Turn]) -> Mapping[str, Any]:
    """Medians over the turns of one tree."""
    import numpy as np

    around = [turn["cpu"] - turn["infer"] for turn in turns]
    return {
        "cpu_ms_per_frame": round(float(np.median([turn["cpu"] for turn in turns])), 2),
        "infer_cpu_ms_per_frame": round(float(np.median([turn["infer"] for turn in turns])), 2),
        "other_cpu_ms_per_frame": round(float(np.median(around)), 2),
        "cpu_ms_per_frame_of_turns": [round(turn["cpu"], 2) for turn in turns],
    }


def ratio(before: list[float], now: list[float]) -> float:
    """Median of the ratios of neighbours in time."""
    import numpy as np

    return round(float(np.median(np.array(now) / np.array(before))), 3)


def main() -> None:
    from benchmarks.harness import append, provenance
    from hoiclip.synthetic.video import VideoConfig
    from hoiclip_engine.cli.draw import draw_videos

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path, help="worktree of the commit to compare with")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of the video")
    args = parser.parse_args()
    model = ROOT / "hoiclip" / "models" / "drawn.safetensors"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        draw_videos(folder, 1, VideoConfig(width_px=1280, height_px=720, fps=30.0, duration_s=args.seconds), seed=3)
        (video,) = folder.glob("*.mp4")
        trees = [stack.enter_context(Tree(root, model, video)) for root in (args.before.resolve(), ROOT)]
        for output, suffix in OUTPUTS.items():
            outs = [folder / f"{number}{suffix}" for number in range(2)]
            passes = [[tree.turn(out) for tree, out in zip(trees, outs, strict=True)] for _ in range(args.turns + 1)]
            before, now = (list(turns) for turns in zip(*passes[1:], strict=True))
            of_before = ratio([turn["cpu"] for turn in before], [turn["cpu"] for turn in now])
            other = ratio(*([turn["cpu"] - turn["infer"] for turn in turns] for turns in (before, now)))
            line = {
                "benchmark": "per_frame",
                "output": output,
                "video": "1280x720 H.264",
                "model": "drawn",
                "precision": "fp32",
                "frames": int(now[0]["frames"]),
                "before": {"commit": trees[0].commit(), **fields(before)},
                "now": fields(now),
                "cpu_less": round(1 - of_before, 3),
                "other_cpu_less": round(1 - other, 3),
            }
            append("per_frame", {**line, **provenance("openvino", "av", "numba")})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:])
    else:
        main()

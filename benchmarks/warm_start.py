"""Time from the command to its first result: cold, with an empty cache, and warm. python -m benchmarks.warm_start

The time is that of a shell: from starting the process until the first frame's JSON line can be read from its output.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from benchmarks.harness import append, provenance, statistics
from hoiclip.synthetic.video import VideoConfig
from hoiclip_engine.bench.measure import first_result_ms
from hoiclip_engine.cli.draw import draw_videos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        draw_videos(Path(folder), 1, VideoConfig(duration_s=1.0), seed=0)
        (video,) = Path(folder).glob("*.mp4")
        previous = os.environ.get("HOICLIP_CACHE")
        os.environ["HOICLIP_CACHE"] = str(Path(folder) / "cache")
        arms = {"cold fp32": [first_result_ms(video, ("--precision", "fp32"))]}
        arms["warm fp32"] = [first_result_ms(video, ("--precision", "fp32")) for _ in range(rounds)]
        os.environ.pop("HOICLIP_CACHE")
        if previous is not None:
            os.environ["HOICLIP_CACHE"] = previous
        first_result_ms(video, ("--precision", "auto"))  # compiles for this padded size
        arms["warm auto"] = [first_result_ms(video, ("--precision", "auto")) for _ in range(rounds)]
    for arm, samples in arms.items():
        line = {"benchmark": "warm_start", "arm": arm, "model": "drawn", **statistics(samples)}
        append("warm_start", {**line, **provenance("openvino")})


if __name__ == "__main__":
    main()

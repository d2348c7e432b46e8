"""Seeded damage to real videos: each must end in frames or in one line of refusal. No crash, no hang, no traceback.

    python -m benchmarks.mutations --count 2000

Eight files of the shared folder are bit-flipped, cut, and given pieces and headers of each other. Every batch runs in a
process of its own, which prints each file before it reads it; where one dies or hangs, that file is counted and the
others are read in a new process. Decoding is bounded in pixels, frames and seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import append, provenance
from hoiclip.core.errors import HoiclipError
from hoiclip_engine.sources.base import SourceConfig
from hoiclip_engine.sources.file import open_video

FILES = (
    "asl_eat.mkv",
    "avi_96of98.avi",
    "fragmented.mp4",
    "flv_start0.067_avg1000.flv",
    "hevc10_rot_dolbyvision.mov",
    "mpegts_mpeg2_start1.43.ts",
    "vp9_bear.webm",
    "count_fingers.h264",
)
"""Eight containers and five codecs, with rotation, fragments and B-frames; small, so that damage meets structure."""
HEADER_BYTES = 4096
LIMITS = SourceConfig(max_pixels=2**22, max_frames=200, duration_s=60.0)
FILE_TIMEOUT_S = 30.0
"""For one file; the slowest whole one takes about a second."""
MUTATIONS = ("flip", "flip_header", "cut", "drop", "splice_header", "splice_middle", "noise")

Bytes = NDArray[np.uint8]


def mutate(index: int, wholes: list[Bytes], seed: int) -> tuple[str, bytes]:
    """The index-th damaged file and what was done to it; the same for the same seed."""
    rng = np.random.default_rng((seed, index))
    data = wholes[index % len(wholes)].copy()
    other = wholes[(index + int(rng.integers(1, len(wholes)))) % len(wholes)]
    kind = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
    at = int(rng.integers(1, data.size))
    match kind:
        case "flip":
            _flip(data, rng, int(rng.integers(1, 200)))
        case "flip_header":
            _flip(data[:HEADER_BYTES], rng, int(rng.integers(1, 20)))
        case "cut":
            data = data[:at]
        case "drop":
            data = np.concatenate([data[:at], data[at + int(rng.integers(1, 5000)) :]])
        case "splice_header":
            size = int(rng.integers(8, HEADER_BYTES))
            data = np.concatenate([other[:size], data[size:]])
        case "splice_middle":
            data = np.concatenate([data[:at], other[int(rng.integers(other.size)) :], data[at:]])
        case _:
            size = int(rng.integers(1, 2000))
            data[at : at + size] = rng.integers(0, 256, data[at : at + size].size)
    return kind, data.tobytes()


def _flip(data: Bytes, rng: np.random.Generator, count: int) -> None:
    places = rng.integers(0, data.size, count)
    data[places] ^= (1 << rng.integers(0, 8, count)).astype(np.uint8)


def check(path: Path) -> str:
    """The outcome of one file, "frames" or "refused"; anything wrong raises."""
    try:
        with open_video(path, LIMITS) as source:
            times: list[float] = []
            for frame in source:
                assert frame.rgb.shape == (frame.height_px, frame.width_px, 3)
                assert frame.width_px * frame.height_px <= LIMITS.max_pixels
                times.append(frame.pts_s)
    except HoiclipError as error:
        if len(str(error).splitlines()) != 1:
            raise
        return "refused"
    assert 0 < len(times) <= (LIMITS.max_frames or 0)
    assert all(b > a for a, b in pairwise(times)), "time went backwards"
    return "frames"


def work(folder: Path, begin: int, end: int, seed: int) -> None:
    """Reads a batch, in a process of its own: prints one line before and one after every file."""
    wholes = [np.fromfile(folder / name, np.uint8) for name in FILES]
    with tempfile.TemporaryDirectory() as scratch:
        for index in range(begin, end):
            kind, data = mutate(index, wholes, seed)
            path = Path(scratch) / f"damaged{Path(FILES[index % len(FILES)]).suffix}"
            path.write_bytes(data)
            print(json.dumps({"index": index, "kind": kind}), flush=True)
            print(json.dumps({"outcome": check(path)}), flush=True)


def batch(folder: Path, begin: int, end: int, seed: int) -> Iterator[tuple[int, str, str]]:
    """(index, mutation, outcome) of every file; a failure is an outcome too."""
    while begin < end:
        words = [sys.executable, "-m", "benchmarks.mutations", "--work", str(folder), str(begin), str(end), str(seed)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        with tempfile.TemporaryFile("w+") as errors:
            worker = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
            index, kind, outcome = begin, "", ""
            with _Watchdog(worker) as watchdog:
                assert worker.stdout is not None
                for line in map(json.loads, worker.stdout):
                    watchdog.feed()
                    index, kind, outcome = line.get("index", index), line.get("kind", kind), line.get("outcome", "")
                    if outcome:
                        yield index, kind, outcome
                code = worker.wait()
            errors.seek(0)
            error = errors.read().strip()
        if outcome and not code and not error:
            return
        yield index, kind, "hang" if watchdog.bit else f"ended with {code}: {error[-300:]}"
        begin = index + 1


class _Watchdog:
    """Kills a process that prints nothing for too long."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.bit = False
        self._process = process
        self._fed_s = time.monotonic()
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> _Watchdog:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def feed(self) -> None:
        self._fed_s = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            if time.monotonic() - self._fed_s > FILE_TIMEOUT_S:
                self.bit = True
                self._process.kill()
                return


def run(folder: Path, count: int, seed: int, batch_size: int = 250) -> dict[str, object]:
    """Reads all damaged files; returns one line of result."""
    outcomes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    wrong: list[dict[str, object]] = []
    began_s = time.monotonic()
    for begin in range(0, count, batch_size):
        for index, kind, outcome in batch(folder, begin, min(count, begin + batch_size), seed):
            kinds[kind] += 1
            outcomes[outcome if outcome in ("frames", "refused") else "wrong"] += 1
            if outcome not in ("frames", "refused"):
                wrong.append({"index": index, "file": FILES[index % len(FILES)], "mutation": kind, "outcome": outcome})
    return {
        "benchmark": "mutations",
        "files": list(FILES),
        "seed": seed,
        "count": count,
        "outcomes": dict(outcomes),
        "mutations": dict(sorted(kinds.items())),
        "wrong": wrong,
        "wall_s": round(time.monotonic() - began_s, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("HOICLIP_SHARED", "../shared")))
    parser.add_argument("--work", nargs=4, metavar=("DIR", "BEGIN", "END", "SEED"), help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.work:
        work(Path(a.work[0]), *map(int, a.work[1:]))
        return
    line = run(a.shared / "data" / "videos", a.count, a.seed)
    append("mutations", line | provenance("av", "numpy"))
    if line["wrong"]:
        raise SystemExit("not every file ended in frames or a refusal")


if __name__ == "__main__":
    main()

"""Runs with rules, evidence and a record, killed at random over one folder: python -m benchmarks.kills --kills 50

Every kill is a SIGKILL of the whole `hoiclip run`, a fifth of them while it starts, the others at a random place of the
video. After each the database and all files are checked, and the next run must go on over them; the last run ends by
itself and must have what an undisturbed one has. A SIGKILL keeps what the kernel holds, a power cut does not: whether
files and the database are flushed to disk before they count is not seen here.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.events_checks import (
    LOSS_S,
    Pass,
    database_faults,
    evidence_rows,
    hit_faults,
    playback_fault,
    query,
    read_hits,
    read_pass,
)
from benchmarks.harness import append, provenance
from benchmarks.soak_processes import RULES, VIDEO, write_camera_video

MAX_FILES = 100
SECONDS = 30.0
SEED = 7_200_000
_POLL_S = 0.005


@dataclass(kw_only=True)
class Ground:
    """The folder over which all runs go, and what was found in it."""

    folder: Path
    video: Path
    faults: list[str] = field(default_factory=list)
    played: set[tuple[str, int]] = field(default_factory=set)
    """Names and inodes of files of evidence that were decoded."""
    runs: set[str] = field(default_factory=set)
    most_files: int = 0
    lost_hits: int = 0
    alone: int = 0
    """Files that a check found alone: a snapshot whose clip was not written yet, or was removed last."""

    @property
    def evidence(self) -> Path:
        return self.folder / "evidence"

    @property
    def database(self) -> Path:
        return self.folder / "events.sqlite"

    def start(self, jsonl: Path) -> subprocess.Popen[str]:
        (self.folder / "rules.toml").write_text(RULES, encoding="utf-8")
        words: tuple[object, ...] = (
            *("run", self.video, "--jsonl", jsonl, "--rules", self.folder / "rules.toml", "--db", self.database),
            *("--evidence", self.evidence, "--evidence-max-files", MAX_FILES),
            *("--backend", "openvino", "--precision", "fp32", "--short-side", 128, "--detect-every", 2),
        )
        command = [sys.executable, "-m", "hoiclip_engine.cli", *map(str, words)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def check(self, jsonl: Path, sure_s: float) -> None:
        """Checks all after a run has ended. Args: sure_s: time of the stream before which nothing may be lost."""
        reported = read_pass(jsonl) if jsonl.exists() else Pass()
        with suppress(sqlite3.OperationalError):  # killed before there were tables
            self.faults += database_faults(self.database)
            new = {run_id for (run_id,) in query(self.database, "SELECT run_id FROM runs")} - self.runs
            self.runs |= new
            recorded = read_hits(self.database).get(next(iter(new), ""), {})
            self.faults += [f"{jsonl.stem}: {fault}" for fault in hit_faults(reported, recorded, sure_s)]
            self.lost_hits += len(reported.hits.keys() - recorded.keys())
            if len(new) > 1:
                self.faults.append(f"{jsonl.stem}: {len(new)} new runs")
        self._check_evidence()

    def unfinished(self) -> set[str]:
        """Files that a killed run has half written."""
        return {path.name for path in self.evidence.glob(".*.part")}

    def _check_evidence(self) -> None:
        files = [path for path in self.evidence.glob("*") if not path.name.startswith(".")]
        self.most_files = max(self.most_files, len(files) + len(self.unfinished()))
        if len(files) + len(self.unfinished()) > MAX_FILES:
            self.faults.append(f"{len(files)} files of evidence, and {self.unfinished()}")
        for path in files:
            key = path.name, path.stat().st_ino
            if key not in self.played and (fault := playback_fault(path)):
                self.faults.append(fault)
            self.played.add(key)
        suffixes = Counter(path.stem for path in files)
        self.alone += sum(count == 1 for count in suffixes.values())
        if self.database.exists():
            with suppress(sqlite3.OperationalError):
                twice = [path.name for path, count in Counter(evidence_rows(self.database)).items() if count > 1]
                self.faults += [f"in two rows: {name}" for name in twice]


def killed_run(ground: Ground, jsonl: Path, startup_s: float, size: int, rng: random.Random) -> tuple[str, float]:
    """Starts a run and kills it at random.

    Args:
        startup_s: seconds until the first line of an undisturbed run.
        size: bytes of its JSON lines.

    Returns:
        When it was killed, and the time of the stream before which nothing may be lost.
    """
    left = ground.unfinished()
    process = ground.start(jsonl)
    began_s, sizes = time.monotonic(), list[tuple[float, int]]()
    while_starting = rng.random() < 0.2
    limit = rng.uniform(0, startup_s) if while_starting else rng.uniform(0, size)
    while process.poll() is None:
        now_s = time.monotonic()
        sizes.append((now_s, jsonl.stat().st_size if jsonl.exists() else 0))
        if sizes[-1][1] and left and ground.unfinished() & left:
            ground.faults.append(f"{jsonl.stem}: half written files stay: {sorted(ground.unfinished() & left)}")
            left = set()
        if (now_s - began_s if while_starting else sizes[-1][1]) > limit:
            break
        time.sleep(_POLL_S)
    process.kill()
    killed_s, said = time.monotonic(), process.communicate()[1]
    if process.returncode not in (-9, 0) or "Traceback" in said:
        ground.faults.append(f"{jsonl.stem}: ended with {process.returncode}: {said[-300:]}")
    sure_bytes = max((size for at_s, size in sizes if at_s < killed_s - LOSS_S), default=0)
    when = "while starting" if while_starting else f"at {limit / size:.0%}"
    return when if process.returncode else "not at all", _last_s(jsonl, sure_bytes)


def _last_s(jsonl: Path, sure_bytes: int) -> float:
    """Time of the last frame in the first bytes of JSON lines."""
    if not sure_bytes:
        return float("-inf")
    part = jsonl.with_suffix(".part")
    part.write_bytes(jsonl.read_bytes()[:sure_bytes])
    return read_pass(part).last_s


def undisturbed_run(ground: Ground, jsonl: Path) -> tuple[float, Pass]:
    """Seconds until the first line of a run that ends by itself, and its lines."""
    process, began_s, startup_s = ground.start(jsonl), time.monotonic(), 0.0
    while process.poll() is None:
        if not startup_s and jsonl.exists() and jsonl.stat().st_size:
            startup_s = time.monotonic() - began_s
        time.sleep(_POLL_S)
    said = process.communicate()[1]
    if process.returncode:
        ground.faults.append(f"{jsonl.stem}: ended with {process.returncode}: {said[-300:]}")
    ground.check(jsonl, float("inf"))
    return startup_s, read_pass(jsonl)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry", action="store_true", help="print, and keep no result")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        line = {"benchmark": "kills", "seed": a.seed, **kills(Path(folder), a.kills, random.Random(a.seed))}
    if a.dry:
        print(line)
    else:
        append("kills", line | provenance("openvino", "av", "numpy"))
    if line["faults"]:
        sys.exit(1)


def kills(folder: Path, count: int, rng: random.Random) -> dict[str, Any]:
    """Runs all, and returns the fields of the result line."""
    video = folder / "video.mp4"
    write_camera_video(video, SEED, SECONDS)
    for name in ("first", "killed"):
        (folder / name).mkdir()
    first = Ground(folder=folder / "first", video=video)
    startup_s, expected = undisturbed_run(first, folder / "first" / "out.jsonl")
    size = (folder / "first" / "out.jsonl").stat().st_size
    ground, when = Ground(folder=folder / "killed", video=video, faults=first.faults), Counter[str]()
    for number in range(count):
        jsonl = ground.folder / f"{number}.jsonl"
        killed, sure_s = killed_run(ground, jsonl, startup_s, size, rng)
        when["later" if killed.startswith("at ") else killed] += 1
        ground.check(jsonl, sure_s)
        print(f"{number + 1}: killed {killed}, {len(ground.runs)} runs, {len(ground.faults)} faults", flush=True)
        if ground.faults:  # what follows would only repeat them
            break
    _, last = undisturbed_run(ground, ground.folder / "last.jsonl")
    if last.hits != expected.hits:
        ground.faults.append("the last run has other hits than an undisturbed one")
    return {
        "kills": dict(when),
        "video": f"{SECONDS:.0f} s of {VIDEO.width_px}x{VIDEO.height_px} at {VIDEO.fps} fps, lossless",
        "runs_recorded": len(ground.runs),
        "hits_of_a_run": len(expected.hits),
        "hits_recorded": sum(map(len, read_hits(ground.database).values())),
        "hits_lost_by_kills": ground.lost_hits,
        "evidence_played": len(ground.played),
        "evidence_most_files": [ground.most_files, MAX_FILES],
        "files_alone_seen": ground.alone,
        "faults": ground.faults[:10],
    }


if __name__ == "__main__":
    main()

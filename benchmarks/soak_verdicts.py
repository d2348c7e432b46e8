"""Verdicts of a soak: what is seen of the run while it lasts, and what it has left at the end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.events_checks import (
    Pass,
    database_faults,
    evidence_rows,
    growth,
    hit_faults,
    is_flat,
    lost_s,
    match_runs,
    message_faults,
    playback_fault,
    query,
    read_hits,
    read_pass,
)
from benchmarks.soak_processes import MAX_BYTES, MAX_FILES, Flapping, Server, Subscriber, scrape

GRACE_S = 20.0
"""Seconds after a kill or a start in which it may be noticed: a loss takes 5 s, and a busy core is slow."""
STALLED_S = 10.0
"""Seconds without a result after which /health says so."""
WARM_UP_S = 45.0
VERDICTS = (
    "each hit is recorded once",
    "what was written stays",
    "the record is consistent",
    "each message is delivered",
    "evidence is whole",
    "evidence is recorded",
    "evidence within its limits",
    "counters",
    "health",
    "resources are flat",
    "the page answers",
    "the page is watched",
    "the log has no error",
    "ends in order",
)


@dataclass
class Observer:
    """Samples the run once a second, and keeps what it has seen and what was wrong."""

    server: Server
    cameras: Sequence[Flapping]
    kept: Path
    """Folder with a second name for each file of evidence, which the run removes at its limits."""
    faults: dict[str, list[str]] = field(default_factory=dict)
    most_files: int = 0
    most_bytes: int = 0
    health: dict[str, int] = field(default_factory=dict)
    longest_silence_s: float = 0.0
    """Without a result of a source that is connected."""
    scrapes: int = 0
    recorded: dict[tuple[str, int], float | None] = field(default_factory=dict)
    """Hits that the database has had at some time, with their ends."""
    _results: dict[str, tuple[tuple[int, str], float]] = field(default_factory=dict)
    """Frames and state of each source, and since when."""

    def fault(self, verdict: str, text: str) -> None:
        self.faults.setdefault(verdict, []).append(text)

    def tick(self, number: int) -> None:
        if not self.server.life.usage:
            self._results.clear()
        with self.server.held():
            self.server.life.usage.append(self.server.usage())
            self.check_folder()
        self._judge_health()
        if number % 5 == 0:
            self._scrape()
            self._read_database()

    def sample_last(self) -> None:
        """Takes what there is of evidence and hits when the run is about to end."""
        with self.server.held():
            self.check_folder()
        self._read_database()

    def check_folder(self) -> None:
        files = [path for path in self.server.evidence.iterdir() if not path.name.endswith(".lock")]
        size = sum(path.stat().st_size for path in files)
        self.most_files, self.most_bytes = max(self.most_files, len(files)), max(self.most_bytes, size)
        if len(files) > MAX_FILES or size > MAX_BYTES:
            self.fault("evidence within its limits", f"{len(files)} files, {size} bytes")
        for path in files:
            if not path.name.startswith(".") and not (self.kept / path.name).exists():
                os.link(path, self.kept / path.name)

    def _judge_health(self) -> None:
        """Compares /health with the sources as they are: lost, without a result for 10 s, or fine."""
        before = self._silent_s()
        status, text = self.server.request("GET", "/health")
        sources = self.server.get("/api/sources")["sources"]
        word, now_s = json.loads(text)["status"], time.monotonic()
        self.health[word] = self.health.get(word, 0) + 1
        if (status == 503) != (word == "stalled"):
            self.fault("health", f"{status} with {word}")
        for source in sources:
            if self._results.get(source["name"], (None,))[0] != (source["frames"], source["state"]):
                self._results[source["name"]] = ((source["frames"], source["state"]), now_s)
        running = {source["name"] for source in sources if source["state"] == "running"}
        after = self._silent_s()
        self.longest_silence_s = max([self.longest_silence_s, *(after[name] for name in running)])
        # A second or two may lie between a result and its sample.
        must_stall = any(min(after[name], before.get(name, 0.0)) > STALLED_S + 3 for name in running)
        may_stall = any(silent_s > STALLED_S - 3 for silent_s in before.values())
        if (word == "stalled" and not may_stall) or (word != "stalled" and must_stall):
            self.fault("health", f"{word} while sources have had no result for {before} s")
        if now_s - (self.server.life.ready_s or now_s) > GRACE_S:
            self._judge_states({source["name"]: source["state"] for source in sources}, word)

    def _silent_s(self) -> dict[str, float]:
        return {name: time.monotonic() - since_s for name, (_, since_s) in self._results.items()}

    def _judge_states(self, states: dict[str, str], word: str) -> None:
        """Checks states of cameras that have been up or down for long enough to be noticed."""
        for camera in self.cameras:
            settled = time.monotonic() - camera.changed_s > GRACE_S
            if settled and not camera.is_up and states[camera.name] == "running":
                self.fault("health", f"{camera.name} is down and {states[camera.name]}")
            if settled and camera.is_up and states[camera.name] == "lost" and word == "ok":
                self.fault("health", f"{camera.name} is lost, and {word}")

    def _scrape(self) -> None:
        self.scrapes += 1
        values = scrape(self.server)
        for (name, kind), viewers in values.items():
            if name == "hoiclip_live_viewers":
                self.server.life.viewers[kind] = max(self.server.life.viewers.get(kind, 0.0), viewers)
        for (name, source), decoded in values.items():
            if name == "hoiclip_frames_decoded_total":
                shown = values["hoiclip_frames_processed_total", source]
                dropped = values["hoiclip_frames_dropped_total", source]
                if decoded != shown + dropped:
                    self.fault("counters", f"{source}: {decoded} frames, {shown} with a result, {dropped} dropped")

    def _read_database(self) -> None:
        for run_id, hit, end_s in query(self.server.database, "SELECT run_id, hit, end_s FROM rule_hits"):
            if self.recorded.get((run_id, hit)) is None:
                self.recorded[run_id, hit] = end_s


def judge(
    server: Server, observer: Observer, subscriber: Subscriber, chromium_log: Path, outbox: dict[str, int]
) -> dict[str, Any]:
    """Notes faults with the observer. Returns: numbers for the result line."""
    passes = {path: read_pass(path) for path in sorted(server.jsonl.glob("*.jsonl"))}
    matched = match_runs(passes, query(server.database, "SELECT run_id, source, started_at FROM runs"))
    facts = judge_hits(server, observer, passes, matched)
    facts |= judge_messages(observer, subscriber, passes, matched)
    facts |= judge_evidence(server, observer)
    judge_counts(server, observer, passes, outbox)
    log = server.log.read_text(encoding="utf-8", errors="replace")
    for line in log.splitlines():
        if "Traceback" in line or "internal error" in line or '"level": "error"' in line:
            observer.fault("the log has no error", line[:300])
    errors = [line for line in chromium_log.read_text(errors="replace").splitlines() if "Uncaught" in line]
    for line in errors:
        observer.fault("the page answers", line[:300])
    return facts | judge_lives(server, observer)


def judge_hits(
    server: Server, observer: Observer, passes: dict[Path, Pass], matched: dict[Path, str]
) -> dict[str, Any]:
    recorded = read_hits(server.database)
    for fault in database_faults(server.database):
        observer.fault("the record is consistent", fault)
    most_lost_s, lost = 0.0, 0
    for path, each in passes.items():
        rows = recorded.get(matched.get(path, ""), {})
        for fault in hit_faults(each, rows, each.sure_s):
            observer.fault("each hit is recorded once", f"{path.stem}: {fault}")
        if each.summary is None:
            most_lost_s = max(most_lost_s, lost_s(each, rows))
            lost += len(each.hits.keys() - rows.keys())
    if unknown := recorded.keys() - set(matched.values()):
        observer.fault("each hit is recorded once", f"runs without JSON lines: {unknown}")
    for (run_id, hit), end_s in observer.recorded.items():
        row = recorded.get(run_id, {}).get(hit)
        if row is None or (end_s is not None and row[2] != end_s):
            observer.fault("what was written stays", f"{run_id} {hit}: {end_s}, then {row}")
    return {
        "passes": len(passes),
        "passes_killed": sum(each.summary is None for each in passes.values()),
        "hits_reported": sum(len(each.hits) for each in passes.values()),
        "hits_recorded": sum(map(len, recorded.values())),
        "hits_lost_by_kills": lost,
        "earliest_lost_s_before_kill": round(most_lost_s, 3),
    }


def judge_messages(
    observer: Observer,
    subscriber: Subscriber,
    passes: dict[Path, Pass],
    matched: dict[Path, str],
) -> dict[str, Any]:
    again = expected = arrived = 0
    for path, each in passes.items():
        received = subscriber.received.get(matched.get(path, ""), [])
        faults, repeated = message_faults(each.messages, received, is_whole=each.summary is not None)
        again, expected = again + repeated, expected + each.messages
        arrived += len(set(received))
        for fault in faults:
            observer.fault("each message is delivered", f"{path.stem}: {fault}")
    return {"messages": expected, "messages_received": arrived, "messages_again": again}


def judge_evidence(server: Server, observer: Observer) -> dict[str, Any]:
    kept = sorted(observer.kept.iterdir())
    for path in kept:
        if fault := playback_fault(path):
            observer.fault("evidence is whole", fault)
    rows = evidence_rows(server.database)
    names = {path.name for path in rows}
    if twice := [name for name in names if sum(row.name == name for row in rows) > 1]:
        observer.fault("evidence is whole", f"in two rows: {twice[:5]}")
    for path in kept:
        near_a_kill = any(
            life.ended_at is not None and abs(path.stat().st_mtime - life.ended_at) < 5 for life in server.lives
        )
        if path.name not in names and not near_a_kill:
            observer.fault("evidence is recorded", f"no row for {path.name}")
    for name in names - {path.name for path in kept}:
        observer.fault("evidence is recorded", f"no file was seen for {name}")
    left = [path.name for path in server.evidence.iterdir() if path.name.startswith(".") and path.suffix == ".part"]
    if left:
        observer.fault("evidence is whole", f"half written files: {left}")
    return {
        "snapshots": sum(path.suffix == ".jpg" for path in kept),
        "clips": sum(path.suffix == ".mp4" for path in kept),
        "evidence_most_files": [observer.most_files, MAX_FILES],
        "evidence_most_bytes": [observer.most_bytes, MAX_BYTES],
    }


def judge_counts(server: Server, observer: Observer, passes: dict[Path, Pass], outbox: dict[str, int]) -> None:
    for path, each in passes.items():
        if not each.counts_add_up or each.broken_lines:
            observer.fault("counters", f"{path.stem}: {each.frames} frames, {each.summary}, {each.broken_lines} broken")
    of_last_life = [
        each for each in passes.values() if each.begun_at and each.begun_at.timestamp() > server.life.started_at
    ]
    put = server.life.waiting_before + sum(each.messages for each in of_last_life)
    if put != outbox["delivered"] + outbox["dropped"] + outbox["waiting"]:
        observer.fault("counters", f"{put} messages in the outbox: {outbox}")
    if outbox["dropped"] or outbox["waiting"]:
        observer.fault("each message is delivered", f"{outbox}")


def judge_lives(server: Server, observer: Observer) -> dict[str, Any]:
    lines = []
    for number, life in enumerate(server.lives):
        warm = [usage for usage in life.usage if usage.at_s - (life.ready_s or 0.0) > WARM_UP_S]
        line: dict[str, Any] = {"samples": len(life.usage), "viewers": life.viewers}
        if len(warm) >= 30:
            line["first_and_last_third"] = medians = growth(warm)
            if not is_flat(medians):
                observer.fault("resources are flat", f"life {number}: {medians}")
        if len(life.usage) > 60 and not (len(life.viewers) == 2 and all(life.viewers.values())):
            observer.fault("the page is watched", f"life {number}: {life.viewers}")
        lines.append(line)
    return {
        "lives": lines,
        "health": observer.health,
        "longest_silence_s": round(observer.longest_silence_s, 1),
        "scrapes": observer.scrapes,
    }


def verdicts(observer: Observer) -> dict[str, bool]:
    assert observer.faults.keys() <= set(VERDICTS)
    return {name: name not in observer.faults for name in VERDICTS}


def some(faults: dict[str, list[str]]) -> dict[str, list[str]]:
    """Enough of each to find the cause."""
    return {name: [f"{len(texts)} in all", *texts[:8]] for name, texts in faults.items()}

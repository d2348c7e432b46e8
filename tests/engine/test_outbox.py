"""Outbox: at least once, in order, bounded; and what its file keeps over a kill."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hoiclip.core.errors import SinkError
from hoiclip_engine.events.outbox import Outbox, OutboxConfig, Receipt, Target, TargetQueue
from hoiclip_engine.events.outbox_file import Message, OutboxFile
from hoiclip_engine.types.frame import Frame, SourceEvent
from hoiclip_engine.types.results import Sink
from hoiclip_engine.types.rule_hits import RuleHit
from hoiclip_engine.types.tracked_pairs import Event
from tests.engine.frame_results import frame_result, header, rule_hit, summary
from tests.engine.run_processes import ROOT
from tests.engine.test_webhook import receiver

FAST = OutboxConfig(first_pause_s=0.005, last_pause_s=0.02, drain_s=2.0)
CAPACITY = 8
RGB = np.zeros((48, 64, 3), np.uint8)


def message(number: int) -> Message:
    payload = {"source": "camera", "number": number}
    return Message(id=f"run-{number}", kind="verb.start", source="camera", time="2026-01-31T12:00:00Z", payload=payload)


class FakeTarget(Target):
    """Answers attempts as it is asked to; by default everything arrives."""

    name = "fake://target"
    batch = 3
    collect_s = 0.0
    idle_s = None

    def __init__(self, answer: Callable[[Sequence[Message]], Receipt] | None = None, key: str = "fake") -> None:
        self.key = key
        self.attempts: list[list[str]] = []
        self.arrived: list[str] = []
        self.closed = 0
        self._answer = answer or (lambda messages: Receipt(acknowledged={message.id for message in messages}))

    def deliver(self, messages: Sequence[Message]) -> Receipt:
        self.attempts.append([message.id for message in messages])
        receipt = self._answer(messages)
        self.arrived += [message.id for message in messages if message.id in receipt.acknowledged]
        return receipt

    def close(self) -> None:
        self.closed += 1


def refusing(_messages: Sequence[Message]) -> Receipt:
    return Receipt(failure="it is down")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite"


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, "not in time"
        time.sleep(0.005)


# Delivery.


def test_outbox_delivers_in_order_and_again_after_failures() -> None:
    answers = iter([Receipt(failure="busy"), Receipt(acknowledged={"run-0"}, failure="busy"), Receipt(failure="busy")])
    target = FakeTarget(
        lambda messages: next(answers, Receipt(acknowledged={message.id for message in messages})),
    )
    box = Outbox([target], config=FAST)
    box.put([message(number) for number in range(5)])
    box.opened()
    until(lambda: not box.counters()[0].waiting)
    box.closed()
    first, rest = ["run-0", "run-1", "run-2"], ["run-1", "run-2"]
    assert target.attempts == [first, first, rest, rest, ["run-3", "run-4"]]
    counters = box.counters()[0]
    assert (counters.delivered, counters.retried, counters.dropped) == (5, 3 + 2 + 2, 0)
    assert target.closed == 1


def test_outbox_refusal_for_good_drops_these_messages_only(caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([Receipt(failure="it answers 400", is_final=True)])
    target = FakeTarget(lambda messages: next(answers, Receipt(acknowledged={message.id for message in messages})))
    box = Outbox([target], config=FAST)
    box.put([message(number) for number in range(5)])
    box.opened()
    until(lambda: not box.counters()[0].waiting)
    with pytest.raises(SinkError, match="3 events could not be delivered to fake://target: it answers 400"):
        box.closed()
    assert target.arrived == ["run-3", "run-4"]
    assert [record.getMessage() for record in caplog.records] == [
        "fake://target: it answers 400; the messages are dropped"
    ]


def test_outbox_target_that_is_down_neither_delays_nor_stops_others() -> None:
    down, up = FakeTarget(refusing, "down"), FakeTarget(key="up")
    box = Outbox([down, up], config=FAST)
    box.opened()
    box.put([message(number) for number in range(5)])
    until(lambda: len(up.arrived) == 5)
    with pytest.raises(SinkError, match="5 events could not be delivered"):
        box.closed()


def test_outbox_survives_a_target_that_raises() -> None:
    answers = iter([0])

    def answer(messages: Sequence[Message]) -> Receipt:
        for _ in answers:
            raise RuntimeError("https://user:secret@host")
        return Receipt(acknowledged={message.id for message in messages})

    target = FakeTarget(answer)
    box = Outbox([target], config=FAST)
    box.opened()
    box.put([message(0)])
    until(lambda: target.arrived)
    box.closed()
    assert box.counters()[0].last_failure == "internal error, RuntimeError"


def test_outbox_warns_once_of_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    target = FakeTarget(refusing)
    box = Outbox([target], config=FAST)
    box.opened()
    box.put([message(0)])
    until(lambda: len(target.attempts) > 5)
    with pytest.raises(SinkError):
        box.closed()
    assert [record.getMessage() for record in caplog.records] == ["fake://target: it is down; 1 messages wait"]


def test_outbox_wrong_password_is_retried_slowly() -> None:
    target = FakeTarget(lambda _: Receipt(failure="it refuses the password", retry_slowly=True))
    box = Outbox([target], config=OutboxConfig(first_pause_s=0.001, last_pause_s=60.0, drain_s=2.0))
    box.opened()
    box.put([message(0)])
    until(lambda: target.attempts)
    time.sleep(0.1)
    assert len(target.attempts) == 1
    with pytest.raises(SinkError):
        box.closed()
    assert len(target.attempts) == 2  # the last attempt


def test_outbox_frees_its_threads_and_descriptors(path: Path) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        box = Outbox([FakeTarget()], path, FAST)
        box.opened()
        box.put([message(0)])
        box.closed()
    assert not [thread for thread in threading.enumerate() if thread.name in ("hoiclip-fake", "hoiclip-outbox")]
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_outbox_continues_with_the_next_source() -> None:
    target = FakeTarget()
    box = Outbox([target], config=FAST)
    for number in range(3):
        box.opened()
        box.put([message(number)])
        box.closed()
    assert target.arrived == ["run-0", "run-1", "run-2"]


# Sinks.


Kind = Literal["start", "update", "end"]


def hit(kind: Kind) -> RuleHit:
    numbers = {"pts_s": 1.0, "start_s": 0.5, "peak_s": 0.7, "score": 0.8, "peak_score": 0.9}
    return rule_hit(kind, hit=4, pair=7, human=3, object=-1, label="", index=25, **numbers)


def write_everything(sink: Sink) -> None:
    event = Event(event="start", pair=7, human=3, object=5, label_index=0, verb_index=0, pts_s=0.5)
    end = Event(event="end", pair=7, human=3, object=5, label_index=0, verb_index=0, pts_s=2.0)
    sink.start(header(source="rtsp://camera/1"))
    result = frame_result(Frame(RGB, 0.5, 12), events=(event,))
    sink.write(result)
    sink.source_event(SourceEvent(event="source_lost", pts_s=0.5, reason="reset"))
    sink.finish(summary(closing_events=(end,)))


def test_sink_gives_every_event_an_id_a_kind_and_the_name_of_its_source() -> None:
    seen: list[Message] = []

    def answer(messages: Sequence[Message]) -> Receipt:
        seen.extend(messages)
        return Receipt(acknowledged={message.id for message in messages})

    box = Outbox([FakeTarget(answer)], config=FAST)
    sink = box.sink()
    write_everything(sink)
    assert [message.kind for message in seen] == ["verb.start", "source.lost", "verb.end"]
    assert {message.source for message in seen} == {"camera_1"}
    assert {message.payload["source"] for message in seen} == {"rtsp://camera/1"}
    run_ids = {message.id.rpartition("-")[0] for message in seen}
    assert len(run_ids) == 1
    assert [message.id.rpartition("-")[2] for message in seen] == ["0", "1", "2"]
    assert sink.notes == ("fake://target: 3 messages delivered, 0 sent again, 0 dropped, 0 waiting",)


@pytest.mark.parametrize("kind", ["start", "update", "end"])
def test_sink_reports_rule_hits(kind: Kind) -> None:
    seen: list[Message] = []
    target = FakeTarget(lambda messages: (seen.extend(messages), Receipt(acknowledged={m.id for m in messages}))[1])
    sink = Outbox([target], config=FAST).sink("gate")
    sink.start(header())
    sink.write(dataclasses.replace(frame_result(Frame(RGB, 1.0, 25)), rule_hits=(hit(kind),)))
    sink.finish(dataclasses.replace(summary(), closing_hits=(hit("end"),)))
    assert [message.kind for message in seen] == [f"rule.{kind}", "rule.end"]
    assert seen[0].payload == {
        "source": "clip.mp4",
        "event": f"rule_{kind}",
        "hit": 4,
        "rule": "rides here",
        "pair": 7,
        "human": 3,
        "object": None,
        "label": None,
        "verb": "ride",
        "pts_s": 1.0,
        "start_s": 0.5,
        "score": 0.8,
        "peak_score": 0.9,
        "peak_s": 0.7,
        "human_box_xyxy": None,
        "object_box_xyxy": None,
    }


# Files.


def test_file_keeps_messages_for_the_next_run(path: Path) -> None:
    box = Outbox([FakeTarget(refusing)], path, FAST)
    box.opened()
    box.put([message(number) for number in range(4)])
    box.closed()
    assert box.counters()[0].waiting == 4
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    target = FakeTarget()
    again = Outbox([target], path, FAST)
    again.opened()
    again.put([message(9)])
    again.closed()
    assert target.arrived == ["run-0", "run-1", "run-2", "run-3", "run-9"]
    third = FakeTarget()
    last = Outbox([third], path, FAST)
    last.opened()
    last.closed()
    assert third.arrived == []


def test_file_keeps_messages_of_each_target(path: Path) -> None:
    box = Outbox([FakeTarget(refusing, "down"), FakeTarget(key="up")], path, FAST)
    box.opened()
    box.put([message(0)])
    box.closed()
    down, up = FakeTarget(key="down"), FakeTarget(key="up")
    again = Outbox([down, up], path, FAST)
    again.opened()
    again.closed()
    assert (down.arrived, up.arrived) == (["run-0"], [])


def test_file_in_use_by_another_run_is_refused(path: Path) -> None:
    box = Outbox([FakeTarget()], path, FAST)
    box.opened()
    with pytest.raises(SinkError, match="another run uses"):
        Outbox([FakeTarget()], path, FAST).opened()
    box.closed()


@pytest.mark.parametrize("content", [b"not a database" * 100, "table"])
def test_file_of_something_else_is_refused_and_left_as_it_is(path: Path, content: bytes | str) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE message (id TEXT)")
    before = path.read_bytes()
    with pytest.raises(SinkError, match="found another file"):
        Outbox([FakeTarget()], path, FAST).opened()
    if isinstance(content, bytes):
        assert path.read_bytes() == before
    with closing(sqlite3.connect(path)) as connection:
        if content == "table":
            assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("message",)]


def test_file_in_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"cannot open the outbox .*No such file"):
        Outbox([FakeTarget()], tmp_path / "missing" / "outbox", FAST).opened()


def test_file_that_cannot_be_written_keeps_messages_in_memory(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = OutboxFile(path)
    file.open()
    assert file._connection is not None
    file._connection.execute("PRAGMA max_page_count = 4")  # a full disk
    for number in range(200):
        file.keep("fake", number, message(number))
    until(lambda: caplog.records)
    assert "disk is full" in caplog.records[0].getMessage()
    assert file.unwritten
    for number in range(200):
        file.forget("fake", number)
    until(lambda: not file.unwritten)
    file.close()


class OutboxMachine(RuleBasedStateMachine):
    """A queue with a file against a list: put, attempt, lose the process, start again."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hoiclip-outbox-"))
        self.waiting: list[int] = []
        self.acknowledged: set[int] = set()
        self.number = 0
        self._start()

    def _start(self) -> None:
        self.put = self.delivered = self.dropped = 0
        self.file = OutboxFile(self.folder / "outbox.sqlite")
        self.file.open()
        self.queue = TargetQueue("fake://", "fake", CAPACITY, self.file)
        loaded = self.file.load("fake")
        self.queue.put(loaded, is_kept=True)
        self.put = len(loaded)

    @rule(count=st.integers(1, 5))
    def put_messages(self, count: int) -> None:
        numbers = range(self.number, self.number + count)
        self.queue.put([(number, message(number)) for number in numbers])
        self.number += count
        self.put += count
        self.waiting += numbers
        lost = max(0, len(self.waiting) - CAPACITY)
        self.dropped += lost
        self.waiting = self.waiting[lost:]

    @rule(limit=st.integers(1, 4), arrive=st.sets(st.integers(0, 3)), final=st.booleans(), late=st.integers(0, 3))
    def attempt(self, limit: int, arrive: set[int], final: bool, late: int) -> None:
        """Args: arrive: places in the batch that are acknowledged. late: messages that are put meanwhile."""
        batch = [int(message.id.removeprefix("run-")) for message in self.queue.take(limit)]
        assert batch == self.waiting[: len(batch)]
        if late:
            self.put_messages(late)
        arrived = {number for place, number in enumerate(batch) if place in arrive}
        failure = "busy" if len(arrived) < len(batch) else ""
        self.queue.settle(Receipt(acknowledged={f"run-{n}" for n in arrived}, failure=failure, is_final=final))
        still = [number for number in batch if number in self.waiting]
        self.delivered += len(arrived & set(still))
        gone = set(still) if failure and final else arrived
        self.dropped += len(gone & set(still) - arrived)
        self.waiting = [number for number in self.waiting if number not in gone]

    @rule()
    def restart(self) -> None:
        self.file.close()
        self._start()

    @invariant()
    def counters_add_up(self) -> None:
        counters = self.queue.counters()
        assert counters.delivered + counters.dropped + counters.waiting == self.put
        assert (counters.delivered, counters.dropped) == (self.delivered, self.dropped)
        assert counters.waiting == len(self.waiting) <= CAPACITY

    def teardown(self) -> None:
        self.file.close()
        shutil.rmtree(self.folder)


OutboxMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
TestOutboxMachine = OutboxMachine.TestCase


def started(path: Path, url: str, events: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.engine.dying_outbox", str(path), url, str(events)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("", "engine", "kernels"))},
        stdout=subprocess.PIPE,
        text=True,
    )


def kept_ids(process: subprocess.Popen[str], seconds: float) -> Iterator[str]:
    """Ids that the process has printed until it is killed, so many seconds after the first."""
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(seconds)
    process.kill()
    yield from (line.strip() for line in [first, *process.stdout] if line.endswith("\n") and line != "empty\n")
    process.wait()


@pytest.mark.thorough
def test_file_delivers_everything_at_least_once_over_kills(path: Path) -> None:
    chance = random.Random(7)
    kept: list[str] = []
    with receiver(*chance.choices([204, 503, 503], k=60)) as (host, received):
        for _ in range(6):
            kept += kept_ids(started(path, f"http://{host}/", 10_000), chance.uniform(0.02, 0.4))
        process = started(path, f"http://{host}/", 0)
        output, _ = process.communicate(timeout=60)
    assert output == "empty\n"
    assert process.returncode == 0
    contents: dict[str, int] = {}
    for event in received.events:
        assert contents.setdefault(event["id"], event["number"]) == event["number"]
    assert len(kept) > 20
    assert set(kept) <= contents.keys()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM message").fetchone() == (0,)

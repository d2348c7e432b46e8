"""The supervisor: sources come and go, are retried and restarted, and none disturbs another."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hoiclip.core.errors import UsageError
from hoiclip_engine.sources.uri import parse_address
from hoiclip_engine.streaming import supervisor as supervisor_module
from hoiclip_engine.streaming.supervisor import Supervisor
from hoiclip_engine.types.frame import SupervisedSource
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink
from tests.engine.fake_source import readers
from tests.engine.supervised_runs import QUICK, FakeCameras, NoOutputs, wait_until


class Run:
    """A supervisor with made-up cameras."""

    def __init__(self) -> None:
        self.cameras, self.outputs = FakeCameras(), NoOutputs()
        self.changes = 0
        self.supervisor = Supervisor(self.cameras.open, self.outputs, QUICK, self._count)

    def add(self, kind: str, name: str = "") -> int:
        text = kind if kind.endswith(".mp4") else f"rtsp://user:secret@host/{kind}"
        return self.supervisor.add(parse_address(text), name)

    def source(self, source_id: int) -> SupervisedSource:
        return next(source for source in self.supervisor.sources() if source.id == source_id)

    def wait_for(self, source_id: int, state: str) -> None:
        wait_until(lambda: self.source(source_id).state == state)

    def _count(self) -> None:
        self.changes += 1


@pytest.fixture
def run() -> Iterator[Run]:
    made = Run()
    yield made
    made.supervisor.close()
    made.cameras.release()
    wait_until(lambda: not source_threads())


def source_threads() -> list[threading.Thread]:
    names = ("hoiclip-source-run", "hoiclip-write")
    return [*readers(), *(thread for thread in threading.enumerate() if thread.name in names)]


def test_source_runs_as_soon_as_it_is_added(run: Run) -> None:
    source_id = run.add("live")
    run.wait_for(source_id, "running")
    wait_until(lambda: run.source(source_id).frames > 5)
    assert run.source(source_id).address == "rtsp://host/live"
    assert run.changes >= 2


def test_paused_source_holds_no_thread_and_resumes(run: Run) -> None:
    source_id = run.add("live")
    run.wait_for(source_id, "running")
    run.supervisor.pause(source_id)
    assert run.source(source_id).state == "paused"
    assert source_threads() == []
    assert run.outputs.forgotten == ["rtsp://host/live"]
    run.supervisor.resume(source_id)
    run.wait_for(source_id, "running")
    assert len(run.cameras.opened) == 2


def test_removed_source_is_gone_with_its_threads(run: Run) -> None:
    first, second = run.add("live"), run.add("live")
    run.wait_for(second, "running")
    run.supervisor.remove(first)
    assert [source.id for source in run.supervisor.sources()] == [second]
    frames = run.source(second).frames
    wait_until(lambda: run.source(second).frames > frames)
    with pytest.raises(KeyError):
        run.supervisor.remove(first)
    run.supervisor.remove(second)
    assert source_threads() == []
    assert run.add("live") == 3  # ids are not given again


def test_camera_that_is_off_is_retried_with_growing_delays(run: Run) -> None:
    source_id = run.add("off")
    run.wait_for(source_id, "waiting")
    assert "connection refused" in run.source(source_id).error
    time.sleep(1.2)
    # 0.2 and 0.4 s, and up to a quarter less, then 0.8 s.
    assert 2 <= len(run.cameras.opened) <= 5


def test_file_that_cannot_be_read_is_not_retried(run: Run) -> None:
    source_id = run.add("nowhere.mp4")
    run.wait_for(source_id, "failed")
    time.sleep(0.5)
    assert len(run.cameras.opened) == 1
    run.supervisor.resume(source_id)
    wait_until(lambda: len(run.cameras.opened) == 2)


def test_source_that_ends_is_not_opened_again(run: Run) -> None:
    source_id = run.add("short")
    run.wait_for(source_id, "ended")
    assert 0 < run.source(source_id).frames <= 5  # a slow machine leaves frames out
    time.sleep(0.4)
    assert len(run.cameras.opened) == 1
    run.supervisor.resume(source_id)
    wait_until(lambda: len(run.cameras.opened) == 2)


def test_wedged_source_is_restarted_and_counted_while_others_run_on(run: Run) -> None:
    wedged, other = run.add("silent"), run.add("live")
    run.wait_for(other, "running")
    opened = run.cameras.sources[1]
    wait_until(lambda: run.source(wedged).restarts >= 2)
    assert run.source(other).restarts == 0
    assert opened in run.cameras.sources
    assert opened.closed == 0
    assert run.supervisor.num_left_behind == 0


def test_source_that_is_known_as_lost_is_not_restarted(run: Run) -> None:
    source_id = run.add("lost")
    run.wait_for(source_id, "lost")
    assert run.source(source_id).error == "no route"
    wait_until(lambda: run.cameras.sources[0].made == 4)
    time.sleep(1.5 * QUICK.wedged_after_s)
    assert run.source(source_id).restarts == 0


class Writing(Sink):
    """Writes each frame, and hangs from the fifth on or takes long for each."""

    def __init__(self, delay_s: float, hangs: threading.Event | None = None) -> None:
        self._delay_s, self._hangs, self._written = delay_s, hangs, 0

    def start(self, header: RunHeader) -> None:
        return

    def write(self, result: FrameResult) -> None:
        self._written += 1
        time.sleep(self._delay_s)
        if self._hangs is not None and self._written == 5:
            self._hangs.wait()

    def finish(self, summary: RunSummary) -> None:
        return


def test_output_that_hangs_is_noticed_although_frames_are_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(run.outputs, "sinks_for", lambda source_id, name, stream: [Writing(0.0, released)])
    source_id = run.add("live")
    wait_until(lambda: run.source(source_id).restarts == 1)
    wait_until(lambda: run.source(source_id).state == "running")
    assert run.supervisor.num_left_behind == 1
    released.set()
    wait_until(lambda: run.supervisor.num_left_behind == 0)


def test_slow_machine_is_no_wedged_source(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are read, and most are skipped; a result takes longer than a source may be silent."""
    monkeypatch.setattr(run.outputs, "sinks_for", lambda source_id, name, stream: [Writing(1.5 * QUICK.wedged_after_s)])
    source_id = run.add("live")
    run.wait_for(source_id, "running")
    time.sleep(4 * QUICK.wedged_after_s)
    assert run.source(source_id).restarts == 0


def test_threads_that_hang_are_left_behind_up_to_a_limit(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "MAX_LEFT_BEHIND", 2)
    source_id = run.add("stuck")
    wait_until(
        lambda: run.source(source_id).state == "waiting" and "threads of sources hang" in run.source(source_id).error
    )
    assert run.supervisor.num_left_behind == 2
    opened = len(run.cameras.opened)
    time.sleep(0.5)
    assert len(run.cameras.opened) == opened == 2
    run.cameras.release()
    wait_until(lambda: len(run.cameras.opened) > opened)  # they have ended: it is tried again


def test_source_that_hangs_is_removed_in_time(run: Run) -> None:
    source_id = run.add("stuck")
    run.wait_for(source_id, "running")
    begun_s = time.monotonic()
    run.supervisor.remove(source_id)
    # The reader has a second to end (frame_reader.py), which is longer than stop_s here.
    assert time.monotonic() - begun_s < QUICK.stop_s + 0.5
    assert run.supervisor.sources() == []


def test_names_are_unique(run: Run) -> None:
    ids = [run.add("live", name) for name in ("door", "door", "", "")]
    assert [run.source(source_id).name for source_id in ids] == [
        "door",
        "door (2)",
        "rtsp://host/live",
        "rtsp://host/live (2)",
    ]


def test_number_of_sources_is_limited(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "MAX_SOURCES", 1)
    run.add("live")
    with pytest.raises(UsageError, match="at most 1 sources"):
        run.add("live")


def test_close_ends_everything_and_nothing_can_be_added(run: Run) -> None:
    for kind in ("live", "off", "silent", "short"):
        run.add(kind)
    run.supervisor.close()
    wait_until(lambda: not source_threads())
    assert not any(thread.name == "hoiclip-supervisor" for thread in threading.enumerate())
    with pytest.raises(UsageError, match="ending"):
        run.add("live")


def test_close_waits_for_outputs_that_still_write(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for those of a source that was paused a moment before: afterwards record and outbox are closed."""
    finished = []

    class SlowToFinish(Writing):
        def finish(self, summary: RunSummary) -> None:
            time.sleep(2 * QUICK.stop_s)
            finished.append(summary)

    monkeypatch.setattr(run.outputs, "sinks_for", lambda source_id, name, stream: [SlowToFinish(0.0)])
    paused, running = run.add("live", "paused"), run.add("live", "running")
    for source_id in (paused, running):
        run.wait_for(source_id, "running")
    run.supervisor.pause(paused)
    run.supervisor.close()
    assert len(finished) == 2


def test_close_does_not_wait_for_an_output_that_hangs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    sink = Writing(0.0, released)
    monkeypatch.setattr(run.outputs, "sinks_for", lambda source_id, name, stream: [sink])
    run.add("live")
    wait_until(lambda: sink._written == 5)
    begun_s = time.monotonic()
    run.supervisor.close()
    assert time.monotonic() - begun_s < 2 * QUICK.stop_s + QUICK.finish_s + 1.0
    released.set()


def test_outputs_that_cannot_be_made_are_retried(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> list[object]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run.outputs, "sinks_for", refuse)
    source_id = run.add("live")
    run.wait_for(source_id, "waiting")
    assert "No space left" in run.source(source_id).error
    monkeypatch.undo()
    run.wait_for(source_id, "running")


@pytest.mark.parametrize("field", ["wedged_after_s", "stop_s", "first_retry_s"])
def test_times_must_be_positive(field: str) -> None:
    with pytest.raises(ValueError, match="positive"):
        replace(QUICK, **{field: 0.0})

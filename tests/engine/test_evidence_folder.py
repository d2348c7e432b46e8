"""The folder of evidence: never over its limits, foreign files untouched, whole files only."""

from __future__ import annotations

import os
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import SinkError, UsageError
from hoiclip_engine.events import evidence_folder
from hoiclip_engine.events.evidence_folder import EvidenceFolder, EvidenceLimits, own_files

MARK_BYTES = 32
"""More than the mark adds to a file."""
JPEG = b"\xff\xd8\xff\xd9"


def stem(number: int) -> str:
    return f"000h00m{number % 60:02d}.000s_cam_ride_{number}"


def evidence(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in own_files(folder)}


def everything(folder: Path) -> int:
    """Bytes of all files, also of hidden and unfinished ones."""
    return sum(path.stat().st_size for path in folder.iterdir())


def test_files_are_written_whole_and_known_again(tmp_path: Path) -> None:
    with EvidenceFolder(tmp_path / "made" / "here") as folder:
        paths = folder.store(stem(1), {".jpg": JPEG, ".mp4": b"clip"})
        assert sorted(path.name for path in paths.values()) == [f"{stem(1)}.jpg", f"{stem(1)}.mp4"]
        assert paths[".mp4"].read_bytes().startswith(b"clip")
        size = folder.size
    assert size == sum(evidence(folder.path).values())
    with EvidenceFolder(folder.path) as again:
        assert (again.files, again.size) == (2, size)


def test_names_that_are_taken_get_a_number(tmp_path: Path) -> None:
    (tmp_path / f"{stem(1)}.mp4").write_bytes(b"a user's own")
    with EvidenceFolder(tmp_path) as folder:
        names = [folder.store(stem(1), {".jpg": JPEG})[".jpg"].name for _ in range(2)]
    assert names == [f"{stem(1)}-2.jpg", f"{stem(1)}-3.jpg"]
    assert (tmp_path / f"{stem(1)}.mp4").read_bytes() == b"a user's own"


def test_oldest_files_are_removed_first_and_both_of_a_name(tmp_path: Path) -> None:
    with EvidenceFolder(tmp_path, EvidenceLimits(max_files=4)) as folder:
        for number in range(4):
            folder.store(stem(number), {".jpg": JPEG, ".mp4": b"clip"})
        assert sorted({Path(name).stem for name in evidence(tmp_path)}) == [stem(2), stem(3)]
        assert folder.removed == 4


def test_foreign_files_are_never_removed(tmp_path: Path) -> None:
    foreign = {
        "holiday.mp4": b"x" * 5000,
        f"{stem(1)}.mp4": b"the name, but not the mark" * 100,
        "notes.txt": b"hoiclip-evidence/1",
        f".{stem(2)}.mp4.12ab34cd.part.txt": b"x",
    }
    for name, content in foreign.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / f"{stem(5)}.jpg").symlink_to(tmp_path / "notes.txt")
    with EvidenceFolder(tmp_path, EvidenceLimits(max_files=2, max_bytes=100)) as folder:
        marked = folder.store(stem(3), {".mp4": b"a"})[".mp4"].rename(tmp_path / "renamed by hand.mp4")
        for number in range(10):
            folder.store(stem(10 + number), {".mp4": b"clip"})
    for name, content in foreign.items():
        assert (tmp_path / name).read_bytes() == content
    assert marked.exists()
    assert (tmp_path / f"{stem(5)}.jpg").is_symlink()


def test_unfinished_files_of_a_killed_run_are_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / f".{stem(1)}.mp4.0a1b2c3d.part").write_bytes(b"half")
    (tmp_path / ".other.mp4.0a1b2c3d.part").write_bytes(b"not ours")
    EvidenceFolder(tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hoiclip-evidence.lock", ".other.mp4.0a1b2c3d.part"]


def test_lower_limits_hold_from_the_start_of_the_next_run(tmp_path: Path) -> None:
    with EvidenceFolder(tmp_path) as folder:
        for number in range(6):
            folder.store(stem(number), {".jpg": JPEG})
    with EvidenceFolder(tmp_path, EvidenceLimits(max_files=2)):
        assert sorted(evidence(tmp_path)) == [f"{stem(4)}.jpg", f"{stem(5)}.jpg"]


def test_evidence_larger_than_the_limit_is_refused_and_removes_nothing(tmp_path: Path) -> None:
    with EvidenceFolder(tmp_path, EvidenceLimits(max_bytes=1000)) as folder:
        folder.store(stem(1), {".jpg": JPEG})
        with pytest.raises(SinkError, match="at most 1000 bytes"):
            folder.store(stem(2), {".mp4": bytes(2000)})
        assert len(evidence(tmp_path)) == 1


def test_files_are_removed_when_they_are_too_old(tmp_path: Path) -> None:
    with EvidenceFolder(tmp_path, EvidenceLimits(max_age_s=0.5)) as folder:
        folder.submit("a", lambda: folder.store(stem(1), {".jpg": JPEG}), 1, wait=False)  # type: ignore[arg-type, return-value]
        folder.drain("a")
        assert len(evidence(tmp_path)) == 1
        until_s = time.monotonic() + 5
        while evidence(tmp_path) and time.monotonic() < until_s:
            time.sleep(0.05)
        assert not evidence(tmp_path)
        assert folder.files == 0


def test_folder_belongs_to_one_run_at_a_time(tmp_path: Path) -> None:
    with EvidenceFolder(tmp_path), pytest.raises(UsageError, match="another run writes"):
        EvidenceFolder(tmp_path)
    EvidenceFolder(tmp_path).close()


def test_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SinkError, match="cannot write to the evidence folder"):
        EvidenceFolder(tmp_path / "file")


def test_folder_may_vanish_and_come_back(tmp_path: Path) -> None:
    lines: list[str] = []
    with EvidenceFolder(tmp_path / "usb", EvidenceLimits(max_files=2), lines.append) as folder:
        folder.store(stem(1), {".jpg": JPEG})
        shutil.move(tmp_path / "usb", tmp_path / "away")
        for number in (2, 3):
            with pytest.raises(SinkError, match="No such file") as caught:
                folder.store(stem(number), {".jpg": JPEG})
            folder.report(caught.value)
        assert len(lines) == 1
        assert not (tmp_path / "usb").exists()
        shutil.move(tmp_path / "away", tmp_path / "usb")
        for number in (4, 5):
            folder.store(stem(number), {".jpg": JPEG})
            folder.report(None)
        assert sorted(evidence(tmp_path / "usb")) == [f"{stem(4)}.jpg", f"{stem(5)}.jpg"]


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Files may not grow beyond 4000 bytes: a write fails in the middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_disk")
def test_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with EvidenceFolder(tmp_path) as folder:
        with pytest.raises(SinkError, match="cannot write evidence"):
            folder.store(stem(1), {".jpg": JPEG, ".mp4": bytes(10_000)})
        assert [path.name for path in tmp_path.iterdir()] == [".hoiclip-evidence.lock"]
        folder.store(stem(2), {".jpg": JPEG})
        assert folder.size == sum(evidence(tmp_path).values()) == everything(tmp_path)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("store"), st.integers(0, 900), st.integers(0, 900)),
            st.tuples(st.just("restart"), st.integers(2, 9), st.integers(300, 3000)),
            st.tuples(st.just("delete"), st.integers(0, 9), st.just(0)),
        ),
        max_size=25,
    ),
    st.integers(2, 9),
    st.integers(300, 3000),
)
def test_folder_is_never_over_its_limits(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]], max_files: int, max_bytes: int
) -> None:
    """Over writes of any size, restarts with other limits and files that are removed by hand; also during a write."""
    path = tmp_path_factory.mktemp("evidence")
    folder = EvidenceFolder(path, EvidenceLimits(max_files=max_files, max_bytes=max_bytes))
    during: list[tuple[int, int]] = []
    write_bytes = Path.write_bytes

    def watched(target: Path, data: bytes) -> int:
        written = write_bytes(target, data)
        during.append((len(list(path.iterdir())) - 1, everything(path)))
        return written

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", watched)
        for number, (step, first, second) in enumerate(steps):
            during.clear()
            if step == "store":
                try:
                    folder.store(stem(number), {".jpg": bytes(first), ".mp4": bytes(second)})
                except SinkError:
                    assert first + second + 2 * MARK_BYTES > max_bytes
            elif step == "restart":
                folder.close()
                max_files, max_bytes = first, second
                folder = EvidenceFolder(path, EvidenceLimits(max_files=max_files, max_bytes=max_bytes))
            else:
                for own in sorted(own_files(path))[:first]:
                    own.unlink()
            for count, size in [*during, (len(list(path.iterdir())) - 1, everything(path))]:
                assert count <= max_files
                assert size <= max_bytes
    folder.close()


def test_several_sources_share_the_limits(tmp_path: Path) -> None:
    """Eight threads, each with a source of its own."""
    with EvidenceFolder(tmp_path, EvidenceLimits(max_files=10, max_bytes=20_000)) as folder:
        sizes: list[int] = []

        def work(source: int) -> None:
            for number in range(20):
                folder.store(f"000h00m{number:02d}.000s_cam{source}_ride_{number}", {".jpg": JPEG, ".mp4": bytes(900)})
                sizes.append(folder.files)

        threads = [threading.Thread(target=work, args=(source,)) for source in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert max(sizes) <= 10
        assert len(evidence(tmp_path)) == 10
        assert folder.removed == 8 * 20 * 2 - 10


def test_full_queue_refuses_at_once_unless_one_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_folder, "WAITING_JOBS", 2)
    may_go, done = threading.Event(), []
    with EvidenceFolder(tmp_path) as folder:
        assert folder.submit("a", may_go.wait, 1, wait=False)
        while folder._jobs:
            time.sleep(0.001)
        accepted = [folder.submit("a", lambda: done.append(1), 1, wait=False) for _ in range(4)]
        assert accepted == [True, True, False, False]
        threading.Timer(0.2, may_go.set).start()
        assert folder.submit("a", lambda: done.append(2), 1, wait=True)
        assert folder.drain("a") == 0
        assert done == [1, 1, 2]


def test_waiting_clips_are_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_folder, "WAITING_BYTES", 100)
    may_go = threading.Event()
    with EvidenceFolder(tmp_path) as folder:
        folder.submit("a", may_go.wait, 1, wait=False)
        while folder._jobs:
            time.sleep(0.001)
        assert [folder.submit("a", int, size, wait=False) for size in (500, 1, 1)] == [True, False, False]
        may_go.set()


def test_disk_that_hangs_is_given_up(tmp_path: Path) -> None:
    may_go = threading.Event()
    with EvidenceFolder(tmp_path) as folder:
        folder.submit("hung", may_go.wait, 1, wait=False)
        folder.submit("hung", int, 1, wait=False)
        assert folder.drain("another") == 0
        assert folder.drain("hung", timeout_s=0.1) == 2
        may_go.set()


def test_file_does_not_wait_for_a_disk_that_hangs_and_is_served_again_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_folder, "HANGS_S", 0.3)
    monkeypatch.setattr(evidence_folder, "WAITING_JOBS", 1)
    warnings: list[str] = []
    with EvidenceFolder(tmp_path, warn=warnings.append) as folder:
        os.mkfifo(pipe := tmp_path / "hangs")  # opening it waits for a reader
        real = Path.write_bytes
        monkeypatch.setattr(Path, "write_bytes", lambda _path, data: real(pipe, data))
        store = partial(folder.store, "000h00m01.000s_a_b_1", {".jpg": JPEG})
        assert folder.submit("a", store, 1, wait=True)
        while folder._jobs:
            time.sleep(0.001)
        assert folder.submit("a", lambda: None, 1, wait=True)  # finds room beside the one that hangs
        began_s = time.monotonic()
        assert [folder.submit("a", lambda: None, 1, wait=True) for _ in range(3)] == [False] * 3
        assert time.monotonic() - began_s < 5
        assert len(warnings) == 1
        assert "hangs; evidence is dropped" in warnings[0]
        monkeypatch.setattr(Path, "write_bytes", real)
        pipe.read_bytes()
        while folder._hangs:  # until its thread has noticed
            time.sleep(0.001)
        assert folder.submit("a", lambda: None, 1, wait=True)


def test_callback_that_fails_ends_neither_thread_nor_run(tmp_path: Path) -> None:
    lines: list[str] = []
    with EvidenceFolder(tmp_path, warn=lines.append) as folder:
        folder.submit("a", lambda: 1 / 0, 1, wait=False)  # type: ignore[arg-type, return-value]
        assert folder.drain("a") == 0
        assert folder.submit("a", lambda: None, 1, wait=False)
        assert folder.drain("a") == 0
    assert len(lines) == 1
    assert "ZeroDivisionError" in lines[0]


def test_closed_folder_leaves_no_thread_and_no_descriptor(tmp_path: Path) -> None:
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with EvidenceFolder(tmp_path) as folder:
            folder.store(stem(1), {".jpg": JPEG})
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert not folder.submit("a", lambda: None, 1, wait=True)


@pytest.mark.parametrize("wrong", [{"max_files": 1}, {"max_bytes": 0}, {"max_age_s": 0.0}, {"max_age_s": float("nan")}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EvidenceLimits(**wrong)  # type: ignore[arg-type]

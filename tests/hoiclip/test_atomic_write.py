"""Result files appear whole or not at all, and what is no regular file is written to as it is."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from hoiclip.core.atomic_write import atomic_write, write_file
from hoiclip.core.errors import SinkError


def fail_half_way(path: Path) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("ne")
        path.with_name("missing").read_text()


def test_file_that_fails_half_way_stays_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    write_file(path, "old")
    with pytest.raises(FileNotFoundError):
        fail_half_way(path)
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["numbers.json"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_file(tmp_path / "a" / "b.txt", "é")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "é".encode()


def test_link_stays_a_link_and_its_file_is_written(tmp_path: Path) -> None:
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    write_file(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_pipe_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, "through")
    reader.join(10)
    assert received == [b"through"]
    assert pipe.is_fifo()


def test_folder_in_the_way_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot write"):
        write_file(tmp_path, "text")

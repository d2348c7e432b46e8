"""Cached engines and graphs are loaded only unchanged; anything else is made again."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import stat
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hoiclip_engine.cache.artifacts import EngineKey, cached_engine, cached_graph
from hoiclip_engine.cache.signed_store import SignedStore

KEY = EngineKey(
    graph_sha256="ab" * 32,
    library="openvino 2026.1",
    device="a CPU, avx512f",
    precision="fp32",
    shapes={"images": (1, 3, 64, 96)},
    options={"hint": "latency"},
)
CONTENT = bytes(range(256)) * 64


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path))
    return tmp_path / "engines"


class Maker:
    """Counts how often an engine is made."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content, self.times = content, 0

    def __call__(self) -> bytes:
        self.times += 1
        return self.content


def must_not() -> bytes:
    raise AssertionError("made again")


def entry(cache: Path) -> Path:
    return cache / KEY.digest()


def test_engine_is_made_once(cache: Path) -> None:
    make = Maker()
    assert cached_engine(KEY, make) == CONTENT
    assert cached_engine(KEY, must_not) == CONTENT
    assert make.times == 1
    record = json.loads((entry(cache) / "entry.json").read_text())
    assert record["key"]["shapes"] == {"images": [1, 3, 64, 96]}
    assert not list(cache.glob(".part-*"))


@pytest.mark.parametrize(
    "change",
    [
        {"graph_sha256": "cd" * 32},
        {"library": "openvino 2026.2"},
        {"device": "another CPU"},
        {"precision": "int8"},
        {"shapes": {"images": (1, 3, 64, 128)}},
        {"options": {}},
        {"plugin_sha256": "ef" * 32},
    ],
    ids=lambda change: next(iter(change)),
)
def test_engine_of_another_key_is_another_engine(change: dict[str, object]) -> None:
    cached_engine(KEY, Maker())
    other = Maker(b"another")
    assert cached_engine(replace(KEY, **change), other) == b"another"  # type: ignore[arg-type]
    assert cached_engine(KEY, must_not) == CONTENT


def truncate(folder: Path) -> None:
    (folder / "engine.bin").write_bytes(CONTENT[:-1])


def swap_engine_and_hash(folder: Path) -> None:
    import hashlib

    (folder / "engine.bin").write_bytes(b"foreign code")
    record = json.loads((folder / "entry.json").read_text())
    record["files"]["engine.bin"] = hashlib.sha256(b"foreign code").hexdigest()
    (folder / "entry.json").write_text(json.dumps(record))


def another_key(folder: Path) -> None:
    record = json.loads((folder / "entry.json").read_text())
    record["key"]["device"] = "another GPU"
    (folder / "entry.json").write_text(json.dumps(record))


def no_json(folder: Path) -> None:
    (folder / "entry.json").write_text("{")


def a_list(folder: Path) -> None:
    (folder / "entry.json").write_text("[]")


def a_link_to_the_same_bytes(folder: Path) -> None:
    (folder / "engine.bin").rename(folder.parent / "elsewhere")
    (folder / "engine.bin").symlink_to(folder.parent / "elsewhere")


def a_linked_entry(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


def a_linked_json(folder: Path) -> None:
    (folder / "entry.json").rename(folder.parent / "elsewhere")
    (folder / "entry.json").symlink_to(folder.parent / "elsewhere")


def a_pipe(folder: Path) -> None:
    (folder / "engine.bin").unlink()
    os.mkfifo(folder / "engine.bin")


def no_engine(folder: Path) -> None:
    (folder / "engine.bin").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "may be truncated"),
        (swap_engine_and_hash, "was not signed by this machine"),
        (another_key, "was not signed by this machine"),
        (no_json, "is missing or damaged"),
        (a_list, "is missing or damaged"),
        (a_link_to_the_same_bytes, "symbolic link"),
        (a_linked_entry, "is no folder but a link"),
        (a_linked_json, "symbolic link"),
        (a_pipe, "is no regular file"),
        (no_engine, "No such file"),
    ],
)
def test_damaged_or_foreign_engine_is_made_again_with_one_line(
    cache: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None], message: str
) -> None:
    cached_engine(KEY, Maker())
    damage(entry(cache))
    again = Maker()
    with caplog.at_level(logging.WARNING, "hoiclip"):
        assert cached_engine(KEY, again) == CONTENT
    assert again.times == 1
    assert [record.getMessage().count("\n") for record in caplog.records] == [0]
    assert message in caplog.text
    assert cached_engine(KEY, must_not) == CONTENT


def test_entry_moved_from_another_key_is_not_loaded(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = replace(KEY, device="another GPU")
    cached_engine(other, Maker(b"for another"))
    os.rename(cache / other.digest(), entry(cache))
    assert cached_engine(KEY, Maker()) == CONTENT
    assert "is of another device (another GPU, here a CPU, avx512f)" in caplog.text


def test_entry_signed_with_another_secret_is_not_loaded(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cached_engine(KEY, Maker())
    (cache / "secret").write_bytes(b"x" * 32)
    assert cached_engine(KEY, Maker(b"new")) == b"new"
    assert "was not signed by this machine" in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_cache_is_readable_for_its_user_alone(cache: Path) -> None:
    cached_engine(KEY, Maker())
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert stat.S_IMODE((cache / "secret").stat().st_mode) == 0o600
    cache.chmod(0o755)
    cached_engine(KEY, must_not)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_full_disk_costs_only_the_next_start(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert cached_engine(KEY, Maker()) == CONTENT
    assert "is not kept" in caplog.text
    assert "No space left" in caplog.text
    monkeypatch.undo()
    monkeypatch.setenv("HOICLIP_CACHE", str(cache.parent))
    assert not list(cache.glob(".part-*"))
    assert cached_engine(KEY, Maker()) == CONTENT


def test_cache_that_cannot_be_made_costs_only_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path / "file"))
    assert cached_engine(KEY, Maker()) == CONTENT
    assert "engines are not kept" in caplog.text


def test_linked_cache_is_not_followed(
    cache: Path, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    cached_engine(KEY, Maker())
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "engines"
    cache.rename(elsewhere)
    cache.symlink_to(elsewhere)
    assert cached_engine(KEY, Maker(b"made here")) == b"made here"
    assert "engines are not kept" in caplog.text
    assert "found a link" in caplog.text


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o702])
def test_cache_base_that_everybody_can_write_is_refused(
    cache: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    cached_engine(KEY, Maker())
    cache.parent.chmod(mode)
    assert cached_engine(KEY, Maker(b"made here")) == b"made here"
    assert "everybody can write" in caplog.text
    cache.parent.chmod(0o1777)
    assert cached_engine(KEY, must_not) == CONTENT, "no other user can rename entries of a folder such as /tmp"


def test_cache_base_that_its_group_can_write_is_warned_of_once(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cached_engine(KEY, Maker())
    cache.parent.chmod(0o770)
    assert cached_engine(KEY, must_not) == CONTENT
    assert cached_engine(KEY, must_not) == CONTENT
    assert [record.getMessage().count("by its group") for record in caplog.records] == [1]


def test_cache_base_is_made_for_this_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path / "deep" / "base"))
    before = os.umask(0)
    try:
        cached_engine(KEY, Maker())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "deep" / "base").stat().st_mode) == 0o700
    assert not caplog.records


class GraphMaker:
    """Writes a graph with its weights outside, and counts how often."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content, self.times = content, 0

    def __call__(self, folder: Path) -> None:
        self.times += 1
        (folder / "model.onnx").write_bytes(self.content)
        (folder / "model.onnx.data").write_bytes(self.content * 2)


NAME, GRAPH_KEY = "model-v1", {"model": "ab" * 32, "form": {"batch": 1}}


def test_graph_is_exported_once(cache: Path) -> None:
    first, second = GraphMaker(), GraphMaker()
    folder = cached_graph(NAME, GRAPH_KEY, first)
    assert cached_graph(NAME, GRAPH_KEY, second) == folder == cache.with_name("graphs") / NAME
    assert (first.times, second.times) == (1, 0)
    assert (folder / "model.onnx.data").read_bytes() == CONTENT * 2
    assert not list(folder.parent.glob(".part-*"))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def zeroed(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[100:164] = bytes(64)
    path.write_bytes(raw)


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def removed(path: Path) -> None:
    path.unlink()


def linked(path: Path) -> None:
    path.rename(path.parents[2] / "elsewhere")
    path.symlink_to(path.parents[2] / "elsewhere")


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "entry.json"])
@pytest.mark.parametrize("damage", [truncated, zeroed, grown, removed, linked])
def test_changed_graph_is_exported_again(
    cache: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[Path], None]
) -> None:
    folder, again = cached_graph(NAME, GRAPH_KEY, GraphMaker()), GraphMaker()
    damage(folder / name)
    assert cached_graph(NAME, GRAPH_KEY, again) == folder
    assert again.times == 1
    assert [record.getMessage().count("\n") for record in caplog.records] == [0]
    assert "the graph is exported again" in caplog.text
    assert (folder / "model.onnx").read_bytes() == CONTENT
    assert not (folder / name).is_symlink()


def test_unsigned_graph_of_an_older_version_is_exported_again(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = cache.with_name("graphs") / NAME
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"from anywhere")
    assert (cached_graph(NAME, GRAPH_KEY, GraphMaker()) / "model.onnx").read_bytes() == CONTENT
    assert "entry.json is missing" in caplog.text


def test_graph_is_made_for_this_process_where_no_cache_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path / "file"))
    folder = cached_graph(NAME, GRAPH_KEY, GraphMaker())
    assert (folder / "model.onnx").read_bytes() == CONTENT
    assert "exported graphs are not kept" in caplog.text


def test_failed_build_leaves_nothing(cache: Path) -> None:
    def fail() -> bytes:
        raise RuntimeError("the builder failed")

    with pytest.raises(RuntimeError, match="builder"):
        cached_engine(KEY, fail)
    assert not entry(cache).exists()


def _build(number: int) -> bytes:
    return cached_engine(KEY, lambda: CONTENT + bytes([number]))


def test_several_processes_keep_one_sound_engine(cache: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        made = pool.map(_build, range(6))
    kept = cached_engine(KEY, must_not)
    assert kept in made
    assert sorted(path.name for path in cache.iterdir()) == sorted(["secret", KEY.digest()])
    found = SignedStore("engines").read(KEY.digest(), asdict(KEY))
    assert found is not None
    assert found.content("engine.bin") == kept

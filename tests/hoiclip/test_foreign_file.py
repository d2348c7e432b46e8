"""Foreign files are read by one rule for kind, encoding and size, or refused in one line."""

from __future__ import annotations

import codecs
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import DataError, HoiclipError
from hoiclip.core.foreign_file import MOST_CONTAINERS, open_regular, parse_json, read_bytes, read_text
from hoiclip.core.untrusted_values import box, flag, number, read_json, shown, whole
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip.data.formats.hoia import read_hoia, write_hoia
from hoiclip.evaluation.splits import read_splits
from hoiclip.evaluation.video import read_ground_truth
from hoiclip.evaluation.video.reading import read_mot_frames
from tests.hoiclip.small_datasets import FRUIT, fruit, save_json

MARKED = {
    "utf-8": lambda text: text.encode(),
    "utf-8 with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "utf-16": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "utf-16, other order": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "utf-32": lambda text: codecs.BOM_UTF32_LE + text.encode("utf-32-le"),
}


def _read_recipe(path: Path) -> object:
    pytest.importorskip("torch")
    from hoiclip.training.recipe import read_recipe

    return read_recipe(path)


def _read_sources(path: Path) -> object:
    from hoiclip_engine.sources.source_list import expand_sources

    return [Path(source.location).name for source in expand_sources([str(path)])]


def _read_report(path: Path) -> object:
    from hoiclip_engine.bench.regression_gate import read_reports

    return read_reports(path)


RECIPE = 'name = "ä"\nextends = "drawn.toml"\n'
FRAME = '{"type": "frame", "index": 0, "pts_s": 0, "pairs": []}\n'
TEXTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "vocabulary": ("v.json", lambda path: load_vocabulary(str(path)), FRUIT.to_json()),
    "splits": ("s.json", lambda path: read_splits(path, FRUIT), '{"rare": [0, "1", 2.0]}'),
    "ground truth of a video": ("f.jsonl", lambda path: len(read_ground_truth(path, FRUIT)), FRAME),
    "MOT text": (
        "m.txt",
        lambda path: len(read_mot_frames(path, path)),
        "1,1,10,10,20,40,1,1,1\r\n2,1,12,10,20,40,1,1,1\r\n",
    ),
    "recipe": ("r.toml", _read_recipe, RECIPE),
    "list of sources": ("l.txt", _read_sources, "a.mp4\r\nä.mp4\r\n"),
    "annotations": ("a.json", read_json, '[{"file_name": "ä.jpg"}]'),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_text_is_the_same_with_and_without_byte_order_mark(kind: str, tmp_path: Path) -> None:
    name, read, text = TEXTS[kind]
    found = []
    for encode in MARKED.values():
        (tmp_path / name).write_bytes(encode(text))
        found.append(read(tmp_path / name))
    assert all(value == found[0] for value in found[1:])


@pytest.mark.parametrize("kind", [kind for kind in TEXTS if kind != "list of sources"])
def test_named_pipe_is_an_error_without_waiting(kind: str, tmp_path: Path) -> None:
    name, read, _ = TEXTS[kind]
    os.mkfifo(tmp_path / name)
    with pytest.raises(HoiclipError, match=r"a named pipe, no regular file|no recipe"):
        read(tmp_path / name)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    for path, kind in (
        (tmp_path, "a directory"),
        (tmp_path / "pipe", "a named pipe"),
        (tmp_path / "socket", "a socket"),
        (Path("/dev/zero"), "a device"),
        (Path("a\0b"), "no name a file can have"),
    ):
        with pytest.raises(OSError, match=kind):
            open_regular(path)
    (tmp_path / "link").symlink_to("whole")
    (tmp_path / "whole").write_text("here")
    assert read_text(tmp_path / "link") == "here"


def test_file_is_read_up_to_a_size(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    assert len(read_bytes(tmp_path / "a", 100)) == 100
    with pytest.raises(OSError, match="larger than"):
        read_bytes(tmp_path / "a", 99)
    with (tmp_path / "b").open("wb") as file:
        file.truncate(1 << 40)  # takes no disk space, and must take no memory
    with pytest.raises(DataError, match="larger than 512 MiB"):
        read_json(tmp_path / "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ("1" * 10_000, "thousands of digits"),
        ('{"id": 1, "id": 2}', "the name 'id' twice"),
        ('[{"a": {"b": 1, "c": 2, "b": 1}}]', "the name 'b' twice"),
        ("[" + "[]," * MOST_CONTAINERS + "[]]", "lists and objects"),
    ],
    ids=lambda text: text[:12],
)
def test_json_that_exhausts_memory_is_one_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_json_lines_are_the_list_of_their_values(tmp_path: Path) -> None:
    write_hoia(tmp_path / "a.json", [fruit("a.png"), fruit("b.png")], FRUIT)
    rows = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.odgt").write_text("".join(json.dumps(row) + "\r\n" for row in rows))
    assert read_json(tmp_path / "a.odgt") == rows
    assert [annotation.file_name for annotation in read_hoia(tmp_path / "a.odgt", FRUIT)] == ["a.png", "b.png"]
    (tmp_path / "a.odgt").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(DataError, match="line 2"):
        read_json(tmp_path / "a.odgt")


ZEROS = (0, 0.0, -0.0, "0", "0.0", " 0 ", "00", "0e3")


def test_number_is_the_same_in_every_notation() -> None:
    assert [whole(zero, "it") for zero in ZEROS] == [0] * len(ZEROS)
    assert [flag(zero, "it") for zero in (*ZEROS, None, False)] == [False] * 10
    assert [flag(value, "it") for value in (1, 1.0, "1", "1.0", True)] == [True] * 5
    assert [number(zero, "it", 0, 1) for zero in ZEROS] == [0.0] * len(ZEROS)
    assert box(["1", 2.0, "3.5", 4], "it") == (1, 2, 3.5, 4)
    assert [whole(value, "it") for value in ("-7", -7.0, "+3", 1e15)] == [-7, -7, 3, 10**15]


@pytest.mark.parametrize(
    "value",
    [1.5, "1.5", "", "x", "1_0", "٣", "0x1", "1e400", True, None, [], float("nan"), float("inf"), 1e300, "9" * 50],
)
def test_whole_number_refuses_other_values(value: object) -> None:
    with pytest.raises(ValueError, match="it must be a whole number"):
        whole(value, "it")


@pytest.mark.parametrize("value", [2, -1, "yes", "true", 0.5, float("nan"), [], {}])
def test_flag_refuses_other_values(value: object) -> None:
    with pytest.raises(ValueError, match="it must be 0 or 1"):
        flag(value, "it")


@settings(deadline=None, derandomize=True, max_examples=200)
@given(value=st.one_of(st.integers(), st.floats(), st.text(max_size=50), st.text("0123456789.eE+-", max_size=8)))
def test_any_value_is_a_number_or_one_error(value: object) -> None:
    for read in (lambda: whole(value, "it"), lambda: flag(value, "it"), lambda: number(value, "it", -1e9, 1e9)):
        try:
            found = read()
        except ValueError:
            continue
        assert float(found) == float(value)  # type: ignore[arg-type]


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    data=st.binary(max_size=200) | st.text('[]{}":,1ea\\u\n ', max_size=200).map(str.encode),
    mark=st.sampled_from([b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE]),
)
def test_any_bytes_are_json_or_one_error(data: bytes, mark: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(mark + data)
    try:
        read_json(path)
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_shown_value_is_short() -> None:
    for value in ([[1] * 10**6] * 10, "x" * 10**7, {"a": ["b" * 10**6]}, 10**5000, "ä\n"):
        assert len(shown(value)) <= 60
        assert shown(value).isascii()


def test_named_pipes_among_results_are_errors(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "base.jsonl")
    with pytest.raises(HoiclipError, match="a named pipe"):
        _read_report(tmp_path / "base.jsonl")
    save_json(tmp_path / "s.json", {"rare": [4]})
    with pytest.raises(HoiclipError, match="at least 0 and below 4, found 4"):
        read_splits(tmp_path / "s.json", FRUIT)

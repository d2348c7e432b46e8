"""Sinks of a run: files for one source, folders for several, and refused combinations."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import BackendMissing, SinkError, UsageError
from hoiclip_engine.cli.outputs import Outputs
from hoiclip_engine.live.address import LiveAddress
from hoiclip_engine.sinks.stream_sink import StreamSink
from hoiclip_engine.sinks.text_sinks import EventLines
from hoiclip_engine.sources.uri import LONGEST, file_names, parse_address, redact
from tests.engine.frame_results import header, summary

FILES = ("video", "jsonl", "mot", "vtt", "csv", "coco")


def kinds(outputs: Outputs, *sources: str) -> list[list[str]]:
    return [
        [type(sink).__name__ for sink in own]
        for own in outputs.sinks_for([parse_address(source) for source in sources])
    ]


def test_outputs_default_to_event_lines() -> None:
    assert [type(sink) for sink in Outputs().sinks_for([parse_address("a.mp4")])[0]] == [EventLines]


def test_outputs_of_one_source_are_files(tmp_path: Path) -> None:
    named: dict[str, Any] = {kind: tmp_path / f"out.{kind}" for kind in FILES[1:]}
    outputs = Outputs(video=tmp_path / "out.mp4", hico=tmp_path / "mat", **named)
    assert kinds(outputs, "a.mp4") == [
        ["VideoSink", "JsonlSink", "MotSink", "VttSink", "CsvSink", "CocoSink", "_HicoSink"],
    ]
    assert list(tmp_path.iterdir()) == []


def test_outputs_of_several_sources_are_folders_with_a_file_for_each(tmp_path: Path) -> None:
    named: dict[str, Any] = dict.fromkeys(FILES, tmp_path / "all")
    sources = [parse_address(source) for source in ("a.mp4", "b/a.mkv", "rtsp://u:pw@camera/stream?token=x")]
    for own in Outputs(**named).sinks_for(sources):
        for sink in own:
            sink.start(header())
        for sink in own:
            sink.finish(summary())
    names = sorted(path.name for path in (tmp_path / "all").iterdir())
    stems = ("a", "a-2", "camera_stream")
    assert names == sorted(f"{stem}.{end}" for stem in stems for end in ("csv", "json", "jsonl", "txt", "vtt"))


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"jsonl": "-"}, "standard output"),
        ({"video": "rtmp://host/app/key"}, "share an address"),
        ({"video": "out.mp4"}, "folder for the results of 2 sources"),
        ({"csv": Path("out.csv")}, "folder for the results of 2 sources"),
    ],
)
def test_several_sources_cannot_share_some_outputs(wanted: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        kinds(Outputs(**wanted), "a.mp4", "b.mp4")


@pytest.mark.parametrize("kind", FILES)
def test_source_is_never_its_own_output(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UsageError, match="different files"):
        kinds(Outputs(**{kind: tmp_path / "a.mp4"}), str(tmp_path / "b" / ".." / "a.mp4"))


def test_outputs_never_overwrite_videos_of_the_same_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="different files"):
        kinds(Outputs(video=tmp_path), str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"))


def test_two_outputs_are_never_one_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="different files"):
        kinds(Outputs(jsonl=str(tmp_path / "x"), csv=tmp_path / "." / "x"), "a.mp4")


def test_file_in_place_of_a_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(SinkError, match="taken"):
        kinds(Outputs(csv=tmp_path / "taken"), "a.mp4", "b.mp4")


def test_output_address_makes_a_stream_sink() -> None:
    ((sink,),) = Outputs(video="udp://127.0.0.1:9999").sinks_for([parse_address("a.mp4")])
    assert isinstance(sink, StreamSink)


def test_live_page_and_webhook_are_shared(tmp_path: Path) -> None:
    outputs = Outputs(webhook="http://127.0.0.1:9/x", live=LiveAddress(port=0))
    with closing(outputs):
        first, second = outputs.sinks_for([parse_address(source) for source in ("a.mp4", "b.mp4")])
        assert [type(sink).__name__ for sink in first] == ["_OutboxSink", "Channel"]
        page, other = first[1], second[1]
        page.start(header())
        page.finish(summary())
        assert outputs._shared[1]._thread is not None, "the second source comes after the first"
        other.start(header())
        other.finish(summary())
        assert outputs._shared[1]._thread is None


def test_outputs_close_ends_the_page_of_sources_that_never_began() -> None:
    outputs = Outputs(live=LiveAddress(port=0))
    (first,), _ = outputs.sinks_for([parse_address(source) for source in ("a.mp4", "b.mp4")])
    first.start(header())
    server = outputs._shared[0]
    outputs.close()
    assert server._thread is None
    first.finish(summary())
    outputs.close()


def test_missing_package_is_reported_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hoiclip_engine.live.server", None)
    with pytest.raises(BackendMissing, match=r"pip install 'hoiclip\[serve\]'"):
        kinds(Outputs(live=LiveAddress()), "a.mp4")


def test_outputs_hide_passwords() -> None:
    assert "secret" not in repr(Outputs(webhook="http://u:secret@host/", live=LiveAddress(token="secret" * 4)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=6))
def test_file_names_are_safe_and_distinct(sources: list[str]) -> None:
    names = file_names([redact(source) for source in sources])
    assert len({name.lower() for name in names}) == len(sources)
    for name in names:
        assert Path(name).name == name
        assert name not in (".", "..")
        assert not name.startswith((".", "-"))
        assert len(name) <= LONGEST + 4
        assert "\0" not in name


def test_file_names_hold_no_credentials() -> None:
    urls = ["rtsp://user:secret@host:554/live/1", "http://host/user=u&password=secret/x", "rtsp://host/x?token=secret"]
    assert all("secret" not in name for name in file_names([redact(url) for url in urls]))

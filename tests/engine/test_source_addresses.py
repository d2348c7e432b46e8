"""Grammar of sources: addresses, options, folders, globs and lists."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import HoiclipError, SourceError, UsageError
from hoiclip_engine.sources.base import SourceConfig
from hoiclip_engine.sources.source_list import MAX_LIST_BYTES, expand_sources
from hoiclip_engine.sources.uri import parse_address

few = settings(max_examples=100, deadline=None, derandomize=True)
SECRET = "Zq7Zq"


def names(*texts: object) -> list[str]:
    return [Path(address.location).name for address in expand_sources([str(text) for text in texts])]


def refusal_of(text: str, kind: type[HoiclipError] = UsageError) -> str:
    with pytest.raises(kind) as caught:
        expand_sources([text])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def media(tmp_path: Path) -> Path:
    for name in ("b.mp4", "a.JPG", "c.mkv", "notes.md", ".hidden.mp4", "sub/d.mp4", "clip#1.mp4", "take[2].mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "kind", "location"),
    [
        ("clip.mp4", "file", "clip.mp4"),
        ("-", "stdin", "-"),
        ("0", "webcam", "/dev/video0"),
        ("v4l2:///dev/video2", "webcam", "/dev/video2"),
        ("/dev/video1", "webcam", "/dev/video1"),
        ("rtsp://u:p@host:554/s?channel=1", "stream", "rtsp://u:p@host:554/s?channel=1"),
        ("RTSPS://host/s", "stream", "RTSPS://host/s"),
        ("http://host/live.m3u8?token=a", "stream", "http://host/live.m3u8?token=a"),
        ("udp://@239.0.0.1:1234", "stream", "udp://@239.0.0.1:1234"),
        ("udp://:1234", "stream", "udp://:1234"),
        ("rtmp://host/app/key", "stream", "rtmp://host/app/key"),
        ("tcp://[::1]:99", "stream", "tcp://[::1]:99"),
        ("concat:a.mp4", "file", "concat:a.mp4"),
    ],
)
def test_parse_address_of_one_source(text: str, kind: str, location: str) -> None:
    address = parse_address(text)
    assert (address.kind, address.location) == (kind, location)
    assert address.config(SourceConfig()) == SourceConfig()


def test_source_options_override_the_config() -> None:
    address = parse_address("rtsp://host/s#transport=udp&timeout=2.5&hwaccel=auto")
    assert address.location == "rtsp://host/s"
    assert address.config(SourceConfig(max_frames=3)) == SourceConfig(
        transport="udp", timeout_s=2.5, hwaccel="auto", max_frames=3
    )
    assert parse_address("0#timeout=9").config(SourceConfig()).timeout_s == 9
    assert parse_address("clip.mp4#hwaccel=cuda").config(SourceConfig()).hwaccel == "cuda"


def test_existing_path_takes_precedence(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(media / "clip#1.mp4", media / "take[2].mp4") == ["clip#1.mp4", "take[2].mp4"]
    assert parse_address(f"{media}/clip#1.mp4#hwaccel=auto").hwaccel == "auto"
    (media / "x.mp4#timeout=3").write_bytes(b"x")
    assert parse_address(f"{media}/x.mp4#timeout=3").timeout_s is None
    monkeypatch.chdir(media)
    assert parse_address("no#such.mp4").location == "no#such.mp4"


def test_folder_and_glob_expand_in_order(media: Path) -> None:
    assert names(media) == ["a.JPG", "b.mp4", "c.mkv", "clip#1.mp4", "take[2].mp4"]
    assert names(media / "*.m*") == ["b.mp4", "c.mkv", "clip#1.mp4", "take[2].mp4"]
    assert names(media / "c.mkv", media / "?.mp4") == ["c.mkv", "b.mp4"]
    assert "none" in refusal_of(str(media / "*.avi"), SourceError)
    (media / "empty").mkdir()
    assert "none" in refusal_of(str(media / "empty"), SourceError)


def test_list_paths_are_relative_to_the_list(media: Path) -> None:
    listing = media / "cams.txt"
    listing.write_text(
        "\ufeff# the yard\n\n b.mp4 \nsub\nsub/*.mp4\nrtsp://u:p@h/1#transport=udp\n0\n" + str(media / "c.mkv"), "utf-8"
    )
    found = expand_sources([str(listing)])
    assert [Path(a.location).name for a in found] == ["b.mp4", "d.mp4", "d.mp4", "1", "video0", "c.mkv"]
    assert found[0].location == str(media / "b.mp4")
    assert found[3].transport == "udp"


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        (b"cams.txt\n", UsageError, "another list"),
        (b"-\n", UsageError, "standard input"),
        (b"# nothing\n", SourceError, "none"),
        (b"\xff\xfe\x00", SourceError, "UTF-8"),
        (b"x" * (MAX_LIST_BYTES + 1), SourceError, "bigger"),
    ],
)
def test_list_size_is_bounded(tmp_path: Path, content: bytes, kind: type[HoiclipError], expected: str) -> None:
    (tmp_path / "cams.txt").write_bytes(content)
    assert expected in refusal_of(str(tmp_path / "cams.txt"), kind)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        (f"srt://u:{SECRET}@host:99", "rtsp://"),
        ("file:///clip.mp4", "leave the scheme out"),
        ("rtsp://", "host"),
        (f"rtsp://u:{SECRET}/x@host:99x/s", "%2F"),
        (f"rtsp://u:{SECRET}#x@host/s", "%23"),
        (f"rtsp://u:{SECRET}@host/s#speed={SECRET}", "transport, timeout, hwaccel"),
        (f"rtsp://u:{SECRET}@host/s#{SECRET}", "options"),
        (f"rtsp://u:{SECRET}@host/s#transport={SECRET}", "tcp, udp"),
        ("0#timeout=soon", "seconds"),
        ("0#timeout=-1", "seconds"),
        ("0#timeout=nan", "seconds"),
        (f"rtsp://u:{SECRET}@host/a b", "%20"),
    ],
)
def test_refusal_is_one_line_without_secrets(text: str, expected: str) -> None:
    message = refusal_of(text)
    assert expected in message
    assert SECRET not in message


def test_stdin_may_be_named_once() -> None:
    with pytest.raises(UsageError, match="once"):
        expand_sources(["-", "-"])


@few
@given(st.text(string.printable + "äß\0", max_size=40))
@example("a" * 5000)
@example("*" * 300)
def test_any_text_expands_or_is_refused_in_one_line(text: str) -> None:
    message = ""
    try:
        found = expand_sources([text])
    except HoiclipError as error:
        found, message = [], str(error)
    assert bool(found) != bool(message)
    assert len(message.splitlines()) <= 1
    assert all(address.name.isprintable() for address in found)


@few
@given(st.text(string.ascii_letters + string.digits + "@:/?&=%!$ü", max_size=12), st.sampled_from(["#timeout=3", ""]))
def test_address_repr_hides_passwords(text: str, options: str) -> None:
    url = f"rtsp://user:{text}{SECRET}@camera/live"
    try:
        address = parse_address(url + options)
    except UsageError as error:
        message = str(error)
    else:
        message = repr(address)
        assert address.location == url
    assert SECRET not in message


def test_folder_reports_files_left_out(media: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("readme", "b.md", "c.json"):
        (media / name).write_text("x")
    os.mkfifo(media / "pipe.mp4")
    assert names(media) == ["a.JPG", "b.mp4", "c.mkv", "clip#1.mp4", "take[2].mp4"]
    (record,) = caplog.records
    for text in ("2 .md", "1 .json", "1 folders", "1 hidden", "1 without a suffix", "1 that are no files"):
        assert text in record.getMessage()


def test_folder_finds_every_image_and_video_suffix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wanted = sorted(
        f"a{suffix}" for suffix in (".jfif", ".JPE", ".apng", ".avif", ".heic", ".webp", ".pbm", ".j2k", ".m2t")
    )
    for name in wanted:
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path) == wanted
    assert not caplog.records

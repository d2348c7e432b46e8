"""Remote files, playlists and pipes: read like files on disk, and stopped although they may stall."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hoiclip.core.errors import SourceError
from hoiclip_engine.sources import container
from hoiclip_engine.sources.base import FrameSource, SourceConfig
from hoiclip_engine.sources.connection import HLS_TIMEOUT_S, open_stream, read_timeout_s, stream_options
from hoiclip_engine.sources.file import StdinSource, open_video
from hoiclip_engine.sources.open_source import open_source
from hoiclip_engine.sources.uri import parse_address
from hoiclip_engine.types.frame import Frame
from tests.engine.loopback_servers import StreamServer, serve_folder
from tests.engine.video_files import index_of, write_clip

FRAMES = 50


def frame_numbers(source: FrameSource) -> list[int]:
    return [round(index_of(item.rgb)) for item in source if isinstance(item, Frame)]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", [i * 40 for i in range(FRAMES)])


def open_url(url: str, **config: float) -> FrameSource:
    return open_source(parse_address(url), SourceConfig(**{"timeout_s": 1.0, **config}))  # type: ignore[arg-type]


# Over HTTP


@pytest.mark.parametrize("truncated_once", ["", "clip.mp4"])
def test_http_file_is_read_like_a_file(clip: Path, truncated_once: str) -> None:
    with open_video(clip) as local, serve_folder(clip.parent, truncated_once=truncated_once) as url:
        expected = [(frame.pts_s, frame.rgb.tobytes()) for frame in local]
        source = open_url(f"{url}/clip.mp4")
        assert not source.is_live
        assert (source.info.frames_declared, source.info.width_px) == (FRAMES, 64)
        frames = [(item.pts_s, item.rgb.tobytes()) for item in source if isinstance(item, Frame)]
        assert frames == expected
        assert source.counters.decoded == FRAMES
        source.close()


def test_http_file_range_is_read(clip: Path) -> None:
    with serve_folder(clip.parent) as url:
        source = open_url(f"{url}/clip.mp4", start_s=0.4, duration_s=0.2)
        assert len(frame_numbers(source)) == 5
        source.close()


def test_missing_http_file_is_reported(tmp_path: Path) -> None:
    with serve_folder(tmp_path) as url, pytest.raises(SourceError, match="nothing at this address"):
        open_url(f"{url}/no.mp4", timeout_s=0.3)


def test_stalled_http_file_can_be_stopped(clip: Path) -> None:
    data = write_clip(clip.with_suffix(".mkv"), [i * 40 for i in range(FRAMES)]).read_bytes()
    header = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    with StreamServer(data, frames=FRAMES, header=header) as server:
        source = open_url(server.url, timeout_s=30)
        assert not source.is_live
        frames = iter(source)
        next(frames)
        server.quiet = True
        threading.Timer(0.3, source.stop).start()
        began_s = time.monotonic()
        assert len(list(frames)) < FRAMES
        source.close()
        assert time.monotonic() - began_s < 1.0


# HLS


def write_hls_segments(folder: Path, count: int = 3) -> list[str]:
    names = [f"s{i}.ts" for i in range(count)]
    for i, name in enumerate(names):
        write_clip(folder / name, [i * 400 + j * 40 for j in range(10)], gop=5, container_format="mpegts")
    return names


def write_playlist(folder: Path, names: list[str], *, complete: bool, first: int = 0) -> None:
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for name in names:
        lines += ["#EXTINF:0.4,", name]
    fresh = folder / "new"
    fresh.write_text("\n".join(lines + ["#EXT-X-ENDLIST"] * complete) + "\n")
    fresh.replace(folder / "live.m3u8")


def test_complete_playlist_is_a_file(tmp_path: Path) -> None:
    write_playlist(tmp_path, write_hls_segments(tmp_path), complete=True)
    with serve_folder(tmp_path) as url:
        source = open_url(f"{url}/live.m3u8")
        assert not source.is_live
        assert frame_numbers(source) == [*range(10)] * 3
        source.close()


def test_growing_playlist_is_live_and_plays_in_real_time(tmp_path: Path) -> None:
    names = write_hls_segments(tmp_path, 4)
    write_playlist(tmp_path, names[:3], complete=False)
    with serve_folder(tmp_path) as url:
        source = open_url(f"{url}/live.m3u8", max_frames=35)
        assert source.is_live
        threading.Timer(0.5, write_playlist, (tmp_path, names[1:]), {"complete": False, "first": 1}).start()
        frames = [item for item in source if isinstance(item, Frame)]
        assert [round(index_of(frame.rgb)) for frame in frames] == ([*range(10)] * 4)[:35]
        for frame in frames[1:30]:
            assert frame.read_s - frames[0].read_s > frame.pts_s - frames[0].pts_s - 0.01
        source.close()


@pytest.mark.parametrize("scheme", ["file://", "concat:", "subfile:,,start,0,end,9999,,:", "data:video/mp2t;base64,"])
def test_playlist_reaches_no_local_file(tmp_path: Path, scheme: str) -> None:
    served = tmp_path / "served"
    served.mkdir()
    secret = tmp_path / write_hls_segments(tmp_path, 1)[0]
    write_playlist(served, [f"{scheme}{secret}"], complete=True)
    with serve_folder(served) as url, pytest.raises(SourceError):
        open_url(f"{url}/live.m3u8", timeout_s=0.5)


# Standard input


def write_to_pipe(data: bytes) -> int:
    """Feeds data into a pipe and returns the descriptor to read from."""
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(data)

    threading.Thread(target=feed, daemon=True).start()
    return reading


@pytest.fixture
def stream_clip(tmp_path: Path) -> Path:
    """A file without an index at its end, which would need a seek back in the pipe."""
    return write_clip(tmp_path / "clip.mkv", [i * 40 for i in range(FRAMES)])


@pytest.fixture
def descriptors() -> Iterator[list[int]]:
    opened_here: list[int] = []
    yield opened_here
    for descriptor in opened_here:
        os.close(descriptor)


def test_stdin_is_read_to_its_end(stream_clip: Path, descriptors: list[int]) -> None:
    descriptors.append(write_to_pipe(stream_clip.read_bytes()))
    source = StdinSource(SourceConfig(), descriptors[0])
    assert (source.info.name, source.is_live) == ("standard input", False)
    assert frame_numbers(source) == [i % 25 for i in range(FRAMES)]
    source.close()


def test_stdin_file_is_seekable(clip: Path, descriptors: list[int]) -> None:
    descriptors.append(os.open(clip, os.O_RDONLY))
    source = StdinSource(SourceConfig(), descriptors[0])
    assert len(frame_numbers(source)) == FRAMES
    source.close()


def test_silent_stdin_can_be_stopped(stream_clip: Path, descriptors: list[int]) -> None:
    reading, writing = os.pipe()
    descriptors += [reading, writing]
    data = stream_clip.read_bytes()
    os.write(writing, data[: len(data) * 9 // 10])
    source = StdinSource(SourceConfig(), reading)
    threading.Timer(0.3, source.stop).start()
    began_s = time.monotonic()
    assert 0 < len(frame_numbers(source)) < FRAMES
    assert time.monotonic() - began_s < 1.0
    source.close()


def test_text_on_stdin_is_refused(tmp_path: Path, clip: Path, descriptors: list[int]) -> None:
    for text in (b"hello\n" * 100, b"", f"ffconcat version 1.0\nfile '{clip}'\n".encode()):
        descriptors.append(write_to_pipe(text))
        with pytest.raises(SourceError, match="standard input"):
            StdinSource(SourceConfig(), descriptors[-1])


def test_stdin_of_a_process_is_read(stream_clip: Path) -> None:
    code = (
        "from hoiclip_engine.sources.source_list import expand_sources as e;"
        "from hoiclip_engine.sources.open_source import *;"
        "print(len(list(open_source(e(['-'])[0]))))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with stream_clip.open("rb") as file:
        process = subprocess.run(
            [sys.executable, "-c", code], stdin=file, capture_output=True, env=environment, check=False
        )
    assert (process.returncode, process.stdout, process.stderr) == (0, b"%d\n" % FRAMES, b"")


# Options for ffmpeg


def test_protocol_whitelist_follows_from_the_address() -> None:
    for text in ("rtsp://h/x", "rtmp://h/x/y", "http://h/x", "https://h/x", "udp://h:1", "tcp://h:1"):
        options = stream_options(parse_address(text), SourceConfig())
        allowed = {*options["protocol_whitelist"].split(","), *options["format_whitelist"].split(",")}
        assert not allowed & {"file", "pipe", "data", "concat", "subfile", "fd", "lavfi", "dash", "sdp"}, text
    rtsp = stream_options(parse_address("rtsp://h/x"), SourceConfig(transport="udp", timeout_s=2.5))
    assert (rtsp["rtsp_transport"], rtsp["timeout"]) == ("udp", "2500000")
    assert "hls" not in rtsp["format_whitelist"]


def test_live_playlist_has_a_longer_timeout() -> None:
    assert read_timeout_s(parse_address("http://h/a.m3u8?x=1"), SourceConfig(timeout_s=2)) == HLS_TIMEOUT_S
    assert read_timeout_s(parse_address("rtsp://h/a"), SourceConfig(timeout_s=2)) == 2


def test_camera_is_opened_as_live_source() -> None:
    # No camera here: an ioctl of video devices on /dev/null shows that it was opened as one.
    with pytest.raises(OSError, match="ioctl"):
        open_stream(parse_address("v4l2:///dev/null"), SourceConfig())


# Decoders


def test_hwaccel_without_cuda_falls_back_or_fails(clip: Path) -> None:
    if container.cuda_decoding_available():
        pytest.skip("this machine has a CUDA device")
    with open_video(clip) as software, open_video(clip, SourceConfig(hwaccel="auto")) as auto:
        assert [f.rgb.tobytes() for f in software] == [f.rgb.tobytes() for f in auto]
    with pytest.raises(SourceError, match="--hwaccel auto") as caught:
        open_video(clip, SourceConfig(hwaccel="cuda"))
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
def test_cuda_decodes_the_same_images(clip: Path) -> None:
    with open_video(clip) as software, open_video(clip, SourceConfig(hwaccel="cuda")) as cuda:
        for ours, theirs in zip(software, cuda, strict=True):
            # NV12 instead of YUV 4:2:0 planes takes another path in swscale, which rounds differently.
            assert abs(ours.rgb.astype(int) - theirs.rgb.astype(int)).max() <= 3


@pytest.mark.parametrize(
    "wrong",
    [{"timeout_s": 0}, {"timeout_s": float("nan")}, {"transport": "sctp"}, {"hwaccel": "x"}, {"reconnect_for_s": -1}],
)
def test_source_config_options_are_validated(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SourceConfig(**wrong)  # type: ignore[arg-type]

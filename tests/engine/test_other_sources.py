"""Remote files, playlists and pipes: like files on disk, except that they may keep somebody waiting."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hoiclip.errors import SourceError
from hoiclip_engine.frame import Frame
from hoiclip_engine.video import hardware
from hoiclip_engine.video.address import parse_address
from hoiclip_engine.video.frame_source import FrameSource
from hoiclip_engine.video.open_source import open_source
from hoiclip_engine.video.piped import PipedSource
from hoiclip_engine.video.source import open_video
from hoiclip_engine.video.source_config import SourceConfig
from hoiclip_engine.video.stream_opening import HLS_TIMEOUT_S, open_stream, read_timeout_s, stream_options
from tests.engine.making_videos import index_of, write_clip
from tests.engine.serving import StreamServer, folder_served

FRAMES = 50


def shown(source: FrameSource) -> list[int]:
    return [round(index_of(item.rgb)) for item in source if isinstance(item, Frame)]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", [i * 40 for i in range(FRAMES)])


def opened(url: str, **config: float) -> FrameSource:
    return open_source(parse_address(url), SourceConfig(**{"timeout_s": 1.0, **config}))  # type: ignore[arg-type]


# Over HTTP


@pytest.mark.parametrize("breaks_off", ["", "clip.mp4"])
def test_a_file_on_a_server_is_a_file(clip: Path, breaks_off: str) -> None:
    with open_video(clip) as local, folder_served(clip.parent, breaks_off=breaks_off) as url:
        expected = [(frame.pts_s, frame.rgb.tobytes()) for frame in local]
        source = opened(f"{url}/clip.mp4")
        assert not source.is_live
        assert (source.info.frames_declared, source.info.width_px) == (FRAMES, 64)
        frames = [(item.pts_s, item.rgb.tobytes()) for item in source if isinstance(item, Frame)]
        assert frames == expected
        assert source.counters.decoded == FRAMES
        source.close()


def test_a_part_of_a_file_on_a_server(clip: Path) -> None:
    with folder_served(clip.parent) as url:
        source = opened(f"{url}/clip.mp4", start_s=0.4, duration_s=0.2)
        assert len(shown(source)) == 5
        source.close()


def test_a_file_that_is_missing_on_a_server_is_told(tmp_path: Path) -> None:
    with folder_served(tmp_path) as url, pytest.raises(SourceError, match="nothing at this address"):
        opened(f"{url}/no.mp4", timeout_s=0.3)


def test_a_server_that_stalls_within_a_file_can_be_left(clip: Path) -> None:
    data = write_clip(clip.with_suffix(".mkv"), [i * 40 for i in range(FRAMES)]).read_bytes()
    header = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    with StreamServer(data, frames=FRAMES, header=header) as server:
        source = opened(server.url, timeout_s=30)
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


def segments(folder: Path, count: int = 3) -> list[str]:
    names = [f"s{i}.ts" for i in range(count)]
    for i, name in enumerate(names):
        write_clip(folder / name, [i * 400 + j * 40 for j in range(10)], gop=5, container_format="mpegts")
    return names


def playlist(folder: Path, names: list[str], *, complete: bool, first: int = 0) -> None:
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for name in names:
        lines += ["#EXTINF:0.4,", name]
    fresh = folder / "new"
    fresh.write_text("\n".join(lines + ["#EXT-X-ENDLIST"] * complete) + "\n")
    fresh.replace(folder / "live.m3u8")


def test_a_complete_playlist_is_a_file(tmp_path: Path) -> None:
    playlist(tmp_path, segments(tmp_path), complete=True)
    with folder_served(tmp_path) as url:
        source = opened(f"{url}/live.m3u8")
        assert not source.is_live
        assert shown(source) == [*range(10)] * 3
        source.close()


def test_a_playlist_that_grows_is_live_and_plays_in_real_time(tmp_path: Path) -> None:
    names = segments(tmp_path, 4)
    playlist(tmp_path, names[:3], complete=False)
    with folder_served(tmp_path) as url:
        source = opened(f"{url}/live.m3u8", max_frames=35)
        assert source.is_live
        threading.Timer(0.5, playlist, (tmp_path, names[1:]), {"complete": False, "first": 1}).start()
        frames = [item for item in source if isinstance(item, Frame)]
        assert [round(index_of(frame.rgb)) for frame in frames] == ([*range(10)] * 4)[:35]
        for frame in frames[1:30]:
            assert frame.read_s - frames[0].read_s > frame.pts_s - frames[0].pts_s - 0.01
        source.close()


@pytest.mark.parametrize("scheme", ["file://", "concat:", "subfile:,,start,0,end,9999,,:", "data:video/mp2t;base64,"])
def test_a_playlist_reaches_no_file_of_this_machine(tmp_path: Path, scheme: str) -> None:
    served = tmp_path / "served"
    served.mkdir()
    secret = tmp_path / segments(tmp_path, 1)[0]
    playlist(served, [f"{scheme}{secret}"], complete=True)
    with folder_served(served) as url, pytest.raises(SourceError):
        opened(f"{url}/live.m3u8", timeout_s=0.5)


# Standard input


def piped(data: bytes) -> int:
    """A descriptor that the data can be read from."""
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(data)

    threading.Thread(target=feed, daemon=True).start()
    return reading


@pytest.fixture
def stream_clip(tmp_path: Path) -> Path:
    """Without an index at its end, which a pipe could not be wound back from."""
    return write_clip(tmp_path / "clip.mkv", [i * 40 for i in range(FRAMES)])


@pytest.fixture
def descriptors() -> Iterator[list[int]]:
    opened_here: list[int] = []
    yield opened_here
    for descriptor in opened_here:
        os.close(descriptor)


def test_a_pipe_is_read_to_its_end(stream_clip: Path, descriptors: list[int]) -> None:
    descriptors.append(piped(stream_clip.read_bytes()))
    source = PipedSource(SourceConfig(), descriptors[0])
    assert (source.info.name, source.is_live) == ("standard input", False)
    assert shown(source) == [i % 25 for i in range(FRAMES)]
    source.close()


def test_a_file_as_standard_input_can_be_wound(clip: Path, descriptors: list[int]) -> None:
    descriptors.append(os.open(clip, os.O_RDONLY))
    source = PipedSource(SourceConfig(), descriptors[0])
    assert len(shown(source)) == FRAMES
    source.close()


def test_a_pipe_that_says_nothing_can_be_left(stream_clip: Path, descriptors: list[int]) -> None:
    reading, writing = os.pipe()
    descriptors += [reading, writing]
    data = stream_clip.read_bytes()
    os.write(writing, data[: len(data) * 9 // 10])
    source = PipedSource(SourceConfig(), reading)
    threading.Timer(0.3, source.stop).start()
    began_s = time.monotonic()
    assert 0 < len(shown(source)) < FRAMES
    assert time.monotonic() - began_s < 1.0
    source.close()


def test_text_on_a_pipe_is_refused(tmp_path: Path, clip: Path, descriptors: list[int]) -> None:
    for text in (b"hello\n" * 100, b"", f"ffconcat version 1.0\nfile '{clip}'\n".encode()):
        descriptors.append(piped(text))
        with pytest.raises(SourceError, match="standard input"):
            PipedSource(SourceConfig(), descriptors[-1])


def test_standard_input_of_a_process(stream_clip: Path) -> None:
    code = (
        "from hoiclip_engine.video.expand import expand_sources as e; from hoiclip_engine.video.open_source import *;"
        "print(len(list(open_source(e(['-'])[0]))))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with stream_clip.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", code], stdin=file, capture_output=True, env=environment, check=False
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"%d\n" % FRAMES, b"")


# What ffmpeg is asked


def test_who_may_be_talked_to_follows_from_the_address() -> None:
    for text in ("rtsp://h/x", "rtmp://h/x/y", "http://h/x", "https://h/x", "udp://h:1", "tcp://h:1"):
        options = stream_options(parse_address(text), SourceConfig())
        allowed = {*options["protocol_whitelist"].split(","), *options["format_whitelist"].split(",")}
        assert not allowed & {"file", "pipe", "data", "concat", "subfile", "fd", "lavfi", "dash", "sdp"}, text
    rtsp = stream_options(parse_address("rtsp://h/x"), SourceConfig(transport="udp", timeout_s=2.5))
    assert (rtsp["rtsp_transport"], rtsp["timeout"]) == ("udp", "2500000")
    assert "hls" not in rtsp["format_whitelist"]


def test_a_live_playlist_may_be_quiet_for_longer() -> None:
    assert read_timeout_s(parse_address("http://h/a.m3u8?x=1"), SourceConfig(timeout_s=2)) == HLS_TIMEOUT_S
    assert read_timeout_s(parse_address("rtsp://h/a"), SourceConfig(timeout_s=2)) == 2


def test_a_camera_is_opened_as_one() -> None:
    # No camera here: that /dev/null is asked what only video devices know shows which way it went.
    with pytest.raises(OSError, match="ioctl"):
        open_stream(parse_address("v4l2:///dev/null"), SourceConfig())


# What decodes


def test_without_cuda_auto_is_software_and_cuda_an_error(clip: Path) -> None:
    if hardware.cuda_decodes():
        pytest.skip("there is a CUDA device here")
    with open_video(clip) as software, open_video(clip, SourceConfig(hwaccel="auto")) as auto:
        assert [f.rgb.tobytes() for f in software] == [f.rgb.tobytes() for f in auto]
    with pytest.raises(SourceError, match="--hwaccel auto") as caught:
        open_video(clip, SourceConfig(hwaccel="cuda"))
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
def test_with_cuda_the_gpu_decodes_the_same_pictures(clip: Path) -> None:
    with open_video(clip) as software, open_video(clip, SourceConfig(hwaccel="cuda")) as cuda:
        for ours, theirs in zip(software, cuda, strict=True):
            # NV12 instead of YUV 4:2:0 planes goes through other code of swscale, which rounds differently.
            assert abs(ours.rgb.astype(int) - theirs.rgb.astype(int)).max() <= 3


@pytest.mark.parametrize(
    "wrong",
    [{"timeout_s": 0}, {"timeout_s": float("nan")}, {"transport": "sctp"}, {"hwaccel": "x"}, {"reconnect_for_s": -1}],
)
def test_a_config_is_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SourceConfig(**wrong)  # type: ignore[arg-type]

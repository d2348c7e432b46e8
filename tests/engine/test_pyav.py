"""Differences between versions of PyAV have no effect: these tests pass on each of them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from hoiclip_engine.sources.container import fraction
from hoiclip_engine.sources.file import open_video
from tests.engine.video_files import write_clip


def test_metadata_in_other_encodings_is_tolerated(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", [0, 40, 80])
    copy = tmp_path / "named.mkv"
    with av.open(str(clip)) as source, av.open(str(copy), "w") as target:
        target.metadata["title"] = "ABCDEFGH"
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    content = copy.read_bytes()
    assert content.count(b"ABCDEFGH") == 1
    copy.write_bytes(content.replace(b"ABCDEFGH", b"\xff\xfe\xe9\xe8\xc0\xaf\x80\xed"))
    source = open_video(copy)
    try:
        assert len(list(source)) == 3
    finally:
        source.close()


def test_fraction_is_none_for_unknown_rates_and_time_bases(tmp_path: Path) -> None:
    with av.open(str(write_clip(tmp_path / "clip.mp4", [0, 40, 80]))) as container:
        stream = container.streams.video[0]
        assert type(fraction(stream.time_base)) is Fraction
        assert fraction(stream.average_rate) == 25
        assert fraction(stream.codec_context.sample_aspect_ratio) in (None, 1)
    assert fraction(None) is None
    assert fraction(Fraction(0)) is None


def test_source_rate_is_a_fraction(tmp_path: Path) -> None:
    source = open_video(write_clip(tmp_path / "clip.mp4", [0, 40, 80]))
    source.close()
    assert type(source.info.time_base) is Fraction
    assert type(source.info.average_rate) is Fraction


@pytest.mark.skipif(int(av.__version__.split(".")[0]) < 19, reason="PyAV had no rationals of its own before 19")
def test_fraction_of_an_undefined_rational_is_none() -> None:
    from av.rational import AVRational

    assert [fraction(AVRational(*value)) for value in ((0, 1), (0, 0), (1, 0), (50, 2))] == [None, None, None, 25]

"""Makes video files of encoded packets that were kept, without encoding them again.

A clip counts its time from its first frame. Frames are shown at the times they have in the results of the stream, also
where the source's own timestamps were repaired. Decoding times follow from those: packets are in decoding order.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from io import BytesIO
from itertools import accumulate, pairwise
from typing import cast

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from hoiclip_engine.sinks.video_encoder import output_time_base
from hoiclip_engine.sources.packet_ring import PacketClip, container_format

_INDEX_BYTES = 8192
"""Room for the index of an MP4 besides its frames; a codec's parameters are added."""
_INDEX_BYTES_PER_FRAME = 64
_LAST_STAYS_S = 1.0
"""Longest duration of the last frame."""


def clip_file(clip: PacketClip) -> bytes:
    """The content of a video file, with its index at the start.

    Args:
        clip: at least one packet.

    Raises:
        av.FFmpegError, ValueError: the container cannot hold these packets.
    """
    target = BytesIO()
    time_base = output_time_base(clip.time_base, clip.suffix)
    with _container(target, clip) as container:
        stream = cast(VideoStream, container.add_stream_from_template(clip.template, opaque=True))
        if clip.extradata is not None:
            stream.codec_context.extradata = clip.extradata
        stream.time_base = time_base
        for packet in _timed_packets(clip, stream, time_base):
            container.mux(packet)
    return target.getvalue()


def _container(target: BytesIO, clip: PacketClip) -> OutputContainer:
    if clip.suffix == ".mp4":
        parameters = len(clip.extradata or clip.template.codec_context.extradata or b"")
        index_bytes = _INDEX_BYTES + _INDEX_BYTES_PER_FRAME * len(clip.packets) + parameters
        options = {"moov_size": str(index_bytes)}
    else:
        # Matroska has no decoding times; shifted for them, a clip would not begin at zero.
        options = {"avoid_negative_ts": "disabled"}
    return av.open(target, "w", format=container_format(clip.suffix), container_options=options)


def _timed_packets(clip: PacketClip, stream: VideoStream, time_base: Fraction) -> Sequence[Packet[Stream]]:
    pts = _distinct([round((pts_s - clip.pts_s[0]) / float(time_base)) for pts_s in clip.pts_s])
    shown = sorted(pts)
    steps = {tick: after - tick for tick, after in pairwise(shown)}
    last_step = min(shown[-1] - shown[-2] if len(shown) > 1 else 1, round(_LAST_STAYS_S / time_base))
    packets = []
    for kept, tick, decoded_at in zip(clip.packets, pts, decoding_times(pts), strict=True):
        packet = Packet(kept.data)
        packet.stream, packet.time_base, packet.is_keyframe = stream, time_base, kept.is_keyframe
        packet.pts, packet.dts, packet.duration = tick, decoded_at, max(1, steps.get(tick, last_step))
        packets.append(packet)
    return packets


def _distinct(pts: Sequence[int]) -> list[int]:
    """Ticks in the same order of time, none of them twice."""
    order = sorted(range(len(pts)), key=lambda row: pts[row])
    ticks = accumulate((pts[row] for row in order), lambda last, tick: max(last + 1, tick))
    distinct = dict(zip(order, ticks, strict=True))
    return [distinct[row] for row in range(len(pts))]


def decoding_times(pts: Sequence[int]) -> list[int]:
    """Decoding times of packets in decoding order: increasing, and none after its presentation time.

    Args:
        pts: distinct presentation times.
    """
    shown = sorted(pts)
    rank = {tick: row for row, tick in enumerate(shown)}
    delay = max((row - rank[tick] for row, tick in enumerate(pts)), default=0)
    step = max(1, (shown[-1] - shown[0]) // max(1, len(shown) - 1)) if shown else 1
    early = [shown[0] - step * (delay - row) for row in range(delay)]
    return [*early, *shown][: len(pts)]

"""Chooses the video stream of a container that players show: covers, thumbnails and still items stand back.

A stream of several frames goes before a still one, a default one before others, and then the first is taken.
"""

from __future__ import annotations

from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from hoiclip.errors import SourceError
from hoiclip_engine.video.opening import open_container

_ATTACHED = Disposition.attached_pic | Disposition.timed_thumbnails
_COUNTED_PACKETS = 250
"""Of the busiest stream: ten seconds at 25 frames a second. What shows one frame meanwhile is still."""


def choose_stream(container: InputContainer, name: str, max_pixels: int) -> tuple[VideoStream, tuple[str, ...]]:
    """The stream that is meant, and a line about it where there were several.

    Args:
        container: open, at its start, where it stays.
        name: printable and without credentials.
        max_pixels: per image.

    Raises:
        SourceError: no stream that is an image or video by itself, or no decoder for it.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & _ATTACHED]
    if not streams:
        names = {"video": "a cover picture"}
        kinds = sorted({names.get(stream.type, stream.type) for stream in container.streams})
        raise SourceError(f"expected video in {name}, found {' and '.join(kinds) or 'no streams'}; choose another file")
    whole = [stream for stream in streams if not stream.disposition & Disposition.dependent]
    if not whole:
        raise SourceError(
            f"expected an image in one piece in {name}, found a grid of {len(streams)} tiles, which is not supported; "
            "convert it to JPEG or PNG"
        )
    known = [stream for stream in whole if stream.codec_context is not None]
    if not known:
        raise SourceError(f"expected a codec that ffmpeg decodes in {name}, found an unknown one; convert it to H.264")
    if len(known) == 1:
        return known[0], ()
    still = _still_streams(container, known, max_pixels)
    chosen = min(known, key=lambda stream: (stream.index in still, not stream.disposition & Disposition.default))
    return chosen, (_about(chosen, known, still),)


def _about(chosen: VideoStream, streams: list[VideoStream], still: set[int]) -> str:
    context = chosen.codec_context
    why = "the first"
    if chosen.index not in still and still:
        why = "not a still image"
    elif chosen.disposition & Disposition.default:
        why = "the default one"
    return (
        f"holds {len(streams)} images or video streams; number {streams.index(chosen) + 1} is read "
        f"({context.codec.canonical_name}, {context.width}x{context.height}, {why})"
    )


def _still_streams(container: InputContainer, streams: list[VideoStream], max_pixels: int) -> set[int]:
    """Indices of those with a single frame, as the container says or as its first packets show."""
    frames = {stream.index: stream.frames for stream in streams}
    if not all(frames.values()) and container.file is None and Path(container.name).is_file():
        frames = _counted(Path(container.name), list(frames), max_pixels)
    return {index for index, count in frames.items() if count == 1}


def _counted(file: Path, indices: list[int], max_pixels: int) -> dict[int, int]:
    """Packets of each stream near the start. The file is opened anew: not every container can be wound back."""
    counts = dict.fromkeys(indices, 0)
    with open_container(file, max_pixels) as container:
        try:
            for packet in container.demux([container.streams[index] for index in indices]):
                counts[packet.stream.index] += packet.size > 0
                if min(counts.values()) > 1 or max(counts.values()) >= _COUNTED_PACKETS:
                    break
        except av.FFmpegError:
            pass  # what was counted until then decides
    return counts

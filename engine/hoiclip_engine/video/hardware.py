"""Chooses what decodes: the processor, or a GPU's decoder where one is there and wanted.

Pictures come back to main memory either way; colour conversion stays where it is.
"""

from __future__ import annotations

from functools import cache
from typing import IO, Any

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from hoiclip.errors import SourceError
from hoiclip_engine.video.pyav import READS_ANY_METADATA
from hoiclip_engine.video.source_config import Hwaccel


def open_decoding_by(
    choice: Hwaccel, target: str | IO[bytes], name: str, *, options: dict[str, str], **arguments: Any
) -> InputContainer:
    """av.open for reading, with what decodes.

    Args:
        choice: as the user says.
        target: for ffmpeg; may hold a password.
        name: the same, to print.
        options: of the container and its protocols.
        arguments: of av.open.

    Raises:
        SourceError: cuda was asked for, and there is none or it cannot decode this.
        av.FFmpegError: ffmpeg's; its text may hold the password.
    """
    decoder = accelerator(choice)
    try:
        container = av.open(target, "r", options=options, hwaccel=decoder, **READS_ANY_METADATA, **arguments)
    except RuntimeError:  # PyAV's word for a codec that a decoder which is not to be replaced does not know
        if decoder is None:
            raise
        raise SourceError(f"expected a codec that CUDA decodes in {name}, found another; use --hwaccel auto") from None
    assert isinstance(container, InputContainer)
    return container


def accelerator(choice: Hwaccel) -> HWAccel | None:
    """What av.open is given; None for decoding in software.

    Raises:
        SourceError: cuda was asked for and there is none.
    """
    if choice == "none":
        return None
    if cuda_decodes():
        return HWAccel("cuda", allow_software_fallback=choice == "auto")
    if choice == "auto":
        return None
    raise SourceError(
        "expected a CUDA device for --hwaccel cuda, found none that ffmpeg can open; "
        "install NVIDIA's driver, or use --hwaccel auto or none"
    )


@cache
def cuda_decodes() -> bool:
    """Whether ffmpeg gets hold of a CUDA device. That it was built with CUDA says nothing of the machine."""
    try:
        HWAccel("cuda").create(av.Codec("h264", "r"))
    except (av.FFmpegError, NotImplementedError, ValueError):
        return False
    return True

"""Opens a source of any kind: the choice of the class that reads an address."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from hoiclip.core.errors import SourceError, UsageError
from hoiclip_engine.sources.base import FrameSource, SourceConfig
from hoiclip_engine.sources.connection import Connector
from hoiclip_engine.sources.file import StdinSource, VideoSource, open_video
from hoiclip_engine.sources.http import HttpFileSource, is_finite
from hoiclip_engine.sources.live import LiveSource
from hoiclip_engine.sources.uri import SourceAddress


def open_source(
    address: SourceAddress, config: SourceConfig | None = None, rng: random.Random | None = None
) -> FrameSource:
    """Opens a source and waits for its first image.

    Args:
        address: one of expand_sources().
        config: defaults; options of the address take precedence.
        rng: for the delays between reconnects.

    Raises:
        SourceError: nothing can be read from it, or no image arrived within timeout_s.
        UsageError: a start time for a source that cannot seek.
    """
    config = address.config(config or SourceConfig())
    match address.kind:
        case "file":
            return open_video(address.location, config)
        case "stdin":
            return StdinSource(config)
        case "webcam":
            return _webcam(address, config, rng)
        case "stream":
            return _stream(address, config, rng)


def _webcam(address: SourceAddress, config: SourceConfig, rng: random.Random | None) -> FrameSource:
    if not Path(address.location).exists():
        raise SourceError(f"expected a camera at {address.name}, found no such device; plug it in, or ls /dev/video*")
    if not os.access(address.location, os.R_OK | os.W_OK):
        raise SourceError(f"may not use the camera {address.name}; add yourself to the group video")
    return _live(Connector(address, config, rng), connect_first=False)


def _stream(address: SourceAddress, config: SourceConfig, rng: random.Random | None) -> FrameSource:
    return _live(Connector(address, config, rng), connect_first=address.scheme in ("http", "https"))


def _live(connector: Connector, *, connect_first: bool) -> FrameSource:
    """Opens a stream; with connect_first, connects before it chooses between file and live stream."""
    config, name = connector.config, connector.address.name
    give_up_at_s = time.monotonic() + config.timeout_s
    container = connector.connect(give_up_at_s, first=True) if connect_first else None
    if container is not None and is_finite(container):
        return HttpFileSource(lambda: VideoSource(container, name, config), name)
    if config.start_s:
        raise UsageError(f"expected a file to start later in, found the live source {name}; leave --start out")
    return LiveSource(connector, container, give_up_at_s)

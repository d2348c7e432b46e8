"""Opens any one source of the grammar: the one place that knows which class reads what."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from hoiclip.errors import SourceError, UsageError
from hoiclip_engine.video.address import Address
from hoiclip_engine.video.connector import Connector
from hoiclip_engine.video.frame_source import FrameSource
from hoiclip_engine.video.live import LiveSource
from hoiclip_engine.video.piped import PipedSource
from hoiclip_engine.video.remote_file import RemoteFile
from hoiclip_engine.video.source import open_video
from hoiclip_engine.video.source_config import SourceConfig
from hoiclip_engine.video.stream_opening import is_finite


def open_source(address: Address, config: SourceConfig | None = None, rng: random.Random | None = None) -> FrameSource:
    """Opens a source and waits for its first picture.

    Args:
        address: one of expand_sources().
        config: for all sources; the address may have its own options.
        rng: of the pauses between reconnects.

    Raises:
        SourceError: nothing can be read from it, or no picture came within timeout_s.
        UsageError: a start was asked of something that cannot be wound forward.
    """
    config = address.config(config or SourceConfig())
    match address.kind:
        case "file":
            return open_video(address.location, config)
        case "stdin":
            return PipedSource(config)
        case "webcam":
            return _webcam(address, config, rng)
        case "stream":
            return _stream(address, config, rng)


def _webcam(address: Address, config: SourceConfig, rng: random.Random | None) -> FrameSource:
    if not Path(address.location).exists():
        raise SourceError(f"expected a camera at {address.name}, found no such device; plug it in, or ls /dev/video*")
    if not os.access(address.location, os.R_OK | os.W_OK):
        raise SourceError(f"may not use the camera {address.name}; add yourself to the group video")
    return _live(Connector(address, config, rng), connect_first=False)


def _stream(address: Address, config: SourceConfig, rng: random.Random | None) -> FrameSource:
    return _live(Connector(address, config, rng), connect_first=address.scheme in ("http", "https"))


def _live(connector: Connector, *, connect_first: bool) -> FrameSource:
    """connect_first: only a look at it tells whether it is a file or a live stream."""
    config, name = connector.config, connector.address.name
    give_up_at_s = time.monotonic() + config.timeout_s
    container = connector.connect(give_up_at_s, first=True) if connect_first else None
    if container is not None and is_finite(container):
        return RemoteFile(container, name, config)
    if config.start_s:
        raise UsageError(f"expected a file to start later in, found the live source {name}; leave --start out")
    return LiveSource(connector, container, give_up_at_s)

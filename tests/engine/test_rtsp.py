"""A real RTSP server, killed and restarted; benchmarks/flapping.py is the long form."""

from __future__ import annotations

import pytest

from benchmarks.flapping import flap
from benchmarks.rtsp_server import NEEDS, is_installed

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_server_may_flap(transport: str) -> None:
    if not is_installed():
        pytest.skip(f"no RTSP server here; {NEEDS}")
    report = flap(5, transport, seed=0)
    assert report["reconnects"] == 5
    assert report["pts_backward"] == 0
    assert isinstance(report["recovery_s"], dict)
    assert report["recovery_s"]["max"] < 2.0, "the promise; with UDP only silence indicates a loss"
    assert isinstance(report["closed"], dict)
    assert isinstance(report["after_all"], dict)
    assert report["closed"]["threads"] < report["after_all"]["threads"]

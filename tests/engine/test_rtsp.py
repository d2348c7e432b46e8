"""A real RTSP server in a process of its own, killed and restarted; the long form is benchmarks/flapping.py."""

from __future__ import annotations

import pytest

from benchmarks.flapping import flap
from benchmarks.rtsp_server import NEEDS, is_installed

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_real_server_may_flap(transport: str) -> None:
    if not is_installed():
        pytest.skip(f"no RTSP server here; {NEEDS}")
    seen = flap(5, transport, seed=0)
    assert seen["reconnects"] == 5
    assert seen["pts_backward"] == 0
    assert isinstance(seen["recovery_s"], dict)
    assert seen["recovery_s"]["max"] < 2.0, "the promise; with UDP a loss is only told by silence"
    assert isinstance(seen["closed"], dict)
    assert isinstance(seen["after_all"], dict)
    assert seen["closed"]["threads"] < seen["after_all"]["threads"]

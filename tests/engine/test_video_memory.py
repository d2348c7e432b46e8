"""Memory of reading a file does not grow with its length."""

from __future__ import annotations

from pathlib import Path

import pytest

from hoiclip_engine.sources.file import open_video
from tests.engine.video_files import write_clip

STATUS = Path("/proc/self/status")


def resident_kb() -> int:
    return int(STATUS.read_text().split("VmRSS:")[1].split()[0])


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux' /proc")
def test_video_source_memory_stays_flat(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "long.mp4", [40 * i for i in range(400)], size_px=(320, 240))
    before_kb = 0
    with open_video(path) as source:
        for frame in source:
            if frame.index == 50:
                before_kb = resident_kb()
        grown_kb = resident_kb() - before_kb
    # A frame that is kept alive costs at least its 115 KB of planes: 40 MB over this clip.
    assert grown_kb < 10_000

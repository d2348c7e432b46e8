"""Writes a video and JSON lines and is then killed; a process of its own for tests of what is left.

python -m tests.engine.dying_writer VIDEO JSONL POLICY FRAMES
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys

from hoiclip_engine.sinks.jsonl_sink import JsonlSink
from hoiclip_engine.sinks.video_sink import VideoSink
from hoiclip_engine.types.frame import Frame
from tests.engine.frame_results import Row, frame_result, header
from tests.engine.video_files import image

FPS = 25
START_S = 7.3

if __name__ == "__main__":
    video, jsonl, policy, frames = sys.argv[1:]
    sinks = [VideoSink(video), JsonlSink(jsonl)]
    for sink in sinks:
        sink.start(dataclasses.replace(header(), policy=policy))  # type: ignore[arg-type]
    for index in range(int(frames)):
        for sink in sinks:
            sink.write(frame_result(Frame(image(index), START_S + index / FPS, index), Row()))
    os.kill(os.getpid(), signal.SIGKILL)

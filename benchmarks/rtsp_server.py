"""A live RTSP server on loopback: GStreamer's, run by the Python that has its bindings (Debian: see NEEDS).

    /usr/bin/python3 benchmarks/rtsp_server.py PORT [VIDEO.mp4]

It plays a test pattern, or an H.264 video, which begins anew for each client. As a script it prints "ready" once it
listens; imported, it starts itself in another process.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NEEDS = "apt-get install gstreamer1.0-rtsp gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-{base,good,ugly}"
SYSTEM_PYTHON = "/usr/bin/python3"
LAUNCH = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)
LAUNCH_VIDEO = '( filesrc location="{}" ! qtdemux ! rtph264pay name=pay0 pt=96 config-interval=1 )'


def is_installed() -> bool:
    """Whether the bindings and all elements of the pipeline are installed."""
    try:
        process = subprocess.run([SYSTEM_PYTHON, __file__, "check"], capture_output=True, check=False, timeout=60)
    except OSError:
        return False
    return process.returncode == 0


def start(port: int, video: Path | None = None) -> subprocess.Popen[str]:
    """Starts a process that serves rtsp://127.0.0.1:PORT/live and waits until it listens.

    Args:
        video: H.264 in MP4, played in real time; None: a test pattern without end.

    Raises:
        RuntimeError: it ended at once.
    """
    command = [SYSTEM_PYTHON, __file__, str(port), *([str(video)] if video else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise RuntimeError(f"the RTSP server ended with {process.wait()}; {NEEDS}")
    return process


def main() -> None:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    if sys.argv[1] == "check":
        found = [Gst.ElementFactory.find(name) for name in ("videotestsrc", "x264enc", "qtdemux", "rtph264pay")]
        sys.exit(0 if all(found) else 1)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(LAUNCH_VIDEO.format(sys.argv[2]) if sys.argv[2:] else LAUNCH)
    factory.set_shared(True)
    server.get_mount_points().add_factory("/live", factory)
    if not server.attach(None):
        sys.exit(f"cannot listen on {sys.argv[1]}")
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()

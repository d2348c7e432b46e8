"""A soak of the whole road of events, where everything is killed at random: python -m benchmarks.soak --minutes 20

Four synthetic cameras (RTSP on loopback, rtsp_server.py) go into one `hoiclip run --live --state` with rules, evidence,
an SQLite record, JSON lines, and MQTT (Mosquitto) with an outbox; Chromium shows the page. Cameras, broker and run are
ended by SIGKILL at random times and started again; in the second half the run itself is left alone. The result line
has a verdict for each promise (events_checks.py), and a failed one is exit code 1.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from benchmarks.harness import append, provenance
from benchmarks.rtsp_server import NEEDS, is_installed
from benchmarks.soak_processes import (
    FPS,
    VIDEO,
    Broker,
    Camera,
    Flapping,
    Server,
    Subscriber,
    outbox_counts,
    page,
    wait_until,
    write_camera_video,
)
from benchmarks.soak_verdicts import Observer, judge, some, verdicts

CAMERAS = 4
SEED = 7_100_000
STARTS_WITHIN_S = 400.0


def soak(folder: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Runs everything and judges it. Returns: the fields of the result line."""
    rng, seconds = random.Random(seed), minutes * 60
    with ExitStack() as stack:
        broker = Broker(folder / "broker")
        stack.callback(broker.kill)
        broker.start()
        subscriber = Subscriber(broker.port)
        stack.callback(subscriber.close)
        broker.save()
        cameras = [Camera(folder / f"camera{number}.mp4") for number in range(1, CAMERAS + 1)]
        for number, camera in enumerate(cameras):
            write_camera_video(camera.video, SEED + number, seconds + 300)
            stack.callback(camera.kill)
            camera.start()
        server = Server(folder, broker.port)
        stack.callback(server.kill)
        server.start()
        wait_until(server.is_ready, STARTS_WITHIN_S, "the page answers")
        for number, camera in enumerate(cameras, 1):
            source = {"address": f"rtsp://127.0.0.1:{camera.port}/live", "name": f"camera {number}"}
            server.request("POST", "/api/sources", source)
        wait_until(lambda: set(server.states().values()) == {"running"}, STARTS_WITHIN_S, "all cameras run")
        chromium_log = stack.enter_context(page(server, folder))
        end_s = time.monotonic() + seconds
        flapping = [
            Flapping(
                name=f"camera {number}", part=camera, up_s=(20, 120), down_s=(0.5, 30), last_kill_s=end_s - 15, rng=rng
            )
            for number, camera in enumerate(cameras, 1)
        ]
        broker_flaps = Flapping(
            name="broker", part=broker, up_s=(20, 120), down_s=(0.5, 20), last_kill_s=end_s - 15, rng=rng
        )
        server_flaps = Flapping(
            name="run", part=server, up_s=(0.08 * seconds, 0.2 * seconds), down_s=(0.1, 3), rng=rng,
            last_kill_s=end_s - seconds / 2,
        )  # fmt: skip
        (folder / "kept").mkdir()
        observer = Observer(server, flapping, folder / "kept")
        watch(observer, [*flapping, broker_flaps, server_flaps], end_s)
        for each in (*flapping, broker_flaps):
            each.restore()
        outbox = end_in_order(server, observer)
        killed = {each.name: len(each.kills) for each in (*flapping, broker_flaps, server_flaps)}
        facts = judge(server, observer, subscriber, chromium_log, outbox)
    return {
        "killed": killed,
        "outbox": outbox,
        **facts,
        "verdicts": verdicts(observer),
        "faults": some(observer.faults),
    }


def watch(observer: Observer, parts: Sequence[Flapping], end_s: float) -> None:
    """Kills, starts and samples, once a second, until the end."""
    server, number = observer.server, 0
    while time.monotonic() < end_s:
        began_s = time.monotonic()
        for part in parts:
            part.tick()
        if parts[-1].is_up and server.is_ready():
            try:
                observer.tick(number)
            except OSError as error:
                observer.fault("the page answers", repr(error))
            if number % 20 == 0:
                print(f"{end_s - began_s:6.0f} s left, {server.life.usage[-1]}, health {observer.health}", flush=True)
        number += 1
        time.sleep(max(0.0, began_s + 1.0 - time.monotonic()))


def end_in_order(server: Server, observer: Observer) -> dict[str, int]:
    """Lets all sources run, pauses them, waits for the outbox and ends the run. Returns: counts of the outbox."""
    wait_until(server.is_ready, STARTS_WITHIN_S, "the page answers after the last start")
    wait_until(lambda: set(server.states().values()) == {"running"}, 180, f"all cameras run again {server.states()}")
    for source in server.get("/api/sources")["sources"]:
        server.request("POST", f"/api/sources/{source['id']}/pause")
    wait_until(lambda: set(server.states().values()) == {"paused"}, 60, "all sources are paused")
    with suppress(SystemExit):  # what waits then is a fault of its own
        wait_until(lambda: not outbox_counts(server)["waiting"], 120, "the outbox is empty")
    counts = outbox_counts(server)
    observer.sample_last()
    code = server.terminate()
    observer.check_folder()  # what was still written
    if code != 143:
        observer.fault("ends in order", f"exit code {code}")
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry", action="store_true", help="print, and keep no result")
    parser.add_argument("--folder", type=Path, help="keep everything there (default: a temporary folder)")
    a = parser.parse_args()
    if not is_installed():
        raise SystemExit(f"no RTSP server here; {NEEDS}")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # ends what it has started
    with tempfile.TemporaryDirectory() as temporary:
        folder = a.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        line = {
            "benchmark": "soak",
            "minutes": a.minutes,
            "seed": a.seed,
            "cameras": f"{CAMERAS} of {VIDEO.width_px}x{VIDEO.height_px} at {FPS} fps, RTSP, H.264",
            "inference": "OpenVINO fp32, short side 128, every second frame",
            "viewer": "Chromium",
            **soak(folder, a.minutes, a.seed),
        }
    if a.dry:
        print(json.dumps(line, indent=1))
    else:
        append("soak", line | provenance("openvino", "av", "aiohttp", "paho-mqtt", "numpy"))
    if not all(line["verdicts"].values()):
        sys.exit(1)


if __name__ == "__main__":
    main()

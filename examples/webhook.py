"""Events over HTTP: a receiver that checks its token and skips duplicates, and a run that posts to it.

    python examples/webhook.py demo/clip.mp4

The run's side in a shell: HOICLIP_WEBHOOK_TOKEN=... hoiclip run demo/clip.mp4 --webhook http://127.0.0.1:8090/
"""

from __future__ import annotations

import hmac
import json
import secrets
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from hoiclip_engine import Engine
from hoiclip_engine.sinks.webhook import Webhook


class Receiver(BaseHTTPRequestHandler):
    """POST of `hoiclip-events/1`. A batch that is not answered with 2xx comes again, under the same number."""

    token: str
    seen: set[tuple[str, int]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not hmac.compare_digest(self.headers.get("Authorization", ""), f"Bearer {self.token}"):
            self.send_error(401)
            return
        batch = json.loads(body)
        key = (batch["events"][0]["told_at"], batch["batch"])
        for event in [] if key in self.seen else batch["events"]:
            if event["event"] == "start":
                print(f"{event['pts_s']:.2f} s  {event['verb']} {event['label'] or ''}", flush=True)
        self.seen.add(key)
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


def main(source: str) -> None:
    token = secrets.token_hex(16)
    server = HTTPServer(("127.0.0.1", 0), type("Own", (Receiver,), {"token": token, "seen": set()}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sink = Webhook(f"http://127.0.0.1:{server.server_port}/", token=token).sink()
    with Engine.load("drawn") as engine:
        stream = engine.open(source)
        sink.start(stream.header)
        for result in stream:
            sink.write(result)
        sink.finish(stream.summary)  # waits for the last events; raises SinkError if some did not arrive


if __name__ == "__main__":
    main(sys.argv[1])

"""Events over HTTP: a receiver that checks signatures and skips repeats, and a run that posts to it.

    python examples/webhook.py demo/clip.mp4

In a shell: HOICLIP_WEBHOOK_SECRET=... hoiclip run demo/clip.mp4 --webhook http://127.0.0.1:8090/
"""

from __future__ import annotations

import hmac
import json
import secrets
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

from hoiclip_engine import Engine
from hoiclip_engine.events.outbox import Outbox
from hoiclip_engine.sinks.webhook import Webhook

SECRET = secrets.token_hex(16)
SEEN: set[str] = set()


def is_genuine(secret: str, header: str, body: bytes) -> bool:
    """Whether a request was signed with this secret, within the last five minutes."""
    sent_s, _, signature = header.removeprefix("t=").partition(",v1=")
    expected = hmac.new(secret.encode(), f"{sent_s}.".encode() + body, "sha256").hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode()) and abs(time.time() - int(sent_s)) < 300


class Receiver(BaseHTTPRequestHandler):
    """POST of `hoiclip-events/1`. Events of a request that is not answered with 2xx come again, with the same ids."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_ours = is_genuine(SECRET, self.headers.get("X-Hoiclip-Signature", ""), body)
        for event in json.loads(body)["events"] if is_ours else []:
            if event["id"] not in SEEN and event["event"] == "start":
                print(f"{event['pts_s']:.2f} s  {event['verb']} {event['label'] or ''}", flush=True)
            SEEN.add(event["id"])
        self.send_response(204 if is_ours else 401)
        self.end_headers()


def main(source: str) -> None:
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sink = Outbox([Webhook(f"http://127.0.0.1:{server.server_port}/", secret=SECRET)]).sink()
    with Engine.load("drawn") as engine:
        sink.start((stream := engine.open(source)).header)
        for result in stream:
            sink.write(result)
        sink.finish(stream.summary)  # waits for the last events; raises SinkError if some did not arrive


if __name__ == "__main__":
    main(sys.argv[1])

"""A stream to events: one JSON line when a verb begins and one when it ends, in words.

python examples/events.py demo/clip.mp4
python examples/events.py rtsp://camera/stream --model hico.safetensors
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from hoiclip_engine import Engine, Event


def events(engine: Engine, source: str) -> Iterator[Event]:
    """Starts and ends as they happen; at the end of the source, the ends of verbs that were still active."""
    stream = engine.open(source)
    for result in stream:
        yield from result.events
    yield from stream.summary.closing_events


def json_line(event: Event) -> str:
    """A person may act without an object; then the label is empty."""
    words = f"{event.verb} {event.label}".replace("_", " ").strip()
    return json.dumps({"time_s": round(event.pts_s, 3), "event": event.event, "human": event.human, "does": words})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="file, camera or stream")
    parser.add_argument("--model", default="drawn")
    a = parser.parse_args()
    with Engine.load(a.model) as engine:
        for event in events(engine, a.source):
            print(json_line(event), flush=True)


if __name__ == "__main__":
    main()

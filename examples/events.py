"""A stream to events: one JSON line when something begins and one when it ends, with the names a person reads.

python examples/events.py demo/clip.mp4
python examples/events.py rtsp://camera/stream --model hico.safetensors
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator

from hoiclip_engine import Engine
from hoiclip_engine.pairs import Event


def events(engine: Engine, source: str) -> Iterator[Event]:
    """What begins and ends, as it happens; at the end of the source what was still going on."""
    stream = engine.open(source)
    for result in stream:
        yield from result.events
    yield from stream.summary.closing_events


def lines(engine: Engine, told: Iterable[Event]) -> Iterator[str]:
    """Numbers are indices into the model's vocabulary; a person may act without an object."""
    names = engine.vocabulary
    for event in told:
        thing = names.object_name(event.label)
        words = " ".join(word for word in (names.verb_name(event.verb), thing) if word)
        yield json.dumps({"time_s": round(event.pts_s, 3), "event": event.event, "human": event.human, "does": words})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="file, camera or stream")
    parser.add_argument("--model", default="drawn")
    a = parser.parse_args()
    with Engine.load(a.model) as engine:
        for line in lines(engine, events(engine, a.source)):
            print(line, flush=True)


if __name__ == "__main__":
    main()

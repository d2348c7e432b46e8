"""Puts events into an outbox with a file until it is killed; a process of its own for tests of what is left.

python -m tests.engine.dying_outbox FILE URL EVENTS

Prints the id of each event once the file has it, and "empty" once all is delivered.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from hoiclip_engine.events.outbox import Outbox, OutboxConfig
from hoiclip_engine.events.outbox_file import Message
from hoiclip_engine.sinks.webhook import Webhook, WebhookConfig

if __name__ == "__main__":
    path, url, events = sys.argv[1:]
    config = OutboxConfig(first_pause_s=0.01, last_pause_s=0.05)
    box = Outbox([Webhook(url, config=WebhookConfig(batch=7, collect_s=0.0))], Path(path), config)
    box.opened()
    assert box._file is not None
    run_id = time.time_ns()
    for number in range(int(events)):
        payload = {"source": "camera", "event": "start", "number": number}
        identity = f"{run_id}-{number}"
        box.put([Message(id=identity, kind="verb.start", source="camera", time="now", payload=payload)])
        while box._file.unwritten:
            time.sleep(0.0005)
        print(identity, flush=True)
    while box.counters()[0].waiting:
        time.sleep(0.01)
    print("empty", flush=True)
    box.close()

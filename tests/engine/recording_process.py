"""Records hits without end, to be killed; a process of its own for tests of what is left.

python -m tests.engine.recording_process DATABASE RUN [FILE_BYTES]

Hit n is at n / 100 s. After each, it prints how many hits are not in memory any more, and so survive. With FILE_BYTES
no file may grow beyond that, as on a disk that is full, and it ends by itself.
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from itertools import count

from hoiclip.core.errors import SinkError
from hoiclip_engine.events.record import RecordConfig, Recorder
from tests.engine.frame_results import header, summary
from tests.engine.recorded import hit_at, result

if __name__ == "__main__":
    database, run_id, *limit = sys.argv[1:]
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit[0]), int(limit[0])))
    recorder = Recorder(database, RecordConfig(collect_s=0.01, batch=20, first_pause_s=0.02, last_pause_s=0.05))
    sink = recorder.sink()
    sink.start(dataclasses.replace(header(), run_id=run_id))
    for number in range(2000) if limit else count():
        hits = (hit_at("start", number), hit_at("end", number, lasted_s=0.5))
        sink.write(result(number / 100, hits=hits))
        print(number + 1 - (len(recorder._queue) + 1) // 2, flush=True)
        time.sleep(0.0005)
    sink.finish(summary())
    try:
        recorder.close()
    except SinkError as error:
        print(f"{error} {recorder.counts.dropped}", file=sys.stderr)

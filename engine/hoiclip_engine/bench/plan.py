"""What is to be measured: subject, load, streams, how long; and MLPerf's name and percentile for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from hoiclip.errors import UsageError
from hoiclip_engine.bench.warm_up import LONGEST_S

Subject = Literal["model", "pipeline"]
"""A prepared picture to its scored triplets, or encoded bytes to tracked pairs."""
Load = Literal["closed", "open", "offline"]
"""closed: the next query when the one before is answered. open: frames come when they are due, ready or not.
offline: a file as fast as it goes, frames beside each other."""
CLOSED_BLOCK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """One measurement."""

    subject: Subject = "pipeline"
    load: Load = "closed"
    streams: int = 1
    """At once; a closed query is one frame of each."""
    fps: float | None = None
    """Frames a second of each stream (open); None: the film's own rate, or what times_rate says."""
    times_rate: float | None = None
    """Frames come so many times as fast as they can be answered one after the other (open)."""
    seconds: float = 20.0
    """Measured time, warm-up not counted."""
    blocks: int | None = None
    """Parts of it, which statistics treat as independent; None: as many as suit the load."""
    cold_starts: int = 1
    """Fresh processes, timed from the command to the first result; 0: none."""
    accuracy_pictures: int = 0
    """Annotated pictures to measure mAP on; 0: what the build's gate recorded."""
    slowed_by: float = 0.0
    """Share of its own time that every look is made longer by, to see whether a gate notices."""

    def __post_init__(self) -> None:
        if self.streams < 1 or self.cold_starts < 0 or self.accuracy_pictures < 0:
            raise UsageError(f"streams must be at least 1, other counts not negative, got {self}")
        if not (math.isfinite(self.seconds) and 0.1 <= self.seconds <= 86_400):
            raise UsageError(f"--duration must lie between 0.1 and 86400 seconds, got {self.seconds}")
        if self.blocks is not None and not 4 <= self.blocks <= 1000:
            raise UsageError(
                f"--blocks must lie between 4 and 1000, got {self.blocks}; fewer tell nothing of the spread"
            )
        if not (math.isfinite(self.slowed_by) and 0 <= self.slowed_by <= 10):
            raise UsageError(f"--inject-slowdown must lie between 0 and 1000 percent, got {100 * self.slowed_by:g}")
        for option, value in (("--fps", self.fps), ("--times-rate", self.times_rate)):
            if value is None:
                continue
            if self.load != "open":
                raise UsageError(f"{option} is for --load open, the load is {self.load}; leave it out")
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{option} must be positive, got {value}")
        if self.fps is not None and self.times_rate is not None:
            raise UsageError("--fps and --times-rate both say how fast frames come; name one")
        if self.subject == "model" and self.load == "offline":
            raise UsageError("--load offline overlaps decoding and looking; a model alone cannot: --subject pipeline")

    @property
    def mode(self) -> str:
        """What MLPerf Inference calls it, where it has a name for it."""
        if self.load == "closed":
            return "SingleStream" if self.streams == 1 else "MultiStream"
        return "Server" if self.load == "open" else "Offline"

    @property
    def headline(self) -> Literal["p90", "p99", "throughput"]:
        """The number MLPerf judges that mode by."""
        if self.load == "closed":
            return "p90" if self.streams == 1 else "p99"
        return "p99" if self.load == "open" else "throughput"

    @property
    def warm_up_s(self) -> float:
        """How long the warm-up may take: short measurements are not kept waiting."""
        return min(LONGEST_S, 2.0 + 1.5 * self.seconds)

    @property
    def parts(self) -> int:
        """How many blocks. Those of a closed load are short: machines change their speed within a second."""
        if self.blocks is not None:
            return self.blocks
        return 20 if self.load != "closed" else max(20, min(1000, round(self.seconds / CLOSED_BLOCK_S)))

    @property
    def block_s(self) -> float:
        return self.seconds / self.parts

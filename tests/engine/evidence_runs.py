"""Videos with hits made by hand, through the evidence sink; as a script, a process that is killed at some point.

python -m tests.engine.evidence_runs VIDEO FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from hoiclip_engine.events.evidence import EvidenceConfig, EvidenceSink
from hoiclip_engine.events.evidence_folder import EvidenceFolder, EvidenceLimits
from hoiclip_engine.sources.base import FrameSource, SourceConfig
from hoiclip_engine.sources.file import open_video
from hoiclip_engine.sources.packet_ring import PacketRing
from hoiclip_engine.types.frame import Frame
from hoiclip_engine.types.results import FrameResult, Policy, RunHeader
from hoiclip_engine.types.rule_hits import Evidence, RuleHit
from tests.engine.frame_results import Row, frame_result, header, rule_hit, summary


def hit(
    event: Literal["start", "update", "end"], number: int = 0, *, pts_s: float, start_s: float, rule: str = "rides here"
) -> RuleHit:
    return rule_hit(event, hit=number, rule=rule, pts_s=pts_s, start_s=start_s, peak_s=start_s)


def with_hits(frame: Frame, spans: Sequence[tuple[float, float]], previous_s: float, rule: str) -> FrameResult:
    """The result of a frame: hit number n holds in the nth span of time."""
    hits = []
    for number, (start_s, end_s) in enumerate(spans):
        if previous_s < start_s <= frame.pts_s:
            hits.append(hit("start", number, pts_s=start_s, start_s=start_s, rule=rule))
        if previous_s < end_s <= frame.pts_s:
            hits.append(hit("end", number, pts_s=end_s, start_s=start_s, rule=rule))
    return replace(frame_result(frame, Row()), rule_hits=tuple(hits))


def run_header(source: str, frame: Frame, policy: Policy = "lossless") -> RunHeader:
    return replace(header(size_px=(frame.width_px, frame.height_px), source=source), policy=policy)


def feed_live(
    source: FrameSource, name: str, sink: EvidenceSink, after_s: tuple[float, float]
) -> tuple[list[Frame], tuple[float, float]]:
    """Runs a live source to its end, with one hit.

    Args:
        after_s: start and end of the hit, after the first frame.

    Returns:
        Its frames, and start and end of the hit.
    """
    frames: list[Frame] = []
    span = (0.0, 0.0)
    for frame in source:
        assert isinstance(frame, Frame)
        if not frames:
            sink.start(run_header(name, frame, "latest"))
            span = (frame.pts_s + after_s[0], frame.pts_s + after_s[1])
        sink.write(with_hits(frame, [span], frames[-1].pts_s if frames else -1.0, "ride"))
        frames.append(frame)
    source.close()
    sink.finish(summary())
    return frames, span


def run_video(
    path: Path,
    folder: EvidenceFolder,
    spans: Sequence[tuple[float, float]],
    config: EvidenceConfig | None = None,
    *,
    ring: PacketRing | None = None,
    policy: Policy = "lossless",
    rule: str = "rides here",
    name: str = "",
) -> tuple[list[Frame], list[Evidence], EvidenceSink]:
    """A file with a hit in each span; what still holds at its end is ended there."""
    config = config or EvidenceConfig()
    ring = ring or PacketRing(config.kept_s)
    found: list[Evidence] = []
    sink = EvidenceSink(folder, config, ring, [found.append])
    frames: list[Frame] = []
    with open_video(path, SourceConfig(packets=ring)) as source:
        frames = feed(sink, source, spans, name or str(path), policy, rule)
    last_s = frames[-1].pts_s
    closing = tuple(
        hit("end", number, pts_s=last_s, start_s=start_s, rule=rule)
        for number, (start_s, end_s) in enumerate(spans)
        if start_s <= last_s < end_s
    )
    sink.finish(replace(summary(), closing_hits=closing))
    return frames, found, sink


def feed(
    sink: EvidenceSink,
    source: Iterable[object],
    spans: Sequence[tuple[float, float]],
    name: str,
    policy: Policy,
    rule: str,
) -> list[Frame]:
    frames: list[Frame] = []
    previous_s = -1.0
    for frame in source:
        assert isinstance(frame, Frame)
        if not frames:
            sink.start(run_header(name, frame, policy))
        sink.write(with_hits(frame, spans, previous_s, rule))
        frames.append(frame)
        previous_s = frame.pts_s
    return frames


if __name__ == "__main__":
    config = EvidenceConfig(before_s=0.3, after_s=0.3, longest_s=2.0)
    with EvidenceFolder(Path(sys.argv[2]), EvidenceLimits(max_files=12)) as evidence_folder:
        print("ready", flush=True)
        for _ in range(1000):
            run_video(Path(sys.argv[1]), evidence_folder, [(0.2, 0.8), (0.5, 1.5), (1.6, 2.0)], config)

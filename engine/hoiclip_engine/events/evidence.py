"""Snapshots and clips of what happened: which moments are kept, of which frames, under which names.

Clips are cut from packets that the source keeps encoded (sources/packet_ring.py); clip.py makes files of them, and
evidence_folder.py writes them, in a thread of its own. Frames of a live source never wait for the disk: what finds no
room is dropped and counted. For a file, which can wait, nothing is dropped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import av
import cv2
import numpy as np

from hoiclip.core.array_types import RGB
from hoiclip.core.errors import SinkError
from hoiclip.core.jpeg import encode_jpeg
from hoiclip.core.wall_time import utc_file_name
from hoiclip_engine.events.clip import clip_file
from hoiclip_engine.events.evidence_folder import EvidenceFolder
from hoiclip_engine.sinks.annotate import FramePainter
from hoiclip_engine.sources.packet_ring import PacketClip, PacketRing
from hoiclip_engine.sources.uri import file_names, redact
from hoiclip_engine.types.frame import SourceEvent
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink, WallClock
from hoiclip_engine.types.rule_hits import Evidence, RuleHit
from hoiclip_engine.types.tracked_pairs import Event

Subject = Literal["rules", "events"]
MAX_OPEN = 32
"""Moments of one source that are open at a time; each holds a snapshot."""
_MARGIN_S = 2.0
"""Seconds of packets kept beyond the longest clip, for results that come late."""
_SNAPSHOT_PX = 1280
"""Longest side of a snapshot."""
_JPEG_QUALITY = 85
_BETTER = 0.02
"""A frame replaces a snapshot if its score is better by this, and some time after it: drawing takes time."""
_BETTER_AFTER_S = 0.25
_NAME_BYTES = 60
_Key: TypeAlias = "int | tuple[int, int]"
"""Number of a hit, or pair and verb index of an event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceConfig:
    """What evidence shows, and how much of it."""

    before_s: float = 3.0
    """Seconds before the start; a clip begins with a keyframe, so mostly a little earlier."""
    after_s: float = 3.0
    """Seconds after the end."""
    longest_s: float = 30.0
    """Seconds of what happened that a clip shows at most."""
    what: Subject = "rules"
    """Hits of rules, or all verb events."""

    def __post_init__(self) -> None:
        if not (0 <= self.before_s < math.inf and 0 <= self.after_s < math.inf and 0 < self.longest_s < math.inf):
            raise ValueError(
                "before_s and after_s must be zero or more and longest_s positive, "
                f"got {self.before_s}, {self.after_s} and {self.longest_s}"
            )
        if self.what not in get_args(Subject):
            raise ValueError(f"what must be rules or events, got {self.what!r}")

    @property
    def kept_s(self) -> float:
        """Seconds of packets that must be kept."""
        return self.before_s + self.longest_s + self.after_s + _MARGIN_S


@dataclass(slots=True, kw_only=True, eq=False)
class _Moment:
    """A hit or an event whose evidence is still being collected."""

    happening: RuleHit | Event
    verb_index: int | None
    stem: str
    start_s: float
    clip_start_s: float
    """Wanted."""
    latest_s: float
    """End of the clip at the latest."""
    end_s: float | None = None
    snapshot: bytes = b""
    score: float = -1.0
    drawn_s: float = -math.inf

    def clip_end_s(self, after_s: float) -> float:
        return self.latest_s if self.end_s is None else min(self.end_s + after_s, self.latest_s)


class EvidenceSink(Sink):
    """Evidence of one source in a folder that sources may share."""

    def __init__(
        self,
        folder: EvidenceFolder,
        config: EvidenceConfig | None = None,
        packets: PacketRing | None = None,
        on_evidence: Sequence[Callable[[Evidence], None]] = (),
        name: str | None = None,
    ) -> None:
        """
        Args:
            packets: the ring in the SourceConfig of the source, closed with the sink; None for snapshots alone.
            on_evidence: called with what was written; from the folder's thread.
            name: of the source, in names of files; None: follows from its address.
        """
        self.packets = packets
        self.written = self.dropped = 0
        """Moments of which something was kept, and of which nothing was."""
        self.without_clip = self.shortened = self.reencoded = 0
        """Of the written ones, by their clips."""
        self._folder, self._config = folder, config or EvidenceConfig()
        self._on_evidence, self._name = on_evidence, name
        self._open: dict[_Key, _Moment] = {}
        self._last_s = 0.0
        self._jpeg: tuple[int, bytes] = (-1, b"")

    def start(self, header: RunHeader) -> None:
        self._header, self._painter, self._clock = header, FramePainter(header), WallClock(header)
        self._verbs = {verb: index for index, verb in enumerate(header.vocabulary.verbs)}
        self._source_name = self._name or file_names([redact(header.source)])[0]

    def write(self, result: FrameResult) -> None:
        self._last_s = result.pts_s
        self._clock.see(result)
        self._take(result.rule_hits if self._config.what == "rules" else result.events, result)
        for moment in self._open.values():
            self._improve(moment, result)
        self._keep(moment for moment in self._open.values() if result.pts_s >= moment.clip_end_s(self._config.after_s))
        if self.packets is not None:
            self.packets.reached(result.pts_s)

    def source_event(self, event: SourceEvent) -> None:
        """A clip does not span two connections, so that a loss ends all of them."""
        if event.event == "source_lost":
            self._keep(self._open.values())

    def finish(self, summary: RunSummary) -> None:
        self._take(summary.closing_hits if self._config.what == "rules" else summary.closing_events, None)
        self._keep(self._open.values())
        self.dropped += self._folder.drain(self)
        if self.packets is not None:
            self.packets.close()

    @property
    def totals(self) -> tuple[tuple[str, str], ...]:
        words = [f"{self.written} written, {self.dropped} dropped"]
        words += [f"{self.without_clip} without a clip"] if self.without_clip else []
        words += [f"{self.shortened} with a clip that begins late"] if self.shortened else []
        return (("evidence", ", ".join(words)),)

    @property
    def notes(self) -> tuple[str, ...]:
        notes = []
        if self.reencoded:
            notes.append(f"{self.reencoded} clips were encoded again: files cannot hold its codec")
        if self.shortened:
            notes.append(f"{self.shortened} clips begin late: its packets fill the memory that is kept for clips")
        return tuple(notes)

    def _take(self, happenings: Sequence[RuleHit | Event], result: FrameResult | None) -> None:
        """Begins and ends moments. Args: result: of the frame; None at the end, when nothing begins any more."""
        for happening in happenings:
            key = happening.hit if isinstance(happening, RuleHit) else (happening.pair, happening.verb_index)
            if happening.event == "start" and result is not None:
                self._begin(key, happening, result)
            elif happening.event == "end" and key in self._open:
                self._open[key].end_s = happening.pts_s

    def _begin(self, key: _Key, happening: RuleHit | Event, result: FrameResult) -> None:
        if key in self._open:  # the verb of a pair starts anew, before the clip of its last time was due
            self._keep([self._open[key]])
        if len(self._open) >= MAX_OPEN:
            self.dropped += 1
            return
        config = self._config
        start_s = happening.pts_s if happening.start_s is None else happening.start_s
        # A rule may be reported long after it began to hold: then the clip shows the time before the report.
        clip_start_s = max(start_s, result.pts_s - config.longest_s) - config.before_s
        self._open[key] = _Moment(
            happening=happening,
            verb_index=self._verbs.get(happening.verb),
            stem=self._stem(happening, start_s, result),
            start_s=start_s,
            clip_start_s=clip_start_s,
            latest_s=clip_start_s + config.before_s + config.longest_s,
        )

    def _stem(self, happening: RuleHit | Event, start_s: float, result: FrameResult) -> str:
        """Name without a suffix: when, where, what and which, so that names sort by time."""
        is_live = self._header.policy == "latest"
        when = utc_file_name(self._clock.at(start_s)) if is_live else stream_time(start_s)
        if isinstance(happening, RuleHit):
            what, number = happening.rule, happening.hit
        else:
            what, number = happening.verb, happening.pair
        return f"{when}_{_safe(self._source_name)}_{_safe(what)}_{number}"

    def _improve(self, moment: _Moment, result: FrameResult) -> None:
        """Takes the frame as the snapshot where it shows what happens better than the last one, or is the first."""
        if moment.snapshot and (moment.end_s is not None or result.pts_s - moment.drawn_s < _BETTER_AFTER_S):
            return
        score = _score(moment, result)
        if not moment.snapshot or score > moment.score + _BETTER:
            moment.snapshot, moment.score, moment.drawn_s = self._draw(result), score, result.pts_s

    def _draw(self, result: FrameResult) -> bytes:
        """The annotated frame as a JPEG; drawn once for all moments that it shows."""
        index, jpeg = self._jpeg
        if index != result.index or not jpeg:
            jpeg = _snapshot(self._painter.paint(result))
            self._jpeg = (result.index, jpeg)
        return jpeg

    def _keep(self, moments: Iterable[_Moment]) -> None:
        """Cuts clips, and hands moments to the folder."""
        for moment in list(moments):
            self._open = {key: other for key, other in self._open.items() if other is not moment}
            clip = self._cut(moment)
            size = len(moment.snapshot) + (clip.size if clip else 0)

            def work(moment: _Moment = moment, clip: PacketClip | None = clip) -> None:
                self._store(moment, clip)

            if not self._folder.submit(self, work, size, wait=self._header.policy == "lossless"):
                self.dropped += 1

    def _cut(self, moment: _Moment) -> PacketClip | None:
        if self.packets is None:
            return None
        end_s = min(moment.clip_end_s(self._config.after_s), self._last_s)
        return self.packets.cut(moment.clip_start_s, end_s, min(max(moment.start_s, moment.clip_start_s), end_s))

    def _store(self, moment: _Moment, clip: PacketClip | None) -> None:
        """In the folder's thread."""
        contents = {".jpg": moment.snapshot}
        if clip is not None:
            try:
                contents[clip.suffix] = clip_file(clip)
            except (av.FFmpegError, ValueError, OverflowError):
                clip = None
        if clip is not None and not self._folder.can_hold(len(contents), sum(map(len, contents.values()))):
            del contents[clip.suffix]
            clip = None
        try:
            paths = self._folder.store(moment.stem, contents)
        except SinkError as error:
            self.dropped += 1
            self._folder.report(error)
            return
        self._folder.report(None)
        self.written += 1
        self.without_clip += clip is None
        self.shortened += clip is not None and clip.truncated
        self.reencoded += clip is not None and clip.reencoded
        happening = moment.happening
        evidence = Evidence(
            run_id=self._header.run_id,
            source=self._header.source,
            hit=happening.hit if isinstance(happening, RuleHit) else None,
            rule=happening.rule if isinstance(happening, RuleHit) else "",
            pair=happening.pair,
            verb=happening.verb,
            start_s=moment.start_s,
            snapshot=paths[".jpg"],
            clip=None if clip is None else paths[clip.suffix],
            clip_start_s=moment.start_s if clip is None else clip.pts_s[0],
            clip_end_s=moment.start_s if clip is None else max(clip.pts_s),
            reencoded=clip is not None and clip.reencoded,
        )
        for call in self._on_evidence:
            call(evidence)


def stream_time(start_s: float) -> str:
    """A moment of a file, as it begins a name: 000h12m34.567s. The same for every run over the file."""
    milliseconds = max(0, round(start_s * 1000))
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:03d}h{minutes % 60:02d}m{rest / 1000:06.3f}s"


def _safe(text: str) -> str:
    """A part of a file's name, of foreign text."""
    name = re.sub(r"[^\w.\-]+", "_", text).strip("._-")
    return name.encode()[:_NAME_BYTES].decode(errors="ignore") or "unnamed"


def _score(moment: _Moment, result: FrameResult) -> float:
    """Score of the moment's verb in a frame; 0 where its pair is not in it."""
    pairs = result.pairs
    rows = np.flatnonzero(pairs.pair == moment.happening.pair)
    if not len(rows) or moment.verb_index is None:
        return 0.0
    return float(pairs.verb_scores[rows[0], moment.verb_index])


def _snapshot(rgb: RGB) -> bytes:
    scale = _SNAPSHOT_PX / max(rgb.shape[:2])
    if scale < 1:
        rgb = np.asarray(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    return encode_jpeg(rgb, _JPEG_QUALITY)

"""Numbers of running sources for Prometheus: how long stages take, how old frames are, what was dropped.

One registry per server. Updated by the threads that write results, read by the server's.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.pairs import Event
from hoiclip_engine.results import FrameResult, RunSummary

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """All sources of a server; `of` gives those of one."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        source = ("source",)
        self.stages = Histogram(
            "hoiclip_stage_seconds",
            "What a stage took.",
            ("stage", *source),
            buckets=_SECONDS,
            registry=own,
        )
        self.age = Histogram(
            "hoiclip_frame_age_seconds",
            "From arrival to result.",
            source,
            buckets=_SECONDS,
            registry=own,
        )
        self.decoded = Counter("hoiclip_frames_decoded", "Frames that came.", source, registry=own)
        self.processed = Counter("hoiclip_frames_processed", "Frames with a result.", source, registry=own)
        self.dropped = Counter("hoiclip_frames_dropped", "Frames skipped for newer ones.", source, registry=own)
        self.lost = Counter("hoiclip_source_losses", "How often the source was lost.", source, registry=own)
        self.reconnects = Counter("hoiclip_source_reconnects", "How often it came back.", source, registry=own)
        self.up = Gauge("hoiclip_source_up", "1 while the source is there.", source, registry=own)
        self.pairs = Gauge("hoiclip_pairs", "Pairs that are followed.", source, registry=own)
        self.active = Gauge("hoiclip_active_pairs", "Pairs that do something.", source, registry=own)
        self.events = Counter("hoiclip_events", "Verbs that began or ended.", ("verb", "event", *source), registry=own)
        self.viewers = Gauge("hoiclip_live_viewers", "Who watches.", ("kind",), registry=own)

    def of(self, source: str, vocabulary: Vocabulary) -> SourceMetrics:
        return SourceMetrics(self, source, vocabulary)

    def text(self) -> bytes:
        """Prometheus' exposition format."""
        return generate_latest(self.registry)


class SourceMetrics:
    """Those of one source, looked up once rather than with every frame."""

    def __init__(self, metrics: Metrics, source: str, vocabulary: Vocabulary) -> None:
        self._metrics, self._source, self._vocabulary = metrics, source, vocabulary
        self._age, self._up = metrics.age.labels(source), metrics.up.labels(source)
        self._decoded, self._processed = metrics.decoded.labels(source), metrics.processed.labels(source)
        self._dropped = metrics.dropped.labels(source)
        self._lost, self._reconnects = metrics.lost.labels(source), metrics.reconnects.labels(source)
        self._pairs, self._active = metrics.pairs.labels(source), metrics.active.labels(source)
        self._up.set(1)
        self._told_dropped = 0

    def frame(self, result: FrameResult) -> None:
        """One more."""
        self._decoded.inc(1 + result.dropped_before)
        self._processed.inc()
        self._dropped.inc(result.dropped_before)
        self._told_dropped += result.dropped_before
        self._age.observe(result.age_s)
        for stage, took_ms in result.stage_ms.items():
            self._metrics.stages.labels(stage, self._source).observe(took_ms / 1e3)
        self._pairs.set(len(result.pairs))
        self._active.set(int(result.pairs.verb_active.any(axis=1).sum()))
        for event in result.events:
            self._event(event)

    def source_lost(self) -> None:
        self._lost.inc()
        self._up.set(0)

    def source_back(self) -> None:
        self._reconnects.inc()
        self._up.set(1)

    def ended(self, summary: RunSummary) -> None:
        """Drops after the last result were told by no result."""
        unseen = max(0, summary.dropped - self._told_dropped)
        self._decoded.inc(unseen)
        self._dropped.inc(unseen)
        for event in summary.closing_events:
            self._event(event)
        self._up.set(0)
        self._pairs.set(0)
        self._active.set(0)

    def _event(self, event: Event) -> None:
        self._metrics.events.labels(self._vocabulary.verbs[event.verb], event.event, self._source).inc()

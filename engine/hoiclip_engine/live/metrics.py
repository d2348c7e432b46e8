"""Prometheus metrics of running sources: stage durations, frame ages, drops, losses, viewers and the outbox.

One registry per server. Updated by the threads that write results, read by the thread of the server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from hoiclip.core.vocabulary import Vocabulary
from hoiclip_engine.events.outbox import TargetCounters
from hoiclip_engine.types.frame import SourceState, SupervisedSource
from hoiclip_engine.types.results import FrameResult, RunSummary
from hoiclip_engine.types.tracked_pairs import Event

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)
CONTENT_TYPE = CONTENT_TYPE_LATEST
_AnyMetric: TypeAlias = Counter | Gauge | Histogram
_M = TypeVar("_M", bound=_AnyMetric)


class Metrics:
    """Metrics of all sources of a server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._labels: dict[_AnyMetric, tuple[str, ...]] = {}
        """Of all metrics that have a value for each source."""
        seconds = {"buckets": _SECONDS}
        self.stages = self._by_source(Histogram, "hoiclip_stage_seconds", "Duration of a stage.", "stage", **seconds)
        self.age = self._by_source(Histogram, "hoiclip_frame_age_seconds", "Time from arrival to result.", **seconds)
        self.frames = _FrameCounts()
        self.registry.register(self.frames)
        reasons = "Frames by the reason to infer them or not (--detect-every auto)."
        self.reasons = self._by_source(Counter, "hoiclip_frames_by_reason", reasons, "reason")
        self.lost = self._by_source(Counter, "hoiclip_source_losses", "Losses of the source.")
        self.reconnects = self._by_source(Counter, "hoiclip_source_reconnects", "Reconnects of the source.")
        self.up = self._by_source(Gauge, "hoiclip_source_up", "1 while the source is connected.")
        self.pairs = self._by_source(Gauge, "hoiclip_pairs", "Tracked pairs.")
        self.active = self._by_source(Gauge, "hoiclip_active_pairs", "Pairs with an active verb.")
        self.events = self._by_source(Counter, "hoiclip_events", "Verb starts and ends.", "verb", "event")
        self.hits = self._by_source(Counter, "hoiclip_rule_hits", "Hits of a rule.", "rule")
        self.viewers = Gauge("hoiclip_live_viewers", "Current viewers.", ("kind",), registry=self.registry)

    def _by_source(self, kind: type[_M], name: str, text: str, *labels: str, **how: Any) -> _M:
        names = (*labels, "source")
        metric = kind(name, text, names, registry=self.registry, **how)
        self._labels[metric] = names
        return metric

    def watch_outbox(self, counters: Callable[[], Sequence[TargetCounters]]) -> None:
        """Adds the counts of an outbox, read for every scrape."""
        self.registry.register(_OutboxCollector(counters))

    def for_source(self, source: str, vocabulary: Vocabulary) -> SourceMetrics:
        return SourceMetrics(self, source, vocabulary)

    def supervise(self, sources: Callable[[], Sequence[SupervisedSource]]) -> None:
        """Adds the states of sources, as they are whenever metrics are read."""
        self.registry.register(_SourceStates(sources))

    def forget(self, source: str) -> None:
        """Removes all that is labelled with a source."""
        for metric, names in self._labels.items():
            samples = [sample for family in metric.collect() for sample in family.samples]
            for values in {tuple(s.labels[name] for name in names) for s in samples if s.labels["source"] == source}:
                metric.remove(*values)
        self.frames.forget(source)

    def text(self) -> bytes:
        """All metrics in the exposition format of Prometheus."""
        return generate_latest(self.registry)


class _FrameCount:
    """Frames of one source: with a result, and dropped. Both are replaced at once, so that they always fit together."""

    def __init__(self) -> None:
        self.value = (0, 0)
        self._lock = threading.Lock()

    def add(self, processed: int, dropped: int) -> None:
        with self._lock:
            self.value = self.value[0] + processed, self.value[1] + dropped


class _FrameCounts(Collector):
    """Counts of frames of all sources, as they are at one moment of a scrape."""

    def __init__(self) -> None:
        self._counts: dict[str, _FrameCount] = {}

    def of(self, source: str) -> _FrameCount:
        return self._counts.setdefault(source, _FrameCount())

    def forget(self, source: str) -> None:
        self._counts.pop(source, None)

    def collect(self) -> Iterator[Metric]:
        values = [(source, *count.value) for source, count in list(self._counts.items())]
        decoded = CounterMetricFamily("hoiclip_frames_decoded", "Frames received.", labels=("source",))
        processed = CounterMetricFamily("hoiclip_frames_processed", "Frames with a result.", labels=("source",))
        dropped = CounterMetricFamily("hoiclip_frames_dropped", "Frames skipped for newer ones.", labels=("source",))
        for source, num_processed, num_dropped in values:
            decoded.add_metric([source], num_processed + num_dropped)
            processed.add_metric([source], num_processed)
            dropped.add_metric([source], num_dropped)
        yield from (decoded, processed, dropped)


class _OutboxCollector(Collector):
    """Messages to webhooks and brokers."""

    def __init__(self, counters: Callable[[], Sequence[TargetCounters]]) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        target = ("target",)
        delivered = CounterMetricFamily("hoiclip_outbox_delivered", "Messages acknowledged.", labels=target)
        retried = CounterMetricFamily("hoiclip_outbox_retried", "Messages sent again.", labels=target)
        dropped = CounterMetricFamily("hoiclip_outbox_dropped", "Messages refused or given up.", labels=target)
        waiting = GaugeMetricFamily("hoiclip_outbox_waiting", "Messages not acknowledged yet.", labels=target)
        for counters in self._counters():
            delivered.add_metric([counters.target], counters.delivered)
            retried.add_metric([counters.target], counters.retried)
            dropped.add_metric([counters.target], counters.dropped)
            waiting.add_metric([counters.target], counters.waiting)
        yield from (delivered, retried, dropped, waiting)


class SourceMetrics:
    """Metrics of one source, with labels resolved once rather than for every frame."""

    def __init__(self, metrics: Metrics, source: str, vocabulary: Vocabulary) -> None:
        self._metrics, self._source, self._vocabulary = metrics, source, vocabulary
        self._age, self._up = metrics.age.labels(source), metrics.up.labels(source)
        self._lost, self._reconnects = metrics.lost.labels(source), metrics.reconnects.labels(source)
        self._pairs, self._active = metrics.pairs.labels(source), metrics.active.labels(source)
        self._up.set(1)
        self._frames = metrics.frames.of(source)
        self._counted_dropped = 0

    def frame(self, result: FrameResult) -> None:
        """Counts a frame and its events."""
        self._frames.add(1, result.dropped_before)
        self._counted_dropped += result.dropped_before
        if result.reason is not None:
            self._metrics.reasons.labels(result.reason, self._source).inc()
        self._age.observe(result.age_s)
        for stage, took_ms in result.stage_ms.items():
            self._metrics.stages.labels(stage, self._source).observe(took_ms / 1e3)
        self._pairs.set(len(result.pairs))
        self._active.set(int(result.pairs.verb_active.any(axis=1).sum()))
        for event in result.events:
            self._event(event)
        for hit in result.rule_hits:
            if hit.event == "start":
                self._metrics.hits.labels(hit.rule, self._source).inc()

    def source_lost(self) -> None:
        self._lost.inc()
        self._up.set(0)

    def source_back(self) -> None:
        self._reconnects.inc()
        self._up.set(1)

    def ended(self, summary: RunSummary) -> None:
        """Counts what no result reported: drops after the last one, and closing events."""
        unseen = max(0, summary.dropped - self._counted_dropped)
        self._frames.add(0, unseen)
        for event in summary.closing_events:
            self._event(event)
        self._up.set(0)
        self._pairs.set(0)
        self._active.set(0)

    def _event(self, event: Event) -> None:
        self._metrics.events.labels(self._vocabulary.verbs[event.verb_index], event.event, self._source).inc()


class _SourceStates:
    """States and restarts of the sources of a supervised run."""

    def __init__(self, sources: Callable[[], Sequence[SupervisedSource]]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        sources = self._sources()
        states = GaugeMetricFamily("hoiclip_sources", "Sources by state.", labels=["state"])
        for state in get_args(SourceState):
            states.add_metric([state], sum(source.state == state for source in sources))
        restarts = CounterMetricFamily("hoiclip_source_restarts", "Restarts by the watch-dog.", labels=["source"])
        for source in sources:
            restarts.add_metric([source.name], source.restarts)
        yield states
        yield restarts

    def describe(self) -> Iterable[Metric]:
        """Nothing: sources come and go."""
        return ()

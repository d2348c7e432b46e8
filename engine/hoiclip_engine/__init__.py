"""hoiclip_engine runs: images and streams in, tracked human-object pairs out. This is the whole public API.

from hoiclip_engine import Engine
for result in Engine.load("drawn").stream("clip.mp4"):
    result.pts_s, result.interactions(), result.events

Names are imported on first use: `hoiclip_engine.track` alone needs neither torch, av nor a backend.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hoiclip import __version__

if TYPE_CHECKING:
    from hoiclip.core.detections import HOIDetections
    from hoiclip.core.errors import (
        BackendMissing,
        DataError,
        EngineClosed,
        HoiclipError,
        ModelError,
        SinkError,
        SourceError,
        UsageError,
    )
    from hoiclip_engine.engine import Engine, EngineConfig
    from hoiclip_engine.evaluation.training import train_model
    from hoiclip_engine.events.event_store import EventFilter, EventStore, RecordedEvent
    from hoiclip_engine.events.evidence import EvidenceConfig, EvidenceSink
    from hoiclip_engine.events.evidence_folder import EvidenceFolder, EvidenceLimits
    from hoiclip_engine.events.record import RecordConfig, Recorder
    from hoiclip_engine.events.rules import Rule, RuleSet, read_rules
    from hoiclip_engine.session import Session
    from hoiclip_engine.sources.base import SourceConfig
    from hoiclip_engine.sources.packet_ring import PacketRing
    from hoiclip_engine.streaming.stream import Stream, StreamConfig
    from hoiclip_engine.track.entities import EntityTracker
    from hoiclip_engine.track.pair_tracker import PairTracker, TrackConfig
    from hoiclip_engine.types.frame import Frame, SourceEvent
    from hoiclip_engine.types.results import FrameResult, Interaction, RunHeader, RunSummary, Sink
    from hoiclip_engine.types.rule_hits import Evidence, RuleHit
    from hoiclip_engine.types.tracked_pairs import Event, TrackedPairs

__all__ = [
    "BackendMissing",
    "DataError",
    "Engine",
    "EngineClosed",
    "EngineConfig",
    "EntityTracker",
    "Event",
    "EventFilter",
    "EventStore",
    "Evidence",
    "EvidenceConfig",
    "EvidenceFolder",
    "EvidenceLimits",
    "EvidenceSink",
    "Frame",
    "FrameResult",
    "HOIDetections",
    "HoiclipError",
    "Interaction",
    "ModelError",
    "PacketRing",
    "PairTracker",
    "RecordConfig",
    "RecordedEvent",
    "Recorder",
    "Rule",
    "RuleHit",
    "RuleSet",
    "RunHeader",
    "RunSummary",
    "Session",
    "Sink",
    "SinkError",
    "SourceConfig",
    "SourceError",
    "SourceEvent",
    "Stream",
    "StreamConfig",
    "TrackConfig",
    "TrackedPairs",
    "UsageError",
    "__version__",
    "read_rules",
    "train_model",
]
_MODULES = {
    "BackendMissing": "hoiclip.core.errors",
    "DataError": "hoiclip.core.errors",
    "Engine": "hoiclip_engine.engine",
    "EngineClosed": "hoiclip.core.errors",
    "EngineConfig": "hoiclip_engine.engine",
    "EntityTracker": "hoiclip_engine.track.entities",
    "Event": "hoiclip_engine.types.tracked_pairs",
    "Evidence": "hoiclip_engine.types.rule_hits",
    "EvidenceConfig": "hoiclip_engine.events.evidence",
    "EvidenceFolder": "hoiclip_engine.events.evidence_folder",
    "EvidenceLimits": "hoiclip_engine.events.evidence_folder",
    "EvidenceSink": "hoiclip_engine.events.evidence",
    "EventFilter": "hoiclip_engine.events.event_store",
    "EventStore": "hoiclip_engine.events.event_store",
    "Frame": "hoiclip_engine.types.frame",
    "FrameResult": "hoiclip_engine.types.results",
    "HOIDetections": "hoiclip.core.detections",
    "HoiclipError": "hoiclip.core.errors",
    "Interaction": "hoiclip_engine.types.results",
    "ModelError": "hoiclip.core.errors",
    "PacketRing": "hoiclip_engine.sources.packet_ring",
    "PairTracker": "hoiclip_engine.track.pair_tracker",
    "Rule": "hoiclip_engine.events.rules",
    "RuleHit": "hoiclip_engine.types.rule_hits",
    "RuleSet": "hoiclip_engine.events.rules",
    "RecordConfig": "hoiclip_engine.events.record",
    "RecordedEvent": "hoiclip_engine.events.event_store",
    "Recorder": "hoiclip_engine.events.record",
    "RunHeader": "hoiclip_engine.types.results",
    "RunSummary": "hoiclip_engine.types.results",
    "Session": "hoiclip_engine.session",
    "Sink": "hoiclip_engine.types.results",
    "SinkError": "hoiclip.core.errors",
    "SourceConfig": "hoiclip_engine.sources.base",
    "SourceError": "hoiclip.core.errors",
    "SourceEvent": "hoiclip_engine.types.frame",
    "Stream": "hoiclip_engine.streaming.stream",
    "StreamConfig": "hoiclip_engine.streaming.stream",
    "TrackConfig": "hoiclip_engine.track.pair_tracker",
    "TrackedPairs": "hoiclip_engine.types.tracked_pairs",
    "UsageError": "hoiclip.core.errors",
    "read_rules": "hoiclip_engine.events.rules",
    "train_model": "hoiclip_engine.evaluation.training",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "train_model":
        from hoiclip.core.torch_extra import require_torch

        require_torch("training")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

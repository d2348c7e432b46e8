"""Identities over time, usable without a model: boxes in, ids out; triplets in, tracked pairs out.

from hoiclip_engine.track import EntityTracker
ids = EntityTracker().update(boxes_xyxy, scores, labels, pts_s)
"""

from hoiclip_engine.track.entities import EntityConfig, EntityTracker
from hoiclip_engine.track.pair_tracker import PairTracker, TrackConfig
from hoiclip_engine.track.partners import DetectedPairs
from hoiclip_engine.track.verbs import VerbConfig

__all__ = ["DetectedPairs", "EntityConfig", "EntityTracker", "PairTracker", "TrackConfig", "VerbConfig"]

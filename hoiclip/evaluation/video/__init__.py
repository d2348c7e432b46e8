"""Metrics of videos: identities, verbs over time, trajectories, and their errors. Formulas: docs/video_metrics.md."""

from hoiclip.evaluation.video.errors import VideoErrors, analyse_videos
from hoiclip.evaluation.video.events import Agreement, measure_agreement
from hoiclip.evaluation.video.frames import (
    AlignedVideo,
    VerbSegment,
    VideoFrame,
    align_video,
    empty_frame,
    verb_segments,
)
from hoiclip.evaluation.video.hota import Hota, hota
from hoiclip.evaluation.video.identity import Clear, IdentityFrame, Idf1, clear, idf1
from hoiclip.evaluation.video.measure import Identities, VideoReport, measure_identities, measure_videos
from hoiclip.evaluation.video.reading import read_ground_truth, read_mot_frames, read_results, read_size

__all__ = [
    "Agreement",
    "AlignedVideo",
    "Clear",
    "Hota",
    "Identities",
    "IdentityFrame",
    "Idf1",
    "VerbSegment",
    "VideoErrors",
    "VideoFrame",
    "VideoReport",
    "align_video",
    "analyse_videos",
    "clear",
    "empty_frame",
    "hota",
    "idf1",
    "measure_agreement",
    "measure_identities",
    "measure_videos",
    "read_ground_truth",
    "read_mot_frames",
    "read_results",
    "read_size",
    "verb_segments",
]

"""What a film's results are worth: identities, verbs over time, trajectories. Formulas: docs/video_metrics.md."""

from hoiclip.evaluation.video.agreement import Agreement, agreement
from hoiclip.evaluation.video.align import Aligned, aligned
from hoiclip.evaluation.video.clear import Clear, clear
from hoiclip.evaluation.video.error_analysis import VideoErrors, analyse_videos
from hoiclip.evaluation.video.film import FilmFrame, still_frame
from hoiclip.evaluation.video.film_lines import read_results, read_size, read_truth
from hoiclip.evaluation.video.hota import Hota, hota
from hoiclip.evaluation.video.identity import Idf1, idf1
from hoiclip.evaluation.video.measure import Identities, VideoReport, measure_films, measure_identities
from hoiclip.evaluation.video.moments import Moment
from hoiclip.evaluation.video.mot_text import mot_moments
from hoiclip.evaluation.video.segments import Segment, segments

__all__ = [
    "Agreement",
    "Aligned",
    "Clear",
    "FilmFrame",
    "Hota",
    "Identities",
    "Idf1",
    "Moment",
    "Segment",
    "VideoErrors",
    "VideoReport",
    "agreement",
    "aligned",
    "analyse_videos",
    "clear",
    "hota",
    "idf1",
    "measure_films",
    "measure_identities",
    "mot_moments",
    "read_results",
    "read_size",
    "read_truth",
    "segments",
    "still_frame",
]

"""MOT, WebVTT and event lines: their format, and that they are written as far as a run got."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import SinkError
from hoiclip.core.vocabulary import Vocabulary
from hoiclip_engine.sinks.text_sinks import EventLines, MotSink, TextFile, VttSink, event_sentence, timestamp
from hoiclip_engine.types.frame import Frame
from hoiclip_engine.types.results import Sink
from hoiclip_engine.types.tracked_pairs import Event
from tests.engine.frame_results import VOCABULARY, Row, frame_result, header, summary

RGB = np.zeros((48, 64, 3), np.uint8)


def event(kind: Any, pts_s: float, *, pair: int = 7, verb: int = 0, label: int = 0, object_id: int = 5) -> Event:
    return Event(event=kind, pair=pair, human=3, object=object_id, label_index=label, verb_index=verb, pts_s=pts_s)


def shown(sink: Sink, *results: Any, closing: tuple[Event, ...] = ()) -> None:
    sink.start(header())
    for result in results:
        sink.write(result)
    sink.finish(summary(closing_events=closing))


def at(pts_s: float, *events: Event, index: int = 0) -> Any:
    return frame_result(Frame(RGB, pts_s, index), events=events)


# MOT.


def test_mot_has_one_line_per_visible_entity_and_frame(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    first = Row(pair=1, human=1, object=2, human_box_xyxy=(1, 2, 11, 22), object_box_xyxy=(5, 6, 9, 9), score=0.4)
    other = Row(pair=2, human=1, object=4, human_box_xyxy=(1, 2, 12, 22), object_box_xyxy=(0, 0, 3, 1), score=0.75)
    alone = Row(pair=3, human=9, object=-1, human_box_xyxy=(-2.5, 0, 2.5, 10), score=0.5)
    frames = [Frame(RGB, 0.0, 0), Frame(RGB, 0.1, 1)]
    shown(MotSink(path), frame_result(frames[0], first, other), frame_result(frames[1], alone))
    assert path.read_text(encoding="utf-8").splitlines() == [
        "1,1,1.00,2.00,11.00,20.00,0.7500,-1,-1,-1",  # in both pairs: the box of the better pair
        "1,2,5.00,6.00,4.00,3.00,0.4000,-1,-1,-1",
        "1,4,0.00,0.00,3.00,1.00,0.7500,-1,-1,-1",
        "2,9,-2.50,0.00,5.00,10.00,0.5000,-1,-1,-1",
    ]


def test_mot_of_a_run_without_pairs_is_empty(tmp_path: Path) -> None:
    shown(MotSink(tmp_path / "out.txt"), at(0.0))
    assert (tmp_path / "out.txt").read_bytes() == b""


# WebVTT.


def test_vtt_cues_count_from_the_first_frame_in_order_of_start(tmp_path: Path) -> None:
    path = tmp_path / "out.vtt"
    shown(
        VttSink(path),
        at(100.0),
        at(101.0, event("start", 100.75, verb=2), index=1),
        at(102.0, event("start", 100.5), event("end", 102.0, verb=2), index=2),
        at(3700.25, event("end", 3700.25), index=3),
    )
    assert path.read_text(encoding="utf-8") == (
        "WEBVTT\n\n"
        "00:00:00.500 --> 01:00:00.250\nperson 3 ride bicycle 5\n\n"
        "00:00:00.750 --> 00:00:02.000\nperson 3 hold bicycle 5\n\n"
    )


def test_vtt_cue_of_an_open_verb_ends_after_it_starts(tmp_path: Path) -> None:
    path = tmp_path / "out.vtt"
    shown(VttSink(path), at(5.0, event("start", 5.0)), closing=(event("end", 5.0),))
    assert "00:00:00.000 --> 00:00:00.001\n" in path.read_text(encoding="utf-8")


def test_vtt_cue_escapes_names(tmp_path: Path) -> None:
    words = Vocabulary(
        name="odd",
        objects=("cup --> 00:00",),
        verbs=("<b>&hold",),
        hois=((0, 0),),
        hoi_prompts=("x",),
        object_prompts=("x", "nothing"),
        verb_prompts=("x",),
    )
    sink = VttSink(tmp_path / "out.vtt")
    head = header()
    object.__setattr__(head, "vocabulary", words)
    sink.start(head)
    sink.write(at(0.0, event("start", 0.0)))
    sink.finish(summary(closing_events=(event("end", 1.0),)))
    text = (tmp_path / "out.vtt").read_text(encoding="utf-8")
    assert text.count("-->") == 1
    assert "person 3 &lt;b&gt;&amp;hold cup" in text


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(-10, 500_000))
def test_vtt_timestamps_have_the_webvtt_format(time_s: float) -> None:
    match = re.fullmatch(r"(\d\d+):([0-5]\d):([0-5]\d)\.(\d{3})", timestamp(time_s))
    assert match is not None
    hours, minutes, seconds, ms = map(int, match.groups())
    assert hours * 3600 + minutes * 60 + seconds + ms / 1000 == pytest.approx(max(time_s, 0), abs=6e-4)


# Lines for people.


def test_event_sentence_names_person_verb_and_object() -> None:
    assert event_sentence(event("start", 0.0, verb=1), VOCABULARY) == "person 3 sit on bicycle 5"
    assert event_sentence(event("start", 0.0, object_id=-1, label=-1), VOCABULARY) == "person 3 ride"


def test_event_lines_are_written_as_events_happen(capsys: pytest.CaptureFixture[str]) -> None:
    sink = EventLines()
    sink.start(header())
    sink.write(at(1.25, event("start", 1.25)))
    assert capsys.readouterr().out == "    1.250 s  start  person 3 ride bicycle 5  (pair 7)\n"
    sink.write(at(2.0))
    assert capsys.readouterr().out == ""
    sink.finish(summary(closing_events=(event("end", 2.0),)))
    assert capsys.readouterr().out == "    2.000 s  end    person 3 ride bicycle 5  (pair 7)\n"


# Files that fail.


def test_text_file_in_a_missing_folder_is_a_sink_error(tmp_path: Path) -> None:
    for sink in (MotSink(tmp_path / "no" / "out.txt"), VttSink(tmp_path / "no" / "out.vtt")):
        with pytest.raises(SinkError, match="No such file"):
            sink.start(header())


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_full_disk_is_reported_once(tmp_path: Path) -> None:
    file = TextFile(tmp_path / "out.txt")
    file.write("first\n")
    file._file = Full()
    with pytest.raises(SinkError, match="No space left on device"):
        file.write("second\n")
    file.write("third\n")
    file.close()
    file.close()
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "first\n"


def test_text_file_leaves_standard_output_open(capsys: pytest.CaptureFixture[str]) -> None:
    file = TextFile("-")
    file.write("a\n")
    file.close()
    print("b")
    assert capsys.readouterr().out == "a\nb\n"

"""MOT, WebVTT and event lines: their form, and that they are written as far as a run got."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.errors import SinkError
from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.frame import Frame
from hoiclip_engine.pairs import Event
from hoiclip_engine.results import Sink
from hoiclip_engine.sinks.event_lines import EventLines
from hoiclip_engine.sinks.mot_sink import MotSink
from hoiclip_engine.sinks.sentences import sentence
from hoiclip_engine.sinks.text_file import TextFile
from hoiclip_engine.sinks.vtt_sink import VttSink, timestamp
from tests.engine.making_results import VOCABULARY, Row, frame_result, header, summary

RGB = np.zeros((48, 64, 3), np.uint8)


def event(kind: Any, pts_s: float, *, pair: int = 7, verb: int = 0, label: int = 0, thing: int = 5) -> Event:
    return Event(event=kind, pair=pair, human=3, object=thing, label=label, verb=verb, pts_s=pts_s)


def shown(sink: Sink, *results: Any, closing: tuple[Event, ...] = ()) -> None:
    sink.start(header())
    for result in results:
        sink.write(result)
    sink.finish(summary(closing_events=closing))


def at(pts_s: float, *events: Event, index: int = 0) -> Any:
    return frame_result(Frame(RGB, pts_s, index), events=events)


# MOT.


def test_each_visible_thing_has_one_mot_line_per_frame(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    one = Row(pair=1, human=1, object=2, human_box_xyxy=(1, 2, 11, 22), object_box_xyxy=(5, 6, 9, 9), score=0.4)
    other = Row(pair=2, human=1, object=4, human_box_xyxy=(1, 2, 12, 22), object_box_xyxy=(0, 0, 3, 1), score=0.75)
    alone = Row(pair=3, human=9, object=-1, human_box_xyxy=(-2.5, 0, 2.5, 10), score=0.5)
    frames = [Frame(RGB, 0.0, 0), Frame(RGB, 0.1, 1)]
    shown(MotSink(path), frame_result(frames[0], one, other), frame_result(frames[1], alone))
    assert path.read_text(encoding="utf-8").splitlines() == [
        "1,1,1.00,2.00,11.00,20.00,0.7500,-1,-1,-1",  # in both pairs: the box of the better one
        "1,2,5.00,6.00,4.00,3.00,0.4000,-1,-1,-1",
        "1,4,0.00,0.00,3.00,1.00,0.7500,-1,-1,-1",
        "2,9,-2.50,0.00,5.00,10.00,0.5000,-1,-1,-1",
    ]


def test_a_run_without_pairs_is_an_empty_mot_file(tmp_path: Path) -> None:
    shown(MotSink(tmp_path / "out.txt"), at(0.0))
    assert (tmp_path / "out.txt").read_bytes() == b""


# WebVTT.


def test_cues_count_from_the_first_frame_and_come_in_order_of_their_starts(tmp_path: Path) -> None:
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


def test_what_still_goes_on_at_the_end_has_a_cue_that_ends_after_it_starts(tmp_path: Path) -> None:
    path = tmp_path / "out.vtt"
    shown(VttSink(path), at(5.0, event("start", 5.0)), closing=(event("end", 5.0),))
    assert "00:00:00.000 --> 00:00:00.001\n" in path.read_text(encoding="utf-8")


def test_a_name_can_not_break_a_cue(tmp_path: Path) -> None:
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
def test_timestamps_are_those_of_webvtt(time_s: float) -> None:
    match = re.fullmatch(r"(\d\d+):([0-5]\d):([0-5]\d)\.(\d{3})", timestamp(time_s))
    assert match is not None
    hours, minutes, seconds, ms = map(int, match.groups())
    assert hours * 3600 + minutes * 60 + seconds + ms / 1000 == pytest.approx(max(time_s, 0), abs=6e-4)


# Lines for people.


def test_events_are_sentences() -> None:
    assert sentence(event("start", 0.0, verb=1), VOCABULARY) == "person 3 sit on bicycle 5"
    assert sentence(event("start", 0.0, thing=-1, label=-1), VOCABULARY) == "person 3 ride"


def test_event_lines_are_told_as_they_happen(capsys: pytest.CaptureFixture[str]) -> None:
    sink = EventLines()
    sink.start(header())
    sink.write(at(1.25, event("start", 1.25)))
    assert capsys.readouterr().out == "    1.250 s  start  person 3 ride bicycle 5  (pair 7)\n"
    sink.write(at(2.0))
    assert capsys.readouterr().out == ""
    sink.finish(summary(closing_events=(event("end", 2.0),)))
    assert capsys.readouterr().out == "    2.000 s  end    person 3 ride bicycle 5  (pair 7)\n"


# Files that fail.


def test_a_folder_that_is_not_there_is_a_sink_error(tmp_path: Path) -> None:
    for sink in (MotSink(tmp_path / "no" / "out.txt"), VttSink(tmp_path / "no" / "out.vtt")):
        with pytest.raises(SinkError, match="No such file"):
            sink.start(header())


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_told_once(tmp_path: Path) -> None:
    file = TextFile(tmp_path / "out.txt")
    file.write("first\n")
    file._file = Full()
    with pytest.raises(SinkError, match="No space left on device"):
        file.write("second\n")
    file.write("third\n")
    file.close()
    file.close()
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "first\n"


def test_standard_output_stays_open(capsys: pytest.CaptureFixture[str]) -> None:
    file = TextFile("-")
    file.write("a\n")
    file.close()
    print("b")
    assert capsys.readouterr().out == "a\nb\n"

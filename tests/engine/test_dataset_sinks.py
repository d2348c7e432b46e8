"""CSV, COCO JSON and HICO-DET detections: formats that other programs read."""

from __future__ import annotations

import csv
import dataclasses
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat

from hoiclip.core.errors import SinkError, UsageError
from hoiclip_engine.sinks import hico_sink
from hoiclip_engine.sinks.coco_sink import CocoSink
from hoiclip_engine.sinks.hico_sink import HicoDetections
from hoiclip_engine.sinks.text_sinks import COLUMNS, CsvSink
from hoiclip_engine.types.frame import Frame
from hoiclip_engine.types.results import FrameResult, Sink
from tests.engine.frame_results import VOCABULARY, Row, frame_result, header, summary

pytestmark = pytest.mark.thorough

RGB = np.zeros((48, 64, 3), np.uint8)
RIDES = Row(pair=1, human=1, object=2, verbs={0: 0.88, 1: 0.9, 2: 0.3}, active=(0, 1), score=0.7)
IDLE = Row(pair=2, human=1, object=4, label=1, verbs={4: 0.2}, active=(), score=0.75, human_box_xyxy=(5, 4, 21, 40))
ALONE = Row(pair=3, human=9, object=-1, label=-1, verbs={3: 0.6}, active=(3,), score=0.5)


def at(index: int, *rows: Row) -> FrameResult:
    return frame_result(Frame(RGB, index / 25, index), *rows)


def shown(sink: Sink, *results: FrameResult, interrupted: bool = False) -> None:
    sink.start(header())
    for result in results:
        sink.write(result)
    sink.finish(summary(interrupted=interrupted))


def no_constant(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


# CSV.


def test_csv_has_a_row_per_active_verb_and_one_per_idle_pair(tmp_path: Path) -> None:
    shown(CsvSink(tmp_path / "o.csv"), at(0), at(1, RIDES, IDLE, ALONE))
    with (tmp_path / "o.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    keys = ("frame", "pts_s", "pair", "human", "object", "label", "score", "verb", "verb_score")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        ("1", "0.04", "1", "1", "2", "bicycle", "0.7", "sit_on", "0.9"),
        ("1", "0.04", "1", "1", "2", "bicycle", "0.7", "ride", "0.88"),
        ("1", "0.04", "2", "1", "4", "sports_ball", "0.75", "", ""),
        ("1", "0.04", "3", "9", "", "", "0.5", "throw", "0.6"),
    ]
    assert [rows[0][f"human_{corner}_px"] for corner in ("x1", "y1", "x2", "y2")] == ["4.0", "4.0", "20.0", "40.0"]
    assert rows[3]["object_x1_px"] == ""


def test_csv_quotes_names_with_commas_and_quotes(tmp_path: Path) -> None:
    sink = CsvSink(tmp_path / "o.csv")
    words = dataclasses.replace(VOCABULARY, objects=('a "big", red one', "sports_ball"))
    sink.start(dataclasses.replace(header(), vocabulary=words))
    sink.write(at(0, RIDES))
    sink.finish(summary())
    with (tmp_path / "o.csv").open(encoding="utf-8", newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ['a "big", red one'] * 2


# COCO.


def coco(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"), parse_constant=no_constant)
    return loaded


@pytest.mark.parametrize("interrupted", [False, True])
def test_coco_has_images_and_annotations_with_tracks(tmp_path: Path, interrupted: bool) -> None:
    path = tmp_path / "o.json"
    shown(CocoSink(path), at(0), at(1, RIDES, IDLE), at(2, ALONE), interrupted=interrupted)
    found = coco(path)
    assert [image["id"] for image in found["images"]] == [0, 1, 2]
    assert found["images"][1] == {"id": 1, "file_name": "00000001.jpg", "width": 64, "height": 48, "pts_s": 0.04}
    names = {category["id"]: category["name"] for category in found["categories"]}
    assert names == {1: "bicycle", 2: "sports_ball", 3: "person"}
    annotations = [(a["image_id"], a["track_id"], names[a["category_id"]], a["bbox"]) for a in found["annotations"]]
    assert annotations == [
        (1, 1, "person", [5.0, 4.0, 16.0, 36.0]),  # in two pairs: the box of the better pair
        (1, 2, "bicycle", [16.0, 20.0, 24.0, 24.0]),
        (1, 4, "sports_ball", [16.0, 20.0, 24.0, 24.0]),
        (2, 9, "person", [4.0, 4.0, 16.0, 36.0]),
    ]
    assert [a["id"] for a in found["annotations"]] == [1, 2, 3, 4]
    assert found["annotations"][0]["interactions"] == [
        {"verb": "ride", "object_track_id": 2, "score": 0.88},
        {"verb": "sit_on", "object_track_id": 2, "score": 0.9},
    ]
    assert found["annotations"][3]["interactions"] == [{"verb": "throw", "object_track_id": None, "score": 0.6}]
    assert [p.name for p in tmp_path.iterdir()] == ["o.json"]


def test_coco_image_of_an_image_source_has_its_name(tmp_path: Path) -> None:
    sink = CocoSink(tmp_path / "o.json")
    sink.start(header(source="photos/Dog.JPG"))
    sink.write(at(0))
    sink.finish(summary())
    assert coco(tmp_path / "o.json")["images"][0]["file_name"] == "Dog.JPG"


def test_coco_of_an_empty_run_is_valid(tmp_path: Path) -> None:
    shown(CocoSink(tmp_path / "o.json"))
    found = coco(tmp_path / "o.json")
    assert (found["images"], found["annotations"]) == ([], [])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(numbers=st.lists(st.floats(width=32), min_size=10, max_size=10))
def test_csv_and_coco_are_readable_for_any_numbers(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[float]
) -> None:
    row = Row(human_box_xyxy=numbers[:4], object_box_xyxy=numbers[4:8], score=numbers[8], verbs={0: numbers[9]})
    folder = tmp_path_factory.getbasetemp()
    shown(CocoSink(folder / "any.json"), at(0, row))
    coco(folder / "any.json")
    shown(CsvSink(folder / "any.csv"), at(0, row))
    text = (folder / "any.csv").read_text(encoding="utf-8")
    assert "nan" not in text
    assert "inf" not in text


def test_coco_memory_stays_flat(tmp_path: Path) -> None:
    sink = CocoSink(tmp_path / "o.json")
    sink.start(header())
    for index in range(50):
        sink.write(at(index, RIDES, IDLE))
    tracemalloc.start()
    try:
        for index in range(50, 1050):
            sink.write(at(index, RIDES, IDLE))
        grown_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    sink.finish(summary())
    assert grown_bytes < 100_000  # a thousand frames are 700 kB of text
    assert len(coco(tmp_path / "o.json")["images"]) == 1050


def test_full_disk_leaves_no_partial_coco_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = CocoSink(tmp_path / "o.json")
    sink.start(header())

    class Full:
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None: ...

    monkeypatch.setattr(sink._file, "_file", Full())
    with pytest.raises(SinkError, match="No space left"):
        sink.write(at(0, RIDES))
    sink.finish(summary())
    assert list(tmp_path.iterdir()) == []


# HICO-DET.


def cells(folder: Path) -> Any:
    return loadmat(folder / "detections_01.mat")["all_boxes"]


def test_hico_detections_equal_those_of_the_evaluation(tmp_path: Path) -> None:
    shown(HicoDetections(tmp_path / "mat", ["a.mp4"]).sink(0), at(0, RIDES), at(1), at(2, RIDES, IDLE))
    assert sorted(p.name for p in (tmp_path / "mat").iterdir()) == ["detections_01.mat", "detections_02.mat"]
    bicycle = cells(tmp_path / "mat")
    assert bicycle.shape == (2, 3)  # ride and sit on, three images
    assert bicycle[0, 0].tolist() == [[4, 4, 20, 40, 16, 20, 40, 44, pytest.approx(880, abs=0.01)]]
    assert bicycle[1, 2].tolist() == [[4, 4, 20, 40, 16, 20, 40, 44, pytest.approx(900, abs=0.01)]]
    assert bicycle[0, 1].size == 0


def test_hico_images_of_the_benchmark_have_its_columns(tmp_path: Path) -> None:
    names = [f"test/HICO_test2015_0000000{number}.jpg" for number in (2, 7)]
    detections = HicoDetections(tmp_path, names)
    shown(detections.sink(1), at(0, RIDES))
    assert list(tmp_path.iterdir()) == [], "the other image is still to come"
    shown(detections.sink(0), at(0))
    bicycle = cells(tmp_path)
    assert bicycle.shape == (2, 9658)
    assert [column for column in range(10) if bicycle[0, column].size] == [6]


def test_hico_writes_detections_even_if_a_source_never_began(tmp_path: Path) -> None:
    detections = HicoDetections(tmp_path, ["a.jpg", "missing.jpg", "c.jpg"])
    for number in (0, 2):
        shown(detections.sink(number), at(0, RIDES))
    detections.close()
    assert cells(tmp_path).shape == (2, 2)
    (tmp_path / "detections_01.mat").unlink()
    detections.close()
    assert not (tmp_path / "detections_01.mat").exists(), "once is enough"


def test_hico_refuses_endless_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="clips"):
        HicoDetections(tmp_path / "mat", ["a"]).sink(0).start(dataclasses.replace(header(), policy="latest"))
    monkeypatch.setattr(hico_sink, "MAX_FRAMES", 1)
    sink = HicoDetections(tmp_path / "mat", ["a"]).sink(0)
    sink.start(header())
    sink.write(at(0))
    with pytest.raises(SinkError, match="--max-frames"):
        sink.write(at(1))


@pytest.mark.parametrize("sink", [CsvSink, CocoSink])
def test_dataset_sink_in_a_missing_folder_is_reported(tmp_path: Path, sink: Any) -> None:
    with pytest.raises(SinkError, match="No such file"):
        sink(tmp_path / "no" / "out").start(header())

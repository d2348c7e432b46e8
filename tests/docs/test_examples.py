"""The programs of examples/, each on a synthetic clip in which one person sits and another holds a ball."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest

from tests.docs.prepared import drawn_clip
from tests.engine.run_processes import times_of
from website.examples import ORDER, example_page
from website.links import ROOT

FOLDER = ROOT / "examples"

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("quick")]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=10, start_s=2.5)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_each_is_short_and_on_the_page() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == set(ORDER)
    for name in ORDER:
        assert len((FOLDER / name).read_text(encoding="utf-8").splitlines()) < 60, name
        assert f"\n## {name}\n" in example_page()


def test_events_are_printed_as_json_and_posted_to_a_webhook(
    clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["events.py", str(clip)])
    example("events").main()
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    begun = [f"{event['time_s']:.2f} {event['does']}" for event in printed if event["event"] == "start"]
    assert any("sit on chair" in event for event in begun)
    assert {event["event"] for event in printed} == {"start", "end"}
    example("webhook").main(str(clip))
    posted = capsys.readouterr().out.splitlines()
    assert [re.sub(r" s  ", " ", line.replace("_", " ")) for line in posted] == begun


def test_own_sink_sums_up_seconds(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example("own_sink").main(str(clip))
    *rows, foot = capsys.readouterr().out.splitlines()
    assert foot == "10 frames, 0 dropped"
    seconds = [float(found[1]) for row in rows if (found := re.search(r"sit on chair +([\d.]+) s$", row))]
    assert seconds
    assert 0 < max(seconds) <= 0.8


def test_supervision_draws_the_same_video(clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "annotated.mp4"
    example("supervision_interop").main(str(clip), str(target))
    assert times_of(target) == pytest.approx(times_of(clip), abs=1e-3)
    before, after = (_last_frame(path) for path in (clip, target))
    changed = np.abs(before.astype(int) - after.astype(int)).max(axis=2) > 60
    assert 0.005 < changed.mean() < 0.5


def _last_frame(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][-1]

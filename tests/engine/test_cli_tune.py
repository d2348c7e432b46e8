"""hoiclip tune: settings measured on a video, and the one that reaches a target."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoiclip_engine.cli.main import main
from hoiclip_engine.cli.tune import CADENCES, Setting, TuningTarget, choose, pareto_front
from tests.engine.command_output import Cli
from tests.engine.run_processes import QUICK_BACKEND
from tests.engine.untrained import untrained_model
from tests.engine.video_files import write_clip

SETTINGS = st.builds(
    Setting,
    precision=st.sampled_from(["fp32", "int8"]),
    short_side_px=st.sampled_from([96, 192]),
    detect_every=st.sampled_from(CADENCES),
    fps=st.integers(1, 40).map(float),
    inferred=st.just(1.0),
    map_loss=st.integers(-2, 6).map(float),
    clip_every=st.sampled_from([1, "auto"]),
)


@given(measured=st.lists(SETTINGS, min_size=1, max_size=20))
def test_front_holds_what_no_other_setting_beats(measured: list[Setting]) -> None:
    front = pareto_front(measured)

    def beats(a: Setting, b: Setting) -> bool:
        return a.fps >= b.fps and a.map_loss <= b.map_loss and (a.fps, a.map_loss) != (b.fps, b.map_loss)

    assert front
    assert not any(beats(a, b) for a in measured for b in front)
    kept = {(setting.fps, setting.map_loss) for setting in front}
    assert all((b.fps, b.map_loss) in kept or any(beats(a, b) for a in measured) for b in measured)


@given(measured=st.lists(SETTINGS, min_size=1, max_size=20), fps=st.integers(1, 45), loss=st.none() | st.integers(0, 5))
def test_chosen_setting_reaches_the_target_and_loses_least(measured: list[Setting], fps: int, loss: int | None) -> None:
    target = TuningTarget(fps=fps, map_loss=loss)
    reaching = [s for s in measured if s.fps >= fps and (loss is None or s.map_loss <= loss)]
    chosen = choose(measured, target)
    assert (chosen is None) is not reaching
    if chosen is not None:
        assert chosen in reaching
        assert chosen.map_loss == min(setting.map_loss for setting in reaching)
        assert chosen.fps == max(s.fps for s in reaching if s.map_loss == chosen.map_loss)


@pytest.mark.parametrize(
    "text", ["30", "fps=0", "fps=-1", "fps=30;map-loss=1", "fps=30,map-loss=", "map-loss=1", "fps=1e9"]
)
def test_target_of_another_form_is_one_line(text: str, cli: Cli) -> None:
    output = cli("tune", "drawn", "clip.mp4", "--target", text)
    assert output.is_one_error(2)
    assert "such as fps=30,map-loss=1" in output.err


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("video") / "video.mp4", [40 * n for n in range(12)])


@pytest.mark.thorough
def test_tune_ends_with_a_command_line_that_runs(video: Path, tmp_path: Path, cli: Cli) -> None:
    words = ["tune", untrained_model(), video, "--backend", QUICK_BACKEND, "--max-frames", 12]
    output = cli(*words, "--target", "fps=0.01", "--json", tmp_path / "all.json", "--plot", tmp_path / "front.png")
    assert output.code == 0, output.err
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((tmp_path / "all.json").read_text())
    assert {setting["detect_every"] for setting in found["settings"]} == set(CADENCES)
    assert len({setting["short_side_px"] for setting in found["settings"]}) > 1
    clip_every = {setting["clip_every"] for setting in found["settings"]}
    assert clip_every == ({1, "auto"} if QUICK_BACKEND == "torch" else {1})
    first = found["settings"][0]
    assert (first["precision"], first["detect_every"], first["map_loss"], first["inferred"]) == ("fp32", 1, 0, 1)
    assert any(setting["front"] for setting in found["settings"])
    assert any(found["chosen"].items() <= setting.items() for setting in found["settings"])
    command = shlex.split(output.out.splitlines()[-1])
    assert command[:2] == ["hoiclip", "run"]
    assert main([*command[1:], "--jsonl", str(tmp_path / "pairs.jsonl")]) == 0
    assert (tmp_path / "pairs.jsonl").read_text().count('"type":"frame"') == 12
    unmet = cli(*words, "--target", "fps=99999")
    assert unmet.code == 6
    assert "no setting reaches 99999 frames a second; the fastest has" in unmet.err

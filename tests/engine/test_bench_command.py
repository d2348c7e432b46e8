"""hoiclip bench: real short runs, their outputs, and refused options."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from PIL import Image

from hoiclip_engine.bench.load import percentiles
from hoiclip_engine.bench.report import schema
from tests.engine.command_output import Cli, CommandOutput
from tests.engine.video_files import write_clip

pytestmark = pytest.mark.thorough

QUICK = ("--backend", "torch", "--duration", "0.4", "--blocks", "4", "--cold-starts", "0")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("video") / "video.mp4", list(range(0, 1000, 40)))


@pytest.fixture
def bench(cli: Cli, model: Path, video: Path, tmp_path: Path) -> Any:
    def call(*options: object) -> tuple[CommandOutput, list[dict[str, Any]]]:
        out = tmp_path / "report.json"
        output = cli("bench", video, "--model", model, *QUICK, "--json", out, *options)
        reports = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        for report in reports:
            check(report)
        return output, reports

    return call


def check(report: dict[str, Any]) -> None:
    """Checks a report against the schema, and its numbers against each other."""
    jsonschema.Draft202012Validator(schema()).validate(report)
    kept = [ms for block in report["blocks"] for ms in block["latency_ms"]]
    latency_ms = {name: value for name, value in report["latency_ms"].items() if name != "meaning"}
    assert latency_ms == pytest.approx(percentiles(kept), abs=2e-3)
    assert report["frames"]["answered"] == sum(block["frames"] for block in report["blocks"])
    assert report["throughput_per_s"] == pytest.approx(
        report["frames"]["answered"] / report["frames"]["seconds"], rel=1e-3
    )


def test_bench_schema_is_a_valid_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


def test_bench_schema_requires_every_field_and_a_reason_for_null() -> None:
    measurement = {"$defs": schema()["$defs"], "$ref": "#/$defs/measurement"}
    valid = jsonschema.Draft202012Validator(measurement).is_valid
    assert valid({"value": 3, "reason": None, "source": "x"})
    assert valid({"value": None, "reason": "unknown", "source": None})
    assert not valid({"value": None, "reason": None, "source": None})
    assert not valid({"value": 3, "reason": "both", "source": None})
    assert not valid({"value": 3})


def test_bench_measures_model_and_pipeline_with_every_field(bench: Any, tmp_path: Path) -> None:
    output, (model, pipeline) = bench("--plot", tmp_path / "plot.png", "--markdown", tmp_path / "report.md")
    assert output.code == 0, output.err
    assert (model["scenario"]["subject"], pipeline["scenario"]["subject"]) == ("model", "pipeline")
    assert set(model["stage_ms"]) == {"infer", "postprocess", "queue"}
    assert set(pipeline["stage_ms"]) == {"decode", "preprocess", "infer", "postprocess", "track", "queue"}
    for report in (model, pipeline):
        assert report["headline"] == {"metric": "p90", "value": report["latency_ms"]["p90"], "unit": "ms"}
        assert report["scenario"]["mode"] == "SingleStream"
        assert report["frames"]["dropped"] == 0
        assert report["memory"]["peak_rss_mib"]["value"] > 50
        assert report["accuracy"]["reason"]
        assert report["probe"]["p50_ms"] > 0
        assert report["artefact"]["backend"] == "torch"
    with Image.open(tmp_path / "plot.png") as image:
        assert image.width > 800
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50
    page = (tmp_path / "report.md").read_text()
    assert page.count("## ") == 2
    assert f"{model['latency_ms']['p90']:.4g}" in page
    assert output.out == page


@pytest.mark.parametrize("subject", ["pipeline", pytest.param("model", marks=pytest.mark.slow)])
def test_bench_queries_several_streams_together(bench: Any, subject: str) -> None:
    output, (report,) = bench("--streams", "3", "--subject", subject)
    assert output.code == 0, output.err
    assert report["scenario"]["mode"] == "MultiStream"
    assert report["headline"]["metric"] == "p99"
    assert all(block["frames"] == 3 * len(block["latency_ms"]) for block in report["blocks"])
    assert report["latency_ms"]["p50"] >= report["stage_ms"]["infer"]["p50"]  # the last of three is waited for


def test_model_queues_frames_that_come_too_fast(bench: Any) -> None:
    output, (pressed,) = bench("--subject", "model", "--load", "open", "--fps", "1000")
    assert output.code == 0, output.err
    assert pressed["queue_age_ms"]["p50"] > 5 * pressed["stage_ms"]["infer"]["p50"]
    times_ms = [ms for block in pressed["blocks"] for ms in block["latency_ms"]]
    assert times_ms[-1] > times_ms[0]  # it grows and grows
    assert pressed["frames"]["dropped"] == 0


@pytest.mark.slow
def test_model_does_not_queue_slow_frames(bench: Any) -> None:
    _, (calm,) = bench("--subject", "model", "--load", "open", "--times-rate", "0.2", "--duration", "3")
    assert calm["queue_age_ms"]["p50"] < 0.5 * calm["stage_ms"]["infer"]["p50"]


def test_pipeline_drops_frames_that_come_too_fast(bench: Any) -> None:
    output, (pressed,) = bench("--subject", "pipeline", "--load", "open", "--fps", "600")
    assert output.code == 0, output.err
    assert pressed["frames"]["dropped"] > pressed["frames"]["answered"]
    assert pressed["latency_ms"]["p50"] > pressed["stage_ms"]["infer"]["p50"]
    assert pressed["scenario"]["mode"] == "Server"


def test_offline_load_runs_as_fast_as_possible(bench: Any) -> None:
    output, (report,) = bench("--subject", "pipeline", "--load", "offline")
    assert output.code == 0, output.err
    assert report["headline"] == {"metric": "throughput", "value": report["throughput_per_s"], "unit": "frames/s"}
    assert report["frames"]["dropped"] == 0


def test_pipeline_infers_clip_at_its_own_cadence(bench: Any) -> None:
    output, (report,) = bench("--subject", "pipeline", "--load", "offline", "--clip-every", "3")
    assert output.code == 0, output.err
    assert report["scenario"]["clip_every"] == 3
    assert report["stage_ms"]["clip"]["p50"] > 0


def test_regression_gate_notices_inferences_that_take_twice_as_long(bench: Any, tmp_path: Path) -> None:
    base = tmp_path / "base.json"
    _, (report,) = bench("--subject", "model")
    base.write_text(json.dumps(report))
    options = ("--subject", "model", "--compare", base, "--fail-on", "p50:+40%", "--fail-on", "throughput:-20%")
    output, (slow,) = bench(*options, "--inject-slowdown", "400%")
    assert output.code == 6
    last = output.err.strip().splitlines()[-1]
    assert last.startswith(f"hoiclip: slower than {base}: model, p50:+40%: changed by +")
    assert "throughput:-20%" in last
    assert slow["scenario"]["injected_slowdown"] == 4


def test_unreadable_annotations_are_reported_before_measuring(bench: Any, video: Path) -> None:
    output, reports = bench("--accuracy", "1", "--data", video, "--images", video.parent)
    assert output.is_one_error(3)
    assert not reports


@pytest.mark.slow
def test_cold_start_times_a_fresh_process(cli: Cli, model: Path, video: Path) -> None:
    output = cli("bench", video, "--model", model, *QUICK[:-1], "1", "--subject", "model", "--json", "-")
    report = json.loads(output.out)
    check(report)
    assert report["cold_start_ms"]["value"]["median"] > 200  # no interpreter with numpy and torch starts faster
    assert report["latency_ms"]["max"] < report["cold_start_ms"]["value"]["median"]


@pytest.mark.parametrize(
    "options",
    [
        ("--load", "offline"),
        ("--fps", "30"),
        ("--load", "open", "--fps", "30", "--times-rate", "2"),
        ("--load", "open", "--fps", "0"),
        ("--load", "open", "--times-rate", "nan"),
        ("--duration", "0"),
        ("--duration", "inf"),
        ("--blocks", "2"),
        ("--streams", "0"),
        ("--cold-starts", "-1"),
        ("--inject-slowdown", "-5%"),
        ("--inject-slowdown", "2000%"),
        ("--fail-on", "p99:+5%"),
        ("--compare", "base.json"),
        ("--compare", "base.json", "--fail-on", "p99:5"),
        ("--compare", "nowhere.json", "--fail-on", "p99:+5%"),
        ("--compare", "video.mp4", "--fail-on", "p99:+5%"),
        ("--data", "a.json"),
        ("--accuracy", "3"),
        ("--json", "-", "--markdown", "-"),
    ],
    ids=" ".join,
)
def test_bench_refuses_impossible_options_with_exit_code_2(
    cli: Cli, model: Path, video: Path, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(video.parent)
    assert cli("bench", video, "--model", model, "--backend", "torch", *options).is_one_error(2)


@pytest.mark.slow
def test_bundled_model_is_measured_on_synthetic_videos_with_its_accuracy(cli: Cli, tmp_path: Path) -> None:
    output = cli("bench", *QUICK[2:], "--json", tmp_path / "r.json", "--accuracy", "3")
    assert output.code == 0, output.err
    for line in (tmp_path / "r.json").read_text().splitlines():
        report = json.loads(line)
        check(report)
        assert report["accuracy"]["value"]["pictures"] == 3
        assert report["artefact"]["model"] == "drawn"
        assert report["scenario"]["picture_px"] == [640, 480]


def test_bench_refuses_a_camera(cli: Cli, model: Path) -> None:
    output = cli("bench", "rtsp://user:secret@camera/1", "--model", model, "--backend", "torch")
    assert output.is_one_error(2)
    assert "secret" not in output.err


def test_missing_matplotlib_is_reported_before_measuring(
    cli: Cli, model: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    output = cli("bench", video, "--model", model, "--backend", "torch", "--plot", tmp_path / "x.png")
    assert output.is_one_error(5)
    assert "hoiclip[bench]" in output.err

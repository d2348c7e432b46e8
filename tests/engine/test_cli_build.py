"""hoiclip build: the builds it makes and refuses, and the builds that runs take."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import load_model_file
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip.data.annotations import image_annotation
from hoiclip.data.formats.hoia import write_hoia
from hoiclip_engine import models
from hoiclip_engine.backends import openvino_backend, registry
from hoiclip_engine.bench import turns
from hoiclip_engine.bench.regression_gate import TimedBlock
from hoiclip_engine.cache.artifacts import exported_graph
from hoiclip_engine.cli.main import main
from hoiclip_engine.quantization import accuracy_gate
from hoiclip_engine.quantization.builds import find_build, select_build
from tests.engine.command_output import PYTHONPATH, Cli
from tests.engine.untrained import untrained_model
from tests.engine.video_files import write_clip
from tests.hoiclip.small_datasets import save_noise

pytestmark = pytest.mark.thorough

pytest.importorskip("torch", reason="builds are compared with fp32 in torch")
FEW = ("--calibration-pictures", "2", "--short-side", "64")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("film") / "film.mp4", [40 * n for n in range(6)])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, video: Path) -> Iterator[Path]:
    """A cache with an int8 and a bf16 build of the untrained model for OpenVINO, the first of them forced."""
    before = os.environ["HOICLIP_CACHE"]
    cache = tmp_path_factory.mktemp("built")
    exported_graph(load_model_file(untrained_model()), (64, 96))
    shutil.copytree(before, cache, dirs_exist_ok=True)
    os.environ["HOICLIP_CACHE"] = str(cache)
    try:
        limits = {**accuracy_gate.ACCURACY_LIMITS, "int8": accuracy_gate.AccuracyLimits(map_points=0, agreement=1.01)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(accuracy_gate, "ACCURACY_LIMITS", limits)
            assert main(build_words(video, "int8", "--force")) == 0
        assert main(build_words(video, "bf16")) == 0
        yield cache
    finally:
        os.environ["HOICLIP_CACHE"] = before


@pytest.fixture
def cache(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may damage."""
    shutil.copytree(built, tmp_path / "cache")
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def build_words(video: Path, precision: str, *more: str) -> list[str]:
    return ["build", str(untrained_model()), "--backend", "openvino", "--precision", precision,
            "--calibrate", str(video), *FEW, *more]  # fmt: skip


def entry(cache: Path, precision: str) -> Path:
    (found,) = (cache / "builds").glob(f"*-openvino-{precision}")
    return found


def record_of(cache: Path, precision: str) -> dict[str, Any]:
    return dict(json.loads((entry(cache, precision) / "entry.json").read_text()))


def header(cli: Cli, video: Path, *words: str) -> dict[str, Any]:
    output = cli("run", video, "--model", untrained_model(), "--backend", "openvino", "--short-side", 64,
               "--max-frames", 1, "--jsonl", "-", *words)  # fmt: skip
    assert output.code == 0, output.err
    return dict(json.loads(output.out.splitlines()[0]))


def test_record_of_a_build_holds_calibration_and_gate(built: Path) -> None:
    record = record_of(built, "int8")
    about = record["about"]
    assert about["forced"] is True
    assert about["calibration"]["source"] == "film.mp4"
    assert about["calibration"]["count"] == 2
    assert 0 <= about["gate"]["compared"]["agreement"] <= 1
    speed = about["speed"]
    assert 0 < speed["low"] <= speed["ratio"] <= speed["high"]
    assert speed["median_ms"] > 0
    assert set(record["files"]) == {"model.xml", "model.bin"}
    assert record_of(built, "bf16")["files"] == {}
    assert not list((built / "builds").glob(".part-*"))


def test_auto_takes_a_passed_build_and_never_a_forced_one(built: Path, cli: Cli, video: Path) -> None:
    is_faster = record_of(built, "bf16")["about"]["speed"]["high"] < 1
    expected = "bf16" if is_faster else "fp32"
    assert header(cli, video)["precision"] == expected
    assert header(cli, video, "--precision", "int8")["precision"] == "int8"
    assert header(cli, video, "--precision", "fp32")["precision"] == "fp32"


def test_precision_that_cannot_be_made_keeps_no_other_from_being_made(
    cache: Path, cli: Cli, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for precision in ("int8", "bf16"):
        shutil.rmtree(entry(cache, precision))
    monkeypatch.setattr(openvino_backend, "fast_precisions", lambda: ("int8", "bf16"))

    def fail(*_: object) -> Path:
        raise ModelError("this graph cannot be quantized")

    monkeypatch.setattr("hoiclip_engine.quantization.quantize.quantize_graph", fail)
    words = [word for word in build_words(video, "") if word not in ("--precision", "")]
    output = cli(*words)
    assert output.code == 0, output.err
    assert "no build in int8 for openvino: this graph cannot be quantized" in output.err
    assert record_of(cache, "bf16")["about"]["forced"] is False
    assert find_build(load_model_file(untrained_model()), "openvino", "int8") is None
    output = cli(*build_words(video, "int8"))
    assert output.is_one_error(4)


def test_all_backends_are_timed_in_turns_and_auto_takes_the_fastest(
    cache: Path, cli: Cli, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_ms = {("openvino", "fp32"): 10, ("openvino", "int8"): 9, ("onnxruntime", "fp32"): 8, ("torch", "fp32"): 20}

    def fake_blocks(calls: dict[Any, Callable[[], object]]) -> dict[Any, list[TimedBlock]]:
        for call in calls.values():
            call()
        assert set(calls) >= set(fake_ms)
        times = {name: np.full(5, fake_ms.get(name, 50.0)) for name in calls}
        return {
            name: 4 * [TimedBlock(latency_ms=ms, frames=5, seconds=ms.sum() / 1e3, probe_ms=None)]
            for name, ms in times.items()
        }

    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(turns, "blocks_in_turns", fake_blocks)
    monkeypatch.setattr(registry, "_has_driver", lambda: False)  # openvino is the first by rank, on any x86
    monkeypatch.setattr(
        accuracy_gate, "ACCURACY_LIMITS", {"int8": accuracy_gate.AccuracyLimits(map_points=100, agreement=0)}
    )
    monkeypatch.setattr(models, "known_models", lambda: {"untrained": untrained_model()})
    asked_by_doctor = ("doctor", "--json")
    before = json.loads(cli(*asked_by_doctor).out)["auto takes for untrained"]
    assert "by rank" in before or "measured" in before  # the bf16 build of the cache may be faster
    words = [*build_words(video, "int8"), "--backend", "all"]
    output = cli(*words)
    assert output.code == 0, output.err
    assert "auto takes fp32 with onnxruntime" in output.err
    assert record_of(cache, "int8")["about"]["speed"]["ratio"] == 0.9  # to fp32 with openvino
    [speeds] = (cache / "builds").glob("*-speeds")
    backends = json.loads((speeds / "entry.json").read_text())["about"]["backends"]
    assert backends["onnxruntime"]["speeds"]["fp32"]["ratio"] == 0.8
    assert backends["torch"]["speeds"]["fp32"]["ratio"] == 2
    for words_of_run, expected in (
        (("--backend", "auto"), ("onnxruntime", "fp32")),
        (("--backend", "auto", "--precision", "int8"), ("openvino", "int8")),
        (("--backend", "auto", "--precision", "fp32"), ("openvino", "fp32")),
        (("--backend", "torch"), ("torch", "fp32")),
    ):
        found = header(cli, video, *words_of_run)
        assert (found["backend"], found["precision"]) == expected
    after = json.loads(cli(*asked_by_doctor).out)["auto takes for untrained"]
    assert after.startswith("onnxruntime, fp32: measured, 1.25 times as fast as fp32 with openvino")
    assert "was timed with all backends" in cli(*words, "--if-missing").err


def test_missing_build_is_one_line_with_the_command(cli: Cli, video: Path, tmp_path: Path) -> None:
    os.environ["HOICLIP_CACHE"], before = str(tmp_path), os.environ["HOICLIP_CACHE"]
    try:
        output = cli("run", video, "--model", "drawn", "--backend", "openvino", "--precision", "int8")
    finally:
        os.environ["HOICLIP_CACHE"] = before
    assert output.is_one_error(4)
    assert "hoiclip build drawn --backend openvino --precision int8" in output.err


def test_build_that_loses_too_much_is_not_kept(
    cache: Path, cli: Cli, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(entry(cache, "bf16"))
    monkeypatch.setattr(
        accuracy_gate,
        "ACCURACY_LIMITS",
        {**accuracy_gate.ACCURACY_LIMITS, "bf16": accuracy_gate.AccuracyLimits(map_points=0, agreement=1.01)},
    )
    output = cli(*build_words(video, "bf16"))
    assert output.code == 6
    assert "expected at least 101%; nothing is kept" in output.err
    assert find_build(load_model_file(untrained_model()), "openvino", "bf16") is None
    assert not list((cache / "builds").glob(".part-*"))


def truncate_graph(folder: Path) -> None:
    content = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(content[: len(content) // 2])


def tamper(folder: Path) -> None:
    record = json.loads((folder / "entry.json").read_text())
    record["about"]["forced"] = False
    (folder / "entry.json").write_text(json.dumps(record))


def lose(folder: Path) -> None:
    (folder / "model.xml").unlink()


@pytest.mark.parametrize(
    ("damage", "why"),
    [(truncate_graph, "may be truncated"), (tamper, "not signed by this machine"), (lose, "No such file")],
)
def test_damaged_build_is_not_used_and_one_line_gives_the_reason(
    cache: Path,
    cli: Cli,
    video: Path,
    damage: Callable[[Path], None],
    why: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    damage(entry(cache, "int8"))
    monkeypatch.setattr(openvino_backend, "fast_precisions", lambda: ("int8",))  # whatever this processor is quick in
    model = load_model_file(untrained_model())
    assert select_build(model, "openvino", "auto").precision != "int8"
    assert why in caplog.text
    assert "hoiclip build" in caplog.text
    assert all("\n" not in record.getMessage() for record in caplog.records)
    output = cli("run", video, "--model", untrained_model(), "--backend", "openvino", "--precision", "int8")
    assert output.code == 4
    assert "Traceback" not in output.err


def test_build_of_another_library_or_machine_is_another_build(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from hoiclip_engine.backends import openvino_backend

    monkeypatch.setattr(openvino_backend, "library", lambda: "openvino 1999.1")
    assert find_build(load_model_file(untrained_model()), "openvino", "int8") is None
    assert "is of another library (openvino " in caplog.text
    assert "here openvino 1999.1)" in caplog.text
    monkeypatch.undo()


def test_full_disk_keeps_the_earlier_build(cache: Path, video: Path) -> None:
    """Writes beyond a megabyte fail in the operating system, as on a full disk."""
    before = record_of(cache, "int8")
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, 1 << 18));"
        "from hoiclip_engine.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *build_words(video, "int8", "--force")],
        env={**os.environ, "PYTHONPATH": PYTHONPATH}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode in (4, 7), done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert record_of(cache, "int8") == before
    assert not list((cache / "builds").glob(".part-*"))


def test_cache_that_cannot_be_written_is_one_line(cli: Cli, video: Path, tmp_path: Path, monkeypatch: Any) -> None:
    words = build_words(video, "bf16")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path / "file"))
    output = cli(*words)
    assert output.code == 7
    assert "Traceback" not in output.err
    assert "HOICLIP_CACHE" in output.err


def test_killed_build_leaves_the_old_one_and_the_next_one_clears_up(cache: Path, video: Path) -> None:
    before = record_of(cache, "int8")
    process = subprocess.Popen(
        [sys.executable, "-m", "hoiclip_engine.cli", *build_words(video, "int8", "--force")],
        env={**os.environ, "PYTHONPATH": PYTHONPATH}, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list((cache / "builds").glob(".part-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = (cache / "builds").glob(".part-*")
    assert record_of(cache, "int8") == before
    assert find_build(load_model_file(untrained_model()), "openvino", "int8") is not None
    os.utime(left, (0, 0))  # long ago
    assert main(build_words(video, "bf16")) == 0
    assert not left.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "fp32"], "fp32 needs no build"),
        (["--precision", "fp16", "--backend", "openvino"], "openvino does not compute in fp16"),
        (["--precision", "int8", "--backend", "onnxruntime"], "onnxruntime does not compute in int8"),
        (["--backend", "onnxruntime"], "nothing faster than fp32"),
        (["--data", "x.json"], "needs both --data FILE.json and --images DIR"),
    ],
)
def test_impossible_build_is_refused_before_the_source_is_read(cli: Cli, words: list[str], message: str) -> None:
    refused = cli("build", untrained_model(), *words, "--calibrate", "missing.mp4")
    assert refused.is_one_error(2)
    assert message in refused.err


def test_model_without_synthetic_vocabulary_needs_calibration_images(cli: Cli) -> None:
    output = cli("build", untrained_model(), "--backend", "openvino", "--precision", "int8")
    assert output.is_one_error(2)
    assert "--calibrate SRC" in output.err


def test_own_benchmark_decides_by_map(cache: Path, video: Path, tmp_path: Path, cli: Cli) -> None:
    vocabulary = load_vocabulary("hico")
    verb, target = vocabulary.hois[0]
    boxes, labels = [(4.0, 5.0, 30.0, 40.0), (10.0, 8.0, 40.0, 44.0)], [vocabulary.person, target]
    annotations = [image_annotation(f"{name}.png", boxes, labels, [(0, 1, verb)]) for name in "ab"]
    for annotation in annotations:
        save_noise(tmp_path / annotation.file_name)
    write_hoia(tmp_path / "data.json", annotations, vocabulary)
    output = cli(*build_words(video, "bf16", "--force"), "--data", tmp_path / "data.json", "--images", tmp_path)
    assert output.code == 0, output.err
    assert record_of(cache, "bf16")["about"]["gate"]["mean_precisions"]["pictures"] == 2

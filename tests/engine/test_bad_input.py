"""Bad input is one plain line and a fitting exit code, wherever it enters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.command_output import PYTHONPATH, Cli
from tests.engine.run_processes import QUICK_BACKEND

ABSURD = ["1e308", "nan", "inf", "-inf", "1e400", "9" * 400, "-" + "9" * 30, "0x10", "1_000_000_000_000", "²", ""]
NUMBERS = {
    "run clip.mp4": (
        "--start --duration --max-frames --short-side --min-score --timeout --batch --detect-every --whole-every"
    ),
    "archive clip.mp4 -o out": "--short-side --detect-every --min-score --workers --segment-seconds",
    "bench clip.mp4": (
        "--streams --fps --times-rate --duration --blocks --cold-starts --accuracy --short-side --inject-slowdown"
    ),
    "build drawn": "--calibration-pictures --seed --short-side --gate-pictures",
    "export drawn -o out": "--size --batch --opset --calibration-pictures --seed",
    "train drawn.toml --out out": "--workers",
    "eval --data a.json --images .": "--enhance --short-side --max-images",
    "eval video .": "--detect-every --whole-every",
    "data draw --out out": "--images --video --seed --size --fraction --fps --duration",
}


@pytest.mark.parametrize("value", ABSURD)
@pytest.mark.parametrize("command", NUMBERS)
def test_absurd_numbers_are_a_usage_error(command: str, value: str, cli: Cli, tmp_path: Path) -> None:
    for option in NUMBERS[command].split():
        result = cli(*command.replace("out", str(tmp_path / "out")).split(), f"{option}={value}")
        assert result.is_one_error(2), (option, value)
        assert len(result.err) < 600
    assert not list(tmp_path.iterdir())


def test_allowed_large_numbers_end_in_one_line(clip: Path, model: Path, cli: Cli, tmp_path: Path) -> None:
    run = ("run", clip, "--model", model, "--backend", QUICK_BACKEND)
    assert cli(*run, "--start", "999999999", "--jsonl", tmp_path / "a").code == 3
    assert cli(*run, "--short-side", "999999999").is_one_error(2)
    for size, fps, duration in (("16384x16384", "25", "1e9"), ("64x64", "1e9", "1"), ("64x64", "25", "1e8")):
        words = ("--size", size, "--fps", fps, "--duration", duration)
        assert cli("data", "draw", "--video", 1, "--out", tmp_path / "drawn", *words).is_one_error(2)


def test_symlink_loop_is_no_source_and_no_target(tmp_path: Path, clip: Path, model: Path, cli: Cli) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    assert cli("run", tmp_path / "one", "--model", model).is_one_error(3)
    assert cli("run", tmp_path / "one", "--model", model, "--csv", tmp_path / "two").code in (2, 3)
    assert cli("models", "info", tmp_path / "one").is_one_error(4)
    result = cli("run", clip, "--model", model, "--backend", "torch", "--csv", tmp_path / "one")
    assert result.code in (2, 7), result.err
    assert "internal error" not in result.err


@pytest.mark.parametrize("line", ["a\0b.mp4", "\0", "*\0.mp4", "rtsp://host/\0", "0\0"])
def test_zero_bytes_in_a_list_are_reported(line: str, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "list.txt").write_text(f"{line}\n")
    result = cli("run", tmp_path / "list.txt")
    assert result.code in (2, 3)
    assert result.err.count("\n") == 1
    assert "zero byte" in result.err
    assert "\0" not in result.err


@pytest.mark.parametrize("kind", ["scalar", "empty", "sparse", "complex", "quantized"])
def test_tensors_of_another_type_are_no_checkpoint(kind: str, tmp_path: Path, cli: Cli) -> None:
    torch = pytest.importorskip("torch")
    tensor = {
        "scalar": lambda: torch.zeros(()),
        "empty": lambda: torch.zeros((0, 512)),
        "sparse": lambda: torch.eye(3).to_sparse(),
        "complex": lambda: torch.zeros((81, 512), dtype=torch.complex64),
        "quantized": lambda: torch.quantize_per_tensor(torch.zeros(81, 512), 0.1, 0, torch.qint8),
    }[kind]()
    torch.save({"model": {"obj_visual_projection.weight": tensor}}, tmp_path / "c.pth")
    result = cli("models", "import", tmp_path / "c.pth", "-o", tmp_path / "o.safetensors")
    assert result.is_one_error(4)
    assert not (tmp_path / "o.safetensors").exists()


@pytest.mark.parametrize("base", ["file", "/proc/none", "file/below"])
def test_inspection_commands_need_no_cache(
    base: str, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path / base))
    result = cli("models", "list")
    assert result.code == 0, result.err
    assert "drawn" in result.out


def shell(script: str, *argv: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", script, sys.executable, *map(str, argv)],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("redirection", [">&-", "> /dev/full"])
def test_unwritable_output_is_exit_code_7(redirection: str) -> None:
    for words in ("models list", "models info drawn --json"):
        process = shell(f'exec "$0" -m hoiclip_engine.cli {words} {redirection}')
        assert process.returncode == 7, process.stderr
        assert [line.split(":")[0] for line in process.stderr.splitlines() if "hoiclip:" in line] == ["hoiclip"]
        assert "Traceback" not in process.stderr
        assert "Exception" not in process.stderr


def test_closed_standard_streams_are_never_reused_by_files(tmp_path: Path) -> None:
    """Printed text would end up in them."""
    process = shell(f'exec "$0" -m hoiclip_engine.cli data draw --images 1 --out {tmp_path} <&- >&- 2>&-')
    assert process.returncode == 0
    assert (tmp_path / "annotations.json").read_text().startswith("[")

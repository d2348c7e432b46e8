"""Several processes of one run, as torchrun starts them, learn like one process with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hoiclip.training.run_folder import CHECKPOINT_FILE, read_log
from tests.hoiclip.two_processes import SHARED, run

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]


def test_two_processes_learn_like_one_with_both_batches(tmp_path: Path) -> None:
    path = os.pathsep.join(str(ROOT / part) for part in ("", "engine", "kernels"))
    together = tmp_path / "together"
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *words, "-m", "tests.hoiclip.two_processes", str(together), "2"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    run(tmp_path / "alone", 4)
    first, second = (torch.load(together / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    # One log and one checkpoint, by the first process.
    assert [line["step"] for line in read_log(together)] == list(range(1, SHARED.schedule.steps + 1))
    assert (together / CHECKPOINT_FILE).is_file()
    norms = [[line["gradient_norm"] for line in read_log(tmp_path / name)] for name in ("together", "alone")]
    # Sums in another order; Adam amplifies the difference from step to step.
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)

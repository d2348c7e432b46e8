"""Remaining time of the progress bar."""

from __future__ import annotations

from hoiclip_engine.cli.console import progress


def test_progress_shows_the_remaining_time_of_slow_steps() -> None:
    now_s = 0.0
    bar = progress()
    bar.get_time = lambda: now_s
    task = bar.add_task("steps", total=10, rate="")
    for done in range(1, 5):
        now_s = 90.0 * done
        bar.update(task, completed=done)
    assert bar.tasks[0].time_remaining == 6 * 90


def test_progress_ignores_steps_of_an_earlier_run() -> None:
    now_s = 0.0
    bar = progress()
    bar.get_time = lambda: now_s
    task = bar.add_task("steps", total=1000, rate="")
    for step in (901, 902, 903):  # resumed at 900
        now_s += 2.0
        bar.update(task, completed=step)
    assert bar.tasks[0].time_remaining == 97 * 2

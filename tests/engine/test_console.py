"""The bar tells how long it will take."""

from __future__ import annotations

from hoiclip_engine.commands.console import progress


def test_the_remaining_time_of_slow_steps_is_told() -> None:
    now_s = 0.0
    bar = progress()
    bar.get_time = lambda: now_s
    task = bar.add_task("steps", total=10, rate="")
    for done in range(1, 5):
        now_s = 90.0 * done
        bar.update(task, completed=done)
    assert bar.tasks[0].time_remaining == 6 * 90


def test_steps_of_an_earlier_run_do_not_count_as_fast_ones() -> None:
    now_s = 0.0
    bar = progress()
    bar.get_time = lambda: now_s
    task = bar.add_task("steps", total=1000, rate="")
    for step in (901, 902, 903):  # resumed at 900
        now_s += 2.0
        bar.update(task, completed=step)
    assert bar.tasks[0].time_remaining == 97 * 2

"""Regression gate on synthetic times with known changes, and its reader of base reports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import UsageError
from hoiclip_engine.bench.load import percentiles
from hoiclip_engine.bench.regression_gate import (
    STATISTICS,
    Change,
    FailOn,
    _quieter,
    _Run,
    compare_runs,
    matching_report,
    read_reports,
    timed_blocks,
)
from tests.engine.bench_reports import synthetic_blocks, synthetic_report

RUNS = 12
WORSE = {metric: ("-5%" if metric == "throughput" else "+5%") for metric in STATISTICS}


def verdicts(metric: str, inferences: int = 60, **now: float) -> list[str]:
    fail_on = FailOn.parse(f"{metric}:{WORSE[metric]}")
    return [
        compare_runs(
            synthetic_blocks(2 * run, inferences=inferences),
            synthetic_blocks(2 * run + 1, inferences=inferences, **now),
            fail_on,
        ).verdict
        for run in range(RUNS)
    ]


@pytest.mark.parametrize("metric", STATISTICS)
def test_unchanged_rerun_passes_on_a_noisy_machine(metric: str) -> None:
    assert "failed" not in verdicts(metric)


@pytest.mark.parametrize("metric", STATISTICS)
def test_ten_percent_slowdown_fails_on_a_noisy_machine(metric: str) -> None:
    inferences = 300 if metric == "p99" else 60  # p99 depends on one inference in a hundred
    assert verdicts(metric, slower=0.1, inferences=inferences) == ["failed"] * RUNS


def test_slower_machine_is_not_reported_as_slower_program() -> None:
    assert "failed" not in verdicts("p90", machine=1.3)
    assert verdicts("p90", machine=0.7, slower=0.12) == ["failed"] * RUNS


def test_slower_machine_without_probe_is_reported_as_slower_program() -> None:
    base, now = synthetic_blocks(0, probe=False), synthetic_blocks(1, probe=False, machine=1.3)
    change = compare_runs(base, now, FailOn.parse("p50:+5%"))
    assert change.verdict == "failed"
    assert change.estimate == pytest.approx(0.3, abs=0.03)
    with_probes = synthetic_blocks(0), synthetic_blocks(1, machine=1.3)
    assert compare_runs(*with_probes, FailOn.parse("p50:+5%"), scaled=False).verdict == "failed"


def test_confidence_interval_holds_the_true_change() -> None:
    fail_on = FailOn.parse("mean:+5%")
    changes = [
        compare_runs(synthetic_blocks(2 * run), synthetic_blocks(2 * run + 1, slower=0.04), fail_on)
        for run in range(2 * RUNS)
    ]
    assert sum(change.low <= 0.04 <= change.high for change in changes) >= 0.75 * len(changes)  # 90 % by design
    assert all(change.low <= change.estimate <= change.high for change in changes)


def test_noise_above_the_limit_is_undecided() -> None:
    base = synthetic_blocks(0, blocks=4, inferences=3, bursts=1.0)
    now = synthetic_blocks(1, blocks=4, inferences=3, bursts=1.0, slower=0.08)
    assert compare_runs(base, now, FailOn.parse("p99:+5%")).verdict == "undecided"


@pytest.mark.parametrize(
    ("estimate", "low", "high", "verdict"),
    [
        (0.08, 0.051, 0.12, "failed"),
        (0.08, 0.04, 0.12, "failed"),
        (0.04, 0.0, 0.08, "passed"),
        (0.08, 0.02, 0.14, "undecided"),
        (0.02, -0.04, 0.06, "undecided"),
        (0.0, -0.2, 0.04, "passed"),
    ],
)
def test_estimate_decides_where_noise_is_below_the_limit(
    estimate: float, low: float, high: float, verdict: str
) -> None:
    for sign, fail_on in ((1, "p50:+5%"), (-1, "throughput:-5%")):
        ends = sorted((sign * low, sign * high))
        change = Change(
            fail_on=FailOn.parse(fail_on), estimate=sign * estimate, low=ends[0], high=ends[1], speed_of_machine=1.0
        )
        assert change.verdict == verdict


def test_comparison_of_too_few_blocks_is_refused() -> None:
    with pytest.raises(UsageError, match="base has 3"):
        compare_runs(synthetic_blocks(0, blocks=3), synthetic_blocks(1), FailOn.parse("p50:+5%"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p99",
        "p99:5%",
        "p99:+5",
        "p42:+5%",
        "p99:-5%",
        "throughput:+5%",
        "throughput:-100%",
        "p99:+nan%",
        "p99:+5%%",
    ],
)
def test_fail_on_with_an_impossible_limit_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        FailOn.parse(text)


def test_fail_on_prints_as_it_was_parsed() -> None:
    for text in ("p99:+5%", "throughput:-2.5%", "mean:+100%"):
        assert str(FailOn.parse(text)) == text


def test_blocks_of_weight_two_count_like_duplicates() -> None:
    run = _Run(synthetic_blocks(0, blocks=6, inferences=7))
    times = np.array([[2.0, 0, 1, 0, 3, 0], [1, 1, 1, 1, 1, 1]])
    for percent in (0, 37, 50, 99, 100):
        expected = [np.percentile(np.repeat(run.values, row[run.owner].astype(int)), percent) for row in times]
        assert run.quantile(times, percent) == pytest.approx(expected)


def test_quieter_half_counts_blocks_as_often_as_resampled() -> None:
    level_ms = np.array([30.0, 10, 40, 20])
    times = np.array([[1.0, 1, 1, 1], [0, 0, 4, 0], [0, 1, 0, 3], [3, 1, 0, 0]])
    assert _quieter(times, level_ms).tolist() == [[0, 1, 0, 1], [0, 0, 2, 0], [0, 1, 0, 1], [1, 1, 0, 0]]


def test_percentiles_of_a_known_distribution() -> None:
    found = percentiles(list(np.linspace(0, 1000, 100_001)))
    assert found == {
        "p50": 500.0, "p90": 900.0, "p99": 990.0, "p99.9": 999.0, "mean": 500.0, "min": 0.0, "max": 1000.0,
        "count": 100_001,
    }  # fmt: skip
    assert percentiles([7.0])["p99.9"] == 7.0


# Reports of unknown origin.


def test_written_report_is_read_back(tmp_path: Path) -> None:
    report = synthetic_report()
    path = tmp_path / "base.json"
    path.write_text(json.dumps(synthetic_report(load="open")) + "\n\n" + json.dumps(report) + "\n")
    chosen = matching_report(read_reports(path), report, path)
    assert chosen == report
    assert [block.frames for block in timed_blocks(chosen)] == [5] * 6


def test_report_of_another_scenario_or_machine_is_refused(tmp_path: Path) -> None:
    for change, message in (
        ({"streams": 2}, "streams was 2, is 1"),
        ({"canvas_px": [512, 512]}, "canvas_px"),
        ({"load": "open"}, "load was 'open'"),
    ):
        with pytest.raises(UsageError, match=message):
            matching_report([synthetic_report(**change)], synthetic_report(), tmp_path)
    other = synthetic_report()
    other["machine"]["cpu"] = "another processor"
    with pytest.raises(UsageError, match="times of different machines do not compare"):
        matching_report([other], synthetic_report(), tmp_path)
    with pytest.raises(UsageError, match="speed probe's work was 'a longer piece'"):
        matching_report([{**synthetic_report(), "probe": {"what": "a longer piece"}}], synthetic_report(), tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
places = st.sampled_from(
    [(name,) for name in synthetic_report()]
    + [("blocks", 0)]
    + [("blocks", 1, name) for name in synthetic_report()["blocks"][0]]
    + [("blocks", 2, "latency_ms", 0)]
    + [("scenario", name) for name in synthetic_report()["scenario"]]
    + [("machine", "cpu"), ("artefact", "device")]
)


@settings(max_examples=60, deadline=None)
@given(places, json_values)
def test_edited_report_gives_blocks_or_one_usage_error(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str | int, ...], put: object
) -> None:
    report = synthetic_report()
    inner: object = report
    for step in place[:-1]:
        inner = inner[step]  # type: ignore[index]
    inner[place[-1]] = put  # type: ignore[index]
    path = tmp_path_factory.mktemp("edited") / "base.json"
    path.write_text(json.dumps(report))
    try:
        chosen = matching_report(read_reports(path), synthetic_report(), path)
        change = compare_runs(
            timed_blocks(chosen), synthetic_blocks(1, blocks=4, inferences=5), FailOn.parse("p90:+5%")
        )
    except UsageError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert np.isfinite([change.estimate, change.low, change.high]).all()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_report_of_arbitrary_bytes_is_a_usage_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("foreign") / "base.json"
    path.write_bytes(data)
    with pytest.raises(UsageError):
        read_reports(path)


def test_deep_or_huge_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "base.json"
    for text in ("[" * 100_000, '{"schema": ' + "9" * 10_000 + "}", json.dumps({**synthetic_report(), "blocks": []})):
        path.write_text(text)
        with pytest.raises(UsageError):
            read_reports(path)
    with pytest.raises(UsageError, match="cannot read"):
        read_reports(tmp_path)

"""The guard's judgement, on made-up figures and on a real figure that is made worse."""

import dataclasses
import json

import numpy as np
import pytest

from hoi_ros.bench.guard import (
    FIGURES,
    CachedFilm,
    Guarded,
    Verdict,
    compare,
    comparison_table,
    guarded_figures,
    read_baseline,
)
from hoi_ros.bench.inputs import SimulatedFilm
from hoi_ros.bench.results import BenchResult, Row
from hoi_ros.errors import InputError

ROWS = [
    Row("hands", "sim:bare", "hoi_ros", {"pa_mpjpe_mm": 8.0, "missed": 0, "ms_p50": 10.0}),
    Row("hands", "sim:bare", "hoi_ros, before the fit", {"pa_mpjpe_mm": 9.0, "ms_p50": 10.0}),
    Row("hands", "sim:bare", "mediapipe 0.10.21", {"pa_mpjpe_mm": 12.0, "ms_p50": 20.0}),
    Row("tracking", "sim:rotate:box", "hoi_ros", {"add_auc": 98.0, "ms_p50": 50.0}),
]
PA = "hands | sim:bare | hoi_ros | pa_mpjpe_mm"


def baseline_of(rows: list[Row], noise: float = 0.1) -> dict[str, Guarded]:
    """A baseline in which these rows are usual."""
    return {name: Guarded(v, noise, better, least, time) for name, v, better, least, time in guarded_figures(rows)}


def changed(**figures: float) -> BenchResult:
    """The rows with some of the first one's figures changed."""
    first = dataclasses.replace(ROWS[0], figures=ROWS[0].figures | figures)
    return BenchResult([first, *ROWS[1:]])


def words(result: BenchResult, times: bool = True) -> dict[str, str]:
    """Names of what changed and how."""
    verdicts = compare(result, baseline_of(ROWS), times=times)
    return {verdict.name: verdict.word for verdict in verdicts if verdict.word != "same"}


def test_only_our_own_rows_are_guarded():
    names = [name for name, *_ in guarded_figures(ROWS)]
    assert PA in names and not any("before the fit" in name or "mediapipe 0" in name for name in names)
    assert all(figures for figures in FIGURES.values())


def test_nothing_changed():
    assert words(BenchResult(ROWS)) == {} and words(changed(pa_mpjpe_mm=8.29)) == {}
    assert "0 worse, 0 better" in comparison_table(compare(BenchResult(ROWS), baseline_of(ROWS), times=True))


def test_worse_and_better_by_more_than_noise():
    assert words(changed(pa_mpjpe_mm=8.31)) == {PA: "worse"}
    assert words(changed(pa_mpjpe_mm=7.6)) == {PA: "better"}
    tracking = dataclasses.replace(ROWS[3], figures={"add_auc": 90.0})
    name = "tracking | sim:rotate:box | hoi_ros | add_auc"
    assert words(BenchResult([*ROWS[:3], tracking])) == {name: "worse"}
    table = comparison_table(compare(changed(pa_mpjpe_mm=9.5), baseline_of(ROWS), times=False))
    assert "1 worse" in table and "9.500" in table and "pa_mpjpe_mm" in table


def test_a_figure_that_is_gone_or_infinite_is_worse():
    assert words(BenchResult(ROWS[1:]), times=False)[PA] == "worse"
    assert words(changed(pa_mpjpe_mm=float("inf")))[PA] == "worse"


def test_the_least_change_holds_where_noise_is_nothing():
    quiet = Guarded(8.0, 0.0, "lower", 0.15)
    assert Verdict(PA, quiet, 8.1).word == "same" and Verdict(PA, quiet, 8.2).word == "worse"


def test_times_are_ratios_to_the_peer_of_the_same_run():
    values = {name: value for name, value, *_, time in guarded_figures(
        [ROWS[0], Row("hands", "sim:bare", "mediapipe", {"ms_p50": 20.0})]) if time}  # fmt: skip
    assert list(values.values()) == [0.5]
    slower = [dataclasses.replace(row, figures={k: v * (2 if k == "ms_p50" else 1) for k, v in row.figures.items()})
              for row in ROWS]  # fmt: skip
    assert words(BenchResult(slower)) == {}


def test_a_time_without_its_peer_is_said_and_is_no_failure():
    rows = [ROWS[0], Row("hands", "sim:bare", "mediapipe", {"ms_p50": 20.0})]
    baseline = baseline_of(rows)
    verdicts = compare(BenchResult(rows[:1]), baseline, times=True)
    assert [v.word for v in verdicts if v.before.time] == ["not compared"] and all(v.word != "worse" for v in verdicts)
    table = comparison_table(verdicts)
    assert "0 worse" in table and "1 not compared" in table and "mediapipe" in table
    slow = dataclasses.replace(rows[0], figures=rows[0].figures | {"ms_p50": 30.0})
    assert [v.word for v in compare(BenchResult([slow, rows[1]]), baseline, times=True) if v.before.time] == ["worse"]
    assert "No times were compared" in comparison_table(compare(BenchResult(rows), baseline, times=False))


def test_files(tmp_path):
    path = tmp_path / "baseline.json"
    with pytest.raises(InputError, match="record-baseline"):
        read_baseline(path)
    path.write_text("[]")
    with pytest.raises(InputError, match=r"baseline\.json: no guarded figures"):
        read_baseline(path)
    figure = {"value": 8.0, "noise": 0.1, "better": "lower", "least": 0.15, "time": False}
    path.write_text(json.dumps({"figures": {PA: figure}}))
    assert read_baseline(path)[PA].margin == pytest.approx(0.3)


def test_disturbed_films_differ_unseen_and_repeat():
    film = CachedFilm(SimulatedFilm("bare", 2))
    plain = film[1].frame.color.astype(int)
    film.disturbance = 4
    first, again = film[1].frame, film[1].frame
    np.testing.assert_array_equal(first.color, again.color)
    assert 0.5 < np.abs(first.color.astype(int) - plain).mean() < 1.2
    assert np.abs(first.depth_m - film._frames[1].frame.depth_m).max() < 0.004
    film.disturbance = 0
    np.testing.assert_array_equal(film[1].frame.color, plain)

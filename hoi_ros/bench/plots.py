"""Plots of a run as PNG: error over time, against circumstances, against time spent; histograms; growth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.bench.results import BenchResult, Curve

MAIN_ERROR = {"hands": "PA-MPJPE mm", "tracking": "ADD mm"}
CIRCUMSTANCES = ("hidden share", "distance m", "speed m/s", "speed deg/s")
ACCURACY = {"hands": "pa_mpjpe_mm", "tracking": "add_auc", "reconstruction": "seen_accuracy_mm"}
BINS = 8


def draw_plots(result: BenchResult, out: Path) -> list[Path]:
    """Write every plot that the results allow; their paths.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(f"plots need matplotlib ({error}): pip install matplotlib") from error
    matplotlib.use("Agg")
    written = []
    for target in MAIN_ERROR:
        curves = [c for c in result.curves if c.target == target]
        if curves:
            written += [_over_time(target, curves, out), _against(target, curves, out)]
    written += _cost(result, out) + _growth(result, out) + _latency(result, out)
    return written


def _figure(rows: int, columns: int, width: float = 4.2, height: float = 3.0) -> tuple[Any, list[Any]]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    return figure, list(axes.flat)


def _legend(axis: Any) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=6)


def _save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def _over_time(target: str, curves: Sequence[Curve], out: Path) -> Path:
    """One panel a sequence, one line a method; gaps are missed frames."""
    name = MAIN_ERROR[target]
    sequences = list(dict.fromkeys(c.sequence for c in curves))
    figure, axes = _figure((len(sequences) + 1) // 2, min(2, len(sequences)), 6.5)
    for axis, sequence in zip(axes, sequences):
        for curve in (c for c in curves if c.sequence == sequence):
            order = np.argsort(curve.values["frame"], kind="stable")
            values = curve.values[name][order]
            axis.plot(curve.values["frame"][order], np.where(np.isfinite(values), values, np.nan), ".-", ms=2, lw=0.8,
                      label=curve.method)  # fmt: skip
        axis.set(title=sequence, xlabel="frame", ylabel=name, yscale="log")
        axis.set_ylim(bottom=max(axis.get_ylim()[0], 0.05))  # the frame that was aligned has no error at all
    _legend(axes[0])
    return _save(figure, out / f"{target}_over_time.png")


def _against(target: str, curves: Sequence[Curve], out: Path) -> Path:
    """Median and quartiles of the error in bins of what was hard, all sequences together."""
    name = MAIN_ERROR[target]
    used = [c for c in CIRCUMSTANCES if any(c in curve.values for curve in curves)]
    figure, axes = _figure(1, len(used))
    for axis, circumstance in zip(axes, used):
        for method in dict.fromkeys(c.method for c in curves):
            own = [c for c in curves if c.method == method and circumstance in c.values]
            x = np.concatenate([c.values[circumstance] for c in own])
            y = np.concatenate([c.values[name] for c in own])
            good = np.isfinite(x) & np.isfinite(y)
            if good.sum() >= 5:
                _binned(axis, x[good], y[good], method)
        axis.set(xlabel=circumstance, ylabel=name, ylim=(0, None))
    _legend(axes[0])
    return _save(figure, out / f"{target}_against.png")


def _binned(axis: Any, x: np.ndarray, y: np.ndarray, label: str) -> None:
    edges = np.unique(np.quantile(x, np.linspace(0, 1, BINS + 1)))
    if len(edges) < 3:
        return
    which = np.clip(np.digitize(x, edges[1:-1]), 0, len(edges) - 2)
    filled = [k for k in range(len(edges) - 1) if (which == k).any()]
    middle = [np.median(x[which == k]) for k in filled]
    low, median, high = np.array([np.percentile(y[which == k], (25, 50, 75)) for k in filled]).T
    line = axis.plot(middle, median, "o-", ms=3, lw=1, label=label)[0]
    axis.fill_between(middle, low, high, alpha=0.15, color=line.get_color())


def _cost(result: BenchResult, out: Path) -> list[Path]:
    """Accuracy against milliseconds: one point a method and sequence, one panel a target."""
    targets = [t for t in ACCURACY if any(r.target == t for r in result.rows)]
    if not targets:
        return []
    figure, axes = _figure(1, len(targets), 5)
    for axis, target in zip(axes, targets):
        for method in dict.fromkeys(r.method for r in result.rows if r.target == target):
            rows = [r for r in result.rows if r.target == target and r.method == method]
            pairs = [(r.figures.get("ms_p50"), r.figures.get(ACCURACY[target])) for r in rows]
            numbers = [
                (float(a), float(b)) for a, b in pairs if isinstance(a, (int, float)) and isinstance(b, (int, float))
            ]
            if numbers:
                axis.scatter(*zip(*numbers), s=18, label=method)
        axis.set(title=target, xlabel="ms a frame, median", ylabel=ACCURACY[target], xscale="log")
        _legend(axis)
    return [_save(figure, out / "accuracy_against_time.png")]


def _growth(result: BenchResult, out: Path) -> list[Path]:
    curves = [c for c in result.curves if c.target == "growth"]
    if not curves:
        return []
    figure, axes = _figure(1, len(curves))
    for axis, curve in zip(axes, curves):
        (unit, at), *figures = curve.values.items()
        for name, values in figures:
            axis.plot(at, values, "o-", ms=3, label=name)
        axis.set(title=curve.sequence, xlabel=unit, ylim=(0, None), xscale="log" if unit == "frames" else "linear")
        _legend(axis)
    return [_save(figure, out / "growth.png")]


def _latency(result: BenchResult, out: Path) -> list[Path]:
    """Milliseconds a frame of every method as histograms; the live system's percentiles as bars."""
    written = []
    groups = list(dict.fromkeys(name.split(":")[0] for name in result.times))
    if groups:
        figure, axes = _figure(1, len(groups), 5)
        for axis, group in zip(axes, groups):
            for name, values in result.times.items():
                ms = np.array(values)[np.isfinite(values)]
                if name.startswith(f"{group}:") and len(ms):
                    bins = np.geomspace(max(ms.min(), 0.1), max(ms.max(), 0.2), 50)
                    axis.hist(ms, bins, histtype="step", label=name.partition(": ")[2])
            axis.set(title=group, xlabel="ms a frame", ylabel="frames", xscale="log")
            _legend(axis)
        written.append(_save(figure, out / "times.png"))
    rows = [r for r in result.rows if r.target == "latency"]
    if rows:
        figure, (axis,) = _figure(1, 1, 6)
        for shift, name in enumerate(("ms_p50", "ms_p95", "ms_p99")):
            values = [float(r.figures[name]) for r in rows]  # type: ignore[arg-type]
            axis.bar(np.arange(len(rows)) + 0.27 * (shift - 1), values, 0.25, label=name.removeprefix("ms_"))
        axis.set_xticks(np.arange(len(rows)), [f"{r.sequence}\n{r.method}" for r in rows], fontsize=7)
        axis.set(ylabel="camera stamp to mesh in another process, ms")
        axis.legend(fontsize=7)
        written.append(_save(figure, out / "latency.png"))
    return written

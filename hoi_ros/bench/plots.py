"""Plots of a run as PNG: error over time, against circumstances, against time spent; histograms; growth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.bench.results import BenchResult, Curve
from hoi_ros.evaluation.summary import WORST_ALIGNED_JOINT_M, WORST_TRANSLATION_M, with_missed

MAIN_ERROR = {"hands": "PA-MPJPE mm", "tracking": "ADD mm"}
WORST_MM = {"hands": 1e3 * WORST_ALIGNED_JOINT_M, "tracking": 1e3 * WORST_TRANSLATION_M}
"""What a missed frame or hand counts as, if nothing worse was found."""
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


def _counted(method: str, number: int, what: str) -> str:
    """A method's name in a legend, with how many frames or films its line does not show as they are."""
    return f"{method} ({number} {what})" if number else method


def _legend(axis: Any) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=6)


def _round_ticks(axis: Any) -> None:
    """1, 2, 5, 10, ... along a logarithmic x axis, as plain numbers that never lie on each other."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    for axis in figure.axes:
        if axis.get_xscale() == "log":
            _round_ticks(axis)
        axis.set_visible(axis.has_data())
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def _over_time(target: str, curves: Sequence[Curve], out: Path) -> Path:
    """One panel a sequence, one line a method, with its missed frames as crosses along the upper edge and their number.

    The hands of a frame are averaged; hands that were missed count in the number alone.
    """
    name = MAIN_ERROR[target]
    sequences = list(dict.fromkeys(c.sequence for c in curves))
    figure, axes = _figure((len(sequences) + 1) // 2, min(2, len(sequences)), 6.5)
    for axis, sequence in zip(axes, sequences):
        for number, curve in enumerate(c for c in curves if c.sequence == sequence):
            frames, which = np.unique(curve.values["frame"], return_inverse=True)
            missed = ~np.isfinite(curve.values[name])
            total, count = (
                np.bincount(which.reshape(-1), values)
                for values in (np.where(missed, 0.0, curve.values[name]), ~missed)
            )
            mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
            label = _counted(curve.method, int(missed.sum()), "missed")
            line = axis.plot(frames, mean, ".-", ms=2, lw=0.8, label=label)[0]
            lost = np.unique(curve.values["frame"][missed])
            edge = np.full(len(lost), 0.985 - 0.02 * number)
            axis.plot(lost, edge, "x", ms=3, mew=0.6, color=line.get_color(), transform=axis.get_xaxis_transform())
        axis.set(title=sequence, xlabel="frame", ylabel=name, yscale="log")
        axis.set_ylim(bottom=max(axis.get_ylim()[0], 0.05))  # the frame that was aligned has no error at all
        _legend(axis)
    return _save(figure, out / f"{target}_over_time.png")


def _against(target: str, curves: Sequence[Curve], out: Path) -> Path:
    """Median and quartiles of the error in bins of what was hard, all sequences together.

    What was missed counts as the worst value of its sequence; the legend says how many. Only frames in which the
    circumstance itself is unknown are left out.
    """
    name = MAIN_ERROR[target]
    used = [c for c in CIRCUMSTANCES if any(c in curve.values for curve in curves)]
    figure, axes = _figure(1, len(used))
    for axis, circumstance in zip(axes, used):
        for method in dict.fromkeys(c.method for c in curves):
            own = [c for c in curves if c.method == method and circumstance in c.values]
            x = np.concatenate([c.values[circumstance] for c in own])
            y = np.concatenate([with_missed(c.values[name], WORST_MM[target]) for c in own])
            missed = np.concatenate([~np.isfinite(c.values[name]) for c in own])
            known = np.isfinite(x)
            if known.sum() >= 5:
                _binned(axis, x[known], y[known], _counted(method, int(missed[known].sum()), "missed"))
        if target == "tracking":  # a lost frame is 10 cm off, a good one a tenth of a millimetre
            axis.set(yscale="log")
            axis.set_ylim(bottom=max(axis.get_ylim()[0], 0.05))
        else:
            axis.set_ylim(bottom=0)
        axis.locator_params(axis="x", nbins=5)
        axis.set(xlabel=circumstance, ylabel=name)
        _legend(axis)
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
            shown = [pair for pair in numbers if np.isfinite(pair).all()]
            if numbers:
                label = _counted(method, len(numbers) - len(shown), "without result")
                axis.scatter(*(zip(*shown) if shown else ([], [])), s=18, label=label)
        axis.set(title=target, xlabel="ms a frame, median", ylabel=ACCURACY[target], xscale="log")
        _legend(axis)
    return [_save(figure, out / "accuracy_against_time.png")]


def _growth(result: BenchResult, out: Path) -> list[Path]:
    curves = [c for c in result.curves if c.target == "growth"]
    if not curves:
        return []
    return [_growth_of(curve, out) for curve in curves]


def _growth_of(curve: Curve, out: Path) -> Path:
    """Milliseconds in one panel, megabytes in another where they are known."""
    (unit, at), *figures = curve.values.items()
    panels = [(end, own) for end in ("_ms", "_mb") if (own := [f for f in figures if f[0].endswith(end)])]
    figure, axes = _figure(1, len(panels), 5)
    for axis, (end, own) in zip(axes, panels):
        for name, values in own:
            axis.plot(at, values, "o-", ms=4, label=name.removesuffix(end))
        axis.set(xlabel=unit, ylabel={"_ms": "ms", "_mb": "MB"}[end], xscale="log" if unit == "frames" else "linear")
        if unit == "hands":
            axis.set_xticks(at)
        axis.set_ylim(0, 1.1 * max(np.nanmax(values) for _, values in own))
        _legend(axis)
    figure.suptitle(f"growth with {curve.sequence}", fontsize=10)
    return _save(figure, out / f"growth_{curve.sequence.replace(' ', '_')}.png")


def _latency(result: BenchResult, out: Path) -> list[Path]:
    """Histograms: milliseconds a frame of every method, and ages of the meshes of the live system."""
    written = _ages(result, out)
    groups = list(dict.fromkeys(name.split(":")[0] for name in result.times if not name.startswith("latency:")))
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
    return written


def _ages(result: BenchResult, out: Path) -> list[Path]:
    """One panel a case, one histogram a layout, its 95th percentile as a dashed line."""
    names = [name for name in result.times if name.startswith("latency: ")]
    cases = list(dict.fromkeys(name.removeprefix("latency: ").rpartition(", ")[0] for name in names))
    if not cases:
        return []
    highest = float(np.percentile(np.concatenate([result.times[name] for name in names]), 99.5))
    figure, axes = _figure(1, len(cases), 5)
    for axis, case in zip(axes, cases):
        for name in (n for n in names if n.startswith(f"latency: {case}, ")):
            ages = np.array(result.times[name])
            label = f"{name.rpartition(', ')[2]}: p50 {np.median(ages):.1f}, p95 {np.percentile(ages, 95):.1f} ms"
            bars = axis.hist(np.minimum(ages, highest), np.linspace(0, highest, 60), alpha=0.5, label=label)[2]
            axis.axvline(np.percentile(ages, 95), ls="--", lw=1, color=bars[0].get_facecolor())
        axis.set(title=case, xlabel="camera stamp to mesh in another process, ms", ylabel="meshes")
        _legend(axis)
    return [_save(figure, out / "latency.png")]

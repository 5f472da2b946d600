"""Many films in a small table: a row a film, a column a method, the figures that matter in one cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hoi_ros.bench.results import Row
from hoi_ros.evaluation.report import markdown_table

CELLS = {
    "tracking": (
        ("rotation_median_deg", "rotation_final_deg", "add_auc", "add_s_auc"),
        "rotation deg median / end, ADD AUC / ADD-S AUC; (frames missed, which count as the worst value)",
    ),
    "reconstruction": (
        ("seen_accuracy_mm", "seen_f5_percent", "hold_cd_cm2", "ms_p50"),
        "accuracy mm / F5 % of seen surface, CD cm2 of the whole (HOLD) / ms a frame",
    ),
}
LEAST_FILMS = 3


def overview(rows: Sequence[Row]) -> str:
    """Markdown of every target with several films, with a last row of means; '' where there is none."""
    parts = []
    for target, (figures, title) in CELLS.items():
        own = [row for row in rows if row.target == target]
        films, methods = (list(dict.fromkeys(v)) for v in ([r.sequence for r in own], [r.method for r in own]))
        if len(films) < LEAST_FILMS:
            continue
        values = {(row.sequence, row.method): [_number(row.figures.get(name)) for name in figures] for row in own}
        missed = {(row.sequence, row.method): int(row.figures.get("missed") or 0) for row in own}
        table: list[dict[str, object]] = []
        for film in films:
            table.append(
                {"film": film, **{m: _cell(values.get((film, m))) + _lost(missed.get((film, m), 0)) for m in methods}}
            )
        means = {}
        for method in methods:
            known = np.array([values[film, method] for film in films if (film, method) in values])
            means[method] = _cell(list(known.mean(0))) + ("" if len(known) == len(films) else f" ({len(known)} films)")
            means[method] += _lost(sum(missed.get((film, method), 0) for film in films))
        table.append({"film": "mean", **means})
        parts.append(f"## {target}, all films\n\n{title}; {_best(own)}\n\n{markdown_table(table)}")
    return "\n".join(parts)


def _best(rows: Sequence[Row]) -> str:
    """In how many films each method has the best of the first figure; missed frames are in it as the worst value."""
    name = CELLS[rows[0].target][0][0]
    counts: dict[str, int] = {}
    for film in dict.fromkeys(row.sequence for row in rows):
        own = [row for row in rows if row.sequence == film and np.isfinite(_number(row.figures.get(name)))]
        if own:
            best = min(own, key=lambda row: _number(row.figures.get(name)))
            counts[best.method] = counts.get(best.method, 0) + 1
    return f"best {name}: " + ", ".join(f"{m} {n}" for m, n in sorted(counts.items(), key=lambda item: -item[1]))


def _lost(frames: int) -> str:
    return f" ({frames} missed)" if frames else ""


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")


def _cell(values: list[float] | None) -> str:
    return "-" if values is None else " / ".join(f"{v:.2f}" if abs(v) < 10 else f"{v:.1f}" for v in values)

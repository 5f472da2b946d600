"""Loss curves as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT, EDGE = 900, 520, 40


def draw_curves(table: Path, path: Path) -> None:
    """Draw every column of a loss table over its steps, smoothed, on a logarithmic scale."""
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in ("step", "seconds")] if rows else []
    if not names:
        return
    values = np.array([[float(row[name] or "nan") for name in names] for row in rows])
    window = max(len(rows) // 60, 1)
    kernel = np.ones(window) / window
    canvas = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    logs = np.log10(np.maximum(np.stack([np.convolve(column, kernel, "valid") for column in values.T]), 1e-6))
    low, high = np.nanmin(logs), np.nanmax(logs) + 1e-6
    x = EDGE + np.linspace(0, WIDTH - 5 * EDGE, logs.shape[1])
    for number, (name, curve) in enumerate(zip(names, logs)):
        hue = np.array([[[number * 180 // len(names), 220, 190]]], np.uint8)
        color = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0].tolist()
        y = HEIGHT - EDGE - (curve - low) / (high - low) * (HEIGHT - 2 * EDGE)
        good = np.isfinite(y)
        cv2.polylines(canvas, [np.stack([x, y], 1)[good].astype(np.int32)], False, color, 1, cv2.LINE_AA)
        label = f"{name} {10 ** curve[-1]:.3g}"
        cv2.putText(canvas, label, (WIDTH - 4 * EDGE + 8, EDGE + 18 * number), 0, 0.42, color, 1, cv2.LINE_AA)
    text = f"steps {rows[0]['step']} to {rows[-1]['step']}; logarithmic from {10**low:.3g} to {10**high:.3g}"
    cv2.putText(canvas, text, (EDGE, HEIGHT - 12), 0, 0.45, (60, 60, 60), 1, cv2.LINE_AA)
    cv2.imwrite(str(path), canvas)

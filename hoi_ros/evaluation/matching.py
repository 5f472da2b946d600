"""Which found hand is which labelled one. The side plays no part: it is judged afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from hoi_ros.evaluation.datasets.records import LEAST_JOINTS

GATE = 0.5
"""Mean 2D distance of the joints, as a share of the true hand's longer side, beyond which it is not the same hand."""


def match_hands(found_px: Sequence[np.ndarray], truth_px: Sequence[np.ndarray], gate: float = GATE) -> list[int | None]:
    """For each labelled hand the index of the found one, or None; pairs have the least total 2D distance.

    Args:
        found_px: (21, 2) pixels of each found hand.
        truth_px: (21, 2) pixels of each labelled hand, NaN for unknown joints; without any it matches nothing.
        gate: largest mean distance over the known joints, as a share of the hand's longer side: the labelled one's, or
            the found one's where fewer than LEAST_JOINTS are known (the wrist alone has no size).
    """
    if not len(found_px) or not len(truth_px):
        return [None] * len(truth_px)
    found, truth = np.array(found_px, np.float64), np.array(truth_px, np.float64)
    apart = np.linalg.norm(found[None] - truth[:, None], axis=-1)
    judged = np.isfinite(apart)
    enough = np.isfinite(truth).all(2).sum(1, keepdims=True) >= LEAST_JOINTS
    sizes = np.maximum(np.where(enough, _sizes(truth)[:, None], _sizes(found)[None]), 1.0)
    distance = np.where(judged, apart, 0).sum(2) / np.maximum(judged.sum(2), 1) / sizes
    distance = np.where(judged.any(2), distance, np.inf)
    # Beyond the gate all are equally wrong, so that no far hand takes a near one's place.
    rows, columns = linear_sum_assignment(np.minimum(distance, gate))
    matched: list[int | None] = [None] * len(truth)
    for row, column in zip(rows, columns):
        if distance[row, column] < gate:
            matched[row] = int(column)
    return matched


def _sizes(hands_px: np.ndarray) -> np.ndarray:
    """Longer side (N,) of each hand's known joints."""
    known = np.isfinite(hands_px).all(2, keepdims=True)
    low, high = (np.where(known, hands_px, bound) for bound in (np.inf, -np.inf))
    return np.where(known.any((1, 2)), (high.max(1) - low.min(1)).max(1), 0)

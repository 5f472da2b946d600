"""Which found hand is which labelled one. The side plays no part: it is judged afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

GATE = 0.5
"""Mean 2D distance of the joints, as a share of the true hand's longer side, beyond which it is not the same hand."""


def match_hands(found_px: Sequence[np.ndarray], truth_px: Sequence[np.ndarray], gate: float = GATE) -> list[int | None]:
    """For each labelled hand the index of the found one, or None; pairs have the least total 2D distance.

    Args:
        found_px: (21, 2) pixels of each found hand.
        truth_px: (21, 2) pixels of each labelled hand, NaN for unknown joints; one joint at least is known.
        gate: largest mean distance over the joints, as a share of the labelled hand's longer side.
    """
    if not len(found_px) or not len(truth_px):
        return [None] * len(truth_px)
    found, truth = np.array(found_px, np.float64), np.array(truth_px, np.float64)
    size = np.maximum((np.nanmax(truth, 1) - np.nanmin(truth, 1)).max(1), 1.0)
    distance = np.nanmean(np.linalg.norm(found[None] - truth[:, None], axis=-1), axis=2) / size[:, None]
    distance = np.where(np.isfinite(distance), distance, np.inf)
    # Beyond the gate all are equally wrong, so that no far hand takes a near one's place.
    rows, columns = linear_sum_assignment(np.minimum(distance, gate))
    matched: list[int | None] = [None] * len(truth)
    for row, column in zip(rows, columns):
        if distance[row, column] < gate:
            matched[row] = int(column)
    return matched

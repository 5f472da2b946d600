"""One figure for a whole sequence, in which a missed frame counts as the worst value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WORST_JOINT_M = 0.1
"""A missed hand's joint error, metres: where PCK curves of whole hands end."""
WORST_ALIGNED_JOINT_M = 0.05
"""A missed hand's joint error after alignment, metres: about what a hand collapsed to one point gets."""
WORST_PX_SHARE = 1.0
"""A missed hand's 2D error as a share of its box's longer side."""
WORST_TRANSLATION_M = 0.1
"""A lost object's distance, metres: where the curves of ADD and ADD-S end."""
WORST_ROTATION_DEG = 180.0
"""A lost object's angle."""


@dataclass(frozen=True)
class ErrorSummary:
    """Errors of a sequence. Missed frames are in every figure but those named `found`."""

    mean: float
    median: float
    p95: float
    maximum_found: float
    """Of the frames that were found; NaN when none was."""
    mean_found: float
    count: int
    """Frames that were found."""
    missed: int

    @property
    def frames(self) -> int:
        """All of them."""
        return self.count + self.missed


def with_missed(errors: np.ndarray, worst: float | np.ndarray) -> np.ndarray:
    """(N,) errors in which infinite or NaN ones, missed frames, count as the worst value.

    That is `worst` (one, or one a frame), or the largest error found where that is larger: losing a frame is never
    better than finding it badly.
    """
    errors = np.asarray(errors, np.float64).ravel()
    found = np.isfinite(errors)
    return np.where(found, errors, np.maximum(worst, errors[found].max(initial=-np.inf)))


def summarize(errors: np.ndarray, worst: float | np.ndarray = WORST_JOINT_M) -> ErrorSummary:
    """Mean, median and 95th percentile of (N,) errors; infinite or NaN ones are missed frames.

    A missed frame counts as `with_missed` says.

    Raises:
        ValueError: there is no frame at all.
    """
    errors = np.asarray(errors, np.float64).ravel()
    if not len(errors):
        raise ValueError("summarize: no frames, so there is nothing to average")
    found = errors[np.isfinite(errors)]
    filled = with_missed(errors, worst)
    return ErrorSummary(
        mean=float(filled.mean()),
        median=float(np.median(filled)),
        p95=float(np.percentile(filled, 95)),
        maximum_found=float(found.max()) if len(found) else float("nan"),
        mean_found=float(found.mean()) if len(found) else float("nan"),
        count=len(found),
        missed=len(errors) - len(found),
    )


def area_under_curve(errors: np.ndarray, threshold: float = 0.1) -> float:
    """Area under accuracy against threshold from 0 to `threshold`, 0 to 100; missed frames are never within.

    The exact integral of the step curve. Source: PoseCNN (Xiang et al., RSS 2018) and BundleSDF (Wen et al., CVPR
    2023), with ADD or ADD-S in metres and 0.1 m.
    """
    errors = np.nan_to_num(np.asarray(errors, np.float64), nan=np.inf)
    return float(100 * np.mean(1 - np.minimum(errors, threshold) / threshold)) if len(errors) else float("nan")

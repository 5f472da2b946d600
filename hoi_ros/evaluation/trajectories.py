"""Absolute and relative trajectory error of poses (N, 4, 4), T_world_body.

Source: Sturm et al., A benchmark for the evaluation of RGB-D SLAM systems, IROS 2012; Zhang and Scaramuzza, IROS 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.evaluation.poses import rotation_errors_deg, same_poses
from hoi_ros.evaluation.summary import WORST_TRANSLATION_M, with_missed
from hoi_ros.geometry import fit_similarity

ALIGNMENTS = ("none", "se3", "sim3")


@dataclass(frozen=True)
class TrajectoryErrors:
    """Per frame or pair; `inf` where a frame is lost."""

    translation: np.ndarray
    """(M,) metres."""
    rotation_deg: np.ndarray
    """(M,)."""
    scale: float
    """What the prediction was multiplied with; 1 unless aligned by Sim(3)."""

    @property
    def rmse(self) -> float:
        """Root mean square of the translations, metres; a lost frame counts as the worst value, see `with_missed`."""
        return float(np.sqrt(np.mean(with_missed(self.translation, WORST_TRANSLATION_M) ** 2)))

    @property
    def rmse_found(self) -> float:
        """The same of the frames that were found alone; NaN when none was."""
        found = self.translation[np.isfinite(self.translation)]
        return float(np.sqrt(np.mean(found**2))) if len(found) else float("nan")

    @property
    def missed(self) -> int:
        """Frames or pairs without a prediction."""
        return int((~np.isfinite(self.translation)).sum())


def align_trajectory(predicted: np.ndarray, truth: np.ndarray, alignment: str = "se3") -> tuple[np.ndarray, float]:
    """Move a whole trajectory onto the true one by one least-squares motion of its positions (Umeyama, PAMI 1991).

    Args:
        predicted: (N, 4, 4), NaN for lost frames.
        truth: (N, 4, 4).
        alignment: 'none', 'se3' or 'sim3' (scale too: for cameras without a metric, say so beside the figure).

    Returns:
        The moved trajectory and the scale.

    Raises:
        ValueError: unknown alignment, shapes differ, fewer than 3 found frames, or all of them at one place.
    """
    same_poses(predicted, truth)
    if alignment not in ALIGNMENTS:
        raise ValueError(f"alignment '{alignment}': choose one of {', '.join(ALIGNMENTS)}")
    if alignment == "none":
        return predicted, 1.0
    found = np.isfinite(predicted).all((1, 2))
    scale, rotation, offset = fit_similarity(
        predicted[found, :3, 3].astype(np.float64), truth[found, :3, 3].astype(np.float64),
        with_scale=alignment == "sim3",
    )  # fmt: skip
    out = np.array(predicted, np.float64)
    out[:, :3, :3] = rotation @ out[:, :3, :3]
    out[:, :3, 3] = scale * out[:, :3, 3] @ rotation.T + offset
    return out, scale


def absolute_trajectory_errors(predicted: np.ndarray, truth: np.ndarray, alignment: str = "se3") -> TrajectoryErrors:
    """ATE: position and rotation errors (N,) of every frame after `align_trajectory`; `.rmse` is the usual figure."""
    moved, scale = align_trajectory(predicted, truth, alignment)
    distance = np.linalg.norm(moved[:, :3, 3] - truth[:, :3, 3], axis=1)
    return TrajectoryErrors(np.where(np.isfinite(distance), distance, np.inf), rotation_errors_deg(moved, truth), scale)


def relative_trajectory_errors(
    predicted: np.ndarray, truth: np.ndarray, step: int = 1, alignment: str = "none"
) -> TrajectoryErrors:
    """RPE: error of the motion over `step` frames, (N - step,); drift, whatever the start.

    SE(3) alignment changes nothing here; 'sim3' first takes the trajectory's scale.

    Raises:
        ValueError: as `align_trajectory`, or `step` is not between 1 and N - 1.
    """
    if not 1 <= step < len(truth):
        raise ValueError(f"relative trajectory error over {step} frames of {len(truth)}: give 1 to N - 1")
    moved, scale = align_trajectory(predicted, truth, alignment)
    found = np.isfinite(moved).all((1, 2))
    safe = np.where(found[:, None, None], moved, np.eye(4))
    motion = np.linalg.inv(safe[:-step]) @ safe[step:]
    true_motion = np.linalg.inv(truth[:-step]) @ truth[step:]
    error = np.linalg.inv(true_motion) @ motion
    both = found[:-step] & found[step:]
    identity = np.broadcast_to(np.eye(4), error.shape)
    return TrajectoryErrors(
        np.where(both, np.linalg.norm(error[:, :3, 3], axis=1), np.inf),
        np.where(both, rotation_errors_deg(error, identity), np.inf),
        scale,
    )

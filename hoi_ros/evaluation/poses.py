"""Errors of object poses (N, 4, 4) in the camera frame; a lost pose is a matrix of NaN and gives `inf`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from hoi_ros.geometry import rotation_angle


def rotation_errors_deg(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Geodesic angles (N,) in degrees between the rotations of two lists of poses."""
    same_poses(predicted, truth)
    found = np.isfinite(predicted).all((1, 2))
    safe = np.where(found[:, None, None], predicted, np.eye(4))
    relative = np.swapaxes(safe[:, :3, :3], 1, 2) @ truth[:, :3, :3]
    return np.where(found, np.degrees(rotation_angle(relative.astype(np.float64))), np.inf)


def translation_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distances (N,) between the origins of two lists of poses."""
    same_poses(predicted, truth)
    distance = np.linalg.norm(predicted[:, :3, 3] - truth[:, :3, 3], axis=1)
    return np.where(np.isfinite(predicted).all((1, 2)), distance, np.inf)


def add_errors(predicted: np.ndarray, truth: np.ndarray, points_object: np.ndarray) -> np.ndarray:
    """ADD (N,): mean distance of model points (P, 3) under both poses. Source: Hinterstoisser et al., ACCV 2012."""
    same_poses(predicted, truth)
    found = np.isfinite(predicted).all((1, 2))
    difference = np.where(found[:, None, None], predicted - truth, 0).astype(np.float64)
    errors = np.empty(len(truth))
    for rows in np.array_split(np.arange(len(truth)), max(1, len(truth) * len(points_object) // 2_000_000)):
        moved = points_object @ np.swapaxes(difference[rows, :3, :3], 1, 2) + difference[rows, None, :3, 3]
        errors[rows] = np.linalg.norm(moved, axis=2).mean(1)
    return np.where(found, errors, np.inf)


def add_s_errors(predicted: np.ndarray, truth: np.ndarray, points_object: np.ndarray) -> np.ndarray:
    """ADD-S (N,): each model point under the true pose against the nearest one under the other, so that symmetric
    things are not blamed. Source: Hinterstoisser et al., ACCV 2012; PoseCNN, RSS 2018."""
    same_poses(predicted, truth)
    errors = np.full(len(truth), np.inf)
    tree = cKDTree(points_object)
    for i in np.flatnonzero(np.isfinite(predicted).all((1, 2))):
        # Rigid motion keeps distances, so the search tree of the model serves every frame.
        back = np.linalg.inv(predicted[i].astype(np.float64)) @ truth[i]
        errors[i] = tree.query(points_object @ back[:3, :3].T + back[:3, 3])[0].mean()
    return errors


def align_first_pose(poses: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Poses with the object frame changed so that the first one that is not lost equals the truth.

    A tracker without a model chooses its own object frame. Source: BundleSDF, CVPR 2023.
    """
    same_poses(poses, truth)
    found = np.flatnonzero(np.isfinite(poses).all((1, 2)))
    if not len(found):
        return poses
    first = found[0]
    return poses @ (np.linalg.inv(poses[first]) @ truth[first])


def relative_errors(
    predicted: np.ndarray, truth: np.ndarray, steps: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Relative rotation error (degrees) and relative translation error (metres) of frame pairs.

    The motion between two frames, T_i inverse(T_j), does not depend on the object's frame, so nothing is aligned.
    Translation is that of the object's true origin at frame i. As SHOWMe judges hand-object rigid motion: accumulated
    motion from the first frame on (Swamy et al., ICCV workshops 2023).

    Args:
        predicted: (N, 4, 4), NaN for lost frames.
        truth: (N, 4, 4).
        steps: gaps between the frames of a pair, e.g. (1,); None pairs every frame with the first one.

    Returns:
        Two (M,) arrays; `inf` for pairs with a lost frame.

    Raises:
        ValueError: shapes differ or no pair exists.
    """
    same_poses(predicted, truth)
    count = len(truth)
    if steps is None:
        pairs = [(i, 0) for i in range(1, count)]
    else:
        pairs = [(i, i - step) for step in steps for i in range(step, count)]
    if not pairs:
        raise ValueError(f"relative_errors: {count} frames hold no pair of the wanted gap")
    now, before = np.array(pairs).T
    found = np.isfinite(predicted).all((1, 2))
    both = found[now] & found[before]
    safe = np.where(found[:, None, None], predicted, np.eye(4)).astype(np.float64)
    moved = safe[now] @ np.linalg.inv(safe[before]) @ truth[before]
    rotation = rotation_errors_deg(moved, truth[now])
    translation = np.linalg.norm(moved[:, :3, 3] - truth[now, :3, 3], axis=1)
    return np.where(both, rotation, np.inf), np.where(both, translation, np.inf)


def same_poses(predicted: np.ndarray, truth: np.ndarray) -> None:
    """Refuse lists of poses of another shape or length.

    Raises:
        ValueError: not (N, 4, 4) twice.
    """
    if np.shape(predicted) != np.shape(truth) or np.shape(truth)[1:] != (4, 4):
        raise ValueError(
            f"predicted poses {np.shape(predicted)} and true poses {np.shape(truth)}: need (N, 4, 4) twice"
        )

"""What the HandOS network must know of a hand mesh: faces, joint regressor, lifting weights, coarse vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.errors import InputError
from hoi_ros.hand_model import HandModel
from hoi_ros.hand_model.anatomy import BONE_COUNT

JOINTS = 21
BONE_STARTS = np.array([0] + [1 + 4 * f + k for f in range(5) for k in range(3)])
"""(16,) keypoint where each bone begins."""
REGRESSOR_REACH, UPSAMPLING_REACH = 40, 8
"""Nearest vertices that a joint or a fine vertex is made of."""
LEAST_COARSE = UPSAMPLING_REACH
"""Coarse vertices that a hand needs, where not every vertex is one."""
POSES, SEED = 160, 7


@dataclass(frozen=True)
class HandTopology:
    """Fixed matrices of one hand model (right hand)."""

    name: str
    template: np.ndarray
    """(V, 3) rest vertices, metres."""
    joints: np.ndarray
    """(21, 3) rest joints, metres."""
    faces: np.ndarray
    """(F, 3) of the right hand."""
    skin_weights: np.ndarray
    """(V, 16), rows sum to 1."""
    regressor: np.ndarray
    """(21, V), rows sum to 1: joints are these mixtures of vertices."""
    lifting: np.ndarray
    """(V + 1, 21) first lifting matrix: skinning weights, a row for camera translation below; rows sum to 1."""
    coarse: np.ndarray
    """(C,) vertices that the decoder has queries for; all of them in the paper's size."""
    upsampling: np.ndarray
    """(V, C) from displacements of coarse vertices to those of all; rows sum to 1."""

    @property
    def vertex_count(self) -> int:
        """V."""
        return len(self.template)


def build_topology(model: HandModel, coarse_count: int = 0) -> HandTopology:
    """Derive a hand model's matrices.

    Args:
        model: free hand or MANO.
        coarse_count: vertices with a query of their own; 0 is all.

    Raises:
        InputError: too few coarse vertices to make the others of.
    """
    if coarse_count and coarse_count < LEAST_COARSE:
        raise InputError(f"HandOS coarse_vertices {coarse_count}: give 0 for all, or at least {LEAST_COARSE}")
    vertices, joints = _random_hands(model)
    coarse = farthest_points(model.template, coarse_count or model.vertex_count)
    nearest = _nearest(model.template, model.template[coarse], UPSAMPLING_REACH)
    upsampling = np.eye(model.vertex_count)
    if len(coarse) < model.vertex_count:
        upsampling = _fit_mixtures(vertices, vertices[:, coarse], nearest)
        upsampling[coarse] = np.eye(len(coarse))
    keypoints = model.skeleton.keypoints
    regressor = _fit_mixtures(joints, vertices, _nearest(keypoints, model.template, REGRESSOR_REACH))
    return HandTopology(
        model.name,
        model.template.astype(np.float32),
        keypoints.astype(np.float32),
        model.right_faces.astype(np.int64),
        model.weights.astype(np.float32),
        regressor.astype(np.float32),
        lifting_weights(model).astype(np.float32),
        coarse,
        upsampling.astype(np.float32),
    )


def lifting_weights(model: HandModel) -> np.ndarray:
    """First lifting matrix (V + 1, 21): a bone's skin hangs on the joint where the bone begins.

    The last bone's is shared with the tip by how far along the bone a vertex lies. The camera's row is the mean joint.
    """
    lifting = np.zeros((model.vertex_count + 1, JOINTS))
    lifting[:-1, BONE_STARTS] = model.weights
    keypoints = model.skeleton.keypoints
    for last in range(3, BONE_COUNT, 3):
        start = BONE_STARTS[last]
        bone = keypoints[start + 1] - keypoints[start]
        along = np.clip((model.template - keypoints[start]) @ bone / (bone @ bone), 0, 1)
        lifting[:-1, start + 1] = along * model.weights[:, last]
        lifting[:-1, start] -= along * model.weights[:, last]
    lifting[-1] = 1 / JOINTS
    return lifting


def farthest_points(points: np.ndarray, count: int) -> np.ndarray:
    """Numbers (count,) of points (N, 3) spread evenly, ascending: each next one lies farthest from those taken."""
    if count >= len(points):
        return np.arange(len(points))
    taken = [int(np.linalg.norm(points - points.mean(0), axis=1).argmax())]
    distance = np.linalg.norm(points - points[taken[0]], axis=1)
    while len(taken) < count:
        taken.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[taken[-1]], axis=1))
    return np.sort(np.array(taken))


def _random_hands(model: HandModel) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (P, V, 3) and joints (P, 21, 3) of hands bent and shaped at random, float64."""
    rng = np.random.default_rng(SEED)
    low, high = model.joint_limits.T
    angles = rng.uniform(0.6 * low, 0.9 * high, (POSES, len(low)))
    posed = model.pose(angles, rng.normal(0, 0.8, (POSES, 10)), "right")
    return posed.vertices.astype(np.float64), posed.joints


def _nearest(points: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    """(N, count) numbers of the nearest of `among` to each point."""
    distance = np.linalg.norm(points[:, None] - among[None], axis=2)
    return np.argsort(distance, axis=1)[:, :count]


def _fit_mixtures(goals: np.ndarray, sources: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """(G, S) rows summing to 1 that best make goals (P, G, 3) of sources (P, S, 3), each from its nearest ones only."""
    matrix = np.zeros((goals.shape[1], sources.shape[1]))
    for row, columns in enumerate(nearest):
        # Differences to the mean of the sources make the sum of weights free to be 1.
        middle = sources[:, columns].mean(1)
        design = (sources[:, columns] - middle[:, None]).transpose(0, 2, 1).reshape(-1, len(columns))
        goal = (goals[:, row] - middle).reshape(-1)
        ridge = 1e-4 * np.trace(design.T @ design) / len(columns)
        solved = np.linalg.solve(design.T @ design + ridge * np.eye(len(columns)), design.T @ goal)
        matrix[row, columns] = solved - solved.mean() + 1 / len(columns)
    return matrix

"""Poses of several views from measured motions between them; wrong motions are found out and left aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import splu

from hoi_ros.config import setting
from hoi_ros.geometry import invert_transform, nearest_rigid, se3_exp, se3_log, skew
from hoi_ros.tracking.pointmap_motion import MotionEdge

_STEPS_A_ROUND = 3
_LEAST_REDUNDANCY = 1e-4
"""Share of a motion that the others must know too before they can judge it."""
_ANY_TURN_RAD = 3.0


@dataclass(frozen=True)
class PoseGraphConfig:
    """Solving for the poses of views."""

    limit: float = setting(4.0, "error of a motion, in standard deviations, beyond which it is wrong", low=0.5)
    rounds: int = setting(40, "rounds in which wrong motions are singled out, at most", low=1)
    sharpening: float = setting(2.0, "how much stricter each round is than the one before", low=1.01, high=10.0)


@dataclass(frozen=True)
class PoseGraphResult:
    """Corrected poses and what was believed."""

    poses: np.ndarray
    """(K, 4, 4) T_view_object."""
    weights: np.ndarray
    """(E,) 0 to 1: how far each motion was believed; 0 is wrong."""
    errors: np.ndarray
    """(E,) what is left of each motion's error, standard deviations."""
    errors_before: np.ndarray
    """(E,) the same at the first guess."""
    turn_sigma_rad: np.ndarray
    """(K,) how unsure each view's turn against the fixed one is, about its worst axis; infinite where none leads."""
    converged: bool


def optimise_poses(
    poses: np.ndarray,
    edges: Sequence[MotionEdge],
    trusted: Sequence[bool] | None = None,
    fixed: int = 0,
    config: PoseGraphConfig | None = None,
) -> PoseGraphResult:
    """Find the poses that the believable motions agree on.

    Least squares on SE(3). Motions are singled out by graduated non-convexity: all are believed a little at first, and
    each round is stricter, until what contradicts the rest counts for nothing; then each is judged once more by what it
    costs the others. Sources: Lu and Milios 1997 (pose graph); Yang, Antonante, Tzoumas and Carlone, RA-L 2020
    (graduated non-convexity, truncated squares).

    Args:
        poses: (K, 4, 4) first guess of T_view_object.
        edges: motions; `first` and `second` are rows of `poses`. T_first_second takes points of the second view's
            frame to the first's; the information is of the twist in the second view's frame.
        trusted: (E,) motions that are never left aside, None for none: those from one view to the next.
        fixed: the view that stays where it is: the whole could move together otherwise.
        config: what counts as wrong.

    Returns:
        Poses, weights and errors. A view that no motion ties to the others stays where it was.

    Raises:
        ValueError: an edge names no view or ties a view to itself, or a pose is not finite.
    """
    config = config or PoseGraphConfig()
    poses = np.asarray(poses, np.float64)
    if not np.isfinite(poses).all():
        raise ValueError("optimise_poses: a pose is not finite")
    if any(e.first == e.second or not (0 <= e.first < len(poses) and 0 <= e.second < len(poses)) for e in edges):
        raise ValueError(f"optimise_poses: an edge does not join two of the {len(poses)} views")
    if not edges:
        sigmas = np.where(np.arange(len(poses)) == fixed, 0, np.inf)
        return PoseGraphResult(poses.copy(), np.zeros(0), np.zeros(0), np.zeros(0), sigmas, True)
    graph = _Graph(poses, edges, fixed)
    sure = np.zeros(len(edges), bool) if trusted is None else np.asarray(trusted, bool)
    weights, limit2 = np.ones(len(edges)), config.limit**2
    solution, converged = graph.solve(poses, weights)
    worst = float(np.max(graph.sizes(solution) ** 2 * ~sure))
    if worst > limit2:
        strictness = limit2 / max(2 * worst - limit2, 1e-9)
        for _ in range(config.rounds):
            weights = np.where(sure, 1.0, _surrogate_weights(graph.sizes(solution) ** 2, strictness, limit2))
            solution, converged = graph.solve(solution, weights, _STEPS_A_ROUND)
            if ((weights < 1e-6) | (weights > 1 - 1e-6)).all():
                break
            strictness *= config.sharpening
        weights = np.where(sure, 1.0, (graph.sizes(solution) < config.limit).astype(float))
        solution, converged = graph.solve(solution, weights)
    # A motion that nothing opposes but the chain bends the chain and fits itself; what it costs the others shows it.
    for _ in range(int((~sure).sum())):
        costs = np.where(sure | (weights == 0), 0, graph.costs(solution, weights))
        if costs.max() <= limit2:
            break
        weights[np.argmax(costs)] = 0
        solution, converged = graph.solve(solution, weights)
    sigmas = graph.turn_sigmas(solution, weights)
    return PoseGraphResult(
        nearest_rigid(solution), weights, graph.sizes(solution), graph.sizes(poses), sigmas, converged
    )


def _surrogate_weights(squares: np.ndarray, strictness: float, limit2: float) -> np.ndarray:
    """Weights of the smoothed truncated squares: 1 well inside the limit, 0 well outside, between them a slope."""
    slope = np.sqrt(limit2 * strictness * (strictness + 1) / np.maximum(squares, 1e-12)) - strictness
    return np.clip(slope, 0, 1)


class _Graph:
    """The motions as one least-squares problem in twists of the views that may move."""

    def __init__(self, poses: np.ndarray, edges: Sequence[MotionEdge], fixed: int) -> None:
        self._first = np.array([e.first for e in edges])
        self._second = np.array([e.second for e in edges])
        self._inverse_measured = invert_transform(np.stack([e.T_first_second for e in edges]).astype(np.float64))
        self._carried = _adjoint(self._inverse_measured)
        information = np.stack([e.information for e in edges]).astype(np.float64)
        values, axes = np.linalg.eigh((information + np.swapaxes(information, 1, 2)) / 2)
        self._root = np.sqrt(np.maximum(values, 0))[:, :, None] * np.swapaxes(axes, 1, 2)
        moving = np.zeros(len(poses), bool)
        moving[self._first] = moving[self._second] = True
        moving[fixed] = False
        self._column = np.where(moving, np.cumsum(moving) - 1, -1)
        self._moving, self._fixed = np.flatnonzero(moving), fixed

    def sizes(self, poses: np.ndarray) -> np.ndarray:
        """(E,) error of each motion in standard deviations."""
        return np.linalg.norm(self._errors(poses)[0], axis=-1)

    def costs(self, poses: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(E,) by how much the whole error would fall, to first order, were a motion left out (Baarda 1968)."""
        errors = self._errors(poses)[0]
        jacobian, covariance = self._covariance(poses, weights)
        spread = np.asarray((jacobian @ covariance).reshape(len(errors), 6, -1))
        rows = jacobian.toarray().reshape(len(errors), 6, -1)
        values, axes = np.linalg.eigh(np.eye(6) - spread @ np.swapaxes(rows, 1, 2))
        parts = np.einsum("eij,ei->ej", axes, errors) ** 2
        return (parts / np.maximum(values, _LEAST_REDUNDANCY)).sum(1)

    def turn_sigmas(self, poses: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(K,) radians about each view's worst axis; infinite where no believed motion leads."""
        _, covariance = self._covariance(poses, weights)
        out = np.where(self._column >= 0, 0.0, np.inf)
        out[self._fixed] = 0
        blocks = covariance.reshape(len(self._moving), 6, len(self._moving), 6)
        for row, view in enumerate(self._moving):
            out[view] = np.sqrt(np.linalg.eigvalsh(blocks[row, 3:, row, 3:])[-1])
        return np.where(out < _ANY_TURN_RAD, out, np.inf)

    def _covariance(self, poses: np.ndarray, weights: np.ndarray):
        """Jacobian, and covariance (6 M, 6 M) of the twists of the views that may move."""
        jacobian = self._jacobian(poses, np.sqrt(weights)[:, None])
        hessian = (jacobian.T @ jacobian).toarray()
        return jacobian, np.linalg.inv(hessian + 1e-6 * np.eye(len(hessian)))

    def solve(self, poses: np.ndarray, weights: np.ndarray, most_steps: int = 50) -> tuple[np.ndarray, bool]:
        """Weighted least squares from a start (K, 4, 4): Levenberg-Marquardt, each step solved by sparse LU."""
        if not len(self._moving):
            return poses.copy(), True
        scale, damping = np.sqrt(weights)[:, None], 1e-6
        errors = (scale * self._errors(poses)[0]).reshape(-1)
        for _ in range(most_steps):
            jacobian = self._jacobian(poses, scale)
            hessian, gradient = (jacobian.T @ jacobian).tocsc(), jacobian.T @ errors
            size = hessian.diagonal() + 1e-9 * hessian.diagonal().max()
            while True:
                twists = -splu(hessian + diags(damping * size, format="csc")).solve(gradient).reshape(-1, 6)
                tried = poses.copy()
                tried[self._moving] = se3_exp(twists) @ poses[self._moving]
                left = (scale * self._errors(tried)[0]).reshape(-1)
                if left @ left <= errors @ errors:
                    break
                damping *= 10
                if damping > 1e8:
                    return poses, True  # nowhere is less: a minimum, as far as numbers go
            gained = errors @ errors - left @ left
            poses, errors, damping = tried, left, max(damping / 10, 1e-9)
            if gained <= 1e-9 * (errors @ errors) + 1e-12:
                return poses, True
        return poses, False

    def _errors(self, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(E, 6) whitened twists between measured and present motions, and the same not whitened."""
        present = poses[self._first] @ invert_transform(poses[self._second])
        twists = se3_log(self._inverse_measured @ present)
        return (self._root @ twists[..., None])[..., 0], twists

    def _jacobian(self, poses: np.ndarray, scale: np.ndarray):
        """Sparse derivative of the errors by twists that move the views' cameras."""
        half = 0.5 * _bracket(self._errors(poses)[1])
        square = half @ half / 3
        # log(exp(a) E) and log(E exp(b)) to second order in log E: its half bracket taken off or added.
        by_first = self._root @ (np.eye(6) - half + square) @ self._carried
        by_second = -self._root @ (np.eye(6) + half + square)
        rows, columns, values = [], [], []
        for block, view in ((by_first, self._first), (by_second, self._second)):
            used = np.flatnonzero(self._column[view] >= 0)
            row, column = np.broadcast_arrays(np.arange(6)[:, None], np.arange(6))
            rows.append((6 * used[:, None, None] + row).reshape(-1))
            columns.append((6 * self._column[view[used]][:, None, None] + column).reshape(-1))
            values.append((scale[used, :, None] * block[used]).reshape(-1))
        shape = (6 * len(self._first), 6 * len(self._moving))
        return coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape).tocsr()


def information_about(information: np.ndarray, center: np.ndarray) -> np.ndarray:
    """(6, 6) information of a twist about a centre (3,), translation first, said of the twist about the origin."""
    shift = np.eye(6)
    shift[:3, 3:] = -skew(center)
    return shift.T @ information @ shift


def _adjoint(transforms: np.ndarray) -> np.ndarray:
    """(..., 6, 6) that take twists through rigid motions (..., 4, 4)."""
    rotation = transforms[..., :3, :3]
    out = np.zeros((*transforms.shape[:-2], 6, 6))
    out[..., :3, :3] = out[..., 3:, 3:] = rotation
    out[..., :3, 3:] = skew(transforms[..., :3, 3]) @ rotation
    return out


def _bracket(twists: np.ndarray) -> np.ndarray:
    """(..., 6, 6) ad of twists (..., 6): ad(a) b is their Lie bracket."""
    out = np.zeros((*twists.shape[:-1], 6, 6))
    out[..., :3, :3] = out[..., 3:, 3:] = skew(twists[..., 3:])
    out[..., :3, 3:] = skew(twists[..., :3])
    return out

"""Hand against object: how far one sinks into the other, and where they touch."""

from __future__ import annotations

from typing import Any

import numpy as np

from hoi_ros.datatypes import TriangleMesh
from hoi_ros.evaluation.checks import require_watertight
from hoi_ros.evaluation.ray_scene import ray_scene
from hoi_ros.evaluation.surfaces import CM


class Solid:
    """A closed mesh that can be asked for inside and distance; Embree through Open3D."""

    def __init__(self, mesh: TriangleMesh, name: str = "mesh") -> None:
        """Index the mesh.

        Raises:
            InputError: the mesh is not watertight; `name` should be its file.
            ImportError: Open3D is not installed.
        """
        require_watertight(mesh, file=name)
        self._scene, self._tensor = ray_scene(mesh, "measuring contact")
        self.bounds = np.stack([mesh.vertices.min(0), mesh.vertices.max(0)]).astype(np.float64)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """(N,) bool: whether points (N, 3) lie inside, by the majority of three rays."""
        return self._scene.compute_occupancy(self._queries(points), nsamples=3).numpy() > 0.5

    def signed_distances(self, points: np.ndarray) -> np.ndarray:
        """(N,) distances of points (N, 3) to the surface, negative inside."""
        return self._scene.compute_signed_distance(self._queries(points), nsamples=3).numpy()

    def _queries(self, points: np.ndarray) -> Any:
        return self._tensor(np.ascontiguousarray(points, np.float32))


def intersection_volume_cm3(first: Solid, second: Solid, pitch_m: float = 0.005) -> float:
    """Volume inside both, cm3, counted in cells of `pitch_m`.

    Source: ObMan, Hasson et al., CVPR 2019, with the 5 mm of HOLD and iHOI.
    """
    low, high = np.maximum(first.bounds[0], second.bounds[0]), np.minimum(first.bounds[1], second.bounds[1])
    if (low >= high).any():
        return 0.0
    # Cells lie on a grid of the world, so that the figure does not hang on the boxes' corners.
    axes = [np.arange(np.floor(a / pitch_m), np.ceil(b / pitch_m)) * pitch_m + pitch_m / 2 for a, b in zip(low, high)]
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return float((first.contains(cells) & second.contains(cells)).sum() * (pitch_m * CM) ** 3)


def penetration_depth_m(hand_vertices: np.ndarray, thing: Solid) -> float:
    """Largest depth of a hand vertex (V, 3) below the object's surface, metres; 0 when none is inside.

    Source: ObMan, Hasson et al., CVPR 2019.
    """
    return float(max(0.0, -thing.signed_distances(hand_vertices).min()))


def contact_mask(hand_vertices: np.ndarray, thing: Solid, near_m: float = 0.005) -> np.ndarray:
    """(V,) bool: hand vertices within `near_m` of the surface, or inside."""
    return thing.signed_distances(hand_vertices) <= near_m


def contact_recall(predicted_mask: np.ndarray, true_mask: np.ndarray) -> float:
    """Share, 0 to 1, of truly touching hand vertices that touch in the prediction too; NaN when none truly touches.

    Source: ContactOpt, Grady et al., CVPR 2021.

    Raises:
        ValueError: lengths differ.
    """
    return _overlap(predicted_mask, true_mask, true_mask)


def contact_precision(predicted_mask: np.ndarray, true_mask: np.ndarray) -> float:
    """Share, 0 to 1, of vertices touching in the prediction that truly touch; NaN when none touches."""
    return _overlap(predicted_mask, true_mask, predicted_mask)


def _overlap(predicted: np.ndarray, truth: np.ndarray, of: np.ndarray) -> float:
    if predicted.shape != truth.shape:
        raise ValueError(f"contact: {len(predicted)} predicted and {len(truth)} true vertices; use one hand model")
    return float((predicted & truth).sum() / of.sum()) if of.any() else float("nan")

"""Object meshes judged as HOLD and as BundleSDF judge them, so that figures stand beside published ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from hoi_ros.datatypes import CameraIntrinsics, TriangleMesh
from hoi_ros.evaluation.alignment import align_surfaces, align_with_scale
from hoi_ros.evaluation.rendering import MeshRenderer
from hoi_ros.evaluation.surfaces import ABSENT_SURFACE, SurfaceErrors, compare_surfaces, sample_surface
from hoi_ros.geometry import project, transform_points

SAMPLES = 100_000
"""Points on each surface; two samplings of one hand-sized surface lie 0.3 mm apart."""
ALIGN_SAMPLES = 3_000
STARTS = 60
BUNDLESDF_GRID_M, BUNDLESDF_REACH_M = 0.005, 0.02
UNSEEN_REACH_M = 0.01


def hold_errors(predicted: TriangleMesh | None, truth: TriangleMesh, *, starts: int = 0) -> SurfaceErrors:
    """Whole object surface after ICP with scale from many starts: `chamfer_cm2` (squared), F5 and F10.

    Scale is forgiven, so a monocular method may be compared; pose is not judged at all. An absent mesh is the worst
    value. `starts` 0 takes the usual number. Source: HOLD, Fan et al., CVPR 2024.
    """
    if predicted is None or not len(predicted.faces):
        return ABSENT_SURFACE
    found, true = (sample_surface(m.vertices, m.faces, SAMPLES, seed) for m, seed in ((predicted, 1), (truth, 2)))
    scale, rotation, offset = align_with_scale(found[:ALIGN_SAMPLES], true[:ALIGN_SAMPLES], starts=starts or STARTS)
    return compare_surfaces(scale * found @ rotation.T + offset, true)


def bundlesdf_errors(
    predicted: TriangleMesh | None,
    truth: TriangleMesh,
    T_truth_predicted: np.ndarray,
    seen_mask: np.ndarray | None = None,
) -> SurfaceErrors:
    """Object surface in true scale: first pose on the truth, then rigid ICP; of the truth only what the camera saw.

    `chamfer_mm / 10` is the paper's figure in cm (mean of both directions, not squared). As there, the largest part of
    the mesh is judged whole, against the truth thinned to 5 mm: a perfect mesh scores about 0.1 cm, and surface that it
    has where the camera never looked costs. Source: BundleSDF, Wen et al., CVPR 2023, and its evaluation of HO3D.

    Args:
        predicted: mesh in the tracker's object frame; None is the worst value.
        truth: true mesh.
        T_truth_predicted: (4, 4) that lays the first tracked pose on the true one.
        seen_mask: (SAMPLES,) bool from `seen_surface`; None judges the whole true surface.
    """
    if predicted is None or not len(predicted.faces):
        return ABSENT_SURFACE
    true = truth_samples(truth)
    true = thinned(true if seen_mask is None else true[seen_mask], BUNDLESDF_GRID_M)
    found = sample_surface(predicted.vertices, largest_part(predicted.faces), SAMPLES, seed=1)
    first = np.asarray(T_truth_predicted, np.float64)
    pose = align_surfaces(thinned(found, BUNDLESDF_GRID_M), true, first, trim=1.0, reach_m=BUNDLESDF_REACH_M)
    return compare_surfaces(transform_points(pose, found), true)


def seen_errors(
    predicted: TriangleMesh | None,
    truth: TriangleMesh,
    T_truth_predicted: np.ndarray,
    seen_mask: np.ndarray | None = None,
) -> SurfaceErrors:
    """Object surface as it lies, nothing fitted, where the camera saw the truth.

    What is predicted within a centimetre of surface that was never shown counts neither for nor against: a completed
    mesh is not punished for guessing rightly. Arguments as `bundlesdf_errors`.
    """
    if predicted is None or not len(predicted.faces):
        return ABSENT_SURFACE
    true = truth_samples(truth)
    found = transform_points(T_truth_predicted, sample_surface(predicted.vertices, predicted.faces, SAMPLES, seed=1))
    if seen_mask is None:
        return compare_surfaces(found, true)
    distance, nearest = cKDTree(true).query(found, workers=-1)
    return compare_surfaces(found[seen_mask[nearest] | (distance > UNSEEN_REACH_M)], true[seen_mask])


def thinned(points: np.ndarray, grid_m: float) -> np.ndarray:
    """Means (M, 3) of the points (N, 3) in each cell of a grid."""
    _, cell, count = np.unique(
        np.floor(points / grid_m).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    return np.stack([np.bincount(cell.ravel(), axis, len(count)) for axis in points.T], 1) / count[:, None]


def largest_part(faces: np.ndarray) -> np.ndarray:
    """Those of the triangles (F, 3) that belong to the connected part with the most of them."""
    links = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_matrix((np.ones(len(links), bool), links.T), shape=(faces.max() + 1,) * 2)
    part = connected_components(graph, directed=False)[1][faces[:, 0]]
    return faces[part == np.bincount(part).argmax()]


def truth_samples(truth: TriangleMesh) -> np.ndarray:
    """(SAMPLES, 3) points of a true mesh, the same at every call."""
    return sample_surface(truth.vertices, truth.faces, SAMPLES, seed=2)


def seen_surface(
    truth: TriangleMesh,
    T_camera_object: np.ndarray,
    intrinsics: CameraIntrinsics,
    free_masks: Sequence[np.ndarray] | None = None,
    *,
    most_views: int = 60,
    tolerance_m: float = 0.002,
) -> np.ndarray:
    """Which of `truth_samples` any camera saw, (SAMPLES,) bool.

    A point is seen where the depth of the true mesh, ray cast at the point's pixel, is the point's own depth.

    Args:
        truth: true mesh.
        T_camera_object: (N, 4, 4) true poses.
        intrinsics: the camera.
        free_masks: N of (H, W) bool, pixels where nothing hides the object; None takes all.
        most_views: at most so many frames, spread evenly.
        tolerance_m: difference in depth that still counts as the same surface.
    """
    points, renderer = truth_samples(truth), MeshRenderer(truth)
    seen = np.zeros(len(points), bool)
    for i in np.unique(np.linspace(0, len(T_camera_object) - 1, most_views).astype(int)):
        depth = renderer.render(intrinsics, T_camera_object[i]).depth_m
        if free_masks is not None:
            depth = np.where(free_masks[i], depth, 0)
        camera = transform_points(T_camera_object[i].astype(np.float64), points)
        u, v = np.nan_to_num(np.rint(project(camera, intrinsics)), nan=-1).astype(int).T
        inside = (u >= 0) & (v >= 0) & (u < intrinsics.width) & (v < intrinsics.height)
        there = depth[np.where(inside, v, 0), np.where(inside, u, 0)]
        seen |= inside & (there > 0) & (np.abs(there - camera[:, 2]) < tolerance_m)
    return seen

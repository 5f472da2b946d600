"""Rigid motion, projection and pointmaps on numpy arrays; any leading batch shape, dtype kept. Pure functions."""

from __future__ import annotations

import math

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics


def skew(vectors: np.ndarray) -> np.ndarray:
    """Cross-product matrices (..., 3, 3) of (..., 3) vectors."""
    vectors = np.asarray(vectors)
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    out = np.zeros((*vectors.shape, 3), vectors.dtype)
    out[..., 0, 1], out[..., 0, 2], out[..., 1, 2] = -z, y, -x
    out[..., 1, 0], out[..., 2, 0], out[..., 2, 1] = z, -y, x
    return out


def so3_exp(rotation_vectors: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of (..., 3) axis-angle vectors in radians (Rodrigues)."""
    vectors = np.asarray(rotation_vectors)
    angle2 = np.sum(vectors * vectors, -1)[..., None, None]
    angle = np.sqrt(angle2)
    small = angle < 1e-4
    safe = np.where(small, 1, angle)
    a = np.where(small, 1 - angle2 / 6, np.sin(safe) / safe)
    b = np.where(small, 0.5 - angle2 / 24, (1 - np.cos(safe)) / (safe * safe))
    k = skew(vectors)
    return (np.eye(3, dtype=vectors.dtype) + a * k + b * (k @ k)).astype(vectors.dtype)


def so3_log(rotations: np.ndarray) -> np.ndarray:
    """Axis-angle vectors (..., 3) in radians, angle in [0, pi], of (..., 3, 3) rotation matrices."""
    quaternions = quaternion_from_matrix(rotations)
    xyz, w = quaternions[..., :3], quaternions[..., 3:]
    length = np.linalg.norm(xyz, axis=-1, keepdims=True)
    small = length < 1e-6
    scale = np.where(small, 2, 2 * np.arctan2(length, w) / np.where(small, 1, length))
    return (xyz * scale).astype(np.asarray(rotations).dtype)


def se3_exp(twists: np.ndarray) -> np.ndarray:
    """Rigid motions (..., 4, 4) of (..., 6) twists: translation part in metres first, then rotation in radians."""
    twists = np.asarray(twists)
    rho, phi = twists[..., :3], twists[..., 3:]
    angle2 = np.sum(phi * phi, -1)[..., None, None]
    angle = np.sqrt(angle2)
    small = angle < 1e-3
    safe = np.where(small, 1, angle)
    # (1 - cos a) / a^2 by the half angle: the difference itself loses half of float32's digits at small angles.
    b = np.where(small, 0.5 - angle2 / 24, 2 * (np.sin(safe / 2) / safe) ** 2)
    c = np.where(small, 1 / 6 - angle2 / 120, (safe - np.sin(safe)) / safe**3)
    k = skew(phi)
    left_jacobian = np.eye(3, dtype=twists.dtype) + b * k + c * (k @ k)
    return make_transform(so3_exp(phi), (left_jacobian @ rho[..., None])[..., 0])


def se3_log(transforms: np.ndarray) -> np.ndarray:
    """Twists (..., 6), translation part first, of (..., 4, 4) rigid motions; inverse of `se3_exp`."""
    transforms = np.asarray(transforms)
    phi = so3_log(transforms[..., :3, :3])
    angle2 = np.sum(phi * phi, -1)[..., None, None]
    angle = np.sqrt(angle2)
    small = angle < 1e-3
    safe = np.where(small, 1, angle)
    half = safe / 2
    c = np.where(small, 1 / 12 + angle2 / 720, 1 / safe**2 - np.cos(half) / (2 * safe * np.sin(half)))
    k = skew(phi)
    inverse_jacobian = np.eye(3, dtype=transforms.dtype) - k / 2 + c * (k @ k)
    rho = (inverse_jacobian @ transforms[..., :3, 3, None])[..., 0]
    return np.concatenate([rho, phi], -1).astype(transforms.dtype)


def make_transform(rotations: np.ndarray, translations: np.ndarray) -> np.ndarray:
    """Rigid motions (..., 4, 4) from (..., 3, 3) rotations and (..., 3) translations."""
    rotations, translations = np.asarray(rotations), np.asarray(translations)
    batch = np.broadcast_shapes(rotations.shape[:-2], translations.shape[:-1])
    out = np.zeros((*batch, 4, 4), np.result_type(rotations, translations))
    out[..., :3, :3] = rotations
    out[..., :3, 3] = translations
    out[..., 3, 3] = 1
    return out


def invert_transform(transforms: np.ndarray) -> np.ndarray:
    """Inverse (..., 4, 4) of rigid motions."""
    rotations = np.swapaxes(transforms[..., :3, :3], -1, -2)
    return make_transform(rotations, -(rotations @ transforms[..., :3, 3, None])[..., 0])


def nearest_rigid(transforms: np.ndarray) -> np.ndarray:
    """Rigid motions (..., 4, 4) with the rotation part made orthonormal again, after long products of poses."""
    rotations = matrix_from_quaternion(quaternion_from_matrix(transforms[..., :3, :3]))
    return make_transform(rotations, transforms[..., :3, 3])


def transform_points(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply (..., 4, 4) rigid motions to (..., N, 3) points."""
    rotations = np.swapaxes(transform[..., :3, :3], -1, -2)
    return (points @ rotations + transform[..., None, :3, 3]).astype(points.dtype)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals of a mesh (V, 3), (F, 3), weighted by area; zero where no face has any."""
    corner, (x, y, z) = np.ascontiguousarray(faces.T), np.ascontiguousarray(vertices.T)
    # Axis by axis: several times as fast as on rows of three.
    ((ax, bx), (ay, by), (az, bz)) = ((p[corner[1]] - p[corner[0]], p[corner[2]] - p[corner[0]]) for p in (x, y, z))
    out = np.empty_like(vertices)
    for axis, area in enumerate((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)):
        out[:, axis] = np.bincount(corner.reshape(-1), np.tile(area, 3), len(vertices))
    return out / (np.sqrt(np.einsum("ij,ij->i", out, out))[:, None] + 1e-12)


def rotation_angle(rotations: np.ndarray) -> np.ndarray:
    """Angles (...) in radians of (..., 3, 3) rotation matrices, exact near 0 and pi."""
    return np.linalg.norm(so3_log(rotations), axis=-1)


def quaternion_from_matrix(rotations: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4) as x y z w with w >= 0 of (..., 3, 3) rotation matrices (Shepperd)."""
    r = np.asarray(rotations)
    if r.ndim == 2 and r.dtype == np.float64:
        return _one_quaternion(r)
    trace = np.trace(r, axis1=-2, axis2=-1)
    diagonal = np.diagonal(r, axis1=-2, axis2=-1)
    pivots = np.concatenate([2 * diagonal - trace[..., None], trace[..., None]], -1)
    columns = []
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        column = np.empty((*r.shape[:-2], 4), r.dtype)
        column[..., i] = 1 + pivots[..., i]
        column[..., j] = r[..., i, j] + r[..., j, i]
        column[..., k] = r[..., i, k] + r[..., k, i]
        column[..., 3] = r[..., k, j] - r[..., j, k]
        columns.append(column)
    vector = [r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1], 1 + trace]
    # The last is a scalar for one matrix, which NumPy 1 would widen.
    columns.append(np.stack(vector, -1).astype(r.dtype))
    best = np.argmax(pivots, -1)[..., None, None]
    quaternions = np.take_along_axis(np.stack(columns, -2), best, -2)[..., 0, :]
    quaternions = quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True)
    return np.where(quaternions[..., 3:] < 0, -quaternions, quaternions)


def _one_quaternion(rotation: np.ndarray) -> np.ndarray:
    """The quaternion (4,) of one matrix (3, 3): plain numbers are thirty times faster than arrays of three."""
    r = rotation.tolist()
    diagonal = [r[0][0], r[1][1], r[2][2]]
    trace = sum(diagonal)
    pivots = [2 * value - trace for value in diagonal] + [trace]
    i = max(range(4), key=pivots.__getitem__)
    if i == 3:
        q = [r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1], 1 + trace]
    else:
        j, k = (i + 1) % 3, (i + 2) % 3
        q = [0.0, 0.0, 0.0, r[k][j] - r[j][k]]
        q[i], q[j], q[k] = 1 + pivots[i], r[i][j] + r[j][i], r[i][k] + r[k][i]
    length = math.hypot(*q) * (-1 if q[3] < 0 else 1)
    return np.array([value / length for value in q])


def matrix_from_quaternion(quaternions: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of (..., 4) quaternions x y z w, normalised first."""
    q = np.asarray(quaternions)
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    k = skew(q[..., :3])
    return np.eye(3, dtype=q.dtype) + 2 * q[..., 3, None, None] * k + 2 * (k @ k)


def project(points_camera: np.ndarray, intrinsics: CameraIntrinsics) -> np.ndarray:
    """Pixels (..., 2) of (..., 3) points in the optical frame; NaN for points not in front of the camera."""
    z = points_camera[..., 2:]
    z = np.where(z > 1e-6, z, np.nan)
    focal = np.array([intrinsics.fx, intrinsics.fy], points_camera.dtype)
    center = np.array([intrinsics.cx, intrinsics.cy], points_camera.dtype)
    return points_camera[..., :2] / z * focal + center


def unproject(pixels: np.ndarray, depth_m: np.ndarray, intrinsics: CameraIntrinsics) -> np.ndarray:
    """Points (..., 3) in the optical frame of (..., 2) pixels at (...) metres depth; inverse of `project`."""
    depth_m = np.asarray(depth_m)
    x = (pixels[..., 0] - intrinsics.cx) / intrinsics.fx * depth_m
    y = (pixels[..., 1] - intrinsics.cy) / intrinsics.fy * depth_m
    return np.stack([x, y, depth_m], -1)


def pointmap_from_depth(
    depth_m: np.ndarray, intrinsics: CameraIntrinsics, origin_px: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Pointmap (H, W, 3) float32 in the optical frame of a depth image (H, W); zeros where depth is unknown.

    `origin_px` is the x, y of the image's first pixel, for a depth image cut out of a larger one.
    """
    height, width = depth_m.shape
    x = ((np.arange(width, dtype=np.float32) + (origin_px[0] - intrinsics.cx)) / intrinsics.fx).astype(np.float32)
    y = ((np.arange(height, dtype=np.float32) + (origin_px[1] - intrinsics.cy)) / intrinsics.fy).astype(np.float32)
    out = np.empty((height, width, 3), np.float32)
    np.multiply(x[None], depth_m, out=out[..., 0])
    np.multiply(y[:, None], depth_m, out=out[..., 1])
    out[..., 2] = depth_m
    return out


def fit_similarity(
    source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None, *, with_scale: bool = True
) -> tuple[float, np.ndarray, np.ndarray]:
    """Least-squares similarity target = s R source + t, never a reflection.

    Source: Umeyama, PAMI 1991.

    Args:
        source: (N, 3).
        target: (N, 3), row i corresponds to source row i.
        weights: (N,) non-negative; None weighs all alike.
        with_scale: False fixes s = 1.

    Returns:
        s, R (3, 3), t (3,).

    Raises:
        ValueError: shapes differ, fewer than 3 rows, or all source points coincide.
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3:
        raise ValueError(f"fit_similarity: shapes {source.shape} and {target.shape}, expected (N, 3) twice")
    w = np.ones(len(source)) if weights is None else np.asarray(weights, np.float64)
    if (w > 0).sum() < 3:
        raise ValueError("fit_similarity: fewer than 3 points with weight")
    w = w / w.sum()
    mean_source, mean_target = w @ source, w @ target
    a, b = source - mean_source, target - mean_target
    variance = float(w @ (a * a).sum(1))
    if variance < 1e-18:
        raise ValueError("fit_similarity: all source points coincide")
    u, singular, vt = np.linalg.svd((b * w[:, None]).T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / variance) if with_scale else 1.0
    return scale, rotation, mean_target - scale * rotation @ mean_source

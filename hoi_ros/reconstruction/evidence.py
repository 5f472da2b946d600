"""What each pixel of a frame says about the object: surface here, free space up to there, or nothing."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.geometry import pointmap_from_depth

_POOL = 8


@dataclass(frozen=True)
class PixelEvidence:
    """A rectangle of pixels, one row each, on the device that fuses them."""

    rows: torch.Tensor
    """(P, 8) float32: depth m (0 says nothing), surface weight, pixels to the nearest edge, gap in metres beyond which
    the space in front is free, cosine between ray and surface normal, R, G, B."""
    depth: torch.Tensor
    """(P,) float32: column 0 of rows, contiguous."""
    surface_points_camera: np.ndarray
    """(N, 3) metres, optical frame: a sparse subset of the surface pixels."""
    origin_px: tuple[int, int]
    size_px: tuple[int, int]
    intrinsics: CameraIntrinsics
    free_weight: float
    pooled_depth: np.ndarray
    """Largest depth of each 8x8 tile."""

    def farthest_near(self, u: np.ndarray, v: np.ndarray, reach_px: float) -> np.ndarray:
        """Largest depth within `reach_px` of pixels (N,), or more; metres."""
        size = 2 * int(np.ceil(reach_px / _POOL)) + 1
        pooled = cv2.dilate(self.pooled_depth, np.ones((size, size), np.uint8))
        row = np.clip(v / _POOL, 0, pooled.shape[0] - 1).astype(np.int64)
        column = np.clip(u / _POOL, 0, pooled.shape[1] - 1).astype(np.int64)
        return pooled[row, column]


@dataclass(frozen=True)
class EvidenceModel:
    """How pixels are weighed."""

    edge_px: float
    hand_margin_px: int
    depth_jump_m: float
    min_depth_m: float
    max_depth_m: float
    free_margin_m: float
    free_weight: float
    noise_per_m2: float


def gather_evidence(
    color: np.ndarray,
    depth_m: np.ndarray,
    object_mask: np.ndarray,
    hand_mask: np.ndarray | None,
    intrinsics: CameraIntrinsics,
    roi: tuple[int, int, int, int],
    model: EvidenceModel,
    device: torch.device,
) -> PixelEvidence:
    """Weigh the pixels of a frame's rectangle.

    Object pixels speak for a surface, weighed by viewing angle, distance and nearness to an edge; every pixel with
    depth that is no hand says that the space before it is free; hands, unknown depth and depth edges say nothing.

    Args:
        color: (H, W, 3) uint8 RGB.
        depth_m: (H, W) metres; NaN, 0 and out-of-range are unknown.
        object_mask: (H, W) bool, without the hand.
        hand_mask: (H, W) bool or None.
        intrinsics: of both images.
        roi: x0, y0, x1, y1 pixels, end exclusive, inside the image.
        model: weights and margins.
        device: where the rows go.
    """
    x0, y0, x1, y1 = roi
    cut = np.s_[y0:y1, x0:x1]
    depth = depth_m[cut].astype(np.float32)
    known = (depth > model.min_depth_m) & (depth < model.max_depth_m)
    depth = np.where(known, depth, np.float32(0))
    hand = np.zeros(depth.shape, bool)
    if hand_mask is not None:
        size = 2 * model.hand_margin_px + 1
        hand = cv2.dilate(hand_mask[cut].astype(np.uint8), np.ones((size, size), np.uint8)) > 0
    open_mask = known & ~hand & ~_edges(depth, model)
    surface = object_mask[cut] & open_mask
    free = open_mask & ~object_mask[cut]
    to_edge = np.where(surface, _distance_to_edge(surface), _distance_to_edge(free))
    cosine = _viewing_cosine(depth, surface, intrinsics, (x0, y0))
    weight = surface * np.minimum(to_edge / model.edge_px, 1) * cosine
    weight *= 1 / (1 + (model.noise_per_m2 * depth * depth / 0.0015) ** 2)

    rows = np.empty((*depth.shape, 8), np.float32)
    rows[..., 0] = np.where(open_mask, depth, 0)
    rows[..., 1] = weight
    rows[..., 2] = to_edge
    rows[..., 3] = model.free_margin_m + 3 * model.noise_per_m2 * depth * depth
    rows[..., 4] = cosine
    rows[..., 5:] = color[cut]
    points = pointmap_from_depth(depth[::3, ::3], _every_third(intrinsics, x0, y0))[surface[::3, ::3]]
    return PixelEvidence(
        rows=torch.from_numpy(rows.reshape(-1, 8)).to(device),
        depth=torch.from_numpy(rows[..., 0].reshape(-1)).to(device),
        surface_points_camera=points,
        origin_px=(x0, y0),
        size_px=(x1 - x0, y1 - y0),
        intrinsics=intrinsics,
        free_weight=model.free_weight,
        pooled_depth=_pool(rows[..., 0]),
    )


def _edges(depth: np.ndarray, model: EvidenceModel) -> np.ndarray:
    """Pixels beside a depth discontinuity; unknown neighbours count as none."""
    kernel = np.ones((3, 3), np.uint8)
    nearest = cv2.erode(np.where(depth > 0, depth, np.float32(1e3)), kernel)
    return cv2.dilate(depth, kernel) - nearest > model.depth_jump_m * np.maximum(1, depth)


def _distance_to_edge(mask: np.ndarray) -> np.ndarray:
    """Pixels (h, w) float32 from each True to the nearest False; the picture's border is no edge."""
    if mask.all():
        return np.full(mask.shape, 1e3, np.float32)
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)


def _viewing_cosine(
    depth: np.ndarray, surface: np.ndarray, intrinsics: CameraIntrinsics, origin_px: tuple[int, int]
) -> np.ndarray:
    """Cosine (h, w) between each pixel's ray and the surface normal.

    N = (fx z_u, fy z_v, z + (u - cx) z_u + (v - cy) z_v) is normal to the surface z(u, v), and N . ray = z.
    """
    share = cv2.blur(surface.astype(np.float32), (5, 5))
    smooth = cv2.blur(depth * surface, (5, 5)) / np.maximum(share, 1e-6)
    solid = share > 0.3
    du, dv = np.zeros_like(depth), np.zeros_like(depth)
    du[:, 2:-2] = (smooth[:, 4:] - smooth[:, :-4]) / 4 * (solid[:, 4:] & solid[:, :-4])
    dv[2:-2] = (smooth[4:] - smooth[:-4]) / 4 * (solid[4:] & solid[:-4])
    x = (np.arange(depth.shape[1]) + (origin_px[0] - intrinsics.cx)).astype(np.float32)
    y = (np.arange(depth.shape[0]) + (origin_px[1] - intrinsics.cy)).astype(np.float32)[:, None]
    normal_z = depth + x * du + y * dv
    length = np.sqrt((intrinsics.fx * du) ** 2 + (intrinsics.fy * dv) ** 2 + normal_z**2)
    ray = np.sqrt(1 + (x / intrinsics.fx) ** 2 + (y / intrinsics.fy) ** 2)
    return np.clip(depth / np.maximum(length * ray, 1e-6), 0.2, 1)


def _every_third(intrinsics: CameraIntrinsics, x0: int, y0: int) -> CameraIntrinsics:
    """The camera of every third pixel from (x0, y0)."""
    k = intrinsics
    return CameraIntrinsics(k.width, k.height, k.fx / 3, k.fy / 3, (k.cx - x0) / 3, (k.cy - y0) / 3)


def _pool(depth: np.ndarray) -> np.ndarray:
    """Largest depth of each tile of 8x8 pixels."""
    height, width = (-(-n // _POOL) * _POOL for n in depth.shape)
    padded = np.zeros((height, width), np.float32)
    padded[: depth.shape[0], : depth.shape[1]] = depth
    return padded.reshape(height // _POOL, _POOL, width).max(1).reshape(height // _POOL, -1, _POOL).max(2)

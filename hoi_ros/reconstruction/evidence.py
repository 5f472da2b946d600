"""What each pixel of a frame says about the object: surface here, free space up to there, or nothing."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.geometry import pointmap_from_depth

_POOL = 8
NOTHING = -1e3
"""Depth of a pixel that says nothing: before all that is."""


@dataclass(frozen=True)
class EvidenceModel:
    """How pixels are weighed."""

    edge_px: float
    hand_margin_px: int
    depth_jump_m: float
    min_depth_m: float
    max_depth_m: float
    free_margin_m: float
    noise_per_m2: float


@dataclass(frozen=True)
class PixelEvidence:
    """A rectangle of pixels, flat, on the device that fuses them; those of its rim say nothing."""

    depth: torch.Tensor
    """(P,) float32 metres, NOTHING where the pixel says nothing."""
    rows: torch.Tensor
    """(P, 3) float32: surface weight (0: free space up to what is seen), pixels to the nearest edge, cosine between ray
    and surface normal."""
    color: torch.Tensor
    """(P, 3) uint8 RGB."""
    surface_points_camera: np.ndarray
    """(N, 3) metres, optical frame: a sparse subset of the surface pixels."""
    origin_px: tuple[int, int]
    size_px: tuple[int, int]
    intrinsics: CameraIntrinsics
    model: EvidenceModel
    pooled_depth: np.ndarray
    """Largest depth of each 8x8 tile."""

    def farthest_near(self, u: np.ndarray, v: np.ndarray, reach_px: float) -> np.ndarray:
        """Largest depth within `reach_px` of pixels (N,), or more; metres."""
        size = 2 * int(np.ceil(reach_px / _POOL)) + 1
        pooled = cv2.dilate(self.pooled_depth, np.ones((size, size), np.uint8))
        row = np.clip(v / _POOL, 0, pooled.shape[0] - 1).astype(np.int64)
        column = np.clip(u / _POOL, 0, pooled.shape[1] - 1).astype(np.int64)
        return pooled[row, column]


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
    open_mask[[0, -1]], open_mask[:, [0, -1]] = False, False
    surface = object_mask[cut] & open_mask
    to_edge = _distance_to_edge(surface, open_mask & ~surface)
    cosine = _viewing_cosine(depth, surface, intrinsics, (x0, y0))
    weight = np.minimum(to_edge / model.edge_px, 1) * cosine
    weight /= 1 + (model.noise_per_m2 / 0.0015 * depth * depth) ** 2
    weight[~surface] = 0
    said = np.where(open_mask, depth, np.float32(NOTHING))
    rows = cv2.merge([weight, to_edge, cosine])
    points = pointmap_from_depth(depth[::3, ::3], _every_third(intrinsics, x0, y0))[surface[::3, ::3]]
    return PixelEvidence(
        depth=torch.from_numpy(said.reshape(-1)).to(device),
        rows=torch.from_numpy(rows.reshape(-1, 3)).to(device),
        color=torch.from_numpy(np.ascontiguousarray(color[cut]).reshape(-1, 3)).to(device),
        surface_points_camera=points,
        origin_px=(x0, y0),
        size_px=(x1 - x0, y1 - y0),
        intrinsics=intrinsics,
        model=model,
        pooled_depth=_pool(said),
    )


def _edges(depth: np.ndarray, model: EvidenceModel) -> np.ndarray:
    """Pixels beside a depth discontinuity; unknown neighbours count as none."""
    kernel = np.ones((3, 3), np.uint8)
    nearest = cv2.erode(np.where(depth > 0, depth, np.float32(1e3)), kernel)
    return cv2.dilate(depth, kernel) - nearest > model.depth_jump_m * np.maximum(1, depth)


def _distance_to_edge(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pixels (h, w) float32 from each pixel of two masks that share none to where its own mask ends, else 0."""
    kernel = np.ones((3, 3), np.uint8)
    inner = np.maximum(*(cv2.erode(mask.astype(np.uint8), kernel) for mask in (first, second)))
    return np.asarray(cv2.distanceTransform(inner, cv2.DIST_L2, 3) + (first | second))


def _viewing_cosine(
    depth: np.ndarray, surface: np.ndarray, intrinsics: CameraIntrinsics, origin_px: tuple[int, int]
) -> np.ndarray:
    """Cosine (h, w) between each pixel's ray and the surface normal, from every second pixel.

    N = (fx z_u, fy z_v, z + (u - cx) z_u + (v - cy) z_v) is normal to the surface z(u, v), and N . ray = z.
    """
    height, width = depth.shape
    small, solid = depth[::2, ::2], surface[::2, ::2]
    share = cv2.blur(solid.astype(np.float32), (3, 3))
    smooth = cv2.blur(small * solid, (3, 3)) / np.maximum(share, 1e-6)
    solid = share > 0.3
    du, dv = np.zeros_like(small), np.zeros_like(small)
    du[:, 1:-1] = (smooth[:, 2:] - smooth[:, :-2]) / 4 * (solid[:, 2:] & solid[:, :-2])
    dv[1:-1] = (smooth[2:] - smooth[:-2]) / 4 * (solid[2:] & solid[:-2])
    x = (np.arange(0, width, 2) + (origin_px[0] - intrinsics.cx)).astype(np.float32)
    y = (np.arange(0, height, 2) + (origin_px[1] - intrinsics.cy)).astype(np.float32)[:, None]
    normal_z = small + x * du + y * dv
    length = np.sqrt((intrinsics.fx * du) ** 2 + (intrinsics.fy * dv) ** 2 + normal_z**2)
    ray = np.sqrt(1 + (x / intrinsics.fx) ** 2 + (y / intrinsics.fy) ** 2)
    cosine = np.clip(small / np.maximum(length * ray, 1e-6), 0.2, 1)
    return np.repeat(np.repeat(cosine, 2, 0), 2, 1)[:height, :width]


def _every_third(intrinsics: CameraIntrinsics, x0: int, y0: int) -> CameraIntrinsics:
    """The camera of every third pixel from (x0, y0)."""
    k = intrinsics
    return CameraIntrinsics(k.width, k.height, k.fx / 3, k.fy / 3, (k.cx - x0) / 3, (k.cy - y0) / 3)


def _pool(depth: np.ndarray) -> np.ndarray:
    """Largest depth of each tile of 8x8 pixels."""
    height, width = (-(-n // _POOL) * _POOL for n in depth.shape)
    padded = np.full((height, width), np.float32(NOTHING))
    padded[: depth.shape[0], : depth.shape[1]] = depth
    return padded.reshape(height // _POOL, _POOL, width).max(1).reshape(height // _POOL, -1, _POOL).max(2)

"""The part of a frame that the tracker works on: points, normals and depth edges of a crop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.geometry import pointmap_from_depth
from hoi_ros.tracking.likeness import color_bins

NEAR_M, FAR_M = 0.1, 4.0


def depth_noise_m(depth_m: np.ndarray) -> np.ndarray:
    """One standard deviation of a consumer depth sensor at a distance, metres in and out."""
    return np.float32(0.001) + np.float32(0.002) * depth_m * depth_m


@dataclass(frozen=True)
class Patch:
    """A crop of a frame on its own pixel grid; `intrinsics` are the crop's."""

    x0: int
    y0: int
    stride: int
    """Frame pixels per patch pixel; patch pixel (u, v) is frame pixel (x0 + stride u, y0 + stride v)."""
    intrinsics: CameraIntrinsics
    color: np.ndarray
    """(h, w, 3) uint8 RGB."""
    depth_m: np.ndarray
    """(h, w) float32, 0 unknown."""
    points: np.ndarray
    """(h, w, 3) float32 metres, optical frame."""
    normals: np.ndarray
    """(h, w, 3) float32 unit, towards the camera; zeros where unknown."""
    edge_mask: np.ndarray
    """(h, w) bool: beside a jump in depth, where sensors invent points."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the patch."""
        return self.depth_m.shape  # type: ignore[return-value]

    @cached_property
    def color_bins(self) -> np.ndarray:
        """(h, w) bin of each pixel's colour, see `likeness`."""
        return color_bins(self.color)

    def pixel_size_m(self, depth_m: float) -> float:
        """Width of a patch pixel on a surface facing the camera at this depth."""
        return depth_m / self.intrinsics.fx

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The patch's part of a full frame image (H, W, ...)."""
        height, width = self.shape
        end_y, end_x = self.y0 + height * self.stride, self.x0 + width * self.stride
        return image[self.y0 : end_y : self.stride, self.x0 : end_x : self.stride]

    def paste(self, mask: np.ndarray, frame_shape: tuple[int, int]) -> np.ndarray:
        """Full frame mask (H, W) bool of a patch mask (h, w) bool."""
        out = np.zeros(frame_shape, bool)
        full = np.repeat(np.repeat(mask, self.stride, 0), self.stride, 1) if self.stride > 1 else mask
        target = out[self.y0 : self.y0 + full.shape[0], self.x0 : self.x0 + full.shape[1]]
        target[:] = full[: target.shape[0], : target.shape[1]]
        return out


def clean_depth(frame: RgbdFrame) -> np.ndarray:
    """Depth (H, W) float32 metres with everything that cannot be a measurement set to 0."""
    depth = np.asarray(frame.depth_m, np.float32)
    return np.where((depth > NEAR_M) & (depth < FAR_M), depth, np.float32(0))  # NaN compares false


def cut_patch(frame: RgbdFrame, depth_m: np.ndarray, box_px: np.ndarray, max_pixels: int) -> Patch | None:
    """Cut a box out of a frame; a box above `max_pixels` is thinned.

    Args:
        frame: colour and camera.
        depth_m: (H, W) float32 cleaned depth of the frame.
        box_px: (4,) x0 y0 x1 y1 in pixels; clipped to the image.
        max_pixels: most pixels of the result, about.

    Returns:
        The patch, or None when fewer than 16 pixels a side lie in the image.
    """
    height, width = depth_m.shape
    x0, y0 = (max(0, int(np.floor(value))) for value in box_px[:2])
    x1, y1 = min(width, int(np.ceil(box_px[2])) + 1), min(height, int(np.ceil(box_px[3])) + 1)
    if x1 - x0 < 16 or y1 - y0 < 16:
        return None
    stride = max(1, int(np.ceil(np.sqrt((x1 - x0) * (y1 - y0) / max_pixels))))
    x1, y1 = x0 + (x1 - x0) // stride * stride, y0 + (y1 - y0) // stride * stride
    color, depth = frame.color[y0:y1, x0:x1], depth_m[y0:y1, x0:x1]
    if stride > 1:
        color = cv2.GaussianBlur(color, (0, 0), 0.4 * stride)[::stride, ::stride]
        depth = depth[::stride, ::stride]
    k = frame.intrinsics
    camera = CameraIntrinsics(
        depth.shape[1], depth.shape[0], k.fx / stride, k.fy / stride, (k.cx - x0) / stride, (k.cy - y0) / stride
    )
    depth = np.ascontiguousarray(depth)
    smooth = smooth_depth(depth)
    edges = depth_edges(depth, camera.fx)
    points = pointmap_from_depth(smooth, camera)
    normals = surface_normals(points, edges)
    return Patch(x0, y0, stride, camera, np.ascontiguousarray(color), smooth, points, normals, edges)


def thin_patch(patch: Patch, mask: np.ndarray) -> Patch:
    """The same patch with the depth outside a mask (h, w) removed."""
    return replace(patch, depth_m=np.where(mask, patch.depth_m, np.float32(0)))


def smooth_depth(depth_m: np.ndarray) -> np.ndarray:
    """Bilateral smoothing (H, W) float32 that keeps jumps and unknown pixels."""
    smooth = cv2.bilateralFilter(depth_m, 5, 0.012, 1.6)
    return np.where(depth_m > 0, smooth, np.float32(0))


def depth_edges(depth_m: np.ndarray, focal_px: float) -> np.ndarray:
    """(H, W) bool: pixels whose 3x3 neighbourhood spans a jump in depth or a hole."""
    kernel = np.ones((3, 3), np.uint8)
    far = np.where(depth_m > 0, depth_m, np.float32(2 * FAR_M))
    low = cv2.erode(far, kernel)
    high = cv2.dilate(depth_m, kernel)
    # Two pixels of a surface seen at 75 degrees, and the sensor's own noise, are no jump.
    allowed = 2 * 3.7 * depth_m / focal_px + 3 * depth_noise_m(depth_m)
    return (high - low > allowed) | (depth_m <= 0)


def surface_normals(points: np.ndarray, edge_mask: np.ndarray, reach_px: int = 2) -> np.ndarray:
    """Unit normals (h, w, 3) towards the camera from central differences of a pointmap; zeros where unknown."""
    height, width = edge_mask.shape
    out = np.zeros_like(points)
    k = reach_px
    if height <= 2 * k or width <= 2 * k:
        return out
    planes = cv2.split(points)  # thrice as fast as the strided channels
    rx, ry, rz = (plane[k:-k, 2 * k :] - plane[k:-k, : -2 * k] for plane in planes)
    dx, dy, dz = (plane[2 * k :, k:-k] - plane[: -2 * k, k:-k] for plane in planes)
    unknown = planes[2] <= 0
    bad = edge_mask[k:-k, k:-k] | unknown[k:-k, 2 * k :] | unknown[k:-k, : -2 * k]
    bad |= unknown[2 * k :, k:-k] | unknown[: -2 * k, k:-k]
    good = (~bad).astype(np.float32)
    cross = (dy * rz - dz * ry, dz * rx - dx * rz, dx * ry - dy * rx)
    nx, ny, nz = (cv2.blur(plane * good, (5, 5)) for plane in cross)
    length = np.sqrt(nx * nx + ny * ny + nz * nz)
    good[length < 1e-12] = 0
    scale = good / np.maximum(length, 1e-12)
    out[k:-k, k:-k] = cv2.merge([nx * scale, ny * scale, nz * scale])
    return out

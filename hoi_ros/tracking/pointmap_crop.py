"""Square pictures of what is held, as a camera that looks straight at it would take them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.errors import InputError


@dataclass(frozen=True)
class CropCamera:
    """A virtual camera at the real one's centre, turned to the middle of a box; its principal point is its middle."""

    R_camera_crop: np.ndarray
    """(3, 3) turns crop directions into the optical frame."""
    focal_px: float
    """Focal length in pixels of the crop."""
    size_px: int
    """Side of the square crop."""
    intrinsics: CameraIntrinsics
    """The real camera."""

    @property
    def half_tangent(self) -> float:
        """Tangent of half the field of view: half a crop side at depth 1."""
        return self.size_px / 2 / self.focal_px

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) intrinsics of the crop."""
        middle = (self.size_px - 1) / 2
        return np.array([[self.focal_px, 0, middle], [0, self.focal_px, middle], [0, 0, 1]])

    def grid(self) -> np.ndarray:
        """(S, S, 2) float32 place of every pixel from the crop's middle in half sides, -1 to 1."""
        axis = (np.arange(self.size_px, dtype=np.float32) - (self.size_px - 1) / 2) / (self.size_px / 2)
        return np.stack(np.meshgrid(axis, axis), -1)

    def cut(self, image: np.ndarray, *, nearest: bool = False, fill: float | tuple[float, ...] = 0) -> np.ndarray:
        """The crop (S, S[, C]) of an image (H, W[, C]); pixels beyond the image take `fill`.

        Args:
            image: the real camera's picture, mask or map.
            nearest: no interpolation, for labels and depth.
            fill: value outside.
        """
        to_image = self.intrinsics.matrix @ self.R_camera_crop @ np.linalg.inv(self.matrix)
        shrink = self.intrinsics.fx / self.focal_px
        if not nearest and shrink > 1.5:
            image = cv2.GaussianBlur(image, (0, 0), 0.4 * shrink)
        size = (self.size_px, self.size_px)
        method = (cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
        border = tuple(fill) if isinstance(fill, tuple) else (fill,) * 4
        return cv2.warpPerspective(image, to_image, size, flags=method, borderValue=border)

    def paste(self, crop: np.ndarray, *, nearest: bool = True) -> np.ndarray:
        """Map (S, S) of the crop back into the real camera's image (H, W), nearest pixel; 0 outside.

        With `nearest` False pixels are interpolated, and those outside take the rim's value.
        """
        to_image = self.intrinsics.matrix @ self.R_camera_crop @ np.linalg.inv(self.matrix)
        size = (self.intrinsics.width, self.intrinsics.height)
        if nearest:
            return cv2.warpPerspective(crop, to_image, size, flags=cv2.INTER_NEAREST)
        return cv2.warpPerspective(crop, to_image, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def camera_points(self, points_crop: np.ndarray) -> np.ndarray:
        """Points (..., 3) of the crop's frame in the optical frame."""
        return points_crop @ self.R_camera_crop.T

    def crop_points(self, points_camera: np.ndarray) -> np.ndarray:
        """Points (..., 3) of the optical frame in the crop's frame."""
        return points_camera @ self.R_camera_crop

    def depth_along_crop(self, depth_m: np.ndarray) -> np.ndarray:
        """Depth (S, S) along the crop's axis from depth along the real camera's axis cut to the crop."""
        axis = self.R_camera_crop[2].astype(np.float32)
        grid = self.grid() * np.float32(self.half_tangent)
        return depth_m / (grid @ axis[:2] + axis[2])

    def pointmap(self, depth_crop_m: np.ndarray) -> np.ndarray:
        """(S, S, 3) points in the crop's frame of depth (S, S) along its axis."""
        rays = self.grid() * np.float32(self.half_tangent)
        return np.concatenate([rays * depth_crop_m[..., None], depth_crop_m[..., None]], -1)


def look_at_box(
    box_px: np.ndarray, intrinsics: CameraIntrinsics, size_px: int, *, margin: float = 1.15, roll_rad: float = 0.0
) -> CropCamera:
    """Turn a virtual camera to the middle of a box so that the box fits.

    Args:
        box_px: (4,) x0 y0 x1 y1 in the image; may reach beyond it.
        intrinsics: the real camera.
        size_px: side of the crop.
        margin: how much larger than the box the view is.
        roll_rad: turn of the crop about its axis.

    Raises:
        InputError: the box is empty or not finite.
    """
    x0, y0, x1, y1 = (float(v) for v in box_px)
    if not np.isfinite([x0, y0, x1, y1]).all() or x1 <= x0 or y1 <= y0:
        raise InputError(f"crop box {x0:.1f} {y0:.1f} {x1:.1f} {y1:.1f} is empty: give x0 < x1 and y0 < y1 in pixels")
    inverse = np.linalg.inv(intrinsics.matrix)
    forward = inverse @ np.array([(x0 + x1) / 2, (y0 + y1) / 2, 1.0])
    forward /= np.linalg.norm(forward)
    right = np.array([np.cos(roll_rad), np.sin(roll_rad), 0.0])
    right -= forward * (right @ forward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward], 1)
    corners = np.array([[x, y, 1.0] for x in (x0, x1) for y in (y0, y1)]) @ inverse.T @ rotation
    reach = float(np.abs(corners[:, :2] / corners[:, 2:]).max()) * margin
    return CropCamera(rotation, size_px / 2 / reach, size_px, intrinsics)


def hide_background(picture: np.ndarray, keep_mask: np.ndarray) -> np.ndarray:
    """The picture (S, S, 3) with mid grey wherever `keep_mask` (S, S) is false: what the network takes for nothing."""
    return np.where(keep_mask[..., None], picture, np.uint8(128))

"""The room behind: a textured table and a blurred wall with shelves, both planes, so depth is exact everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.geometry import invert_transform
from hoi_ros.simulation.prints import fractal_noise

TABLE_SIZE_M = 2.4
WALL_SIZE_M = (6.0, 3.2)


@dataclass(frozen=True)
class Plane:
    """A textured rectangle."""

    T_world_plane: np.ndarray
    """(4, 4): x right and y down in the picture, z its normal, origin at the picture's first pixel."""
    size_m: tuple[float, float]
    picture: np.ndarray
    """(H, W, 3) uint8."""

    def pixel_to_camera(self, T_camera_world: np.ndarray) -> np.ndarray:
        """(3, 3) from homogeneous picture pixels to camera rays scaled by depth."""
        T = T_camera_world @ self.T_world_plane
        height, width = self.picture.shape[:2]
        scale = np.diag([self.size_m[0] / width, self.size_m[1] / height, 1])
        return T[:3, [0, 1, 3]] @ scale


class Room:
    """World frame: z up, table top at z = 0, the camera looks roughly along +y."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 77])
        table = _wood(rng) if rng.random() < 0.65 else _cloth(rng)
        wall = _wall(rng)
        flat = np.eye(4)
        flat[:3, :3] = np.array([[1, 0, 0], [0, -1, 0], [0, 0, -1]]).T
        flat[:3, 3] = [-TABLE_SIZE_M / 2, 1.15, 0]
        upright = np.eye(4)
        upright[:3, :3] = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]).T
        upright[:3, 3] = [-WALL_SIZE_M[0] / 2, 1.9, 1.9]
        self.table = Plane(flat, (TABLE_SIZE_M, TABLE_SIZE_M), table)
        self.wall = Plane(upright, WALL_SIZE_M, wall)

    def render(self, T_world_camera: np.ndarray, intrinsics: CameraIntrinsics) -> tuple[np.ndarray, np.ndarray]:
        """Colour (H, W, 3) uint8 and exact depth (H, W) float32 of the empty room."""
        T_camera_world = invert_transform(T_world_camera)
        size = (intrinsics.width, intrinsics.height)
        wall_color = self._warp(self.wall, T_camera_world, intrinsics, cv2.BORDER_REPLICATE)
        wall_depth = _plane_depth(self.wall, T_camera_world, intrinsics)
        table_color = self._warp(self.table, T_camera_world, intrinsics, cv2.BORDER_REPLICATE)
        table_depth, inside = _plane_depth(self.table, T_camera_world, intrinsics), None
        inside = self._inside(self.table, T_camera_world, intrinsics) & (table_depth > 0)
        inside &= (table_depth < wall_depth) | (wall_depth <= 0)
        wall_color = cv2.GaussianBlur(wall_color, (0, 0), 1.6 * size[0] / 640)
        soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 0.7)[..., None]
        color = table_color * soft + wall_color * (1 - soft)
        depth = np.where(inside, table_depth, np.maximum(wall_depth, 0))
        return color.astype(np.uint8), depth.astype(np.float32)

    @staticmethod
    def _warp(plane: Plane, T_camera_world: np.ndarray, intrinsics: CameraIntrinsics, border: int) -> np.ndarray:
        H = intrinsics.matrix @ plane.pixel_to_camera(T_camera_world)
        return cv2.warpPerspective(
            plane.picture, H, (intrinsics.width, intrinsics.height), flags=cv2.INTER_LINEAR, borderMode=border
        )

    @staticmethod
    def _inside(plane: Plane, T_camera_world: np.ndarray, intrinsics: CameraIntrinsics) -> np.ndarray:
        back = np.linalg.inv(intrinsics.matrix @ plane.pixel_to_camera(T_camera_world))
        x, y = np.meshgrid(np.arange(intrinsics.width), np.arange(intrinsics.height))
        p = back @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
        p = p[:2] / np.where(np.abs(p[2]) < 1e-12, 1e-12, p[2])
        height, width = plane.picture.shape[:2]
        return ((p[0] >= 0) & (p[0] < width) & (p[1] >= 0) & (p[1] < height)).reshape(x.shape)


def _plane_depth(plane: Plane, T_camera_world: np.ndarray, intrinsics: CameraIntrinsics) -> np.ndarray:
    T = T_camera_world @ plane.T_world_plane
    normal, point = T[:3, 2], T[:3, 3]
    x = (np.arange(intrinsics.width) - intrinsics.cx) / intrinsics.fx
    y = (np.arange(intrinsics.height) - intrinsics.cy) / intrinsics.fy
    slope = normal[0] * x[None] + normal[1] * y[:, None] + normal[2]
    with np.errstate(divide="ignore"):
        depth = (normal @ point) / slope
    return np.where(np.isfinite(depth) & (depth > 0), depth, 0)


def _wood(rng: np.random.Generator) -> np.ndarray:
    size = 2048
    warp = cv2.resize(fractal_noise(rng, size // 2, size // 2, base=3), (size, size))
    fine = cv2.resize(rng.standard_normal((size, size // 32), dtype=np.float32), (size, size))
    rows = np.arange(size, dtype=np.float32)[:, None]
    grain = cv2.GaussianBlur(fine, (41, 1), 12) * np.float32(0.35)
    grain += _sine(rows / np.float32(26) + warp * np.float32(1.7), 0.5)
    grain += _sine(rows / np.float32(7) + warp * np.float32(3), 0.2)
    tone = np.array([[196, 152, 104], [150, 104, 66], [218, 190, 150], [120, 84, 60]][rng.integers(4)], np.float32)
    board = (np.arange(size) // 256)[:, None]
    shade = rng.uniform(0.93, 1.06, 16)[board % 16]
    shade = np.where((np.arange(size) % 256 < 3)[:, None], 0.7, shade).astype(np.float32)
    grain *= 0.075 * shade
    grain += shade
    return _tinted(grain, tone)


def _sine(phase: np.ndarray, size: float) -> np.ndarray:
    """size * sin(phase), float32, by OpenCV: several times faster than NumPy's."""
    wave = cv2.polarToCart(np.full(phase.shape, size, np.float32), phase.astype(np.float32))[1]
    return np.asarray(wave)


def _tinted(strength: np.ndarray, tone: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of a colour (3,) times (H, W) float32."""
    return cv2.merge([cv2.convertScaleAbs(strength, alpha=float(c)) for c in tone])


def _cloth(rng: np.random.Generator) -> np.ndarray:
    size = 2048
    tone = np.array([[196, 200, 204], [92, 110, 132], [150, 70, 64], [214, 206, 188]][rng.integers(4)], np.float32)
    thread = (0.04 * np.sin(np.arange(size) * 1.1)).astype(np.float32)
    soft = cv2.resize(fractal_noise(rng, size // 2, size // 2, base=5), (size, size))
    picture = _tinted(1 + thread[:, None] + thread[None] + np.float32(0.05) * soft, tone)
    for _ in range(5):
        at, wide = int(rng.integers(0, size)), int(rng.integers(6, 40))
        band = tone * rng.uniform(0.6, 1.25)
        for stripe in (picture[at : at + wide], picture[:, at : at + wide]):
            stripe[:] = np.clip(0.5 * stripe + 0.5 * band, 0, 255).astype(np.uint8)
    return picture


def _wall(rng: np.random.Generator) -> np.ndarray:
    """A living-room wall out of focus: paint, window or picture, shelves with books, plant, lamp."""
    width, height = 1500, 800
    tone = np.array([[206, 200, 188], [176, 188, 192], [210, 196, 176], [150, 158, 160]][rng.integers(4)], np.float32)
    ramp = np.linspace(1.08, 0.8, height)[:, None, None] * np.linspace(0.92, 1.06, width)[None, :, None]
    picture = np.clip(tone * ramp * (1 + 0.015 * fractal_noise(rng, height, width)[..., None]), 0, 255)
    picture = np.ascontiguousarray(picture.astype(np.uint8))
    _window(picture, rng, int(rng.uniform(120, 420)), 60)
    for y in (180, 330, 480, 620):
        _shelf(picture, rng, int(rng.uniform(500, 700)), y, int(rng.uniform(380, 620)))
    _plant(picture, rng, int(rng.uniform(380, 520)), 610)
    cv2.rectangle(picture, (0, 690), (width, height), tuple(int(v) for v in tone * 0.55), -1)
    return cv2.GaussianBlur(picture, (0, 0), 2.2)


def _window(picture: np.ndarray, rng: np.random.Generator, x: int, y: int) -> None:
    cv2.rectangle(picture, (x, y), (x + 230, y + 330), (236, 236, 232), -1)
    for k in range(2):
        pane = picture[y + 12 : y + 318, x + 12 + 107 * k : x + 107 + 107 * k]
        sky = np.linspace(0, 1, pane.shape[0])[:, None, None]
        pane[:] = ((1 - sky) * np.array([176, 206, 238]) + sky * np.array([246, 244, 236])).astype(np.uint8)
        for _ in range(12):
            at = (int(rng.integers(0, 96)), int(rng.integers(190, 306)))
            cv2.circle(
                pane, at, int(rng.integers(10, 34)), (int(rng.integers(60, 110)), int(rng.integers(100, 150)), 70), -1
            )


def _shelf(picture: np.ndarray, rng: np.random.Generator, x: int, y: int, width: int) -> None:
    cv2.rectangle(picture, (x, y), (x + width, y + 9), (112, 82, 58), -1)
    at = x + 8
    while at < x + width - 30:
        thick, tall = int(rng.integers(9, 28)), int(rng.integers(60, 112))
        color = tuple(int(c) for c in rng.integers(30, 220, 3))
        if rng.random() < 0.12:
            cv2.circle(picture, (at + 24, y - 24), 22, color, -1, cv2.LINE_AA)
            at += 56
            continue
        cv2.rectangle(picture, (at, y - tall), (at + thick - 2, y - 1), color, -1)
        cv2.line(picture, (at + thick // 2, y - tall + 12), (at + thick // 2, y - tall + 40), (230, 226, 210), 2)
        at += thick + (int(rng.integers(8, 50)) if rng.random() < 0.1 else 0)


def _plant(picture: np.ndarray, rng: np.random.Generator, x: int, y: int) -> None:
    for _ in range(26):
        angle, length = rng.uniform(-2.6, -0.5), rng.uniform(50, 150)
        tip = (int(x + length * np.cos(angle)), int(y + length * np.sin(angle)))
        green = (int(rng.integers(40, 80)), int(rng.integers(96, 150)), int(rng.integers(48, 80)))
        center = ((x + tip[0]) // 2, (y + tip[1]) // 2)
        cv2.ellipse(picture, center, (int(length / 2), 11), np.degrees(angle), 0, 360, green, -1, cv2.LINE_AA)
    pot = np.array([[x - 40, y - 10], [x + 40, y - 10], [x + 28, y + 76], [x - 28, y + 76]], np.int32)
    cv2.fillPoly(picture, [pot], (170, 96, 66), cv2.LINE_AA)

"""Small scenes with exact poses: a thing, perhaps a hand, before a wall; drawn by ray casting on numpy alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, HandEstimate, RgbdFrame
from hoi_ros.geometry import invert_transform, make_transform, project, rotation_angle, so3_exp

CAMERA = CameraIntrinsics(320, 240, 300.0, 300.0, 159.5, 119.5)
WALL_M = 1.1


def pose(rotation_deg=(0.0, 0.0, 0.0), translation=(0.0, 0.0, 0.5)) -> np.ndarray:
    """(4, 4) from an axis-angle vector in degrees and a translation in metres."""
    return make_transform(so3_exp(np.radians(np.array(rotation_deg, float))), np.array(translation, float))


def _rays(T_camera_object: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u, v = np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height))
    camera = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones(u.shape)], -1)
    inverse = invert_transform(T_camera_object)
    return camera, camera @ inverse[:3, :3].T, inverse[:3, 3]


def texture(points: np.ndarray, seed: int = 0) -> np.ndarray:
    """(..., 3) uint8 RGB blotches about a centimetre wide, fixed to the object."""
    rng = np.random.default_rng(seed)
    out = np.full((*points.shape[:-1], 3), 128.0)
    for _ in range(14):
        wave = rng.normal(size=3) * 330
        out += 26 * np.sin(points @ wave + rng.uniform(0, 6))[..., None] * rng.uniform(0.3, 1, 3)
    return np.clip(out, 20, 235)


def box_layer(T: np.ndarray, half=(0.05, 0.035, 0.025), textured=True):
    """Depth (H, W), inf where nothing is, and colour of a box."""
    _, d, o = _rays(T)
    half = np.array(half)
    safe = np.where(np.abs(d) < 1e-9, 1e-9, d)
    a, b = (-half - o) / safe, (half - o) / safe
    near, far = np.minimum(a, b).max(-1), np.maximum(a, b).min(-1)
    depth = np.where((near < far) & (near > 0), near, np.inf)
    points = o + d * np.where(np.isfinite(depth), depth, 0)[..., None]
    color = texture(points) if textured else np.full(points.shape, 150.0)
    return depth, color


def cylinder_layer(T: np.ndarray, radius=0.035, half_height=0.07, textured=True):
    """Depth and colour of an open cylinder about the object's y axis."""
    _, d, o = _rays(T)
    a = d[..., 0] ** 2 + d[..., 2] ** 2
    b = o[0] * d[..., 0] + o[2] * d[..., 2]
    c = o[0] ** 2 + o[2] ** 2 - radius**2
    root = b * b - a * c
    depth = (-b - np.sqrt(np.maximum(root, 0))) / a
    points = o + d * depth[..., None]
    hit = (root > 0) & (np.abs(points[..., 1]) < half_height)
    color = texture(np.where(hit[..., None], points, 0)) if textured else np.full(points.shape, 150.0)
    return np.where(hit, depth, np.inf), color


def sphere_layer(center: np.ndarray, radius: float, color=(200, 140, 115)):
    """Depth and colour of a ball in the camera frame."""
    d, _, _ = _rays(np.eye(4))
    a, b, c = (d * d).sum(-1), d @ center, center @ center - radius**2
    root = b * b - a * c
    depth = np.where(root > 0, (b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    return depth, np.broadcast_to(np.array(color, float), d.shape)


def table_layer(T: np.ndarray):
    """Depth and colour of the plane y = 0 of a frame."""
    _, d, o = _rays(T)
    safe = np.where(np.abs(d[..., 1]) < 1e-9, 1e-9, d[..., 1])
    return np.where(-o[1] / safe > 0, -o[1] / safe, np.inf), np.full(d.shape, 150.0)


def frame(*layers, index=0, noise_m=0.0008, seed=0, wall=True) -> RgbdFrame:
    """Picture of layers (depth, colour) before a wall, with depth and colour noise."""
    rng = np.random.default_rng(seed + 1000 * index)
    u, v = np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height))
    depth = np.full(u.shape, WALL_M if wall else np.inf)
    color = np.repeat((120 + 40 * np.sin(u / 9) * np.sin(v / 7))[..., None], 3, 2)
    for layer_depth, layer_color in layers:
        front = layer_depth < depth
        depth = np.where(front, layer_depth, depth)
        color = np.where(front[..., None], layer_color, color)
    depth = np.where(np.isfinite(depth), depth + rng.normal(0, noise_m, depth.shape), 0)
    color = np.clip(color + rng.normal(0, 2, color.shape), 0, 255).astype(np.uint8)
    return RgbdFrame(color, CAMERA, int((index + 1) * 1e9 / 30), index, depth.astype(np.float32))


def mask_of(layer) -> np.ndarray:
    """(H, W) bool of a layer alone."""
    return np.isfinite(layer[0])


GRIP = np.array(
    [[0.00, 0.12, 0.03]]
    + [[x + 0.004 * k, y - 0.016 * k, -0.018 - 0.008 * k] for x, y in [(0.045, 0.075)] for k in range(4)]
    + [[-0.03 + 0.02 * f, 0.072 - 0.012 * k, -0.034 - 0.003 * k] for f in range(4) for k in range(4)]
)
"""(21, 3) joints of a hand that holds the lower end of a thing at the origin, object frame."""


def hand(T_camera_hand: np.ndarray, track_id: int = 0) -> tuple[HandEstimate, list]:
    """A hand of balls along its bones holding from below; its layers as well. Joints move rigidly with the pose."""
    joints = GRIP @ T_camera_hand[:3, :3].T + T_camera_hand[:3, 3]
    balls, radius = [], 0.01
    for finger in range(5):
        chain = [0, *range(1 + 4 * finger, 5 + 4 * finger)]
        for a, b in pairwise(chain):
            balls += [joints[a] + t * (joints[b] - joints[a]) for t in np.linspace(0, 1, 4)]
    layers = [sphere_layer(ball, radius) for ball in balls]
    rng = np.random.default_rng(3)
    directions = rng.normal(size=(40, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    vertices = np.concatenate([ball + radius * directions for ball in balls]).astype(np.float32)
    wrist = make_transform(T_camera_hand[:3, :3] @ np.diag([1.0, -1.0, -1.0]), joints[0])
    pixels = project(joints, CAMERA)
    estimate = HandEstimate(
        track_id, "right", 1.0, pixels, np.r_[pixels.min(0), pixels.max(0)], joints.astype(np.float32), vertices,
        wrist, np.tile(np.eye(3), (21, 1, 1)), np.zeros(22), np.zeros(10), 0.005, True,
    )  # fmt: skip
    return estimate, layers


def errors(tracker_poses, true_poses) -> np.ndarray:
    """(N, 2) millimetres and degrees against the truth, both tied at the first pose."""
    tie = invert_transform(tracker_poses[0]) @ true_poses[0]
    out = []
    for found, true in zip(tracker_poses, true_poses):
        estimate = found @ tie
        turn = np.degrees(rotation_angle(estimate[:3, :3] @ true[:3, :3].T))
        out.append((1e3 * np.linalg.norm(estimate[:3, 3] - true[:3, 3]), turn))
    return np.array(out)

"""Synthetic crops of a hand with exact mesh, joints, camera and masks, cut as the live estimator cuts them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from hoi_ros.geometry import so3_exp
from hoi_ros.hand.regions import region_from_landmarks
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.raycast import TriangleScene
from hoi_ros.simulation.skin import ForearmShape, HandSkin, vertex_normals
from hoi_ros.training.crop_pictures import Backgrounds, Harshness, cover, photograph
from hoi_ros.training.hand_poses import sample_hands

CROP_SIDE = 224
POSES_AT_ONCE, SKINS, ARMS = 512, 16, 48
HELD_SHARE = 0.12
BACKGROUND, HAND, OBJECT = 0, 1, 2
_HAND, _ARM, _THING = 0, 1, 2


@dataclass(frozen=True)
class HandCrop:
    """One labelled crop; axes of a camera that looks at the crop's middle, metres."""

    image: np.ndarray
    """(S, S, 3) uint8 RGB."""
    camera: np.ndarray
    """(4,) fx / S, fy / S, cx / S, cy / S."""
    vertices: np.ndarray
    """(V, 3) float32 about the joints' mean."""
    joints: np.ndarray
    """(21, 3) float32 about their mean."""
    translation: np.ndarray
    """(3,) float32 where that mean is."""
    joints_2d: np.ndarray
    """(21, 2) float32 fractions of the crop."""
    right: bool
    """Whether it is a right hand."""
    visible: np.ndarray
    """(21,) bool: nothing lies between joint and camera but the hand's own skin over it."""
    segments: np.ndarray
    """(S, S) uint8: BACKGROUND, HAND or OBJECT."""
    contact: np.ndarray
    """(V,) bool: the vertex touches the held thing."""
    joint_weights: np.ndarray = field(default_factory=lambda: np.ones(21, np.float32))
    """(21,) 1 where the joint is known, 0 where not."""
    has_3d: bool = True
    """Whether vertices, joints and translation are known."""


@dataclass(frozen=True)
class _Part:
    """One mesh of the scene, camera axes."""

    kind: int
    vertices: np.ndarray
    faces: np.ndarray
    attributes: np.ndarray


class HandCropSource:
    """Endless labelled crops; the same seed gives the same crops."""

    def __init__(
        self,
        seed: int,
        model: HandModel | None = None,
        backgrounds: Path | None = None,
        held_share: float = HELD_SHARE,
        skins: int = SKINS,
    ):
        self.model = model or HandModel.load()
        self._seed, self._held_share = seed, held_share
        self._rng = np.random.default_rng([seed, 21])
        self._skins = [
            HandSkin(self.model, np.zeros(10), float(self._rng.beta(1.2, 1.6)), int(self._rng.integers(1 << 30)))
            for _ in range(skins)
        ]
        rest = self.model.pose(np.zeros((1, len(self.model.joint_angle_names))), np.zeros((1, 10)), "right")
        self._rest = rest.vertices[0].astype(np.float64)
        # Bare or in sleeves that begin anywhere at the wrist.
        sleeves = np.where(self._rng.random(ARMS) < 0.55, self._rng.uniform(-0.01, 0.1, ARMS), 1.0)
        right = self.model.faces("right")
        self._arms = [
            ForearmShape(self._rest, right, float(start), int(self._rng.integers(1 << 30))) for start in sleeves
        ]
        self._backgrounds = Backgrounds(seed, backgrounds)
        self._pool: list[tuple[np.ndarray, np.ndarray, bool]] = []

    def restart(self, number: int) -> None:
        """Go to series `number`: the crops that follow depend on the seed and on it alone."""
        self._rng, self._pool = np.random.default_rng([self._seed, 21, number]), []

    def crop(self, harsh: Harshness | None = None) -> HandCrop:
        """Draw the next crop."""
        harsh, rng = harsh or Harshness(), self._rng
        angles, shape, holds = self._next_pose()
        side = "right" if rng.random() < 0.5 else "left"
        scale = float(np.clip(rng.normal(1, 0.08), 0.75, 1.25))
        hand = self.model.pose(angles[None], shape[None], side, scale)
        rotation, offset, focal = self._camera(hand.joints[0])
        joints = hand.joints[0] @ rotation.T + offset
        vertices = hand.vertices[0].astype(np.float64) @ rotation.T + offset
        skin = self._skins[rng.integers(len(self._skins))]
        parts = [_Part(_HAND, vertices, self.model.faces(side), skin.attributes)]
        if rng.random() < 0.9:
            parts.append(self._arm(side, rotation, offset, scale))
        if holds and rng.random() < 0.85:
            parts.append(self._thing(side, rotation, offset, hand.joints[0]))
        return self._finish(parts, skin, joints, focal, side == "right", harsh)

    def _next_pose(self) -> tuple[np.ndarray, np.ndarray, bool]:
        if not self._pool:
            self._pool = list(zip(*sample_hands(self.model, self._rng, POSES_AT_ONCE, self._held_share)))
        return self._pool.pop()

    def _camera(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Rotation (3, 3) and offset (3,) from the wrist frame to a crop's camera; its focal length in crop sides."""
        rng = self._rng
        turned = joints @ self._view().T
        turned = turned - turned.mean(0) + [0, 0, rng.uniform(0.22, 0.95)]
        rotation, offset = self._fit_view(joints, turned)
        # The live estimator's region of these joints, with the errors that it makes.
        seen = turned[:, :2] / turned[:, 2:] * 1000
        region = region_from_landmarks(seen)
        size = region.size_px * rng.uniform(0.86, 1.22)
        center = region.center_px + region.size_px * rng.normal(0, 0.035, 2)
        angle = region.angle_rad + rng.normal(0, 0.16)
        forward = np.array([*(center / 1000), 1.0])
        forward /= np.linalg.norm(forward)
        across = np.cross([0.0, 1.0, 0.0], forward)
        across /= np.linalg.norm(across)
        look = np.stack([across, np.cross(forward, across), forward])
        c, s = math.cos(angle), math.sin(angle)
        roll = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        turn = roll @ look
        return turn @ rotation, turn @ offset, 1000 / size

    def _view(self) -> np.ndarray:
        """Rotation (3, 3) from the wrist frame to a camera that looks at the hand: palm, back, or from anywhere."""
        rng = self._rng
        facing = np.diag([1.0, -1.0, -1.0])
        if rng.random() < 0.65:
            yaw = (0.0 if rng.random() < 0.55 else np.pi) + rng.normal(0, 0.6)
            return facing @ so3_exp(np.array([rng.normal(0, 0.5), 0, 0])) @ so3_exp(np.array([0, yaw, 0]))
        axis = rng.standard_normal(4)
        axis /= np.linalg.norm(axis)
        return so3_exp(2 * math.acos(abs(axis[0])) * axis[1:] / max(float(np.linalg.norm(axis[1:])), 1e-9))

    @staticmethod
    def _fit_view(joints: np.ndarray, turned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rotation and offset between two rigidly moved sets of points."""
        a, b = joints - joints.mean(0), turned - turned.mean(0)
        u, _, vt = np.linalg.svd(b.T @ a)
        rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
        return rotation, turned.mean(0) - rotation @ joints.mean(0)

    def _arm(self, side: str, rotation: np.ndarray, offset: np.ndarray, scale: float) -> _Part:
        """Forearm, bare or in a sleeve."""
        rng = self._rng
        arm = self._arms[rng.integers(ARMS)]
        bend = so3_exp(np.array([rng.uniform(-0.9, 0.9), 0, rng.uniform(-0.5, 0.5)]))
        wrist, elbow = np.eye(4), bend @ np.array([0, -0.3, 0])
        tube = arm.build(wrist, elbow, side) * scale
        faces = arm.faces if side == "right" else arm.faces[:, ::-1]
        return _Part(_ARM, tube @ rotation.T + offset, faces, arm.attributes)

    def _thing(self, side: str, rotation: np.ndarray, offset: np.ndarray, joints: np.ndarray) -> _Part:
        """A held cylinder, ball or box between fingers and palm."""
        rng = self._rng
        grip = (joints[[5, 9, 13, 17]].mean(0) + joints[[7, 11, 15]].mean(0) + joints[4]) / 3
        radius = float(rng.uniform(0.012, 0.035))
        vertices, faces = _solid(rng, radius)
        turn = so3_exp(rng.normal(0, 0.35, 3)) @ so3_exp(np.array([0, math.pi / 2, 0]))
        placed = vertices @ turn.T + grip
        uv = np.stack([np.arctan2(vertices[:, 0], vertices[:, 1]) * radius, vertices[:, 2]], 1)
        attributes = np.concatenate([uv, np.zeros((len(uv), 2))], 1).astype(np.float32)
        return _Part(_THING, placed @ rotation.T + offset, faces, attributes)

    def _finish(
        self, parts: list[_Part], skin: HandSkin, joints: np.ndarray, focal: float, right: bool, harsh: Harshness
    ) -> HandCrop:
        """Cast, shade, compose and photograph."""
        rng, side = self._rng, CROP_SIDE
        faces = np.cumsum([0] + [len(part.faces) for part in parts])
        starts = np.cumsum([0] + [len(part.vertices) for part in parts])
        vertices = np.concatenate([part.vertices for part in parts])
        triangles = np.concatenate([part.faces + start for part, start in zip(parts, starts)])
        scene = TriangleScene(vertices, triangles)
        rays, inside = _rays(vertices, focal, side)
        hit = scene.cast(np.zeros(3), rays)
        found = np.flatnonzero(np.isfinite(hit["t_hit"]))
        where, rays = inside[found], rays[found]
        hit = {name: values[found] for name, values in hit.items()}
        number = hit["primitive_ids"].astype(np.int64)
        kind = np.array([part.kind for part in parts])[np.searchsorted(faces, number, side="right") - 1]
        corners = _corner_values(parts, skin)
        mixed = _mix(corners, triangles[number], hit["primitive_uvs"])
        color = self._colors(mixed, kind, skin)
        shaded = self._light(color, mixed[:, 4:7], rays, kind, harsh.light)
        depth = np.full(side * side, np.inf, np.float32)
        depth[where] = hit["t_hit"]
        image = self._backgrounds.cut(rng, side).reshape(-1, 3)
        image[where] = shaded
        image = _crevices(image.reshape(side, side, 3), depth.reshape(side, side), float(rng.uniform(0.2, 0.7)))
        segments = np.zeros((side, side), np.uint8)
        segments.reshape(-1)[where] = np.array([HAND, BACKGROUND, OBJECT])[kind]
        joints_2d = joints[:, :2] / joints[:, 2:] * focal + 0.5
        if rng.random() < 0.35 * harsh.occlusion:
            segments[cover(image, joints_2d * side, rng, self._backgrounds.cut(rng, side))] = BACKGROUND
        middle = joints.mean(0)
        hand = parts[0].vertices
        return HandCrop(
            photograph(image, rng, harsh.camera),
            np.array([focal, focal, 0.5, 0.5], np.float32),
            (hand - middle).astype(np.float32),
            (joints - middle).astype(np.float32),
            middle.astype(np.float32),
            joints_2d.astype(np.float32),
            right,
            _visible(joints, joints_2d, depth.reshape(side, side), segments),
            segments,
            _touching(parts),
        )

    def _colors(self, mixed: np.ndarray, kind: np.ndarray, skin: HandSkin) -> np.ndarray:
        """(N, 3) float32 RGB of hits without light."""
        rng = self._rng
        out = np.empty((len(mixed), 3), np.float32)
        hand, arm, thing = (kind == k for k in (_HAND, _ARM, _THING))
        if hand.any():
            out[hand] = skin.colors(mixed[hand, :4])
        if rng.random() < 0.04 and hand.any():  # a glove
            out[hand] = out[hand].mean(1, keepdims=True) / 160 * rng.uniform(20, 230, 3).astype(np.float32)
        bare = skin.base + mixed[arm, 2:3] * (skin.palm_base - skin.base)
        cloth = rng.uniform(15, 240, 3).astype(np.float32)
        weave = 1 + 0.07 * np.sin(mixed[arm, :1] * 2400) * np.sin(mixed[arm, 1:2] * 2400)
        out[arm] = np.where(mixed[arm, 3:4] > 0.5, cloth * weave, bare)
        stripes = np.sin(mixed[thing, 1:2] * float(rng.uniform(60, 500)) + float(rng.uniform(0, 6))) > 0.3
        out[thing] = np.where(stripes, rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)).astype(np.float32)
        return out * (1 + 0.05 * rng.standard_normal(3)).astype(np.float32)

    def _light(
        self, color: np.ndarray, normals: np.ndarray, rays: np.ndarray, kind: np.ndarray, harsh: float
    ) -> np.ndarray:
        """(N, 3) colours under ambient light and one or two lamps."""
        rng = self._rng
        normals = normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9)
        view = rays / np.linalg.norm(rays, axis=1, keepdims=True)
        ambient = rng.uniform(0.55 - 0.3 * harsh, 0.75)
        light = np.full((len(color), 3), ambient, np.float32) * (1 - 0.25 * normals[:, 1:2] * rng.uniform(-0.3, 1))
        shine = np.zeros(len(color), np.float32)
        wrap = rng.uniform(0.1, 0.45)
        for _ in range(rng.integers(1, 3)):
            toward = rng.standard_normal(3) + [0, -0.7, -1.0]
            toward = (toward / np.linalg.norm(toward)).astype(np.float32)
            tint = rng.uniform(0.25, 0.75) * (1 + 0.06 * rng.standard_normal(3))
            light += np.clip((normals @ toward + wrap) / (1 + wrap), 0, None)[:, None] * tint.astype(np.float32)
            half = toward - view
            half /= np.linalg.norm(half, axis=1, keepdims=True) + 1e-9
            power = np.where(kind == _THING, 30, rng.uniform(8, 30))
            shine += np.clip((half * normals).sum(1), 0, 1) ** power * np.float32(rng.uniform(0, 45) * (0.5 + harsh))
        return color * light + shine[:, None]


def _rays(vertices: np.ndarray, focal: float, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Rays (N, 3) float32 with z 1 through the pixels that the vertices' bounds cover; those pixels' numbers (N,)."""
    near = np.maximum(vertices[:, 2:], 0.03)
    seen = (vertices[:, :2] / near * focal + 0.5) * side
    low = np.clip(np.floor(seen.min(0)).astype(int) - 1, 0, side)
    high = np.clip(np.ceil(seen.max(0)).astype(int) + 1, 0, side)
    columns, rows = np.arange(low[0], high[0]), np.arange(low[1], high[1])
    x, y = np.meshgrid(columns, rows)
    flat = np.stack([x, y], -1).reshape(-1, 2)
    rays = np.ones((len(flat), 3), np.float32)
    rays[:, :2] = ((flat + 0.5) / side - 0.5) / focal
    return rays, flat[:, 1] * side + flat[:, 0]


def _corner_values(parts: list[_Part], skin: HandSkin) -> np.ndarray:
    """(N, 7) per vertex: four attributes and the normal."""
    rows = []
    for part in parts:
        # The cap that closes the wrist must not bend the skin's normals.
        faces = part.faces[skin.open_mask] if part.kind == _HAND else part.faces
        rows.append(np.concatenate([part.attributes, vertex_normals(part.vertices, faces)], 1))
    return np.concatenate(rows).astype(np.float32)


def _mix(corners: np.ndarray, triangles: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Values (N, C) at barycentric (N, 2) of triangles (N, 3)."""
    u, v = uv[:, :1], uv[:, 1:]
    return corners[triangles[:, 0]] * (1 - u - v) + corners[triangles[:, 1]] * u + corners[triangles[:, 2]] * v


def _crevices(image: np.ndarray, depth: np.ndarray, strength: float) -> np.ndarray:
    """Darken what lies deeper than its surroundings: light does not reach between fingers."""
    known = np.isfinite(depth)
    if not known.any():
        return image
    filled = np.where(known, depth, np.median(depth[known]) + 0.03).astype(np.float32)
    around = cv2.blur(filled, (17, 17))
    shade = np.clip((filled - around - 0.001) / 0.012, 0, 1) * strength * known
    return image * (1 - shade[..., None])


def _visible(joints: np.ndarray, joints_2d: np.ndarray, depth: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """(21,) bool: at the joint's pixel the hand is seen, not much nearer than the joint."""
    side = len(depth)
    at = np.floor(joints_2d * side).astype(int)
    inside = ((at >= 0) & (at < side)).all(1)
    x, y = np.clip(at, 0, side - 1).T
    return inside & (segments[y, x] == HAND) & (depth[y, x] > joints[:, 2] - 0.022)


def _touching(parts: list[_Part]) -> np.ndarray:
    """(V,) bool: hand vertices at or in the held thing."""
    things = [part for part in parts if part.kind == _THING]
    if not things:
        return np.zeros(len(parts[0].vertices), bool)
    distance = TriangleScene(things[0].vertices, things[0].faces).signed_distance(parts[0].vertices)
    return distance < 0.003


def _solid(rng: np.random.Generator, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (N, 3) and faces (M, 3) of a cylinder, ball or box about the origin, long in z."""
    import trimesh

    shape = rng.integers(3)
    if shape == 0:
        mesh = trimesh.creation.cylinder(radius, float(rng.uniform(0.06, 0.22)), sections=24)
    elif shape == 1:
        mesh = trimesh.creation.icosphere(2, radius * 1.2)
    else:
        mesh = trimesh.creation.box((radius * 1.6, radius * float(rng.uniform(0.8, 2)), float(rng.uniform(0.05, 0.2))))
    return np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int32)

"""What a hand looks like: skin painted on the rest shape, nails, creases, and the forearm that carries it."""

from __future__ import annotations

import cv2
import numpy as np

from hoi_ros.geometry import vertex_normals
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.motion import ease
from hoi_ros.simulation.prints import fractal_noise
from hoi_ros.simulation.raycast import TriangleScene
from hoi_ros.simulation.surface import sample_texture

PIXELS_PER_M = 2600.0
ARM_RINGS = 18
ARM_SIDES = 40
_TONES = np.array([[236, 196, 172], [214, 164, 134], [176, 122, 90], [122, 80, 58], [84, 56, 44]], np.float32)


def skin_color(tone: float) -> np.ndarray:
    """(3,) float32 RGB 0 to 255 between light (0) and dark (1) skin."""
    at = float(np.clip(tone, 0, 1)) * (len(_TONES) - 1)
    low = min(int(at), len(_TONES) - 2)
    return _TONES[low] * (low + 1 - at) + _TONES[low + 1] * (at - low)


def wrist_cap(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F,) bool: the faces that close a rest hand (V, 3) at the wrist."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    facing = -normals[:, 1] / (np.linalg.norm(normals, axis=1) + 1e-12)
    return (facing > 0.6) & ((a + b + c)[:, 1] / 3 < vertices[:, 1].min() + 0.02)


class HandSkin:
    """Skin pictures of the right hand's palm and back, looked up by position in the rest shape."""

    def __init__(self, model: HandModel, shape: np.ndarray, tone: float, seed: int) -> None:
        rest = model.pose(np.zeros((1, len(model.joint_angle_names))), shape[None], "right")
        vertices = rest.vertices[0].astype(np.float64)
        normals = vertex_normals(vertices, model.faces("right"))
        palmar = np.clip(normals[:, 2] * 0.9 + 0.5, 0, 1)
        self.open_mask = ~wrist_cap(vertices, model.faces("right"))
        """(F,) bool: faces without the cap that closes the wrist; the cap must not bend the skin's normals."""
        self.attributes = np.concatenate([vertices, palmar[:, None]], 1).astype(np.float32)
        """(V, 4) rest position in metres and palm-ness 0 to 1."""
        self._low = vertices.min(0) - 0.006
        extent = vertices.max(0) - self._low + 0.006
        self._size = (int(extent[0] * PIXELS_PER_M), int(extent[1] * PIXELS_PER_M))
        self._rng = np.random.default_rng([seed, 501])
        self.base = skin_color(tone) * self._rng.uniform(0.96, 1.04, 3).astype(np.float32)
        tint = np.array([10, 2, 2]) + 42 * tone * np.array([1, 0.8, 0.7])
        self.palm_base = (self.base * np.array([1.05, 0.97, 0.96]) + tint).astype(np.float32)
        joints, bones = rest.joints[0].astype(np.float64), rest.bone_rotations[0].astype(np.float64)
        faces = model.faces("right")
        self.palm_picture = self._paint(self._surface(vertices, faces, 1), joints, bones, palm=True)
        self.back_picture = self._paint(self._surface(vertices, faces, -1), joints, bones, palm=False)

    def colors(self, attributes: np.ndarray) -> np.ndarray:
        """(N, 3) float32 RGB of points given by interpolated `attributes` (N, 4)."""
        uv = ((attributes[:, :2] - self._low[:2].astype(np.float32)) * PIXELS_PER_M).astype(np.float32)
        palm = sample_texture(self.palm_picture, uv).astype(np.float32)
        back = sample_texture(self.back_picture, uv).astype(np.float32)
        share = attributes[:, 3:]
        return back + share * (palm - back)

    def _surface(self, vertices: np.ndarray, faces: np.ndarray, side: int) -> np.ndarray:
        """Points (h, w, 3) of the rest shape under every picture pixel, seen from the palm or the back."""
        width, height = self._size
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        origin = np.stack(
            [self._low[0] + x / PIXELS_PER_M, self._low[1] + y / PIXELS_PER_M, np.full(x.shape, side * 0.2)], -1
        )
        directions = np.tile(np.array([0, 0, -side], np.float32), (x.size, 1))
        distance = TriangleScene(vertices, faces).cast(origin.reshape(-1, 3), directions)["t_hit"].reshape(x.shape)
        distance = np.where(np.isfinite(distance), distance, 0.2)
        points = origin.copy()
        points[..., 2] -= side * distance
        return points

    def _paint(self, points: np.ndarray, joints: np.ndarray, bones: np.ndarray, *, palm: bool) -> np.ndarray:
        rng, (height, width) = self._rng, points.shape[:2]
        patches = fractal_noise(rng, height, width, base=5, octaves=4)
        pores = fractal_noise(rng, height, width, base=90, octaves=2)
        color = np.broadcast_to(self.base, (height, width, 3)).copy()
        if palm:
            color = np.broadcast_to(self.palm_base, (height, width, 3)).copy()
        color *= (1 + 0.022 * patches + 0.028 * pores)[..., None]
        color = color + (3.0 * fractal_noise(rng, height, width, base=8, octaves=3))[..., None] * np.array(
            [1, -0.4, -0.3]
        )
        color *= (1 - self._creases(points, joints, palm))[..., None]
        redness = self._redness(points, joints, palm)
        color += redness[..., None] * np.array([14, -9, -7])
        if not palm:
            color = self._veins(color, points, joints)
        for finger in range(5):
            window = _window(points, joints[4 * finger + 4], 0.0195)
            color[window] = self._nail(color[window], points[window], joints, bones, finger)
        return np.clip(color, 0, 255).astype(np.uint8)

    def _creases(self, points: np.ndarray, joints: np.ndarray, palm: bool) -> np.ndarray:
        """Darkening 0 to 1 at the skin folds of every finger joint, and the palm's three lines."""
        total = np.zeros(points.shape[:2])
        for finger in range(5):
            for k in (1, 2, 3) if palm or finger == 0 else (2, 3):
                j = 4 * finger + k
                along = joints[j + 1] - joints[j]
                along /= np.linalg.norm(along)
                window = _window(points, joints[j], 0.021)
                offset = points[window] - joints[j]
                near = np.exp(-((np.linalg.norm(offset, axis=-1) / 0.0135) ** 6))
                wave = 0.0006 * np.sin(offset[..., 0] * 700 + finger)
                t = offset @ along + wave
                lines = (0.0,) if palm else (-0.0028, -0.001, 0.0012, 0.0032)
                depth = 0.2 if palm else 0.1
                for shift in lines:
                    total[window] += depth * near * np.exp(-(((t - shift) / 0.00055) ** 2))
                total[window] += 0.05 * near * np.exp(-((t / 0.004) ** 2))
        if palm:
            total += self._palm_lines(points, joints)
        return np.clip(total, 0, 0.4)

    def _palm_lines(self, points: np.ndarray, joints: np.ndarray) -> np.ndarray:
        canvas = np.zeros(points.shape[:2], np.float32)
        wrist, index, little = joints[0], joints[5], joints[17]
        thumb = joints[2]

        def at(a: float, b: float) -> np.ndarray:
            return wrist + a * (index - wrist) + b * (little - wrist)

        for path in (
            [0.8 * index + 0.2 * thumb, at(0.66, 0.12), at(0.42, 0.28), at(0.12, 0.2)],
            [0.82 * index + 0.18 * thumb, at(0.6, 0.26), at(0.35, 0.5), at(0.12, 0.68)],
            [at(0.85, 0.12), at(0.6, 0.38), at(0.28, 0.68), at(0.02, 0.92)],
        ):
            pixels = np.array([(p[:2] - self._low[:2]) * PIXELS_PER_M for p in path])
            fine = np.stack([np.interp(np.linspace(0, 3, 40), np.arange(4), pixels[:, k]) for k in range(2)], 1)
            fine = cv2.GaussianBlur(fine.astype(np.float32), (1, 9), 3)
            cv2.polylines(canvas, [fine.round().astype(np.int32)], False, 1.0, 2, cv2.LINE_AA)
        return 0.15 * cv2.GaussianBlur(canvas, (0, 0), 1.4) + 0.13 * cv2.GaussianBlur(canvas, (0, 0), 5)

    @staticmethod
    def _redness(points: np.ndarray, joints: np.ndarray, palm: bool) -> np.ndarray:
        """Blood under the skin: fingertips and, on the back, the knuckles."""
        total = np.zeros(points.shape[:2])
        for finger in range(5):
            for j, size in ((4 * finger + 4, 0.011), (4 * finger + 2, 0.008), (4 * finger + 1, 0.01)):
                if palm and j % 4 != 0:
                    continue
                window = _window(points, joints[j], 2.6 * size)
                offset = points[window] - joints[j]
                total[window] += np.exp(-np.einsum("ijk,ijk->ij", offset, offset) / size**2)
        return np.clip(total, 0, 1)

    def _veins(self, color: np.ndarray, points: np.ndarray, joints: np.ndarray) -> np.ndarray:
        canvas = np.zeros(points.shape[:2], np.float32)
        for a, b in ((5, 9), (9, 13), (13, 17)):
            knuckle = (joints[a] + joints[b]) / 2
            for t0, t1 in ((0.92, 0.5), (0.5, 0.12)):
                ends = [joints[0] + t * (knuckle - joints[0]) + self._rng.normal(0, 0.0018, 3) for t in (t0, t1)]
                p = [tuple(((e[:2] - self._low[:2]) * PIXELS_PER_M).round().astype(int).tolist()) for e in ends]
                cv2.line(canvas, p[0], p[1], 1.0, 5, cv2.LINE_AA)
        soft = cv2.GaussianBlur(canvas, (0, 0), 3.5)[..., None]
        return color * (1 - 0.07 * soft) + soft * np.array([-6, 0, 5])

    def _nail(
        self, color: np.ndarray, points: np.ndarray, joints: np.ndarray, bones: np.ndarray, finger: int
    ) -> np.ndarray:
        tip, last = joints[4 * finger + 4], joints[4 * finger + 3]
        along = (tip - last) / np.linalg.norm(tip - last)
        dorsal = -bones[4 * finger + 3][:, 2]
        dorsal -= along * (dorsal @ along)
        dorsal /= np.linalg.norm(dorsal)
        offset = points - tip
        across = offset @ np.cross(along, dorsal)
        t = offset @ along
        half = 0.0062 if finger == 0 else (0.0046 if finger == 4 else 0.0054)
        length = 0.0075 if finger == 0 else 0.006
        shape = np.abs(across / half) ** 3 + np.abs((t + length + 0.001) / length) ** 3
        outside = (offset @ dorsal > 0.0005) & (np.linalg.norm(offset, axis=-1) < 0.019)
        plate = np.clip((1 - shape) * 5, 0, 1) * outside
        rim = np.clip(1 - np.abs(shape - 1.05) * 5, 0, 1) * outside
        free_edge = np.clip((t + 0.0028) * 1500, 0, 1) * plate
        pink = self.base * 0.55 + np.array([236, 184, 176]) * 0.45 + 8
        color = color * (1 - 0.75 * plate[..., None]) + pink * 0.75 * plate[..., None]
        color = color + free_edge[..., None] * (np.array([238, 226, 214]) - color) * 0.55
        return color * (1 - 0.22 * rim[..., None])


def _window(points: np.ndarray, center: np.ndarray, radius: float) -> tuple[slice, slice]:
    """Rows and columns of a skin picture's points (h, w, 3) within `radius` of a point in x and y."""
    columns = np.flatnonzero(np.abs(points[0, :, 0] - center[0]) <= radius)
    rows = np.flatnonzero(np.abs(points[:, 0, 1] - center[1]) <= radius)
    if not len(rows) or not len(columns):
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def arm_faces() -> np.ndarray:
    """(M, 3) int32 of the tube's quads, counter-clockwise from outside."""
    faces = []
    for r in range(ARM_RINGS - 1):
        for k in range(ARM_SIDES):
            a, b = r * ARM_SIDES + k, r * ARM_SIDES + (k + 1) % ARM_SIDES
            faces += [[a, b, a + ARM_SIDES], [b, b + ARM_SIDES, a + ARM_SIDES]]
    return np.array(faces, np.int32)


class ForearmShape:
    """Builds the forearm that continues a hand model's wrist towards an elbow."""

    def __init__(self, rest_vertices: np.ndarray, faces: np.ndarray, sleeve_from_m: float, seed: int) -> None:
        cap = wrist_cap(rest_vertices, faces)
        rim = np.intersect1d(faces[cap], faces[~cap])
        loop = rest_vertices[rim]
        self._start = (loop.min(0) + loop.max(0)) / 2 + [0, 0.006, 0]
        self._half = np.array([np.ptp(loop[:, 0]), np.ptp(loop[:, 2])]) / 2
        angle = np.linspace(0, 2 * np.pi, ARM_SIDES, endpoint=False)
        self._circle = np.stack([np.cos(angle), np.sin(angle)], 1)
        # The tube begins with the outline of the wrist itself and turns into an ellipse.
        flat = (loop - self._start)[:, [0, 2]]
        at = np.arctan2(flat[:, 1], flat[:, 0])
        order = np.argsort(at)
        radius = np.interp(angle, at[order], np.linalg.norm(flat, axis=1)[order], period=2 * np.pi)
        self._outline = self._circle * radius[:, None]
        self.faces = arm_faces()
        rng = np.random.default_rng([seed, 502])
        steps = np.concatenate(
            [[0, 0.008, 0.02, 0.035, 0.05], np.linspace(0.065, 0.42, ARM_RINGS - 8), [0.5, 0.6, 0.75]]
        )
        self._steps, self._sleeve_from = steps, sleeve_from_m
        wrinkle = 1 + 0.035 * rng.standard_normal((ARM_RINGS, ARM_SIDES))
        self._wrinkle = cv2.GaussianBlur(np.tile(wrinkle, (1, 3)), (0, 0), 1.2)[:, ARM_SIDES : 2 * ARM_SIDES]
        self._rings = self._sections()
        sleeve = np.clip((steps - sleeve_from_m) / 0.004, 0, 1)
        fade = np.clip(1 - steps / 0.09, 0, 1)[:, None]
        palmar = np.clip(0.5 + 0.9 * np.sin(angle), 0, 1)[None] * fade
        grid = np.stack(np.broadcast_arrays(angle[None] * 0.028, steps[:, None]), -1).reshape(-1, 2)
        self.attributes = np.concatenate(
            [grid, palmar.reshape(-1, 1), np.repeat(sleeve, ARM_SIDES)[:, None]], 1
        ).astype(np.float32)

    def build(self, T_camera_wrist: np.ndarray, elbow_camera: np.ndarray, side: str) -> np.ndarray:
        """(N, 3) tube vertices in the camera frame, leaving the wrist straight and bending to the elbow."""
        rotation, origin = T_camera_wrist[:3, :3], T_camera_wrist[:3, 3]
        mirror = np.array([-1.0 if side == "left" else 1.0, 1, 1])
        start = rotation @ (self._start * mirror) + origin
        out = -rotation[:, 1]
        target = elbow_camera - start
        target = target / np.linalg.norm(target)
        # An arm that leads away from the camera rises beyond the elbow to a shoulder above the picture.
        shoulder = target + 3 * np.clip(1.5 * target[2], 0, 1) * np.array([0, -1.0, 0])
        shoulder = shoulder / np.linalg.norm(shoulder)
        bend = np.minimum(1.0, self._steps / 0.07)[:, None]
        lift = np.asarray(ease((self._steps - 0.24) / 0.16))[:, None]
        along = out * (1 - bend) + (target * (1 - lift) + shoulder * lift) * bend
        along = along / np.linalg.norm(along, axis=1, keepdims=True)
        centers = start + np.cumsum(along * np.diff(self._steps, prepend=self._steps[0])[:, None], axis=0)
        x_axis = rotation[:, 0] * mirror[0]
        x = x_axis - along * (along @ x_axis)[:, None]
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        z = np.cross(x, -along) * mirror[0]
        rings = centers[:, None] + self._rings[..., :1] * x[:, None] + self._rings[..., 1:] * z[:, None]
        return rings.reshape(-1, 3)

    def _sections(self) -> np.ndarray:
        """(R, K, 2) metres across each ring: the wrist's outline, then ellipses, wider and wrinkled in the sleeve."""
        rings = []
        for r, s in enumerate(self._steps):
            grow = np.interp(s, [0, 0.03, 0.12, 0.3, 0.42], [1.0, 1.0, 1.22, 1.6, 1.75])
            thick = np.interp(s, [0, 0.1, 0.3], [1.0, 1.12, 1.3])
            half = self._half * (grow, grow * thick)
            wrinkle = np.ones((ARM_SIDES, 1))
            if s > self._sleeve_from:
                half = half * 1.14 + 0.003
                wrinkle = self._wrinkle[r][:, None]
            wrist = 1 - float(ease(s / 0.045))
            rings.append(
                self._circle * half * wrinkle * (1 - wrist) + self._outline * wrist * (0.97 if r == 0 else 1.015)
            )
        return np.stack(rings)


def wind_outward(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Faces of a tube or closed mesh, flipped when they look inward."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    volume = np.einsum("ij,ij->", np.cross(a - vertices.mean(0), b - vertices.mean(0)), c - vertices.mean(0))
    return faces if volume > 0 else faces[:, ::-1]

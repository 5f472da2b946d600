"""A captured grasp replayed: the thing moves as a person really moved it, the free hand is laid into the joints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from hoi_ros.geometry import invert_transform, make_transform, transform_points
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.captured import CAPTURE_HZ, CapturedGrasp, find_mesh, read_capture, support_plane
from hoi_ros.simulation.joint_fit import fit_hand
from hoi_ros.simulation.motion import blend_poses
from hoi_ros.simulation.objects import load_object
from hoi_ros.simulation.scene import MIRROR, HandState, Scene, SceneState
from hoi_ros.simulation.surface import SimObject
from hoi_ros.simulation.touch import TouchFitter

_MOVED_M = 0.012
_NEAREST_M, _FARTHEST_M = 0.45, 1.1
"""How far ahead of the camera the middle of the motion may be."""
_ABOVE_M = 0.25
"""How high above the motion's middle the camera is at least."""
_HALF_VIEW = np.array([0.48, 0.36])
"""Tangents of half the simulated camera's view, less a twelfth."""


class ReplayScene(Scene):
    """Forth as captured and back again, so that it repeats without a jump."""

    def __init__(
        self, grasps: str, mesh: str, side: str, model: HandModel, seed: int, T_world_view: np.ndarray
    ) -> None:
        """Read, fit and place a sequence.

        Args:
            grasps: FILE.npz, FILE.npz#NUMBER or FILE.npz#KEY.
            mesh: see `find_mesh`.
            side: 'left' as captured; 'right' replays it in the mirror, the thing's print too.
            model: hand model. seed: picks the sequence when none is named.
            T_world_view: (4, 4) of the resting camera; it is raised and turned until it sees the whole motion.

        Raises:
            InputError: unusable file, no mesh.
        """
        capture = read_capture(grasps, seed)
        item = load_object(find_mesh(Path(grasps.partition("#")[0]), capture.object_name, mesh))
        self.name = f"{capture.object_name} {capture.key}"
        rng = np.random.default_rng([seed, 908])
        T_world_view, T_view_capture = _place(support_plane(item, capture), capture, item, T_world_view, rng)
        self.T_world_view = T_world_view
        T_view_object = T_view_capture @ capture.T_capture_object
        joints = _bridged(capture.joints)
        joints = joints @ T_view_capture[:3, :3].T + T_view_capture[:3, 3]
        # The fit knows right hands: the left one is fitted in the mirror.
        fit = fit_hand(model, _smoothed(joints) * [-1, 1, 1])
        self.fit_residual_m = fit.residual_m
        self.shape = fit.shape
        T_view_wrist = MIRROR @ fit.T_view_wrist @ MIRROR
        self.item, self.sides = item, (side,)
        if side == "right":
            self.item = mirrored_object(item)
            T_view_object, T_view_wrist = MIRROR @ T_view_object @ MIRROR, fit.T_view_wrist
        angles = _smoothed(fit.joint_angles)
        T_wrist_object = invert_transform(T_view_wrist) @ T_view_object
        moved = np.linalg.norm(T_view_object[:, :3, 3] - T_view_object[0, :3, 3], axis=1)
        holding = np.convolve((moved > _MOVED_M).astype(float), np.ones(5) / 5, mode="same")
        touch = TouchFitter(model, fit.shape, side, self.item)
        self._angles, T_wrist_object = touch.fit(angles, T_wrist_object, holding)
        self._T_view_object = T_view_object
        self._T_view_wrist = T_view_object @ invert_transform(T_wrist_object)
        self._T_view_world = invert_transform(T_world_view)
        self.once_s = (len(angles) - 1) / CAPTURE_HZ
        self.period_s = 2 * self.once_s
        self.holding = holding

    @property
    def held_from_s(self) -> float:
        return float(np.argmax(self.holding > 0.9)) / CAPTURE_HZ

    def at(self, time_s: float) -> SceneState:
        """The state at a time."""
        time = time_s % self.period_s
        position = min(time, self.period_s - time) * CAPTURE_HZ
        low = min(int(position), len(self._angles) - 2)
        share = position - low
        angles = self._angles[low] + share * (self._angles[low + 1] - self._angles[low])
        T_view_wrist = blend_poses(self._T_view_wrist[low], self._T_view_wrist[low + 1], share)
        T_view_object = blend_poses(self._T_view_object[low], self._T_view_object[low + 1], share)
        return SceneState((HandState(self.sides[0], angles, T_view_wrist, self._elbow(T_view_wrist)),), T_view_object)

    def _elbow(self, T_view_wrist: np.ndarray) -> np.ndarray:
        """(3,) behind the wrist, never below the table."""
        up = self._T_view_world[:3, 2]
        along = -T_view_wrist[:3, 1]
        along = along + max(0.0, 0.15 - float(along @ up)) * up
        return T_view_wrist[:3, 3] + 0.3 * along / np.linalg.norm(along)


def mirrored_object(item: SimObject) -> SimObject:
    """The thing seen in a mirror that stands upright on its x axis."""
    flip = np.array([-1, 1, 1], np.float32)
    grips = tuple(replace(grip, center=grip.center * flip, axis=grip.axis * flip) for grip in item.grips)
    return replace(
        item,
        name=f"{item.name}_mirrored",
        vertices=item.vertices * flip,
        faces=np.ascontiguousarray(item.faces[:, ::-1]),
        corner_uv=np.ascontiguousarray(item.corner_uv[:, ::-1]),
        corner_normals=np.ascontiguousarray(item.corner_normals[:, ::-1] * flip),
        grips=grips,
    )


def _place(
    plane: np.ndarray, capture: CapturedGrasp, item: SimObject, T_world_view: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(4, 4) T_world_view of a camera before the whole motion, and T_view_capture: the captured table on ours."""
    up = plane[:3]
    joints = _bridged(capture.joints)
    middle_finger = joints[:, 9] - joints[:, 0]
    arm = -middle_finger[len(middle_finger) // 2 :].mean(0)
    arm = arm - (arm @ up) * up
    ahead = arm / max(np.linalg.norm(arm), 1e-9)
    # The forearm shall lead away from the camera and to the hand's own side, as seen from across the table.
    aside = rng.uniform(0.6, 1.5)
    away = np.cos(aside) * ahead + np.sin(aside) * np.cross(up, ahead)
    rotation = np.stack([np.cross(away, up), away, up])
    corners = item.vertices[:: max(1, len(item.vertices) // 60)].astype(np.float64)
    things = capture.T_capture_object
    swept = np.concatenate([corners @ T[:3, :3].T + T[:3, 3] for T in things[::2]])
    lifted = np.linalg.norm(things[:, :3, 3] - things[0, :3, 3], axis=1) > _MOVED_M
    swept = np.concatenate([swept, joints[lifted].reshape(-1, 3)]) @ rotation.T
    middle = (swept.min(0) + swept.max(0)) / 2
    height = middle[2] + plane[3]
    # As a person would set up the camera: a little above the motion, as near as shows the whole of it.
    best, shown = (T_world_view, np.eye(4)), -1.0
    for distance in np.arange(_NEAREST_M, _FARTHEST_M, 0.02):
        camera = np.array([T_world_view[0, 3], T_world_view[1, 3], max(T_world_view[2, 3], height + _ABOVE_M)])
        target = np.array([camera[0], camera[1] + distance, height])
        T_world_camera = _looking(camera, target)
        T_view_capture = invert_transform(T_world_camera) @ make_transform(rotation, target - middle)
        share = _shown(transform_points(invert_transform(T_world_camera), swept - middle + target))
        if share > shown + 0.002:
            best, shown = (T_world_camera, T_view_capture), share
    return best


def _looking(camera: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(4, 4) T_world_camera of an upright camera at a place (3,) that looks at another, world's z up."""
    forward = (target - camera) / np.linalg.norm(target - camera)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    return make_transform(np.stack([right, np.cross(forward, right), forward], 1), camera)


def _shown(points: np.ndarray) -> float:
    """Share of points (N, 3), view frame, that lie in a picture of 4 to 3, a little inside its border."""
    slope = points[:, :2] / np.maximum(points[:, 2:], 1e-3)
    return float(((np.abs(slope) < _HALF_VIEW) & (points[:, 2:] > 0.2)).all(1).mean())


def _bridged(joints: np.ndarray) -> np.ndarray:
    """(T, 21, 3) with frames without a hand filled from their neighbours."""
    good = np.flatnonzero(np.isfinite(joints).all((1, 2)))
    flat = joints.reshape(len(joints), -1)
    filled = [np.interp(np.arange(len(joints)), good, flat[good, k]) for k in range(flat.shape[1])]
    return np.stack(filled, -1).reshape(joints.shape)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Values (T, ...) without the jitter of single frames."""
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(values, 1.0, axis=0, mode="nearest")

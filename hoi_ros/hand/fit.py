"""Fit the hand model to the 21 landmarks of a network: inverse kinematics with limits, then metric placement."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hoi_ros.datatypes import HAND_SIDES, CameraIntrinsics
from hoi_ros.errors import InputError, unknown_name
from hoi_ros.geometry import make_transform, project
from hoi_ros.hand.fit_problem import PAIRS, PARAMETER_COUNT, Misfit, Pose, Target, solve
from hoi_ros.hand.fit_start import initial_pose, spread_translation
from hoi_ros.hand.placement import SizeBelief, measure, place
from hoi_ros.hand_model import HandModel
from hoi_ros.hand_model.anatomy import bone_frames
from hoi_ros.hand_model.kinematics import forward_kinematics
from hoi_ros.hand_model.model import FREE_HAND_NAME, MIRROR

_FINGER_OFFSETS_MM = ((0, 3.5, 3.5), (0, 1, 2.5), (0, 0, 2), (0, -1.7, 1))
_THUMB_OFFSETS_MM = ((3.5, 6, -5.5), (0, 2.5, 0), (1, -1, 2), (0.5, -2.5, 0.5))
# Where the landmark network sets its landmarks against the free hand's joints: metres to the thumb's side, along the
# bone, to the palm's side. Half of what the network answers on renders of the free hand, whose joints are known.
LANDMARK_OFFSETS_M = np.array([(0, 0, 1), *_THUMB_OFFSETS_MM, *(4 * _FINGER_OFFSETS_MM)]) * 1e-3


@dataclass(frozen=True)
class FitConfig:
    """Trust of the fit in its inputs; standard deviations."""

    ray_sigma_m: float = 0.004
    """Of a landmark in the image, at the hand's distance."""
    direction_sigma_rad: float = 0.33
    """Of a bone's direction in the network's 3D landmarks."""
    shape_sigma: float = 0.8
    """Of a shape coefficient about 0, or about the track's own at its start."""
    shape_sigma_steady: float = 0.05
    """Of a shape coefficient about the track's own after many frames."""
    depth_sigma_m: float = 0.005
    """Of a joint's depth taken from the skin over it, where a depth image is given; 0 places the hand only."""
    landmark_offset_share: float = 1.0
    """Of `LANDMARK_OFFSETS_M` that the landmarks have; 0 when they are the hand model's own joints."""
    angle_drift_rad: float = 0.35
    """Of a joint angle between frames of a track."""
    huber: float = 1.5
    """Standard deviations beyond which a landmark counts linearly."""
    iterations: int = 8
    """Solver steps at most."""
    depth_iterations: int = 3
    """More of them after the depth image was read."""
    tolerance: float = 1e-3
    """Relative fall of the cost below which the solver stops."""


@dataclass(frozen=True)
class FitState:
    """What one frame of a track tells the next."""

    pose: Pose
    """Of the right-hand problem."""
    frames: int
    """Frames of the track so far."""
    belief: SizeBelief
    """Size of the hand."""
    handedness: str
    """Side that the track was fitted as."""


@dataclass(frozen=True)
class HandFit:
    """One fitted hand; optical frame, metres."""

    joint_angles: np.ndarray
    """(22,) radians."""
    shape: np.ndarray
    """(10,)."""
    scale: float
    """Size factor against the mean adult."""
    T_camera_wrist: np.ndarray
    """(4, 4) rigid; the model's metres are already multiplied by `scale`."""
    joints_camera: np.ndarray
    """(21, 3)."""
    vertices_camera: np.ndarray
    """(V, 3) float32."""
    bone_rotations: np.ndarray
    """(21, 3, 3)."""
    landmarks_camera: np.ndarray
    """(21, 3) the network's own joints, brought to the mesh's size and place."""
    sigma_m: float
    """One standard deviation of the distance."""
    depth_used: bool
    """Whether a depth image placed the hand."""
    residual_px: float
    """Mean distance of projected joints and landmarks, pixels."""
    state: FitState
    """Give it to the next frame of the same track."""

    def nearer(self, factor: float) -> HandFit:
        """The same hand, its middle at the distance divided by a factor; what the next frame is told stays."""
        offset = self.joints_camera.mean(0) * (1 / factor - 1)
        transform = self.T_camera_wrist.copy()
        transform[:3, 3] += offset
        return replace(
            self,
            T_camera_wrist=transform,
            joints_camera=self.joints_camera + offset,
            vertices_camera=(self.vertices_camera + offset).astype(np.float32),
            landmarks_camera=self.landmarks_camera + offset,
        )


class HandFitter:
    """Fits one hand at a time; holds no state, so one serves every track."""

    def __init__(self, model: HandModel, config: FitConfig | None = None) -> None:
        self.model = model
        self.config = config or FitConfig()
        self.limits = model.joint_limits
        self._angle_rows, self._angle_values = angle_prior(model.joint_angle_names)
        offsets = LANDMARK_OFFSETS_M if model.name == FREE_HAND_NAME else np.zeros((21, 3))
        offsets = self.config.landmark_offset_share * offsets
        self._anchors = (bone_frames(model.skeleton.keypoints) @ offsets[..., None])[..., 0]
        self._ray_scale = np.ones(21)
        self._ray_scale[[0, 1]] = 1.6
        self._ray_scale[[5, 9, 13, 17]] = 1.2

    def fit(
        self,
        landmarks_px: np.ndarray,
        landmarks_world: np.ndarray,
        handedness: str,
        intrinsics: CameraIntrinsics,
        depth_m: np.ndarray | None = None,
        state: FitState | None = None,
    ) -> HandFit:
        """Fit pose, shape, place and size to one image's landmarks.

        Args:
            landmarks_px: (21, 2) pixels of the image.
            landmarks_world: (21, 3) metres about the hand's centre in the image's axes (x right, y down, z away).
            handedness: 'left' or 'right', the person's own.
            intrinsics: of the image.
            depth_m: (H, W) metres aligned to the image, 0 unknown.
            state: of the track's previous frame; None starts anew.

        Raises:
            InputError: wrong shapes, landmarks that are not finite, or an unknown side.
        """
        landmarks_px = np.asarray(landmarks_px, np.float64)
        landmarks_world = np.asarray(landmarks_world, np.float64)
        _check(landmarks_px, landmarks_world, handedness)
        if state is not None and state.handedness != handedness:
            state = None
        mirror = np.ones(3) if handedness == "right" else MIRROR
        rays, look = straighten(landmarks_px, intrinsics)
        view = _View(handedness, mirror, look, intrinsics, depth_m)
        target = self._target(rays * mirror[:2], landmarks_world * mirror, state)
        pose = self._solve(target, landmarks_world * mirror, state)
        belief = state.belief if state is not None else SizeBelief()
        if depth_m is not None and self.config.depth_sigma_m > 0:
            pose = self._follow_depth(pose, target, view, depth_m, belief)
        return self._finish(pose, view, landmarks_px, landmarks_world, belief, 0 if state is None else state.frames)

    def _target(self, rays: np.ndarray, world: np.ndarray, state: FitState | None) -> Target:
        config = self.config
        directions = world[PAIRS[:, 1]] - world[PAIRS[:, 0]]
        directions = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
        rows, values = [self._angle_rows], [self._angle_values]
        shape_rows = np.zeros((10, PARAMETER_COUNT))
        if state is None:
            sigma, mean = config.shape_sigma, np.zeros(10)
        else:
            sigma = max(config.shape_sigma / np.sqrt(1 + state.frames), config.shape_sigma_steady)
            mean = state.pose.shape
            steady = np.zeros((22, PARAMETER_COUNT))
            steady[:, :22] = np.eye(22) / config.angle_drift_rad
            rows.append(steady)
            values.append(state.pose.angles / config.angle_drift_rad)
        shape_rows[:, 22:32] = np.eye(10) / sigma
        rows.append(shape_rows)
        values.append(mean / sigma)
        return Target(
            self._anchors,
            rays,
            config.ray_sigma_m * self._ray_scale,
            directions,
            np.full(len(PAIRS), config.direction_sigma_rad),
            np.concatenate(rows),
            np.concatenate(values),
        )

    def _solve(self, target: Target, world: np.ndarray, state: FitState | None) -> Pose:
        shape = np.zeros(10) if state is None else state.pose.shape
        start = initial_pose(self.model, world, target.rays, shape, self.limits)
        if state is not None:
            start = self._better_start(start, state, target)
        return self._descend(start, target, self.config.iterations)

    def _descend(self, start: Pose, target: Target, iterations: int) -> Pose:
        config = self.config
        pose, _ = solve(
            self.model,
            start,
            target,
            self.limits,
            iterations=iterations,
            huber=config.huber,
            tolerance=config.tolerance,
        )
        return pose

    def _better_start(self, fresh: Pose, state: FitState, target: Target) -> Pose:
        """The last frame's pose moved to the new rays, unless the closed form explains them better."""
        last = state.pose
        points = forward_kinematics(self.model.skeleton, last.angles[None], last.shape[None]).keypoints[0]
        translation = spread_translation(points @ last.rotation.T, target.rays)
        carried = Pose(last.angles, last.shape, last.rotation, translation)
        costs = [float(np.abs(Misfit(self.model, p, target).r).sum()) for p in (fresh, carried)]
        return fresh if costs[0] < costs[1] else carried

    def _follow_depth(self, pose: Pose, target: Target, view: _View, depth_m: np.ndarray, belief: SizeBelief) -> Pose:
        """Bend the fitted hand so that its joints lie as deep as the depth image has the skin over them."""
        _, vertices, joints = self._unit_hand(pose, view)
        faces = self.model.faces(view.handedness)
        measured = measure(vertices * np.float32(belief.scale), faces, view.intrinsics, depth_m)
        if measured is None:
            return pose
        excess, trust = measured.joint_excess(joints * belief.scale)
        size = belief.scale * measured.factor
        now = Misfit(self.model, pose, target)
        corrected = replace(
            target, depth_goal=now.depth + excess / size, depth_weight=trust * (size / self.config.depth_sigma_m)
        )
        return self._descend(pose, corrected, self.config.depth_iterations)

    def _unit_hand(self, pose: Pose, view: _View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Wrist rotation (3, 3), vertices (V, 3) and joints (21, 3) of the hand of size 1, optical frame."""
        rotation, translation = view.to_camera(pose)
        posed = self.model.pose(pose.angles[None], pose.shape[None], view.handedness)
        vertices = posed.vertices[0] @ rotation.T.astype(np.float32) + translation.astype(np.float32)
        return rotation @ posed.bone_rotations[0], vertices, posed.joints[0] @ rotation.T + translation

    def _finish(
        self,
        pose: Pose,
        view: _View,
        landmarks_px: np.ndarray,
        landmarks_world: np.ndarray,
        belief: SizeBelief,
        frames: int,
    ) -> HandFit:
        """From the right-hand problem back to the camera, at true size."""
        bone_rotations, vertices, joints = self._unit_hand(pose, view)
        placed = place(vertices, self.model.faces(view.handedness), view.intrinsics, view.depth_m, belief)
        joints = joints * placed.scale + placed.offset
        rotation, translation = view.to_camera(pose)
        return HandFit(
            pose.angles,
            pose.shape,
            placed.scale,
            make_transform(rotation, translation * placed.scale + placed.offset),
            joints,
            (vertices * np.float32(placed.scale) + placed.offset).astype(np.float32),
            bone_rotations,
            _like(landmarks_world @ view.look.T, joints),
            placed.sigma_m,
            placed.depth_used,
            float(np.linalg.norm(project(joints, view.intrinsics) - landmarks_px, axis=1).mean()),
            FitState(pose, frames + 1, placed.belief, view.handedness),
        )


@dataclass(frozen=True)
class _View:
    """How the right-hand problem lies in the camera."""

    handedness: str
    mirror: np.ndarray
    """(3,) 1 for a right hand, -1 in x for a left one."""
    look: np.ndarray
    """(3, 3) camera that looks straight at the hand, to the camera."""
    intrinsics: CameraIntrinsics
    depth_m: np.ndarray | None

    def to_camera(self, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
        """Rotation (3, 3) and translation (3,) of the wrist of the hand of size 1, optical frame."""
        rotation = self.look @ (pose.rotation * (self.mirror[:, None] * self.mirror))
        return rotation, self.look @ (pose.translation * self.mirror)


def straighten(pixels: np.ndarray, intrinsics: CameraIntrinsics) -> tuple[np.ndarray, np.ndarray]:
    """Rays (N, 2) as x / z, y / z of a camera turned to look at the pixels' middle, and its rotation (3, 3).

    Networks see a hand in the middle of a crop; their 3D landmarks are in the axes of that turned camera.
    """
    centre = np.array([intrinsics.cx, intrinsics.cy])
    focal = np.array([intrinsics.fx, intrinsics.fy])
    flat = (pixels - centre) / focal
    middle = (flat.min(0) + flat.max(0)) / 2
    z = np.array([middle[0], middle[1], 1.0])
    z /= np.linalg.norm(z)
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    look = np.stack([x, np.cross(z, x), z], 1)
    turned = np.concatenate([flat, np.ones((len(flat), 1))], 1) @ look
    return turned[:, :2] / turned[:, 2:], look


def angle_prior(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Rows (Q, 38) and values (Q,) of a weak prior: relaxed fingers, the last joint bends with the middle one."""
    loose = {
        "thumb_cmc_flexion": (0.0, 0.4),
        "thumb_cmc_abduction": (0.0, 0.4),
        "thumb_cmc_rotation": (0.0, 0.25),
        "thumb_mcp_flexion": (0.25, 0.4),
        "thumb_mcp_abduction": (0.0, 0.15),
        "thumb_ip_flexion": (0.3, 0.5),
        "mcp_flexion": (0.4, 0.8),
        "mcp_abduction": (0.0, 0.2),
        "pip_flexion": (0.5, 0.9),
    }
    rows, values = [], []
    for index, name in enumerate(names):
        row = np.zeros(PARAMETER_COUNT)
        joint = name if name.startswith("thumb") else name.split("_", 1)[1]
        if joint == "dip_flexion":
            mean, sigma = 0.0, 0.25
            row[index - 1] = -0.55 / sigma
        else:
            mean, sigma = loose[joint]
        row[index] = 1 / sigma
        rows.append(row)
        values.append(mean / sigma)
    return np.array(rows), np.array(values)


def _like(points: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Points (21, 3) moved and scaled, not turned, onto the joints (21, 3)."""
    centred, goal = points - points.mean(0), joints - joints.mean(0)
    factor = np.sqrt((goal**2).sum() / max((centred**2).sum(), 1e-12))
    return centred * factor + joints.mean(0)


def _check(landmarks_px: np.ndarray, landmarks_world: np.ndarray, handedness: str) -> None:
    if handedness not in HAND_SIDES:
        raise unknown_name("hand side", str(handedness), HAND_SIDES)
    if landmarks_px.shape != (21, 2) or landmarks_world.shape != (21, 3):
        raise InputError(
            f"hand landmarks {landmarks_px.shape} px and {landmarks_world.shape} m: give (21, 2) and (21, 3)"
        )
    if not (np.isfinite(landmarks_px).all() and np.isfinite(landmarks_world).all()):
        raise InputError("hand landmarks hold values that are not finite: drop this hand before fitting")

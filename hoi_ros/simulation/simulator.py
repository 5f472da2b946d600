"""Seeded scenes with exact truth: colour, depth, labels and all poses of hands and object."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from hoi_ros.datatypes import (
    LABEL_LEFT_HAND,
    LABEL_OBJECT,
    LABEL_RIGHT_HAND,
    LABEL_STANDING,
    CameraIntrinsics,
    FrameTruth,
    HandTruth,
    RgbdFrame,
    TriangleMesh,
)
from hoi_ros.geometry import invert_transform, project, so3_exp, transform_points
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.background import Room
from hoi_ros.simulation.depth_noise import DepthNoise
from hoi_ros.simulation.render import Actor, ArmActor, HandActor, Light, ObjectActor, Picture, Renderer
from hoi_ros.simulation.scene import HandState
from hoi_ros.simulation.scenes import make_scene, parse_scene
from hoi_ros.simulation.simulator_config import SimulatorConfig
from hoi_ros.simulation.skin import ForearmShape, HandSkin, wind_outward
from hoi_ros.simulation.standing import parse_standing, place_standing, unique_names

_LABELS = {"left": LABEL_LEFT_HAND, "right": LABEL_RIGHT_HAND}
_FOCAL_OF_WIDTH = 610 / 640
_SHUTTER = 0.5


class Simulator:
    """Iterable of frames with truth; `frame(i)` is the same picture whenever and in whatever order it is asked for.

    Args:
        scene: `rotate`, `handover`, `bare` or `empty`, with `:object` behind the first two if wanted.
        config: settings.

    Raises:
        InputError: unknown scene or object, unreadable mesh.
    """

    def __init__(self, scene: str = "rotate", config: SimulatorConfig | None = None) -> None:
        self.config = config = config or SimulatorConfig()
        self.scene_name, item = parse_scene(scene, config.object)
        focal = _FOCAL_OF_WIDTH * config.width
        self.intrinsics = CameraIntrinsics(
            config.width, config.height, focal, focal, (config.width - 1) / 2, (config.height - 1) / 2
        )
        rng = np.random.default_rng([config.seed, 1])
        self.model = HandModel.load()
        self.hand_shape = np.zeros(10)
        if config.hand_shape_seed >= 0:
            self.hand_shape = np.clip(np.random.default_rng(config.hand_shape_seed).standard_normal(10), -2, 2)
        self._rest_camera = _look_at(rng.uniform(0.4, 0.55))
        self.scene = make_scene(self.scene_name, item, self.model, self.hand_shape, config, self._rest_camera)
        if self.scene.T_world_view is not None:
            self._rest_camera = self.scene.T_world_view
        if self.scene.shape is not None:
            self.hand_shape = self.scene.shape
        self._standing_items = parse_standing(config.standing, self.scene.item, config.seed)
        self._items = [*([self.scene.item] if self.scene.item else []), *self._standing_items]
        self.object_names = unique_names(self._items)
        """Names of all things, what is held first."""
        self._room = Room(config.seed)
        self._renderer = Renderer(self.intrinsics)
        self._T_world_standing = place_standing(
            self._standing_items,
            self.scene,
            self.model,
            self.hand_shape,
            self._rest_camera,
            self.intrinsics,
            config.seed,
        )
        tone = config.skin_tone if config.skin_tone >= 0 else float(rng.beta(1.3, 2.0))
        self._build_actors(tone, rng)
        self._exposure = rng.uniform(0.94, 1.06) * rng.uniform(0.97, 1.03, 3)
        self._key_world = np.array([rng.uniform(-0.6, 0.6), rng.uniform(-0.7, -0.2), rng.uniform(0.7, 1.0)])
        self._noise = _noise_tile(config)
        self._cached_room: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def loop_frames(self) -> int:
        """Frames after which everything but sensor noise repeats."""
        return max(1, round(self.scene.period_s * self.config.fps))

    @property
    def once_frames(self) -> int:
        """Frames that show everything once: a loop, or the part of it before a replay runs back."""
        return max(1, round((self.scene.once_s or self.scene.period_s) * self.config.fps))

    def object_meshes(self) -> dict[str, TriangleMesh]:
        """True meshes in the object frame, coloured, by object name; what is held first."""
        return {name: item.colored_mesh() for name, item in zip(self.object_names, self._items)}

    def __iter__(self) -> Iterator[RgbdFrame]:
        index = 0
        while self.config.frames == 0 or index < self.config.frames:
            yield self.frame(index)
            index += 1

    def frame(self, index: int) -> RgbdFrame:
        """Render frame `index`, stamped index / fps."""
        config = self.config
        time = self._time(index)
        picture, truth = self._expose(time)
        color = picture.color
        if config.motion_blur:
            others = [self._expose(self._time(index + s))[0].color for s in (_SHUTTER / 3, 2 * _SHUTTER / 3)]
            color = (color + others[0] + others[1]) / 3
        depth = truth.depth_m
        if config.depth_noise:
            depth = DepthNoise().apply(depth, self.intrinsics, np.random.default_rng([config.seed, 2, index]))
        return RgbdFrame(
            color=self._develop(color, time, index),
            intrinsics=self.intrinsics,
            stamp_ns=round(index / config.fps * 1e9),
            index=index,
            depth_m=depth,
            name=f"sim:{self.scene_name}",
            truth=truth,
        )

    def _time(self, index: float) -> float:
        return (index % self.loop_frames) / self.loop_frames * self.scene.period_s

    def _build_actors(self, tone: float, rng: np.random.Generator) -> None:
        self._object = ObjectActor(self.scene.item, LABEL_OBJECT) if self.scene.item else None
        self._standing = [ObjectActor(item, LABEL_STANDING + k) for k, item in enumerate(self._standing_items)]
        self._hands: dict[str, HandActor] = {}
        self._arms: dict[str, ArmActor] = {}
        if not self.scene.sides:
            return
        skin = HandSkin(self.model, self.hand_shape, tone, self.config.seed)
        sleeve = rng.uniform(40, 200) * (0.6 + 0.4 * rng.random(3))
        sleeve_from = float(rng.uniform(0.05, 0.16)) if rng.random() < 0.7 else 1.0
        rest = skin.attributes[:, :3].astype(np.float64)
        self._forearm = ForearmShape(rest, self.model.faces("right"), sleeve_from, self.config.seed)
        for side in self.scene.sides:
            self._hands[side] = HandActor(skin, self.model.faces(side), _LABELS[side])
            probe = self._forearm.build(np.eye(4), np.array([0.0, -0.3, 0]), side)
            faces = wind_outward(probe, self._forearm.faces)
            self._arms[side] = ArmActor(skin, faces, self._forearm.attributes, sleeve, self.config.seed)

    def _expose(self, time: float) -> tuple[Picture, FrameTruth]:
        """One moment: everything placed, rendered, and its truth."""
        T_world_camera = self._camera(time)
        T_camera_view = invert_transform(T_world_camera) @ self._rest_camera
        state = self.scene.at(time)
        actors: list[Actor] = []
        hands = [self._place_hand(hand, T_camera_view, actors) for hand in state.hands]
        poses = []
        things: list[ObjectActor] = []
        if self._object is not None and state.T_view_object is not None:
            poses.append(T_camera_view @ state.T_view_object)
            things.append(self._object)
        poses += [invert_transform(T_world_camera) @ T_world_object for T_world_object in self._T_world_standing]
        things += self._standing
        for thing, pose in zip(things, poses):
            thing.place(pose)
        actors += things
        color, depth = self._empty_room(T_world_camera)
        names = self.object_names if len(things) == len(self.object_names) else self.object_names[1:]
        up = T_world_camera[:3, :3].T @ np.array([0, 0, 1.0])
        table = np.append(up, T_world_camera[2, 3])
        picture = self._renderer.render(actors, color, depth, self._light(T_world_camera, up), table)
        truths = tuple(self._hand_truth(hand, T_camera_view, joints, actors, picture) for hand, joints in hands)
        visible = {n: self._visible(t.shadow_points(), actors.index(t), picture) for n, t in zip(names, things)}
        return picture, FrameTruth(
            truths, dict(zip(names, poses)), T_world_camera, picture.labels, picture.depth_m, visible
        )

    def _place_hand(
        self, hand: HandState, T_camera_view: np.ndarray, actors: list[Actor]
    ) -> tuple[HandState, np.ndarray]:
        pose = self.model.pose(hand.joint_angles[None], self.hand_shape[None], hand.side)
        T_camera_wrist = T_camera_view @ hand.T_view_wrist
        actor = self._hands[hand.side]
        actor.place(transform_points(T_camera_wrist, pose.vertices[0].astype(np.float64)))
        elbow = transform_points(T_camera_view, hand.elbow_view[None])[0]
        arm = self._arms[hand.side]
        arm.place(self._forearm.build(T_camera_wrist, elbow, hand.side))
        actors += [arm, actor]
        return hand, transform_points(T_camera_wrist, pose.joints[0].astype(np.float64))

    def _hand_truth(
        self, hand: HandState, T_camera_view: np.ndarray, joints: np.ndarray, actors: list[Actor], picture: Picture
    ) -> HandTruth:
        actor = self._hands[hand.side]
        seen = self._visible(actor.vertices, actors.index(actor), picture)
        return HandTruth(
            hand.side, joints, actor.vertices, seen, hand.joint_angles.copy(), T_camera_view @ hand.T_view_wrist
        )

    def _visible(self, points: np.ndarray, number: int, picture: Picture) -> float:
        """Share of an actor, spread like `points` (N, 3), that lies inside the picture and in front, 0 to 1."""
        pixels = project(points, self.intrinsics)
        size = (self.intrinsics.width - 0.5, self.intrinsics.height - 0.5)
        inside = ((pixels > -0.5) & (pixels < size)).all(1).mean()
        return float(inside * picture.seen_pixels[number] / max(1, picture.own_pixels[number]))

    def _camera(self, time: float) -> np.ndarray:
        """(4, 4) T_world_camera."""
        if not self.config.moving_camera:
            return self._rest_camera
        phase = 2 * np.pi * time / self.scene.period_s
        pivot = np.array([0, 0, 0.48])
        turn = so3_exp(np.array([0.1 * np.sin(phase), 0.22 * np.sin(phase), 0.04 * np.sin(2 * phase)]))
        local = np.eye(4)
        local[:3, :3] = turn
        local[:3, 3] = pivot - turn @ pivot + [0, 0, 0.03 * np.sin(phase)]
        return self._rest_camera @ local

    def _empty_room(self, T_world_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.config.moving_camera:
            return self._room.render(T_world_camera, self.intrinsics)
        if self._cached_room is None:
            self._cached_room = self._room.render(T_world_camera, self.intrinsics)
        return self._cached_room

    def _light(self, T_world_camera: np.ndarray, up: np.ndarray) -> Light:
        toward = T_world_camera[:3, :3].T @ self._key_world
        return Light(toward / np.linalg.norm(toward), np.array([0.64, 0.61, 0.56]), np.array([0.46, 0.475, 0.5]), up)

    def _develop(self, color: np.ndarray, time: float, index: int) -> np.ndarray:
        """Exposure, light changes, lens softness and sensor noise, to uint8."""
        gain = self._exposure
        if self.config.light_changes:
            phase = 2 * np.pi * time / self.scene.period_s
            warmth = 0.06 * np.sin(2 * phase + 1)
            gain = gain * (1 + 0.22 * np.sin(phase)) * np.array([1 + warmth, 1, 1 - warmth])
        out = cv2.GaussianBlur(color, (3, 3), 0.55)
        out *= gain.astype(np.float32)
        if self.config.sensor_noise > 0:
            rng = np.random.default_rng([self.config.seed, 3, index])
            dy, dx = rng.integers(0, 64, 2)
            out += self._noise[dy : dy + out.shape[0], dx : dx + out.shape[1]]
        return cv2.convertScaleAbs(np.clip(out, 0, 255, out=out))


def _noise_tile(config: SimulatorConfig) -> np.ndarray:
    rng = np.random.default_rng([config.seed, 4])
    return rng.standard_normal((config.height + 64, config.width + 64, 3), dtype=np.float32) * config.sensor_noise


def _look_at(pitch_rad: float) -> np.ndarray:
    """(4, 4) T_world_camera: 0.45 m over the table's edge, looking along +y and down."""
    down, forward = np.sin(pitch_rad), np.cos(pitch_rad)
    T = np.eye(4)
    T[:3, :3] = np.stack([[1, 0, 0], [0, -down, -forward], [0, forward, -down]], 1)
    T[:3, 3] = [0, -0.45, 0.46]
    return T

"""Topics to records: colour + depth + camera_info to RgbdFrame, hand topics to HandEstimate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseArray, PoseWithCovarianceStamped
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from visualization_msgs.msg import MarkerArray

from hoi_ros.datatypes import HAND_SIDES, CameraIntrinsics, HandEstimate, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.geometry import project
from hoi_ros.nodes.conversions import (
    color_from_image,
    depth_from_image,
    fields_from_cloud,
    intrinsics_from_camera_info,
    joints_from_message,
    sigma_from_wrist,
    stamp_of,
    transform_from_pose,
)
from hoi_ros.nodes.diagnostics import NodeDiagnostics
from hoi_ros.nodes.markers import hands_in_skeleton
from hoi_ros.nodes.node_configs import InputConfig
from hoi_ros.nodes.qos import IMAGE_IN, RESULT
from hoi_ros.nodes.synchronizer import FrameSynchronizer, HandCollector, HandParts, Pair

COLOR_TOPIC = "color/image_raw"
DEPTH_TOPIC = "aligned_depth_to_color/image_raw"
INFO_TOPIC = "color/camera_info"
DISTORTION_NOTICED = 0.05


class IntrinsicsKeeper:
    """The camera of a picture: the last camera_info that fits its size, else a guess that is said once."""

    def __init__(self, wait_s: float, diagnostics: NodeDiagnostics) -> None:
        self._wait_s, self._diagnostics = wait_s, diagnostics
        self._info: CameraInfo | None = None
        self._first_s: float | None = None

    def take(self, info: CameraInfo) -> None:
        """Remember a camera_info message."""
        self._info = info

    def camera(self, width: int, height: int) -> CameraIntrinsics | None:
        """Camera of a picture of this size; None while camera_info may still come."""
        if self._first_s is None:
            self._first_s = time.monotonic()
        if self._info is None:
            if time.monotonic() - self._first_s < self._wait_s:
                return None
            return self._guess(width, height, f"no camera_info on {INFO_TOPIC}")
        try:
            intrinsics = intrinsics_from_camera_info(self._info)
        except InputError as error:
            return self._guess(width, height, str(error))
        if intrinsics is None:
            return self._guess(width, height, "camera_info says the camera is not calibrated")
        if (intrinsics.width, intrinsics.height) != (width, height):
            size = f"{intrinsics.width}x{intrinsics.height}"
            return self._guess(width, height, f"camera_info is of {size}, the picture {width}x{height}")
        if len(self._info.d) and max(map(abs, self._info.d)) > DISTORTION_NOTICED:
            self._diagnostics.say(
                "distortion", "the camera's lens distorts: remap color/image_raw to a rectified image"
            )
        return intrinsics

    def _guess(self, width: int, height: int, reason: str) -> CameraIntrinsics:
        guess = CameraIntrinsics.from_fov(width, height)
        self._diagnostics.say("intrinsics", f"{reason}; distances are guessed from a 60 degree field of view")
        return guess


class FrameInput:
    """Subscribes to a camera's topics and calls back with each colour picture and its depth."""

    def __init__(
        self,
        node: Node,
        config: InputConfig,
        diagnostics: NodeDiagnostics,
        on_pair: Callable[[Pair], None],
        on_jump: Callable[[], None] = lambda: None,
    ) -> None:
        self._node, self._diagnostics, self._on_pair, self._on_jump = node, diagnostics, on_pair, on_jump
        self._intrinsics = IntrinsicsKeeper(config.info_wait_s, diagnostics)
        self._count = self._jumps = 0
        self._synchronizer = FrameSynchronizer(
            int(config.sync_slop_s * 1e9), int(config.depth_wait_s * 1e9), self._depth_has_publisher
        )
        # Executors serve them in this order: the first picture needs its camera.
        self._entities = [
            node.create_subscription(CameraInfo, INFO_TOPIC, self._intrinsics.take, IMAGE_IN),
            node.create_subscription(Image, DEPTH_TOPIC, self._on_depth, IMAGE_IN),
            node.create_subscription(Image, COLOR_TOPIC, self._on_color, IMAGE_IN),
        ]
        self._timer = node.create_timer(max(config.depth_wait_s / 3, 0.005), self._on_timer)
        self._timer.cancel()
        diagnostics.count("late_frames", lambda: self._synchronizer.order.late)

    def frame(self, pair: Pair) -> RgbdFrame | None:
        """Record of a pair; None while the camera's intrinsics are awaited.

        Depth that cannot be read or has another size is left out and said once.

        Raises:
            InputError: the colour picture cannot be read.
        """
        color = color_from_image(pair.color)
        intrinsics = self._intrinsics.camera(color.shape[1], color.shape[0])
        if intrinsics is None:
            return None
        index, self._count = self._count, self._count + 1
        depth, frame_id = self._depth(pair, color.shape[:2]), pair.color.header.frame_id
        return RgbdFrame(color, intrinsics, pair.stamp_ns, index, depth, frame_id, name=COLOR_TOPIC)

    def _depth(self, pair: Pair, shape: tuple[int, int]) -> np.ndarray | None:
        if pair.depth is None:
            return None
        try:
            depth = depth_from_image(pair.depth)
            if depth.shape != shape:
                raise InputError(
                    f"depth is {depth.shape[1]}x{depth.shape[0]}, colour {shape[1]}x{shape[0]}: "
                    "align depth to colour (realsense2_camera: align_depth.enable:=true)"
                )
        except InputError as error:
            self._diagnostics.bad_frames += 1
            self._diagnostics.say("depth", f"{error}; the frame goes on without depth")
            return None
        return depth

    def destroy(self) -> None:
        """Give the subscriptions back."""
        for entity in self._entities:
            self._node.destroy_subscription(entity)
        self._node.destroy_timer(self._timer)

    def _depth_has_publisher(self) -> bool:
        return self._node.count_publishers(self._entities[1].topic_name) > 0

    def _on_color(self, message: Image) -> None:
        self._emit(self._synchronizer.add_color(stamp_of(message), message, time.monotonic_ns()))

    def _on_depth(self, message: Image) -> None:
        if self._synchronizer.depth_missing:
            self._diagnostics.over("no_depth")
        self._emit(self._synchronizer.add_depth(stamp_of(message), message, time.monotonic_ns()))

    def _on_timer(self) -> None:
        self._emit(self._synchronizer.poll(time.monotonic_ns()))

    def _emit(self, pairs: list[Pair]) -> None:
        synchronizer = self._synchronizer
        if synchronizer.order.jumps != self._jumps:
            self._jumps = synchronizer.order.jumps
            self._diagnostics.say("clock", "the pictures' clock jumped back: starting anew")
            self._on_jump()
        if synchronizer.depth_missing:
            self._diagnostics.say("no_depth", f"no depth comes on {DEPTH_TOPIC}: colour goes on alone")
        for pair in pairs:
            self._on_pair(pair)
        if synchronizer.waiting and self._timer.is_canceled():
            self._timer.reset()
        elif not synchronizer.waiting:
            self._timer.cancel()


class HandsInput:
    """Subscribes to the hand topics and calls back with the hands of a stamp when all their parts are there."""

    def __init__(self, node: Node, on_hands: Callable[[int, list[HandParts]], None]) -> None:
        self._node, self._on_hands = node, on_hands
        self._collector = HandCollector()
        self._entities = [node.create_subscription(MarkerArray, "hands/skeleton", self._on_skeleton, RESULT)]
        kinds = {"vertices": PointCloud2, "joints": PoseArray, "wrist": PoseWithCovarianceStamped}
        for side in HAND_SIDES:
            for kind, message_type in kinds.items():
                callback = self._part_callback(kind, side)
                self._entities.append(node.create_subscription(message_type, f"hands/{side}/{kind}", callback, RESULT))

    def destroy(self) -> None:
        """Give the subscriptions back."""
        for entity in self._entities:
            self._node.destroy_subscription(entity)

    def _on_skeleton(self, message: MarkerArray) -> None:
        if message.markers:
            stamp = stamp_of(message.markers[0])
            self._pass_on(stamp, self._collector.add_skeleton(stamp, hands_in_skeleton(message)))

    def _part_callback(self, kind: str, side: str) -> Callable[[Any], None]:
        def on_part(message: Any) -> None:
            stamp = stamp_of(message)
            self._pass_on(stamp, self._collector.add_part(kind, side, stamp, message))

        return on_part

    def _pass_on(self, stamp_ns: int, hands: list[HandParts] | None) -> None:
        if hands is not None:
            self._on_hands(stamp_ns, hands)


def hands_from_parts(parts: list[HandParts], intrinsics: CameraIntrinsics) -> list[HandEstimate]:
    """Hands of one moment from their messages; joint angles and shape stay empty, they are not on these topics.

    Raises:
        InputError: a message is not filled as hand_node fills it.
    """
    return [_hand_from_messages(part.side, part.track_id, part.messages, intrinsics) for part in parts]


def _hand_from_messages(
    side: str, track_id: int, messages: Mapping[str, Any], intrinsics: CameraIntrinsics
) -> HandEstimate:
    cloud = fields_from_cloud(messages["vertices"], ("x", "y", "z", "confidence"))
    joints, rotations = joints_from_message(messages["joints"])
    joints_px = project(joints, intrinsics)
    pixels = project(cloud[:, :3].astype(np.float64), intrinsics)
    box = np.concatenate([np.nanmin(pixels, 0), np.nanmax(pixels, 0)])
    return HandEstimate(
        track_id=track_id,
        handedness=side,
        score=float(cloud[0, 3]),
        joints_px=joints_px,
        box_px=box,
        joints_camera=joints,
        vertices_camera=np.ascontiguousarray(cloud[:, :3]),
        T_camera_wrist=transform_from_pose(messages["wrist"].pose.pose),
        bone_rotations=rotations,
        joint_angles=np.zeros(0),
        shape=np.zeros(10),
        sigma_m=sigma_from_wrist(messages["wrist"]),
    )

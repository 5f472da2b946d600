"""Publish a mesh for every hand in every picture."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseArray, PoseWithCovarianceStamped
from sensor_msgs.msg import Image, JointState, PointCloud2
from visualization_msgs.msg import MarkerArray

from hoi_ros.datatypes import HAND_SIDES, HandEstimate, RgbdFrame
from hoi_ros.device import resolve_device
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.nodes.base_node import FrameNode, run_node
from hoi_ros.nodes.conversions import (
    image_message,
    joint_state_message,
    joints_message,
    make_header,
    transform_stamped,
    vertices_message,
    wrist_message,
)
from hoi_ros.nodes.frame_bus import FrameBus, HandsFrame
from hoi_ros.nodes.inputs import FrameInput
from hoi_ros.nodes.markers import HandMarkers, SkeletonMarkers
from hoi_ros.nodes.node_configs import ComputeConfig, InputConfig, PhotosConfig
from hoi_ros.nodes.qos import RESULT
from hoi_ros.nodes.synchronizer import Pair, StampOrder
from hoi_ros.nodes.transforms import TransformPublisher
from hoi_ros.nodes.worker import LatestSlot

SIDE_TOPICS = {
    "joints": PoseArray,
    "wrist": PoseWithCovarianceStamped,
    "joint_states": JointState,
    "vertices": PointCloud2,
}


class HandNode(FrameNode):
    """Colour, and depth where there is any, to hands."""

    node_name = "hand_node"
    config_classes = (HandConfig, ComputeConfig, InputConfig, PhotosConfig)

    def __init__(
        self,
        parameters: Any = None,
        bus: FrameBus | None = None,
        context: Any = None,
        *,
        frames_from_topics: bool | None = None,
    ) -> None:
        """As HoiNode; `frames_from_topics` makes a node with a bus read camera topics all the same."""
        super().__init__(parameters, bus, context)
        self._from_topics = bus is None if frames_from_topics is None else frames_from_topics

    def setup(self) -> None:
        super().setup()
        device = resolve_device(self.setting(ComputeConfig).device)
        self.estimator = create_hand_estimator(self.setting(HandConfig), device, live=True)
        self.faces = {side: np.ascontiguousarray(self.estimator.faces(side)) for side in HAND_SIDES}
        self._hand_count = 0
        self._order = StampOrder()
        self._create_publishers()
        self._input: FrameInput | None = None
        if self._from_topics or self.bus is None:
            slot: LatestSlot[Any] = LatestSlot()
            self._input = FrameInput(self, self.setting(InputConfig), self.diagnostics, self._offer)
        else:
            slot, self.waits_for = self.bus.frames.subscribe(), "the camera"
        self.work_on(slot)

    def _offer(self, pair: Pair) -> None:
        if self.active and self.worker is not None:
            self.worker.slot.put(pair)

    def _create_publishers(self) -> None:
        self._mesh = self.make_publisher(MarkerArray, "hands/mesh", RESULT)
        self._skeleton = self.make_publisher(MarkerArray, "hands/skeleton", RESULT)
        self._overlay = self.make_publisher(Image, "hands/overlay", RESULT)
        self._side = {
            (side, kind): self.make_publisher(message_type, f"hands/{side}/{kind}", RESULT)
            for side in HAND_SIDES
            for kind, message_type in SIDE_TOPICS.items()
        }
        self._angle_names = {
            side: [f"{side}_{name}" for name in self.estimator.joint_angle_names] for side in HAND_SIDES
        }
        self._transforms = TransformPublisher(self.make_publisher, self.diagnostics.note)
        self._mesh_markers, self._skeleton_markers = HandMarkers(), SkeletonMarkers()

    def process(self, item: RgbdFrame | Pair) -> int | None:
        frame = item if isinstance(item, RgbdFrame) else self._input.frame(item) if self._input else None
        if frame is None:
            return None
        if self._order.check(frame.stamp_ns) == "jump":
            self.diagnostics.say("clock", "the pictures' clock jumped back: starting anew")
            self.estimator.reset()
        hands = self.estimator.estimate(frame, independent=self.setting(PhotosConfig).independent)
        self._hand_count = len(hands)
        self.publish_hands(frame, hands)
        if self.bus is not None:
            self.bus.hands.put(HandsFrame(frame, hands, self.faces))
        return frame.stamp_ns

    def publish_hands(self, frame: RgbdFrame, hands: list[HandEstimate]) -> None:
        """Publish all that someone subscribes to; the mesh first, since robots wait for it."""
        stamp, frame_id = frame.stamp_ns, frame.frame_id
        if self._mesh.get_subscription_count():
            self._mesh.publish(self._mesh_markers.build(hands, self.faces, stamp, frame_id))
        header = make_header(stamp, frame_id)
        for hand in hands:
            self._publish_side(hand, frame.intrinsics.fx, header)
        if self._skeleton.get_subscription_count():
            self._skeleton.publish(self._skeleton_markers.build(hands, stamp, frame_id))
        best = {hand.handedness: hand for hand in sorted(hands, key=lambda hand: hand.score)}
        self._transforms.send(
            [transform_stamped(hand.T_camera_wrist, header, f"{side}_wrist") for side, hand in best.items()]
        )
        if self._overlay.get_subscription_count():
            from hoi_ros.overlay import draw_overlay

            picture = draw_overlay(frame.color, hands, self.faces, intrinsics=frame.intrinsics)
            self._overlay.publish(image_message(picture, "rgb8", header))

    def _publish_side(self, hand: HandEstimate, focal_px: float, header: Any) -> None:
        side = hand.handedness
        messages = {
            "joints": lambda: joints_message(hand.joints_camera, hand.bone_rotations, header),
            "wrist": lambda: wrist_message(hand, focal_px, header),
            "joint_states": lambda: joint_state_message(self._angle_names[side], hand.joint_angles, header),
            "vertices": lambda: vertices_message(hand.vertices_camera, hand.score, header),
        }
        for kind, make in messages.items():
            publisher = self._side[side, kind]
            if publisher.get_subscription_count():
                publisher.publish(make())

    def reset_core(self) -> None:
        self.estimator.reset()

    def frame_state(self) -> str:
        return f"{self._hand_count} hand{'' if self._hand_count == 1 else 's'}"

    def release(self) -> None:
        super().release()
        frame_input = getattr(self, "_input", None)
        if frame_input is not None:
            frame_input.destroy()
        if hasattr(self, "estimator"):
            self.estimator.close()


def main(args: list[str] | None = None) -> int:
    """Run hand_node."""
    return run_node(HandNode, args)


if __name__ == "__main__":
    sys.exit(main())

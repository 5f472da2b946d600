"""Publish the pose of whatever is held."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Path
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from hoi_ros.datatypes import HAND_SIDES, ObjectObservation, PoseRevision, RgbdFrame
from hoi_ros.device import resolve_device
from hoi_ros.geometry import invert_transform
from hoi_ros.nodes.base_node import FrameNode, run_node
from hoi_ros.nodes.conversions import (
    image_message,
    make_header,
    pose_stamped,
    stamp_of,
    transform_from_pose,
    transform_stamped,
)
from hoi_ros.nodes.frame_bus import HandsFrame, ObjectFrame
from hoi_ros.nodes.inputs import FrameInput, HandsInput, hands_from_parts
from hoi_ros.nodes.node_configs import ComputeConfig, InputConfig, PhotosConfig, TrackerNodeConfig
from hoi_ros.nodes.priority import TRACKING
from hoi_ros.nodes.qos import RESULT
from hoi_ros.nodes.synchronizer import HandParts, Pair, StampJoin, StampOrder
from hoi_ros.nodes.transforms import TransformPublisher
from hoi_ros.nodes.worker import LatestSlot
from hoi_ros.tracking import HeldObjectTracker, TrackerConfig

COLOR_ALONE = "no depth comes: the object is followed from colour alone, roughly, and sized by the hand"


def object_frame_id(object_id: int) -> str:
    """TF frame of an object."""
    return f"object_{object_id}"


def observation_status(observation: ObjectObservation) -> DiagnosticStatus:
    """State of the object in one frame, as /object/state carries it."""
    values = {
        "state": observation.state,
        "object_id": observation.object_id,
        "keyframe": int(observation.is_keyframe),
        "inlier_fraction": repr(float(observation.inlier_fraction)),
        "residual_m": repr(float(observation.residual_m)),
        "hand_track_id": "" if observation.hand_track_id is None else observation.hand_track_id,
        "revised": 0 if observation.revision is None else observation.revision.number,
        "own_depth": int(observation.own_depth_m is not None),
    }
    return DiagnosticStatus(
        level=DiagnosticStatus.WARN if observation.state == "lost" else DiagnosticStatus.OK,
        name="object",
        message=observation.message or observation.state,
        hardware_id=object_frame_id(observation.object_id),
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )


def covariance_message(observation: ObjectObservation, header: Header) -> PoseWithCovarianceStamped:
    """Pose and covariance of a tracked object, both in the camera's axes."""
    assert observation.T_camera_object is not None and observation.covariance is not None
    message = PoseWithCovarianceStamped(header=header)
    message.pose.pose = pose_stamped(observation.T_camera_object, header).pose
    message.pose.covariance = np.asarray(observation.covariance, np.float64).reshape(-1)
    return message


def revision_message(revision: PoseRevision, header: Header, object_id: int) -> Path:
    """Corrected keyframes: where the camera was around the object at each one's stamp, in the object's frame."""
    frame_id = object_frame_id(object_id)
    views = [
        pose_stamped(invert_transform(pose), make_header(stamp, frame_id))
        for stamp, pose in zip(revision.stamps_ns.tolist(), revision.T_camera_object)
    ]
    return Path(header=Header(stamp=header.stamp, frame_id=frame_id), poses=views)


def revision_from_message(message: Path, number: int) -> PoseRevision:
    """The corrected keyframes of a path, the object's `number`-th; inverse of `revision_message`."""
    poses = [invert_transform(transform_from_pose(view.pose)) for view in message.poses]
    stamps = np.array([stamp_of(view) for view in message.poses], np.int64)
    return PoseRevision(stamps, np.stack(poses) if poses else np.zeros((0, 4, 4)), number)


class TrackerNode(FrameNode):
    """Frames and their hands to the object's pose."""

    node_name = "tracker_node"
    config_classes = (TrackerConfig, ComputeConfig, InputConfig, PhotosConfig, TrackerNodeConfig)
    waits_for = "hands and camera topics of one stamp"
    niceness = TRACKING

    def setup(self) -> None:
        super().setup()
        device = resolve_device(self.setting(ComputeConfig).device)
        self.tracker = HeldObjectTracker(self.setting(TrackerConfig), device, live=True)
        self._observation: ObjectObservation | None = None
        self._with_depth = False
        self._order = StampOrder()
        self._pose = self.make_publisher(PoseStamped, "object/pose", RESULT)
        self._pose_in_hand = self.make_publisher(PoseStamped, "object/pose_in_hand", RESULT)
        self._pose_covariance = self.make_publisher(PoseWithCovarianceStamped, "object/pose_with_covariance", RESULT)
        self._mask = self.make_publisher(Image, "object/mask", RESULT)
        self._hand_mask = self.make_publisher(Image, "object/hand_mask", RESULT)
        self._own_depth = self.make_publisher(Image, "object/depth", RESULT)
        self._state = self.make_publisher(DiagnosticArray, "object/state", RESULT)
        self._keyframes = self.make_publisher(Path, "object/keyframes", RESULT)
        self._transforms = TransformPublisher(self.make_publisher, self.diagnostics.note)
        self._inputs: list[Any] = []
        if self.bus is not None:
            self.waits_for = "hand_node"
            self.work_on(self.bus.hands.subscribe())
        else:
            self._subscribe()

    def _subscribe(self) -> None:
        from hoi_ros.hand_model import choose_hand_model

        model = choose_hand_model(self.setting(TrackerNodeConfig).hand_model)
        self._faces = {side: model.faces(side) for side in HAND_SIDES}
        self._join = StampJoin(("pair", "hands"))
        slot: LatestSlot[Any] = LatestSlot()
        self._inputs = [
            FrameInput(self, self.setting(InputConfig), self.diagnostics, lambda p: self._offer("pair", p.stamp_ns, p)),
            HandsInput(self, lambda stamp, hands: self._offer("hands", stamp, hands)),
        ]
        self.work_on(slot)

    def _offer(self, part: str, stamp_ns: int, item: Pair | list[HandParts]) -> None:
        moment = self._join.add(part, stamp_ns, item)
        if moment is not None and self.active and self.worker is not None:
            self.worker.slot.put(moment)

    def _record(self, item: HandsFrame | dict[str, Any]) -> HandsFrame | None:
        if isinstance(item, HandsFrame):
            return item
        frame = self._inputs[0].frame(item["pair"])
        if frame is None:
            return None
        return HandsFrame(frame, hands_from_parts(item["hands"], frame.intrinsics), self._faces)

    def process(self, item: HandsFrame | dict[str, Any]) -> int | None:
        record = self._record(item)
        if record is None:
            return None
        frame = record.frame
        if self._order.check(frame.stamp_ns) == "jump":
            self.diagnostics.say("clock", "the pictures' clock jumped back: starting anew")
            self.tracker.reset()
        photos = self.setting(PhotosConfig).independent
        if photos:
            observation = ObjectObservation("waiting", message="each picture stands alone: no object is followed")
        else:
            observation = self.tracker.track(frame, record.hands, hand_faces=dict(record.faces))
        self._observation, self._with_depth = observation, frame.depth_m is not None
        if photos or self._with_depth or observation.state == "no_depth":
            self.diagnostics.over("color_alone")
        else:
            self.diagnostics.say("color_alone", COLOR_ALONE, "info")
            if self.tracker.focal is not None:
                self.diagnostics.note("focal_length", str(self.tracker.focal))
        self.publish_observation(record, observation)
        if self.bus is not None:
            self.bus.objects.put(ObjectFrame(frame, record.hands, record.faces, observation))
        return frame.stamp_ns

    def publish_observation(self, record: HandsFrame, observation: ObjectObservation) -> None:
        """Publish state and masks always, poses only while the object is tracked."""
        frame = record.frame
        header = make_header(frame.stamp_ns, frame.frame_id)
        self._publish_mask(self._mask, observation.mask, frame)
        self._publish_mask(self._hand_mask, observation.hand_mask, frame)
        if observation.own_depth_m is not None and self._own_depth.get_subscription_count():
            self._own_depth.publish(image_message(observation.own_depth_m, "32FC1", header))
        if observation.state == "tracking" and observation.T_camera_object is not None:
            self._pose.publish(pose_stamped(observation.T_camera_object, header))
            if observation.covariance is not None and self._pose_covariance.get_subscription_count():
                self._pose_covariance.publish(covariance_message(observation, header))
            child = object_frame_id(observation.object_id)
            self._transforms.send([transform_stamped(observation.T_camera_object, header, child)])
            side = next((h.handedness for h in record.hands if h.track_id == observation.hand_track_id), None)
            if observation.T_hand_object is not None and side is not None:
                in_hand = make_header(frame.stamp_ns, f"{side}_wrist")
                self._pose_in_hand.publish(pose_stamped(observation.T_hand_object, in_hand))
        if observation.revision is not None and self._keyframes.get_subscription_count():
            self._keyframes.publish(revision_message(observation.revision, header, observation.object_id))
        self._state.publish(DiagnosticArray(header=header, status=[observation_status(observation)]))

    def _publish_mask(self, publisher: Any, mask: np.ndarray | None, frame: RgbdFrame) -> None:
        if not publisher.get_subscription_count():
            return
        pixels = np.zeros(frame.color.shape[:2], np.uint8) if mask is None else mask.astype(np.uint8) * np.uint8(255)
        publisher.publish(image_message(pixels, "mono8", make_header(frame.stamp_ns, frame.frame_id)))

    def reset_core(self) -> None:
        self.tracker.reset()

    def frame_state(self) -> str:
        observation = self._observation
        if observation is None:
            return "waiting"
        if observation.state == "lost":
            self.diagnostics.say("lost", f"object lost: {observation.message}", "info")
        else:
            self.diagnostics.over("lost")
        if observation.state == "tracking" and not self._with_depth:
            return "tracking from colour alone"
        return {"no_depth": "waiting for depth"}.get(observation.state, observation.state)

    def release(self) -> None:
        super().release()
        for one in getattr(self, "_inputs", ()):
            one.destroy()
        self._inputs = []
        if hasattr(self, "tracker"):
            self.tracker.close()


def main(args: list[str] | None = None) -> int:
    """Run tracker_node."""
    return run_node(TrackerNode, args)


if __name__ == "__main__":
    sys.exit(main())

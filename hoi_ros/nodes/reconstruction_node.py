"""Publish the growing mesh of the tracked object."""

from __future__ import annotations

import dataclasses
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path as PathMessage
from sensor_msgs.msg import Image, PointCloud2
from std_srvs.srv import Trigger
from visualization_msgs.msg import Marker, MarkerArray

from hoi_ros.datatypes import ObjectObservation, TriangleMesh
from hoi_ros.device import resolve_device
from hoi_ros.errors import InputError
from hoi_ros.nodes.base_node import FrameNode, run_node
from hoi_ros.nodes.contact_markers import ContactMarkers
from hoi_ros.nodes.conversions import (
    array_from_image,
    colored_cloud_message,
    depth_from_image,
    make_header,
    stamp_of,
    transform_from_pose,
)
from hoi_ros.nodes.frame_bus import MeshUpdate, ObjectFrame
from hoi_ros.nodes.inputs import FrameInput, HandsInput, hands_from_parts
from hoi_ros.nodes.markers import object_mesh_marker
from hoi_ros.nodes.node_configs import ComputeConfig, InputConfig, ReconstructionNodeConfig
from hoi_ros.nodes.priority import FUSION, MESHING
from hoi_ros.nodes.qos import LATCHED, RESULT
from hoi_ros.nodes.synchronizer import StampJoin
from hoi_ros.nodes.tracker_node import object_frame_id, revision_from_message
from hoi_ros.nodes.worker import LatestSlot, Worker
from hoi_ros.reconstruction.config import ReconstructionConfig
from hoi_ros.reconstruction.mesh_io import save_mesh

STATE_PARTS = ("pair", "hands", "state", "mask", "hand_mask", "pose", "keyframes", "depth")


def create_reconstructor(config: ReconstructionConfig, device: str) -> Any:
    """A live ObjectReconstructor, and with it torch, which takes longer to import than the rest of the system."""
    from hoi_ros.reconstruction.reconstructor import ObjectReconstructor

    return ObjectReconstructor(config, device, live=True)


class ReconstructionNode(FrameNode):
    """Tracked frames to a mesh; meshing runs in a thread of its own and never holds up fusion."""

    node_name = "reconstruction_node"
    config_classes = (ReconstructionConfig, ComputeConfig, InputConfig, ReconstructionNodeConfig)
    waits_for = "a tracked object"
    niceness = FUSION

    def setup(self) -> None:
        super().setup()
        self._device = resolve_device(self.setting(ComputeConfig).device)
        self._reconstructor: Any = None
        self._creation = threading.Lock()
        self.mesh: MeshUpdate | None = None
        self._object_id = 0
        self._stamp_ns = 0
        self._fused = 0
        self._mesh_publisher = self.make_publisher(Marker, "object/mesh", LATCHED)
        self._cloud_publisher = self.make_publisher(PointCloud2, "object/cloud", LATCHED)
        self._contacts_publisher = self.make_publisher(MarkerArray, "contacts", RESULT)
        self._contacts = ContactMarkers(self.setting(ReconstructionNodeConfig).contact_m)
        self._mesh_worker: Worker[tuple[int, int]] = Worker(
            "mesher", LatestSlot(), self._mesh_now, self._on_crash, MESHING
        )
        self._contact_worker: Worker[ObjectFrame] = Worker(
            "contacts", LatestSlot(), self._touch, self._on_crash, MESHING
        )
        self._own_services.append(self.create_service(Trigger, "~/save_mesh", self._on_save_mesh))
        self._inputs: list[Any] = []
        if self.bus is not None:
            self.waits_for = "tracker_node"
            self.work_on(self.bus.objects.subscribe())
        else:
            self._subscribe()

    @property
    def reconstructor(self) -> Any:
        """The core, made at its first use: the first hands do not wait for it."""
        with self._creation:
            if self._reconstructor is None:
                self._reconstructor = create_reconstructor(self.setting(ReconstructionConfig), self._device)
            return self._reconstructor

    def _subscribe(self) -> None:
        self._join = StampJoin(STATE_PARTS)
        self._inputs = [
            FrameInput(self, self.setting(InputConfig), self.diagnostics, lambda p: self._offer("pair", p.stamp_ns, p)),
            HandsInput(self, lambda stamp, hands: self._offer("hands", stamp, hands)),
        ]
        topics = {"mask": Image, "hand_mask": Image, "pose": PoseStamped, "keyframes": PathMessage, "depth": Image}
        self._topic_subscriptions = [
            self.create_subscription(kind, f"object/{part}", self._part_callback(part), RESULT)
            for part, kind in topics.items()
        ]
        self._topic_subscriptions.append(
            self.create_subscription(DiagnosticArray, "object/state", self._on_state, RESULT)
        )
        self.work_on(LatestSlot())

    def _part_callback(self, part: str) -> Any:
        return lambda message: self._offer(part, stamp_of(message), message)

    def _on_state(self, message: DiagnosticArray) -> None:
        values = {v.key: v.value for v in message.status[0].values} if message.status else {}
        self._offer("state", stamp_of(message), values)
        if values.get("state") != "tracking":
            self._offer("pose", stamp_of(message), None)
        if values.get("revised", "0") == "0":
            self._offer("keyframes", stamp_of(message), None)
        if values.get("own_depth", "0") == "0":
            self._offer("depth", stamp_of(message), None)

    def _offer(self, part: str, stamp_ns: int, item: Any) -> None:
        moment = self._join.add(part, stamp_ns, item)
        if moment is not None and self.active and self.worker is not None:
            self.worker.slot.put(moment)

    def _record(self, item: ObjectFrame | dict[str, Any]) -> ObjectFrame | None:
        if isinstance(item, ObjectFrame):
            return item
        frame = self._inputs[0].frame(item["pair"])
        if frame is None:
            return None
        return ObjectFrame(frame, hands_from_parts(item["hands"], frame.intrinsics), {}, observation_from_parts(item))

    def process(self, item: ObjectFrame | dict[str, Any]) -> int | None:
        record = self._record(item)
        if record is None:
            return None
        observation = record.observation
        if self.reconstructor.integrate(record.frame, observation):
            if observation.object_id != self._object_id:
                self._clear_mesh()
            self._fused += 1
            self._object_id, self._stamp_ns = observation.object_id, record.frame.stamp_ns
        if self._mesh_worker.idle and self.reconstructor.changed_enough():
            self._mesh_worker.slot.put((record.frame.stamp_ns, self._object_id))
        if self._contacts_publisher.get_subscription_count():
            self._contact_worker.slot.put(record)
        return record.frame.stamp_ns

    def _mesh_now(self, request: tuple[int, int]) -> None:
        stamp_ns, object_id = request
        mesh = self.reconstructor.extract_mesh()
        if mesh is not None and object_id == self._object_id:
            self.publish_mesh(MeshUpdate(stamp_ns, object_id, mesh))

    def publish_mesh(self, update: MeshUpdate) -> None:
        """Publish a changed mesh as marker and cloud; late readers get the last one."""
        frame_id = object_frame_id(update.object_id)
        self.mesh = update
        self._mesh_publisher.publish(object_mesh_marker(update.mesh, update.stamp_ns, frame_id))
        header = make_header(update.stamp_ns, frame_id)
        self._cloud_publisher.publish(colored_cloud_message(update.mesh.vertices, update.mesh.colors, header))
        self.diagnostics.value("mesh", f"{len(update.mesh.faces)} triangles")
        if self.bus is not None:
            self.bus.meshes.put(update)

    def _touch(self, record: ObjectFrame) -> None:
        update = self.mesh
        mesh = update.mesh if update is not None and update.object_id == record.observation.object_id else None
        self._contacts_publisher.publish(self._contacts.build(record, mesh))

    def start(self) -> None:
        super().start()
        self._mesh_worker.start()
        self._contact_worker.start()

    def stop(self) -> None:
        super().stop()
        self._mesh_worker.stop()
        self._contact_worker.stop()
        mesh_file = self.setting(ReconstructionNodeConfig).mesh_file
        if mesh_file and self._fused:
            try:
                self.get_logger().info(f"object mesh saved to {self._save(mesh_file)}")
            except InputError as error:
                self.get_logger().error(str(error))

    def _save(self, mesh_file: str) -> Path:
        # The core meshes once more, so that the file holds the last frames and corrections too.
        self.reconstructor.settle()
        path = mesh_file or f"object_{self._object_id}.{self.setting(ReconstructionConfig).mesh_format}"
        return save_mesh(self.reconstructor.extract_mesh(), Path(path).expanduser().absolute())

    def _on_save_mesh(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            path = self._save(self.setting(ReconstructionNodeConfig).mesh_file)
            response.success, response.message = True, str(path)
        except InputError as error:
            response.success, response.message = False, str(error)
        return response

    def reset_core(self) -> None:
        self.reconstructor.reset()
        self._clear_mesh()

    def _clear_mesh(self) -> None:
        """Take the mesh out of every viewer."""
        self.mesh, self._fused = None, 0
        empty = TriangleMesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
        self._mesh_publisher.publish(object_mesh_marker(empty, self._stamp_ns, object_frame_id(self._object_id)))

    def frame_state(self) -> str:
        self.diagnostics.value("frames_fused", self._fused)
        return "fusing" if self._fused else "waiting for a tracked object"

    def release(self) -> None:
        super().release()
        for one in getattr(self, "_inputs", ()):
            one.destroy()
        for subscription in getattr(self, "_topic_subscriptions", ()):
            self.destroy_subscription(subscription)
        self._inputs, self._topic_subscriptions = [], []
        if getattr(self, "_reconstructor", None) is not None:
            self._reconstructor.close()


def observation_from_parts(parts: dict[str, Any]) -> ObjectObservation:
    """Observation of one moment from /object/state, pose and masks.

    Raises:
        InputError: a mask cannot be read.
    """
    values = parts["state"]
    hand, keyframes = values.get("hand_track_id", ""), parts.get("keyframes")
    observation = ObjectObservation(
        state=values.get("state", "waiting"),
        object_id=int(values.get("object_id", 0)),
        hand_track_id=int(hand) if hand else None,
        mask=array_from_image(parts["mask"]) > 127,
        hand_mask=array_from_image(parts["hand_mask"]) > 127,
        is_keyframe=values.get("keyframe") == "1",
        inlier_fraction=float(values.get("inlier_fraction", 0.0)),
        residual_m=float(values.get("residual_m", "nan")),
        revision=None if keyframes is None else revision_from_message(keyframes, int(values["revised"])),
        own_depth_m=None if parts.get("depth") is None else depth_from_image(parts["depth"]),
    )
    if parts["pose"] is None:
        return observation
    return dataclasses.replace(observation, T_camera_object=transform_from_pose(parts["pose"].pose))


def main(args: list[str] | None = None) -> int:
    """Run reconstruction_node."""
    return run_node(ReconstructionNode, args)


if __name__ == "__main__":
    sys.exit(main())

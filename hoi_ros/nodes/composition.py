"""All nodes in one process: pictures and results handed over in memory, topics for whoever else listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from hoi_ros.errors import unknown_name
from hoi_ros.nodes.base_node import FrameNode, HoiNode
from hoi_ros.nodes.frame_bus import FrameBus
from hoi_ros.nodes.heap import bound_heap
from hoi_ros.nodes.node_configs import NODE_CONFIGS
from hoi_ros.nodes.priority import share_interpreter
from hoi_ros.nodes.threads import share_cores

TOPICS_SOURCE = "topics"


class ComposedPipeline:
    """Camera, hands, object and mesh as nodes of one executor, each with its own worker thread."""

    def __init__(
        self,
        parameters: Mapping[str, Mapping[str, Any]] | None = None,
        executor: Any = None,
        context: Any = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Create, configure and activate the nodes; call after `rclpy.init`.

        Args:
            parameters: node name to its parameters; `source: topics` leaves camera_node out.
            executor: None makes a SingleThreadedExecutor.
            context: rclpy context; None is the default one.
            check: called between the steps; what it raises breaks the start off.

        Raises:
            InputError: what a node refuses; nothing is left running then.
        """
        given = {name: dict(values) for name, values in (parameters or {}).items()}
        for name in given:
            if name not in NODE_CONFIGS:
                raise unknown_name("node", name, NODE_CONFIGS)
        share_interpreter()
        bound_heap()
        share_cores()
        self.bus = FrameBus()
        self._own_executor = executor is None
        self.executor = executor or SingleThreadedExecutor(context=context)
        self.nodes: dict[str, HoiNode] = {}
        self._closed = False
        try:
            self._create(given, context, check)
        except BaseException:
            self.close()
            raise

    def _create(self, given: dict[str, dict[str, Any]], context: Any, check: Callable[[], None]) -> None:
        from hoi_ros.nodes.camera_node import CameraNode
        from hoi_ros.nodes.hand_node import HandNode
        from hoi_ros.nodes.reconstruction_node import ReconstructionNode
        from hoi_ros.nodes.tracker_node import TrackerNode

        check()
        from_topics = given.get("camera_node", {}).get("source") == TOPICS_SOURCE
        camera = None
        if not from_topics:
            camera = CameraNode(given.get("camera_node"), self.bus, context)
            self._keep(camera)
            camera.prepare()
        # Readers first, so that they have their slots before the camera's first frame.
        for node_class in (ReconstructionNode, TrackerNode):
            self._add(node_class(given.get(node_class.node_name), self.bus, context))
            check()
        self._add(HandNode(given.get("hand_node"), self.bus, context, frames_from_topics=from_topics))
        check()
        if camera is not None:
            camera.await_source(check)
            camera.autostart()

    def _add(self, node: HoiNode) -> None:
        self._keep(node)
        node.autostart()

    def _keep(self, node: HoiNode) -> None:
        self.nodes[node.node_name] = node
        self.executor.add_node(node)

    @property
    def finished(self) -> bool:
        """True when a file without `loop` was played out and every frame is worked on."""
        camera = self.nodes.get("camera_node")
        return camera is not None and getattr(camera, "finished", False) and self.idle

    @property
    def idle(self) -> bool:
        """True when no frame waits or is worked on."""
        workers = [node.worker for node in self.nodes.values() if isinstance(node, FrameNode)]
        return all(worker is None or worker.idle for worker in workers)

    def spin(self, duration_s: float | None = None) -> None:
        """Run until Ctrl-C, SIGTERM, shutdown, the duration's end, or a played-out file."""
        end = None if duration_s is None else time.monotonic() + duration_s
        try:
            while self.executor.context.ok() and not self.finished:
                if end is not None and time.monotonic() >= end:
                    return
                self.executor.spin_once(timeout_sec=0.2)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass

    def close(self) -> None:
        """Stop and destroy the nodes, the camera first; harmless twice."""
        if self._closed:
            return
        self._closed = True
        self.bus.lossless = False
        for name in ("camera_node", "hand_node", "tracker_node", "reconstruction_node"):
            if name in self.nodes:
                self.nodes[name].close()
        self.bus.close()
        if self._own_executor:
            self.executor.shutdown()

"""The whole system by one call, without `ros2 launch`: in this process, or one process a node."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from std_msgs.msg import Header

from hoi_ros.config import load_parameters
from hoi_ros.errors import InputError
from hoi_ros.nodes.camera_topics import camera_remappings
from hoi_ros.nodes.dds_profile import use_shared_memory_profile
from hoi_ros.nodes.live_plan import LiveOptions, LivePlan, make_plan
from hoi_ros.nodes.live_processes import Child, Supervisor
from hoi_ros.nodes.live_status import Deadline, LiveStatus
from hoi_ros.nodes.node_configs import NODE_CONFIGS, PICTURE_READERS
from hoi_ros.nodes.recorder_node import holds_frames
from hoi_ros.nodes.share import share_file
from hoi_ros.nodes.stopping import Stop, stop_signals

__all__ = ["LiveOptions", "main", "run_live"]

TOPICS_SHOWN = (
    "/hands/mesh /hands/skeleton /hands/{left,right}/... /hands/overlay /object/pose /object/mesh /diagnostics"
)
_TICK_S = 0.1
_DRAIN_S = 10.0
"""What the nodes get for a file's last frames when each is a process."""


def run_live(options: LiveOptions, stop: Stop | None = None) -> int:
    """Run the system until Ctrl-C, SIGTERM, the end of a file, or the asked duration.

    Args:
        options: what the user asked for.
        stop: who handles the signals already; None handles them here.

    Returns:
        0 after a clean end.

    Raises:
        InputError: bad input, found before anything was started; or a file broke off, then all is closed in order.
    """
    with stop_signals(stop) as stop:
        stop.check()
        plan = make_plan(options)
        stop.check()
        use_shared_memory_profile()
        remappings = camera_remappings() if plan.source == "topics" else []
        # Our own handlers: rclpy's would end the context before recordings and meshes are closed.
        rules = [part for rule in remappings for part in ("-r", rule)]
        rclpy.init(args=[*sys.argv, "--ros-args", *rules], signal_handler_options=SignalHandlerOptions.NO)
        try:
            if plan.mesh_file is not None:
                plan.mesh_file.parent.mkdir(parents=True, exist_ok=True)
            run = _run_composed if options.composed else _run_processes
            run(plan, remappings, stop)
        finally:
            rclpy.try_shutdown()
    return 0


def _run_composed(plan: LivePlan, remappings: list[str], stop: Stop) -> None:
    """All nodes in this process: pictures are handed over in memory."""
    from hoi_ros.nodes.composition import ComposedPipeline
    from hoi_ros.nodes.foxglove_node import FoxgloveNode
    from hoi_ros.nodes.recorder_node import RecorderNode

    stop.check()
    executor = SingleThreadedExecutor()
    watcher = Node("live", enable_rosout=False)
    executor.add_node(watcher)
    pipeline, viewers, children = None, [], Supervisor([], print)
    stop.undo.append(lambda: _remove_bag(plan))
    try:
        status = LiveStatus(watcher, quiet=plan.options.quiet)
        status.say(f"source: {plan.reason}")
        if "recorder_node" in plan.parameters:
            # Before the camera, so that the recording has its first frames.
            viewers.append(_add(RecorderNode(plan.parameters["recorder_node"]), executor))
        pipeline = ComposedPipeline(
            {node: plan.parameters[node] for node in NODE_CONFIGS},
            executor=executor,
            context=None,
            check=stop.check,
        )
        address = ""
        if "foxglove_node" in plan.parameters:
            viewers.append(_add(FoxgloveNode(plan.parameters["foxglove_node"], pipeline.bus), executor))
            address = viewers[-1].address
        stop.check()
        children = _start_rviz(plan, status)
        stop.starting = False
        _announce(plan, status, "in one process", address)
        end = Deadline(plan.options.duration_s)
        while not pipeline.finished and not end.reached and not stop.asked:
            executor.spin_once(timeout_sec=_TICK_S)
            status.tick()
            children.watch()
    finally:
        children.stop()
        if pipeline is not None:
            for node in pipeline.nodes.values():
                status.take(node.diagnostics.report(Header()))
            pipeline.close()
        for node in viewers:
            node.close()
        if stop.starting:
            _remove_bag(plan)
        watcher.destroy_node()
        executor.shutdown()
    _conclude(plan, status)


def _add(node: Any, executor: SingleThreadedExecutor) -> Any:
    executor.add_node(node)
    try:
        node.autostart()
    except BaseException:
        node.close()
        raise
    return node


def _run_processes(plan: LivePlan, remappings: list[str], stop: Stop) -> None:
    """One process a node, watched."""
    folder = Path(tempfile.mkdtemp(prefix="hoi_live_"))
    executor = SingleThreadedExecutor()
    watcher = Node("live", enable_rosout=False)
    executor.add_node(watcher)
    status = LiveStatus(watcher, quiet=plan.options.quiet)
    children = Supervisor(_node_children(plan, remappings, folder), status.say)
    stop.undo += [
        lambda: shutil.rmtree(folder, ignore_errors=True),
        lambda: _remove_bag(plan),
        children.kill,
    ]
    try:
        status.say(f"source: {plan.reason}")
        children.children += _rviz_child(plan)
        children.start(stop.check)
        stop.starting = False
        _announce(plan, status, "one process a node", f"ws://localhost:{plan.foxglove_port}")
        end = Deadline(plan.options.duration_s)
        last_frames: Deadline | None = None
        while not end.reached and not stop.asked and not status.drained(PICTURE_READERS):
            executor.spin_once(timeout_sec=_TICK_S)
            status.tick()
            children.watch()
            if status.camera_finished and last_frames is None:
                last_frames = Deadline(_DRAIN_S)
            if last_frames is not None and last_frames.reached:
                break
    finally:
        children.stop()
        if stop.starting or not _recorded(plan):
            _remove_bag(plan)
        watcher.destroy_node()
        executor.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    _conclude(plan, status)


def _node_children(plan: LivePlan, remappings: list[str], folder: Path) -> list[Child]:
    """One child a node, its parameters in a file; those that read start before those that write."""
    order = ("recorder_node", "foxglove_node", "reconstruction_node", "tracker_node", "hand_node", "camera_node")
    children = []
    for node in order:
        if node not in plan.parameters or (node == "camera_node" and plan.source == "topics"):
            continue
        path = folder / f"{node}.yaml"
        # JSON is YAML, and keeps every type as it is.
        path.write_text(json.dumps({node: {"ros__parameters": {"autostart": True, **plan.parameters[node]}}}))
        rules = [part for rule in remappings for part in ("-r", rule)]
        command = [sys.executable, "-m", f"hoi_ros.nodes.{node}", "--ros-args", "--params-file", str(path), *rules]
        children.append(Child(node, command))
    return children


def _rviz_child(plan: LivePlan) -> list[Child]:
    if plan.rviz is None:
        return []
    return [Child("rviz2", [plan.rviz, "-d", str(share_file("rviz/hoi.rviz"))], essential=False)]


def _start_rviz(plan: LivePlan, status: LiveStatus) -> Supervisor:
    children = Supervisor(_rviz_child(plan), status.say)
    children.start()
    return children


def _announce(plan: LivePlan, status: LiveStatus, how: str, address: str) -> None:
    status.say(f"device: {plan.device}; nodes: {how}")
    status.say(f"topics: {TOPICS_SHOWN}")
    if "foxglove_node" in plan.parameters:
        layout = share_file("config/foxglove_layout.json")
        status.say(f"Foxglove: {address} (open a connection in the app; layout: {layout})")
    if plan.options.record is not None:
        status.say(f"recording to {plan.parameters['recorder_node']['path']}")
    status.say("stop with Ctrl-C")


def _conclude(plan: LivePlan, status: LiveStatus) -> None:
    status.say(f"stopped: {status.summary()}")
    if plan.options.record is not None:
        path = plan.parameters["recorder_node"]["path"]
        if _recorded(plan):
            status.say(f"recorded {path}; play it with --source bag:PATH")
        else:
            _remove_bag(plan)
            status.say(f"no picture came: there is no recording {path}")
    if plan.mesh_file is not None:
        there = plan.mesh_file.exists()
        status.say(f"object mesh in {plan.mesh_file}" if there else "no object was fused: no mesh is saved")
    if status.camera_failure:
        raise InputError(status.camera_failure)


def _recorded(plan: LivePlan) -> bool:
    return "recorder_node" in plan.parameters and holds_frames(Path(plan.parameters["recorder_node"]["path"]))


def _remove_bag(plan: LivePlan) -> None:
    """Nothing half-written stays behind of a start that did not come to its first picture."""
    if "recorder_node" in plan.parameters:
        shutil.rmtree(plan.parameters["recorder_node"]["path"], ignore_errors=True)


def build_parser() -> argparse.ArgumentParser:
    """Command line of `live_node`."""
    parser = argparse.ArgumentParser(prog="live_node", description="The whole of hoi_ros in one process.")
    truth = ("true", "false")
    parser.add_argument("--source", default="", help="where frames come from")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--estimator", default="auto", help="hand estimator")
    parser.add_argument("--record", default="", help="folder of a new bag")
    parser.add_argument("--loop", choices=truth, default="false", help="start a file anew when it ends")
    parser.add_argument("--foxglove", choices=truth, default="true", help="serve Foxglove")
    parser.add_argument("--port", type=int, default=8765, help="of Foxglove")
    parser.add_argument("--params", type=Path, action="append", default=[], help="parameter file")
    return parser


def main(args: list[str] | None = None) -> int:
    """`live_node`: the composed system as one executable for `ros2 launch` and `ros2 run`.

    Parameters of its nodes come by `--params FILE`; of `--ros-args` it takes remappings and the namespace.
    """
    options = build_parser().parse_args(remove_ros_args(["live_node", *args] if args is not None else sys.argv)[1:])
    try:
        return run_live(
            LiveOptions(
                source=options.source,
                device=options.device,
                estimator=options.estimator,
                loop=options.loop == "true",
                foxglove=options.foxglove == "true",
                foxglove_port=options.port,
                record=Path(options.record) if options.record else None,
                parameters=load_parameters(*options.params),
            )
        )
    except InputError as error:
        print(f"live_node: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

"""Age of a picture when its hand mesh reaches another process, and pictures without a mesh, at the camera's rate.

    python benchmarks/ros_latency.py [--seconds 20] [--rate 30] [--source SPEC ...] [--object] [--device cpu]

Pictures are made before the run and played from memory, so that a camera which costs nothing is measured, forwards and
backwards without a jump. `composed` is one process, `apart` one process a node; the listener is always one of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
MESH_STAMP_OFFSET = 8
"""Bytes before the first marker's stamp in a serialised MarkerArray: encapsulation and count."""
DEFAULT_SOURCES = ("sim:rotate", "sim:handover")


class MemorySource:
    """Frames of a file made by `render`, played to and fro for ever."""

    live, has_depth, independent_frames = False, True, False
    frame_count, status, warnings = None, "", ()

    def __init__(self, path: str, rate_hz: float) -> None:
        from hoi_ros.datatypes import CameraIntrinsics

        with np.load(path) as data:
            self.colors, self.depths = data["colors"], data["depths"]
            width, height, *rest = data["camera"]
        self.camera = CameraIntrinsics(int(width), int(height), *map(float, rest))
        self.fps = rate_hz

    def __iter__(self):
        from hoi_ros.datatypes import RgbdFrame

        count = len(self.colors)
        order = itertools.cycle([*range(count), *range(count - 2, 0, -1)])
        for index, i in enumerate(order):
            depth = self.depths[i] if len(self.depths) else None
            yield RgbdFrame(self.colors[i], self.camera, round(index * 1e9 / self.fps), index, depth)

    def close(self) -> None:
        """Nothing is open."""


def render(source: str, count: int, path: Path) -> None:
    """Take the first frames of a source and keep them as arrays."""
    from hoi_ros.sources import open_source

    with open_source(source) as frames:
        taken = list(itertools.islice(frames, count))
    camera = taken[0].intrinsics
    np.savez(
        path,
        colors=np.stack([f.color for f in taken]),
        depths=np.stack([f.depth_m for f in taken]) if taken[0].depth_m is not None else np.zeros(0),
        camera=np.array([camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy]),
    )


def play(role: str, path: str, arguments: argparse.Namespace) -> int:
    """Be one of the measured processes until SIGTERM."""
    import rclpy

    from hoi_ros.nodes import camera_node
    from hoi_ros.nodes.base_node import run_node
    from hoi_ros.nodes.dds_profile import use_shared_memory_profile

    camera_node.open_source = lambda spec, config: MemorySource(path, arguments.rate)
    camera = {"source": "sim", "rate_hz": 0.0}
    if role == "camera_node":
        return run_node(lambda: camera_node.CameraNode(camera))
    from hoi_ros.nodes.composition import ComposedPipeline

    use_shared_memory_profile()
    rclpy.init()
    parameters = {name: {"device": arguments.device} for name in ("hand_node", "tracker_node", "reconstruction_node")}
    parameters["hand_node"]["estimator"] = arguments.estimator
    pipeline = ComposedPipeline({"camera_node": camera, **parameters})
    if not arguments.object:
        for name in ("tracker_node", "reconstruction_node"):
            pipeline.nodes.pop(name).close()
    pipeline.spin()
    pipeline.close()
    return 0


def start(layout: str, path: str, arguments: argparse.Namespace) -> list[subprocess.Popen]:
    """Start the processes of a layout."""
    own = [sys.executable, __file__, "--frames-file", path, "--rate", str(arguments.rate), "--device", arguments.device,
           "--estimator", arguments.estimator]  # fmt: skip
    own += ["--object"] if arguments.object else []
    commands = [[*own, "--role", "composed"]]
    if layout == "apart":
        nodes = ["hand_node", *(["tracker_node", "reconstruction_node"] if arguments.object else [])]
        commands = [[sys.executable, "-m", f"hoi_ros.nodes.{n}", "--ros-args", "-p", f"device:={arguments.device}"]
                    for n in nodes]  # fmt: skip
        commands[0] += ["-p", f"estimator:={arguments.estimator}"]
        commands.append([*own, "--role", "camera_node"])
    return [subprocess.Popen(c, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for c in commands]


@dataclass(frozen=True)
class Heard:
    """What came during the measured seconds."""

    latencies_ms: np.ndarray
    """Of the meshes received."""
    pictures: int
    without_mesh: int
    poses: int
    """Object poses."""


def listen(seconds: float, warm_up: float) -> Heard:
    """Wait for the first mesh, let it run in, then listen."""
    import rclpy
    from geometry_msgs.msg import PoseStamped
    from sensor_msgs.msg import CameraInfo
    from visualization_msgs.msg import MarkerArray

    from hoi_ros.nodes.conversions import stamp_of
    from hoi_ros.nodes.qos import IMAGE_IN, RESULT

    node = rclpy.create_node("latency_listener")
    meshes: dict[int, tuple[float, int]] = {}
    pictures: set[int] = set()
    poses: list[int] = []

    def on_mesh(data: bytes) -> None:
        now = time.time_ns()
        seconds_, nanoseconds = struct.unpack_from("<iI", data, MESH_STAMP_OFFSET)
        stamp = seconds_ * 1_000_000_000 + nanoseconds
        meshes[stamp] = ((now - stamp) * 1e-6, struct.unpack_from("<I", data, 4)[0])

    node.create_subscription(MarkerArray, "hands/mesh", on_mesh, RESULT, raw=True)
    node.create_subscription(CameraInfo, "color/camera_info", lambda m: pictures.add(stamp_of(m)), IMAGE_IN)
    node.create_subscription(PoseStamped, "object/pose", lambda m: poses.append(stamp_of(m)), RESULT)
    deadline = time.monotonic() + 60
    while not meshes and time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.2)
    end = time.monotonic() + warm_up + seconds
    begin_ns = time.time_ns() + int(warm_up * 1e9)
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)
    node.destroy_node()
    last = max(meshes, default=0)
    counted = {s for s in pictures if begin_ns <= s <= last}
    latencies = np.array([ms for stamp, (ms, _) in meshes.items() if stamp >= begin_ns])
    return Heard(latencies, len(counted), len(counted - set(meshes)), sum(stamp >= begin_ns for stamp in poses))


def measure(source: str, layout: str, path: str, arguments: argparse.Namespace) -> str:
    """One row of the table."""
    processes = start(layout, path, arguments)
    try:
        heard = listen(arguments.seconds, arguments.warm_up)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
    if not len(heard.latencies_ms):
        return f"| {source} | {layout} | no mesh came | | | | | |"
    if arguments.ages:
        arguments.ages.write_text(json.dumps([round(float(age), 3) for age in heard.latencies_ms]), encoding="utf-8")
    ages = " | ".join(f"{age:.1f}" for age in np.percentile(heard.latencies_ms, [50, 95, 99]))
    missing = f"{heard.without_mesh} of {heard.pictures}"
    rate = f"{heard.poses / arguments.seconds:.1f}" if arguments.object else "-"
    return f"| {source} | {layout} | {len(heard.latencies_ms)} | {ages} | {missing} | {rate} |"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--warm-up", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--frames", type=int, default=60, help="pictures made before the run")
    parser.add_argument("--source", action="append", default=[])
    parser.add_argument("--layout", action="append", default=[], choices=("composed", "apart"))
    parser.add_argument("--object", action="store_true", help="run tracker and reconstruction too")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--estimator", default="auto", help="of the hands")
    parser.add_argument("--ages", type=Path, help="JSON file for the ages of all meshes of the last row, milliseconds")
    parser.add_argument("--role", default="")
    parser.add_argument("--frames-file", default="")
    arguments = parser.parse_args()
    if arguments.role:
        return play(arguments.role, arguments.frames_file, arguments)
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    import rclpy

    from hoi_ros.nodes.dds_profile import use_shared_memory_profile

    use_shared_memory_profile()
    rclpy.init()
    what = "hands, object and mesh" if arguments.object else "hands"
    print(f"{what} at {arguments.rate:g} Hz, {arguments.seconds:g} s each, {os.cpu_count()} cores\n")
    print("| source | layout | meshes | p50 ms | p95 ms | p99 ms | without a mesh | object poses/s |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for source in arguments.source or DEFAULT_SOURCES:
            path = Path(folder) / "frames.npz"
            render(source, arguments.frames, path)
            for layout in arguments.layout or ("composed", "apart"):
                print(measure(source, layout, str(path), arguments), flush=True)
    rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())

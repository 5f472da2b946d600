"""Arguments of the launch files, once for all of them. Needs no ROS."""

from __future__ import annotations

from dataclasses import dataclass

from hoi_ros.device import DEVICES

TRUTH = ("true", "false")


@dataclass(frozen=True)
class Argument:
    """One `name:=value` of `ros2 launch`."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] | None = None


ARGUMENTS = (
    Argument(
        "source",
        "",
        "where frames come from: sim[:SCENE], video:FILE, webcam[:N], images:DIR, rgbd:DIR, bag:PATH, "
        "realsense[:SERIAL] or topics; empty takes the first of RealSense, webcam and simulator (composed:=true only)",
    ),
    Argument("device", "auto", "processor of the networks", DEVICES),
    Argument("estimator", "auto", "hand estimator", ("auto", "embedded", "handos")),
    Argument("composed", "true", "all nodes in one process, or one process each", TRUTH),
    Argument("loop", "false", "start a file anew when it ends", TRUTH),
    Argument("rviz", "false", "start RViz with the layout of this package", TRUTH),
    Argument("foxglove", "true", "serve Foxglove", TRUTH),
    Argument("port", "8765", "of the Foxglove WebSocket"),
    Argument("params_file", "", "parameter file that overlays config/live.yaml"),
    Argument("record", "", "folder of a new bag with camera and results; empty records nothing"),
    Argument("camera_namespace", "", "in front of the camera topics, such as /camera/camera/ (with the last slash)"),
)

"""What sees: camera_node, unless another driver publishes (source:=topics)."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from hoi_ros.nodes.camera_topics import CAMERA_TOPICS
from hoi_ros.nodes.launch_arguments import ARGUMENTS
from hoi_ros.nodes.share import share_file

NAMES = ("source", "loop", "params_file", "camera_namespace")


def start(context):
    values = {name: LaunchConfiguration(name).perform(context) for name in NAMES}
    if values["source"] == "topics":
        return []
    if not values["source"]:
        raise RuntimeError("with composed:=false give source:=..., e.g. source:=sim or source:=realsense")
    return [node("camera_node", values, {"source": values["source"], "loop": values["loop"] == "true"})]


def node(executable, values, parameters):
    """One node in a process of its own; its lifecycle starts by itself (parameter autostart)."""
    files = [str(share_file("config/live.yaml")), *filter(None, [values["params_file"]])]
    return Node(
        package="hoi_ros",
        executable=executable,
        name=executable,
        parameters=[*files, parameters],
        remappings=[(topic, values["camera_namespace"] + topic) for topic in CAMERA_TOPICS],
        output="screen",
    )


def generate_launch_description():
    declared = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            choices=argument.choices,
        )
        for argument in ARGUMENTS
        if argument.name in NAMES
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])

"""What shows and keeps: Foxglove, RViz and the recorder. The composed system serves Foxglove and records by itself."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from hoi_ros.nodes.camera_topics import CAMERA_TOPICS
from hoi_ros.nodes.launch_arguments import ARGUMENTS
from hoi_ros.nodes.share import share_file

NAMES = (
    "source",
    "composed",
    "rviz",
    "foxglove",
    "port",
    "record",
    "params_file",
    "camera_namespace",
)


def start(context):
    values = {name: LaunchConfiguration(name).perform(context) for name in NAMES}
    nodes = []
    if values["rviz"] == "true":
        nodes.append(Node(package="rviz2", executable="rviz2", arguments=["-d", str(share_file("rviz/hoi.rviz"))]))
    if values["composed"] == "true":
        return nodes
    if values["foxglove"] == "true":
        nodes.append(node("foxglove_node", values, {"port": int(values["port"])}))
    if values["record"]:
        best_effort = values["source"] == "topics"
        nodes.append(node("recorder_node", values, {"path": values["record"], "camera_best_effort": best_effort}))
    return nodes


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

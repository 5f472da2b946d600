"""The live system: one process (composed:=true), or sensors, perception and visualization with one process a node."""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from hoi_ros.nodes.camera_topics import CAMERA_TOPICS
from hoi_ros.nodes.launch_arguments import ARGUMENTS
from hoi_ros.nodes.share import share_file

ROLES = ("sensors", "perception", "visualization")


def live_node(values):
    """The composed system as one process; the launch ends with it."""
    files = [share_file("config/live.yaml"), *filter(None, [values["params_file"]])]
    arguments = [f"--{name}={values[name]}" for name in ("source", "device", "estimator", "loop", "foxglove", "port")]
    arguments += [f"--record={values['record']}"] if values["record"] else []
    arguments += [f"--params={path}" for path in files]
    return Node(
        package="hoi_ros",
        executable="live_node",
        arguments=arguments,
        remappings=[(topic, values["camera_namespace"] + topic) for topic in CAMERA_TOPICS],
        output="screen",
        on_exit=Shutdown(reason="live_node ended"),
    )


def compose(context):
    """Choose between the two forms once the arguments are known."""
    values = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    composed = values["composed"] == "true"
    roles = ("visualization",) if composed else ROLES
    folder = Path(__file__).parent
    included = [
        IncludeLaunchDescription(PythonLaunchDescriptionSource(str(folder / f"{role}.launch.py"))) for role in roles
    ]
    return [live_node(values), *included] if composed else included


def generate_launch_description():
    declared = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            choices=argument.choices,
        )
        for argument in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=compose)])

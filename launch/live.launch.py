"""The live system: one process (composed:=true), or sensors, perception and visualization with one process a node."""

from pathlib import Path

from launch.actions import IncludeLaunchDescription, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node

from hoi_ros.nodes.launch_actions import camera_remappings_of, describe, parameter_files

ROLES = ("sensors", "perception", "visualization")


def live_node(values):
    """The composed system as one process; the launch ends with it."""
    arguments = [f"--{name}={values[name]}" for name in ("source", "device", "estimator", "loop", "foxglove", "port")]
    arguments += [f"--record={values['record']}"] if values["record"] else []
    arguments += [f"--params={path}" for path in parameter_files(values)]
    return Node(
        package="hoi_ros",
        executable="live_node",
        arguments=arguments,
        remappings=camera_remappings_of(values),
        output="screen",
        on_exit=Shutdown(reason="live_node ended"),
    )


def start(values):
    """Choose between the two forms."""
    composed = values["composed"] == "true"
    roles = ("visualization",) if composed else ROLES
    folder = Path(__file__).parent
    included = [
        IncludeLaunchDescription(PythonLaunchDescriptionSource(str(folder / f"{role}.launch.py"))) for role in roles
    ]
    return [live_node(values), *included] if composed else included


def generate_launch_description():
    return describe(start)

"""What the launch files share: arguments declared and read, one node as one process. Needs `launch` when called."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from hoi_ros.nodes.camera_topics import CAMERA_TOPICS
from hoi_ros.nodes.launch_arguments import ARGUMENTS
from hoi_ros.nodes.share import share_file

ALL_NAMES = tuple(argument.name for argument in ARGUMENTS)


def describe(start: Callable[[dict[str, str]], list[Any]], names: Collection[str] = ALL_NAMES) -> Any:
    """LaunchDescription that declares arguments and calls `start` with their values once they are known."""
    from launch import LaunchDescription  # type: ignore[attr-defined]
    from launch.actions import DeclareLaunchArgument, OpaqueFunction
    from launch.substitutions import LaunchConfiguration

    chosen = [argument for argument in ARGUMENTS if argument.name in names]
    declared = [
        DeclareLaunchArgument(one.name, default_value=one.default, description=one.description, choices=one.choices)
        for one in chosen
    ]

    def compose(context: Any) -> list[Any]:
        return start({one.name: LaunchConfiguration(one.name).perform(context) for one in chosen})

    return LaunchDescription([*declared, OpaqueFunction(function=compose)])


def node_process(executable: str, values: Mapping[str, str], parameters: Mapping[str, Any]) -> Any:
    """One node in a process of its own; its lifecycle starts by itself (parameter autostart)."""
    from launch_ros.actions import Node

    return Node(
        package="hoi_ros",
        executable=executable,
        name=executable,
        parameters=[*parameter_files(values), dict(parameters)],
        remappings=camera_remappings_of(values),
        output="screen",
    )


def parameter_files(values: Mapping[str, str]) -> list[str]:
    """The package's parameter file, then the user's."""
    return [str(share_file("config/live.yaml")), *filter(None, [values["params_file"]])]


def camera_remappings_of(values: Mapping[str, str]) -> list[tuple[str, str]]:
    """Camera topics behind the namespace that was asked for."""
    return [(topic, values["camera_namespace"] + topic) for topic in CAMERA_TOPICS]

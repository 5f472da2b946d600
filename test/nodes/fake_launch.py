"""Just enough of `launch` and `launch_ros` to run our launch files where the real ones are not installed.

It keeps what the files say and evaluates launch configurations. What it cannot show: that `ros2 launch` finds the
files, that processes start, and that the real classes take these arguments.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path


class Action:
    def __init__(self, *positional, **named) -> None:
        self.positional, self.named = positional, named

    def __getattr__(self, name):
        try:
            return self.__dict__["named"][name]
        except KeyError:
            raise AttributeError(name) from None


class DeclareLaunchArgument(Action):
    @property
    def name(self):
        return self.positional[0]


class IncludeLaunchDescription(Action): ...


class OpaqueFunction(Action): ...


class Shutdown(Action): ...


class Node(Action): ...


class PythonLaunchDescriptionSource(Action): ...


class LaunchConfiguration(Action):
    def perform(self, context):
        return context[self.positional[0]]


class LaunchDescription:
    def __init__(self, entities) -> None:
        self.entities = entities


MODULES = {
    "launch": {"LaunchDescription": LaunchDescription},
    "launch.actions": {
        one.__name__: one for one in (DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, Shutdown)
    },
    "launch.launch_description_sources": {"PythonLaunchDescriptionSource": PythonLaunchDescriptionSource},
    "launch.substitutions": {"LaunchConfiguration": LaunchConfiguration},
    "launch_ros": {},
    "launch_ros.actions": {"Node": Node},
}


def load_launch_file(path: Path, monkeypatch) -> LaunchDescription:
    """Run a launch file against the fakes."""
    for name, content in MODULES.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location(path.stem.replace(".", "_"), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def started_nodes(path: Path, given: dict[str, str], monkeypatch) -> list[Node]:
    """The nodes that a launch file starts with these arguments, through all that it includes."""
    description = load_launch_file(path, monkeypatch)
    declared = [entity for entity in description.entities if isinstance(entity, DeclareLaunchArgument)]
    values = {one.name: one.default_value for one in declared} | given
    for one in declared:
        assert one.choices is None or values[one.name] in one.choices
    nodes: list[Node] = []
    for entity in description.entities:
        if not isinstance(entity, OpaqueFunction):
            continue
        for action in entity.function(values):
            if isinstance(action, IncludeLaunchDescription):
                nodes += started_nodes(Path(action.positional[0].positional[0]), values, monkeypatch)
            else:
                nodes.append(action)
    return nodes

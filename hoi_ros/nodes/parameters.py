"""ROS parameters from settings: described, range-checked, and refused with the nearest name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.node import Node

from hoi_ros.config import SettingInfo, describe_settings, make_config
from hoi_ros.errors import InputError, unknown_name
from hoi_ros.nodes.node_configs import NODE_CONFIGS, node_parameter_names

_ROS_OWN = ("use_sim_time", "start_type_description_service")
_INT64 = 2**63 - 1


def descriptor(info: SettingInfo) -> ParameterDescriptor:
    """Parameter description with meaning, choices and range."""
    out = ParameterDescriptor(name=info.name, description=info.help, dynamic_typing=True)
    constraints = ["takes effect when the node is configured"]
    if info.choices:
        constraints.insert(0, f"one of {', '.join(map(str, info.choices))}")
    out.additional_constraints = "; ".join(constraints)
    if info.low is not None or info.high is not None:
        if info.type is int:
            low = -_INT64 if info.low is None else int(info.low)
            high = _INT64 if info.high is None else int(info.high)
            out.integer_range = [IntegerRange(from_value=low, to_value=high)]
        elif info.type is float:
            low_f = -1.7e308 if info.low is None else float(info.low)
            high_f = 1.7e308 if info.high is None else float(info.high)
            out.floating_point_range = [FloatingPointRange(from_value=low_f, to_value=high_f)]
    return out


def declare_settings(node: Node, config_classes: Iterable[type]) -> None:
    """Declare every setting of the classes on a node and check what was given for them.

    Raises:
        InputError: a given parameter is unknown (nearest name suggested), of a wrong type, or out of range.
    """
    infos = {info.name: info for config in config_classes for info in describe_settings(config)}
    given = given_parameters(node)
    _refuse_unknown(node.get_name(), given, infos)
    read_configs(node.get_name(), given, config_classes)
    for info in infos.values():
        default = "" if info.default is None else info.default
        try:
            node.declare_parameter(info.name, default, descriptor(info))
        except ParameterException as error:
            raise InputError(f"{node.get_name()}: parameter '{info.name}': {error}") from error


def given_parameters(node: Node) -> dict[str, Any]:
    """Parameters that came by file, command line or constructor, whether declared or not."""
    # rclpy has no public way to see overrides that were never declared, and those are the misspelt ones.
    overrides: Mapping[str, Any] = getattr(node, "_parameter_overrides", {})
    return {
        name: parameter.value
        for name, parameter in overrides.items()
        if name not in _ROS_OWN and not name.startswith("qos_overrides.")
    }


def _refuse_unknown(node_name: str, given: Mapping[str, Any], infos: Mapping[str, SettingInfo]) -> None:
    unknown = [name for name in given if name not in infos]
    if not unknown:
        return
    # A file's `/**` part speaks to every node: names that another node knows are no mistake.
    elsewhere = set().union(*(node_parameter_names(node) for node in NODE_CONFIGS))
    for name in unknown:
        if name not in elsewhere:
            raise InputError(f"{node_name}: {unknown_name('parameter', name, infos)}")


def read_configs(node_name: str, values: Mapping[str, Any], config_classes: Iterable[type]) -> dict[type, Any]:
    """Build each config from plain values; names of other classes are skipped.

    Raises:
        InputError: wrong type or out of range.
    """
    out: dict[type, Any] = {}
    for config in config_classes:
        defaults = {info.name: info.default for info in describe_settings(config)}
        own = {k: v for k, v in values.items() if k in defaults and not (v == "" and defaults[k] is None)}
        out[config] = make_config(config, own, where=node_name)
    return out


def configs_from_node(node: Node, config_classes: Iterable[type]) -> dict[type, Any]:
    """Build each config from a node's present parameters.

    Raises:
        InputError: wrong type or out of range.
    """
    classes = tuple(config_classes)
    names = {info.name for config in classes for info in describe_settings(config)}
    return read_configs(node.get_name(), {name: node.get_parameter(name).value for name in names}, classes)

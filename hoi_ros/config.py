"""Settings: name, default, range and meaning written once, as dataclass fields. Knows no subject."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hoi_ros.errors import InputError, unknown_name

Config = TypeVar("Config")


def setting(
    default: Any, help: str, *, low: float | None = None, high: float | None = None, choices: tuple | None = None
) -> Any:
    """Declare a setting of a frozen config dataclass: default, one-line meaning, inclusive range or choices.

    Of a list, which is of the type `tuple[T, ...]`, range and choices hold for each of its values.
    """
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class SettingInfo:
    """One setting as the command line and ROS parameters show it."""

    name: str
    type: type
    default: Any
    help: str
    low: float | None
    high: float | None
    choices: tuple | None


def describe_settings(config_class: type) -> Iterator[SettingInfo]:
    """Yield every setting of a config dataclass, in order."""
    hints = typing.get_type_hints(config_class)
    for item in dataclasses.fields(config_class):
        kind = hints[item.name]
        if isinstance(kind, types.UnionType):
            kind = next(k for k in typing.get_args(kind) if k is not type(None))
        meta = item.metadata
        yield SettingInfo(
            item.name, kind, item.default, meta.get("help", ""), meta.get("low"), meta.get("high"), meta.get("choices")
        )


def make_config(config_class: type[Config], values: Mapping[str, Any] | None = None, where: str = "") -> Config:
    """Build a config from plain values, checking names, types and ranges.

    Args:
        config_class: a dataclass whose fields are `setting`s.
        values: setting name to value; absent ones keep their default.
        where: file or node that the values come from, for the message.

    Raises:
        InputError: unknown name (the nearest known one is suggested), wrong type, out of range.
    """
    known = {info.name: info for info in describe_settings(config_class)}
    prefix = f"{where}: " if where else ""
    checked = {}
    for name, value in (values or {}).items():
        if name not in known:
            raise InputError(prefix + str(unknown_name("parameter", name, known)))
        checked[name] = _checked(known[name], value, prefix)
    return config_class(**checked)


KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _checked(info: SettingInfo, value: Any, prefix: str) -> Any:
    if value is None and info.default is None:
        return None
    if typing.get_origin(info.type) is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{prefix}parameter '{info.name}' is {value!r}: give a list")
        kind = typing.get_args(info.type)[0]
        return tuple(_checked(dataclasses.replace(info, type=kind), item, prefix) for item in value)
    if info.type is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if info.type in (bool, int, float, str) and type(value) is not info.type:
        raise InputError(f"{prefix}parameter '{info.name}' is {value!r}: give {KINDS[info.type]}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{prefix}parameter '{info.name}' is {value}: give a finite number")
    if info.choices is not None and value not in info.choices:
        raise InputError(
            f"{prefix}parameter '{info.name}' is {value!r}: choose one of {', '.join(map(str, info.choices))}"
        )
    if (info.low is not None and value < info.low) or (info.high is not None and value > info.high):
        low = "-inf" if info.low is None else info.low
        high = "inf" if info.high is None else info.high
        raise InputError(f"{prefix}parameter '{info.name}' is {value}: its range is {low} to {high}")
    return value


def parse_value(text: str, assignment: str) -> Any:
    """The value on the right of an assignment, read as YAML.

    Raises:
        InputError: it is none; `assignment` is named.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{assignment}: the value '{text}' cannot be read; write it as in a YAML file") from error


def load_parameters(*paths: Path | str) -> dict[str, dict[str, Any]]:
    """Read ROS parameter files (`node: ros__parameters: {name: value}`); a later file overlays an earlier one.

    Returns:
        Node name to its parameters; `/**` holds those for every node.

    Raises:
        InputError: missing or unreadable file, or not of that layout.
    """
    import yaml

    merged: dict[str, dict[str, Any]] = {}
    for path in map(Path, paths):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise InputError(f"parameter file {path}: {error.strerror}; check the path") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"parameter file {path} is not YAML ({reason}); compare it with config/live.yaml"
            ) from error
        if not isinstance(content, dict):
            raise InputError(f"parameter file {path}: expected 'node: ros__parameters: ...' as in config/live.yaml")
        for node, body in content.items():
            if not isinstance(body, dict) or set(body) != {"ros__parameters"}:
                raise InputError(f"parameter file {path}: '{node}' needs the one key 'ros__parameters'")
            values = body["ros__parameters"] or {}
            if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
                raise InputError(f"parameter file {path}: 'ros__parameters' of '{node}' needs lines 'name: value'")
            merged.setdefault(str(node).lstrip("/") or node, {}).update(values)
    return merged

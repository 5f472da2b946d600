"""Make Fast DDS carry pictures: point it at a profile with a big shared-memory segment, before rclpy starts."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import MutableMapping
from pathlib import Path

PROFILE_FILE = Path(__file__).with_name("fastdds_shm.xml")
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Kilted and later read the first and warn of the second; Jazzy reads only the second."""
USER_VARIABLES = (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS", "FASTRTPS_BUILTIN_TRANSPORTS")
KILTED_RCLPY = 9


def profile_variables(rclpy_version: str | None) -> tuple[str, ...]:
    """Variables that this rclpy's Fast DDS reads; both when the version is unknown."""
    major = (rclpy_version or "").split(".")[0]
    if not major.isdecimal():
        return PROFILE_VARIABLES
    return PROFILE_VARIABLES[:1] if int(major) >= KILTED_RCLPY else PROFILE_VARIABLES[1:]


def use_shared_memory_profile(environment: MutableMapping[str, str] = os.environ) -> Path | None:
    """Set the profile variable for this process and its children, unless the user chose a profile or transport.

    Call before `rclpy.init`. Other middleware ignores the variable.

    Returns:
        The profile that Fast DDS will read: ours, the user's, or None when the user chose transports without a file.
    """
    ours = str(PROFILE_FILE)
    if all(environment.get(name, "") in ("", ours) for name in USER_VARIABLES):
        for name in profile_variables(_rclpy_version()):
            environment[name] = ours
        return PROFILE_FILE
    chosen = next((environment[name] for name in PROFILE_VARIABLES if environment.get(name)), None)
    return Path(chosen) if chosen else None


def _rclpy_version() -> str | None:
    try:
        return importlib.metadata.version("rclpy")
    except importlib.metadata.PackageNotFoundError:
        return None

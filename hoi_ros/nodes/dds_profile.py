"""Make Fast DDS carry pictures: point it at a profile with a big shared-memory segment, before rclpy starts."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

# Resolved: Fast DDS reads a file twice, and complains, when it knows it by two names.
PROFILE_FILE = Path(__file__).resolve().with_name("fastdds_shm.xml")
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Kilted and later read the first, Jazzy only the second."""
USER_VARIABLES = (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS", "FASTRTPS_BUILTIN_TRANSPORTS")


def use_shared_memory_profile(environment: MutableMapping[str, str] = os.environ) -> Path | None:
    """Set the profile variables for this process and its children, unless the user chose a profile or transport.

    Call before `rclpy.init`. Other middleware ignores the variables.

    Returns:
        The profile that Fast DDS will read: ours, the user's, or None when the user chose transports without a file.
    """
    ours = str(PROFILE_FILE)
    if all(environment.get(name, "") in ("", ours) for name in USER_VARIABLES):
        for name in PROFILE_VARIABLES:
            environment[name] = ours
        return PROFILE_FILE
    chosen = next((environment[name] for name in PROFILE_VARIABLES if environment.get(name)), None)
    return Path(chosen) if chosen else None

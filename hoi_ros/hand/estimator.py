"""The face that every hand estimator shows, and how one is made."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from hoi_ros.datatypes import HandEstimate, RgbdFrame
from hoi_ros.device import resolve_device
from hoi_ros.errors import unknown_name
from hoi_ros.hand.config import ESTIMATORS, HandConfig


class HandEstimator(Protocol):
    """Colour (and depth) in, hands with meshes out."""

    joint_angle_names: tuple[str, ...]

    def estimate(self, frame: RgbdFrame, *, independent: bool = False) -> list[HandEstimate]:
        """Find the hands of a frame.

        Args:
            frame: any size; depth places the hands when there is some.
            independent: the picture stands alone: nothing is followed, track ids are fresh, and more time is spent.

        Returns:
            One record a hand; none is an empty list.
        """
        ...

    def reset(self) -> None:
        """Forget every tracked hand."""

    def faces(self, handedness: str) -> np.ndarray:
        """(F, 3) int32 triangles of a side's mesh."""
        ...

    def close(self) -> None:
        """Let go of the networks."""


def choose_estimator(config: HandConfig) -> str:
    """What 'auto' means: HandOS, which is nearer to real hands, unless a hand model is given that it does not know.

    Raises:
        InputError: unknown estimator.
    """
    if config.estimator not in ESTIMATORS:
        raise unknown_name("estimator", config.estimator, ESTIMATORS)
    return config.estimator if config.estimator != "auto" else "embedded" if config.hand_model else "handos"


def create_hand_estimator(config: HandConfig, device: str = "auto") -> HandEstimator:
    """Make the estimator that the settings name, warmed up.

    Args:
        config: settings.
        device: 'auto', 'cpu' or 'cuda'.

    Raises:
        InputError: unknown estimator or device, an estimator whose weights are not there, bad weights or hand model.
    """
    if choose_estimator(config) == "handos":
        from hoi_ros.hand.handos_estimator import HandOsEstimator

        return HandOsEstimator(config, resolve_device(device))
    from hoi_ros.hand.embedded import EmbeddedHandEstimator

    return EmbeddedHandEstimator(config, resolve_device(device))

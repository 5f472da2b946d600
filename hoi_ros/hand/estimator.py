"""The face that every hand estimator shows, and how one is made."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from hoi_ros.datatypes import HandEstimate, RgbdFrame
from hoi_ros.device import resolve_device
from hoi_ros.errors import InputError, unknown_name
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


def choose_estimator(config: HandConfig, device: str = "auto", live: bool = False) -> str:
    """What 'auto' means: HandOS, which is nearer to real hands, and always where its masks or a detector are asked for.

    But the embedded one where a hand model is given without HandOS weights for it, and where a camera waits on a CPU,
    which HandOS lets keep up with one hand only.

    Raises:
        InputError: unknown estimator or device, or masks of the embedded estimator.
    """
    if config.estimator not in ESTIMATORS:
        raise unknown_name("estimator", config.estimator, ESTIMATORS)
    if config.estimator == "embedded" and config.handos_masks:
        raise InputError("handos_masks with estimator 'embedded': it has none; take estimator 'handos' or 'auto'")
    if config.estimator != "auto":
        return config.estimator
    if config.handos_detector or config.handos_masks:
        return "handos"
    unknown_hand = bool(config.hand_model) and not config.handos_weights
    return "embedded" if unknown_hand or (live and resolve_device(device) == "cpu") else "handos"


def create_hand_estimator(config: HandConfig, device: str = "auto", *, live: bool = False) -> HandEstimator:
    """Make the estimator that the settings name, warmed up.

    Args:
        config: settings.
        device: 'auto', 'cpu' or 'cuda'.
        live: a camera waits; see `choose_estimator`.

    Raises:
        InputError: unknown estimator or device, an estimator whose weights are not there, bad weights or hand model.
    """
    chosen = choose_estimator(config, device, live)
    if config.handos_detector and chosen == "handos":
        from hoi_ros.hand.one_stage_estimator import OneStageEstimator

        return OneStageEstimator(config, resolve_device(device))
    if chosen == "handos":
        from hoi_ros.hand.handos_estimator import HandOsEstimator

        return HandOsEstimator(config, resolve_device(device))
    from hoi_ros.hand.embedded import EmbeddedHandEstimator

    return EmbeddedHandEstimator(config, resolve_device(device))

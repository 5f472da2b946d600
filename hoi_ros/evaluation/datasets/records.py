"""What every data set gives, whatever its layout: frames with what is known of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame, TriangleMesh
from hoi_ros.geometry import project

LEAST_JOINTS = 5
"""Known joints of a labelled hand without which a found one cannot be told to be it."""


@dataclass(frozen=True)
class HandLabel:
    """What is known of one hand in one frame; unknown joints are NaN, unknown things None."""

    side: str | None = None
    """'left' or 'right', the person's own."""
    joints_camera: np.ndarray | None = None
    """(21, 3) metres, optical frame, JOINT_NAMES order."""
    joints_px: np.ndarray | None = None
    """(21, 2) pixels."""
    vertices_camera: np.ndarray | None = None
    """(V, 3) metres, optical frame, in the data set's own topology."""
    visible_fraction: float = 1.0
    """Share of the hand that nothing hides, 0 to 1; 1 where the data set does not say."""

    def pixels(self, intrinsics: CameraIntrinsics) -> np.ndarray:
        """(21, 2) pixels, projected from 3D where no others are given; NaN where unknown."""
        if self.joints_px is not None:
            return self.joints_px
        if self.joints_camera is None:
            return np.full((21, 2), np.nan)
        return project(np.asarray(self.joints_camera, np.float64), intrinsics)


@dataclass(frozen=True)
class LabelledFrame:
    """A frame and its labels."""

    frame: RgbdFrame
    hands: tuple[HandLabel, ...] = ()
    all_hands_labelled: bool = False
    """True when a further hand found in the picture would be a mistake: every hand has LEAST_JOINTS known joints."""
    T_camera_object: np.ndarray | None = None
    """(4, 4); None where unknown."""
    object_mask: np.ndarray | None = None
    """(H, W) bool: visible pixels of the object."""
    hand_mask: np.ndarray | None = None
    """(H, W) bool: pixels of hands."""


class LabelledSequence(ABC):
    """Labelled frames of one film, or of photos that have nothing to do with each other.

    Attributes:
        name: data set and sequence, for tables.
        independent_frames: photos, not a film.
        fills_picture: one hand fills each picture, so that a hand detector wants a border around it.
        fps: frames per second of a film.
        depth_place: where the layout has depth that a copy may lack; '' where it has none, or none can lack.
    """

    name: str
    independent_frames: bool = False
    fills_picture: bool = False
    fps: float = 30.0
    depth_place: str = ""

    @abstractmethod
    def __len__(self) -> int:
        """Number of frames."""

    @abstractmethod
    def __getitem__(self, index: int) -> LabelledFrame:
        """Read one frame; IndexError past the end."""

    def __iter__(self) -> Iterator[LabelledFrame]:
        for index in range(len(self)):
            yield self[index]

    def hand_faces(self) -> np.ndarray | None:
        """(F, 3) triangles of a right hand's labelled vertices, which tell its topology; None where it is not known."""
        return None

    def object_mesh(self) -> TriangleMesh | None:
        """The object's true mesh in the frame of `T_camera_object`; None where the data set has none.

        Raises:
            InputError: its file is missing, unreadable or not in metres.
        """
        return None

    def first_mask(self) -> np.ndarray | None:
        """(H, W) bool: the object in the first frame, for sequences in which no hand shows which object is meant."""
        return None

"""Records handed over by reference between the nodes of one process: no picture is serialised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from hoi_ros.datatypes import HandEstimate, ObjectObservation, RgbdFrame, TriangleMesh
from hoi_ros.nodes.worker import LatestSlot

Item = TypeVar("Item")


@dataclass(frozen=True)
class HandsFrame:
    """A frame and the hands in it."""

    frame: RgbdFrame
    hands: list[HandEstimate]
    faces: Mapping[str, np.ndarray]
    """Side to (F, 3) triangles of its hand model."""


@dataclass(frozen=True)
class ObjectFrame:
    """A frame, its hands and its object."""

    frame: RgbdFrame
    hands: list[HandEstimate]
    faces: Mapping[str, np.ndarray]
    observation: ObjectObservation


@dataclass(frozen=True)
class MeshUpdate:
    """A new mesh of an object, in the object's frame."""

    stamp_ns: int
    object_id: int
    mesh: TriangleMesh


class Channel(Generic[Item]):
    """One kind of record, from one writer to any number of readers."""

    def __init__(self, bus: FrameBus) -> None:
        self._bus = bus
        self._slots: list[LatestSlot[Item]] = []

    def subscribe(self) -> LatestSlot[Item]:
        """A slot of one's own that holds the newest record."""
        slot: LatestSlot[Item] = LatestSlot()
        self._slots.append(slot)
        return slot

    def put(self, item: Item) -> None:
        """Hand a record to every reader; nobody may change it any more."""
        for slot in self._slots:
            slot.put(item, wait=self._bus.lossless)

    def close(self) -> None:
        """Let every reader and a writer that waits go."""
        for slot in self._slots:
            slot.close()


class FrameBus:
    """The channels between the nodes of one process."""

    def __init__(self) -> None:
        self.lossless = False
        """True makes writers wait until readers took the last record: a file played as fast as it is worked on."""
        self.frames: Channel[RgbdFrame] = Channel(self)
        self.hands: Channel[HandsFrame] = Channel(self)
        self.objects: Channel[ObjectFrame] = Channel(self)
        self.meshes: Channel[MeshUpdate] = Channel(self)

    def close(self) -> None:
        """Close every channel."""
        for channel in (self.frames, self.hands, self.objects, self.meshes):
            channel.close()

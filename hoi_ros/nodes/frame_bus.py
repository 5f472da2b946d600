"""Records handed over by reference between the nodes of one process: no picture is serialised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

    def unsubscribe(self, slot: LatestSlot) -> None:
        """Give a slot back; one of another channel is left alone."""
        self._slots = [own for own in self._slots if own is not slot]

    def put(self, item: Item, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Hand a record to every reader; nobody may change it any more."""
        for slot in self._slots:
            slot.put(item, wait=self._bus.lossless, cancelled=cancelled)

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

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Every channel."""
        return (self.frames, self.hands, self.objects, self.meshes)

    def close(self) -> None:
        """Close every channel."""
        for channel in self.channels:
            channel.close()

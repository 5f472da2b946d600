"""Hands that vanished a moment ago: behind another hand or a thing they are still there, and still not object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hoi_ros.datatypes import HandEstimate

HIDDEN_FRAMES = 45
"""Frames for which a hand that is no longer found is expected where it was."""


class HiddenHands:
    """Remembers each hand as it was last seen."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[HandEstimate, int]] = {}
        self._frames = 0

    def with_hidden(self, hands: Sequence[HandEstimate]) -> list[HandEstimate]:
        """The hands of the next frame, and those of the frames before that are missing in it."""
        self._frames += 1
        self._seen.update((hand.track_id, (hand, self._frames)) for hand in hands)
        self._seen = {key: seen for key, seen in self._seen.items() if self._frames - seen[1] <= HIDDEN_FRAMES}
        # Masks are of one picture: those of a hidden hand say nothing of this one.
        return [
            hand if frame == self._frames else replace(hand, segments=None, contact=None)
            for hand, frame in self._seen.values()
        ]

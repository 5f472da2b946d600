"""Which messages belong together, by their stamps. Pure: time comes in as numbers."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

JUMP_NS = 1_000_000_000
"""A stamp that lies further back than this is a clock that was set back; nearer ones are late frames."""


@dataclass(frozen=True)
class Pair:
    """A colour picture and the depth that was taken with it."""

    stamp_ns: int
    color: Any
    depth: Any = None


class StampOrder:
    """Watches stamps: says which are late, and notices a clock that jumped back."""

    def __init__(self) -> None:
        self._last: int | None = None
        self.late = 0
        """Stamps older than one before, without a jump."""
        self.jumps = 0
        """How often the clock went back."""

    def check(self, stamp_ns: int) -> str:
        """'next', 'late' (drop it) or 'jump' (start anew)."""
        last, self._last = self._last, stamp_ns
        if last is None or stamp_ns >= last:
            return "next"
        if stamp_ns < last - JUMP_NS:
            self.jumps += 1
            return "jump"
        self._last = last
        self.late += 1
        return "late"


class FrameSynchronizer:
    """Pairs colour with depth by stamp; colour whose depth does not come goes alone after a short wait.

    After `PATIENCE` such frames colour no longer waits, until depth comes again.
    """

    PATIENCE = 3

    def __init__(self, slop_ns: int, wait_ns: int, depth_available: Callable[[], bool] = lambda: True) -> None:
        """Start empty.

        Args:
            slop_ns: largest difference of two stamps that belong together.
            wait_ns: how long colour waits for its depth.
            depth_available: False when nobody publishes depth, so that waiting is idle.
        """
        self._slop_ns, self._wait_ns, self._depth_available = slop_ns, wait_ns, depth_available
        self._colors: deque[tuple[int, Any, int]] = deque(maxlen=16)
        self._depths: deque[tuple[int, Any]] = deque(maxlen=16)
        self._missed = 0
        self.order = StampOrder()

    @property
    def waiting(self) -> bool:
        """True while a colour picture waits for its depth."""
        return bool(self._colors)

    @property
    def depth_missing(self) -> bool:
        """True when colour stopped waiting, since depth stays away."""
        return self._missed >= self.PATIENCE

    def add_color(self, stamp_ns: int, item: Any, now_ns: int) -> list[Pair]:
        """Take a colour picture; returns what is complete, oldest first."""
        verdict = self.order.check(stamp_ns)
        if verdict == "late":
            return self.poll(now_ns)
        if verdict == "jump":
            self.clear()
        self._colors.append((stamp_ns, item, now_ns + self._wait_ns))
        return self.poll(now_ns)

    def add_depth(self, stamp_ns: int, item: Any, now_ns: int) -> list[Pair]:
        """Take a depth picture; returns what is complete, oldest first."""
        if self._depths and stamp_ns < self._depths[-1][0]:
            self._depths.clear()
        self._depths.append((stamp_ns, item))
        self._missed = 0
        return self.poll(now_ns)

    def poll(self, now_ns: int) -> list[Pair]:
        """What is complete or waited long enough, oldest first."""
        matches = [self._match(stamp) for stamp, _, _ in self._colors]
        last_match = max((i for i, match in enumerate(matches) if match is not None), default=-1)
        out = []
        while self._colors:
            stamp, item, deadline = self._colors[0]
            match = matches[len(matches) - len(self._colors)]
            overtaken = last_match >= len(matches) - len(self._colors)
            alone = overtaken or now_ns >= deadline or self.depth_missing or not self._depth_available()
            if match is None and not alone:
                break
            self._colors.popleft()
            if match is None and now_ns >= deadline:
                self._missed += 1
            out.append(Pair(stamp, item, match))
        return out

    def clear(self) -> None:
        """Forget what waits."""
        self._colors.clear()
        self._depths.clear()

    def _match(self, stamp_ns: int) -> Any:
        near = min(self._depths, key=lambda d: abs(d[0] - stamp_ns), default=None)
        return near[1] if near is not None and abs(near[0] - stamp_ns) <= self._slop_ns else None


class StampJoin:
    """Collects the named parts of a moment that arrive on different topics with the very same stamp."""

    def __init__(self, parts: tuple[str, ...], capacity: int = 30) -> None:
        self._parts, self._capacity = parts, capacity
        self._open: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._done_ns: int | None = None

    def add(self, part: str, stamp_ns: int, item: Any) -> dict[str, Any] | None:
        """Take one part; returns all parts when it was the last of its moment, and forgets older moments."""
        newest = max([*self._open, self._done_ns or 0])
        if stamp_ns < newest - JUMP_NS:
            self._open.clear()
            self._done_ns = None
        if self._done_ns is not None and stamp_ns < self._done_ns:
            return None
        moment = self._open.setdefault(stamp_ns, {})
        moment[part] = item
        while len(self._open) > self._capacity:
            del self._open[min(self._open)]
        if any(name not in moment for name in self._parts):
            return None
        self._done_ns = stamp_ns
        for old in [s for s in self._open if s <= stamp_ns]:
            del self._open[old]
        return moment


@dataclass
class _HandMoment:
    expected: list[tuple[str, int]] | None = None
    parts: dict[tuple[str, str], list] = field(default_factory=dict)

    def complete(self, kinds: tuple[str, ...]) -> bool:
        if self.expected is None:
            return False
        sides = [side for side, _ in self.expected]
        return all(len(self.parts.get((k, s), ())) >= sides.count(s) for k in kinds for s in set(sides))


@dataclass(frozen=True)
class HandParts:
    """One hand as it came over topics."""

    side: str
    track_id: int
    messages: dict[str, Any]
    """Kind (vertices, joints, wrist) to message."""


class HandCollector:
    """Puts the hands of a moment together: the skeleton says which there are, the other topics bring their parts.

    The i-th message of a side's topic with that stamp belongs to the side's i-th hand in the skeleton.
    """

    KINDS = ("vertices", "joints", "wrist")

    def __init__(self, capacity: int = 30) -> None:
        self._capacity = capacity
        self._moments: OrderedDict[int, _HandMoment] = OrderedDict()

    def add_skeleton(self, stamp_ns: int, hands: list[tuple[str, int]]) -> list[HandParts] | None:
        """Take the list of (side, track id) of a moment; returns its hands when all parts are there."""
        self._moment(stamp_ns).expected = hands
        return self._finish(stamp_ns)

    def add_part(self, kind: str, side: str, stamp_ns: int, message: Any) -> list[HandParts] | None:
        """Take one part of a hand; returns the moment's hands when all parts are there."""
        self._moment(stamp_ns).parts.setdefault((kind, side), []).append(message)
        return self._finish(stamp_ns)

    def _moment(self, stamp_ns: int) -> _HandMoment:
        if self._moments and stamp_ns < max(self._moments) - JUMP_NS:
            self._moments.clear()
        moment = self._moments.setdefault(stamp_ns, _HandMoment())
        while len(self._moments) > self._capacity:
            del self._moments[min(self._moments)]
        return moment

    def _finish(self, stamp_ns: int) -> list[HandParts] | None:
        moment = self._moments.get(stamp_ns)
        if moment is None or not moment.complete(self.KINDS):
            return None
        del self._moments[stamp_ns]
        out, seen = [], {"left": 0, "right": 0}
        for side, track_id in moment.expected or ():
            i, seen[side] = seen[side], seen[side] + 1
            out.append(HandParts(side, track_id, {kind: moment.parts[kind, side][i] for kind in self.KINDS}))
        return out

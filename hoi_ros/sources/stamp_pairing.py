"""Colour joined with the depth of the nearest stamp."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def pair_by_stamp(
    messages: Iterable[tuple[bool, int, Item]], tolerance_ns: int, patience: int = 30
) -> Generator[tuple[int, Item, Item | None], None, None]:
    """Join each colour with the depth nearest in time.

    Args:
        messages: (is_depth, stamp_ns, item), each kind in order of its stamps, the two mixed in any way.
        tolerance_ns: a depth farther away than this is no partner.
        patience: colours kept waiting for a depth that is late.

    Yields:
        stamp_ns of the colour, the colour, and its depth or None; in the colours' order. No depth is given twice.
    """
    colors: deque[tuple[int, Item]] = deque()
    depths: deque[tuple[int, Item]] = deque()

    def release() -> tuple[int, Item, Item | None]:
        stamp, color = colors.popleft()
        while len(depths) > 1 and abs(depths[1][0] - stamp) <= abs(depths[0][0] - stamp):
            depths.popleft()
        if depths and abs(depths[0][0] - stamp) <= tolerance_ns:
            return stamp, color, depths.popleft()[1]
        return stamp, color, None

    for is_depth, stamp, item in messages:
        (depths if is_depth else colors).append((stamp, item))
        while colors and (len(colors) > patience or (depths and depths[-1][0] >= colors[0][0])):
            yield release()
    while colors:
        yield release()

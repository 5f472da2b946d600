"""Markers written straight into their serialised bytes: the slow Python lists of Point and ColorRGBA are never built.

rclpy turns 4614 `Point` objects into bytes in 7 ms; one marker a hand and frame would eat a third of the time there is.
A template marker with one sentinel point and one sentinel colour is serialised by rclpy itself, cut at the sentinels,
and put together again with as many points and colours as asked. Everything after a block keeps its alignment, since
points (24 bytes) and colours (16 bytes) need no padding of their own: the bytes equal rclpy's.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import Point
from rclpy.serialization import serialize_message
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

_STAMP = (0x51525354, 0x2A2B2C2D)
_POINT = (-7.0625e77, 3.03125e-66, 5.15625e88)
_COLOR = (-3.25e17, 7.75e-13, 2.125e19, -6.5e-11)


@dataclass(frozen=True)
class _Cut:
    """Where one marker of the template has its stamp, points and colours, byte offsets."""

    stamp: int
    points_length: int
    points: int
    colors_length: int
    colors: int


def _find_once(data: bytes, pattern: bytes, start: int) -> int:
    position = data.find(pattern, start)
    if position < 0:
        raise RuntimeError("the serialised marker lacks a sentinel: the message layout changed")
    return position


class PatchedMarkers:
    """Serialised Marker or MarkerArray whose stamps, points and colours change from frame to frame.

    The template's own points and colours are ignored; its ns, ids, frame, type, scale, colour and lifetime stay.
    """

    def __init__(self, template: Any) -> None:
        """Cut a template (Marker or MarkerArray).

        Raises:
            ValueError: the template holds no marker.
        """
        markers = template.markers if isinstance(template, MarkerArray) else [template]
        if not markers:
            raise ValueError("PatchedMarkers: the template holds no marker")
        saved = [(m.header.stamp.sec, m.header.stamp.nanosec, m.points, m.colors) for m in markers]
        for marker in markers:
            _set_sentinels(marker)
        self._data = bytes(serialize_message(template))
        for marker, (sec, nanosec, points, colors) in zip(markers, saved):
            marker.header.stamp.sec, marker.header.stamp.nanosec = sec, nanosec
            marker.points, marker.colors = points, colors
        self._order = "<" if self._data[1] & 1 else ">"
        self._cuts = list(self._find_cuts(len(markers)))
        self._layout: tuple[tuple[int, int], ...] = ()
        self._buffer = bytearray()
        self._stamps: list[int] = []
        self._points: list[np.ndarray] = []
        self._colors: list[np.ndarray] = []

    def _find_cuts(self, count: int):
        o, data, start = self._order, self._data, 0
        for _ in range(count):
            stamp = _find_once(data, struct.pack(o + "iI", *_STAMP), start)
            points = _find_once(data, struct.pack(o + "3d", *_POINT), stamp)
            colors = _find_once(data, struct.pack(o + "4f", *_COLOR), points)
            # The length stands right before the block, or before the padding that aligns the doubles to 8 bytes.
            length = points - 4 if struct.unpack_from(o + "I", data, points - 4)[0] == 1 else points - 8
            yield _Cut(stamp, length, points, colors - 4, colors)
            start = colors

    def _lay_out(self, layout: tuple[tuple[int, int], ...]) -> None:
        """Build the buffer for (points, colours) per marker and remember views into it."""
        out, position = bytearray(), 0
        stamps, blocks = [], []
        for cut, (point_count, color_count) in zip(self._cuts, layout):
            stamps.append(len(out) + cut.stamp - position)
            out += self._data[position : cut.points_length]
            out += struct.pack(self._order + "I", point_count)
            out += self._data[cut.points_length + 4 : cut.points]
            point_start = len(out)
            out += bytes(24 * point_count) + self._data[cut.points + 24 : cut.colors_length]
            out += struct.pack(self._order + "I", color_count)
            blocks.append((point_start, point_count, len(out), color_count))
            out += bytes(16 * color_count)
            position = cut.colors + 16
        out += self._data[position:]
        self._buffer, self._stamps, self._layout = out, stamps, layout
        f64, f32 = self._order + "f8", self._order + "f4"
        self._points = [np.ndarray((n, 3), f64, out, at) for at, n, _, _ in blocks]
        self._colors = [np.ndarray((n, 4), f32, out, at if n else 0) for _, _, at, n in blocks]

    def patch(
        self, stamp_ns: int, points: Sequence[np.ndarray], colors: Sequence[np.ndarray | None] | None = None
    ) -> bytes:
        """Bytes to publish.

        Args:
            stamp_ns: stamp of every marker.
            points: per marker (N, 3) metres; N >= 1 (delete a marker rather than send it empty).
            colors: per marker (N, 4) in 0 to 1, or None for none.

        Raises:
            ValueError: not one array per marker, or one without points.
        """
        color_list: Sequence[np.ndarray | None] = [None] * len(points) if colors is None else colors
        if len(points) != len(self._cuts) or len(color_list) != len(self._cuts) or any(len(p) == 0 for p in points):
            raise ValueError(f"PatchedMarkers: give {len(self._cuts)} arrays of at least one point")
        layout = tuple((len(p), 0 if c is None else len(c)) for p, c in zip(points, color_list))
        if layout != self._layout:
            self._lay_out(layout)
        stamp = (stamp_ns // 1_000_000_000, stamp_ns % 1_000_000_000)
        for i, offset in enumerate(self._stamps):
            struct.pack_into(self._order + "iI", self._buffer, offset, *stamp)
            self._points[i][:] = points[i]
            color = color_list[i]
            if color is not None:
                self._colors[i][:] = color
        return bytes(self._buffer)


def _set_sentinels(marker: Marker) -> None:
    marker.header.stamp.sec, marker.header.stamp.nanosec = _STAMP
    marker.points = [Point(x=_POINT[0], y=_POINT[1], z=_POINT[2])]
    marker.colors = [ColorRGBA(r=_COLOR[0], g=_COLOR[1], b=_COLOR[2], a=_COLOR[3])]

"""The room behind hands and object, pixel by pixel, while the camera stands still: what differs from it has come in."""

from __future__ import annotations

import cv2
import numpy as np

_CLOSE, _CALM = 14.0, 7.0
"""Grey levels within which a pixel is the room's, and within which it did not change since the frame before."""
_SETTLED_FRAMES, _CALM_FRAMES = 4, 2
_MOVED_SHARE = 0.3
"""Share of known room that must differ before the camera counts as moved."""
_MIN_KNOWN = 0.05
_SWAY_PX = 9
"""Side of the neighbourhood, at half size, within which the room may have shifted."""


class StillRoom:
    """Learns what nothing covers; a camera that moves makes it forget everything.

    Works at half the picture's size. A thing that lies still without a hand belongs to the room.
    """

    def __init__(self) -> None:
        self._mean = np.zeros((0, 0, 3), np.float32)
        self._known = np.zeros((0, 0), bool)
        self._calm = np.zeros((0, 0), np.uint8)
        self._last = self._mean

    def learn(self, color: np.ndarray, busy: np.ndarray) -> None:
        """Take in a picture.

        Args:
            color: (H, W, 3) uint8 RGB.
            busy: (H, W) bool where hands, arms or the object are or may be.
        """
        size = (color.shape[1] // 2, color.shape[0] // 2)
        small = cv2.resize(color, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        free = cv2.resize(busy.astype(np.uint8), small.shape[1::-1], interpolation=cv2.INTER_AREA) == 0
        if small.shape != self._mean.shape:
            self._forget(small)
        light = np.clip((small.mean(2) + 8) / (self._last.mean(2) + 8), 0.85, 1.18)[..., None]
        calm = np.abs(small - light * self._last).max(2) < _CALM  # a shadow may pass
        self._calm = np.where(calm, np.minimum(self._calm, 250) + 1, 0).astype(np.uint8)
        self._last = small
        close = np.abs(small - self._mean).max(2) < _CLOSE
        compared = self._known & free
        if compared.sum() > _MIN_KNOWN * compared.size and (compared & ~close).sum() > _MOVED_SHARE * compared.sum():
            self._forget(small)
            return
        kept = compared & close
        self._mean[kept] += 0.05 * (small[kept] - self._mean[kept])
        new = free & ~kept & (self._calm >= _SETTLED_FRAMES)
        self._mean[new] = small[new]
        self._known |= new

    def compare(self, box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple:
        """What of a part of the last picture is the room's, and what is not; of what may be a shadow on it neither.

        Args:
            box: x0, y0, x1, y1 of the part, pixels of the whole picture.
            size: width and height of the answer.

        Returns:
            (h, w) bool of each, where the room is unknown neither; and (h, w) bool of what did not change lately.
        """
        if not self._known.any():
            nothing = np.zeros(size[::-1], bool)
            return nothing, nothing, nothing
        x0, y0, x1, y1 = (round(v / 2) for v in box)
        part = np.s_[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
        now, room, known = self._last[part], self._mean[part], self._known[part]
        close = np.abs(now - room).max(2) < _CLOSE
        # Who sits behind the hands sways: what the room shows within a few pixels is no proof of something new.
        sway = np.ones((_SWAY_PX, _SWAY_PX), np.uint8)
        outside = (now < cv2.erode(room, sway) - _CLOSE) | (now > cv2.dilate(room, sway) + _CLOSE)
        new = outside.any(2) & (cv2.erode(known.astype(np.uint8), sway) > 0)
        share = (now + 8) / (room + 8)
        level = share.mean(2)
        shaded = (np.abs(share - level[..., None]).max(2) < 0.07) & (level > 0.4) & (level < 1.03)
        back = cv2.resize((known & close).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        front = cv2.resize((new & ~shaded).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        calm = cv2.resize((self._calm[part] >= _CALM_FRAMES).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        return back > 0.6, front > 0.5, calm > 0.5

    def _forget(self, small: np.ndarray) -> None:
        self._mean, self._last = small.copy(), small
        self._known = np.zeros(small.shape[:2], bool)
        self._calm = np.zeros(small.shape[:2], np.uint8)

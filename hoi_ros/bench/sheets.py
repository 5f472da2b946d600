"""Contact sheets: pictures of a run, spread over its length, to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hoi_ros.datatypes import HandEstimate, RgbdFrame
from hoi_ros.overlay import draw_overlay

COLUMNS, ROWS, TILE = 4, 5, (480, 270)


class ContactSheet:
    """20 overlays of a sequence in one picture."""

    def __init__(self, estimator: Any, count: int) -> None:
        self._faces = {side: estimator.faces(side) for side in ("left", "right")}
        self._shown = set(np.linspace(0, max(count - 1, 0), COLUMNS * ROWS).astype(int).tolist())
        self._tiles: list[np.ndarray] = []

    def add(self, number: int, frame: RgbdFrame, hands: list[HandEstimate]) -> None:
        """Draw a frame if it is one of those to be shown."""
        if number in self._shown:
            picture = draw_overlay(frame.color, hands, self._faces, None, str(frame.index), intrinsics=frame.intrinsics)
            self._tiles.append(fit_tile(picture))

    def save(self, path: Path) -> None:
        """Write the sheet; nothing without pictures."""
        if not self._tiles:
            return
        tiles = self._tiles + [np.zeros_like(self._tiles[0])] * (-len(self._tiles) % COLUMNS)
        rows = [np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
        cv2.imwrite(str(path), np.vstack(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


def fit_tile(picture: np.ndarray, size: tuple[int, int] = TILE) -> np.ndarray:
    """The picture scaled into a tile of width and height, with black borders."""
    height, width = picture.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    small = cv2.resize(
        picture, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    tile = np.zeros((size[1], size[0], 3), np.uint8)
    top, left = (size[1] - small.shape[0]) // 2, (size[0] - small.shape[1]) // 2
    tile[top : top + small.shape[0], left : left + small.shape[1]] = small
    return tile

"""Where patches went from one picture to the next: found one by one, believed where dense flow says the same.

A patch alone slides along edges and onto its neighbours in a quick turn. Flow that varies smoothly over the thing does
not, but makes up a motion where it is too plain to be followed, and lags by parts of a pixel.
"""

from __future__ import annotations

import cv2
import numpy as np

_MIN_FOR_CHANGE, _AROUND_PX = 8, 30
_AGREE_PX, _FLOW_BACK_PX = 1.0, 1.0
"""How far patch and flow, and flow forth and back, may lie apart."""
_FLOW_AROUND_PX, _LEAST_SIDE_PX = 40, 48
"""Border of the part of the pictures in which flow is computed, and its shortest side."""


class PictureFlow:
    """Dense inverse search (Kroeger et al., ECCV 2016) from one grey picture to the next, down to single pixels."""

    def __init__(self, source: np.ndarray, target: np.ndarray, places: np.ndarray, shift: np.ndarray) -> None:
        """Compute the flow around some places.

        Args:
            source: (H, W) uint8. target: (H, W) uint8.
            places: (N, 2) pixels in `source` that matter.
            shift: (2,) pixels that they are thought to have moved.
        """
        self.source, self.target = source, target
        self._forth: np.ndarray | None = None
        size = np.array(source.shape[::-1])
        if size.min() < _LEAST_SIDE_PX or not len(places):
            return
        low = np.floor(places.min(0) + np.minimum(shift, 0)).astype(int) - _FLOW_AROUND_PX
        high = np.ceil(places.max(0) + np.maximum(shift, 0)).astype(int) + _FLOW_AROUND_PX
        self._low, high = np.clip(low, 0, size - _LEAST_SIDE_PX), np.clip(high, _LEAST_SIDE_PX, size)
        rows, columns = (slice(*ends) for ends in zip(self._low[::-1], high[::-1]))
        before, after = (np.ascontiguousarray(picture[rows, columns]) for picture in (source, target))
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        search.setFinestScale(0)
        guess = np.tile(np.asarray(shift, np.float32), (*before.shape, 1))
        self._forth, self._back = search.calc(before, after, guess.copy()), search.calc(after, before, -guess)

    def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where places (N, 2) of the source lie in the target (N, 2), and whether the way back leads to them (N,)."""
        if self._forth is None:
            return places.astype(np.float32), np.zeros(len(places), bool)
        inside = (places - self._low).astype(np.float32)
        step = _read(self._forth, inside)
        gap = np.linalg.norm(step + _read(self._back, inside + step), axis=1)
        limit = np.array(self._forth.shape[1::-1]) - 1
        within = ((inside >= 0) & (inside <= limit) & (inside + step >= 0) & (inside + step <= limit)).all(1)
        return (places + step).astype(np.float32), within & (gap < _FLOW_BACK_PX)

    @property
    def known(self) -> bool:
        """False where the pictures are too small for it."""
        return self._forth is not None


def followed_patches(flow: PictureFlow, places: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where patches around places (N, 2) of the flow's source lie in its target.

    Args:
        flow: flow around them.
        places: (N, 2) float32 pixels in the source. start: (N, 2) float32 where they may lie in the target.

    Returns:
        (N, 2) float32 places in the target, and (N,) bool: found, found back from there, and where flow has them too.
    """
    if not flow.known:
        return _found(flow.source, flow.target, places, start)
    flowed, sure = flow.at(places)
    new, found = _found(flow.source, flow.target, places, np.where(sure[:, None], flowed, start))
    return new, found & sure & (np.linalg.norm(new - flowed, axis=1) < _AGREE_PX)


def _found(source: np.ndarray, target: np.ndarray, places: np.ndarray, start: np.ndarray) -> tuple:
    """Patches compared twice: as they are, then turned and stretched as their neighbours were.

    A patch that turned by ten degrees is found a pixel beside where it is.
    """
    new, found = _shifted(source, target, places, start)
    change = None
    if found.sum() >= _MIN_FOR_CHANGE:
        change, _ = cv2.estimateAffine2D(places[found], new[found], ransacReprojThreshold=3.0)
    if change is None or not 0.3 < np.linalg.det(change[:, :2]) < 3.0:
        return new, found & _found_back(source, target, places, new)
    low = np.maximum(np.floor(new[found].min(0)) - _AROUND_PX, 0).astype(int)
    high = np.minimum(np.ceil(new[found].max(0)) + _AROUND_PX, target.shape[::-1]).astype(int)
    into = change.copy()
    into[:, 2] -= low
    turned = cv2.warpAffine(source, into, tuple(int(n) for n in high - low), borderMode=cv2.BORDER_REPLICATE)
    part = np.ascontiguousarray(target[low[1] : high[1], low[0] : high[0]])
    there = (places @ change[:, :2].T + change[:, 2] - low).astype(np.float32)
    fine, found_fine = _shifted(turned, part, there, (new - low).astype(np.float32))
    good = found & found_fine & _found_back(turned, part, there, fine)
    return (fine + low).astype(np.float32), good


def _found_back(source: np.ndarray, target: np.ndarray, places: np.ndarray, new: np.ndarray) -> np.ndarray:
    back, returned = _shifted(target, source, new, places)
    return returned & (np.linalg.norm(back - places, axis=1) < 0.7)


def _shifted(source: np.ndarray, target: np.ndarray, places: np.ndarray, start: np.ndarray) -> tuple:
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.02)
    new, found, _ = cv2.calcOpticalFlowPyrLK(
        source, target, places, start.astype(np.float32), winSize=(15, 15), maxLevel=2, criteria=stop,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )  # fmt: skip
    return np.asarray(new), np.asarray(found).ravel() > 0


def _read(field: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values (N, 2) of a flow field at places (N, 2) between its pixels."""
    column, row = (np.ascontiguousarray(part[:, None]) for part in places.T)
    return np.asarray(cv2.remap(field, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))[:, 0]

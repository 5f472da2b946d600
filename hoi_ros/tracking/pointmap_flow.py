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


def followed_patches(source: np.ndarray, target: np.ndarray, places: np.ndarray, start: np.ndarray) -> tuple:
    """Where patches around places (N, 2) of one grey picture lie in another.

    Args:
        source: (H, W) uint8. target: (H, W) uint8.
        places: (N, 2) float32 pixels in `source`. start: (N, 2) float32 where they may lie in `target`.

    Returns:
        (N, 2) float32 places in `target`, and (N,) bool: found, found back from there, and where flow has them too.
    """
    if min(source.shape) < _LEAST_SIDE_PX:  # too small for flow
        return _found(source, target, places, start)
    flowed, sure = _flowed(source, target, places, start)
    new, found = _found(source, target, places, np.where(sure[:, None], flowed, start))
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


def _flowed(source: np.ndarray, target: np.ndarray, places: np.ndarray, start: np.ndarray) -> tuple:
    """The same by dense inverse search (Kroeger et al., ECCV 2016), down to single pixels: places (N, 2), sure (N,)."""
    ends = np.concatenate([places, start])
    low = np.floor(ends.min(0)).astype(int) - _FLOW_AROUND_PX
    high = np.ceil(ends.max(0)).astype(int) + _FLOW_AROUND_PX
    size = np.array(source.shape[::-1])
    low, high = np.clip(low, 0, size - _LEAST_SIDE_PX), np.clip(high, _LEAST_SIDE_PX, size)
    before, after = (np.ascontiguousarray(picture[low[1] : high[1], low[0] : high[0]]) for picture in (source, target))
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    guess = np.tile(np.median(start - places, 0).astype(np.float32), (*before.shape, 1))
    forth, back = search.calc(before, after, guess.copy()), search.calc(after, before, -guess)
    inside = (places - low).astype(np.float32)
    step = _read(forth, inside)
    gap = np.linalg.norm(step + _read(back, inside + step), axis=1)
    return (places + step).astype(np.float32), gap < _FLOW_BACK_PX


def _read(field: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values (N, 2) of a flow field at places (N, 2) between its pixels."""
    column, row = (np.ascontiguousarray(part[:, None]) for part in places.T)
    return np.asarray(cv2.remap(field, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))[:, 0]

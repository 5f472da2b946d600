"""What is said of every pixel before colours are cut into object and rest: labels of `cv2.grabCut`."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_RING_PX = 3


@dataclass(frozen=True)
class CutMaps:
    """What is known of a view's pixels; every array is (h, w) bool but `skin`."""

    hand: np.ndarray
    hand_core: np.ndarray
    """Well inside a hand's mesh."""
    near_hand: np.ndarray
    arm: np.ndarray
    skin: np.ndarray
    """(h, w) float32 0 to 1."""
    back: np.ndarray
    """The room, as it was before the hand came."""
    came: np.ndarray
    """Not the room, not a hand, not just uncovered."""
    uncovered: np.ndarray
    strange: np.ndarray
    """Of a colour that the room hardly shows."""
    zone: np.ndarray
    """Around fingers and before the palm."""
    reach: np.ndarray
    """Where the object may be."""
    far: np.ndarray
    """Where only something new may be it."""
    with_object: np.ndarray
    """Moves as the object does."""
    with_room: np.ndarray


def cut_labels(maps: CutMaps, expected: np.ndarray | None) -> np.ndarray:
    """Labels (h, w) uint8 of `cv2.grabCut`: sure and likely object and rest.

    Args:
        maps: what is known.
        expected: (h, w) bool where the object should be; None at the start.
    """
    labels = np.full(maps.hand.shape, cv2.GC_PR_BGD, np.uint8)
    if expected is None:
        labels[maps.zone & ~maps.hand & ~maps.near_hand] = cv2.GC_PR_FGD
    else:
        labels[expected] = cv2.GC_PR_FGD
        labels[_eroded(expected, 5) & (maps.skin < 0.4) & ~maps.hand & ~maps.uncovered] = cv2.GC_FGD
    labels[maps.with_object & ~maps.hand] = cv2.GC_PR_FGD
    labels[maps.with_room] = cv2.GC_BGD
    new = maps.strange | maps.came
    labels[new & (maps.reach | maps.far) & (labels != cv2.GC_BGD)] = cv2.GC_PR_FGD
    labels[_eroded(maps.came, 3) & maps.strange & maps.reach & (labels != cv2.GC_BGD)] = cv2.GC_FGD
    labels[maps.uncovered & (labels != cv2.GC_BGD)] = cv2.GC_PR_BGD
    labels[maps.uncovered & ~maps.strange] = cv2.GC_BGD
    labels[maps.back & (labels != cv2.GC_BGD)] = cv2.GC_PR_BGD
    labels[maps.back if expected is None else maps.back & ~expected] = cv2.GC_BGD
    labels[~(maps.reach | (new & maps.far))] = cv2.GC_BGD
    labels[maps.hand & ((maps.skin > 0.6) | maps.hand_core)] = cv2.GC_BGD
    labels[maps.arm & (maps.skin > 0.3)] = cv2.GC_BGD
    labels[:_RING_PX], labels[-_RING_PX:], labels[:, :_RING_PX], labels[:, -_RING_PX:] = (cv2.GC_BGD,) * 4
    return labels


def cut(picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(h, w) bool: the object's pixels of a picture (h, w, 3) uint8 by colours; `labels` is changed."""
    wanted = (labels == cv2.GC_PR_FGD) | (labels == cv2.GC_FGD)
    if wanted.sum() < 20 or (~wanted).sum() < 20:
        return np.zeros(labels.shape, bool)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(picture, labels, (0, 0, 1, 1), background, foreground, 2, cv2.GC_INIT_WITH_MASK)
    return (labels == cv2.GC_PR_FGD) | (labels == cv2.GC_FGD)


def _eroded(mask: np.ndarray, side: int) -> np.ndarray:
    return cv2.erode(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0

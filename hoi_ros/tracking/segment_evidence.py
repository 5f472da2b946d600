"""What the hand network's masks say of a view's pixels: evidence for whoever tells hand, held object and room apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hoi_ros.datatypes import HandEstimate

HAND, OBJECT = 1, 2
RIM_SHARE = 0.1
"""The outermost part of a square, of its side, over which what it says fades."""
SURE, BELIEVED, LIKELY = 0.85, 0.6, 0.5
"""Probabilities from which a pixel is fixed in a cut, from which it corrects a mask, and is a cut's first guess."""


@dataclass(frozen=True)
class SegmentEvidence:
    """Probabilities of a view's pixels, joined over all hands that bring masks."""

    hand: np.ndarray
    """(h, w) float32 0 to 1: a hand, whichever; forearms do not count."""
    object: np.ndarray
    """(h, w) float32 0 to 1: what is held."""
    known: np.ndarray
    """(h, w) float32 0 to 1: how far the pixel lies in some hand's square; outside of them nothing is said."""

    def correct_hand(self, hand_mask: np.ndarray, near: np.ndarray) -> np.ndarray:
        """A hand mask (h, w) by other rules, without what is likely object, and with likely hand where it is near.

        Args:
            hand_mask: (h, w) bool.
            near: (h, w) bool where a hand may be.
        """
        known = self.known > 0.5
        return (hand_mask & ~(known & (self.object > BELIEVED))) | (near & known & (self.hand > BELIEVED))

    def steer_cut(self, labels: np.ndarray) -> None:
        """Enter the evidence into labels (h, w) uint8 of `cv2.grabCut`; what is fixed already stays so.

        Likely pixels of the object become a first guess, not seeds, as a wrong seed stays wrong; sure hand is fixed as
        no object. That the network sees no object says little: it misses parts of many things.
        """
        free = (labels == cv2.GC_PR_BGD) | (labels == cv2.GC_PR_FGD)
        said = free & (self.known > 0.5)
        labels[said & (self.object > LIKELY)] = cv2.GC_PR_FGD
        labels[said & (self.hand > SURE)] = cv2.GC_BGD


def segment_evidence(
    hands: Sequence[HandEstimate], shape: tuple[int, int], x0: float = 0.0, y0: float = 0.0, scale: float = 1.0
) -> SegmentEvidence | None:
    """Lay the hands' masks over a view of the image.

    Args:
        hands: of this frame; those without masks say nothing.
        shape: height and width of the view.
        x0: image column of the view's first pixel. y0: likewise its row.
        scale: pixels of the view a pixel of the image.

    Returns:
        The evidence, each hand weighing less towards the rim of its square; None when no hand brings masks.
    """
    total = np.zeros((*shape, 2), np.float32)
    weights = np.zeros(shape, np.float32)
    known = np.zeros(shape, np.float32)
    some = False
    for hand in hands:
        if hand.segments is None:
            continue
        some = True
        place = (np.asarray(hand.segments.center_px, np.float64) - (x0, y0)) * scale
        side = hand.segments.shares.shape[0]
        weight = _inner(side)
        shares = np.concatenate([hand.segments.shares[..., [HAND, OBJECT]] * weight[..., None], weight[..., None]], -1)
        laid = replace(hand.segments, shares=shares, center_px=place, size_px=hand.segments.size_px * scale)
        seen = laid.in_image(*shape)
        total += seen[..., :2]
        weights += seen[..., 2]
        known = np.maximum(known, seen[..., 2])
    if not some:
        return None
    joined = total / np.maximum(weights, 1e-6)[..., None]
    return SegmentEvidence(joined[..., 0], joined[..., 1], known)


def _inner(side: int) -> np.ndarray:
    """(S, S) float32: 1 inside a square, fading over its rim."""
    along = (np.arange(side) + 0.5) / side
    edge = np.clip(np.minimum(along, 1 - along) / RIM_SHARE, 0.02, 1).astype(np.float32)
    return np.minimum(edge[:, None], edge[None])

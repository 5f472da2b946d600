"""Palms in a picture, with a box and seven keypoints each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from hoi_ros.hand.network import load_network
from hoi_ros.hand.program import WEIGHTS_FOLDER

# Stride of each grid of the network and anchors per cell.
ANCHOR_GRIDS = ((8, 2), (16, 6))
KEYPOINTS = 7
OVERLAP = 0.3
WIDE, MOST_SQUARES = 1.25, 4


@dataclass(frozen=True)
class PalmDetection:
    """One palm."""

    score: float
    """0 to 1."""
    box_px: np.ndarray
    """(4,) x0 y0 x1 y1, pixels."""
    keypoints_px: np.ndarray
    """(7, 2) wrist, knuckles of index to little finger, thumb's CMC and MCP; pixels."""


def make_anchors(input_size: int) -> np.ndarray:
    """Anchor centres (N, 2) as fractions of the input, in the network's order; 2016 for 192."""
    rows = []
    for stride, per_cell in ANCHOR_GRIDS:
        cells = (np.arange(input_size // stride) + 0.5) * stride / input_size
        x, y = np.meshgrid(cells, cells)
        rows.append(np.repeat(np.stack([x.ravel(), y.ravel()], 1), per_cell, 0))
    return np.concatenate(rows).astype(np.float32)


def merge_overlapping(
    scores: np.ndarray, boxes: np.ndarray, keypoints: np.ndarray
) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """Weighted non-maximum suppression: boxes that overlap the best one are averaged into it by score.

    Args:
        scores: (N,).
        boxes: (N, 4) x0 y0 x1 y1.
        keypoints: (N, K, 2).

    Returns:
        Score, box (4,) and keypoints (K, 2) of each group, best first.
    """
    merged = []
    order = np.argsort(-scores, kind="stable")
    while len(order):
        best = order[0]
        group = intersection_over_union(boxes[best], boxes[order]) > OVERLAP
        group[0] = True
        members = order[group]
        weights = scores[members] / scores[members].sum()
        merged.append(
            (float(scores[best]), weights @ boxes[members], np.einsum("n,nkd->kd", weights, keypoints[members]))
        )
        order = order[~group]
    return merged


def intersection_over_union(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Overlap (N,) of one (4,) box with (N, 4) boxes, x0 y0 x1 y1."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.maximum(sides, 0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return shared / np.maximum(areas - shared, 1e-9)


def views_of(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Parts x0 y0 x1 y1 of a picture to look at in turn: the whole, then squares along its longer side.

    The network sees 192 pixels; in a wide picture a square shows a distant hand up to twice as large.
    """
    whole, short, long = (0, 0, width, height), min(height, width), max(height, width)
    if long < WIDE * short:
        return [whole]
    count = min(max(math.ceil(long / short), 2) + (long > 1.5 * short), MOST_SQUARES)
    starts = np.linspace(0, long - short, count).round().astype(int).tolist()
    if width > height:
        return [whole] + [(s, 0, s + short, height) for s in starts]
    return [whole] + [(0, s, width, s + short) for s in starts]


class PalmFinder(Protocol):
    """Whatever finds palms."""

    def detect(
        self,
        color: np.ndarray,
        threshold: float = 0.5,
        border_fraction: float = 0.0,
        view: tuple[int, int, int, int] | None = None,
    ) -> list[PalmDetection]:
        """Find palms; see `PalmDetector`."""
        ...


class PalmDetector:
    """Finds palms with the converted MediaPipe network."""

    def __init__(self, device: str = "cpu", threads: int = 2):
        self._network = load_network(WEIGHTS_FOLDER / "palm_detection.npz", device, threads)
        self._side = self._network.input_size
        self._anchors = make_anchors(self._side)
        self._input = np.zeros((1, self._side, self._side, 3), np.float32)

    def detect(
        self,
        color: np.ndarray,
        threshold: float = 0.5,
        border_fraction: float = 0.0,
        view: tuple[int, int, int, int] | None = None,
    ) -> list[PalmDetection]:
        """Find palms.

        Args:
            color: (H, W, 3) uint8 RGB of any size.
            threshold: least score.
            border_fraction: black border around the picture in its longer side, for hands that fill it.
            view: x0 y0 x1 y1 of the part to look at; None is the whole.

        Returns:
            Palms in pixels of the whole picture, best first; several per hand are merged.
        """
        x0, y0, x1, y1 = view or (0, 0, color.shape[1], color.shape[0])
        color = color[y0:y1, x0:x1]
        if min(color.shape[:2]) < 1:
            return []
        scale, offset = self._fill_input(color, border_fraction)
        rows, logits = self._network(self._input)
        logits = logits[0, :, 0]
        chosen = np.flatnonzero(logits > math.log(threshold / (1 - min(threshold, 1 - 1e-6))))
        if not len(chosen):
            return []
        scores = 1 / (1 + np.exp(-np.clip(logits[chosen].astype(np.float64), -80, 80)))
        values = rows[0, chosen].astype(np.float64) / self._side
        anchors = self._anchors[chosen]
        center, half = values[:, :2] + anchors, values[:, 2:4] / 2
        boxes = np.concatenate([center - half, center + half], 1)
        keypoints = values[:, 4:].reshape(-1, KEYPOINTS, 2) + anchors[:, None]
        # Edge coordinates of the network to pixel centres of the image.
        to_px = self._side / scale
        shift = offset / scale + 0.5 - np.array([x0, y0])
        return [
            PalmDetection(score, box * to_px - np.tile(shift, 2), points * to_px - shift)
            for score, box, points in merge_overlapping(scores, boxes, keypoints)
        ]

    def _fill_input(self, color: np.ndarray, border_fraction: float) -> tuple[float, np.ndarray]:
        """Shrink the picture into the middle of the input; return the scale and the (2,) offset in input pixels."""
        height, width = color.shape[:2]
        scale = self._side / (max(height, width) * (1 + 2 * border_fraction))
        inner = (max(round(width * scale), 1), max(round(height * scale), 1))
        small = cv2.resize(color, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        left, top = (self._side - inner[0]) // 2, (self._side - inner[1]) // 2
        self._input.fill(0)
        window = self._input[0, top : top + inner[1], left : left + inner[0]]
        np.multiply(small, np.float32(1 / 255), out=window)
        return scale, np.array([left, top], np.float64)

"""What in a frame is hand, what table and wall, and what may be the object; all learnt while running."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hoi_ros.datatypes import HandEstimate, RgbdFrame
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.hidden_hands import HiddenHands
from hoi_ros.tracking.likeness import bin_shares, likelier
from hoi_ros.tracking.masks import SkinModel, dilated, forearm_mask, segment_hands
from hoi_ros.tracking.patch import Patch, clean_depth, cut_patch
from hoi_ros.tracking.planes import above_planes, dominant_planes
from hoi_ros.tracking.track import Track, View

PLANE_PERIOD = 10
CLAIMED_M = 0.008
"""As near to the model's rendering, what stands on the table is not cut off at its foot."""

MIN_ARM_PX = 200
NEAR_M, MIN_TABLE_PX = 0.015, 200
"""How far around the rendering the object may lie, and how much of the table must be seen to know its colours."""
MAYBE, SURELY = 0.2, 0.8
"""Odds of the object's colours against the table's, below which it is table for sure, and above which object."""


class Segmentation:
    """Cuts frames into views; knows the colour of skin, table and wall, and hands that were just hidden."""

    def __init__(self, config: TrackerConfig) -> None:
        self._config = config
        self._rng = np.random.default_rng(config.seed)
        self._skin = SkinModel()
        self._hidden = HiddenHands()
        self._hands_about: list[HandEstimate] = []
        """The hands of this frame and those just hidden: whose pixels are no object's."""
        self._arm_colors: np.ndarray | None = None
        self.planes = np.zeros((0, 4), np.float32)
        """(P, 4) table and wall, optical frame."""
        self._plane_age = 0
        self.last_masks: np.ndarray | None = None
        """(H, W) bool of hand and object in the last frame: there is neither table nor wall."""

    def take(self, frame: RgbdFrame, hands: Sequence[HandEstimate]) -> np.ndarray:
        """Go on to the next frame: its depth (H, W) without what cannot be used; every few, planes are sought again."""
        self._hands_about = self._hidden.with_hidden(hands)
        depth = clean_depth(frame)
        if self._plane_age % PLANE_PERIOD == 0:
            ignore = self.last_masks
            self._find_planes(frame, depth, ignore if ignore is not None and ignore.shape == depth.shape else None)
        self._plane_age += 1
        return depth

    def mark(self, frame: RgbdFrame, depth: np.ndarray, marked: np.ndarray) -> None:
        """Seek the planes anew beside an object that a user marked, (H, W) bool."""
        self.last_masks = marked
        self._find_planes(frame, depth, marked)

    def _find_planes(self, frame: RgbdFrame, depth: np.ndarray, ignore: np.ndarray | None) -> None:
        self.planes = dominant_planes(depth, frame.intrinsics, ignore, self._rng)

    def view(
        self,
        frame: RgbdFrame,
        depth: np.ndarray,
        faces: Mapping[str, np.ndarray] | None,
        box: np.ndarray,
        track: Track | None = None,
        predicted: np.ndarray | None = None,
    ) -> View | None:
        """Cut a box out and tell hand, background and candidates apart; None where too little of it is in the image.

        Args:
            frame: the one last taken.
            depth: (H, W) as `take` gave it.
            faces: (F, 3) triangles of the hand meshes by side.
            box: (4,) px, x0 y0 x1 y1.
            track: the object, with `predicted`: what lies at its surface, or near it in its colours, is the object's.
            predicted: (4, 4) where the object is thought to be.
        """
        patch = cut_patch(frame, depth, box, self._config.max_crop_px)
        if patch is None:
            return None
        rendering = rendered = None
        if track is not None and predicted is not None:
            rendering = track.model.render(predicted, patch)
            rendered = rendering.depth_m
        above = clear = above_planes(patch.points, self.planes, self._config.plane_margin_m)
        arms = forearm_mask(self._hands_about, patch)
        hand_mask = segment_hands(self._hands_about, faces, patch, self._skin, rendered, clear, arms, self._config)
        candidates = (patch.depth_m > 0) & ~hand_mask
        if track is not None and rendered is not None:
            clear = above | self._lying_low(patch, above | hand_mask, rendered, track)
        candidates &= clear
        self._learn_arm(patch, arms & hand_mask)
        return View(patch, hand_mask, candidates, above, self._arm_colors, rendering)

    def _learn_arm(self, patch: Patch, arm: np.ndarray) -> None:
        """Take in the colours of sleeves or bare arms: behind the other hand no arm is found, only its colours."""
        if arm.sum() < MIN_ARM_PX:
            return
        shares = bin_shares(patch.color_bins[arm])
        self._arm_colors = shares if self._arm_colors is None else self._arm_colors + 0.1 * (shares - self._arm_colors)

    def _lying_low(self, patch: Patch, not_table: np.ndarray, rendered: np.ndarray, track: Track) -> np.ndarray:
        """(h, w) bool: the object where it lies as low as the table: by its rendering, and by colours that differ."""
        claimed = np.abs(patch.depth_m - rendered) < CLAIMED_M
        there = np.isfinite(rendered)
        if not there.any():
            return claimed
        around = dilated(there, NEAR_M / patch.pixel_size_m(float(np.median(rendered[there]))))
        table = ~not_table & (patch.depth_m > 0) & ~around
        if track.colors is None or table.sum() < MIN_TABLE_PX:
            return claimed
        odds = likelier(patch.color_bins, track.colors, bin_shares(patch.color_bins[table]))
        low = around & ~not_table & (patch.depth_m > 0)
        return (claimed & (odds > MAYBE)) | (low & (odds > SURELY))

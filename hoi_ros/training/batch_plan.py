"""What each crop of a batch shows, decided by the host: so the sizes of everything are known before it is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.training.batch_stock import BALL, BOX, CYLINDER, BatchStock

GRASPS_KEPT = 1.27
"""Poses of grasps sink into themselves less often than others, so they are more than their share."""
SMALL_SHARE, SMALL_SHOWN_SHARE, ARM_SHARE, COVERED_SHARE = 0.15, 0.85, 0.9, 0.35
CLUTTERED_SHARE = 0.6
"""Of the crops of several things those with a background of several surfaces."""
DISTRACTED_SHARE, SECOND_SHARE, SAME_THING_SHARE = 0.45, 0.25, 0.5


@dataclass(frozen=True)
class BatchPlan:
    """Decisions for B crops; hands are numbered: one a crop, then second hands."""

    right: np.ndarray
    """(B + second hands,) bool."""
    hand_crops: np.ndarray
    """(B + second hands,)."""
    held: np.ndarray
    """Crops whose hand holds a thing of the stock."""
    holds: np.ndarray
    """Their holds."""
    grasps: np.ndarray
    """Crops whose hand is posed for something small between the fingers."""
    small: np.ndarray
    """Those of `grasps` where it is there."""
    solids: np.ndarray
    """Its kind."""
    partners: np.ndarray
    """Of each second hand its hold of what the first one holds, -1 where it holds nothing."""
    arms: np.ndarray
    """Hands with a forearm."""
    arm_numbers: np.ndarray
    """Which one of the stock."""
    other_crops: np.ndarray
    """Crops of things that nobody holds."""
    other_things: np.ndarray
    covered: np.ndarray
    """(B,) bool: something flat lies before the hand."""
    cluttered: np.ndarray
    """(B,) bool: several surfaces meet behind it."""


def draw_plan(stock: BatchStock, rng: np.random.Generator, levels: np.ndarray, held_share: float) -> BatchPlan:
    """Decide what crops of harshness levels (B,) 0 to 1 show, in the shares of `HandCropSource`."""
    count = len(levels)
    grasping = held_share * GRASPS_KEPT
    holding = rng.random(count) < grasping / max(grasping + 1 - held_share, 1e-9)
    small = holding & (rng.random(count) < SMALL_SHARE)
    held, grasps = np.flatnonzero(holding & ~small), np.flatnonzero(small)
    shown = grasps[rng.random(len(grasps)) < SMALL_SHOWN_SHARE]
    # First a thing, then one of its holds: a thing that can be held in many ways is no more frequent.
    of_thing = stock.holds_of_thing
    thing = rng.integers(len(of_thing), size=len(held))
    sizes = np.array([len(holds) for holds in of_thing])
    starts = np.cumsum(sizes) - sizes
    holds = np.concatenate(of_thing)[starts[thing] + (rng.random(len(held)) * sizes[thing]).astype(int)]
    right = rng.random(count) < 0.5
    right[held] = stock.hold_right[holds]
    company = holding | (rng.random(count) < held_share / 2)
    second = np.flatnonzero(company & (rng.random(count) < SECOND_SHARE))
    hold = np.full(count, -1)
    hold[held] = holds
    partner = _partners(stock, rng, hold[second])
    other_right = np.where(partner >= 0, stock.hold_right[partner], rng.random(len(second)) < 0.5)
    arms = np.flatnonzero(rng.random(count + len(second)) < ARM_SHARE)
    several = np.where(company & (rng.random(count) < DISTRACTED_SHARE), rng.integers(1, 4, count), 0)
    crops = np.concatenate([np.arange(count), second])
    parts = np.bincount(np.concatenate([crops, crops[arms], held, shown]), minlength=count) + several
    return BatchPlan(
        np.concatenate([right, other_right]),
        crops,
        held,
        holds,
        grasps,
        shown,
        rng.choice([CYLINDER, BALL, BOX], len(shown)),
        partner,
        arms,
        rng.integers(stock.arm_count, size=len(arms)),
        np.repeat(np.arange(count), several),
        rng.integers(stock.thing_count, size=int(several.sum())),
        rng.random(count) < COVERED_SHARE * levels,
        (parts > 2) & (rng.random(count) < CLUTTERED_SHARE),
    )


def _partners(stock: BatchStock, rng: np.random.Generator, holds: np.ndarray) -> np.ndarray:
    """A second hand's hold for each first one's (N,), or -1."""
    counts = np.where(holds >= 0, stock.partner_counts[holds], 0)
    chosen = stock.partners[holds, (rng.random(len(holds)) * counts).astype(int)]
    return np.where((counts > 0) & (rng.random(len(holds)) < SAME_THING_SHARE), chosen, -1)

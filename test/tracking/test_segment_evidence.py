"""Masks of several hands in one view: they lie where the image has them, fade at the rim, and steer a cut."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from hoi_ros.datatypes import HandEstimate, HandSegments
from hoi_ros.tracking.segment_evidence import segment_evidence


def hand(shares: np.ndarray | None, center=(100.0, 80.0), size=112.0, angle=0.0) -> HandEstimate:
    segments = None if shares is None else HandSegments(shares.astype(np.float32), np.array(center), size, angle)
    return HandEstimate(
        0, "right", 1.0, np.zeros((21, 2)), np.zeros(4), np.zeros((21, 3)), np.zeros((778, 3)), np.eye(4),
        np.tile(np.eye(3), (21, 1, 1)), np.zeros(20), np.zeros(10), 0.01, segments=segments,
    )  # fmt: skip


def right_half(kind: int, side: int = 56) -> np.ndarray:
    """The right half of a square is `kind`, the left half background."""
    shares = np.zeros((side, side, 3))
    shares[:, : side // 2, 0] = 1
    shares[:, side // 2 :, kind] = 1
    return shares


def test_without_masks_nothing_is_said():
    assert segment_evidence([], (20, 30)) is None
    assert segment_evidence([hand(None)], (20, 30)) is None


def test_masks_lie_where_the_image_has_them():
    seen = segment_evidence([hand(None), hand(right_half(2))], (160, 200))
    assert seen.object[80, 120] > 0.99 and seen.object[80, 80] < 0.01 and seen.hand.max() < 0.01
    assert seen.known[80, 100] > 0.99 and seen.known[80, 30] == 0 and seen.object[80, 190] == 0
    assert 0 < seen.known[80, 45] < 0.5, "the rim counts for less"


@pytest.mark.parametrize(("x0", "y0", "scale"), [(40, 20, 1.0), (40, 20, 0.5), (10, 60, 2.0)])
def test_a_view_shows_its_part_of_the_image(x0, y0, scale):
    rng = np.random.default_rng(1)
    shares = cv2.GaussianBlur(rng.random((56, 56, 3)).astype(np.float32), (0, 0), 4)
    shares /= shares.sum(-1, keepdims=True)
    one = hand(shares, size=160.0, angle=0.4)
    whole = segment_evidence([one], (160, 200))
    height, width = int(60 * scale), int(80 * scale)
    view = segment_evidence([one], (height, width), x0, y0, scale)
    expected = cv2.resize(whole.object[y0 : y0 + 60, x0 : x0 + 80], (width, height), interpolation=cv2.INTER_AREA)
    inside = cv2.resize(whole.known[y0 : y0 + 60, x0 : x0 + 80], (width, height), interpolation=cv2.INTER_AREA) > 0.5
    assert inside.mean() > 0.3
    assert np.abs(view.object - expected)[inside].max() < 0.03


def test_of_two_hands_the_nearer_square_counts_more():
    held, empty = hand(right_half(2)), hand(np.eye(3)[np.zeros((56, 56), int)], center=(172.0, 80.0))
    seen = segment_evidence([held, empty], (160, 200))
    assert seen.object[80, 110] > 0.99, "one square alone"
    assert seen.object[80, 122] > seen.object[80, 136] > seen.object[80, 150]
    swapped = segment_evidence([empty, held], (160, 200))
    np.testing.assert_allclose(seen.object, swapped.object, atol=1e-6)


def test_a_cut_is_steered_but_what_is_fixed_stays():
    seen = segment_evidence([hand(right_half(2))], (160, 200))
    labels = np.full((160, 200), cv2.GC_PR_BGD, np.uint8)
    labels[:, 130:] = cv2.GC_BGD
    labels[70:74, 70:74] = cv2.GC_PR_FGD
    labels[75:79, 70:74] = cv2.GC_FGD
    seen.steer_cut(labels)
    assert (labels[60:100, 105:125] == cv2.GC_PR_FGD).all(), "a guess, not a seed"
    assert (labels[:, 130:] == cv2.GC_BGD).all() and (labels[75:79, 70:74] == cv2.GC_FGD).all(), "fixed before"
    assert (labels[70:74, 70:74] == cv2.GC_PR_FGD).all(), "no object seen is no proof that there is none"
    assert (labels[:, :30] == cv2.GC_PR_BGD).all(), "outside of the square nothing changes"
    skin = segment_evidence([hand(right_half(1))], (160, 200))
    labels = np.full((160, 200), cv2.GC_PR_FGD, np.uint8)
    skin.steer_cut(labels)
    assert (labels[60:100, 105:125] == cv2.GC_BGD).all() and (labels[60:100, :40] == cv2.GC_PR_FGD).all()


def test_a_hand_mask_loses_what_is_object_and_gains_what_is_hand_near_by():
    seen = segment_evidence([hand(right_half(2))], (160, 200))
    rules = np.zeros((160, 200), bool)
    rules[70:90, 60:150] = True
    near = np.zeros_like(rules)
    near[60:100, 60:125] = True
    out = seen.correct_hand(rules, near)
    assert not out[75:85, 105:125].any() and out[75:85, 62:95].all()
    assert out[75:85, 160:].sum() == 0 and out.sum() <= rules.sum()
    skin = segment_evidence([hand(right_half(1))], (160, 200)).correct_hand(rules, near)
    assert skin[60:100, 105:124].all() and not skin[60:68, 126:].any()


def test_old_masks_of_hidden_hands_are_not_believed():
    from hoi_ros.tracking.hidden_hands import HiddenHands

    hidden = HiddenHands()
    now = replace(hand(right_half(2)), track_id=3)
    assert hidden.with_hidden([now])[0].segments is not None
    later = hidden.with_hidden([])
    assert len(later) == 1 and later[0].segments is None

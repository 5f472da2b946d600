"""Patches that turn are found where they are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hoi_ros.tracking.pointmap_flow import PictureFlow, followed_patches


def print_of_a_thing(seed: int = 2) -> np.ndarray:
    """(240, 320) uint8 smooth random print."""
    noise = np.random.default_rng(seed).random((240, 320)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return np.clip(128 + 900 * (soft - soft.mean()), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("degrees", "scale"), [(0.0, 1.0), (10.0, 1.0), (-12.0, 1.06)])
def test_a_turned_print_is_followed_to_a_fraction_of_a_pixel(degrees, scale):
    source = print_of_a_thing()
    change = cv2.getRotationMatrix2D((160, 120), degrees, scale)
    change[:, 2] += (4.3, -2.6)
    target = cv2.warpAffine(source, change, (320, 240), borderMode=cv2.BORDER_REFLECT)
    grid = np.stack(np.meshgrid(np.arange(110, 211, 10), np.arange(70, 171, 10)), -1).reshape(-1, 2).astype(np.float32)
    truth = grid @ change[:, :2].T + change[:, 2]
    start = (grid + np.float32([4.0, -2.0])).astype(np.float32)
    found, good = followed_patches(PictureFlow(source, target, grid, np.array([4.0, -2.0])), grid, start)
    errors = np.linalg.norm(found - truth, axis=1)[good]
    assert good.mean() > 0.9
    assert np.median(errors) < 0.1 and np.percentile(errors, 95) < 0.3


@pytest.mark.parametrize(("contrast", "moved_px", "least_found"), [(4, 8, 0.7), (8, 12, 0.97)])
def test_edges_of_a_nearly_plain_thing_do_not_mislead_in_a_quick_turn(contrast, moved_px, least_found):
    # Alone, patches slide along the stripes: fewer of them are found, and some of those elsewhere.
    rng = np.random.default_rng(1)
    soft = cv2.GaussianBlur(rng.random((240, 320)).astype(np.float32), (0, 0), 3.0)
    stripes = np.sin(2 * np.pi * np.arange(320) / 40) > 0
    clean = 110 + contrast * (soft - soft.mean()) / soft.std() + 80 * stripes
    clean = cv2.GaussianBlur(clean.astype(np.float32), (0, 0), 0.8)
    change = cv2.getRotationMatrix2D((160, 120), 5.0, 1.0)
    change[:, 2] += (0, moved_px)
    moved = cv2.warpAffine(clean, change, (320, 240), borderMode=cv2.BORDER_REFLECT)
    source, target = (np.clip(p + rng.normal(0, 2, p.shape), 0, 255).astype(np.uint8) for p in (clean, moved))
    grid = np.stack(np.meshgrid(np.arange(80, 241, 7), np.arange(60, 181, 7)), -1).reshape(-1, 2).astype(np.float32)
    found, good = followed_patches(PictureFlow(source, target, grid, np.zeros(2)), grid, grid.copy())
    errors = np.linalg.norm(found - grid @ change[:, :2].T - change[:, 2], axis=1)
    assert good.mean() > least_found
    assert (errors[good] < 1).mean() > 0.99


def test_a_picture_too_small_for_flow_still_has_its_patches_followed():
    source = print_of_a_thing()[:40, :40]
    target = np.roll(source, 2, axis=1)
    places = np.array([[18.0, 18.0], [22.0, 24.0]], np.float32)
    found, good = followed_patches(PictureFlow(source, target, places, np.zeros(2)), places, places.copy())
    assert good.all()
    assert np.abs(found - places - [2, 0]).max() < 0.2


def test_what_is_gone_is_not_followed():
    source = print_of_a_thing()
    grid = np.stack(np.meshgrid(np.arange(110, 211, 20), np.arange(70, 171, 20)), -1).reshape(-1, 2).astype(np.float32)
    _, good = followed_patches(PictureFlow(source, print_of_a_thing(9), grid, np.zeros(2)), grid, grid.copy())
    assert good.mean() < 0.3

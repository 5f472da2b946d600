"""A rough mask by hand: the object stays, what lies behind it in depth goes."""

from types import SimpleNamespace

import numpy as np

from hoi_ros.tracking.masks import main_parts


def test_a_small_piece_behind_a_depth_jump_is_dropped_and_a_large_one_kept():
    mask = np.ones((40, 60), bool)
    edges = np.zeros_like(mask)
    edges[:, 29:31] = True  # halves of one object, parted by a jump
    edges[:12, 50:52] = edges[11:13, 50:] = True  # a corner that belongs to something else
    patch = SimpleNamespace(edge_mask=edges)
    kept = main_parts(mask, patch)
    assert kept[20, 10] and kept[20, 45]
    assert not kept[:9, 54:].any()
    assert kept[20, 30], "edge pixels between two kept parts come back"
    assert not (kept & ~mask).any()


def test_a_mask_too_small_to_part_stays():
    mask = np.zeros((20, 20), bool)
    mask[3:6, 3:6] = True
    assert (main_parts(mask, SimpleNamespace(edge_mask=np.zeros_like(mask))) == mask).all()

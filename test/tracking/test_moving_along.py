"""What goes along with the held thing is told from what rests, by where it lay before."""

from __future__ import annotations

import numpy as np
import pytest
import scenes

from hoi_ros.tracking.moving_along import MovingAlong
from hoi_ros.tracking.patch import clean_depth, cut_patch

STEP_M = 0.006


def found(thing_moves=True, room_moves=False, sideways=False, body="object", frames=14, arm=False) -> list[bool]:
    """Whether each frame's box is taken for going along with a body that comes nearer, maybe as the room does."""
    along, out = MovingAlong(), []
    direction = np.array([1.0, 0, 0] if sideways else [0, 0, -1.0])
    for index in range(frames):
        shift = STEP_M * index * direction
        pose = scenes.pose((0, 0, 0), shift + [0, 0, 0.5])
        layer = scenes.box_layer(pose if thing_moves else scenes.pose())
        picture = scenes.frame(layer, index=index)
        depth = clean_depth(picture)
        if room_moves:
            away = ~scenes.mask_of(layer)
            depth[away] = np.maximum(depth[away] - STEP_M * index, 0.3)
        patch = cut_patch(picture, depth, np.array([0, 0, 320, 240.0]), 10**6)
        thing = patch.cut(scenes.mask_of(layer)) & ~patch.edge_mask
        room = ~patch.cut(scenes.mask_of(layer)) & (patch.depth_m > 0)
        nobody = np.zeros(depth.shape, bool)
        sleeve = None
        if arm:  # a strip of forearm that adjoins the box
            sleeve = np.zeros_like(thing)
            sleeve[:, : np.flatnonzero(thing.any(0))[0] + 2] = True
        parts = along.parts(patch, thing, room, depth, nobody, picture.intrinsics, {body: pose}, sleeve)
        out.append(bool(parts.sum() > 0.8 * thing.sum()))
        assert out[-1] or not parts.any()
    return out


@pytest.mark.parametrize("body", ["object", "hand"])
def test_a_part_that_comes_nearer_with_the_body_goes_along(body):
    verdicts = found(body=body)
    assert not any(verdicts[:3]) and all(verdicts[8:]), "only after it moved, then always"


def test_a_part_that_slides_sideways_goes_along_once_it_left_its_place():
    verdicts = found(sideways=True)
    assert not any(verdicts[:5]) and verdicts[-1]


def test_a_sleeve_that_adjoins_the_forearm_does_not():
    assert not any(found(body="hand", arm=True))


def test_what_rests_while_the_body_moves_does_not():
    assert not any(found(thing_moves=False))


def test_under_a_moving_camera_nothing_is_said():
    assert not any(found(room_moves=True))


def test_a_shift_along_its_own_surface_says_nothing():
    assert not any(found(sideways=True, thing_moves=False))


def test_forgetting_starts_anew():
    along = MovingAlong()
    picture = scenes.frame(scenes.box_layer(scenes.pose()))
    depth = clean_depth(picture)
    patch = cut_patch(picture, depth, np.array([0, 0, 320, 240.0]), 10**6)
    thing, nobody = patch.cut(scenes.mask_of(scenes.box_layer(scenes.pose()))), np.zeros(depth.shape, bool)
    for z in (0.5, 0.5):
        along.parts(
            patch, thing, ~thing, depth, nobody, picture.intrinsics, {"object": scenes.pose((0, 0, 0), (0, 0, z))}
        )
    along.forget()
    nearer = {"object": scenes.pose((0, 0, 0), (0, 0, 0.4))}
    assert not along.parts(patch, thing, ~thing, depth, nobody, picture.intrinsics, nearer).any()

"""What the overlay draws, and what it leaves alone."""

import numpy as np
import pytest

from hoi_ros.datatypes import CameraIntrinsics, HandEstimate, ObjectObservation
from hoi_ros.geometry import project
from hoi_ros.overlay import draw_overlay

CAMERA = CameraIntrinsics(320, 240, 300.0, 300.0, 159.5, 119.5)
PICTURE = np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8)


def make_hand(side="right", center=(0.0, 0.0, 0.5), radius=0.04):
    """A ball of triangles for a hand, joints on a ring inside it."""
    import trimesh

    body = trimesh.creation.icosphere(3, radius)
    vertices = (body.vertices + center).astype(np.float32)
    turns = np.linspace(0, 5, 21)
    joints = 0.6 * radius * np.stack([np.cos(turns), np.sin(turns), 0 * turns], 1) + center
    px = project(joints, CAMERA)
    edge = project(vertices, CAMERA)
    box = np.concatenate([edge.min(0), edge.max(0)])
    pose = np.eye(4)
    pose[:3, 3] = center
    hand = HandEstimate(
        3, side, 0.98, px, box, joints, vertices, pose, np.tile(np.eye(3), (21, 1, 1)), np.zeros(5), np.zeros(10), 0.01
    )
    return hand, {side: body.faces.astype(np.int32)}


def changed(result, base=PICTURE):
    return (result != base).any(2)


def test_nothing_to_draw_gives_an_equal_copy():
    result = draw_overlay(PICTURE, [], {}, None, "", intrinsics=CAMERA)
    np.testing.assert_array_equal(result, PICTURE)
    assert not np.shares_memory(result, PICTURE)


def test_input_stays_as_it_is():
    before = PICTURE.copy()
    hand, faces = make_hand()
    frozen = PICTURE.copy()
    frozen.setflags(write=False)
    mask = np.zeros((240, 320), bool)
    mask[:50, :50] = True
    pose = hand.T_camera_wrist
    observation = ObjectObservation("tracking", T_camera_object=pose, mask=mask)
    result = draw_overlay(frozen, [hand], faces, observation, "30.0 Hz", intrinsics=CAMERA)
    np.testing.assert_array_equal(frozen, before)
    assert result.shape == PICTURE.shape and result.dtype == np.uint8 and changed(result).any()


def test_mesh_fills_its_silhouette_and_nothing_else():
    hand, faces = make_hand()
    hidden = hand.__class__(**{**hand.__dict__, "joints_px": np.full((21, 2), np.nan), "box_px": np.full(4, np.nan)})
    touched = changed(draw_overlay(PICTURE, [hidden], faces, intrinsics=CAMERA))
    v, u = np.mgrid[:240, :320]
    reach = np.hypot(u - 159.5, v - 119.5)
    outline = 300 * 0.04 / np.sqrt(0.5**2 - 0.04**2)
    assert not touched[reach > outline + 2].any()
    assert touched[reach < outline - 2].mean() > 0.98


def test_nearer_hand_is_drawn_over_the_farther_one():
    near, near_faces = make_hand("left", (0, 0, 0.4))
    far, far_faces = make_hand("right", (0, 0, 0.6))
    blank = np.zeros_like(PICTURE)
    both = draw_overlay(blank, [near, far], near_faces | far_faces, intrinsics=CAMERA)
    again = draw_overlay(blank, [far, near], near_faces | far_faces, intrinsics=CAMERA)
    v, u = 119, 159
    assert both[v + 1, u + 4, 2] > both[v + 1, u + 4, 0]
    np.testing.assert_array_equal(both, again)


def test_mask_is_tinted_inside_only():
    mask = np.zeros((240, 320), bool)
    mask[100:150, 200:260] = True
    touched = changed(draw_overlay(PICTURE, [], None, ObjectObservation("waiting", mask=mask), intrinsics=CAMERA))
    touched[:30] = False
    assert not touched[~mask].any() and touched[mask].mean() > 0.98


def test_axes_stand_at_the_object():
    pose = np.eye(4)
    pose[:3, 3] = (0.1, 0.05, 0.5)
    seen = ObjectObservation("tracking", T_camera_object=pose)
    black = np.zeros_like(PICTURE)
    touched = changed(draw_overlay(black, [], None, seen, intrinsics=CAMERA), black)
    touched[:30] = False
    x, y = np.round(project(pose[:3, 3][None], CAMERA)[0]).astype(int)
    v, u = np.nonzero(touched)
    assert abs(u.max() - (x + 30)) < 4 and abs(v.max() - (y + 30)) < 4
    assert touched[y, x : x + 29].all() and touched[y : y + 29, x].all()


@pytest.mark.parametrize("spoil", ["joints", "vertices", "all", "behind", "far"])
def test_unusable_numbers_survive(spoil):
    hand, faces = make_hand()
    values = dict(hand.__dict__)
    if spoil in ("joints", "all"):
        values["joints_px"] = np.where(np.arange(21)[:, None] % 2, np.nan, hand.joints_px)
        values["joints_camera"] = np.full((21, 3), np.nan)
    if spoil in ("vertices", "all"):
        values["vertices_camera"] = np.full_like(hand.vertices_camera, np.nan)
        values["box_px"] = np.full(4, np.nan)
    if spoil == "behind":
        values["vertices_camera"] = -hand.vertices_camera
    if spoil == "far":
        values["joints_px"] = hand.joints_px + 1e7
        values["box_px"] = hand.box_px + 1e7
    bad_pose = np.full((4, 4), np.nan)
    observation = ObjectObservation("lost", T_camera_object=bad_pose, message="déjà vu")
    result = draw_overlay(PICTURE, [HandEstimate(**values)], faces, observation, intrinsics=CAMERA)
    assert result.shape == PICTURE.shape


def test_tiny_and_strided_pictures():
    hand, faces = make_hand()
    assert draw_overlay(np.zeros((1, 1, 3), np.uint8), [hand], faces, None, "x").shape == (1, 1, 3)
    flipped = PICTURE[:, ::-1]
    np.testing.assert_array_equal(draw_overlay(flipped), flipped)

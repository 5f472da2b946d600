"""Records refuse what would be wrong later."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hoi_ros.datatypes import FINGERS, JOINT_NAMES, SKELETON_EDGES, CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError, MissingLibraryError, unknown_name

CAMERA = CameraIntrinsics(4, 3, 5.0, 6.0, 1.5, 1.0)
COLOR = np.zeros((3, 4, 3), np.uint8)


def test_joint_order():
    assert len(JOINT_NAMES) == 21 and JOINT_NAMES[0] == "wrist"
    assert [JOINT_NAMES[1 + 4 * i].split("_")[0] for i in range(5)] == list(FINGERS)
    assert all(JOINT_NAMES[4 + 4 * i].endswith("_tip") for i in range(5))


def test_skeleton_is_a_tree_of_five_chains():
    assert len(SKELETON_EDGES) == 20 and {child for _, child in SKELETON_EDGES} == set(range(1, 21))
    for parent, child in SKELETON_EDGES:
        assert parent == 0 or JOINT_NAMES[parent].split("_")[0] == JOINT_NAMES[child].split("_")[0]


@pytest.mark.parametrize("name", ["fx", "fy", "cx", "cy"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_intrinsics_must_be_finite(name, value):
    with pytest.raises(InputError, match="not usable"):
        dataclasses.replace(CAMERA, **{name: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [({"fx": 0.0}, "not usable"), ({"fy": -1.0}, "not usable"), ({"width": 0}, "0x3"), ({"height": 0}, "4x0")],
)
def test_intrinsics_must_be_positive(change, words):
    with pytest.raises(InputError, match=words):
        dataclasses.replace(CAMERA, **change)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640)])
def test_field_of_view_spans_the_longer_side(width, height):
    camera = CameraIntrinsics.from_fov(width, height, 60.0)
    assert camera.guessed and camera.fx == camera.fy
    half = 2 * np.degrees(np.arctan(max(width, height) / 2 / camera.fx))
    assert half == pytest.approx(60.0)
    assert (camera.cx, camera.cy) == ((width - 1) / 2, (height - 1) / 2)


def test_matrix():
    np.testing.assert_array_equal(CAMERA.matrix, [[5, 0, 1.5], [0, 6, 1], [0, 0, 1]])


@pytest.mark.parametrize(
    "color", [np.zeros((3, 4), np.uint8), np.zeros((3, 4, 4), np.uint8), np.zeros((3, 4, 3), np.uint16)]
)
def test_colour_must_be_rgb8(color):
    with pytest.raises(InputError, match=r"colour image left\.png"):
        RgbdFrame(color, CAMERA, 0, name="left.png")


def test_depth_must_have_the_size_of_colour():
    with pytest.raises(InputError, match="align depth"):
        RgbdFrame(COLOR, CAMERA, 0, depth_m=np.zeros((3, 5), np.float32))


def test_frames_are_frozen_and_know_seconds():
    frame = RgbdFrame(COLOR, CAMERA, 1_500_000_000)
    assert frame.stamp_s == pytest.approx(1.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame.index = 3


def test_unknown_name_suggests_the_nearest_or_lists_all():
    assert str(unknown_name("scene", "rotaet", ["rotate", "bare"])) == "unknown scene 'rotaet': did you mean 'rotate'?"
    assert str(unknown_name("scene", "xyz", ["rotate", "bare"])) == "unknown scene 'xyz': choose one of: bare, rotate"


def test_errors_are_caught_by_their_families():
    assert issubclass(InputError, ValueError)
    assert issubclass(MissingLibraryError, InputError) and issubclass(MissingLibraryError, ImportError)

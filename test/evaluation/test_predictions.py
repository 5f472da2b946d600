"""Folders of results: what is read, and what is refused by file, field or line."""

import numpy as np
import pytest
import trimesh
from lookalikes import JOINTS

from hoi_ros.datatypes import TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.evaluation.predictions import read_predictions
from hoi_ros.reconstruction.mesh_io import save_mesh

HANDS = np.stack([JOINTS, JOINTS + (0.1, 0, 0.2)])
SKIN = np.repeat(HANDS, 2, axis=1) + np.tile([[0.005, 0, 0], [-0.005, 0, 0]], (21, 1))
POSES = "0.0 0.1 0 0.5 0 0 0 1\n0.1 0.1 0 0.5 0 0 0 1\n"


def write_hands(folder, **changes):
    """Two hands in two frames with meshes, some arrays changed."""
    arrays = {
        "frame": np.arange(2), "handedness": np.array(["left", "right"]), "track_id": np.arange(2),
        "joints_camera_m": HANDS, "joints_px": HANDS[..., :2], "vertices_camera_m": SKIN,
        "faces": np.array([[0, 1, 2]]),
    }  # fmt: skip
    np.savez(folder / "hands.npz", **arrays | changes)


def write_mesh(folder, side):
    """A box."""
    body = trimesh.creation.box((side, side / 2, side))
    mesh = TriangleMesh(np.asarray(body.vertices, np.float32), np.asarray(body.faces, np.int32))
    save_mesh(mesh, folder / "object.ply")


def refused(folder, units="m") -> str:
    with pytest.raises(InputError) as caught:
        read_predictions(folder, units)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("unit", "factor"), [("m", 1), ("cm", 100), ("mm", 1000)])
def test_every_unit_is_read(tmp_path, unit, factor):
    write_hands(tmp_path, joints_camera_m=HANDS * factor, vertices_camera_m=SKIN * factor)
    write_mesh(tmp_path, 0.2 * factor)
    (tmp_path / "object_poses.txt").write_text(f"0.0 {0.1 * factor} 0 {0.5 * factor} 0 0 0 1\n")
    found = read_predictions(tmp_path, unit)
    np.testing.assert_allclose(found.hands.joints_camera, HANDS)
    np.testing.assert_allclose(found.hands.vertices_camera, SKIN)
    np.testing.assert_allclose(found.T_camera_object[0, :3, 3], [0.1, 0, 0.5])
    np.testing.assert_allclose(np.ptp(found.mesh.vertices, axis=0), [0.2, 0.1, 0.2], rtol=1e-6)


@pytest.mark.parametrize(("unit", "factor"), [("cm", 100), ("mm", 1000)])
def test_another_unit_is_seen_without_hands(tmp_path, unit, factor):
    path = tmp_path / "object_poses.txt"
    path.write_text(f"0.0 0 0 {0.5 * factor} 0 0 0 1\n0.1 0 0 {0.6 * factor} 0 0 0 1\n")
    said = refused(tmp_path)
    assert "object_poses.txt, field 'tx ty tz'" in said and f"it looks like {unit}: pass --units {unit}" in said
    path.write_text(POSES)
    write_mesh(tmp_path, 0.2 * factor)
    said = refused(tmp_path)
    assert "object.ply, field 'vertices'" in said and f"pass --units {unit}" in said
    write_mesh(tmp_path, 0.2)
    read_predictions(tmp_path)
    assert "object.ply, field 'vertices'" in (said := refused(tmp_path, "mm")) and "pass --units m" in said


def test_metres_read_as_millimetres_say_so(tmp_path):
    write_hands(tmp_path)
    said = refused(tmp_path, "mm")
    assert "field 'joints_camera_m'" in said and said.endswith("it looks like m: pass --units m")


def test_far_and_large_things_of_sane_size_are_read(tmp_path):
    (tmp_path / "object_poses.txt").write_text("0.0 0 0 0 0 0 0 1\n0.1 0 0 19 0 0 0 1\n0.2 0 9 nan 0 0 0 1\n")
    write_mesh(tmp_path, 4.5)
    assert len(read_predictions(tmp_path).T_camera_object) == 3


def test_vertices_lie_around_the_joints_of_their_hand(tmp_path):
    for vertices in (SKIN * 1000, SKIN / 1000, SKIN[::-1] + np.array([1.0, 0, 0])):
        write_hands(tmp_path, vertices_camera_m=vertices)
        said = refused(tmp_path)
        assert "hands.npz, field 'vertices_camera_m': row 0" in said and "one unit" in said


def test_sides_have_names(tmp_path):
    write_hands(tmp_path, handedness=np.array(["left", "R"]))
    said = refused(tmp_path)
    assert "hands.npz, field 'handedness': row 1 is 'R'; write 'left' or 'right'" in said


def test_frames_and_tracks_are_whole_numbers(tmp_path):
    write_hands(tmp_path, frame=np.array([0.0, 1.0]), track_id=np.array([3.0, 4.0]))
    assert read_predictions(tmp_path).hands.track_id.tolist() == [3, 4]
    for field, values, what in (
        ("track_id", np.array(["a", "b"]), "<U1"), ("track_id", np.array([1.0, np.nan]), "row 1 is nan"),
        ("frame", np.array([0.0, 0.5]), "row 1 is 0.5"), ("track_id", np.zeros((2, 2), int), "shape (2, 2)"),
    ):  # fmt: skip
        write_hands(tmp_path, **{field: values})
        said = refused(tmp_path)
        assert f"hands.npz, field '{field}': " in said and what in said and "whole number" in said


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("0.1 0.1 0 0.5 0 0 0", "7 numbers, expected 8 numbers a line: stamp tx ty tz qx qy qz qw"),
        ("0.1 0.1 0 0.5 0 0 0 1 9", "9 numbers"),
        ("0.1 0.1 0 x 0 0 0 1", "could not convert string to float: 'x'"),
        ("0.1 0.1 0 0.5 0 0 0 0", "the quaternion is 0"),
        ("nan 0.1 0 0.5 0 0 0 1", "stamp is not finite"),
    ],
)
def test_a_bad_line_of_poses_has_its_number(tmp_path, line, what):
    (tmp_path / "object_poses.txt").write_text(f"# stamp ...\n0.0 0 0 0.5 0 0 0 1\n\n{line}\n")
    said = refused(tmp_path)
    assert "object_poses.txt, line 4: " in said and what in said


def test_poses_that_are_no_text(tmp_path):
    (tmp_path / "object_poses.txt").write_bytes(b"\xff\xfe\x00\x80")
    assert "object_poses.txt cannot be read as text" in refused(tmp_path)


def test_vertices_are_finite(tmp_path):
    skin = SKIN.copy()
    skin[1, 5] = np.nan
    write_hands(tmp_path, vertices_camera_m=skin)
    assert "hands.npz, field 'vertices_camera_m': row 1 is not finite" in refused(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("frame", np.array(0), "one value, expected a row for each hand"),
        ("joints_camera_m", HANDS[:, :5], "2x5x3 numbers, expected Nx21x3"),
        ("joints_px", np.full((2, 21, 2), "x"), "expected a list of Nx21x2 numbers"),
        ("vertices_camera_m", SKIN[..., :2], "2x42x2 numbers, expected NxNx3"),
        ("faces", np.array([[0.5, 1, 2]]), "expected (F, 3) numbers of the 42 vertices"),
    ],
)
def test_hands_of_another_form_are_named(tmp_path, field, value, said):
    write_hands(tmp_path, **{field: value})
    assert f"hands.npz, field '{field}': {said}" in refused(tmp_path)

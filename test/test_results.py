"""Files of an offline run: layout, empty runs, round trips."""

import numpy as np
import pytest

from hoi_ros.datatypes import JOINT_NAMES
from hoi_ros.errors import InputError
from hoi_ros.geometry import make_transform, matrix_from_quaternion, so3_exp
from hoi_ros.results import HandTable, VideoWriter, percentiles, prepare_folder, tum_line


def test_tum_line_gives_the_pose_back():
    pose = make_transform(so3_exp(np.array([0.3, -2.0, 0.9])), np.array([0.1, -0.2, 0.7]))
    stamp, *values = map(float, tum_line(12.5, pose).split())
    assert stamp == 12.5
    np.testing.assert_allclose(values[:3], pose[:3, 3], atol=1e-8)
    np.testing.assert_allclose(matrix_from_quaternion(np.array(values[3:])), pose[:3, :3], atol=1e-7)


def test_run_without_hands_still_has_every_array(tmp_path):
    faces = np.zeros((5, 3), np.int32)
    HandTable().save(tmp_path / "hands.npz", {"left": faces, "right": faces}, 778)
    data = np.load(tmp_path / "hands.npz")
    assert data["joints_camera_m"].shape == (0, 21, 3)
    assert data["vertices_camera_m"].shape == (0, 778, 3)
    assert data["box_px"].shape == (0, 4)
    assert tuple(data["joint_names"]) == JOINT_NAMES


def test_video_keeps_its_pictures(tmp_path):
    import av

    writer = VideoWriter(tmp_path / "v.mp4", 30.0)
    for level in (0, 100, 200):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.close()
    with av.open(str(tmp_path / "v.mp4")) as container:
        means = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    np.testing.assert_allclose(means, [0, 100, 200], atol=6)


def test_percentiles_are_those_of_numpy():
    assert percentiles([1.0, 2.0, 3.0, 4.0, 100.0]) == {"p50": 3.0, "p95": 80.8}


def test_unwritable_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match="permission"):
        prepare_folder(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()

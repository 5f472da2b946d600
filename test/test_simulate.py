"""`hoi simulate`: pictures, truth and bag agree, and a folder appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from hoi_ros import cli
from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.errors import InputError
from hoi_ros.geometry import pointmap_from_depth, project
from hoi_ros.simulate import DISTURBANCES
from hoi_ros.simulation.objects import load_object
from hoi_ros.simulation.raycast import TriangleScene
from hoi_ros.sources import SourceConfig, open_source
from hoi_ros.truth_file import read_truth

SMALL = ("--quiet", "--set", "width=160", "--set", "height=120")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films") / "film"
    arguments = (
        "rotate",
        "--out",
        str(folder),
        "--frames",
        "5",
        "--fps",
        "4",
        "--seed",
        "3",
        "--objects",
        "box",
        "can",
    )
    assert cli.main(["simulate", *arguments, "--camera", "moving", "--noise", "none", *SMALL]) == 0
    return folder


def picture(folder: Path, kind: str, row: int) -> np.ndarray:
    return cv2.imread(str(folder / kind / f"{row:06d}.png"), cv2.IMREAD_UNCHANGED)


def test_truth_agrees_with_the_pictures(film):
    truth = read_truth(film)
    assert truth.object_names.tolist() == ["box", "can"] and truth.object_held.tolist() == [True, False]
    assert len(truth.frame) == 5 and truth.stamp_ns.tolist() == [k * 250_000_000 for k in range(5)]
    camera = CameraIntrinsics(*map(int, truth.image_size), *truth.intrinsics)
    for row in (0, 4):
        depth = picture(film, "depth_exact", row).astype(np.float32) / 1000
        np.testing.assert_array_equal(picture(film, "depth", row), picture(film, "depth_exact", row))
        points, labels = pointmap_from_depth(depth, camera), picture(film, "masks", row)
        for k, name in enumerate(truth.object_names):
            item = load_object(str(name))
            pose = truth.T_camera_object[row, k]
            mine = points[labels == truth.object_labels[k]].astype(np.float64)
            assert len(mine) > 30
            local = (mine - pose[:3, 3]) @ pose[:3, :3]
            assert np.abs(TriangleScene(item.vertices, item.faces).signed_distance(local)).max() < 0.002
    assert np.ptp(truth.T_world_camera[:, 0, 3]) > 0.01


def test_hands_of_the_truth_lie_on_their_pixels_and_touch(film):
    truth = read_truth(film)
    camera = CameraIntrinsics(*map(int, truth.image_size), *truth.intrinsics)
    assert len(truth.hand_row) == 5 and truth.vertices_camera_m.shape[1] == truth.faces.max() + 1
    for hand, row in enumerate(truth.hand_row):
        label = {"left": 2, "right": 3}[str(truth.handedness[hand])]
        x, y = np.round(project(truth.vertices_camera_m[hand], camera)).astype(int).T
        mask = np.pad(picture(film, "masks", row) == label, 1)
        inside = (x >= 0) & (x < 160) & (y >= 0) & (y < 120)
        on_hand = [mask[b : b + 3, a : a + 3].any() for a, b in zip(x[inside], y[inside])]
        assert np.mean(on_hand) > 0.7
        assert 10 < truth.contact[hand].sum() < 0.6 * truth.contact.shape[1]
    assert truth.joint_angles.shape == (5, len(truth.joint_angle_names))


def test_folder_and_bag_are_sources_with_the_same_pictures(film):
    with (
        open_source(f"rgbd:{film}", SourceConfig()) as folder,
        open_source(f"bag:{film / 'bag'}", SourceConfig()) as bag,
    ):
        pairs = list(zip(folder, bag, strict=True))
    assert len(pairs) == 5
    for a, b in pairs:
        assert a.stamp_ns == b.stamp_ns
        np.testing.assert_array_equal(a.color, b.color)
        np.testing.assert_allclose(a.depth_m, b.depth_m, atol=1e-6)
        assert a.intrinsics.fx == pytest.approx(b.intrinsics.fx)


def test_command_line_and_disturbances_name_the_same():
    assert set(cli.NOISES) == set(DISTURBANCES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("grap",), "grasp"),
        (("rotate:muug",), "mug"),
        (("rotate", "--objects", "box", "muug"), "mug"),
        (("rotate", "--set", "widht=9"), "width"),
        (("rotate", "--set", "width"), "NAME=VALUE"),
        (("rotate", "--frames", "-1"), "--frames"),
        (("empty", "--fps", "9000"), "range"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, words, tmp_path, capsys):
    out = tmp_path / "film"
    assert cli.main(["simulate", *arguments, "--out", str(out), *SMALL]) == 2
    message = capsys.readouterr().err.strip()
    assert words in message and len(message.splitlines()) == 1
    assert not out.exists()


def test_a_full_folder_is_not_written_to_and_a_broken_run_leaves_nothing(film, tmp_path, capsys, monkeypatch):
    before = sorted(p.name for p in film.iterdir())
    assert cli.main(["simulate", "empty", "--out", str(film), *SMALL]) == 2
    assert "not empty" in capsys.readouterr().err
    assert sorted(p.name for p in film.iterdir()) == before

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hoi_ros.simulate._save_png", full)
    assert cli.main(["simulate", "empty", "--frames", "2", "--out", str(tmp_path / "film"), *SMALL]) == 2
    assert "No space left" in capsys.readouterr().err
    assert not (tmp_path / "film").exists()


def test_a_damaged_truth_file_is_refused(film, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_truth(tmp_path)
    (tmp_path / "truth.npz").write_bytes((film / "truth.npz").read_bytes()[:5000])
    with pytest.raises(InputError, match="simulate"):
        read_truth(tmp_path)
    with np.load(film / "truth.npz") as archive:
        arrays = dict(archive)
    np.savez(tmp_path / "truth.npz", **{**arrays, "contact": arrays["contact"][:2]})
    with pytest.raises(InputError, match="contact"):
        read_truth(tmp_path)

"""Hand and object of finished results: the truth is perfect, mistakes show, and what cannot be judged is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hoi_ros.cli import main
from hoi_ros.datatypes import TriangleMesh
from hoi_ros.evaluation.datasets.files import read_mesh
from hoi_ros.reconstruction.mesh_io import save_mesh
from hoi_ros.results import tum_line
from hoi_ros.simulate import SimulateOptions, simulate
from hoi_ros.simulation import SimulatorConfig
from hoi_ros.truth_file import read_truth


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film") / "film"
    config = SimulatorConfig(width=160, height=120, frames=4)
    simulate(SimulateOptions("rotate:box", folder, config, bag=False, quiet=True))
    return folder


def write(folder, film, *, open_mesh=False, poses=True, shift=(0.0, 0.0, 0.0), **changes):
    """The truth as results, with the hands shifted by metres and arrays changed; None leaves one out."""
    truth = read_truth(film)
    folder.mkdir()
    joints, move = truth.joints_camera_m, np.array(shift, np.float32)
    pixels = joints[..., :2] / joints[..., 2:] * truth.intrinsics[:2] + truth.intrinsics[2:]
    arrays = {
        "frame": truth.hand_row, "handedness": truth.handedness, "track_id": np.zeros(len(joints), int),
        "joints_camera_m": joints + move, "joints_px": pixels, "faces": truth.faces,
        "vertices_camera_m": truth.vertices_camera_m + move,
    } | changes  # fmt: skip
    np.savez(folder / "hands.npz", **{name: array for name, array in arrays.items() if array is not None})
    mesh = read_mesh(film / "meshes" / "box.ply")
    save_mesh(TriangleMesh(mesh.vertices, mesh.faces[1:] if open_mesh else mesh.faces), folder / "object.ply")
    if poses:
        lines = [tum_line(ns * 1e-9, T[0]) for ns, T in zip(truth.stamp_ns, truth.T_camera_object)]
        (folder / "object_poses.txt").write_text("\n".join(lines))
    return folder


def judge(film, results, tmp_path, capsys, *more):
    """Exit code, the row, and what was said."""
    path = tmp_path / "row.json"
    arguments = ["--data", str(film), "--results", str(results), "--json", str(path), "--quiet", *more]
    code = main(["bench", "interaction", *arguments])
    return code, json.loads(path.read_text())["rows"][0] if code == 0 else {}, capsys.readouterr().err


def test_the_truth_is_perfect_and_a_shifted_hand_is_not(film, tmp_path, capsys):
    code, row, _ = judge(film, write(tmp_path / "a", film), tmp_path, capsys)
    assert code == 0 and (row["hands"], row["missed"]) == (4, 0)
    assert row["cd_h_cm2"] < 0.02 and row["contact_recall_percent"] == 100 and row["depth_max_mm"] < 3
    _, sunk, _ = judge(film, write(tmp_path / "b", film, shift=(0, 0, 0.03)), tmp_path, capsys)
    assert sunk["cd_h_cm2"] > 1 and sunk["depth_max_mm"] > 5 and sunk["volume_cm3"] > row["volume_cm3"] + 1
    _, away, _ = judge(film, write(tmp_path / "c", film, shift=(0, 0, -0.2)), tmp_path, capsys)
    assert away["volume_cm3"] == 0 and away["contact_recall_percent"] == 0 and away["cd_h_cm2"] > sunk["cd_h_cm2"]


def test_a_missed_hand_counts_as_the_worst(film, tmp_path, capsys):
    other = read_truth(film).hand_row.copy()
    other[2] = 3
    _, row, _ = judge(film, write(tmp_path / "a", film, frame=other), tmp_path, capsys)
    assert row["missed"] == 1 and row["cd_h_cm2"] > 49 and row["contact_recall_percent"] == pytest.approx(75)


def test_what_cannot_be_judged_names_file_and_field(film, tmp_path, capsys):
    cases = {
        "a": (write(tmp_path / "a", film, open_mesh=True), "object.ply, field 'faces': the mesh has 3 open edges"),
        "b": (write(tmp_path / "b", film, vertices_camera_m=None), "hands.npz: field 'vertices_camera_m' is missing"),
        "c": (write(tmp_path / "c", film, poses=False), "expected object_poses.txt"),
        "d": (write(tmp_path / "d", film, vertices_camera_m=np.zeros((2, 778, 3))), "'vertices_camera_m' 2"),
        "e": (write(tmp_path / "e", film, faces=np.full((5, 3), 9999)), "hands.npz, field 'faces': expected (F, 3)"),
    }
    for results, said in cases.values():
        code, _, error = judge(film, results, tmp_path, capsys)
        assert code == 2 and said in error and error.count("\n") == 1, error


def test_everything_in_millimetres(film, tmp_path, capsys):
    truth = read_truth(film)
    arrays = {"joints_camera_m": truth.joints_camera_m * 1000, "vertices_camera_m": truth.vertices_camera_m * 1000}
    results = write(tmp_path / "a", film, **arrays)
    mesh = read_mesh(film / "meshes" / "box.ply")
    save_mesh(TriangleMesh(mesh.vertices * 1000, mesh.faces), results / "object.ply")
    poses = truth.T_camera_object[:, 0].copy()
    poses[:, :3, 3] *= 1000
    lines = [tum_line(ns * 1e-9, T) for ns, T in zip(truth.stamp_ns, poses)]
    (results / "object_poses.txt").write_text("\n".join(lines))
    code, row, _ = judge(film, results, tmp_path, capsys, "--units", "mm")
    assert code == 0 and row["cd_h_cm2"] < 0.02 and row["contact_recall_percent"] == 100
    code, _, error = judge(film, results, tmp_path, capsys)
    assert code == 2 and "hands.npz, field 'joints_camera_m'" in error and "--units mm" in error


def test_empty_files_are_refused_by_name(film, tmp_path, capsys):
    results = write(tmp_path / "a", film)
    (results / "object_poses.txt").write_text("# nothing\n")
    code, _, error = judge(film, results, tmp_path, capsys)
    assert code == 2 and "object_poses.txt, field 'pose lines' is empty" in error
    results = write(tmp_path / "b", film)
    (results / "object.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 0\nproperty list uchar int vertex_indices\nend_header\n"
    )
    code, _, error = judge(film, results, tmp_path, capsys)
    assert code == 2 and "object.ply" in error, error

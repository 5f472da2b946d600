"""Mesh files: round trips and refusals."""

import os

import numpy as np
import pytest
import trimesh

from hoi_ros.datatypes import TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.reconstruction.mesh_io import MESH_SUFFIXES, save_mesh


@pytest.fixture
def mesh():
    body = trimesh.creation.icosphere(2, 0.04)
    colors = np.random.default_rng(0).integers(0, 256, (len(body.vertices), 3)).astype(np.uint8)
    return TriangleMesh(np.float32(body.vertices), np.int32(body.faces), colors)


@pytest.mark.parametrize("suffix", MESH_SUFFIXES)
def test_round_trip_keeps_metres_and_faces(mesh, tmp_path, suffix):
    path = save_mesh(mesh, tmp_path / f"thing{suffix}")
    read = trimesh.load(path, force="mesh", process=False)
    assert len(read.faces) == len(mesh.faces)
    np.testing.assert_allclose(read.extents, np.ptp(mesh.vertices, axis=0), atol=1e-6)
    triangles = mesh.vertices[mesh.faces]
    np.testing.assert_allclose(read.triangles, triangles, atol=1e-6)
    if suffix != ".stl":
        got = read.visual.vertex_colors[read.faces][..., :3].astype(int)
        np.testing.assert_allclose(got, mesh.colors[mesh.faces].astype(int), atol=1)
    assert os.listdir(tmp_path) == [f"thing{suffix}"]


def test_replaces_an_older_file_and_takes_capital_suffixes(mesh, tmp_path):
    path = tmp_path / "thing.PLY"
    path.write_text("old")
    assert len(trimesh.load(save_mesh(mesh, str(path)), file_type="ply").faces) == len(mesh.faces)


def test_without_colours(mesh, tmp_path):
    bare = TriangleMesh(mesh.vertices, mesh.faces)
    assert len(trimesh.load(save_mesh(bare, tmp_path / "bare.glb"), force="mesh").faces) == len(mesh.faces)


def test_refusals_leave_nothing_behind(mesh, tmp_path):
    with pytest.raises(InputError, match=r"\.ply"):
        save_mesh(mesh, tmp_path / "thing.fbx")
    with pytest.raises(InputError, match="no mesh yet"):
        save_mesh(None, tmp_path / "thing.ply")
    with pytest.raises(InputError, match="no mesh yet"):
        save_mesh(TriangleMesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)), tmp_path / "thing.ply")
    with pytest.raises(InputError, match="folder"):
        save_mesh(mesh, tmp_path / "absent" / "thing.ply")
    (tmp_path / "taken.ply").mkdir()
    with pytest.raises(InputError, match="taken"):
        save_mesh(mesh, tmp_path / "taken.ply")
    assert os.listdir(tmp_path) == ["taken.ply"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_write_permission(mesh, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="writable"):
        save_mesh(mesh, tmp_path / "thing.ply")

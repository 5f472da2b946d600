"""Objects are closed, of real size, printed, and can be held."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from hoi_ros.errors import InputError
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.grasp import GraspCycle, GraspSolver
from hoi_ros.simulation.objects import load_object, object_names


def solid(mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


@pytest.mark.parametrize("name", object_names())
def test_built_in_objects_are_closed_printed_and_of_real_size(name):
    item = load_object(name)
    shape = solid(item)
    assert shape.is_watertight and shape.is_winding_consistent and shape.volume > 0
    assert 0.05 < shape.extents.max() < 0.25
    height, width = item.texture.shape[:2]
    assert item.corner_uv.min() >= 0 and item.corner_uv[..., 0].max() < width and item.corner_uv[..., 1].max() < height
    assert np.allclose(np.linalg.norm(item.corner_normals, axis=-1), 1, atol=1e-3)


def test_dense_mesh_keeps_the_surface_closed_and_carries_the_print():
    item = load_object("box")
    mesh = item.colored_mesh()
    assert solid(mesh).is_watertight
    assert abs(solid(mesh).volume / solid(item).volume - 1) < 1e-5
    # No turn by half about an upright axis maps the print onto itself: colour tells the sides apart.
    turned = mesh.vertices * np.array([-1, -1, 1], np.float32)
    from scipy.spatial import cKDTree

    _, other = cKDTree(mesh.vertices).query(turned)
    difference = np.abs(mesh.colors.astype(float) - mesh.colors[other].astype(float)).mean()
    assert difference > 30


def test_a_users_mesh_keeps_its_size_and_colours(tmp_path):
    sphere = trimesh.creation.icosphere(2, 0.04)
    sphere.visual.vertex_colors = np.where(sphere.vertices[:, :1] > 0, [[200, 10, 10, 255]], [[10, 10, 200, 255]])
    sphere.export(tmp_path / "ball.ply")
    mesh = load_object(str(tmp_path / "ball.ply")).colored_mesh(0.01)
    assert np.ptp(mesh.vertices, axis=0) == pytest.approx([0.08] * 3, rel=0.02)
    right = mesh.vertices[:, 0] > 0.02
    assert mesh.colors[right].mean(0) == pytest.approx([200, 10, 10], abs=3)


def test_unusable_meshes_are_refused(tmp_path):
    (tmp_path / "broken.ply").write_text("not a mesh")
    with pytest.raises(InputError, match="cannot be read"):
        load_object(str(tmp_path / "broken.ply"))
    trimesh.creation.icosphere(1, 40.0).export(tmp_path / "millimetres.ply")
    with pytest.raises(InputError, match="metres"):
        load_object(str(tmp_path / "millimetres.ply"))


@pytest.mark.parametrize(("name", "side"), [("box", "right"), ("mug", "left")])
def test_a_grasp_touches_with_thumb_and_two_fingers_and_does_not_sink_in(name, side):
    item = load_object(name)
    solver = GraspSolver(HandModel.load(), np.zeros(10), side, item)
    cycle = solver.solve(item.grips[0], turns=np.arange(8) * 2 * np.pi / 8)
    assert cycle.depth_m.max() < 0.005
    touching = cycle.tip_gap_m < 0.003
    assert touching[:, 0].all()
    assert touching.sum(1).min() >= 3
    # An open hand must not pass for a grasp: the same placement, not closed, touches with no finger.
    vertices = solver._pose(np.repeat(cycle.open_angles[None], 8, 0))
    gaps = solver._gaps(vertices, cycle.T_wrist_object)
    assert gaps[:, solver.parts.mask(1, 3)].min() > 0.003


def test_turns_that_sink_in_are_left_out_of_the_arc():
    count = 24
    depth = np.zeros(count)
    depth[[3, 4, 10]] = 0.02
    tips = np.zeros((count, 5))
    poses = np.repeat(np.eye(4)[None], count, 0)
    cycle = GraspCycle(np.zeros((count, 2)), np.zeros(2), poses, depth, tips, np.zeros(3))
    step = 2 * np.pi / count
    assert cycle.sound_arc() == pytest.approx((11 * step, (11 + 15) * step))
    depth[:] = 0
    assert cycle.sound_arc() is None
    tips[:, :3] = 0.01
    first, last = cycle.sound_arc()
    assert first == last

"""Closing what was not seen, and refusing surface where frames saw through."""

import dataclasses

import numpy as np
import pytest
import trimesh

from hoi_ros.datatypes import CameraIntrinsics, ObjectObservation, RgbdFrame, TriangleMesh
from hoi_ros.evaluation.rendering import MeshRenderer
from hoi_ros.geometry import make_transform, so3_exp
from hoi_ros.reconstruction.free_space import FreeSpace
from hoi_ros.reconstruction.reconstructor import ObjectReconstructor, ReconstructionConfig

CAMERA = CameraIntrinsics(240, 180, 300.0, 300.0, 119.5, 89.5)


def mesh_of(body):
    return TriangleMesh(
        np.float32(body.vertices), np.int32(body.faces), np.tile(np.uint8((200, 40, 30)), (len(body.vertices), 1))
    )


def turned(turn):
    return make_transform(so3_exp(np.array([0, turn, 0])), np.array([0, 0, 0.4]))


def observe(bodies, pose, index=0):
    """A frame of several meshes in one pose before a wall; all of them in the object's mask."""
    renderer = MeshRenderer(mesh_of(trimesh.util.concatenate(bodies)))
    picture = renderer.render(CAMERA, pose)
    mask = picture.depth_m > 0
    frame = RgbdFrame(picture.color, CAMERA, index, index, np.where(mask, picture.depth_m, 1.0).astype(np.float32))
    return frame, ObjectObservation("tracking", T_camera_object=pose, mask=mask)


def half_seen_ball(radius=0.04):
    """Fusion of a ball that turned a quarter only."""
    reconstructor = ObjectReconstructor(ReconstructionConfig(), device="cpu")
    ball = trimesh.creation.icosphere(4, radius)
    for i, turn in enumerate(np.linspace(-0.4, 0.4, 9)):
        assert reconstructor.integrate(*observe([ball], turned(turn), i))
    return reconstructor


def test_half_seen_ball_is_closed_on_request():
    reconstructor = half_seen_ball()
    seen, closed = reconstructor.extract_mesh(), reconstructor.extract_mesh(watertight=True)
    assert seen is not None and closed is not None
    assert not trimesh.Trimesh(seen.vertices, seen.faces, process=False).is_watertight
    body = trimesh.Trimesh(closed.vertices, closed.faces, process=False)
    assert body.is_watertight
    assert body.volume == pytest.approx(4 / 3 * np.pi * 0.04**3, rel=0.35)
    assert (closed.colors.max(0) > 100)[0], "guessed vertices are coloured like their neighbours"


def test_closing_keeps_what_was_seen():
    reconstructor = half_seen_ball()
    seen, closed = reconstructor.extract_mesh(), reconstructor.extract_mesh(watertight=True)
    error = np.abs(np.linalg.norm(closed.vertices, axis=1) - 0.04)
    front = np.linalg.norm(closed.vertices[:, None] - seen.vertices[None], axis=2).min(1) < 0.001
    assert front.sum() > 0.7 * len(seen.vertices)
    assert error[front].mean() < 0.0006


def test_setting_closes_the_mesh():
    reconstructor = half_seen_ball()
    reconstructor.config = dataclasses.replace(reconstructor.config, watertight=True)
    mesh = reconstructor.extract_mesh()
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).is_watertight
    assert not trimesh.Trimesh(*_arrays(reconstructor.extract_mesh(watertight=False)), process=False).is_watertight


def test_what_frames_saw_through_is_no_surface():
    """A stick comes into the mask when the ball has turned once: the place where it stands was seen to be empty."""
    ball = trimesh.creation.icosphere(3, 0.03)
    stick = trimesh.creation.box((0.012, 0.08, 0.012)).apply_translation([0.055, 0, 0])
    turns = [*np.linspace(0, 2 * np.pi, 40), *np.zeros(20)]
    foreign = {}
    for free_frames in (0, 3):
        config = ReconstructionConfig(free_frames=free_frames, min_component_fraction=0.0)
        reconstructor = ObjectReconstructor(config, device="cpu")
        for i, turn in enumerate(turns):
            reconstructor.integrate(*observe([ball, stick] if i >= 40 else [ball], turned(turn), i))
        mesh = reconstructor.extract_mesh()
        assert (np.linalg.norm(mesh.vertices, axis=1) < 0.032).sum() > 1000, "the ball stays"
        foreign[free_frames] = int((np.linalg.norm(mesh.vertices, axis=1) > 0.04).sum())
    assert foreign[0] > 50
    assert foreign[3] < 0.1 * foreign[0]


def test_unknown_depth_frees_nothing():
    space = FreeSpace(np.zeros(3), extent_m=0.2, cell_m=0.01)
    bounds = (np.full(3, -0.05), np.full(3, 0.05))
    space.observe(np.zeros((180, 240), np.float32), CAMERA, turned(0), bounds, 0.008)
    space.observe(np.full((180, 240), np.nan, np.float32), CAMERA, turned(0), bounds, 0.008)
    assert not space.counts(np.full(3, -0.05), (10, 10, 10), 0.01).any()


def test_free_up_to_what_is_seen():
    space = FreeSpace(np.zeros(3), extent_m=0.2, cell_m=0.01)
    depth = np.full((180, 240), 0.4, np.float32)
    for _ in range(300):
        space.observe(depth, CAMERA, turned(0), (np.full(3, -0.05), np.full(3, 0.05)), 0.008)
    counts = space.counts(np.array([-0.005, -0.005, -0.05]), (1, 1, 10), 0.01)[0, 0]
    assert (counts[:3] == 255).all(), "counts stop at the top instead of wrapping"
    assert not counts[4:].any()
    assert space.counts(np.full(3, 0.5), (2, 2, 2), 0.01).sum() == 0


def _arrays(mesh):
    return mesh.vertices, mesh.faces

"""Object meshes by HOLD's and BundleSDF's protocols."""

import dataclasses

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from hoi_ros.datatypes import CameraIntrinsics, TriangleMesh
from hoi_ros.evaluation import metrics as m
from hoi_ros.evaluation import protocols
from hoi_ros.evaluation.alignment import align_with_scale
from hoi_ros.evaluation.protocols import truth_samples
from hoi_ros.geometry import make_transform, so3_exp

CAMERA = CameraIntrinsics(160, 120, 150.0, 150.0, 79.5, 59.5)


def lopsided() -> TriangleMesh:
    """A body without symmetry, of hand size, whose mirror image is another body."""
    parts = [
        trimesh.creation.box((0.05, 0.08, 0.12)),
        trimesh.creation.box((0.06, 0.02, 0.02), transform=trimesh.transformations.translation_matrix([0.05, 0.02, 0])),
        trimesh.creation.box((0.02, 0.06, 0.02), transform=trimesh.transformations.translation_matrix([0, 0.06, 0.04])),
    ]
    body = trimesh.boolean.union(parts, engine="manifold")
    return TriangleMesh(body.vertices.astype(np.float32), body.faces.astype(np.int32))


TRUE = lopsided()


def changed(scale: float, rotation: np.ndarray, offset: np.ndarray) -> TriangleMesh:
    """The true mesh as a similarity moves it."""
    return dataclasses.replace(TRUE, vertices=(scale * TRUE.vertices @ rotation.T + offset).astype(np.float32))


@pytest.mark.parametrize("seed", range(4))
def test_hold_forgives_any_similarity(seed):
    moved = changed(2.5 - 0.5 * seed, Rotation.random(random_state=seed).as_matrix(), np.array([1.0, 2, -3]))
    errors = m.hold_errors(moved, TRUE, starts=40)
    assert errors.chamfer_cm2 < 0.02 and errors.f5_percent > 99.5


def test_hold_does_not_forgive_a_mirror_or_another_shape():
    mirrored = TriangleMesh(TRUE.vertices * np.float32([-1, 1, 1]), TRUE.faces[:, ::-1])
    assert m.hold_errors(mirrored, TRUE, starts=8).chamfer_cm2 > 0.1
    ball = trimesh.creation.icosphere(3, 0.06)
    errors = m.hold_errors(TriangleMesh(ball.vertices.astype(np.float32), ball.faces.astype(np.int32)), TRUE, starts=8)
    assert errors.chamfer_cm2 > 1 and errors.f5_percent < 80


def test_similarity_of_clouds_is_recovered():
    cloud = m.sample_surface(TRUE.vertices, TRUE.faces, 3000, seed=4)
    rotation = Rotation.random(random_state=9).as_matrix()
    scale, found, offset = align_with_scale(cloud, 0.5 * cloud @ rotation.T + (0.1, 0, 0.7))
    assert scale == pytest.approx(0.5, abs=1e-3) and m.rotation_errors_deg(*poses_of(found, rotation))[0] < 0.1
    np.testing.assert_allclose(offset, (0.1, 0, 0.7), atol=1e-3)
    with pytest.raises(ValueError, match="3 or more"):
        align_with_scale(cloud[:2], cloud)


def poses_of(*rotations: np.ndarray) -> list[np.ndarray]:
    """Lists of one pose without translation."""
    return [make_transform(rotation, np.zeros(3))[None] for rotation in rotations]


def test_bundlesdf_forgives_the_object_frame_and_not_scale():
    pose = make_transform(so3_exp(np.array([0.3, -0.8, 0.5])), np.array([0.1, 0.05, -0.2]))
    moved = changed(1.0, pose[:3, :3], pose[:3, 3])
    nearly = pose @ make_transform(so3_exp(np.array([0.02, 0, 0.02])), np.array([0.002, 0, 0.001]))
    perfect = m.bundlesdf_errors(TRUE, TRUE, np.eye(4)).chamfer_mm
    assert 0.7 < perfect < 1.5, "the truth has a point each 5 mm"
    assert abs(m.bundlesdf_errors(moved, TRUE, np.linalg.inv(nearly)).chamfer_mm - perfect) < 0.1
    assert m.bundlesdf_errors(changed(1.2, np.eye(3), np.zeros(3)), TRUE, np.eye(4)).chamfer_mm > perfect + 2
    far = make_transform(np.eye(3), np.array([0.5, 0, 0]))
    assert m.bundlesdf_errors(TRUE, TRUE, far).chamfer_mm > 300, "nothing near enough to pair: not aligned"


def test_bundlesdf_judges_the_largest_part():
    speck = TriangleMesh(
        np.concatenate([TRUE.vertices, np.float32([[1, 0, 0], [1.1, 0, 0], [1, 0.1, 0]])]),
        np.concatenate([TRUE.faces, np.int32([[0, 1, 2]]) + len(TRUE.vertices)]),
    )
    perfect = m.bundlesdf_errors(TRUE, TRUE, np.eye(4)).chamfer_mm
    assert m.bundlesdf_errors(speck, TRUE, np.eye(4)).chamfer_mm == pytest.approx(perfect, abs=0.02)
    assert m.seen_errors(speck, TRUE, np.eye(4)).accuracy_mm > 10


def test_the_seen_surface_is_judged_as_it_lies():
    pose = make_transform(so3_exp(np.array([0.02, 0, 0.02])), np.array([0.002, 0, 0.001]))
    assert m.seen_errors(TRUE, TRUE, np.eye(4)).chamfer_mm < 0.4
    assert m.seen_errors(TRUE, TRUE, pose).chamfer_mm > 0.7


def test_an_absent_mesh_is_worst():
    empty = TriangleMesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    for absent in (None, empty):
        assert m.hold_errors(absent, TRUE) == m.ABSENT_SURFACE
        assert m.bundlesdf_errors(absent, TRUE, np.eye(4)) == m.ABSENT_SURFACE
        assert m.seen_errors(absent, TRUE, np.eye(4)) == m.ABSENT_SURFACE


def test_only_the_seen_surface_counts(monkeypatch):
    monkeypatch.setattr(protocols, "SAMPLES", 10_000)
    looking = make_transform(np.eye(3), np.array([0, 0, 0.4]))[None]
    points = truth_samples(TRUE)
    seen = m.seen_surface(TRUE, looking, CAMERA)
    assert points[seen][:, 2].max() < 0.03 and 0.1 < seen.mean() < 0.6
    around = make_transform(
        Rotation.from_rotvec(np.radians([[0, 90 * i, 0] for i in range(4)])).as_matrix(), np.array([0, 0, 0.4])
    )
    assert m.seen_surface(TRUE, around, CAMERA).mean() > seen.mean() + 0.3
    nothing_free = [np.zeros((120, 160), bool)]
    assert not m.seen_surface(TRUE, looking, CAMERA, nothing_free).any()
    corners = TRUE.vertices[TRUE.faces]
    front = corners[(corners[:, :, 2] < 0.035).all(1)]
    half = TriangleMesh(front.reshape(-1, 3), np.arange(3 * len(front), dtype=np.int32).reshape(-1, 3))
    whole, judged = m.seen_errors(half, TRUE, np.eye(4)), m.seen_errors(half, TRUE, np.eye(4), seen)
    assert judged.completeness_mm < whole.completeness_mm / 3
    completed = m.seen_errors(TRUE, TRUE, np.eye(4), seen)
    assert completed.chamfer_mm < 1.3 and completed.f5_percent > 99.9, "rightly guessed surface costs nothing"
    behind = TRUE.vertices + np.float32([0, 0, 0.03]) * (TRUE.vertices[:, 2:] > 0.035)
    assert m.seen_errors(TriangleMesh(behind, TRUE.faces), TRUE, np.eye(4), seen).accuracy_mm > 3, "wrong surface does"


def test_hand_relative_chamfer_forgives_the_camera_and_not_the_grip():
    cloud = m.sample_surface(TRUE.vertices, TRUE.faces, 2000)
    root, shift = np.array([0.1, 0, 0]), np.array([0.5, 0.2, 1])
    assert m.hand_relative_chamfer_cm2(cloud + shift, root + shift, cloud, root) < 1e-6
    assert m.hand_relative_chamfer_cm2(cloud + shift, root, cloud, root) > 100
    assert m.hand_relative_chamfer_cm2(cloud, np.full(3, np.nan), cloud, root) == np.inf
    moved = m.hand_relative_chamfer_cm2(cloud + (0, 0, 0.5), root, cloud, root)
    far = np.array([0.5**2, 0.5**2]).sum() * 1e4
    assert 0.5 * far < moved < far

"""Fusion on rendered balls, boxes and mugs whose poses and surfaces are known."""

import dataclasses
import threading

import numpy as np
import pytest
import trimesh

from hoi_ros.config import make_config
from hoi_ros.datatypes import CameraIntrinsics, ObjectObservation, PoseRevision, RgbdFrame, TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.evaluation.rendering import MeshRenderer
from hoi_ros.geometry import make_transform, rotation_angle, so3_exp
from hoi_ros.reconstruction import reconstructor as reconstructor_module
from hoi_ros.reconstruction.reconstructor import ObjectReconstructor, ReconstructionConfig

CAMERA = CameraIntrinsics(240, 180, 300.0, 300.0, 119.5, 89.5)
RED, BLUE = (200, 40, 30), (30, 60, 210)
RADIUS = 0.04


def mesh_of(body, color=RED):
    colors = np.tile(np.uint8(color), (len(body.vertices), 1))
    return TriangleMesh(np.float32(body.vertices), np.int32(body.faces), colors)


BALL = mesh_of(trimesh.creation.icosphere(4, RADIUS))


def poses(count, distance=0.4):
    turns = 2 * np.pi * np.arange(count) / count
    return [
        make_transform(
            so3_exp(np.array([0.9 * np.sin(t), 0, 0])) @ so3_exp(np.array([0, 2 * t, 0])),
            np.array([0.02 * np.cos(t), 0.01 * np.sin(t), distance]),
        )
        for t in turns
    ]


def observe(mesh, pose_list, noise_m=0.0, wall_m=1.0, seed=0):
    """Frames and observations of a mesh before a wall."""
    renderer, random, result = MeshRenderer(mesh), np.random.default_rng(seed), []
    for i, pose in enumerate(pose_list):
        picture = renderer.render(CAMERA, pose)
        mask = picture.depth_m > 0
        depth = np.where(mask, picture.depth_m, wall_m) + random.normal(size=mask.shape) * noise_m
        frame = RgbdFrame(picture.color, CAMERA, stamp_ns=i, index=i, depth_m=depth.astype(np.float32))
        result.append((frame, ObjectObservation("tracking", T_camera_object=pose, mask=mask)))
    return result


def fuse(observed, **settings):
    reconstructor = ObjectReconstructor(ReconstructionConfig(**settings), device="cpu")
    for frame, observation in observed:
        assert reconstructor.integrate(frame, observation)
    return reconstructor


def test_ball_lies_within_half_a_voxel():
    mesh = fuse(observe(BALL, poses(24), noise_m=0.0005)).extract_mesh()
    error = np.abs(np.linalg.norm(mesh.vertices, axis=1) - RADIUS)
    assert error.mean() < 0.0005
    assert np.percentile(error, 99) < 0.0015
    body = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert body.area == pytest.approx(4 * np.pi * RADIUS**2, rel=0.1)
    outward = np.einsum("fi,fi->f", body.face_normals, body.triangles_center) > 0
    assert outward.mean() > 0.98


def test_box_has_its_size():
    box = mesh_of(trimesh.creation.box((0.06, 0.08, 0.1)))
    mesh = fuse(observe(box, poses(32), noise_m=0.0005)).extract_mesh()
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), (0.06, 0.08, 0.1), atol=0.003)


def test_mug_stays_hollow():
    outer = trimesh.creation.cylinder(0.04, 0.08, sections=48)
    inner = trimesh.creation.cylinder(0.035, 0.08, sections=48)
    inner.apply_translation([0, 0, 0.005])
    mug = mesh_of(trimesh.boolean.difference([outer, inner], engine="manifold"))
    turns = 2 * np.pi * np.arange(36) / 36
    tilts = np.stack([np.pi + 0.7 * np.cos(turns), 0.7 * np.sin(turns), 0 * turns], 1)
    tilted = [make_transform(so3_exp(tilt), np.array([0, 0, 0.4])) for tilt in tilts]
    mesh = fuse(observe(mug, tilted)).extract_mesh()
    middle = (np.hypot(mesh.vertices[:, 0], mesh.vertices[:, 1]) < 0.028) & (mesh.vertices[:, 2] > -0.02)
    assert middle.sum() == 0
    floor = (np.hypot(mesh.vertices[:, 0], mesh.vertices[:, 1]) < 0.02) & (np.abs(mesh.vertices[:, 2] + 0.035) < 0.002)
    assert floor.sum() > 50


def test_colour_is_the_surface_colour():
    mesh = fuse(observe(BALL, poses(12))).extract_mesh()
    assert np.abs(mesh.colors.astype(int) - RED).max() <= 3


def far_vertices(mesh, limit_m=0.006):
    return int((np.linalg.norm(mesh.vertices, axis=1) > RADIUS + limit_m).sum())


def with_a_lump(observed):
    """The same frames with a plate in front of the ball that the mask takes for the object."""
    wrong = []
    for frame, observation in observed:
        depth, mask = frame.depth_m.copy(), observation.mask.copy()
        rows, columns = np.nonzero(mask)
        y, x = int(rows.mean()), int(columns.mean())
        depth[y - 9 : y + 9, x - 9 : x + 60] = 0.345
        mask[y - 9 : y + 9, x - 9 : x + 60] = True
        frame = RgbdFrame(frame.color, CAMERA, frame.stamp_ns, depth_m=depth)
        wrong.append((frame, ObjectObservation("tracking", T_camera_object=observation.T_camera_object, mask=mask)))
    return wrong


def test_wrong_geometry_fades_by_free_space():
    right = observe(BALL, poses(40))
    lump = with_a_lump(right[:4])
    assert far_vertices(fuse(lump).extract_mesh()) > 100
    assert far_vertices(fuse(lump + right, min_component_fraction=0.0).extract_mesh()) < 10
    alone = {"min_component_fraction": 0.0, "free_frames": 0}  # no help from what frames saw through
    carved = far_vertices(fuse(lump + right, **alone).extract_mesh())
    kept = far_vertices(fuse(lump + right, **alone, free_weight=0.0).extract_mesh())
    assert carved < 10 and kept > 60


def test_carving_spares_a_thin_rod():
    rod = mesh_of(trimesh.creation.cylinder(0.006, 0.1, sections=32))
    reconstructor = ObjectReconstructor(ReconstructionConfig(free_weight=5.0), device="cpu")
    for frame, observation in observe(rod, poses(60, distance=0.3)):
        reconstructor.integrate(frame, observation)
    vertices = reconstructor.extract_mesh().vertices
    radius = np.hypot(vertices[:, 0], vertices[:, 1])[np.abs(vertices[:, 2]) < 0.045]
    assert abs(radius.mean() - 0.006) < 0.0001 and radius.std() < 0.0002


def test_capped_weight_lets_a_shape_change():
    smaller = observe(mesh_of(trimesh.creation.icosphere(4, RADIUS - 0.003)), poses(60))
    frames = observe(BALL, poses(60)) + smaller
    radius = {w: np.linalg.norm(fuse(frames, max_weight=w).extract_mesh().vertices, axis=1).mean() for w in (4.0, 1e6)}
    assert abs(radius[4.0] - (RADIUS - 0.003)) < 0.0005
    assert radius[1e6] > RADIUS - 0.0025


def test_floater_is_removed():
    floater = trimesh.creation.icosphere(2, 0.006)
    floater.apply_translation([0.08, 0, 0])
    both = mesh_of(trimesh.util.concatenate([trimesh.creation.icosphere(4, RADIUS), floater]))
    observed = observe(both, poses(24))
    assert far_vertices(fuse(observed, min_component_fraction=0.0).extract_mesh()) > 20
    assert far_vertices(fuse(observed).extract_mesh()) == 0


@pytest.mark.parametrize("claimed", [False, True])
def test_hand_leaves_a_hole_and_not_a_hand(claimed):
    """Whether the hand's pixels are `claimed` as object too or not."""
    still = [poses(1)[0]] * 6
    observed = observe(BALL, still)
    covered = []
    for frame, observation in observed:
        depth, hand = frame.depth_m.copy(), np.zeros_like(observation.mask)
        hand[70:100, :130] = True
        depth[hand] = 0.33
        mask = observation.mask | hand if claimed else observation.mask & ~hand
        frame = RgbdFrame(frame.color, CAMERA, frame.stamp_ns, depth_m=depth)
        seen = ObjectObservation("tracking", T_camera_object=still[0], mask=mask, hand_mask=hand)
        covered.append((frame, seen))
    whole, holed = (fuse(o).extract_mesh() for o in (observed, covered))
    assert far_vertices(holed, 0.002) == 0
    assert len(holed.faces) < 0.85 * len(whole.faces)
    # A hand before a finished ball says nothing: it must not carve it either.
    finished = fuse(observe(BALL, still * 2))
    before = finished._volume.snapshot()
    hand_only = ObjectObservation(
        "tracking", T_camera_object=still[0], mask=covered[0][1].mask, hand_mask=np.ones_like(covered[0][1].mask)
    )
    assert not finished.integrate(covered[0][0], hand_only)
    np.testing.assert_array_equal(finished._volume.snapshot().tsdf, before.tsdf)


def test_same_frames_give_the_same_mesh():
    observed = observe(BALL, poses(10), noise_m=0.001)
    a, b = (fuse(observed).extract_mesh() for _ in range(2))
    np.testing.assert_array_equal(a.vertices, b.vertices)
    np.testing.assert_array_equal(a.faces, b.faces)
    np.testing.assert_array_equal(a.colors, b.colors)


def test_extracting_while_integrating():
    observed = observe(BALL, poses(30))
    reconstructor, meshes, errors = ObjectReconstructor(device="cpu"), [], []
    done = threading.Event()

    def extract():
        try:
            while not done.is_set():
                meshes.append(reconstructor.extract_mesh())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=extract)
    thread.start()
    for frame, observation in observed:
        assert reconstructor.integrate(frame, observation)
    done.set()
    thread.join(timeout=20)
    assert not thread.is_alive() and not errors and len(meshes) > 1
    np.testing.assert_array_equal(reconstructor.extract_mesh().vertices, fuse(observed).extract_mesh().vertices)


def test_frames_are_fused_while_a_mesh_is_being_made(monkeypatch):
    observed = observe(BALL, poses(8))
    reconstructor = fuse(observed[:7])
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_, **__):
        begun.set()
        assert go_on.wait(20)

    monkeypatch.setattr(reconstructor_module, "mesh_from_field", slow)
    meshing = threading.Thread(target=reconstructor.extract_mesh)
    meshing.start()
    assert begun.wait(20)
    fusing = threading.Thread(target=reconstructor.integrate, args=observed[7])
    fusing.start()
    fusing.join(timeout=10)
    waited = fusing.is_alive()
    go_on.set()
    meshing.join(timeout=20)
    fusing.join(timeout=20)
    assert not waited and reconstructor.frames_fused == 8


def test_unknown_depth_leaves_the_rest_right():
    spoiled = []
    for frame, observation in observe(BALL, poses(16)):
        depth = frame.depth_m.copy()
        depth[::7] = np.nan
        depth[:, ::11] = 0
        depth[5::13, 5::13] = np.inf
        depth[3::17, 3::17] = -1
        spoiled.append((RgbdFrame(frame.color, CAMERA, frame.stamp_ns, depth_m=depth), observation))
    mesh = fuse(spoiled).extract_mesh()
    assert np.isfinite(mesh.vertices).all()
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - RADIUS).mean() < 0.001


def test_changed_enough_settles():
    reconstructor = ObjectReconstructor(device="cpu")
    assert not reconstructor.changed_enough() and reconstructor.extract_mesh() is None
    still = observe(BALL, [poses(1)[0]] * 40)
    for frame, observation in still[:5]:
        reconstructor.integrate(frame, observation)
    assert reconstructor.changed_enough()
    for frame, observation in still[5:20]:
        reconstructor.integrate(frame, observation)
    reconstructor.extract_mesh()
    for frame, observation in still[20:]:
        reconstructor.integrate(frame, observation)
    assert not reconstructor.changed_enough()
    for frame, observation in observe(BALL, poses(12)[3:9]):
        reconstructor.integrate(frame, observation)
    assert reconstructor.changed_enough()


def test_memory_stays_within_its_limit():
    big = mesh_of(trimesh.creation.icosphere(4, 0.1))
    reconstructor = fuse(observe(big, poses(8)), max_blocks=40, kept_frames=0)
    assert reconstructor.full and reconstructor._volume.block_count == 40
    assert reconstructor.memory_bytes < 40 * 12_500 + 4 * 38**3
    assert reconstructor.extract_mesh() is not None


def test_another_object_and_reset_start_anew():
    reconstructor = fuse(observe(BALL, poses(6)))
    frame, seen = observe(mesh_of(trimesh.creation.icosphere(3, 0.02), BLUE), poses(1))[0]
    other = ObjectObservation("tracking", 1, seen.T_camera_object, mask=seen.mask)
    assert reconstructor.integrate(frame, other)
    mesh = reconstructor.extract_mesh()
    assert reconstructor.frames_fused == 1 and np.linalg.norm(mesh.vertices, axis=1).max() < 0.024
    reconstructor.reset()
    assert reconstructor.extract_mesh() is None and reconstructor.memory_bytes == 0


def test_frames_that_say_nothing_are_not_fused():
    frame, seen = observe(BALL, poses(1))[0]
    reconstructor = ObjectReconstructor(device="cpu")
    for state in ("lost", "waiting", "no_depth"):
        assert not reconstructor.integrate(frame, ObjectObservation(state, mask=seen.mask))
    assert not reconstructor.integrate(RgbdFrame(frame.color, CAMERA, 0), seen)
    blind = RgbdFrame(frame.color, CAMERA, 0, depth_m=np.full(frame.depth_m.shape, np.nan, np.float32))
    assert not reconstructor.integrate(blind, seen)
    empty = ObjectObservation("tracking", T_camera_object=seen.T_camera_object, mask=np.zeros_like(seen.mask))
    assert not reconstructor.integrate(frame, empty)
    doubtful = ObjectObservation(
        "tracking", T_camera_object=seen.T_camera_object, mask=seen.mask, inlier_fraction=0.1, residual_m=0.004
    )
    assert not reconstructor.integrate(frame, doubtful)
    assert reconstructor.extract_mesh() is None


@pytest.mark.parametrize("field", ["mask", "hand_mask", "pose_nan", "pose_mirror"])
def test_what_does_not_fit_is_refused(field):
    frame, seen = observe(BALL, poses(1))[0]
    pose, mask, hand = seen.T_camera_object.copy(), seen.mask, None
    if field == "mask":
        mask = mask[:-1]
    elif field == "hand_mask":
        hand = np.zeros((3, 3), bool)
    elif field == "pose_nan":
        pose[0, 3] = np.nan
    else:
        pose[:3, 0] *= -1
    observation = ObjectObservation("tracking", T_camera_object=pose, mask=mask, hand_mask=hand)
    with pytest.raises(InputError):
        ObjectReconstructor(device="cpu").integrate(frame, observation)


def test_settings_and_device_are_checked():
    with pytest.raises(InputError, match="voxel_size_m"):
        make_config(ReconstructionConfig, {"voxel_size": 0.002})
    with pytest.raises(InputError, match="range"):
        make_config(ReconstructionConfig, {"voxel_size_m": 0.0})
    with pytest.raises(InputError, match="device"):
        ObjectReconstructor(device="gpu")


def revised(observed, wrong, number=1):
    """The observations with wrong poses; the last one carries the right poses of all."""
    out = [
        (frame, dataclasses.replace(seen, T_camera_object=pose, is_keyframe=True))
        for (frame, seen), pose in zip(observed, wrong)
    ]
    stamps = np.array([frame.stamp_ns for frame, _ in observed])
    right = PoseRevision(stamps, np.stack([seen.T_camera_object for _, seen in observed]), number)
    frame, seen = observed[-1]
    return out, (frame, dataclasses.replace(seen, revision=right))


def mean_gap_mm(mesh):
    return 1e3 * float(np.abs(np.linalg.norm(mesh.vertices, axis=1) - RADIUS).mean())


def test_corrected_keyframes_fuse_the_object_anew_beside_the_stream():
    right = observe(BALL, poses(24))
    shift = np.linspace(0, 0.012, 24)[:, None] * [1, 0, 0]
    wrong = [
        pose @ make_transform(np.eye(3), s) for (_, seen), s in zip(right, shift) for pose in [seen.T_camera_object]
    ]
    out, (frame, last) = revised(right, wrong)
    reconstructor = fuse(out, refuse_frames=3, keep_period=1)
    before = mean_gap_mm(reconstructor.extract_mesh())
    fused = []
    for _ in range(4):  # the revision comes with several frames and counts once
        reconstructor.integrate(frame, last)
        fused.append(reconstructor.times_fused_anew)
    assert fused == [0, 0, 1, 1], "taken over at the frame it is due"
    after = mean_gap_mm(reconstructor.extract_mesh())
    assert before > 2 and after < 0.8
    reconstructor.close()


def test_small_corrections_change_nothing_and_settling_waits_for_large_ones():
    right = observe(BALL, poses(12))
    near = [seen.T_camera_object @ make_transform(np.eye(3), np.array([0.001, 0, 0])) for _, seen in right]
    out, (frame, last) = revised(right, near)
    reconstructor = fuse(out, keep_period=1)
    reconstructor.integrate(frame, last)
    reconstructor.settle()
    assert reconstructor.times_fused_anew == 0
    far = [seen.T_camera_object @ make_transform(np.eye(3), np.array([0.02, 0, 0])) for _, seen in right]
    out, (frame, last) = revised(right, far)
    reconstructor = fuse(out, keep_period=1)
    reconstructor.integrate(frame, last)
    reconstructor.settle()
    assert reconstructor.times_fused_anew == 1 and mean_gap_mm(reconstructor.extract_mesh()) < 0.8


def test_kept_frames_are_bounded_and_spread_over_the_sides():
    observed = observe(BALL, poses(60))
    reconstructor = fuse(observed, kept_frames=10, keep_period=1)
    kept = reconstructor._now.kept
    assert len(kept.frames) == 10
    rotations = np.stack([frame.T_camera_object[:3, :3] for frame in kept.frames])
    angles = rotation_angle(rotations[:, None] @ np.swapaxes(rotations, 1, 2)[None]) + 9 * np.eye(10)
    assert np.degrees(angles.min(1)).min() > 6, "neighbours of the 60 are 12 degrees apart, some nearly alike"
    picture = kept.frames[0].frame()[0]
    assert picture.depth_m.shape == picture.color.shape[:2] and picture.color.size < CAMERA.width * CAMERA.height * 3


def test_objects_are_remembered_and_the_oldest_forgotten():
    ball, cube = observe(BALL, poses(6)), observe(mesh_of(trimesh.creation.box((0.06,) * 3), BLUE), poses(6))
    reconstructor = fuse(ball, max_objects=2)
    vertices = len(reconstructor.extract_mesh().vertices)
    for frame, seen in cube:
        reconstructor.integrate(frame, dataclasses.replace(seen, object_id=1))
    assert reconstructor.frames_fused == 6 and len(reconstructor.extract_mesh().vertices) != vertices
    reconstructor.integrate(*ball[0])
    assert reconstructor.frames_fused == 7, "the first one grows on"
    for frame, seen in cube[:2]:
        reconstructor.integrate(frame, dataclasses.replace(seen, object_id=2))
    for frame, seen in cube[:1]:
        reconstructor.integrate(frame, dataclasses.replace(seen, object_id=1))
    assert reconstructor.frames_fused == 1, "one of three was forgotten"

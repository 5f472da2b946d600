"""Estimator 'handos' on drawn hands: found, followed, mirrored; sides from normals alone; masks and contact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_hand import draw_hand
from handos_cases import topology

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.geometry import project
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.hand.embedded_detection import detection_from_features, merge_landmark_heads
from hoi_ros.hand.embedded_features import COMPACT, LandmarkFeatures
from hoi_ros.hand.handos import HandOs
from hoi_ros.hand.handos_estimator import _masks, create_crop_reader, right_probability
from hoi_ros.hand.handos_weights import load_weights, save_weights
from hoi_ros.hand.landmarks import merge_heads
from hoi_ros.hand.regions import HandRegion
from hoi_ros.hand.torch_decoder import DeviceCropReader
from hoi_ros.hand.weights_file import SHIPPED, read_weights
from hoi_ros.hand_model import HandModel


def frame(color: np.ndarray, time_s: float = 0.0, index: int = 0) -> RgbdFrame:
    height, width = color.shape[:2]
    return RgbdFrame(color, CameraIntrinsics.from_fov(width, height), int(time_s * 1e9), index)


@pytest.fixture(scope="module")
def shared():
    return create_hand_estimator(HandConfig(estimator="handos", handos_mesh="network"), "cpu")


@pytest.fixture
def estimator(shared):
    shared.reset()
    return shared


@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_drawn_hand_is_found_with_its_own_mesh(estimator, side, independent):
    hands = estimator.estimate(frame(draw_hand(side, turn_rad=0.4)), independent=independent)
    assert [hand.handedness for hand in hands] == [side]
    hand = hands[0]
    assert hand.vertices_camera.shape == (778, 3) and 0.3 < hand.joints_camera[9, 2] < 0.65
    regressed = topology().regressor @ hand.vertices_camera
    assert np.linalg.norm(regressed - hand.joints_camera, axis=1).mean() < 0.012
    camera = CameraIntrinsics.from_fov(640, 480)
    np.testing.assert_allclose(project(hand.joints_camera, camera), hand.joints_px, atol=1e-6)
    faces, corners = estimator.faces(side), hand.vertices_camera.astype(float)
    corners = (corners - corners.mean(0))[faces]
    assert np.einsum("fc,fc->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) > 0, "normals point outwards"


def test_a_mirrored_picture_has_the_mirrored_mesh_of_the_other_hand(estimator):
    picture = draw_hand("right", turn_rad=0.4)
    hand = estimator.estimate(frame(picture), independent=True)[0]
    other = estimator.estimate(frame(np.ascontiguousarray(picture[:, ::-1])), independent=True)[0]
    assert (hand.handedness, other.handedness) == ("right", "left")
    mirrored = other.vertices_camera * [-1, 1, 1]
    shift = (mirrored - hand.vertices_camera).mean(0)
    assert np.linalg.norm(mirrored - shift - hand.vertices_camera, axis=1).mean() < 0.006


@pytest.mark.parametrize("turn_rad", [0.0, 0.2])
def test_a_mirrored_crop_read_once_gives_nearly_the_mirrored_mesh_of_the_other_hand(shared, turn_rad):
    """Nothing is averaged: the decoder itself learned both sides alike, to 6 mm on the mean and 14 mm at most."""
    crop = draw_hand("right", turn_rad=turn_rad)[130:354, 208:432]
    whole = HandRegion(np.array([111.5, 111.5]), 224.0, 0.0)
    plain, other = (
        shared._landmarks.read(np.ascontiguousarray(picture), [whole])[0] for picture in (crop, crop[:, ::-1])
    )
    assert plain.right_probability > 0.9 and other.right_probability < 0.1
    apart = np.linalg.norm(other.vertices * [-1, 1, 1] - plain.vertices, axis=1)
    assert apart.mean() < 0.006 and apart.max() < 0.014
    assert np.linalg.norm(other.vertices - plain.vertices, axis=1).mean() > 0.02, "the mirror makes a difference"


def test_decoding_a_mirrored_crop_and_averaging_is_symmetric(shared):
    """With the mirrored average a mirrored crop gives the mirrored mesh to within rounding."""
    reader = shared._landmarks
    crop = draw_hand("right")[130:354, 208:432]
    whole = HandRegion(np.array([111.5, 111.5]), 224.0, 0.0)
    plain = reader.read(crop, [whole], average_mirrored=True)[0]
    mirrored = reader.read(np.ascontiguousarray(crop[:, ::-1]), [whole], average_mirrored=True)[0]
    np.testing.assert_allclose(mirrored.vertices * [-1, 1, 1], plain.vertices, atol=2e-4)
    np.testing.assert_allclose(mirrored.world_landmarks * [-1, 1, 1], plain.world_landmarks, atol=2e-4)
    assert plain.right_probability + mirrored.right_probability == pytest.approx(1, abs=1e-3)


def test_the_fitted_mesh_belongs_to_the_joint_angles(shared):
    picture = frame(draw_hand("left", turn_rad=0.4))
    fitted = create_hand_estimator(HandConfig(estimator="handos"), "cpu").estimate(picture, independent=True)[0]
    own = shared.estimate(picture, independent=True)[0]
    np.testing.assert_allclose(fitted.joints_camera, own.joints_camera, atol=1e-9)
    posed = HandModel.load().pose(fitted.joint_angles[None], fitted.shape[None], "left")
    moved = posed.vertices[0] @ fitted.T_camera_wrist[:3, :3].T + fitted.T_camera_wrist[:3, 3]
    np.testing.assert_allclose(fitted.vertices_camera, moved, atol=0.01)
    apart = np.linalg.norm(fitted.vertices_camera - own.vertices_camera, axis=1).mean()
    assert 1e-4 < apart < 0.015


def test_a_hand_keeps_its_track_and_side(estimator):
    seen = []
    for i in range(8):
        picture = draw_hand("left", center=(280 + 6 * i, 240), hand_px=200)
        seen += [(h.track_id, h.handedness) for h in estimator.estimate(frame(picture, i / 30, i))]
    assert len(seen) >= 7 and len(set(seen)) == 1 and seen[0][1] == "left"


def test_nothing_in_a_grey_picture(estimator):
    assert estimator.estimate(frame(np.full((120, 160, 3), 90, np.uint8)), independent=True) == []


def test_bad_settings_are_named(tmp_path):
    with pytest.raises(InputError, match="are missing"):
        create_hand_estimator(HandConfig(estimator="handos", handos_weights=str(tmp_path / "no.npz")))
    with pytest.raises(InputError, match="set handos_weights to some trained on yours"):
        create_hand_estimator(HandConfig(estimator="handos", hand_model="MANO_RIGHT.pkl"))
    with pytest.raises(InputError, match="did you mean 'onnx'"):
        create_hand_estimator(HandConfig(estimator="handos", handos_engine="onx"))


def test_the_shipped_weights_are_small_and_say_what_they_are():
    assert SHIPPED.stat().st_size < 12e6
    network, card = load_weights(SHIPPED)
    assert network.config.from_landmarks and card["step"] > 0 and card["shippable"]


# Features


def test_heads_are_merged_as_the_landmark_network_does():
    rng = np.random.default_rng(0)
    image, world = rng.normal(0.5, 0.2, (3, 21, 3)), rng.normal(0, 0.05, (3, 21, 3))
    centred = torch.from_numpy(world - world.mean(1, keepdims=True))
    ours = merge_landmark_heads(torch.from_numpy(image), centred).numpy()
    for row, one in zip(ours, (merge_heads(a, b) for a, b in zip(image, world))):
        np.testing.assert_allclose(row - row.mean(0), one - one.mean(0), atol=1e-9)


def test_an_untrained_network_answers_the_detectors_landmarks():
    """Every head of the compact network starts at 0: before training it is as good as its detector."""
    torch.manual_seed(0)
    network = HandOs(replace(COMPACT, coarse_vertices=24), topology()).eval()
    crop = draw_hand("right")[130:354, 208:432][None]
    features = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in LandmarkFeatures().read(crop).items()}
    detection = detection_from_features(features)
    with torch.inference_mode():
        output = network(detection, torch.tensor([[3.0, 3.0, 0.5, 0.5]]))[-1]
    torch.testing.assert_close(output.joints_2d, detection.landmarks, atol=1e-5, rtol=0)
    error = (output.joints_3d - detection.landmarks_3d).norm(dim=-1)
    assert error.mean() < 0.01


# Sides


def test_sides_come_from_normals():
    model = HandModel.load()
    rng = np.random.default_rng(1)
    angles = np.clip(rng.normal(0.3, 0.4, (20, 22)), *model.joint_limits.T)
    right = model.pose(angles, np.zeros((20, 10)), "right").vertices.astype(float)
    for vertices in right:
        assert right_probability(vertices, model.right_faces) > 0.98
        assert right_probability(vertices * [-1, 1, 1], model.right_faces) < 0.02
    flat = right[0] * [1, 1, 0]
    assert right_probability(flat, model.right_faces) == pytest.approx(0.5, abs=0.05)


# Masks and contact


def test_masks_lie_where_the_hand_was_drawn():
    picture = draw_hand("right", turn_rad=0.5)
    plain = np.abs(picture.astype(int) - picture[3, 3]).sum(-1) > 40
    config = HandConfig(estimator="handos", handos_masks=True, outline_distance=False)
    with_masks = create_hand_estimator(config, "cpu")
    hand = with_masks.estimate(frame(picture))[0]
    assert hand.contact.shape == (778,) and hand.contact.min() >= 0 and hand.contact.max() <= 1
    np.testing.assert_allclose(hand.segments.shares.sum(-1), 1, atol=1e-5)
    shares = hand.segments.in_image(*picture.shape[:2])
    joints = np.round(hand.joints_px).astype(int)
    assert shares[joints[:, 1], joints[:, 0], 1].mean() > 0.7, "joints lie in the hand"
    seen, inside = shares[..., 1] > 0.5, shares.sum(-1) > 0.5
    assert (seen & plain).sum() / (seen | (plain & inside)).sum() > 0.6
    assert not shares[:5, :5].any()
    usual = create_hand_estimator(HandConfig(estimator="handos"), "cpu").estimate(frame(picture))[0]
    assert usual.segments is None and usual.contact is None
    np.testing.assert_allclose(usual.vertices_camera, hand.vertices_camera, atol=1e-6)


@pytest.mark.parametrize("engine", ["eager", "trace", "device"])
def test_masks_are_the_same_from_numpy_and_torch(engine, caplog):
    """Half precision weights in float32 on both sides: probabilities agree to a ten thousandth."""
    content = read_weights(SHIPPED)
    crops = np.stack([draw_hand("right", size=(224, 224), center=(112, 112), hand_px=px) for px in (150.0, 110.0)])
    if engine == "device":
        reader = DeviceCropReader(content, "eager", "torch", masks=True)
    else:
        reader = create_crop_reader(content, HandConfig(handos_engine=engine, handos_masks=True), "cpu")
    (torch_answer, _), (numpy_answer, _) = (
        read(crops) for read in (reader, create_crop_reader(content, HandConfig(handos_masks=True), "cpu"))
    )
    assert not caplog.records, "no engine was replaced"
    # On its way to a device the landmark network runs in torch too, and what it says differs a little.
    atol = 5e-3 if engine == "device" else 1e-4
    for ours, theirs in zip(_masks(torch_answer), _masks(numpy_answer)):
        assert ours[0].shape == (56, 56, 3) and ours[1].shape == (778,)
        assert np.ptp(theirs[0][..., 1]) > 0.9 and np.ptp(theirs[1]) > 1e-3, "they say something"
        for one, other in zip(ours, theirs):
            np.testing.assert_allclose(one, other, atol=atol)


def test_masks_come_with_a_torch_engine_and_need_heads(tmp_path):
    config = HandConfig(estimator="handos", handos_masks=True, handos_engine="eager")
    hand = create_hand_estimator(config, "cpu").estimate(frame(draw_hand("right")))[0]
    assert hand.segments.shares.shape == (56, 56, 3) and hand.contact.shape == (778,)
    torch.manual_seed(0)
    save_weights(tmp_path / "w.npz", HandOs(replace(COMPACT, coarse_vertices=24), topology()), {})
    with pytest.raises(InputError, match="no such heads"):
        create_hand_estimator(
            HandConfig(estimator="handos", handos_masks=True, handos_weights=str(tmp_path / "w.npz")), "cpu"
        )

"""The embedded estimator on drawn hands: found, followed, mirrored, and never upset by a bad frame."""

from pathlib import Path

import numpy as np
import pytest
from drawn_hand import draw_hand

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.geometry import project
from hoi_ros.hand import HandConfig, choose_estimator, create_hand_estimator
from hoi_ros.hand.landmarks import LandmarkNetwork, merge_heads
from hoi_ros.hand.regions import HandRegion

CENTER, SIZE = np.array([320.0, 240.0]), 220.0


def frame(color: np.ndarray, time_s: float = 0.0, index: int = 0) -> RgbdFrame:
    height, width = color.shape[:2]
    return RgbdFrame(color, CameraIntrinsics.from_fov(max(width, 1), max(height, 1)), int(time_s * 1e9), index)


@pytest.fixture(scope="module")
def shared():
    return create_hand_estimator(HandConfig(estimator="embedded"), "cpu")


@pytest.fixture
def estimator(shared):
    shared.reset()
    return shared


@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("turn", [0.0, -1.0, 3.0])
def test_a_drawn_hand_is_found(estimator, side, turn, independent):
    hands = estimator.estimate(frame(draw_hand(side, turn_rad=turn)), independent=independent)
    assert [hand.handedness for hand in hands] == [side]
    hand = hands[0]
    assert hand.score > 0.8
    assert np.abs((hand.box_px[:2] + hand.box_px[2:]) / 2 - CENTER).max() < 40
    # 220 px for 0.18 m under a 554 px focal length.
    assert 0.3 < hand.joints_camera[9, 2] < 0.62
    assert hand.joints_px.shape == (21, 2) and hand.vertices_camera.shape[1] == 3
    assert estimator.faces(side).max() < len(hand.vertices_camera)
    assert len(hand.joint_angles) == len(estimator.joint_angle_names)
    camera = CameraIntrinsics.from_fov(640, 480)
    np.testing.assert_allclose(project(hand.joints_camera, camera), hand.joints_px, atol=1e-6)


def test_fingers_are_where_they_were_drawn(estimator):
    joints = estimator.estimate(frame(draw_hand("right")), independent=True)[0].joints_px
    assert joints[12, 1] < joints[9, 1] - 40 < joints[0, 1] - 40, "middle finger points up"
    assert joints[4, 0] > joints[20, 0] + 60, "palm to the camera, the right thumb is on the right"


def test_a_mirrored_picture_has_the_other_hand(estimator):
    picture = draw_hand("right", turn_rad=0.4)
    hand = estimator.estimate(frame(picture), independent=True)[0]
    other = estimator.estimate(frame(np.ascontiguousarray(picture[:, ::-1])), independent=True)[0]
    assert (hand.handedness, other.handedness) == ("right", "left")
    mirrored = other.joints_px * [-1, 1] + [639, 0]
    assert np.linalg.norm(mirrored - hand.joints_px, axis=1).mean() < 8


def test_two_hands_are_followed_through_a_miss(estimator):
    blank = draw_hand("left", center=(-500, 0))
    for i in range(12):
        picture = draw_hand("left", center=(170 + 4 * i, 230), hand_px=190)
        picture = draw_hand("right", center=(480 - 3 * i, 250), hand_px=190, color=picture)
        hands = estimator.estimate(frame(blank if i in (7, 8) else picture, i / 30, i))
        if i == 6:
            before = {hand.track_id: hand.handedness for hand in hands}
    after = {hand.track_id: hand.handedness for hand in hands}
    assert sorted(before.values()) == ["left", "right"]
    assert before == after
    places = {hand.handedness: hand.joints_px[9, 0] for hand in hands}
    assert places["left"] < places["right"]


def test_smoothing_calms_and_can_be_turned_off(estimator):
    rng = np.random.default_rng(0)
    pictures = [
        np.clip(
            draw_hand("right", center=tuple(CENTER + rng.normal(0, 1.5, 2))) + rng.normal(0, 4, (480, 640, 3)), 0, 255
        )
        for _ in range(14)
    ]

    def wander(config):
        user = create_hand_estimator(config, "cpu")
        rows = [user.estimate(frame(p.astype(np.uint8), i / 30, i)) for i, p in enumerate(pictures)]
        return np.std([hands[0].joints_px for hands in rows[4:]], 0).mean()

    assert wander(HandConfig(estimator="embedded")) < 0.8 * wander(HandConfig(estimator="embedded", smoothing=False))


@pytest.mark.parametrize("shape", [(480, 640), (1, 1), (2, 3), (1, 700), (300, 2), (3000, 4000)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_plain_frames_hold_no_hand(estimator, shape, value):
    for independent in (False, True):
        assert estimator.estimate(frame(np.full((*shape, 3), value, np.uint8)), independent=independent) == []


def test_an_empty_frame_and_noise_are_survived(estimator):
    assert estimator.estimate(frame(np.zeros((0, 5, 3), np.uint8))) == []
    noise = np.random.default_rng(1).integers(0, 256, (240, 320, 3)).astype(np.uint8)
    assert isinstance(estimator.estimate(frame(noise)), list)


def test_frames_that_change_size_and_clocks_that_run_back(estimator):
    picture = draw_hand("right")
    for i, time_s in enumerate((1.0, 1.03, 0.2, 0.2, 1e6, -3.0)):
        assert len(estimator.estimate(frame(picture, time_s, i))) == 1
        estimator.estimate(frame(np.zeros((1, 1, 3), np.uint8), time_s, i))
    half = np.ascontiguousarray(picture[::2, ::2])
    hands = [estimator.estimate(frame(half, -2.0 + i / 30)) for i in range(4)][-1]
    assert len(hands) == 1 and hands[0].box_px[2] < 260


def test_a_backwards_clock_starts_anew(estimator):
    for i in range(5):
        before = estimator.estimate(frame(draw_hand("right", center=(200, 240)), 10 + i / 30))[0]
    here = draw_hand("right", center=(212, 246))
    jumped = estimator.estimate(frame(here, 1.0))[0]
    estimator.reset()
    np.testing.assert_array_equal(jumped.joints_px, estimator.estimate(frame(here, 1.0))[0].joints_px)
    assert jumped.track_id != before.track_id


def test_single_pictures_leave_no_trace(estimator):
    picture = draw_hand("right")
    first = estimator.estimate(frame(picture), independent=True)[0]
    second = estimator.estimate(frame(picture), independent=True)[0]
    assert first.track_id != second.track_id
    np.testing.assert_array_equal(first.joints_camera, second.joints_camera)


def test_a_hand_that_fills_the_picture_is_found(estimator):
    picture = draw_hand("right", size=(200, 200), center=(100, 100), hand_px=215)
    assert len(estimator.estimate(frame(picture), independent=True)) == 1


def test_region_turn_is_undone_in_three_dimensions():
    network = LandmarkNetwork()
    picture = draw_hand("right")
    region = HandRegion(CENTER - [0, 10], 300.0, 0.0)
    straight, slanted = network.read(picture, [region, HandRegion(region.center_px, 300.0, 0.4)])
    assert np.linalg.norm(straight.landmarks_px - slanted.landmarks_px, axis=1).mean() < 8
    assert np.linalg.norm((straight.world_landmarks - slanted.world_landmarks)[:, :2], axis=1).mean() < 0.008
    assert network.read(picture, []) == []


def test_heads_that_agree_are_kept_and_scale_does_not_matter():
    world = np.random.default_rng(2).normal(0, 0.05, (21, 3))
    world -= world.mean(0)
    np.testing.assert_allclose(merge_heads(world * 700 + 3, world), world, atol=1e-12)
    np.testing.assert_allclose(merge_heads(np.zeros((21, 3)), world + 1), world, atol=1e-12)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'embedded'"):
        create_hand_estimator(HandConfig(estimator="embeded"))
    with pytest.raises(InputError, match="device"):
        create_hand_estimator(HandConfig(), "gpu")


def test_a_missing_mano_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"MANO_RIGHT\.pkl"):
        create_hand_estimator(HandConfig(hand_model=str(tmp_path / "MANO_RIGHT.pkl")), "cpu")


def test_auto_is_handos_unless_a_camera_waits_on_a_cpu_or_a_hand_model_is_given():
    assert choose_estimator(HandConfig()) == "handos"
    assert choose_estimator(HandConfig(), "cpu", live=True) == "embedded"
    assert choose_estimator(HandConfig(handos_detector="d"), "cpu", live=True) == "handos"
    assert choose_estimator(HandConfig(handos_masks=True), "cpu", live=True) == "handos"
    assert choose_estimator(HandConfig(estimator="handos"), "cpu", live=True) == "handos"
    with pytest.raises(InputError, match="handos_masks with estimator 'embedded'"):
        choose_estimator(HandConfig(estimator="embedded", handos_masks=True))
    assert choose_estimator(HandConfig(hand_model="MANO_RIGHT.pkl")) == "embedded"
    assert choose_estimator(HandConfig(hand_model="MANO_RIGHT.pkl", handos_weights="mine.npz")) == "handos"
    assert choose_estimator(HandConfig(estimator="embedded")) == "embedded"

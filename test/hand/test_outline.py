"""Distance from the outline of a hand's mask: sizes are found, held things and arms say nothing, depth wins."""

import cv2
import numpy as np
import pytest
from drawn_hand import draw_hand
from hand_scenes import CAMERA, see, some_angles

from hoi_ros.datatypes import CameraIntrinsics, HandSegments, RgbdFrame
from hoi_ros.geometry import project
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.hand.outline import LARGEST_FACTOR, OutlineFactor, _distance, _grown_onto, outline_factor
from hoi_ros.hand_model import HandModel

SIDE = 56


@pytest.fixture(scope="module")
def model() -> HandModel:
    return HandModel.load()


def seen_hand(model: HandModel, seed: int, side: str = "right") -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 2) and joints (21, 2) of a hand, pixels."""
    rng = np.random.default_rng(seed)
    seen = see(model, some_angles(model, rng, 0.4), rng, side)
    return project(seen.vertices, CAMERA), project(seen.joints, CAMERA)


def mask_of(pixels: np.ndarray, faces: np.ndarray, factor: float, angle_rad: float = 0.5) -> HandSegments:
    """What a perfect network says of the hand when it is `factor` times as large in the image."""
    middle = pixels.mean(0)
    size = 1.6 * float(np.ptp(pixels, axis=0).max())
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    side = 8 * SIDE
    places = ((factor * (pixels - middle)) @ np.array([[c, -s], [s, c]])) * (side / size) + (side - 1) / 2
    drawn = np.zeros((side, side), np.float32)
    for corners in np.rint(places[faces]).astype(np.int32):
        cv2.fillConvexPoly(drawn, corners, 1.0)
    hand = cv2.resize(drawn, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return HandSegments(np.stack([1 - hand, hand, 0 * hand], -1), middle, size, angle_rad)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("factor", [0.88, 1.0, 1.12])
def test_the_size_of_a_mask_is_found(model, side, factor):
    for seed in range(4):
        pixels, _ = seen_hand(model, seed, side)
        found = outline_factor(mask_of(pixels, model.right_faces, factor), pixels, model.right_faces)
        assert found == pytest.approx(factor, rel=0.015)


def in_square(points: np.ndarray, segments: HandSegments) -> np.ndarray:
    """Pixels of the image in those of an unturned mask."""
    return (points - segments.center_px) * (SIDE / segments.size_px) + (SIDE - 1) / 2


def test_what_is_held_hides_a_part_and_says_nothing_of_the_size(model):
    """Half of the fingers lie behind a thing: its border with the hand is not the hand's own outline."""
    for seed in range(6):
        pixels, joints = seen_hand(model, seed)
        segments = mask_of(pixels, model.right_faces, 1.1, angle_rad=0.0)
        wrist, knuckles, ends = in_square(np.stack([joints[0], joints[9], joints[12]]), segments)
        along = (knuckles - wrist) / np.linalg.norm(knuckles - wrist)
        rows, columns = np.mgrid[:SIDE, :SIDE]
        beyond = np.stack([columns, rows], -1) @ along > max((knuckles + 0.3 * (ends - knuckles)) @ along, 0)
        shares = segments.shares.copy()
        shares[beyond] = [0, 0, 1]
        held = HandSegments(shares, segments.center_px, segments.size_px, 0.0)
        assert outline_factor(held, pixels, model.right_faces) == pytest.approx(1.1, rel=0.025)


def test_an_arm_in_the_mask_does_not_change_the_hands_size(model):
    for seed in range(6):
        pixels, joints = seen_hand(model, seed)
        segments = mask_of(pixels, model.right_faces, 1.0, angle_rad=0.0)
        back = joints[0] - joints[9]
        line = np.rint(in_square(np.stack([joints[0], joints[0] + back]), segments)).astype(int)
        arm = cv2.line(np.zeros((SIDE, SIDE), np.uint8), line[0].tolist(), line[1].tolist(), 1, 16) > 0
        shares = segments.shares.copy()
        shares[arm] = [0, 1, 0]
        longer = HandSegments(shares, segments.center_px, segments.size_px, 0.0)
        found = outline_factor(longer, pixels, model.right_faces)
        assert found == pytest.approx(1.0, abs=0.02)


def test_nothing_is_said_without_a_mask_or_far_from_it(model):
    pixels, _ = seen_hand(model, 2)
    segments = mask_of(pixels, model.right_faces, 1.0)
    empty = HandSegments(0 * segments.shares, segments.center_px, segments.size_px, segments.angle_rad)
    assert outline_factor(empty, pixels, model.right_faces) is None
    away = HandSegments(segments.shares, segments.center_px + 400, segments.size_px, segments.angle_rad)
    assert outline_factor(away, pixels, model.right_faces) is None
    assert outline_factor(segments, np.full_like(pixels, np.nan), model.right_faces) is None


@pytest.mark.parametrize("factor", [0.9, 1.1, 1.25, 1.35, 0.7])
def test_no_growth_beyond_what_hands_and_distances_differ_by_is_believed(factor):
    """An oval, drawn larger or smaller than its points lie."""
    turn = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    points = 100 + np.stack([50 * np.cos(turn), 30 * np.sin(turn)], 1)
    drawn = cv2.ellipse(
        np.zeros((201, 201), np.uint8), (100, 100), (round(50 * factor), round(30 * factor)), 0, 0, 360, 1, -1
    )
    found = _grown_onto(points, np.zeros(80), _distance(drawn), np.zeros(drawn.shape, np.float32), 40.0)
    if 1 / LARGEST_FACTOR < factor < LARGEST_FACTOR:
        assert found == pytest.approx(factor, rel=0.03)
    else:
        assert found is None


def test_a_track_averages_at_first_and_follows_later():
    belief = OutlineFactor()
    for factor in (1.2, 1.0, 1.2, 1.0):
        belief = belief.updated(factor, 1 / 30)
    assert 1.0 < belief.factor < 1.2
    for _ in range(60):
        belief = belief.updated(0.9, 1 / 30)
    assert belief.factor == pytest.approx(0.9, rel=1e-3)


@pytest.mark.parametrize("independent", [False, True])
def test_the_estimator_moves_a_hand_along_its_line_of_sight_alone(independent, monkeypatch):
    """The mesh and its angles stay; where depth placed the hand, or on request, the outline says nothing."""
    monkeypatch.setattr("hoi_ros.hand.handos_estimator.outline_factor", lambda *_: 1.1)
    color = draw_hand("left", turn_rad=0.3)
    camera = CameraIntrinsics.from_fov(640, 480)

    def read(depth_m: np.ndarray | None = None, **settings):
        estimator = create_hand_estimator(HandConfig(estimator="handos", **settings), "cpu")
        return estimator.estimate(RgbdFrame(color, camera, 0, 0, depth_m), independent=independent)[0]

    plain, moved = read(), read(handos_masks=True)
    off = read(handos_masks=True, outline_distance=False)
    np.testing.assert_allclose(off.joints_camera, plain.joints_camera, atol=1e-6)
    middle = plain.joints_camera.mean(0)
    shift = moved.joints_camera - plain.joints_camera
    np.testing.assert_allclose(shift, np.tile(middle / 1.1 - middle, (21, 1)), atol=1e-6)
    np.testing.assert_allclose(moved.vertices_camera - plain.vertices_camera, shift[:1].repeat(778, 0), atol=1e-5)
    np.testing.assert_allclose(moved.T_camera_wrist[:3, 3] - plain.T_camera_wrist[:3, 3], shift[0], atol=1e-6)
    np.testing.assert_allclose(project(moved.joints_camera, camera), moved.joints_px, atol=1e-6)
    wall = np.full(color.shape[:2], 0.6, np.float32)
    measured = [read(wall, handos_masks=True, outline_distance=on) for on in (True, False)]
    assert measured[0].depth_used
    np.testing.assert_array_equal(measured[0].joints_camera, measured[1].joints_camera)

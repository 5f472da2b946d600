"""Metric placement: depth gives the distance and wins over the mean size; without it the mean size does."""

import numpy as np
import pytest
from hand_scenes import CAMERA, Seen, see, some_angles

from hoi_ros.hand.fit import FitConfig, HandFitter
from hoi_ros.hand.placement import SIZE_SIGMA, SizeBelief, measure, place, visible_faces
from hoi_ros.hand_model import HandModel


@pytest.fixture(scope="module")
def model() -> HandModel:
    return HandModel.load()


def depth_of(vertices: np.ndarray, faces: np.ndarray, background: float = 1.2) -> np.ndarray:
    """Depth image of a mesh: every face is splatted at many points, the nearest wins."""
    corners = vertices[faces]
    a, b = np.meshgrid(np.linspace(0, 1, 25), np.linspace(0, 1, 25))
    inside = a + b <= 1
    weights = np.stack([1 - a - b, a, b], -1)[inside]
    points = np.einsum("pk,fkc->fpc", weights, corners).reshape(-1, 3)
    u = np.rint(points[:, 0] / points[:, 2] * CAMERA.fx + CAMERA.cx).astype(int)
    v = np.rint(points[:, 1] / points[:, 2] * CAMERA.fy + CAMERA.cy).astype(int)
    keep = (u >= 0) & (v >= 0) & (u < CAMERA.width) & (v < CAMERA.height)
    depth = np.full((CAMERA.height, CAMERA.width), background)
    np.minimum.at(depth, (v[keep], u[keep]), points[keep, 2])
    return depth.astype(np.float32)


def open_hand(model: HandModel, seed: int, side: str = "right", scale: float = 1.0) -> Seen:
    rng = np.random.default_rng(seed)
    return see(model, some_angles(model, rng, 0.3), rng, side, scale)


@pytest.mark.parametrize("side", ["right", "left"])
def test_depth_recovers_the_translation(model, side):
    fitter = HandFitter(model)
    for seed in range(5):
        seen = open_hand(model, seed, side)
        depth = depth_of(seen.vertices, model.faces(side))
        fit = fitter.fit(seen.pixels, seen.world, side, CAMERA, depth)
        assert fit.depth_used and fit.sigma_m < 0.01
        assert np.linalg.norm((fit.joints_camera - seen.joints).mean(0)) < 5e-3


@pytest.mark.parametrize("scale", [0.75, 1.25])
def test_depth_wins_over_the_size_prior(model, scale):
    fitter, state = HandFitter(model), None
    seen = open_hand(model, 11, scale=scale)
    depth = depth_of(seen.vertices, model.faces("right"))
    blind = fitter.fit(seen.pixels, seen.world, "right", CAMERA)
    assert abs(blind.joints_camera[:, 2].mean() / seen.joints[:, 2].mean() - 1) > 0.15
    for _ in range(5):
        fit = fitter.fit(seen.pixels, seen.world, "right", CAMERA, depth, state)
        assert np.linalg.norm((fit.joints_camera - seen.joints).mean(0)) < 8e-3
        state = fit.state
    assert fit.scale == pytest.approx(scale, rel=0.03)
    after = fitter.fit(seen.pixels, seen.world, "right", CAMERA, None, state)  # the sensor drops a frame
    assert not after.depth_used
    assert np.linalg.norm((after.joints_camera - seen.joints).mean(0)) < 0.04 * seen.joints[0, 2]


def test_sigma_without_depth_covers_peoples_sizes(model):
    seen = open_hand(model, 12)
    fit = HandFitter(model).fit(seen.pixels, seen.world, "right", CAMERA)
    assert not fit.depth_used
    assert fit.sigma_m / fit.joints_camera[:, 2].mean() == pytest.approx(SIZE_SIGMA, rel=0.2)


@pytest.mark.parametrize("where", ["nearer", "farther", "holes"])
def test_half_a_hand_is_enough(model, where):
    """An object before the fingers, depth from behind them, or no depth there: the palm's own skin decides."""
    seen = open_hand(model, 13)
    depth = depth_of(seen.vertices, model.faces("right"))
    fingers = int(seen.pixels[[6, 10, 14, 18], 1].mean())
    rows = slice(0, fingers) if seen.pixels[0, 1] > fingers else slice(fingers, None)
    depth[rows] = {"nearer": 0.8 * seen.joints[0, 2], "farther": 1.2, "holes": 0}[where]
    fit = HandFitter(model).fit(seen.pixels, seen.world, "right", CAMERA, depth)
    assert fit.depth_used
    assert abs((fit.joints_camera - seen.joints)[:, 2].mean()) < 8e-3


@pytest.mark.parametrize("depth", [np.zeros((480, 640)), np.full((480, 640), np.nan), np.zeros((1, 1))])
def test_no_usable_depth_falls_back_to_size(model, depth):
    seen = open_hand(model, 14)
    fit = HandFitter(model).fit(seen.pixels, seen.world, "right", CAMERA, depth.astype(np.float32))
    blind = HandFitter(model).fit(seen.pixels, seen.world, "right", CAMERA)
    assert not fit.depth_used
    np.testing.assert_array_equal(fit.joints_camera, blind.joints_camera)


def test_visible_faces_look_at_the_camera_and_few_are_hidden(model):
    rng = np.random.default_rng(15)
    seen = see(model, some_angles(model, rng), rng)
    near = visible_faces(seen.vertices, model.faces("right"), CAMERA)
    depth = depth_of(seen.vertices, model.faces("right"))
    u = np.rint(near[:, 0] / near[:, 2] * CAMERA.fx + CAMERA.cx).astype(int)
    v = np.rint(near[:, 1] / near[:, 2] * CAMERA.fy + CAMERA.cy).astype(int)
    inside = (u >= 0) & (v >= 0) & (u < CAMERA.width) & (v < CAMERA.height)
    assert inside.sum() > 150
    assert (np.abs(depth[v[inside], u[inside]] - near[inside, 2]) < 0.012).mean() > 0.95


def test_the_factor_scales_with_the_depth(model):
    seen = open_hand(model, 16)
    depth = depth_of(seen.vertices, model.faces("right"))
    one = measure(seen.vertices, model.faces("right"), CAMERA, depth)
    two = measure(seen.vertices, model.faces("right"), CAMERA, 1.1 * depth)
    assert one is not None and two is not None
    assert one.factor == pytest.approx(1, abs=0.005)
    assert two.factor == pytest.approx(1.1 * one.factor, rel=1e-3)


def test_belief_sharpens_and_the_first_depth_nearly_replaces_the_mean(model):
    belief = SizeBelief().updated(np.log(1.3))
    assert belief.measured and belief.scale == pytest.approx(1.3, rel=0.01)
    for _ in range(20):
        sharper = belief.updated(np.log(1.3))
        assert sharper.sigma <= belief.sigma
        belief = sharper
    placed = place(open_hand(model, 17).vertices, model.faces("right"), CAMERA, None, belief)
    assert placed.scale == belief.scale and not placed.depth_used


def test_depth_corrects_the_joints_too(model):
    """Landmarks whose third dimension is wrong: the depth image bends the fingers back."""
    bent, blind = [], []
    for seed in range(20, 26):
        seen = open_hand(model, seed)
        wrong = seen.world * [1, 1, 0.4]
        depth = depth_of(seen.vertices, model.faces("right"))
        for config, errors in ((FitConfig(), bent), (FitConfig(depth_sigma_m=0.0), blind)):
            fit = HandFitter(model, config).fit(seen.pixels, wrong, "right", CAMERA, depth)
            errors.append(np.linalg.norm(fit.joints_camera - seen.joints, axis=1).mean())
    assert np.mean(bent) < 0.75 * np.mean(blind)
    assert np.mean(bent) < 0.01

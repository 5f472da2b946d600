"""Laws of the pose graph: composition, inverse, gauge; wrong motions are found out."""

import numpy as np
import pytest

from hoi_ros.geometry import invert_transform, make_transform, rotation_angle, se3_exp, se3_log, so3_exp
from hoi_ros.tracking.pointmap_motion import MotionEdge
from hoi_ros.tracking.pose_graph import PoseGraphConfig, information_about, optimise_poses

CENTER = np.array([0.0, 0.0, 0.5])
INFORMATION = information_about(np.diag([0.001**-2] * 3 + [np.radians(0.3) ** -2] * 3), CENTER)


def turntable(count=24):
    """True poses (K, 4, 4) of views of a thing that turns once around."""
    angles = np.arange(count) * 2 * np.pi / count
    turns = so3_exp(angles[:, None] * np.array([0.1, 1.0, 0.2]) / np.linalg.norm([0.1, 1.0, 0.2]))
    return make_transform(turns, np.array([0.01, 0.0, 0.5]) + 0.02 * np.sin(angles)[:, None])


def edge(poses, first, second, noise=None, information=INFORMATION):
    """Motion between two views, with an error (6,) about the thing's middle."""
    motion = poses[first] @ invert_transform(poses[second])
    if noise is not None:
        middle = make_transform(np.eye(3), CENTER)
        motion = motion @ middle @ se3_exp(np.asarray(noise, float)) @ invert_transform(middle)
    return MotionEdge(first, second, motion, information)


def drifting(poses, rng, sigma_deg=0.5):
    """Chain of motions with errors, and the poses that it adds up to from the first on."""
    noise = rng.normal(size=(len(poses), 6)) * ([0.0005] * 3 + [np.radians(sigma_deg)] * 3)
    noise[:, 4] += np.radians(0.5)
    chain = [edge(poses, i, i - 1, noise[i]) for i in range(1, len(poses))]
    out = [poses[0]]
    for one in chain:
        out.append(one.T_first_second @ out[-1])
    return chain, np.stack(out)


def errors(poses, truth):
    """(K, 2) millimetres and degrees, tied at the first view."""
    found = poses @ invert_transform(poses[0]) @ truth[0]
    turn = np.degrees(rotation_angle(found[:, :3, :3] @ np.swapaxes(truth[:, :3, :3], 1, 2)))
    return np.stack([1e3 * np.linalg.norm(found[:, :3, 3] - truth[:, :3, 3], axis=1), turn], 1)


def test_a_closed_loop_spreads_the_drift_over_the_chain():
    truth = turntable()
    chain, start = drifting(truth, np.random.default_rng(0))
    # Drift goes one way, so that a chain is less sure than its motions are each.
    chain = [MotionEdge(e.first, e.second, e.T_first_second, e.information / 9) for e in chain]
    result = optimise_poses(start, [*chain, edge(truth, 0, 23)], [True] * 23 + [False])
    before, after = errors(start, truth)[:, 1], errors(result.poses, truth)[:, 1]
    assert before[-1] > 8 and after[-1] < 0.5 and after.max() < 0.3 * before.max()
    assert result.converged and result.weights[-1] == 1


def test_exact_motions_give_the_exact_poses_from_any_start():
    truth = turntable(8)
    edges = [edge(truth, i, j) for i in range(8) for j in range(i)]
    rng = np.random.default_rng(1)
    start = truth @ se3_exp(rng.normal(size=(8, 6)) * ([0.02] * 3 + [0.3] * 3))
    start[0] = truth[0]
    result = optimise_poses(start, edges)
    np.testing.assert_allclose(result.poses, truth, atol=1e-6)
    assert (result.weights == 1).all() and result.errors.max() < 1e-2


def test_composition_two_motions_in_a_row_are_their_product():
    truth = turntable(3)
    middle = se3_exp(np.array([0.01, 0, 0, 0, 0.2, 0])) @ truth[1]
    start = np.stack([truth[0], middle, truth[2]])
    result = optimise_poses(start, [edge(truth, 1, 0), edge(truth, 2, 1)])
    np.testing.assert_allclose(
        result.poses[2] @ invert_transform(result.poses[0]),
        edge(truth, 2, 1).T_first_second @ edge(truth, 1, 0).T_first_second,
        atol=1e-7,
    )


def said_backwards(one):
    """The same motion and the same certainty, as seen from the other view."""
    back = invert_transform(one.T_first_second)
    columns = [se3_log(back @ se3_exp(1e-4 * axis) @ one.T_first_second) / 1e-4 for axis in np.eye(6)]
    adjoint = np.stack(columns, 1)  # of twists in the first view's frame, seen from the second's
    return MotionEdge(one.second, one.first, back, adjoint.T @ one.information @ adjoint)


def test_inverse_a_motion_said_backwards_is_the_same():
    truth = turntable(6)
    chain, start = drifting(truth, np.random.default_rng(2))
    loop, config = edge(truth, 5, 0), PoseGraphConfig(limit=100.0)
    forth = optimise_poses(start, [*chain, loop], config=config).poses
    back = optimise_poses(start, [*map(said_backwards, chain), said_backwards(loop)], config=config).poses
    assert errors(forth, start)[:, 1].max() > 1
    np.testing.assert_allclose(back, forth, atol=1e-4)


def test_gauge_moving_the_camera_of_the_first_guess_or_the_object_frame_changes_nothing_but_the_frame():
    truth = turntable(10)
    chain, start = drifting(truth, np.random.default_rng(3))
    edges, trusted = [*chain, edge(truth, 0, 9)], [True] * 10
    frame = se3_exp(np.array([0.1, -0.2, 0.05, 0.4, 1.0, -0.7]))
    plain, framed = optimise_poses(start, edges, trusted), optimise_poses(start @ frame, edges, trusted)
    assert errors(plain.poses, start)[:, 1].max() > 1, "the loop moves the views"
    np.testing.assert_allclose(framed.poses, plain.poses @ frame, atol=1e-6)
    np.testing.assert_array_equal(plain.poses[0], start[0])
    other = optimise_poses(start, edges, trusted, fixed=4)
    np.testing.assert_allclose(other.poses[4], start[4], atol=1e-9)
    tied = other.poses @ invert_transform(other.poses[0]) @ plain.poses[0]
    np.testing.assert_allclose(tied, plain.poses, atol=1e-5)


@pytest.mark.parametrize("wrong_deg", [20.0, 40.0, 170.0])
@pytest.mark.parametrize("wrong", [1, 4])
def test_wrong_loop_motions_are_left_aside_and_right_ones_kept(wrong_deg, wrong):
    truth = turntable()
    rng = np.random.default_rng(4)
    chain, start = drifting(truth, rng, 0.3)
    right = [edge(truth, i, j) for i, j in ((0, 23), (1, 22), (2, 23), (12, 10), (6, 3))]
    bad = [
        edge(truth, 3 + 2 * i, 16 - i, np.r_[rng.normal(size=3) * 0.01, np.radians(wrong_deg) * axis])
        for i, axis in enumerate(np.roll(np.eye(3), 1, 0)[[0, 1, 2, 0]][:wrong])
    ]
    chain = [MotionEdge(e.first, e.second, e.T_first_second, INFORMATION / 9) for e in chain]
    result = optimise_poses(start, [*chain, *bad, *right], [True] * 23 + [False] * (wrong + 5))
    assert (result.weights[23 : 23 + wrong] == 0).all()
    assert (result.weights[23 + wrong :] == 1).all()
    assert errors(result.poses, truth)[:, 1].max() < 2.5


def test_a_wrong_motion_alone_does_not_bend_the_chain():
    truth = turntable()
    chain = [edge(truth, i, i - 1) for i in range(1, 24)]
    bad = edge(truth, 0, 12, np.array([0, 0, 0, 0, np.radians(60), 0]))
    result = optimise_poses(truth, [*chain, bad], [True] * 23 + [False], config=PoseGraphConfig(limit=4.0))
    assert result.weights[-1] == 0
    np.testing.assert_allclose(result.poses, truth, atol=1e-6)


def test_same_input_same_output_and_nothing_to_do_changes_nothing():
    truth = turntable()
    chain, start = drifting(truth, np.random.default_rng(5))
    edges = [*chain, edge(truth, 0, 23)]
    np.testing.assert_array_equal(optimise_poses(start, edges).poses, optimise_poses(start, edges).poses)
    np.testing.assert_array_equal(optimise_poses(start, []).poses, start)
    alone = optimise_poses(start[:5], [edge(truth, 1, 0), edge(truth, 3, 0)])
    np.testing.assert_allclose(alone.poses[[2, 4]], start[[2, 4]], atol=1e-12)


def test_edges_that_name_no_view_and_poses_that_are_not_finite_are_refused():
    truth = turntable(4)
    with pytest.raises(ValueError, match="4 views"):
        optimise_poses(truth, [MotionEdge(0, 4, np.eye(4), INFORMATION)])
    with pytest.raises(ValueError, match="4 views"):
        optimise_poses(truth, [MotionEdge(2, 2, np.eye(4), INFORMATION)])
    broken = truth.copy()
    broken[1, 0, 3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        optimise_poses(broken, [edge(truth, 1, 0)])

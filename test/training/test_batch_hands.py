"""Batched hands: the hand model's own vertices and normals, poses of the same distribution, chance that repeats."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hoi_ros.geometry import so3_exp, vertex_normals
from hoi_ros.hand_model import HandModel
from hoi_ros.training.batch_chance import Chance
from hoi_ros.training.batch_hands import BatchHands, SmoothNormals, turns_about
from hoi_ros.training.batch_poses import draw_angles, draw_hands
from hoi_ros.training.hand_poses import KINDS, sample_angles, sample_hands

LEVELS = [0.1, 0.3, 0.7, 0.9]


@pytest.fixture(scope="module")
def model():
    return HandModel.load()


@pytest.fixture(scope="module")
def hands(model):
    return BatchHands(model)


def test_batched_hands_are_the_models(model, hands):
    rng = np.random.default_rng(0)
    low, high = model.joint_limits.T
    angles, shape = rng.uniform(low, high, (9, len(low))), rng.normal(0, 1, (9, 10))
    right, scale = rng.random(9) < 0.5, rng.uniform(0.8, 1.2, 9)
    posed = hands.pose(*(torch.tensor(x, dtype=torch.float32) for x in (angles, shape)), torch.tensor(right),
                       torch.tensor(scale, dtype=torch.float32))  # fmt: skip
    normals = SmoothNormals(model.right_faces, model.vertex_count)(posed.vertices)
    for k in range(9):
        side = "right" if right[k] else "left"
        one = model.pose(angles[k : k + 1], shape[k : k + 1], side, scale[k])
        np.testing.assert_allclose(posed.vertices[k], one.vertices[0], atol=2e-6)
        np.testing.assert_allclose(posed.joints[k], one.joints[0], atol=2e-6)
        theirs = vertex_normals(one.vertices[0].astype(float), model.right_faces)
        np.testing.assert_allclose(normals[k], theirs, atol=2e-3)


def test_drawn_poses_are_distributed_as_those_drawn_one_by_one(model, hands):
    """The same shares of each kind, quantiles of every angle within what chance explains, pairs of angles too."""
    rng, chance, count = np.random.default_rng(1), Chance("cpu", 1), 12000
    for kind in range(len(KINDS)):
        ours = draw_angles(hands, chance, torch.full((count,), kind)).numpy()
        theirs = sample_angles(model, rng, np.full(count, kind))
        levels = np.quantile(ours, LEVELS, axis=0) - np.quantile(theirs, LEVELS, axis=0)
        assert np.abs(levels).max() < 0.08, KINDS[kind]
        keep = theirs.std(0) > 0.02
        gap = np.corrcoef(ours.T[keep]) - np.corrcoef(theirs.T[keep])
        assert np.abs(gap).max() < 0.09, KINDS[kind]


def test_drawn_hands_keep_clear_of_themselves_and_hold_as_often(model, hands):
    angles, shape, holds = draw_hands(hands, Chance("cpu", 2), 1500, 0.2)
    assert angles.shape == (1500, len(model.joint_angle_names)) and shape.abs().max() <= 2.5
    assert (angles >= hands.limits[:, 0]).all() and (angles <= hands.limits[:, 1]).all()
    tips = hands.joints(angles, shape)[:, 4::4]
    gap = torch.cdist(tips, tips) + torch.eye(5)
    assert gap.amin() > 0.009
    theirs = sample_hands(model, np.random.default_rng(3), 1500, 0.2)
    assert abs(float(holds.float().mean()) - theirs[2].mean()) < 0.05
    bent, other = angles[:, 8].numpy(), theirs[0][:, 8]
    assert np.abs(np.quantile(bent, [0.2, 0.5, 0.8]) - np.quantile(other, [0.2, 0.5, 0.8])).max() < 0.2


def test_chance_repeats_and_differs():
    a, b, c = (Chance("cpu", 3, step).normal(0, 1, 5) for step in (8, 8, 9))
    assert torch.equal(a, b) and not torch.equal(a, c)
    shares = torch.bincount(Chance("cpu", 1).kinds(np.array([0.2, 0.5, 0.3]), 20000)).numpy() / 20000
    np.testing.assert_allclose(shares, [0.2, 0.5, 0.3], atol=0.02)


def test_turns_are_the_geometrys():
    vectors = np.random.default_rng(0).normal(0, 1.5, (7, 3))
    turns = turns_about(torch.tensor(vectors, dtype=torch.float32))
    np.testing.assert_allclose(turns, np.stack([so3_exp(v) for v in vectors]), atol=1e-5)

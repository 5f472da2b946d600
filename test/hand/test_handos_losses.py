"""Loss terms on cases worked out by hand; truth costs nothing; missing truth asks for nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from handos_cases import topology

from hoi_ros.hand.handos import HAND_SPAN_M, HandOsOutput, project_joints
from hoi_ros.hand.losses import (
    OKS_FALLOFF,
    UNKNOWN_SEGMENT,
    HandOsLoss,
    HandTargets,
    LossWeights,
    contact_term,
    face_edges,
    face_normals,
    neighbouring_faces,
    segments_term,
)

CAMERA = torch.tensor([[1.0, 1.0, 0.5, 0.5]])
AWAY = torch.tensor([0.0, 0.0, 0.5])


def truth() -> HandTargets:
    vertices = torch.from_numpy(topology().template)[None, None]
    joints = torch.from_numpy(topology().regressor) @ vertices
    vertices, joints = vertices - joints.mean(2, keepdim=True), joints - joints.mean(2, keepdim=True)
    points = project_joints(joints + AWAY, CAMERA)
    boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.2]]])
    return HandTargets(points, torch.ones(1, 1, 21), boxes, torch.ones(1, 1, dtype=torch.bool), vertices, joints)


def answer(targets: HandTargets, shift: float = 0.0) -> HandOsOutput:
    vertices = targets.vertices + shift
    joints = targets.joints_3d + shift
    translation = AWAY.expand(1, 1, 3)
    points = project_joints(targets.joints_3d + AWAY, CAMERA)
    return HandOsOutput(points, vertices, joints, translation, points)


@pytest.fixture
def loss() -> HandOsLoss:
    return HandOsLoss(topology().faces)


def test_masks_cost_nothing_when_right_and_unknown_pixels_never():
    labels = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    right = 40.0 * torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2).float()
    assert segments_term(right, labels).item() == pytest.approx(0, abs=1e-4)
    wrong = right.roll(1, 1)
    assert segments_term(wrong, labels).item() > 10
    partly = labels.clone()
    partly[:, :, :4] = UNKNOWN_SEGMENT
    mixed = torch.cat([wrong[..., :4], right[..., 4:]], -1)
    assert segments_term(mixed, partly).item() == pytest.approx(0, abs=1e-4)
    nothing = torch.full_like(labels, UNKNOWN_SEGMENT)
    assert torch.isfinite(segments_term(wrong, nothing)) and segments_term(wrong, nothing).item() < 1e-3


def test_contact_where_it_is_unknown_asks_for_nothing():
    logits = torch.tensor([[[-30.0, 30.0, 7.0]]], requires_grad=True)
    solid = torch.ones(1, 1, dtype=torch.bool)
    term = contact_term(logits, torch.tensor([[[0.0, 1.0, float("nan")]]]), solid)
    assert term.item() == pytest.approx(0, abs=1e-6)
    term.backward()
    assert torch.isfinite(logits.grad).all() and logits.grad[0, 0, 2] == 0
    missed, invented = (contact_term(torch.zeros(1, 1, 1), torch.full((1, 1, 1), x), solid).item() for x in (1.0, 0.0))
    assert missed > 1.5 * invented
    assert contact_term(torch.full((1, 1, 1), 9.0), torch.zeros(1, 1, 1), ~solid).item() == 0


def test_the_papers_weights():
    w = LossWeights()
    assert (w.joints_2d, w.vertices, w.joints_3d, w.projected, w.edges) == (10, 10, 10, 10, 10)
    assert (w.oks_2d, w.oks_projected, w.normals, w.smoothness) == (4, 4, 5, 0.5)


def test_truth_costs_nothing_but_the_hands_own_roundness(loss):
    terms = loss.terms(answer(truth()), truth())
    for name, value in terms.items():
        if name != "smoothness":
            assert value.item() == pytest.approx(0, abs=2e-5), name
    assert 0.01 < terms["smoothness"].item() < 0.5


def test_a_shifted_mesh_costs_its_shift_and_keeps_edges_and_normals(loss):
    terms = loss.terms(answer(truth(), shift=0.01), truth())
    assert terms["vertices"].item() == pytest.approx(0.03 / HAND_SPAN_M, rel=1e-4)
    assert terms["joints_3d"].item() == pytest.approx(0.03 / HAND_SPAN_M, rel=1e-4)
    assert terms["edges"].item() == pytest.approx(0, abs=1e-5)
    assert terms["normals"].item() == pytest.approx(0, abs=1e-4)


def test_a_turned_mesh_leans_out_of_the_true_faces(loss):
    """Edges keep their lengths; turned by an angle about x, those across it lean by the angle's sine."""
    targets, angle = truth(), 0.3
    turn = torch.tensor([[1.0, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    turned = replace(answer(targets), vertices=targets.vertices @ turn.T.float())
    terms = loss.terms(turned, targets)
    assert 0.1 < terms["normals"].item() < np.sin(angle)
    assert terms["edges"].item() == pytest.approx(0, abs=1e-5)


def test_flat_terms_by_hand(loss):
    targets = truth()
    moved = replace(answer(targets), joints_2d=targets.joints_2d + torch.tensor([0.4 * OKS_FALLOFF, 0.0]))
    terms = loss.terms(moved, targets)
    assert terms["joints_2d"].item() == pytest.approx(OKS_FALLOFF, rel=1e-4)
    assert terms["oks_2d"].item() == pytest.approx(1 - np.exp(-0.5), rel=1e-4)


def test_unseen_joints_and_unknown_depth_ask_for_nothing(loss):
    targets = truth()
    some = torch.ones(1, 1, 21)
    some[..., 4] = 0
    moved = targets.joints_2d.clone()
    moved[..., 4, :] += 0.5
    terms = loss.terms(replace(answer(targets), joints_2d=moved), replace(targets, joint_weights=some))
    assert terms["joints_2d"].item() == pytest.approx(0, abs=1e-6)
    weak = replace(targets, has_3d=torch.zeros(1, 1, dtype=torch.bool))
    terms = loss.terms(answer(targets, shift=0.05), weak)
    assert terms["vertices"].item() == terms["edges"].item() == 0
    assert terms["smoothness"].item() > 0


def test_weak_supervision_moves_the_mesh(loss):
    """2D truth alone gives gradients to vertices and translation through the projection."""
    targets = replace(truth(), vertices=None, joints_3d=None, has_3d=torch.zeros(1, 1, dtype=torch.bool))
    full = truth()
    vertices = (full.vertices * 1.1).requires_grad_()
    translation = AWAY.expand(1, 1, 3).clone().requires_grad_()
    joints = torch.from_numpy(topology().regressor) @ vertices
    points = project_joints(joints + translation[:, :, None], CAMERA)
    total, terms = loss([HandOsOutput(points.detach(), vertices, joints, translation, points)], targets)
    assert "vertices" not in terms
    total.backward()
    assert vertices.grad.abs().sum() > 0 and translation.grad[..., 2].abs() > 0


def test_layers_are_averaged(loss):
    targets = truth()
    good, bad = answer(targets), answer(targets, shift=0.02)
    alone = [loss([x], targets)[0].item() for x in (good, bad)]
    assert loss([good, bad], targets)[0].item() == pytest.approx(sum(alone) / 2, rel=1e-5)


def test_normals_and_neighbours_of_a_tetrahedron():
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert len(neighbouring_faces(faces)) == 6
    normals = face_normals(vertices, torch.from_numpy(faces))
    torch.testing.assert_close(normals[0], torch.tensor([0.0, 0, -1]))
    torch.testing.assert_close(normals[2], torch.full((3,), 3**-0.5))
    assert face_edges(vertices, torch.from_numpy(faces)).norm(dim=-1)[0].tolist() == pytest.approx([1, 2**0.5, 1])


def test_a_closed_mesh_has_three_neighbours_a_face_over_two():
    assert len(neighbouring_faces(topology().faces)) == len(topology().faces) * 3 // 2

"""HandOS network: shapes, who sees whom, lifting, projection, sides, and the closed-form mesh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from handos_cases import COARSE, TINY, camera, detection, tiny_network, topology
from on_meta import run_on_meta

from hoi_ros.errors import InputError
from hoi_ros.hand.handos import HandOs, attention_mask, is_right_hand, project_joints
from hoi_ros.hand.handos_config import HandOsConfig
from hoi_ros.hand.handos_segments import evidence_at
from hoi_ros.hand.handos_topology import BONE_STARTS, build_topology, farthest_points
from hoi_ros.hand.mesh_from_joints import MeshFromJoints
from hoi_ros.hand_model import HandModel
from hoi_ros.training.shard_batches import moved


def posed_hands(count: int, side: str = "right", seed: int = 3):
    """Free hands in moderate poses."""
    model, rng = HandModel.load(), np.random.default_rng(seed)
    low, high = model.joint_limits.T
    angles = np.clip(rng.normal(0.3, 0.4, (count, len(low))), low, high)
    return model.pose(angles, rng.normal(0, 0.6, (count, 10)), side)


# Network


@pytest.mark.parametrize("landmarks", [False, True])
def test_every_layer_answers_in_the_documented_shapes(landmarks):
    network = tiny_network(from_landmarks=landmarks, contact_head=True, mask_channels=8)
    outputs = network(detection(landmarks=landmarks), camera())
    assert len(outputs) == TINY.layers_2d + TINY.layers_interactive
    assert outputs[0].joints_2d.shape == (2, 3, 21, 2) and outputs[0].vertices is None
    for output in outputs[TINY.layers_2d :]:
        assert output.vertices.shape == (2, 3, 778, 3)
        assert output.joints_3d.shape == (2, 3, 21, 3)
        assert output.translation.shape == (2, 3, 3)
        assert output.projected.shape == (2, 3, 21, 2)
    assert outputs[-1].contact.shape == (2, 3, 778)
    assert outputs[-1].segments.shape == (2, 3, 8, 8)


def test_what_the_mask_head_sees_far_away_and_contact_sees_it_too():
    """With context a pixel of the mask depends on the whole picture; contact depends on the mask around its vertex."""
    tuned = {"from_landmarks": True, "contact_head": True, "mask_channels": 8, "shaken": 0.2}
    seen = detection(landmarks=True)
    other = replace(seen, features=(seen.features[0].clone(), seen.features[1].clone()))
    other.features[0][:, :, 7, 7] += 5
    for context, reaches in ((0, False), (3, True)):
        network = tiny_network(mask_context=context, **tuned)
        with torch.inference_mode():
            one, two = (network(d, camera())[-1].segments for d in (seen, other))
        assert ((one - two)[:, :, 0, 0].abs().max() > 1e-4) == reaches
    logits = torch.zeros(1, 3, 16, 16)
    logits[:, 2, :, 8:] = 20.0
    near = evidence_at(logits, torch.tensor([[[[0.9, 0.5], [0.1, 0.5]]]]))
    assert near.shape == (1, 1, 2, 4)
    torch.testing.assert_close(near[0, 0, 0], torch.tensor([0.0, 1.0, 0.0, 1.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(near[0, 0, 1], torch.full((4,), 1 / 3), atol=1e-3, rtol=0)
    network = tiny_network(mask_context=1, contact_evidence=True, **tuned).train()
    network(seen, camera())[-1].contact.sum().backward()
    assert network.segment.out.weight.grad is None, "contact does not teach the mask head"


def test_contact_evidence_needs_both_heads():
    with pytest.raises(InputError, match="contact_evidence"):
        tiny_network(contact_head=True, contact_evidence=True)


def test_the_papers_size_runs():
    network = HandOs(HandOsConfig(), build_topology(HandModel.load())).eval()
    config = network.config
    assert (config.layers_2d, config.layers_interactive) == (2, 4)
    assert network.lift.matrix.shape == (779, 21)
    make = torch.Generator().manual_seed(0)
    sizes = (16, 8, 4, 2)
    case = replace(
        detection(1, 1),
        features=tuple(torch.randn(1, 256, s, s, generator=make) for s in sizes),
        shallow=tuple(torch.randn(1, c, s, s, generator=make) for c, s in zip(config.shallow_channels, sizes)),
        first_queries=torch.randn(1, 1, 256, generator=make),
        last_queries=torch.randn(1, 1, 256, generator=make),
    )
    with torch.inference_mode():
        output = network(case, camera(1))[-1]
    assert output.vertices.shape == (1, 1, 778, 3) and torch.isfinite(output.vertices).all()


def test_the_2d_model_has_no_lifting_and_gives_its_layers_to_the_3d_model():
    flat = tiny_network(layers_2d=3, layers_interactive=0)
    outputs = flat(detection(), camera())
    assert all(output.vertices is None for output in outputs) and not hasattr(flat, "lift")
    full = tiny_network(seed=5)
    missing, unexpected = full.load_state_dict(flat.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("lift.") or ".vertices." in name or ".translation." in name for name in missing)


def test_instances_do_not_see_each_other():
    network, case = tiny_network(shaken=0.1), detection()
    alone = network(case.select(torch.tensor([[2], [0]])), camera())[-1]
    together = network(case, camera())[-1]
    torch.testing.assert_close(alone.vertices[0, 0], together.vertices[0, 2], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(alone.translation[1, 0], together.translation[1, 0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"mask": "e"}, "mask"), ({"width": 30}, "width"), ({"shallow_channels": (6,)}, "shallow_channels"),
     ({"coarse_vertices": 30}, "coarse_vertices"), ({"layers_2d": 0, "layers_interactive": 0}, "layers")],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(change, named):
    with pytest.raises(InputError, match=named):
        HandOs(replace(TINY, **change), topology())


# Hierarchical attention (Fig. 8)

JOINT, VERTEX, CAMERA = 3, 25, -1
SEES = {
    "a": {(JOINT, JOINT), (VERTEX, VERTEX), (CAMERA, CAMERA)},
    "b": {(JOINT, JOINT), (VERTEX, JOINT), (VERTEX, VERTEX), (CAMERA, JOINT), (CAMERA, VERTEX), (CAMERA, CAMERA)},
    "c": {(JOINT, JOINT), (JOINT, VERTEX), (VERTEX, JOINT), (VERTEX, VERTEX),
          (CAMERA, JOINT), (CAMERA, VERTEX), (CAMERA, CAMERA)},
}  # fmt: skip
SEES["d"] = SEES["c"] | {(JOINT, CAMERA), (VERTEX, CAMERA)}


@pytest.mark.parametrize("kind", SEES)
def test_who_sees_whom_in_the_mask(kind):
    mask = attention_mask(10, kind)
    seen = {(a, b) for a in (JOINT, VERTEX, CAMERA) for b in (JOINT, VERTEX, CAMERA) if mask[a, b]}
    assert seen == SEES[kind]


@pytest.mark.parametrize("kind", SEES)
def test_who_sees_whom_in_the_network(kind):
    """Shaking the lifted queries of one kind moves exactly the answers of those who see it."""

    def answers(move: int | None):
        network = tiny_network(shaken=0.1, mask=kind, layers_interactive=1)
        if move is not None:
            with torch.no_grad():
                network.lift.tokens[move] += 3
        output = network(detection(), camera())[-1]
        return output.joints_2d, output.vertices[..., topology().coarse[:4], :], output.translation

    def moved(number: int, before, after) -> bool:
        return not torch.allclose(before[number], after[number], atol=1e-6)

    before, by_camera, by_vertex = answers(None), answers(-1), answers(COARSE - 1)
    assert moved(0, before, by_camera) == ((JOINT, CAMERA) in SEES[kind])
    assert moved(1, before, by_camera) == ((VERTEX, CAMERA) in SEES[kind])
    assert moved(0, before, by_vertex) == ((JOINT, VERTEX) in SEES[kind])
    # The translation follows its own query alone, where it sees no vertex.
    assert moved(2, before, by_camera)
    assert moved(2, before, by_vertex) == ((CAMERA, VERTEX) in SEES[kind])


# Lifting, regressor, upsampling


def test_lifting_starts_as_skinning_weights():
    lifting, model = topology().lifting, HandModel.load()
    assert lifting.shape == (779, 21) and (lifting >= 0).all()
    np.testing.assert_allclose(lifting.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(lifting[-1], 1 / 21, atol=1e-6)
    bones = lifting[:-1, BONE_STARTS].copy()
    bones[:, 3::3] += lifting[:-1, [4, 8, 12, 16, 20]]
    np.testing.assert_allclose(bones, model.weights, atol=1e-6)
    rows = tiny_network().lift.matrix.detach().numpy()
    np.testing.assert_allclose(rows, lifting[[*topology().coarse, -1]], atol=1e-6)


def test_lifted_boxes_lie_at_their_joints():
    network = tiny_network()
    boxes = torch.rand(1, 1, 21, 4)
    _, lifted = network.lift(torch.randn(1, 1, 21, 32), boxes)
    expected = torch.from_numpy(topology().lifting[[*topology().coarse, -1]]) @ boxes[0, 0]
    torch.testing.assert_close(lifted[0, 0], expected)


def test_regressor_and_upsampling_fit_hands_they_never_saw():
    hands, matrices = posed_hands(20), build_topology(HandModel.load(), 98)
    joints = matrices.regressor @ hands.vertices
    assert np.linalg.norm(joints - hands.joints, axis=-1).mean() < 0.6e-3
    fine = matrices.upsampling @ hands.vertices[:, matrices.coarse]
    assert np.linalg.norm(fine - hands.vertices, axis=-1).mean() < 1e-3
    np.testing.assert_allclose(matrices.regressor.sum(1), 1, atol=1e-4)
    np.testing.assert_allclose(matrices.upsampling.sum(1), 1, atol=1e-4)


def test_farthest_points_are_spread_and_all_when_asked_for_more():
    line = np.stack([np.arange(9.0), np.zeros(9), np.zeros(9)], 1)
    np.testing.assert_array_equal(farthest_points(line, 3), [0, 4, 8])
    np.testing.assert_array_equal(farthest_points(line, 12), np.arange(9))


# Projection and camera


@pytest.mark.parametrize("landmarks", [False, True])
def test_translation_follows_the_hand_across_the_image_and_in_size(landmarks):
    """The same answer in a box that is shifted and half as large: twice as far, and it still projects into the box."""
    network, case = tiny_network(from_landmarks=landmarks), detection(1, 1, landmarks=landmarks)
    view = torch.tensor([[1.5, 1.5, 0.5, 0.5]])
    small = replace(case, boxes=torch.cat([case.boxes[..., :2] * 0.5 + 0.3, case.boxes[..., 2:] * 0.5], -1))
    if landmarks:
        small = replace(small, landmarks=case.landmarks * 0.5 + 0.3)
    # At its start the network answers 0 beyond the first guess, so features do not matter.
    near, far = (network(x, view)[-1] for x in (case, small))
    torch.testing.assert_close(far.translation[..., 2], 2 * near.translation[..., 2], rtol=1e-4, atol=1e-5)
    origin = project_joints(near.translation[:, :, None], view), project_joints(far.translation[:, :, None], view)
    torch.testing.assert_close(origin[1], origin[0] * 0.5 + 0.3, rtol=1e-4, atol=1e-5)


def test_another_camera_changes_the_distance_and_not_the_image():
    network, case = tiny_network(shaken=0.05, from_landmarks=True), detection(landmarks=True)
    wide, tele = (network(case, camera() * torch.tensor([f, f, 1, 1]))[-1] for f in (1.0, 2.0))
    torch.testing.assert_close(wide.vertices, tele.vertices, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(tele.translation[..., 2], 2 * wide.translation[..., 2], rtol=1e-4, atol=1e-5)
    axis = [project_joints(o.translation[:, :, None], camera() * torch.tensor([f, f, 1, 1])) for o, f in
            ((wide, 1.0), (tele, 2.0))]  # fmt: skip
    torch.testing.assert_close(axis[0], axis[1], rtol=1e-4, atol=1e-5)


class Says(torch.nn.Module):
    """A head that gives the same random answer, whatever it is asked."""

    def __init__(self, seed: int, *shape: int):
        super().__init__()
        self.answer = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(seed))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.answer


def talkative_network(landmarks: bool) -> HandOs:
    """A network whose last layer answers at random, far from the first guess."""
    network = tiny_network(from_landmarks=landmarks)
    heads = network.heads[-1]
    heads.joints, heads.vertices, heads.translation = Says(1, 21, 2), Says(2, COARSE, 3), Says(3, 3)
    if landmarks:
        heads.joints_3d, network.mirror = Says(4, 21, 3), Says(5, 1)
    return network


@pytest.mark.parametrize("landmarks", [False, True])
def test_projections_move_and_scale_with_camera_and_picture(landmarks):
    """A picture that is shifted or stretched with its camera shows the same hand in 3D at the places moved along."""
    network, case, view = talkative_network(landmarks), detection(landmarks=landmarks), camera()
    before = network(case, view)[-1]
    seen = (before.joints_3d + before.translation[:, :, None]).numpy().astype(float)
    pinhole = seen[..., :2] / seen[..., 2:] * view[0, :2].numpy() + view[0, 2:].numpy()
    np.testing.assert_allclose(before.projected.numpy(), pinhole, atol=1e-4)
    assert (before.projected - before.joints_2d).abs().mean() > 0.01, "both answers are their own"
    for scale, shift in (((1.0, 1.0), (0.13, -0.07)), ((0.6, 1.4), (0.0, 0.0))):
        s, d = torch.tensor(scale), torch.tensor(shift)
        still = torch.zeros(2)
        moved = replace(
            case,
            boxes=case.boxes * torch.cat([s, s]) + torch.cat([d, still]),
            landmarks=case.landmarks * s + d if landmarks else None,
        )
        after = network(moved, view * torch.cat([s, s]) + torch.cat([still, d]))[-1]
        torch.testing.assert_close(after.translation, before.translation, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(after.projected, before.projected * s + d, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(after.joints_2d, before.joints_2d * s + d, rtol=1e-4, atol=1e-5)


def test_projection_agrees_with_the_pinhole_formula():
    points = torch.tensor([[[0.1, -0.2, 2.0]]])
    pixel = project_joints(points, torch.tensor([[2.0, 4.0, 0.5, 0.25]]))
    torch.testing.assert_close(pixel, torch.tensor([[[0.6, -0.15]]]))


# Left or right


def test_normals_tell_left_from_right():
    faces = torch.from_numpy(topology().faces)
    for side in ("right", "left"):
        vertices = torch.from_numpy(posed_hands(30, side).vertices)
        assert (is_right_hand(vertices, faces) == (side == "right")).all()
        assert (is_right_hand(vertices + 5, faces) == (side == "right")).all()


# The mesh around given joints


def test_mesh_from_joints_follows_posed_hands_of_both_sides():
    skin = MeshFromJoints(topology())
    for side, share in (("right", 0.0), ("left", 1.0)):
        hands = posed_hands(30, side)
        joints = torch.from_numpy(hands.joints).float()
        vertices = skin(joints, torch.full((30, 1), share)).numpy()
        assert np.linalg.norm(vertices - hands.vertices, axis=-1).mean() < 2e-3


def test_mesh_from_joints_turns_and_moves_with_them_and_keeps_the_rest_pose():
    skin = MeshFromJoints(topology())
    joints = torch.from_numpy(topology().joints)
    torch.testing.assert_close(skin.skin(joints), torch.from_numpy(topology().template), atol=1e-6, rtol=0)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2)))[0]
    turn = turn * torch.linalg.det(turn)
    moved = skin.skin(joints @ turn.T + 0.3)
    torch.testing.assert_close(moved, skin.skin(joints) @ turn.T + 0.3, atol=1e-5, rtol=0)


def test_mesh_from_joints_has_finite_gradients_even_for_joints_in_one_point():
    joints = torch.zeros(1, 21, 3, requires_grad=True)
    MeshFromJoints(topology())(joints, torch.tensor([[0.5]])).sum().backward()
    assert torch.isfinite(joints.grad).all()


# Devices


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("changes", [
    {}, {"mask": "d"}, {"coarse_vertices": 0}, {"layers_interactive": 0},
    {"from_landmarks": True, "contact_head": True, "contact_evidence": True, "mask_channels": 8, "mask_context": 1},
])  # fmt: skip
def test_nothing_inside_lies_on_another_device(changes, learning):
    network = tiny_network(**changes).to("meta").train(learning)
    landmarks = bool(changes.get("from_landmarks"))
    seen = moved(detection(landmarks=landmarks), torch.device("meta"))
    with torch.set_grad_enabled(learning):
        outputs = run_on_meta(network, seen, camera().to("meta"), every_layer=learning)
    assert outputs[-1].joints_2d.shape == (2, 3, 21, 2)

"""Training on whole pictures: truth lies where it is seen, mirrored both ways, padding asks nothing, runs resume."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hoi_ros.cli import main
from hoi_ros.errors import InputError
from hoi_ros.evaluation.datasets import open_dataset
from hoi_ros.geometry import project
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.hand.handos import Detection, HandOs, is_right_hand
from hoi_ros.hand.handos_config import HandOsConfig
from hoi_ros.hand.handos_topology import build_topology
from hoi_ros.hand.handos_weights import load_weights
from hoi_ros.hand.landmarks import HandLandmarks
from hoi_ros.hand.losses import HandOsLoss
from hoi_ros.hand.one_stage_estimator import OneStageEstimator, match
from hoi_ros.hand.query_filter import box_overlap
from hoi_ros.hand.tracks import HandTrack
from hoi_ros.hand.weights_file import SHIPPED
from hoi_ros.hand_model import HandModel
from hoi_ros.simulate import SimulateOptions, simulate
from hoi_ros.simulation import SimulatorConfig
from hoi_ros.training.full_images import FullImageBatches, open_full_images
from hoi_ros.training.train_handos import HandOsTrainer, TrainingConfig, TrainingPlan

NETWORK = HandOsConfig(
    width=32, heads=4, points=1, hidden=32, layers_2d=1, layers_interactive=1, coarse_vertices=20,
    feature_channels=(6, 6), shallow_channels=(3, 3), query_channels=(4, 4),
)  # fmt: skip
PLAN = TrainingPlan(
    TrainingConfig(
        steps=4, batch_size=2, warm_up_steps=1, checkpoint_steps=2, score_steps=2, threads=1, image_side=128
    ),
    NETWORK,
)


REGRESSOR = build_topology(HandModel.load(), 20).regressor


class GridDetector(nn.Module):
    """Says 'perhaps a hand' of boxes of two sizes all over the picture, and shows the picture itself as features."""

    family = "grid"

    def __init__(self):
        super().__init__()
        self.scores = torch.full((84,), 0.5)

    def channels(self):
        return {name: getattr(NETWORK, name) for name in ("feature_channels", "shallow_channels", "query_channels")}

    def forward(self, images):
        batch, made = len(images), []
        for size in (0.25, 0.45):
            x, y = torch.meshgrid(torch.linspace(0.1, 0.9, 7), torch.linspace(0.1, 0.9, 6), indexing="xy")
            made.append(torch.stack([x.flatten(), y.flatten(), *[torch.full((42,), size)] * 2], -1))
        boxes = torch.cat(made).expand(batch, 84, 4)
        small = nn.functional.adaptive_avg_pool2d(images, 8)
        maps = torch.cat([small, 1 - small], 1)
        levels = maps, nn.functional.avg_pool2d(maps, 2)
        return Detection(levels, (small, small), boxes, boxes, boxes, self.scores.expand(batch, 84))


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film")
    config = SimulatorConfig(width=160, height=120, frames=6)
    simulate(SimulateOptions("handover:box", folder, config, bag=False, quiet=True))
    return folder


def batches(film, **changes):
    return FullImageBatches(film, GridDetector(), 2, seed=3, image_side=128, **changes)


def test_truth_lies_where_it_is_seen_and_padding_asks_for_nothing(film):
    data, faces = batches(film), torch.from_numpy(HandModel.load().right_faces.astype(np.int64))
    sides = []
    for step in range(6):
        batch = data.batch(step)
        targets, valid = batch.targets, batch.targets.joint_weights.amax(-1) > 0
        assert valid.any() and targets.has_3d[valid].all() and not targets.has_3d[~valid].any()
        joints = targets.joints_3d[valid]
        assert joints.mean(1).abs().max() < 1e-6
        # Where the hand is follows from where it is seen; then its joints project onto the true points.
        cameras = batch.camera[:, None].expand(*valid.shape, 4)[valid]
        rays = (targets.joints_2d[valid] - cameras[:, None, 2:]) / cameras[:, None, :2]
        for points, ray in zip(joints.double().numpy(), rays.double().numpy()):
            rows = np.concatenate([np.stack([np.eye(3)[k] - r[k] * np.eye(3)[2] for k in (0, 1)]) for r in ray])
            right = np.concatenate([[r[k] * p[2] - p[k] for k in (0, 1)] for r, p in zip(ray, points)])
            place, *_ = np.linalg.lstsq(rows, right, rcond=None)
            moved = points + place
            assert 0.2 < place[2] < 1.5
            np.testing.assert_allclose(moved[:, :2] / moved[:, 2:], ray, atol=2e-3)
        placed = joints + targets.translation[valid][:, None]
        torch.testing.assert_close(placed[..., :2] / placed[..., 2:], rays, atol=2e-4, rtol=0)
        regressed = REGRESSOR @ targets.vertices[valid].numpy()
        assert np.linalg.norm(regressed - joints.numpy(), axis=-1).mean() < 4e-3
        sides += is_right_hand(targets.vertices[valid], faces).tolist()
        inside = targets.joints_2d[valid] - targets.boxes[valid][:, None, :2]
        assert (inside.abs() <= targets.boxes[valid][:, None, 2:] / 2).all()
    assert {True, False} == set(sides)


def test_a_mirrored_picture_has_the_other_hands_where_the_mirror_shows_them(film):
    data = batches(film)
    sequence = open_dataset(film)[0]
    hands = data._true_hands(sequence[2], sequence.hand_faces())
    other = hands.mirrored(160)
    np.testing.assert_allclose(other.points_px[..., 0], 159 - hands.points_px[..., 0])
    np.testing.assert_allclose(other.mirrored(160).vertices, hands.vertices)
    seen = project(np.asarray(sequence[2].hands[0].joints_camera), sequence[2].frame.intrinsics)
    np.testing.assert_allclose(hands.points_px[0], seen, atol=1e-9)


def test_the_same_seed_and_step_give_the_same_batch_and_others_do_not(film):
    one, other = (batches(film).batch(4) for _ in range(2))
    assert torch.equal(one.detection.features[0], other.detection.features[0])
    assert torch.equal(one.targets.joints_2d, other.targets.joints_2d)
    assert not torch.equal(one.detection.features[0], batches(film).batch(5).detection.features[0])


def test_a_killed_run_on_pictures_ends_where_an_unbroken_one_does(film, tmp_path):
    plan = replace(PLAN, network=replace(NETWORK, dropout=0.1))
    whole = HandOsTrainer(plan, batches(film, held_out=film), tmp_path / "whole")
    whole.train()
    first = HandOsTrainer(plan, batches(film), tmp_path / "broken")
    first.batches.batch(0)

    def stop(step, loss):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.train(stop)
    again = HandOsTrainer(plan, batches(film), tmp_path / "broken")
    assert again.step == 2
    again.train()
    for (name, a), b in zip(whole.network.state_dict().items(), again.network.state_dict().values()):
        assert torch.equal(a, b), name
    # Without held-out pictures those of training are drawn, and nothing is scored.
    assert (tmp_path / "broken" / "pictures_000004.png").stat().st_size > 500
    assert not (tmp_path / "broken" / "scores.jsonl").exists()
    scores = json.loads((tmp_path / "whole" / "scores.jsonl").read_text().splitlines()[0])
    assert {"pa_mpjpe_mm", "pa_mpvpe_mm", "joints_2d_px", "side_right"} <= set(scores)
    assert (tmp_path / "whole" / "pictures_000002.png").stat().st_size > 500
    _, card = load_weights(tmp_path / "whole" / "handos.npz")
    assert card["detector"] == "grid" and card["image_side"] == 128 and not card["shippable"]


def test_four_pictures_are_learned_by_heart_and_every_loss_falls(film, tmp_path):
    plan = replace(PLAN, training=replace(PLAN.training, steps=70, learning_rate=6e-3, bfloat16=False))
    data = FullImageBatches(film, GridDetector(), 4, seed=3, image_side=128)
    always = data.batch(0)
    data.batch = lambda step: always
    HandOsTrainer(plan, data, tmp_path).train()
    head, first, *_, last = (row.split(",") for row in (tmp_path / "losses.csv").read_text().splitlines())
    terms = [item for item in zip(head, first, last) if item[0] not in ("step", "seconds")]
    assert len(terms) == 10 and {"smoothness", "normals", "edges", "oks_projected"} < {name for name, *_ in terms}
    for name, before, after in terms:
        assert float(after) < 0.8 * float(before), (name, before, after)


def test_pictures_without_a_hand_cost_nothing(film):
    data = batches(film)
    data._true_hands = lambda labelled, faces: type(data)._true_hands(data, replace(labelled, hands=()), faces)
    batch = data.batch(0)
    assert not batch.targets.has_3d.any() and batch.targets.joint_weights.sum() == 0
    topology = build_topology(HandModel.load(), 20)
    outputs = HandOs(NETWORK, topology)(batch.detection, batch.camera)
    total, _ = HandOsLoss(topology.faces)(outputs, batch.targets)
    assert total.item() == 0


def test_weights_begun_from_data_of_closed_licence_are_not_handed_on(film, tmp_path):
    HandOsTrainer(PLAN, batches(film, shippable=False), tmp_path / "closed").train()
    for start in ("handos.npz", "checkpoint.pt"):
        later = replace(PLAN, training=replace(PLAN.training, start_from=str(tmp_path / "closed" / start)))
        HandOsTrainer(later, batches(film, shippable=True), tmp_path / start).train()
        assert not load_weights(tmp_path / start / "handos.npz")[1]["shippable"]
        again = HandOsTrainer(later, batches(film, shippable=True), tmp_path / start)
        assert not again._shippable
    HandOsTrainer(PLAN, batches(film, shippable=True), tmp_path / "open").train()
    assert load_weights(tmp_path / "open" / "handos.npz")[1]["shippable"]


# From training to hands


def show(detector, frame, labels):
    """Make the detector sure of its nearest box to each true hand, and of nothing else."""
    boxes = detector(torch.zeros(1, 3, 8, 8)).boxes[0]
    detector.scores = torch.full((84,), 0.01)
    for rank, label in enumerate(labels):
        points = torch.from_numpy(label.pixels(frame.intrinsics) / [160, 128]).float()
        low, high = points.amin(0), points.amax(0)
        true = torch.cat([(low + high) / 2, high - low])[None]
        detector.scores[int(box_overlap(boxes, true).argmax())] = 0.9 - 0.1 * rank


@pytest.fixture(scope="module")
def learned(film, tmp_path_factory):
    """Weights that know the film by heart."""
    plan = replace(PLAN, training=replace(PLAN.training, steps=120, learning_rate=6e-3, bfloat16=False))
    data = batches(film)
    as_it_is = data._view
    data._view = lambda item, rng: as_it_is(item, None)
    made = [data.batch(step) for step in range(3)]
    data.batch = lambda step: made[step % 3]
    out = tmp_path_factory.mktemp("learned")
    HandOsTrainer(plan, data, out).train()
    return out / "handos.npz"


def test_hands_of_whole_pictures_are_found_where_they_are_and_followed(film, learned):
    detector = GridDetector()
    estimator = OneStageEstimator(HandConfig(estimator="handos", handos_weights=str(learned)), "cpu", detector)
    sequence, tracks, errors, sides = open_dataset(film)[0], set(), [], []
    for number in range(4):
        labelled = sequence[number]
        show(detector, labelled.frame, labelled.hands)
        hands = estimator.estimate(replace(labelled.frame, depth_m=None))
        assert len(hands) == len(labelled.hands)
        for label in labelled.hands:
            seen = label.pixels(labelled.frame.intrinsics)
            hand = min(hands, key=lambda h: np.linalg.norm(h.joints_px.mean(0) - seen.mean(0)))
            errors.append(np.linalg.norm(hand.joints_px - seen, axis=1).mean())
            sides.append(hand.handedness == label.side)
            tracks.add(hand.track_id)
            assert hand.vertices_camera.shape == (778, 3)
    assert len(tracks) == 2 and np.mean(errors) < 8 and np.mean(sides) > 0.7
    detector.scores = torch.full((84,), 0.05)
    assert estimator.estimate(sequence[0].frame, independent=True) == []


def test_a_finding_goes_to_the_nearest_track_and_a_far_one_to_none():
    rest = np.stack([np.arange(21) % 5 * 8.0, np.arange(21) * 4.0], 1)

    def hand(x):
        return HandLandmarks(rest + [x, 0], np.zeros((21, 3)), 0.9, 0.5)

    tracks = [HandTrack(0, hand(100), 0.0), HandTrack(1, hand(130), 0.0)]
    assert sorted(match(tracks, [hand(135), hand(104)])) == [(0, 1), (1, 0)]
    # Together they are nearer so than when the first track took what is nearest to it.
    assert sorted(match(tracks, [hand(112), hand(80)])) == [(0, 1), (1, 0)]
    assert match(tracks, [hand(900)]) == [] and match([], [hand(1)]) == []


def test_weights_and_detectors_that_do_not_belong_together_are_named(film, learned, tmp_path):
    other = GridDetector()
    other.channels = lambda: {"feature_channels": (7, 6), "shallow_channels": (3, 3), "query_channels": (4, 4)}
    config = HandConfig(estimator="handos", handos_weights=str(learned))
    with pytest.raises(InputError, match=r"feature_channels \(6, 6\), found \(7, 6\)"):
        OneStageEstimator(config, "cpu", other)
    with pytest.raises(InputError, match="start from landmarks"):
        OneStageEstimator(replace(config, handos_weights=str(SHIPPED)), "cpu", GridDetector())
    with pytest.raises(InputError, match="set handos_detector"):
        create_hand_estimator(config, "cpu")
    with pytest.raises(InputError, match="without handos_weights"):
        create_hand_estimator(HandConfig(handos_detector=str(tmp_path)), "cpu")
    with pytest.raises(InputError, match=rf"{tmp_path}.*config\.json"):
        create_hand_estimator(replace(config, handos_detector=str(tmp_path)), "cpu")
    with pytest.raises(InputError, match="handos_masks"):
        OneStageEstimator(replace(config, handos_masks=True), "cpu", GridDetector())


def test_the_command_names_what_does_not_go_together(film, tmp_path, capsys):
    run = ["train", "handos", "--data", str(film), "--out", str(tmp_path / "o"), "--device", "cpu"]
    assert main([*run, "--detector", str(tmp_path)]) == 2
    assert "base: paper" in capsys.readouterr().err
    assert main([*run, "--shippable"]) == 2
    assert "--detector" in capsys.readouterr().err
    with pytest.raises(InputError, match="landmarks"):
        open_full_images(TrainingPlan(), film, tmp_path, "cpu")
    config = tmp_path / "paper.yaml"
    config.write_text("network: {base: paper}\n")
    assert main([*run, "--detector", str(tmp_path / "none"), "--config", str(config)]) == 2
    assert "none" in capsys.readouterr().err

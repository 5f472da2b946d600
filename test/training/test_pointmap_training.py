"""Training pairs with exact truth, the loss, and a trainer that resumes to the bit."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from hoi_ros.errors import InputError
from hoi_ros.geometry import rotation_angle
from hoi_ros.tracking.pointmap_checkpoint import load_pointmap_network
from hoi_ros.tracking.pointmap_motion import MotionConfig, fit_motion
from hoi_ros.tracking.pointmap_network import PairPrediction, PointmapNetworkConfig
from hoi_ros.training import pointmap_pairs
from hoi_ros.training.pointmap_loss import PointmapLossConfig, pointmap_loss
from hoi_ros.training.pointmap_pairs import PairConfig, PairStream
from hoi_ros.training.pointmap_shapes import write_random_object
from hoi_ros.training.pointmap_trainer import (
    PointmapTrainConfig,
    PointmapTrainer,
    pair_tensors,
    read_settings,
    train_pointmap,
)

NETWORK = PointmapNetworkConfig(8, 32, 48, 2, 2, 48, 2, 2)
PAIRS = PairConfig(
    picture_width=128,
    frames_per_sequence=10,
    open_sequences=1,
    pairs_per_sequence=1000,
    handover_share=0.0,
    regrasp_share=0.0,
)
TRAIN = PointmapTrainConfig(steps=6, batch=2, learning_rate=2e-3, warmup_steps=2, workers=0, save_steps=2,
                            picture_steps=100, autocast=False)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cached_sequences():
    """A sequence depends on its number and config alone: make each once."""
    plain = pointmap_pairs.make_sequence
    pointmap_pairs.make_sequence = functools.cache(plain)
    yield
    pointmap_pairs.make_sequence = plain


@pytest.fixture(scope="module")
def stream() -> PairStream:
    return PairStream(32, PAIRS)


@pytest.fixture(scope="module")
def batch(stream) -> dict[str, torch.Tensor]:
    pairs = [pair_tensors(stream.pair(i)) for i in range(4)]
    return {name: torch.stack([p[name] for p in pairs]) for name in pairs[0]}


def test_a_pair_shows_hand_and_thing_with_points_in_the_first_frame(stream):
    for number in range(6):
        pair = stream.pair(number)
        assert pair.pictures.shape == (2, 32, 32, 3) and pair.pictures.dtype == np.uint8
        assert (pair.classes == 1).any((1, 2)).all() and (pair.classes == 2).any((1, 2)).all()
        assert (pair.classes[pair.valid_mask] > 0).all()
        # A pixel of the first view shows the point that lies on its ray.
        axis = (np.arange(32) - 15.5) / 16
        grid = np.stack(np.meshgrid(axis, axis), -1)
        tangent = pair.half_m / pair.depth_m
        points = pair.points[0]
        seen = points[..., :2] / (1 + tangent * points[..., 2:])
        assert np.abs(seen - grid)[pair.valid_mask[0]].max() < 1e-4
        assert abs(np.median(points[pair.valid_mask[0]][:, 2])) < 1e-5


def test_the_second_view_s_object_lies_on_the_first_view_s(stream):
    """Object points of both views, in one frame, are one surface: the true motion makes them meet."""
    from scipy.spatial import cKDTree

    gaps = []
    for number in range(30):
        pair = stream.pair(number)
        if rotation_angle(pair.T_first_second[:3, :3]) > np.radians(60):
            continue
        clouds = [pair.points[v][pair.classes[v] == 1] * pair.half_m for v in (0, 1)]
        gaps.append(np.median(cKDTree(clouds[0]).query(clouds[1])[0]))
    assert len(gaps) > 5 and np.median(gaps) < 0.006


def test_the_true_motion_is_read_off_the_pointmaps(stream):
    pair = stream.pair(3)
    there = pair.points[1][pair.valid_mask[1]] * pair.half_m + [0, 0, pair.depth_m]
    T = pair.T_first_second
    own = (there - T[:3, 3]) @ T[:3, :3]
    fit = fit_motion(own, there, config=MotionConfig(sigma=0.001))
    np.testing.assert_allclose(fit.T_target_source, T, atol=1e-4)


REGRASPS = replace(PAIRS, picture_width=320, frames_per_sequence=16, regrasp_share=1.0)


def test_regrasps_are_among_the_pairs():
    scenes = [pointmap_pairs._scene(drawn, PairConfig()) for drawn in (0.0, 0.14, 0.16, 0.34, 0.36, 0.99)]
    assert scenes == ["handover"] * 2 + ["grasp"] * 2 + ["rotate"] * 2
    frames = pointmap_pairs.make_sequence(0, REGRASPS)
    grips = pointmap_pairs.other_grips
    again = [bool(grips(a, b, 0.01)) and held_anew(a, b) for a in frames for b in frames]
    assert len(frames) > 12 and 0.3 < np.mean(again) < 0.9


def held_anew(first, second) -> bool:
    """The hand nearest to the thing is another, or holds it elsewhere."""
    joints = [pointmap_pairs._joints_object(frame) for frame in (first, second)]
    holders = [min(hands, key=lambda k: np.linalg.norm(hands[k].mean(0))) for hands in joints]
    return holders[0] != holders[1] or np.abs(joints[0][holders[0]] - joints[1][holders[1]]).max() > 0.02


def test_a_regrasped_thing_is_one_surface_and_its_hand_says_nothing_of_the_motion():
    """The true motion lays the second view's object points on, or behind, what the first view shows of it."""
    stream, anew, near, front_mm = PairStream(128, REGRASPS), 0, [], []
    for number in range(16):
        pair = stream.pair(number)
        hand, object_mask = pair.classes[1] == 2, pair.classes[1] == 1
        assert pair.valid_mask[0][pair.classes[0] == 2].mean() > 0.99 and pair.valid_mask[1][object_mask].mean() > 0.99
        if pair.valid_mask[1][hand].any():
            continue
        anew += 1
        assert hand.sum() > 100 and (pair.points[1][hand] == 0).all()
        gap = beyond_first(pair, pair.points[1][object_mask & pair.valid_mask[1]])
        if len(gap) > 20:
            near.append((np.abs(gap) < 0.0015).mean())
            front_mm.append(-1e3 * np.percentile(gap, 5))
    assert anew > 4 and len(near) > 4
    assert np.median(near) > 0.98 and max(front_mm) < 0.3, (near, front_mm)


def beyond_first(pair, points: np.ndarray) -> np.ndarray:
    """Metres (K,) by which points (N, 3) lie behind the first view's surface, where that shows the object."""
    size = pair.classes.shape[1]
    seen = points[:, :2] / (1 + pair.half_m / pair.depth_m * points[:, 2:])
    column, row = np.rint(seen * size / 2 + (size - 1) / 2).astype(int).T
    inside = (np.minimum(column, row) >= 1) & (np.maximum(column, row) < size - 1)
    points, column, row = points[inside], column[inside], row[inside]
    patches = [[(row + i, column + j) for i in (-1, 0, 1)] for j in (-1, 0, 1)]
    around = np.array([pair.points[0][at][:, 2] for line in patches for at in line])
    shown = np.all([pair.classes[0][at] == 1 for line in patches for at in line], axis=0)
    nearest = around.min(0) - points[:, 2], points[:, 2] - around.max(0)
    # Between the neighbours' depths a point lies on the surface.
    gap = np.where(nearest[0] > 0, -nearest[0], np.maximum(nearest[1], 0))
    return (gap * pair.half_m)[shown]


def test_pairs_are_the_same_in_any_order_and_differ_from_each_other(stream):
    again = PairStream(32, PAIRS)
    for number in (5, 0):
        first, second = stream.pair(number), again.pair(number)
        assert (first.pictures == second.pictures).all() and (first.points == second.points).all()
    assert (stream.pair(0).pictures != stream.pair(1).pictures).any()


def test_random_things_can_be_held_and_are_the_same_for_a_seed(tmp_path):
    import trimesh

    sizes = []
    for seed in range(8):
        path = write_random_object(tmp_path / f"{seed}.ply", seed)
        mesh = trimesh.load(path)
        assert mesh.is_watertight or mesh.split(only_watertight=True).size
        sizes.append(mesh.extents)
        assert np.ptp(np.asarray(mesh.visual.vertex_colors)[:, :3], axis=0).max() > 5
    assert np.min(np.max(sizes, 1)) > 0.04 and np.max(sizes) < 0.3 and np.ptp(np.max(sizes, 1)) > 0.03
    again = write_random_object(tmp_path / "again.ply", 0)
    assert again.read_bytes() == (tmp_path / "0.ply").read_bytes()


def prediction(points: torch.Tensor, confidence: float = 3.0, classes: torch.Tensor | None = None) -> PairPrediction:
    logits = None
    if classes is not None:
        logits = 20 * torch.nn.functional.one_hot(classes, 3).permute(0, 1, 4, 2, 3).float()
    return PairPrediction(points, torch.full(points.shape[:-1], confidence), logits)


def test_the_loss_weighs_errors_by_confidence_and_ignores_the_background(batch):
    config = PointmapLossConfig(confidence_alpha=0.2)
    truth, valid, classes = batch["points"], batch["valid_mask"], batch["classes"]

    def value(points: torch.Tensor, confidence: float) -> float:
        return float(pointmap_loss(prediction(points, confidence, classes), truth, valid, classes, config).total)

    exact = value(truth, 3.0)
    assert exact == pytest.approx(-0.2 * np.log(3.0), abs=1e-4)
    assert value(truth, 9.0) < exact
    off = truth + torch.tensor([0.3, 0.0, 0.0])
    assert value(off, 3.0) == pytest.approx(exact + 0.9, abs=1e-3)
    assert value(off, 9.0) > value(off, 1.5)
    elsewhere = truth + (~valid)[..., None] * 5.0
    assert value(elsewhere, 3.0) == pytest.approx(exact, abs=1e-6)


def test_the_loss_without_scale_does_not_see_it(batch):
    truth, valid, classes = batch["points"] + torch.tensor([0, 0, 3.0]), batch["valid_mask"], batch["classes"]
    scaled = pointmap_loss(prediction(7.0 * truth), truth, valid, classes, PointmapLossConfig(), free_scale=True)
    assert float(scaled.first_error) < 1e-5 and float(scaled.second_error) < 1e-5


def test_a_wrong_mask_costs(batch):
    truth, valid, classes = batch["points"], batch["valid_mask"], batch["classes"]
    right = pointmap_loss(prediction(truth, 3.0, classes), truth, valid, classes, PointmapLossConfig())
    wrong = pointmap_loss(prediction(truth, 3.0, (classes + 1) % 3), truth, valid, classes, PointmapLossConfig())
    assert float(right.mask_error) == 0 and float(wrong.mask_error) == 1 and wrong.total > right.total + 1


def test_a_few_pairs_are_learnt_by_heart(batch, tmp_path):
    config = replace(TRAIN, steps=400, learning_rate=3e-3, warmup_steps=10)
    trainer = PointmapTrainer(tmp_path, NETWORK, PAIRS, PointmapLossConfig(), config)
    losses = [trainer.take_step(batch) for _ in range(90)]
    first, last = losses[0], losses[-1]
    assert last.total < first.total - 0.5
    assert last.first_error < 0.25 * first.first_error
    assert last.second_error < 0.3 * first.second_error
    assert last.mask_error < 0.5 * first.mask_error


def weights_of(trainer: PointmapTrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.network.parameters()])


def make_trainer(folder) -> PointmapTrainer:
    return PointmapTrainer(folder, NETWORK, PAIRS, PointmapLossConfig(), TRAIN)


def test_a_resumed_run_equals_one_that_was_never_stopped(tmp_path):
    whole = make_trainer(tmp_path / "whole")
    whole.run(quiet=True)
    make_trainer(tmp_path / "parts").run(2, quiet=True)
    # Steps after the last checkpoint are lost by a kill, and taken again.
    killed = make_trainer(tmp_path / "parts")
    killed.save = lambda: None
    killed.run(5, quiet=True)
    resumed = make_trainer(tmp_path / "parts")
    assert resumed.step == 2
    resumed.run(quiet=True)
    assert resumed.step == 6
    assert torch.equal(weights_of(whole), weights_of(resumed))
    rows = [json.loads(line) for line in (tmp_path / "parts" / "curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert (tmp_path / "parts" / "predictions_000001.png").exists()
    assert load_pointmap_network(tmp_path / "parts" / "pointmap_network.pt").config == NETWORK


def test_other_settings_do_not_resume(tmp_path):
    make_trainer(tmp_path).save()
    with pytest.raises(InputError, match=r"begun with train\.batch = 2, now 3"):
        PointmapTrainer(tmp_path, NETWORK, PAIRS, PointmapLossConfig(), replace(TRAIN, batch=3))
    (tmp_path / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(InputError, match="cannot be read"):
        make_trainer(tmp_path)


def test_unknown_settings_are_named(tmp_path):
    with pytest.raises(InputError, match="did you mean 'train'"):
        train_pointmap(tmp_path, {"trains": {}}, quiet=True)
    with pytest.raises(InputError, match="steps"):
        train_pointmap(tmp_path, {"train": {"stepz": 3}}, quiet=True)


def test_a_user_s_own_checkpoint_size_trains_up_to_scale(batch, tmp_path):
    network = replace(NETWORK, output="camera", head="dpt", dpt_width=16, decoder_depth=4)
    trainer = PointmapTrainer(tmp_path, network, PAIRS, PointmapLossConfig(), replace(TRAIN, steps=100))
    shifted = dict(batch, points=batch["points"] + torch.tensor([0, 0, 3.0]))
    losses = [float(trainer.take_step(shifted).total) for _ in range(8)]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_settings_come_from_a_file_and_the_command_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("train:\n  batch: 4\n  steps: 9\n")
    assert read_settings(path, ["train.batch=16", "pairs.seed=3"]) == {
        "train": {"batch": 16, "steps": 9}, "pairs": {"seed": 3}
    }  # fmt: skip
    path.write_text("- 1\n")
    with pytest.raises(InputError, match="write parts"):
        read_settings(path, [])
    with pytest.raises(InputError, match=r"write PART\.NAME=VALUE"):
        read_settings(None, ["batch=3"])


def test_the_command_line_trains(tmp_path, capsys):
    from hoi_ros.cli import main

    values = {"network": NETWORK, "pairs": PAIRS, "train": TRAIN}
    settings = [f"--set={part}.{k}={v}" for part, kind in values.items() for k, v in asdict(kind).items()]
    assert (
        main(
            [
                "train",
                "pointmap",
                "--out",
                str(tmp_path / "run"),
                "--steps",
                "1",
                "--device",
                "cpu",
                "--quiet",
                *settings,
            ]
        )
        == 0
    )
    assert "1 steps taken" in capsys.readouterr().out
    assert main(["train", "pointmap", "--out", str(tmp_path / "run"), "--set", "train.steps=x", "--quiet"]) == 2

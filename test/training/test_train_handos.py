"""Training: four hands learned by heart, a killed run goes on bit for bit, frozen features stay, bad files named."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from training_runs import run
from training_shards import write_made_up_shard

from hoi_ros.errors import InputError
from hoi_ros.hand.embedded_features import COMPACT, LandmarkFeatures
from hoi_ros.hand.handos import HandOs, HandOsOutput, project_joints
from hoi_ros.hand.handos_topology import build_topology
from hoi_ros.hand.handos_weights import load_weights, save_weights
from hoi_ros.hand_model import HandModel
from hoi_ros.training.hand_scores import score_hands
from hoi_ros.training.shard_batches import ShardBatches
from hoi_ros.training.train_handos import CHECKPOINT, HandOsTrainer, TrainingConfig, TrainingPlan, read_plan

TINY = replace(COMPACT, width=32, heads=4, points=1, hidden=48, layers_2d=1, layers_interactive=1, coarse_vertices=20)
SHORT = TrainingConfig(steps=6, batch_size=4, warm_up_steps=2, checkpoint_steps=3, score_steps=3, threads=1)


@pytest.fixture
def shards(tmp_path):
    folder = tmp_path / "shards"
    for number in range(2):
        write_made_up_shard(folder, number)
    write_made_up_shard(folder / "held_out", 0, seed=9)
    return folder


def test_a_killed_run_ends_where_an_unbroken_one_does(shards, tmp_path):
    plan = TrainingPlan(SHORT, replace(TINY, dropout=0.2))
    whole = run(plan, shards, tmp_path / "whole")
    run(plan, shards, tmp_path / "broken", until=5)
    again = run(plan, shards, tmp_path / "broken")
    for (name, a), b in zip(whole.network.state_dict().items(), again.network.state_dict().values()):
        assert torch.equal(a, b), name
    curves = [(tmp_path / d / "losses.csv").read_text().splitlines() for d in ("whole", "broken")]
    without_time = [[",".join(np.delete(row.split(","), 1)) for row in rows] for rows in curves]
    assert without_time[0] == without_time[1] and len(curves[0]) == 7
    scores = [json.loads(line) for line in (tmp_path / "whole" / "scores.jsonl").read_text().splitlines()]
    assert [row["step"] for row in scores] == [3, 6] and scores[0]["pa_mpjpe_mm"] > 0
    for name in ("curves.png", "pictures_000003.png", "handos.npz"):
        assert (tmp_path / "whole" / name).stat().st_size > 500


def test_four_hands_are_learned_by_heart(shards, tmp_path):
    """Overfitting four hands drives every term down."""
    plan = TrainingPlan(replace(SHORT, steps=90, batch_size=4, learning_rate=4e-3, bfloat16=False), TINY)
    trainer = HandOsTrainer(plan, shards, tmp_path / "run")
    four = trainer.batches.batch(0)
    trainer.batches.batch = lambda step: four
    trainer.train()
    rows = [line.split(",") for line in (tmp_path / "run" / "losses.csv").read_text().splitlines()]
    head, first, last = rows[0], rows[1], rows[-1]
    for name, before, after in zip(head, first, last):
        if name not in ("step", "seconds", "smoothness"):
            assert float(after) < 0.7 * float(before), (name, before, after)


def test_frozen_features_get_no_gradient_and_do_not_change():
    features = LandmarkFeatures("torch")
    module = features._network.module
    assert not any(p.requires_grad for p in module.parameters())
    before = [p.clone() for p in module.parameters()]
    crops = np.random.default_rng(0).integers(0, 255, (1, 224, 224, 3), np.uint8)
    maps = features.read(crops)
    assert maps["fine"].shape == (1, 112, 14, 14) and maps["pooled"].shape == (1, 1152)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters()))


def test_features_are_the_same_on_both_engines():
    crops = np.random.default_rng(1).integers(0, 255, (1, 224, 224, 3), np.uint8)
    ours, torchs = LandmarkFeatures("cpu").read(crops), LandmarkFeatures("torch").read(crops)
    for name, values in ours.items():
        assert values.shape == torchs[name].shape
        np.testing.assert_allclose(values, torchs[name], atol=5e-3, err_msg=name)


def test_batches_depend_on_seed_and_step_alone(shards):
    first, second = (ShardBatches(shards, 4, seed=3) for _ in range(2))
    second.batch(7)
    a, b = first.batch(5), second.batch(5)
    assert torch.equal(a.targets.joints_2d, b.targets.joints_2d)
    other = ShardBatches(shards, 4, seed=4).batch(5)
    assert not torch.equal(a.targets.joints_2d, other.targets.joints_2d)


def test_other_settings_do_not_resume(shards, tmp_path):
    run(TrainingPlan(replace(SHORT, steps=3), TINY), shards, tmp_path / "run")
    with pytest.raises(InputError, match="other settings"):
        HandOsTrainer(TrainingPlan(replace(SHORT, steps=4), TINY), shards, tmp_path / "run")


def test_a_damaged_checkpoint_and_missing_shards_are_named(shards, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CHECKPOINT).write_bytes(b"PK\x03\x04 no")
    with pytest.raises(InputError, match="cannot be read"):
        HandOsTrainer(TrainingPlan(SHORT, TINY), shards, tmp_path / "run")
    with pytest.raises(InputError, match="no shard"):
        HandOsTrainer(TrainingPlan(SHORT, TINY), tmp_path, tmp_path / "other")


def test_second_stage_starts_from_a_2d_models_layers(shards, tmp_path):
    flat = replace(TINY, layers_2d=2, layers_interactive=0)
    first = run(TrainingPlan(replace(SHORT, steps=3), flat), shards, tmp_path / "flat")
    second = replace(SHORT, start_from=str(tmp_path / "flat" / CHECKPOINT))
    trainer = HandOsTrainer(TrainingPlan(second, TINY), shards, tmp_path / "full")
    for name in ("layers.1.values.weight", "expand.joints", "heads.0.joints.0.weight"):
        assert torch.equal(trainer.network.state_dict()[name], first.network.state_dict()[name])


def test_more_heads_are_trained_on_weights_that_stay(shards, tmp_path):
    first = run(TrainingPlan(replace(SHORT, steps=3), TINY), shards, tmp_path / "first")
    later = replace(SHORT, learning_rate=0.01, heads_only=True, start_from=str(tmp_path / "first" / "handos.npz"))
    more = replace(TINY, contact_head=True, mask_channels=6)
    trainer = run(TrainingPlan(later, more), shards, tmp_path / "heads")
    fresh = HandOsTrainer(TrainingPlan(later, more), shards, tmp_path / "fresh").network.state_dict()
    learned = trainer.network.state_dict()
    kept = first.network.state_dict()
    for name, values in learned.items():
        if name in kept:
            torch.testing.assert_close(values, kept[name].half().float(), rtol=0, atol=0)
        else:
            assert name.startswith("segment.") or ".contact." in name
    assert not torch.equal(learned["segment.out.weight"], fresh["segment.out.weight"])
    assert not torch.equal(learned["heads.1.contact.2.bias"], fresh["heads.1.contact.2.bias"])
    # Heads of another size are learned anew; the rest is the file's.
    wider = replace(more, mask_channels=8)
    again = HandOsTrainer(TrainingPlan(replace(later, start_from=str(tmp_path / "heads" / "handos.npz")), wider),
                          shards, tmp_path / "wider").network.state_dict()  # fmt: skip
    assert torch.equal(again["heads.1.contact.2.bias"], learned["heads.1.contact.2.bias"].half().float())
    assert again["segment.out.weight"].shape[1] == 8
    scores = json.loads((tmp_path / "heads" / "scores.jsonl").read_text().splitlines()[-1])
    assert {"contact_iou", "pa_mpjpe_mm", "translation_mm", "distance_percent"} <= set(scores)
    # Weights are handed on: they name what they began from, not where it lay.
    header = str(np.load(tmp_path / "heads" / "handos.npz")["header"])
    assert '"start_from": "handos.npz"' in header and str(tmp_path) not in header
    with pytest.raises(InputError, match="set network"):
        HandOsTrainer(TrainingPlan(later, TINY), shards, tmp_path / "none")


def test_a_hand_said_to_be_farther_away_is_scored_by_how_much(shards):
    """The joints' middle counts, wherever the network has its own origin."""
    batch = ShardBatches(shards, 4, seed=3).batch(0)
    true = batch.targets
    seen = project_joints(true.joints_3d + true.translation[:, :, None], batch.camera)
    torch.testing.assert_close(seen, true.joints_2d, atol=2e-3, rtol=0)
    network = HandOs(TINY, build_topology(HandModel.load(), TINY.coarse_vertices))
    shift = torch.tensor([0.0, 0.1, 0.2])

    def scores(places: torch.Tensor) -> dict[str, torch.Tensor]:
        said = HandOsOutput(true.joints_2d, true.vertices + shift, true.joints_3d + shift, places - shift)
        return score_hands(network, batch, said)

    exact, far, near = (scores(factor * true.translation) for factor in (1.0, 1.25, 0.9))
    for row, percent, mm in ((exact, 0, 0), (far, 25, 125), (near, 10, 50)):
        torch.testing.assert_close(row["distance_percent"], torch.full((4,), float(percent)), atol=0.01, rtol=0)
        torch.testing.assert_close(row["translation_mm"], torch.full((4,), float(mm)), atol=0.05, rtol=0)
    batch = replace(batch, targets=replace(true, translation=None))
    assert "distance_percent" not in scores(true.translation)


def test_the_start_keeps_its_share_in_what_is_written(shards, tmp_path):
    run(TrainingPlan(SHORT, TINY), shards, tmp_path / "first")
    begun, _ = load_weights(tmp_path / "first" / "handos.npz")
    config = replace(SHORT, seed=1, learning_rate=0.02, start_share=0.25)
    config = replace(config, start_from=str(tmp_path / "first" / "handos.npz"))
    trainer = run(TrainingPlan(config, TINY), shards, tmp_path / "second", until=4)
    trainer = run(TrainingPlan(config, TINY), shards, tmp_path / "second")  # the start is read again when it goes on
    written, _ = load_weights(tmp_path / "second" / "handos.npz")
    moved = 0.0
    for (name, p), a, b in zip(written.named_parameters(), begun.parameters(), trainer.network.parameters()):
        assert torch.allclose(p, 0.25 * a + 0.75 * b, atol=1e-3), name
        moved = max(moved, float((a - b).abs().max()))
    assert moved > 0.02
    with pytest.raises(InputError, match="start_from"):
        HandOsTrainer(TrainingPlan(replace(SHORT, start_share=0.5), TINY), shards, tmp_path / "third")


def test_a_picture_comes_early_and_needs_no_held_out_data(shards, tmp_path):
    plan = TrainingPlan(replace(SHORT, steps=52, score_steps=500), TINY)
    run(plan, shards, tmp_path / "scored")
    assert json.loads((tmp_path / "scored" / "scores.jsonl").read_text())["step"] == 50
    (shards / "held_out" / "shard_00000.npz").unlink()
    run(replace(plan, training=replace(plan.training, score_steps=51)), shards, tmp_path / "plain")
    assert not (tmp_path / "plain" / "scores.jsonl").exists()
    for name in ("scored/pictures_000050.png", "plain/pictures_000050.png", "plain/pictures_000051.png"):
        assert cv2.imread(str(tmp_path / name)).shape == (448, 448, 3)  # two crops; 2D joints above, projected below


def test_a_plan_from_yaml(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("network: {base: paper, coarse_vertices: 98}\ntraining: {steps: 9}\nloss: {edges: 2.0}\n")
    plan = read_plan(path)
    assert plan.network.width == 256 and plan.network.coarse_vertices == 98
    assert plan.training.steps == 9 and plan.loss.edges == 2.0
    path.write_text("training: {stepps: 9}\n")
    with pytest.raises(InputError, match="steps"):
        read_plan(path)
    for text, named in (
        ("trainings: {}", "parts"),
        ("training: 9", "'training' needs lines"),
        ("network: {base: papers}", "did you mean 'paper'"),
        ("network: {feature_channels: [8, 0]}", "'feature_channels' is 0"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=named):
            read_plan(path)


# Weights


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    network = HandOs(TINY, build_topology(HandModel.load(), 20))
    save_weights(tmp_path / "w.npz", network, {"step": 3})
    return tmp_path / "w.npz", network


def test_weights_come_back_in_half_precision(weights):
    path, network = weights
    loaded, card = load_weights(path)
    assert card == {"step": 3} and loaded.config == network.config
    assert not any(p.requires_grad for p in loaded.parameters())
    for a, b in zip(network.parameters(), loaded.parameters()):
        torch.testing.assert_close(a.half().float(), b)


def in_header(old, new):
    def change(arrays):
        assert old in str(arrays["header"])
        arrays["header"] = np.array(str(arrays["header"]).replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda a: a.pop("mirror.weight"), "'mirror.weight' is missing, expected \\(1, 32\\)"),
        (
            lambda a: a.update({"mirror.weight": np.zeros((2, 32), np.float16)}),
            "shape \\(2, 32\\), expected \\(1, 32\\)",
        ),
        (lambda a: a.update({"mirror.weight": np.full((1, 32), np.nan, np.float16)}), "not finite"),
        (lambda a: a.update({"extra": np.zeros(1, np.float16)}), "'extra' was found"),
        (lambda a: a.update(header=np.array(str(a["header"]).replace('"version": 1', '"version": 2'))), "version 2"),
        (lambda a: a.update(header=np.array(str(a["header"]).replace("778", "700"))), "700 vertices"),
        (lambda a: a.update(header=np.array("{}")), "not a file of HandOS weights"),
        (
            in_header('"coarse_vertices": 20', '"coarse_vertices": -3'),
            "'coarse_vertices' is -3: its range is 0 to inf; ",
        ),
        (in_header('"coarse_vertices": 20', '"coarse_vertices": 1'), "coarse_vertices 1: give 0 for all, or at least"),
        (in_header('"coarse_vertices": 20', '"coarse_vertices": 900'), "coarse_vertices 900: .* 778; train"),
        (in_header('"residual_share": 1.0', '"residual_share": 7'), "'residual_share' is 7.0: its range is 0 to 1; "),
        (in_header('"width": 32', '"width": 1000000000'), "'width' is 1000000000: its range"),
        (in_header('"width": 32', '"width": "wide"'), "'width' is 'wide': give a whole number"),
        (in_header('"width": 32', '"widht": 32'), "'widht': did you mean 'width'"),
        (in_header('"feature_channels": [112, 192]', '"feature_channels": [112, -1]'), "'feature_channels' is -1"),
        (in_header('"feature_channels": [112, 192]', '"feature_channels": []'), "as many of one as of the other"),
        (in_header('"query_channels": [1152, 126]', '"query_channels": [1152]'), "give two"),
        (in_header('"card": {"step": 3}', '"card": [3]'), "no sizes or no card"),
    ],
)
def test_foreign_weights_are_refused_by_name(weights, change, named):
    path, _ = weights
    with np.load(path) as content:
        arrays = dict(content)
    change(arrays)
    with path.open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(InputError, match=named) as refused:
        load_weights(path)
    assert str(path) in str(refused.value) and "./hoi train handos" in str(refused.value)


def test_missing_and_truncated_weights(weights, tmp_path):
    path, _ = weights
    with pytest.raises(InputError, match="are missing"):
        load_weights(tmp_path / "none.npz")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="its 2000 bytes are cut off, damaged or no such weights; copy the file again"):
        load_weights(path)
    np.save(tmp_path / "w.npy", np.zeros(3))
    with pytest.raises(InputError, match="no such weights"):
        load_weights(tmp_path / "w.npy")
    with pytest.raises(InputError, match=r"cannot be read .*directory.*: check the path"):
        load_weights(tmp_path)

"""Training on crops made in the training process: what is learned, resuming bit for bit, what the detector misses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import run
from training_shards import write_made_up_shard

from hoi_ros import cli
from hoi_ros.errors import InputError
from hoi_ros.hand.embedded_features import COMPACT, LandmarkFeatures
from hoi_ros.hand.weights_file import read_weights
from hoi_ros.training import batch_stream
from hoi_ros.training.batch_features import BatchFeatures
from hoi_ros.training.batch_settings import StreamConfig
from hoi_ros.training.batch_stream import chosen, open_stream
from hoi_ros.training.hand_crops import UNKNOWN
from hoi_ros.training.train_handos import HandOsTrainer, TrainingConfig, TrainingPlan, read_plan

TINY = replace(COMPACT, width=32, heads=4, points=1, hidden=48, layers_2d=1, layers_interactive=1, coarse_vertices=20)
SHORT = TrainingConfig(steps=4, batch_size=4, warm_up_steps=1, checkpoint_steps=2, score_steps=4, threads=1)
STREAM = StreamConfig(skins=1, things=1, held_share=0.3, score_crops=8, crops_to_hard=64)
PLAN = TrainingPlan(SHORT, replace(TINY, dropout=0.2), stream=STREAM)


@pytest.fixture(scope="module")
def stream():
    return open_stream(PLAN, None, "cpu")[1]


def test_a_killed_run_ends_where_an_unbroken_one_does(stream, tmp_path):
    whole = run(PLAN, stream, tmp_path / "whole")
    run(PLAN, stream, tmp_path / "broken", until=3)
    # As after a kill, everything is built anew.
    again = run(PLAN, open_stream(PLAN, None, "cpu")[1], tmp_path / "broken")
    for (name, a), b in zip(whole.network.state_dict().items(), again.network.state_dict().values()):
        assert torch.equal(a, b), name
    curves = [(tmp_path / d / "losses.csv").read_text().splitlines() for d in ("whole", "broken")]
    assert [row.split(",")[2:] for row in curves[0]] == [row.split(",")[2:] for row in curves[1]]
    assert '"pa_mpjpe_mm"' in (tmp_path / "whole" / "scores.jsonl").read_text()
    for name in ("curves.png", "pictures_000004.png", "handos.npz"):
        assert (tmp_path / "whole" / name).stat().st_size > 500
    with pytest.raises(InputError, match="other settings"):
        HandOsTrainer(replace(PLAN, stream=replace(STREAM, held_share=0.5)), stream, tmp_path / "whole")
    with pytest.raises(InputError, match="other settings"):
        HandOsTrainer(replace(PLAN, stream=None), stream, tmp_path / "whole")


def test_four_streamed_hands_are_learned_by_heart(stream, tmp_path):
    training = replace(SHORT, steps=60, learning_rate=4e-3, bfloat16=False, score_steps=999)
    plan = replace(PLAN, training=training, network=TINY)
    four = stream.batch(0)

    class Same:
        count, card = 0, stream.card

        def batch(self, step):
            return four

        def score(self, network, picture):
            return {}

    run(plan, Same(), tmp_path / "run")
    rows = [line.split(",") for line in (tmp_path / "run" / "losses.csv").read_text().splitlines()]
    for name, before, after in zip(rows[0], rows[1], rows[-1]):
        if name in ("total", "joints_2d", "vertices", "joints_3d", "projected"):
            assert float(after) < 0.7 * float(before), (name, before, after)


def test_batches_depend_on_seed_and_step_alone_and_get_harder(stream, monkeypatch):
    first = stream.batch(3)
    stream.batch(9)
    again = stream.batch(3)
    assert torch.equal(first.detection.features[0], again.detection.features[0])
    assert torch.equal(first.targets.vertices, again.targets.vertices)
    assert not torch.equal(first.targets.joints_2d, stream.batch(4).targets.joints_2d)
    asked, draw = [], stream._source.crops

    def crops(number, levels, stage):
        asked.append(levels)
        return draw(number, levels)

    monkeypatch.setattr(stream._source, "crops", crops)
    for step in (0, 16, 500):
        stream.batch(step)
    assert asked[0].max() <= STREAM.easy and asked[1].max() <= STREAM.hard and asked[2].max() <= STREAM.hard
    assert len(asked[0]) == 5  # one more than trained on: the detector may miss some


def test_features_are_those_of_shards(stream):
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 255, (2, 3, 224, 224), np.uint8))
    images[1] = stream._source.crops(0, np.full(1, 0.2)).images[0]
    ours = BatchFeatures(detail=True).read(images)
    theirs = LandmarkFeatures(detail=True).read(images.permute(0, 2, 3, 1).numpy())
    assert set(ours) == set(theirs)
    for name, values in theirs.items():
        assert ours[name].shape == values.shape
        np.testing.assert_allclose(ours[name], values, atol=5e-3 * max(1.0, np.abs(values).max() / 50), err_msg=name)


def test_crops_without_a_hand_for_the_detector_teach_nothing():
    presence = torch.tensor([[0.1], [0.9], [0.2], [0.8], [0.9]])
    tensors = {
        "presence": presence,
        "joint_weights": torch.ones(5, 21),
        "has_3d": torch.ones(5, dtype=torch.bool),
        "segments": torch.ones(5, 2, 2, dtype=torch.uint8),
        "right": torch.arange(5),
    }
    some = chosen(tensors, 4)
    assert some["right"].tolist() == [1, 3, 4, 0]
    assert some["has_3d"].tolist() == [True, True, True, False]
    assert some["joint_weights"].sum(1).tolist() == [21, 21, 21, 0]
    assert (some["segments"][3] == UNKNOWN).all() and (some["segments"][:3] == 1).all()
    assert chosen(tensors, 5, reorder=False)["right"].tolist() == [0, 1, 2, 3, 4]


def test_heads_are_trained_on_finer_maps(stream, tmp_path):
    network = replace(TINY, contact_head=True, mask_channels=4, detail_channels=(40, 24))
    plan, fine = open_stream(replace(PLAN, network=network, training=replace(SHORT, steps=1)), None, "cpu")
    trainer = run(plan, fine, tmp_path / "heads")
    row = (tmp_path / "heads" / "losses.csv").read_text().splitlines()
    assert {"contact", "segments"} <= set(row[0].split(",")) and trainer.step == 1


def test_scores_on_shards(tmp_path):
    write_made_up_shard(tmp_path / "held_out", 0)
    _, stream = open_stream(PLAN, tmp_path, "cpu")
    trainer = HandOsTrainer(PLAN, stream, tmp_path / "run")
    assert stream.score(trainer.network, tmp_path / "picture.png")["pa_mpjpe_mm"] > 0
    with pytest.raises(InputError, match="no held_out"):
        open_stream(PLAN, tmp_path / "held_out", "cpu")


def test_a_plan_with_a_stream(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("stream: {things: 5}\n")
    assert read_plan(path).stream.things == 5
    path.write_text("stream:\n")
    assert read_plan(path).stream == StreamConfig()
    path.write_text("training: {steps: 2}\n")
    assert read_plan(path).stream is None
    shipped = read_plan(Path(__file__).parents[2] / "config" / "handos_stream.yaml")
    assert shipped.stream is not None and shipped.training.steps * shipped.training.batch_size > 10**7
    path.write_text("stream: {thingss: 5}\n")
    with pytest.raises(InputError, match="things"):
        read_plan(path)


def test_photos_close_the_weights_unless_the_user_says_otherwise(stream, tmp_path, capsys, monkeypatch):
    """Crops themselves are left out: only what is written about them counts."""
    assert stream.card["shippable"] and "photos" not in stream.card["data"]
    for name in ("BatchCropSource", "BatchFeatures"):
        monkeypatch.setattr(batch_stream, name, lambda *_: None)
    monkeypatch.setattr(HandOsTrainer, "train", lambda self, show: self.save())
    card = open_stream(replace(PLAN, stream=replace(STREAM, backgrounds="photos")), None, "cpu")[1].card
    assert not card["shippable"] and "photos" in card["data"]
    config = tmp_path / "plan.yaml"
    config.write_text(
        "network: {width: 32, heads: 4, hidden: 48, layers_2d: 1, layers_interactive: 1, coarse_vertices: 20}\n"
        "stream: {backgrounds: photos}\n"
    )
    options = ["train", "handos", "--config", str(config), "--device", "cpu", "--quiet", "--out"]
    for said, folder in (([], "closed"), (["--shippable"], "open")):
        assert cli.main([*options, str(tmp_path / folder), *said]) == 0
        assert read_weights(tmp_path / folder / "handos.npz").card["shippable"] == bool(said)
    assert cli.main([*options, str(tmp_path / "other"), "--held-out", str(tmp_path)]) == 2
    assert "--detector" in capsys.readouterr().err


def test_the_command_streams(tmp_path, capsys):
    config = tmp_path / "plan.yaml"
    config.write_text(
        "network: {width: 32, heads: 4, hidden: 48, layers_2d: 1, layers_interactive: 1, coarse_vertices: 20}\n"
        "training: {steps: 1, batch_size: 2, score_steps: 9}\nstream: {skins: 1, things: 1}\n"
    )
    options = ["train", "handos", "--config", str(config), "--out", str(tmp_path / "run"), "--device", "cpu", "--quiet"]
    assert cli.main(options) == 0
    assert "1 steps" in capsys.readouterr().out and (tmp_path / "run" / "handos.npz").exists()
    assert cli.main(["train", "handos", "--out", str(tmp_path / "other")]) != 0
    assert "--stream" in capsys.readouterr().err
    assert cli.main([*options, "--stream", "--detector", str(tmp_path)]) != 0

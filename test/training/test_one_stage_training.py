"""`hoi train handos --detector`: joints in 2D, then the mesh from that checkpoint, before a tiny random detector."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from hoi_ros.cli import main
from hoi_ros.evaluation.datasets import open_dataset
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.hand.handos_weights import load_weights
from hoi_ros.simulate import SimulateOptions, simulate
from hoi_ros.simulation import SimulatorConfig
from hoi_ros.training.command_help import HANDOS_HELP

NETWORK = "base: paper, width: 32, heads: 4, points: 1, hidden: 32, coarse_vertices: 20"
TRAINING = (
    "steps: 3, batch_size: 2, warm_up_steps: 1, score_steps: 2, learning_rate: 0.002, threads: 1, image_side: 128"
)


def write_detector(transformers, folder):
    """A random RT-DETRv2 with 12 queries that knows hands by name."""
    torch.manual_seed(0)
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1] * 4, layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.RTDetrV2Config(
        backbone_config=backbone, encoder_in_channels=[12, 16, 20], encoder_hidden_dim=32, encoder_ffn_dim=32,
        encoder_attention_heads=4, d_model=32, num_queries=12, decoder_in_channels=[32] * 3, decoder_ffn_dim=32,
        decoder_layers=2, decoder_attention_heads=4, feat_strides=[8, 16, 32], num_denoising=0, id2label={0: "hand"},
    )  # fmt: skip
    transformers.RTDetrV2ForObjectDetection(config).save_pretrained(folder)


def losses(out: Path) -> dict[str, list[float]]:
    with (out / "losses.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def test_two_stages_before_a_detector_give_weights_that_find_hands(tmp_path):
    transformers = pytest.importorskip("transformers")
    detector, film = tmp_path / "detector", tmp_path / "film"
    write_detector(transformers, detector)
    config = SimulatorConfig(width=160, height=120, frames=4)
    simulate(SimulateOptions("handover:box", film, config, bag=False, quiet=True))
    flat, solid = tmp_path / "flat", tmp_path / "solid"
    plans = {
        flat: f"network: {{{NETWORK}, layers_2d: 2, layers_interactive: 0}}\ntraining: {{{TRAINING}}}\n",
        solid: f"network: {{{NETWORK}, layers_2d: 1, layers_interactive: 1}}\n"
        f"training: {{{TRAINING}, seed: 1, start_from: {flat / 'checkpoint.pt'}}}\n",
    }
    for out, plan in plans.items():
        path = tmp_path / f"{out.name}.yaml"
        path.write_text(plan)
        command = ["train", "handos", "--config", path, "--detector", detector, "--data", film, "--out", out]
        assert main([*map(str, command), "--device", "cpu", "--quiet"]) == 0
        for file in out.iterdir():
            named = "pictures_*.png" if file.name.startswith("pictures_") else file.name
            assert named in HANDOS_HELP, f"{file.name} is written, and help does not say so"
        assert (out / "pictures_000002.png").stat().st_size > 500
        assert np.isfinite(losses(out)["total"]).all() and min(losses(out)["joints_2d"]) > 0
    assert not load_weights(flat / "handos.npz")[0].config.layers_interactive
    assert "vertices" not in losses(flat) and min(losses(solid)["vertices"]) > 0

    network, card = load_weights(solid / "handos.npz")
    assert network.config.feature_channels == (32, 32, 32) and network.config.shallow_channels == (12, 16, 20)
    assert (card["detector"], card["step"], card["image_side"], card["shippable"]) == ("rt_detr_v2", 3, 128, False)
    # A few small steps from the first stage, not from random numbers.
    first, second = (torch.load(o / "checkpoint.pt", weights_only=True)["network"] for o in (flat, solid))
    name = "layers.0.values.weight"
    assert 0 < (first[name] - second[name]).abs().max() < 0.02 < first[name].abs().max()

    estimator = create_hand_estimator(
        HandConfig(estimator="handos", handos_detector=str(detector), handos_weights=str(solid / "handos.npz")), "cpu"
    )
    for hand in estimator.estimate(open_dataset(film)[0][0].frame):
        assert hand.vertices_camera.shape == (778, 3) and np.isfinite(hand.vertices_camera).all()

"""Crops of labelled pictures: exact where the label is, mirrored both ways, weak without depth, carded."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from hoi_ros.cli import main
from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.evaluation.datasets import HandLabel, LabelledFrame
from hoi_ros.geometry import fit_similarity, project
from hoi_ros.hand_model import HandModel
from hoi_ros.training.feature_cache import read_card, read_shard, shard_path
from hoi_ros.training.hand_crops import UNKNOWN
from hoi_ros.training.labelled_crops import CropCutter, mirrored, write_labelled_shards
from hoi_ros.training.shard_batches import make_batch

sys.path.append(str(Path(__file__).parents[1] / "evaluation"))

import lookalikes

CAMERA = CameraIntrinsics(320, 240, 300.0, 300.0, 159.5, 119.5)


def labelled(side: str = "right", solid: bool = True, shift: float = 0.0) -> LabelledFrame:
    model = HandModel.load()
    angles = np.full((1, 22), 0.25)
    posed = model.pose(angles, np.zeros((1, 10)), side)
    joints = posed.joints[0] @ np.diag([1.0, -1.0, -1.0]) + [shift, 0.08, 0.45]
    pixels = project(joints, CAMERA)
    picture = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    hand = HandLabel(side, joints if solid else None, None if solid else pixels)
    return LabelledFrame(RgbdFrame(picture, CAMERA, 0), (hand,))


def test_a_cut_hand_projects_where_it_is_labelled():
    for shift in (0.0, 0.06):
        crop = next(CropCutter(1).crops([labelled(shift=shift)]))
        seen = crop.joints + crop.translation
        points = seen[:, :2] / seen[:, 2:] * crop.camera[:2] + crop.camera[2:]
        # The crop is an affine part of the picture, its camera is turned: they differ by the hand's perspective.
        assert np.abs(points - crop.joints_2d).max() < 0.02
        assert crop.right and crop.has_3d and crop.image.shape == (224, 224, 3)
        fitted = crop.vertices[HandModel.load().template[:, 1].argmax()]
        assert np.linalg.norm(fitted - crop.joints[12]) < 0.02
        # Nobody labelled masks and contact: they teach nothing, rather than that nothing is there.
        assert (crop.segments == UNKNOWN).all() and np.isnan(crop.contact).all()


def test_the_mirrored_crop_is_the_other_hand_twice_mirrored_the_same():
    plain, other = list(CropCutter(1).crops([labelled()]))
    assert plain.right != other.right
    np.testing.assert_allclose(other.joints[:, 0], -plain.joints[:, 0])
    np.testing.assert_allclose(other.joints_2d[:, 0], 1 - plain.joints_2d[:, 0])
    np.testing.assert_array_equal(other.image, plain.image[:, ::-1])
    again = mirrored(other)
    np.testing.assert_allclose(again.vertices, plain.vertices)
    np.testing.assert_array_equal(again.image, plain.image)


def test_flat_labels_supervise_weakly_and_lost_palms_are_left_out():
    crop = next(CropCutter(1).crops([labelled(solid=False)]))
    assert not crop.has_3d and crop.joint_weights.all()
    frame = labelled(solid=False)
    pixels = frame.hands[0].joints_px.copy()
    pixels[8] = np.nan
    some = next(CropCutter(1).crops([LabelledFrame(frame.frame, (HandLabel("right", None, pixels),))]))
    assert some.joint_weights.sum() == 20 and some.joint_weights[8] == 0
    pixels[0] = np.nan
    assert list(CropCutter(1).crops([LabelledFrame(frame.frame, (HandLabel("right", None, pixels),))])) == []


def test_shards_of_labelled_pictures_are_read_back_with_their_card(tmp_path):
    frames = [labelled("left"), labelled(solid=False)]
    assert write_labelled_shards(frames, tmp_path, name="mine", shippable=False) == 4
    arrays = read_shard(shard_path(tmp_path, 0))
    assert arrays["has_3d"].tolist() == [True, True, False, False]
    batch = make_batch({name: values for name, values in arrays.items() if name != "pictures"})
    assert batch.targets.has_3d[:, 0].tolist() == [True, True, False, False]
    assert read_card(tmp_path) == {"data": "mine", "shippable": False, "hand_model": "free hand"}
    assert not read_card(tmp_path / "nowhere")["shippable"], "data of unknown origin is not handed on"


@pytest.mark.parametrize("name", ["coco_wholebody", "dexycb", "freihand", "hint", "ho3d"])
def test_hands_of_a_data_set_become_crops_of_the_hand_that_is_labelled(tmp_path, monkeypatch, name):
    """The user's own copy, by the command, from layout to crops."""
    joints = labelled().hands[0].joints_camera + [0.0, 0.0, 0.3]
    monkeypatch.setattr(lookalikes, "JOINTS", joints)
    monkeypatch.setattr(lookalikes, "SIZE", (480, 640))
    lookalikes.training_part(name, tmp_path / "set")
    out = tmp_path / "crops"
    assert main(["train", "crops", "--dataset", str(tmp_path / "set"), "--out", str(out), "--quiet"]) == 0
    arrays = read_shard(shard_path(out, 0))
    assert len(arrays["right"]) == 2 and not read_card(out)["shippable"]
    weak = name in ("hint", "coco_wholebody")
    assert arrays["has_3d"].tolist() == [not weak] * 2
    assert arrays["right"][0] != arrays["right"][1], "plain and mirrored"
    if weak:
        known = arrays["joint_weights"][0] > 0
        assert known.sum() == (20 if name == "coco_wholebody" else 21)
        flat_joints = joints[known] * [100, 100, 0]
        seen = np.zeros((known.sum(), 3))
        seen[:, :2] = arrays["joints_2d"][0][known]
        scale, turn, offset = fit_similarity(flat_joints, seen)
        np.testing.assert_allclose(scale * flat_joints @ turn.T + offset, seen, atol=2e-3)
    else:
        apart = np.linalg.norm(joints[:, None] - joints[None], axis=-1)
        ours = arrays["joints"][0].astype(float)
        np.testing.assert_allclose(np.linalg.norm(ours[:, None] - ours[None], axis=-1), apart, atol=1e-3)


def test_the_command_refuses_two_kinds_of_data_and_unknown_ones(tmp_path, capsys):
    assert main(["train", "crops", "--out", str(tmp_path / "o"), "--dataset", "a", "--unlabelled", "sim"]) == 2
    assert main(["train", "crops", "--out", str(tmp_path / "o"), "--dataset", str(tmp_path), "--quiet"]) == 2
    assert "hoi:" in capsys.readouterr().err


def test_pseudo_labels_of_the_simulator(tmp_path):
    options = ["--shards", "1", "--shippable", "--quiet"]
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    import cv2

    from hoi_ros.simulation import Simulator, SimulatorConfig

    simulator = Simulator("bare", SimulatorConfig(width=320, height=240))
    cv2.imwrite(str(pictures / "a.png"), simulator.frame(3).color[..., ::-1])
    labels = {}
    for labeller, named in (("handos", []), ("embedded", ["--labeller", "embedded"])):
        out = tmp_path / labeller
        command = ["train", "crops", "--unlabelled", f"images:{pictures}", "--out", str(out), *named, *options]
        assert main(command) == 0
        card = json.loads((out / "card.json").read_text())
        assert card["shippable"]
        # The card goes into weights: which pictures, not where they lay.
        assert card["data"] == f"pseudo-labels by {labeller} of images pictures"
        shard = read_shard(shard_path(out, 0))
        labels[labeller] = shard["joints"].astype(float)
        assert len(shard["right"]) >= 2 and shard["pictures"].shape[1:] == (224, 224, 3)
    apart = np.linalg.norm(labels["handos"] - labels["embedded"], axis=-1)
    assert apart.mean() > 1e-3, "each labels as it sees"


@pytest.mark.parametrize("side", ["left", "right"])
def test_sides_survive_the_cut(side):
    crop = next(CropCutter(2).crops([labelled(side)]))
    corners = crop.vertices[HandModel.load().right_faces].astype(float)
    volume = np.einsum("fc,fc->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    assert (volume > 0) == (side == "right")

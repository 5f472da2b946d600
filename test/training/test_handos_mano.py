"""HandOS with the vertices of the user's own MANO: from shards over training to the estimator; other hands refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mano_look_alike import look_alike
from training_shards import write_made_up_shard

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.hand.embedded_features import COMPACT
from hoi_ros.hand.weights_file import SHIPPED, read_weights
from hoi_ros.hand_model import load_mano
from hoi_ros.training import feature_cache
from hoi_ros.training.batch_stream import open_stream
from hoi_ros.training.feature_cache import make_shards, read_card, write_card
from hoi_ros.training.hand_crops import HandCropSource
from hoi_ros.training.train_handos import HandOsTrainer, TrainingConfig, TrainingPlan, read_plan

sys.path.append(str(Path(__file__).parents[1] / "hand"))

from drawn_hand import draw_hand

SMALL = replace(COMPACT, width=32, heads=4, points=1, hidden=48, layers_2d=1, layers_interactive=1, coarse_vertices=20)


@pytest.fixture(scope="module")
def mano_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("mano") / "MANO_RIGHT.npz"
    np.savez(path, **look_alike(np.random.default_rng(0)))
    return path


@pytest.fixture(scope="module")
def plan(mano_file) -> TrainingPlan:
    training = TrainingConfig(
        steps=2, batch_size=4, warm_up_steps=1, checkpoint_steps=2, score_steps=9, threads=1, hand_model=str(mano_file)
    )
    return TrainingPlan(training, SMALL)


@pytest.fixture(scope="module")
def shards(mano_file, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_made_up_shard(folder, 0, model=load_mano(mano_file))
    write_card(folder, "made up", True, "MANO")
    return folder


@pytest.fixture(scope="module")
def weights(plan, shards, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    HandOsTrainer(plan, shards, out).train()
    return out / "handos.npz"


@pytest.mark.parametrize("engine", ["numpy", "eager"])
def test_trained_on_mano_it_answers_with_mano_s_mesh(mano_file, weights, engine):
    config = HandConfig(
        estimator="handos", hand_model=str(mano_file), handos_weights=str(weights), handos_mesh="network",
        handos_engine=engine, presence_threshold=0.0, threads=1,
    )  # fmt: skip
    estimator = create_hand_estimator(config, "cpu")
    mano, picture = load_mano(mano_file), RgbdFrame(draw_hand("right"), CameraIntrinsics.from_fov(640, 480), 0)
    np.testing.assert_array_equal(estimator.faces("right"), mano.faces("right"))
    (hand,) = estimator.estimate(picture, independent=True)
    # Nothing was learned in two steps: the network's mesh is MANO's, skinned onto the landmarks.
    rest = np.linalg.norm(mano.template - mano.template.mean(0), axis=1).mean()
    found = hand.vertices_camera - hand.vertices_camera.mean(0)
    assert found.shape == (778, 3) and 0.6 < np.linalg.norm(found, axis=1).mean() / rest < 1.4
    edges = mano.right_faces[:, :2]
    lengths = [np.linalg.norm(np.diff(v[edges], axis=1)[:, 0], axis=1) for v in (found, mano.template)]
    assert np.corrcoef(*lengths)[0, 1] > 0.6, "vertices are in MANO's order"


def test_its_weights_name_their_hand_and_are_not_handed_on(mano_file, weights):
    card = read_weights(weights, load_mano(mano_file)).card
    assert card["training"]["hand_model"] == mano_file.name and not card["shippable"]
    with pytest.raises(InputError, match="made for the hand model 'MANO' with 778 vertices, expected 'free hand'"):
        create_hand_estimator(HandConfig(estimator="handos", handos_weights=str(weights)), "cpu")
    with pytest.raises(InputError, match=r"made for the hand model 'free hand' .* expected 'MANO'"):
        create_hand_estimator(
            HandConfig(estimator="handos", handos_weights=str(SHIPPED), hand_model=str(mano_file)), "cpu"
        )


def test_data_and_first_weights_of_another_hand_are_refused(plan, shards, tmp_path):
    write_made_up_shard(tmp_path, 0)
    write_card(tmp_path, "free", True)
    with pytest.raises(InputError, match="'free hand', expected 'MANO'"):
        HandOsTrainer(plan, tmp_path, tmp_path / "run")
    free = replace(plan, training=replace(plan.training, hand_model=""))
    with pytest.raises(InputError, match="'MANO', expected 'free hand'"):
        HandOsTrainer(free, shards, tmp_path / "run")
    begun = replace(plan, training=replace(plan.training, start_from=str(SHIPPED)))
    with pytest.raises(InputError, match="made for the hand model 'free hand'"):
        HandOsTrainer(begun, shards, tmp_path / "run")
    with pytest.raises(InputError, match=r"hand model 'MANO': only the free hand .* --hand-model"):
        open_stream(plan, None, "cpu")


def test_synthetic_crops_show_mano(mano_file, tmp_path, monkeypatch):
    mano = load_mano(mano_file)
    crop = HandCropSource(0, mano, skins=1).crop()
    reach = np.linalg.norm(crop.joints[[4, 8, 12, 16, 20]] - crop.vertices[[744, 320, 443, 554, 671]], axis=1)
    assert reach.max() < 0.002, "its fingertips are MANO's vertices"
    shown = []
    monkeypatch.setattr(feature_cache, "HandCropSource", lambda seed, model, *_: shown.append(model.name))
    monkeypatch.setattr(feature_cache, "_shard_arrays", lambda *_: {"nothing": np.zeros(1)})
    list(make_shards(tmp_path, 1, hand_model=str(mano_file)))
    assert shown == ["MANO"]
    assert read_card(tmp_path) == {"data": "synthetic crops of MANO", "shippable": False, "hand_model": "MANO"}
    with pytest.raises(InputError, match="of the hand model 'MANO', not of 'free hand'"):
        list(make_shards(tmp_path, 0))


def test_the_recipe_is_read():
    recipe = read_plan(Path(__file__).parents[2] / "config" / "handos_mano.yaml")
    assert recipe.training.hand_model == "MANO_RIGHT.pkl" and recipe.network.from_landmarks

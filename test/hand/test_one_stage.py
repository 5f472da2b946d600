"""The one-stage path: SimOTA's choice and padding, every hand of an image at once, three families of detectors."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from handos_cases import TINY, detection, tiny_network, topology
from torch import nn

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.hand.engine import TracedEngine
from hoi_ros.hand.full_image_detectors import FullImageDetector, load_detector
from hoi_ros.hand.handos import HandOs
from hoi_ros.hand.handos_weights import save_weights
from hoi_ros.hand.one_stage import OneStageHandOs, choose_instances
from hoi_ros.hand.one_stage_estimator import OneStageEstimator

VIEW = torch.tensor([1.2, 1.6, 0.5, 0.5])


class FixedDetector(nn.Module):
    """Says the same of every image."""

    def __init__(self, boxes, scores):
        super().__init__()
        self.answer = replace(detection(1, len(boxes)), boxes=torch.tensor([boxes]), scores=torch.tensor([scores]))

    def forward(self, images):
        return self.answer


def test_every_well_scored_hand_of_an_image_is_decoded_and_copies_are_not():
    boxes = [[0.3, 0.5, 0.2, 0.2], [0.301, 0.5, 0.2, 0.2], [0.7, 0.5, 0.3, 0.3], [0.5, 0.9, 0.1, 0.1]]
    model = OneStageHandOs(FixedDetector(boxes, [0.8, 0.9, 0.3, 0.02]), tiny_network(shaken=0.05))
    hands = model.find(torch.zeros(3, 32, 32), VIEW)
    assert hands.scores.tolist() == pytest.approx([0.9, 0.3])
    assert hands.vertices_camera.shape == (2, 778, 3) and hands.right.shape == (2,)
    regressed = torch.from_numpy(topology().regressor) @ hands.vertices_camera
    torch.testing.assert_close(regressed, hands.joints_camera, atol=1e-4, rtol=1e-4)
    nothing = model.find(torch.zeros(3, 32, 32), VIEW, score=0.95)
    assert nothing.vertices_camera.shape == (0, 778, 3)


def test_instances_for_training_are_padded_and_marked():
    found = detection(2, 5)
    hand = torch.tensor([[0.5, 0.5, 0.3, 0.3]])
    found = replace(found, boxes=torch.tensor([[0.5, 0.5, 0.3, 0.3]]).expand(2, 5, 4).clone(), scores=torch.rand(2, 5))
    found.boxes[0, 2:] = torch.tensor([0.1, 0.1, 0.05, 0.05])
    chosen = choose_instances(found, [hand, hand])
    assert chosen.valid.sum(1).tolist() == [2, 5] and chosen.detection.boxes.shape == (2, 5, 4)
    assert choose_instances(found, [hand[:0], hand[:0]]).valid.sum() == 0


# Detectors from transformers


def rt_detr(transformers, family):
    stages = ["stage2", "stage3", "stage4"]
    sizes = dict(
        encoder_hidden_dim=32, encoder_ffn_dim=32, encoder_attention_heads=4, d_model=32, num_queries=12,
        decoder_in_channels=[32, 32, 32], decoder_ffn_dim=32, decoder_layers=2, decoder_attention_heads=4,
        feat_strides=[8, 16, 32], num_denoising=0, id2label={0: "person", 1: "Hand"},
    )  # fmt: skip
    if family == "rt_detr_v2":
        backbone = transformers.RTDetrResNetConfig(
            embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1] * 4, layer_type="basic", out_features=stages
        )
        config = transformers.RTDetrV2Config(backbone_config=backbone, encoder_in_channels=[12, 16, 20], **sizes)
        return transformers.RTDetrV2ForObjectDetection(config)
    backbone = transformers.HGNetV2Config(
        stem_channels=[3, 8, 8], hidden_sizes=[8, 12, 16, 20], stage_in_channels=[8, 8, 12, 16],
        stage_mid_channels=[4, 4, 4, 4], stage_out_channels=[8, 12, 16, 20], stage_num_blocks=[1] * 4,
        stage_numb_of_layers=[1] * 4, stage_downsample=[False, True, True, True],
        stage_light_block=[False] * 4, stage_kernel_size=[3] * 4, out_features=stages,
    )  # fmt: skip
    config = transformers.DFineConfig(backbone_config=backbone, encoder_in_channels=[12, 16, 20], **sizes)
    return transformers.DFineForObjectDetection(config)


def grounding_dino(transformers, folder):
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hand", "."]))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    text = transformers.BertConfig(
        vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    backbone = transformers.SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.GroundingDinoConfig(
        backbone_config=backbone, text_config=text, d_model=32, num_queries=10, encoder_layers=1, decoder_layers=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=4, decoder_attention_heads=4, max_text_len=16,
    )  # fmt: skip
    return transformers.GroundingDinoForObjectDetection(config)


@pytest.fixture(params=["rt_detr_v2", "d_fine", "grounding-dino"])
def detector_folder(request, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    make = grounding_dino if request.param == "grounding-dino" else rt_detr
    second = tmp_path if request.param == "grounding-dino" else request.param
    make(transformers, second).save_pretrained(tmp_path)
    return tmp_path


def test_a_detector_of_each_family_feeds_the_decoder_and_stays_frozen(detector_folder):
    detector = load_detector(detector_folder)
    channels = detector.channels(128)
    network = HandOs(replace(TINY, **channels), topology())
    model = OneStageHandOs(detector, network).train()
    assert not detector.training and not any(p.requires_grad for p in detector.parameters())
    before = {name: p.clone() for name, p in detector.named_parameters()}
    images, views = torch.rand(2, 3, 128, 160), VIEW.expand(2, 4)
    boxes = [torch.tensor([[0.5, 0.5, 0.4, 0.4]]), torch.tensor([[0.3, 0.3, 0.2, 0.3], [0.7, 0.6, 0.3, 0.2]])]
    outputs, chosen = model(images, views, boxes)
    assert chosen.valid.any(1).all() and outputs[-1].vertices.shape[:2] == chosen.valid.shape
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    outputs[-1].vertices.sum().backward()
    optimizer.step()
    assert network.side.branches[0][0].weight.grad is not None
    assert all(p.grad is None and torch.equal(p, before[name]) for name, p in detector.named_parameters())
    found = detector(images)
    assert found.boxes.shape[-1] == 4 and found.scores.min() >= 0 and found.scores.max() <= 1
    assert len(found.features) == len(found.shallow)
    again = load_detector(detector_folder)(images)
    torch.testing.assert_close(again.scores, found.scores)
    torch.testing.assert_close(again.features[0], found.features[0])


def test_a_folder_and_weights_make_an_estimator(detector_folder, tmp_path):
    network = HandOs(replace(TINY, **load_detector(detector_folder).channels()), topology())
    save_weights(tmp_path / "w.npz", network, {"image_side": 128})
    config = HandConfig(
        estimator="handos", handos_detector=str(detector_folder), handos_weights=str(tmp_path / "w.npz")
    )
    estimator = create_hand_estimator(config, "cpu")
    picture = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    for number in range(2):
        frame = RgbdFrame(picture, CameraIntrinsics.from_fov(160, 90), number * 33_000_000, number)
        for hand in estimator.estimate(frame):
            assert hand.vertices_camera.shape == (778, 3) and np.isfinite(hand.vertices_camera).all()


class FlashingDetector(nn.Module):
    """As many hands as a list says, frame after frame; notes the pictures' sizes."""

    def __init__(self, counts):
        super().__init__()
        self.counts, self.sizes = counts, []

    def channels(self):
        return {name: getattr(TINY, name) for name in ("feature_channels", "shallow_channels", "query_channels")}

    def forward(self, images):
        self.sizes.append(tuple(images.shape[2:]))
        boxes = torch.tensor([[0.2 + 0.15 * k, 0.5, 0.1, 0.2] for k in range(5)])[None]
        count = self.counts.pop(0) if self.counts else 0
        return replace(detection(1, 5), boxes=boxes, scores=0.9 * (torch.arange(5) < count).float()[None])


def test_no_size_and_no_number_of_hands_is_new_once_the_first_frame_was_seen(tmp_path, monkeypatch):
    save_weights(tmp_path / "w.npz", tiny_network(), {"image_side": 128})
    built = []
    call = TracedEngine.__call__

    def watch(self, found, camera):
        built.append(found.boxes.shape[1])
        return call(self, found, camera)

    monkeypatch.setattr(TracedEngine, "__call__", watch)
    eyes = FlashingDetector([])
    config = HandConfig(estimator="handos", handos_weights=str(tmp_path / "w.npz"), handos_engine="trace")
    estimator = OneStageEstimator(config, "cpu", eyes)
    assert set(eyes.sizes) == {(96, 128)}, "4:3, and 16:9 that is padded to the same"
    assert set(built) == {1, 2, 3, 4}, "two hands, and two to spare"
    picture, camera = np.full((120, 120, 3), 90, np.uint8), CameraIntrinsics.from_fov(120, 120)
    built.clear()
    eyes.counts = [0, 0, 1, 3]
    estimator.estimate(RgbdFrame(picture, camera, 0, 0))
    assert eyes.sizes[-1] == (128, 128) and set(built) == {1, 2, 3, 4}, "all that may come is run in the first frame"
    built.clear()
    runs = len(eyes.sizes)
    for index in (1, 2):
        estimator.estimate(RgbdFrame(picture, camera, index * 33_000_000, index))
    assert built == [1, 3] and len(eyes.sizes) == runs + 2, "and nothing again"


def test_at_start_both_shapes_of_cameras_are_run(tmp_path):
    save_weights(tmp_path / "w.npz", tiny_network(), {"image_side": 640})
    eyes = FlashingDetector([])
    OneStageEstimator(HandConfig(handos_weights=str(tmp_path / "w.npz"), handos_engine="eager"), "cpu", eyes)
    assert set(eyes.sizes) == {(480, 640), (384, 640)}


def test_foreign_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        load_detector(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "d-fine"}))
    with pytest.raises(InputError, match="did you mean 'd_fine'"):
        load_detector(tmp_path)
    for content in (["rt_detr_v2"], {"model_type": ["rt_detr_v2"]}):
        (tmp_path / "config.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match=r"config\.json holds no named settings|did you mean 'rt_detr_v2'"):
            load_detector(tmp_path)


def change_tensors(folder, change):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_a_tensor_that_is_missing_or_does_not_fit_is_named(detector_folder, caplog):
    name, after = (f"model.decoder.layers.{layer}.final_layer_norm.bias" for layer in (0, 1))
    change_tensors(detector_folder, lambda t: t.update(extra=torch.ones(2)))
    load_detector(detector_folder)
    change_tensors(detector_folder, lambda t: t.update({name: torch.zeros(5)}))
    logging.getLogger("transformers").addHandler(caplog.handler)
    with pytest.raises(InputError, match=rf"'{name}' has the shape \(5,\), expected \(32,\): "):
        load_detector(detector_folder)
    logging.getLogger("transformers").removeHandler(caplog.handler)
    assert "MISMATCH" not in caplog.text
    change_tensors(detector_folder, lambda t: (t.pop(name), t.pop(after)))
    with pytest.raises(InputError, match=rf"'{name}' is missing, expected \(32,\), and 1 more do not fit: "):
        load_detector(detector_folder)


def test_counters_that_matter_in_training_alone_may_be_missing(tmp_path):
    transformers = pytest.importorskip("transformers")
    rt_detr(transformers, "rt_detr_v2").save_pretrained(tmp_path)
    counters = []

    def drop(tensors):
        counters.extend(name for name in tensors if name.endswith("num_batches_tracked"))
        for name in counters:
            tensors.pop(name)

    change_tensors(tmp_path, drop)
    assert counters
    load_detector(tmp_path)


def test_truncated_weights_and_a_detector_without_hands_are_named(tmp_path):
    transformers = pytest.importorskip("transformers")
    model = rt_detr(transformers, "rt_detr_v2")
    model.config.id2label = {0: "cat", 1: "dog"}
    with pytest.raises(InputError, match="no class 'hand'"):
        FullImageDetector(model, "rt_detr_v2")
    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be loaded"):
        load_detector(tmp_path)

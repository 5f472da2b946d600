"""Estimator 'handos' on drawn hands, and its engines: found, followed, mirrored; sides from normals alone."""

from __future__ import annotations

import logging
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_hand import draw_hand
from handos_cases import TINY, tiny_network, topology
from torch.overrides import TorchFunctionMode

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.geometry import project
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.hand.embedded_detection import detection_from_features, merge_landmark_heads
from hoi_ros.hand.embedded_features import COMPACT, LandmarkFeatures
from hoi_ros.hand.engine import (
    TOLERANCE,
    TOLERANCE_M,
    TOLERANCE_SHARE,
    CompiledEngine,
    EagerEngine,
    NumpyEngine,
    OnnxEngine,
    TensorRtEngine,
    TracedEngine,
    create_engine,
    example,
    fingerprint,
    largest_difference,
)
from hoi_ros.hand.handos import HandOs
from hoi_ros.hand.handos_estimator import FeatureReader, _masks, create_crop_reader, right_probability
from hoi_ros.hand.handos_numpy import NumpyDecoder
from hoi_ros.hand.handos_weights import load_weights, save_weights
from hoi_ros.hand.landmarks import merge_heads
from hoi_ros.hand.regions import HandRegion
from hoi_ros.hand.torch_decoder import DeviceCropReader
from hoi_ros.hand.weights_file import SHIPPED, read_weights
from hoi_ros.hand_model import HandModel


def frame(color: np.ndarray, time_s: float = 0.0, index: int = 0) -> RgbdFrame:
    height, width = color.shape[:2]
    return RgbdFrame(color, CameraIntrinsics.from_fov(width, height), int(time_s * 1e9), index)


@pytest.fixture(scope="module")
def shared():
    return create_hand_estimator(HandConfig(estimator="handos", handos_mesh="network"), "cpu")


@pytest.fixture
def estimator(shared):
    shared.reset()
    return shared


@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_drawn_hand_is_found_with_its_own_mesh(estimator, side, independent):
    hands = estimator.estimate(frame(draw_hand(side, turn_rad=0.4)), independent=independent)
    assert [hand.handedness for hand in hands] == [side]
    hand = hands[0]
    assert hand.vertices_camera.shape == (778, 3) and 0.3 < hand.joints_camera[9, 2] < 0.65
    regressed = topology().regressor @ hand.vertices_camera
    assert np.linalg.norm(regressed - hand.joints_camera, axis=1).mean() < 0.012
    camera = CameraIntrinsics.from_fov(640, 480)
    np.testing.assert_allclose(project(hand.joints_camera, camera), hand.joints_px, atol=1e-6)
    faces, corners = estimator.faces(side), hand.vertices_camera.astype(float)
    corners = (corners - corners.mean(0))[faces]
    assert np.einsum("fc,fc->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) > 0, "normals point outwards"


def test_a_mirrored_picture_has_the_mirrored_mesh_of_the_other_hand(estimator):
    picture = draw_hand("right", turn_rad=0.4)
    hand = estimator.estimate(frame(picture), independent=True)[0]
    other = estimator.estimate(frame(np.ascontiguousarray(picture[:, ::-1])), independent=True)[0]
    assert (hand.handedness, other.handedness) == ("right", "left")
    mirrored = other.vertices_camera * [-1, 1, 1]
    shift = (mirrored - hand.vertices_camera).mean(0)
    assert np.linalg.norm(mirrored - shift - hand.vertices_camera, axis=1).mean() < 0.006


@pytest.mark.parametrize("turn_rad", [0.0, 0.2])
def test_a_mirrored_crop_read_once_gives_nearly_the_mirrored_mesh_of_the_other_hand(shared, turn_rad):
    """Nothing is averaged: the decoder itself learned both sides alike, to 6 mm on the mean and 14 mm at most."""
    crop = draw_hand("right", turn_rad=turn_rad)[130:354, 208:432]
    whole = HandRegion(np.array([111.5, 111.5]), 224.0, 0.0)
    plain, other = (
        shared._landmarks.read(np.ascontiguousarray(picture), [whole])[0] for picture in (crop, crop[:, ::-1])
    )
    assert plain.right_probability > 0.9 and other.right_probability < 0.1
    apart = np.linalg.norm(other.vertices * [-1, 1, 1] - plain.vertices, axis=1)
    assert apart.mean() < 0.006 and apart.max() < 0.014
    assert np.linalg.norm(other.vertices - plain.vertices, axis=1).mean() > 0.02, "the mirror makes a difference"


def test_decoding_a_mirrored_crop_and_averaging_is_symmetric(shared):
    """With the mirrored average a mirrored crop gives the mirrored mesh to within rounding."""
    reader = shared._landmarks
    crop = draw_hand("right")[130:354, 208:432]
    whole = HandRegion(np.array([111.5, 111.5]), 224.0, 0.0)
    plain = reader.read(crop, [whole], average_mirrored=True)[0]
    mirrored = reader.read(np.ascontiguousarray(crop[:, ::-1]), [whole], average_mirrored=True)[0]
    np.testing.assert_allclose(mirrored.vertices * [-1, 1, 1], plain.vertices, atol=2e-4)
    np.testing.assert_allclose(mirrored.world_landmarks * [-1, 1, 1], plain.world_landmarks, atol=2e-4)
    assert plain.right_probability + mirrored.right_probability == pytest.approx(1, abs=1e-3)


def test_the_fitted_mesh_belongs_to_the_joint_angles(shared):
    picture = frame(draw_hand("left", turn_rad=0.4))
    fitted = create_hand_estimator(HandConfig(estimator="handos"), "cpu").estimate(picture, independent=True)[0]
    own = shared.estimate(picture, independent=True)[0]
    np.testing.assert_allclose(fitted.joints_camera, own.joints_camera, atol=1e-9)
    posed = HandModel.load().pose(fitted.joint_angles[None], fitted.shape[None], "left")
    moved = posed.vertices[0] @ fitted.T_camera_wrist[:3, :3].T + fitted.T_camera_wrist[:3, 3]
    np.testing.assert_allclose(fitted.vertices_camera, moved, atol=0.01)
    apart = np.linalg.norm(fitted.vertices_camera - own.vertices_camera, axis=1).mean()
    assert 1e-4 < apart < 0.015


def test_a_hand_keeps_its_track_and_side(estimator):
    seen = []
    for i in range(8):
        picture = draw_hand("left", center=(280 + 6 * i, 240), hand_px=200)
        seen += [(h.track_id, h.handedness) for h in estimator.estimate(frame(picture, i / 30, i))]
    assert len(seen) >= 7 and len(set(seen)) == 1 and seen[0][1] == "left"


def test_nothing_in_a_grey_picture(estimator):
    assert estimator.estimate(frame(np.full((120, 160, 3), 90, np.uint8)), independent=True) == []


def test_bad_settings_are_named(tmp_path):
    with pytest.raises(InputError, match="are missing"):
        create_hand_estimator(HandConfig(estimator="handos", handos_weights=str(tmp_path / "no.npz")))
    with pytest.raises(InputError, match="set handos_weights to some trained on yours"):
        create_hand_estimator(HandConfig(estimator="handos", hand_model="MANO_RIGHT.pkl"))
    with pytest.raises(InputError, match="did you mean 'onnx'"):
        create_hand_estimator(HandConfig(estimator="handos", handos_engine="onx"))


def test_the_shipped_weights_are_small_and_say_what_they_are():
    assert SHIPPED.stat().st_size < 12e6
    network, card = load_weights(SHIPPED)
    assert network.config.from_landmarks and card["step"] > 0 and card["shippable"]


# Features


def test_heads_are_merged_as_the_landmark_network_does():
    rng = np.random.default_rng(0)
    image, world = rng.normal(0.5, 0.2, (3, 21, 3)), rng.normal(0, 0.05, (3, 21, 3))
    centred = torch.from_numpy(world - world.mean(1, keepdims=True))
    ours = merge_landmark_heads(torch.from_numpy(image), centred).numpy()
    for row, one in zip(ours, (merge_heads(a, b) for a, b in zip(image, world))):
        np.testing.assert_allclose(row - row.mean(0), one - one.mean(0), atol=1e-9)


def test_an_untrained_network_answers_the_detectors_landmarks():
    """Every head of the compact network starts at 0: before training it is as good as its detector."""
    torch.manual_seed(0)
    network = HandOs(replace(COMPACT, coarse_vertices=24), topology()).eval()
    crop = draw_hand("right")[130:354, 208:432][None]
    features = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in LandmarkFeatures().read(crop).items()}
    detection = detection_from_features(features)
    with torch.inference_mode():
        output = network(detection, torch.tensor([[3.0, 3.0, 0.5, 0.5]]))[-1]
    torch.testing.assert_close(output.joints_2d, detection.landmarks, atol=1e-5, rtol=0)
    error = (output.joints_3d - detection.landmarks_3d).norm(dim=-1)
    assert error.mean() < 0.01


# Sides


def test_sides_come_from_normals():
    model = HandModel.load()
    rng = np.random.default_rng(1)
    angles = np.clip(rng.normal(0.3, 0.4, (20, 22)), *model.joint_limits.T)
    right = model.pose(angles, np.zeros((20, 10)), "right").vertices.astype(float)
    for vertices in right:
        assert right_probability(vertices, model.right_faces) > 0.98
        assert right_probability(vertices * [-1, 1, 1], model.right_faces) < 0.02
    flat = right[0] * [1, 1, 0]
    assert right_probability(flat, model.right_faces) == pytest.approx(0.5, abs=0.05)


# Engines


@pytest.fixture
def network():
    config = replace(TINY, from_landmarks=True)
    return tiny_network(shaken=0.05, from_landmarks=config.from_landmarks)


def test_the_numpy_engine_agrees_with_eager(network):
    assert largest_difference(NumpyEngine(network), EagerEngine(network, "cpu"), network) < 0.1


def test_a_traced_graph_agrees_with_eager(network):
    assert largest_difference(TracedEngine(network, "cpu"), EagerEngine(network, "cpu"), network) < 0.1


@pytest.mark.parametrize("masks", [False, True])
def test_onnx_agrees_with_eager(masks):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    network = network_with_heads() if masks else tiny_network(shaken=0.05, from_landmarks=True)
    eager, ours = EagerEngine(network, "cpu", masks), OnnxEngine(network, "cpu", masks)
    assert largest_difference(ours, eager, network, masks=masks) < 0.2
    answer = ours(*example(network, 2, masks=masks))
    assert (answer.segments is not None) == (answer.contact is not None) == masks


def test_a_compiled_network_agrees_with_eager():
    """Traced by torch.compile; what its code generator makes of it takes minutes, and is measured by the benchmark."""
    network = tiny_network(shaken=0.05, layers_interactive=1, from_landmarks=True)
    inputs = example(network)
    compiled = CompiledEngine(network, "cpu", backend="aot_eager")(*inputs)
    expected = EagerEngine(network, "cpu")(*inputs)
    torch.testing.assert_close(compiled.vertices, expected.vertices, atol=TOLERANCE_M / 10, rtol=0)
    torch.testing.assert_close(compiled.joints_2d, expected.joints_2d, atol=TOLERANCE / 10, rtol=0)


def network_with_heads(**more):
    heads = {"contact_head": True, "contact_evidence": True, "mask_channels": 8, "detail_channels": (6, 5)}
    return tiny_network(shaken=0.05, from_landmarks=True, mask_context=1, **heads, **more)


class MadeUpTensorRt(types.ModuleType):
    """Exports as the library does, builds nothing better than that, and saves it; other arguments are refused."""

    __version__ = "9.9"

    def __init__(self):
        super().__init__("torch_tensorrt")
        self.builds, self.types = 0, set()

    def compile(self, module, *, ir, inputs, min_block_size):
        assert ir == "dynamo"
        self.builds += 1
        program = torch.export.export(module, tuple(inputs), strict=False).run_decompositions()
        weighty = {torch.ops.aten.addmm.default, torch.ops.aten.convolution.default}
        self.types = {node.meta["val"].dtype for node in program.graph.nodes if node.target in weighty}
        return program.module()

    def save(self, module, path, *, inputs):
        torch.export.save(torch.export.export(module, tuple(inputs)), path)


def test_a_built_engine_is_kept_in_a_file_and_built_anew_when_weights_change(tmp_path, monkeypatch, caplog):
    network, library = tiny_network(shaken=0.05, layers_interactive=1), MadeUpTensorRt()
    monkeypatch.setitem(sys.modules, "torch_tensorrt", library)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU")

    def engine(of):
        made = TensorRtEngine(of, "cuda", tmp_path)
        made._device = torch.device("cpu")
        return made

    detection, camera = example(network)
    expected = EagerEngine(network, "cpu")(detection, camera)
    for builds in (1, 1):
        answer = engine(network)(detection, camera)
        assert library.builds == builds and len(list(tmp_path.glob("handos_*.ep"))) == 1
        assert library.types == {torch.float16}, "explicit types: every layer runs in those that the graph has"
        torch.testing.assert_close(answer.vertices, expected.vertices, atol=TOLERANCE_M, rtol=0)
    next(tmp_path.glob("*.ep")).write_bytes(b"broken")
    with caplog.at_level(logging.WARNING):
        engine(network)(detection, camera)
    assert library.builds == 2 and "built anew" in caplog.text
    with torch.no_grad():
        network.expand.sizes += 1
    engine(network)(detection, camera)
    assert library.builds == 3 and len(list(tmp_path.glob("handos_*.ep"))) == 2


def test_an_engine_is_built_with_its_masks_and_kept_apart_from_one_without(tmp_path, monkeypatch):
    """What it is built from is run as it is: building takes long."""
    network, library = network_with_heads(layers_interactive=1), MadeUpTensorRt()
    monkeypatch.setattr(library, "compile", lambda module, **how: module)
    monkeypatch.setattr(library, "save", lambda module, path, inputs: Path(path).touch())
    monkeypatch.setitem(sys.modules, "torch_tensorrt", library)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU")
    for masks in (True, False):
        engine = TensorRtEngine(network, "cuda", tmp_path, masks)
        engine._device = torch.device("cpu")
        answer = engine(*example(network, masks=True))
        assert (answer.segments is not None) == (answer.contact is not None) == masks
    assert len(list(tmp_path.glob("handos_*.ep"))) == 2
    expected = EagerEngine(network, "cpu", masks=True)(*example(network, masks=True))
    engine = TensorRtEngine(network, "cuda", tmp_path / "other", masks=True)
    engine._device = torch.device("cpu")
    shares = [one.segments.float().softmax(1) for one in (engine(*example(network, masks=True)), expected)]
    torch.testing.assert_close(*shares, atol=TOLERANCE_SHARE, rtol=0)


@pytest.mark.parametrize("name", ["cuda_graph", "tensorrt"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_an_engine_that_cannot_run_gives_way_to_eager_with_one_warning(network, name, caplog):
    with caplog.at_level(logging.WARNING):
        engine = create_engine(network, name)
    assert isinstance(engine, EagerEngine)
    assert len(caplog.records) == 1 and name in caplog.text


def test_an_engine_that_answers_otherwise_is_not_used(network, caplog, monkeypatch):
    other = tiny_network(seed=8, shaken=0.05, from_landmarks=True)
    monkeypatch.setattr("hoi_ros.hand.engine._make", lambda *_: EagerEngine(other, "cpu"))
    with caplog.at_level(logging.WARNING):
        engine = create_engine(network, "onnx")
    assert "differs" in caplog.text
    detection, camera = example(network)
    torch.testing.assert_close(
        engine(detection, camera).vertices, EagerEngine(network, "cpu")(detection, camera).vertices
    )


def test_two_hands_at_once_are_those_hands_alone(network):
    engine = EagerEngine(network, "cpu")
    detection, camera = example(network, 2)
    both = engine(detection, camera).vertices
    for k in range(2):
        one = replace(
            detection,
            **{
                name: tuple(x[k : k + 1] for x in value) if isinstance(value, tuple) else value[k : k + 1]
                for name, value in vars(detection).items()
            },
        )
        torch.testing.assert_close(engine(one, camera[:1]).vertices[0], both[k], atol=1e-5, rtol=1e-4)


CROSSING = {"cpu", "numpy", "item", "tolist", "__bool__", "__float__", "__int__", "__array__", "nonzero"}


class Crossings(TorchFunctionMode):
    """Notes what brings tensors to the host or waits for them."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in CROSSING:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("count", [1, 2])
def test_on_a_device_crops_go_in_once_and_hands_come_out_once(count):
    content = read_weights(SHIPPED)
    reader = DeviceCropReader(content, "eager", "torch")
    crop = draw_hand("right")[130:354, 208:432]
    crops = np.ascontiguousarray(np.stack([crop, crop[:, ::-1]])[:count])
    with Crossings() as crossings:
        answer, presence = reader(crops)
    assert crossings.seen == ["cpu", "numpy"], "the results, nothing else"
    ours, sure = FeatureReader(NumpyDecoder(content), 1)(crops)
    np.testing.assert_allclose(answer.vertices, ours.vertices, atol=1e-3)
    np.testing.assert_allclose(answer.joints_2d, ours.joints_2d, atol=5e-3)
    np.testing.assert_allclose(presence, sure, atol=5e-3)
    kept = answer.vertices.copy()
    reader(crops[::-1].copy())
    np.testing.assert_array_equal(answer.vertices, kept)


def test_the_fingerprint_follows_weights_size_and_versions(network):
    same, other = fingerprint(network, "a"), fingerprint(network, "b")
    assert same == fingerprint(network, "a") != other
    with torch.no_grad():
        network.mirror.bias += 1
    assert fingerprint(network, "a") != same


# Masks and contact


def test_masks_lie_where_the_hand_was_drawn():
    picture = draw_hand("right", turn_rad=0.5)
    plain = np.abs(picture.astype(int) - picture[3, 3]).sum(-1) > 40
    with_masks = create_hand_estimator(HandConfig(estimator="handos", handos_masks=True), "cpu")
    hand = with_masks.estimate(frame(picture))[0]
    assert hand.contact.shape == (778,) and hand.contact.min() >= 0 and hand.contact.max() <= 1
    np.testing.assert_allclose(hand.segments.shares.sum(-1), 1, atol=1e-5)
    shares = hand.segments.in_image(*picture.shape[:2])
    joints = np.round(hand.joints_px).astype(int)
    assert shares[joints[:, 1], joints[:, 0], 1].mean() > 0.7, "joints lie in the hand"
    seen, inside = shares[..., 1] > 0.5, shares.sum(-1) > 0.5
    assert (seen & plain).sum() / (seen | (plain & inside)).sum() > 0.6
    assert not shares[:5, :5].any()
    usual = create_hand_estimator(HandConfig(estimator="handos"), "cpu").estimate(frame(picture))[0]
    assert usual.segments is None and usual.contact is None
    np.testing.assert_allclose(usual.vertices_camera, hand.vertices_camera, atol=1e-6)


@pytest.mark.parametrize("engine", ["eager", "trace", "device"])
def test_masks_are_the_same_from_numpy_and_torch(engine, caplog):
    """Half precision weights in float32 on both sides: probabilities agree to a ten thousandth."""
    content = read_weights(SHIPPED)
    crops = np.stack([draw_hand("right", size=(224, 224), center=(112, 112), hand_px=px) for px in (150.0, 110.0)])
    if engine == "device":
        reader = DeviceCropReader(content, "eager", "torch", masks=True)
    else:
        reader = create_crop_reader(content, HandConfig(handos_engine=engine, handos_masks=True), "cpu")
    (torch_answer, _), (numpy_answer, _) = (
        read(crops) for read in (reader, create_crop_reader(content, HandConfig(handos_masks=True), "cpu"))
    )
    assert not caplog.records, "no engine was replaced"
    # On its way to a device the landmark network runs in torch too, and what it says differs a little.
    atol = 5e-3 if engine == "device" else 1e-4
    for ours, theirs in zip(_masks(torch_answer), _masks(numpy_answer)):
        assert ours[0].shape == (56, 56, 3) and ours[1].shape == (778,)
        assert np.ptp(theirs[0][..., 1]) > 0.9 and np.ptp(theirs[1]) > 1e-3, "they say something"
        for one, other in zip(ours, theirs):
            np.testing.assert_allclose(one, other, atol=atol)


def test_engines_agree_on_masks():
    network = network_with_heads()
    eager, ours = EagerEngine(network, "cpu", masks=True), NumpyEngine(network)
    assert largest_difference(ours, eager, network, masks=True) < 0.1
    inputs = example(network, 2, masks=True)
    answer, compiled = eager(*inputs), CompiledEngine(network, "cpu", "aot_eager", masks=True)(*inputs)
    assert answer.segments.shape == (2, 3, 56, 56) and answer.contact.shape == (2, 1, 778)
    torch.testing.assert_close(compiled.segments, answer.segments, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(compiled.contact, answer.contact, atol=1e-4, rtol=1e-4)

    def shifted(detection, camera):
        answer = ours(detection, camera)
        return replace(answer, segments=answer.segments + torch.tensor([0.3, 0.0, 0.0])[:, None, None])

    assert largest_difference(shifted, eager, network, masks=True) > 1


def test_masks_come_with_a_torch_engine_and_need_heads(tmp_path):
    config = HandConfig(estimator="handos", handos_masks=True, handos_engine="eager")
    hand = create_hand_estimator(config, "cpu").estimate(frame(draw_hand("right")))[0]
    assert hand.segments.shares.shape == (56, 56, 3) and hand.contact.shape == (778,)
    torch.manual_seed(0)
    save_weights(tmp_path / "w.npz", HandOs(replace(COMPACT, coarse_vertices=24), topology()), {})
    with pytest.raises(InputError, match="no such heads"):
        create_hand_estimator(
            HandConfig(estimator="handos", handos_masks=True, handos_weights=str(tmp_path / "w.npz")), "cpu"
        )

"""Engines beside the network that they share: ONNX leaves it alone and works in its memory; no size of batch is new."""

from __future__ import annotations

import ctypes
import sys
import types

import numpy as np
import pytest
import torch
from drawn_hand import draw_hand
from handos_cases import tiny_network

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.hand import HandConfig
from hoi_ros.hand.crop_batches import CropBatches, batch_size
from hoi_ros.hand.engine import EagerEngine, FlatDecoder, OnnxEngine, example, export_onnx, flatten, shapes
from hoi_ros.hand.handos import HandOs
from hoi_ros.hand.handos_estimator import HandOsEstimator, create_crop_reader
from hoi_ros.hand.handos_numpy import DecodedArrays
from hoi_ros.hand.onnx_binding import run_bound
from hoi_ros.hand.regions import HandRegion
from hoi_ros.hand.weights_file import SHIPPED, read_weights


@pytest.fixture
def network():
    return tiny_network(shaken=0.05, from_landmarks=True)


# ONNX


class Watched(HandOs):
    """Notes which networks are moved or cast."""

    moved: list = []  # noqa: RUF012

    def _apply(self, fn, recurse=True):
        self.moved.append(self)
        return super()._apply(fn, recurse)


def test_an_export_to_onnx_leaves_the_network_where_it_is(network, monkeypatch):
    exported = []
    monkeypatch.setitem(sys.modules, "onnx", types.ModuleType("onnx"))
    monkeypatch.setattr(torch.onnx, "export", lambda module, *_, **__: exported.append(module))
    network.__class__ = Watched
    monkeypatch.setattr(Watched, "moved", [])
    export_onnx(network.train(), flatten(*example(network)))
    assert Watched.moved and all(one is not network for one in Watched.moved)
    assert network.training and not exported[0].training
    ours = {p.data_ptr() for p in network.parameters()}
    assert ours.isdisjoint(p.data_ptr() for p in exported[0].parameters())


class MadeUpSession:
    """The decoder behind the face of a session with IOBinding: it sees names, devices, types, shapes and addresses."""

    def __init__(self, network: HandOs, unused: str):
        self._flat, self._unused, self._synchronized = FlatDecoder(network), unused, False
        self.inputs: dict[str, tuple] = {}
        self.outputs: dict[str, tuple] = {}

    def get_inputs(self):
        names = [f"input_{k}" for k in range(len(flatten(*example(self._flat.network))))]
        return [types.SimpleNamespace(name=name) for name in names if name != self._unused]

    def io_binding(self):
        return self

    def bind_input(self, name, device_type, device_id, element_type, shape, buffer_ptr):
        self.inputs[name] = device_type, device_id, element_type, shape, buffer_ptr

    def bind_output(self, name, device_type, device_id, element_type, shape, buffer_ptr):
        self.outputs[name] = device_type, device_id, element_type, shape, buffer_ptr

    def run_with_iobinding(self, binding):
        assert binding is self and set(self.inputs) == {entry.name for entry in self.get_inputs()}
        tensors = [torch.from_numpy(array_at(*self.inputs[entry.name])) for entry in self.get_inputs()]
        scores = torch.ones(len(tensors[0]), 1)
        tensors.insert(int(self._unused.split("_")[1]), scores)
        with torch.inference_mode():
            answer = self._flat(*tensors)
        for name, values in zip(("joints_2d", "vertices", "joints_3d", "translation"), answer):
            array_at(*self.outputs[name])[...] = values.numpy()

    def synchronize_outputs(self):
        self._synchronized = True


def array_at(device_type, device_id, element_type, shape, address) -> np.ndarray:
    """Memory of this process as an array."""
    assert (device_type, device_id, element_type) == ("cpu", 0, np.float32)
    there = (ctypes.c_float * int(np.prod(shape))).from_address(address)
    return np.frombuffer(there, np.float32).reshape(shape)


@pytest.mark.parametrize("batch", [1, 2])
def test_onnx_reads_and_writes_the_tensors_own_memory(network, batch, monkeypatch):
    """The boxes' scores are not used by the decoder, so an exported graph has no such input."""
    inputs = example(network, batch)
    levels = len(network.config.feature_channels)
    session = MadeUpSession(network, unused=f"input_{2 * levels + 3}")
    monkeypatch.setattr("hoi_ros.hand.engine.export_onnx", lambda *_: b"")
    monkeypatch.setattr(OnnxEngine, "_session", lambda *_: session)
    answer, expected = OnnxEngine(network, "cpu")(*inputs), EagerEngine(network, "cpu")(*inputs)
    assert session._synchronized
    tensors = flatten(*inputs)
    assert session.inputs["input_0"][-1] == tensors[0].data_ptr(), "read where it lies"
    for name in ("joints_2d", "vertices", "joints_3d", "translation"):
        assert session.outputs[name][-1] == getattr(answer, name).data_ptr()
        torch.testing.assert_close(getattr(answer, name), getattr(expected, name), atol=1e-6, rtol=1e-5)


def test_tensors_that_do_not_lie_in_rows_are_laid_out_for_onnx():
    class Doubling(MadeUpSession):
        def __init__(self):
            self.inputs, self.outputs = {}, {}

        def get_inputs(self):
            return [types.SimpleNamespace(name="x")]

        def run_with_iobinding(self, binding):
            assert set(self.inputs) == {"x"}
            array_at(*self.outputs["y"])[...] = 2 * array_at(*self.inputs["x"])

    x, y = torch.arange(6.0, dtype=torch.float64).view(2, 3).T, torch.empty(3, 2)
    run_bound(Doubling(), {"x": x, "not in the graph": x}, {"y": y})
    torch.testing.assert_close(y, 2 * x.float())


# Sizes of batches


def test_batches_hold_what_is_asked_for_with_little_to_spare():
    assert [batch_size(count) for count in range(1, 10)] == [1, 2, 4, 4, 8, 8, 8, 8, 12]


def test_crops_come_back_in_order_without_those_that_fill_up():
    asked = []

    def reader(crops):
        asked.append(len(crops))
        values = crops[:, 0, 0].astype(np.float32)
        return DecodedArrays(values, values + 1, values + 2, values + 3), values[:, 0]

    batches = CropBatches(reader, 3)
    assert asked == [1, 2, 4]
    for count in range(1, 12):
        crops = np.zeros((count, 224, 224, 3), np.uint8)
        crops[:, 0, 0] = np.arange(1, count + 1)[:, None]
        hands, presence = batches(crops)
        np.testing.assert_array_equal(presence, np.arange(1, count + 1))
        np.testing.assert_array_equal(hands.translation[:, 0], np.arange(1, count + 1) + 3)
        assert hands.contact is None and hands.segments is None
    assert set(asked) == {1, 2, 4}


class CountingEngine:
    """Eager's answer, as of an engine that would build something for each new set of shapes."""

    def __init__(self, network: HandOs):
        self._eager, self.seen = EagerEngine(network, "cpu"), []

    def __call__(self, detection, camera):
        self.seen.append(shapes(flatten(detection, camera)))
        return self._eager(detection, camera)


@pytest.mark.parametrize("device", ["cpu", "torch"])
def test_after_the_start_no_number_of_hands_is_new_to_an_engine(device, monkeypatch):
    made = []

    def create(network, *_, **__):
        made.append(CountingEngine(network.eval()))
        return made[-1]

    monkeypatch.setattr("hoi_ros.hand.torch_decoder.create_engine", create)
    estimator = HandOsEstimator(HandConfig(estimator="handos", handos_engine="onnx", max_hands=2), device)
    known, engine = set(made[0].seen), made[0]
    assert len(known) == 3
    crop = draw_hand("right")[130:354, 208:432]
    regions = [HandRegion(np.array([111.5 + 6 * k, 111.5]), 224.0, 0.1 * k) for k in range(7)]
    one_by_one = [estimator._landmarks.read(crop, [region])[0] for region in regions]
    for count in (1, 2, 3, 5, 7):
        hands = estimator._landmarks.read(crop, regions[:count])
        assert set(engine.seen) == known, f"{count} crops were new"
        for hand, alone in zip(hands, one_by_one, strict=False):
            np.testing.assert_allclose(hand.vertices, alone.vertices, atol=1e-4)
            assert hand.presence == pytest.approx(alone.presence, abs=1e-4)
        assert len(hands) == count
    picture = draw_hand("left", center=(470, 240), color=draw_hand("right", center=(170, 240)))
    camera = CameraIntrinsics.from_fov(640, 480)
    for index in range(4):
        found = estimator.estimate(RgbdFrame(picture, camera, index * 33_000_000, index))
    assert len(found) == 2
    estimator.estimate(RgbdFrame(picture, camera, 0, 0), independent=True)
    assert set(engine.seen) == known


def test_an_engine_that_builds_nothing_gets_the_crops_as_they_are(monkeypatch):
    seen = []
    call = EagerEngine.__call__

    def watch(self, detection, camera):
        seen.append(len(camera))
        return call(self, detection, camera)

    monkeypatch.setattr(EagerEngine, "__call__", watch)
    for device in ("cpu", "torch"):
        reader = create_crop_reader(read_weights(SHIPPED), HandConfig(handos_engine="eager"), device)
        seen.clear()
        hands, presence = reader(np.zeros((3, 224, 224, 3), np.uint8))
        assert seen == [3] and len(hands.vertices) == len(presence) == 3

"""HandOS engines against eager torch: agreement, built files, masks, and what crosses between device and host."""

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
from handos_cases import TINY, tiny_network
from torch.overrides import TorchFunctionMode

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
from hoi_ros.hand.handos_estimator import FeatureReader
from hoi_ros.hand.handos_numpy import NumpyDecoder
from hoi_ros.hand.torch_decoder import DeviceCropReader
from hoi_ros.hand.weights_file import SHIPPED, read_weights


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

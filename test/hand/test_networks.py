"""Shipped networks: engines agree, and damaged weights are refused by name."""

import json
import re

import numpy as np
import pytest

from hoi_ros.errors import InputError
from hoi_ros.hand.network import load_network
from hoi_ros.hand.program import WEIGHTS_FOLDER, read_program

NAMES = ("palm_detection", "hand_landmarks")


def save_changed(tmp_path, change):
    """Write the landmark network with `change` applied to its dict of arrays."""
    with np.load(WEIGHTS_FOLDER / "hand_landmarks.npz") as content:
        arrays = dict(content)
    change(arrays)
    path = tmp_path / "changed.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_torch_agrees_with_the_cpu_runtime(name):
    path = WEIGHTS_FOLDER / f"{name}.npz"
    program = read_program(path)
    images = np.random.default_rng(3).random((2, program.input_size, program.input_size, 3), np.float32)
    ours, torch_ = load_network(path)(images), load_network(path, "torch")(images)
    assert len(ours) == len(torch_) == len(program.outputs)
    for a, b in zip(ours, torch_):
        assert a.shape == b.shape and a.shape[0] == 2
        assert np.ptp(a) > 1e-4 or a.size == 2
        np.testing.assert_allclose(a, b, atol=5e-4)


def test_a_batch_is_its_images_one_by_one():
    network = load_network(WEIGHTS_FOLDER / "hand_landmarks.npz")
    images = np.random.default_rng(4).random((3, network.input_size, network.input_size, 3), np.float32)
    rows = [network(image[None])[0] for image in images]
    np.testing.assert_array_equal(network(images)[0], np.concatenate(rows))


def test_torch_gives_inner_features_and_gradients():
    import torch

    from hoi_ros.hand.network_torch import TorchNetwork

    program = read_program(WEIGHTS_FOLDER / "hand_landmarks.npz")
    pooled = next(op["output"] for op in program.operations if op["op"] == "global_mean")
    network = TorchNetwork(program)
    *outputs, features = network(torch.rand(2, 3, program.input_size, program.input_size), taps=[pooled])
    assert features.shape == (2, 1152) and outputs[0].shape == (2, 63)
    outputs[0].sum().backward()
    assert all(p.grad is not None for name, p in network.named_parameters() if name in ("w0", "b0"))


def test_shipped_weights_are_small():
    assert sum((WEIGHTS_FOLDER / f"{name}.npz").stat().st_size for name in NAMES) < 9e6


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.npz are missing"):
        read_program(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 truncated"])
def test_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.npz cannot be read"):
        read_program(path)


def test_truncated_file_is_named(tmp_path):
    whole = (WEIGHTS_FOLDER / "palm_detection.npz").read_bytes()
    path = tmp_path / "half.npz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"half\.npz"):
        read_program(path)


def test_missing_tensor_is_named(tmp_path):
    path = save_changed(tmp_path, lambda arrays: arrays.pop("w3" if "w3" in arrays else "w2"))
    with pytest.raises(InputError, match=r"tensor 'w[23]' is missing"):
        read_program(path)


def test_tensor_that_is_not_finite_is_named(tmp_path):
    def spoil(arrays):
        arrays["b0"] = arrays["b0"].copy()
        arrays["b0"][0] = np.nan

    with pytest.raises(InputError, match="tensor 'b0' is not finite"):
        read_program(save_changed(tmp_path, spoil))


def test_unknown_operation_is_named(tmp_path):
    def rename(arrays):
        text = re.sub(r'"op": "sigmoid"', '"op": "mystery"', str(arrays["program"]))
        json.loads(text)
        arrays["program"] = np.array(text)

    with pytest.raises(InputError, match="unknown operation 'mystery'"):
        read_program(save_changed(tmp_path, rename))


def test_wrongly_shaped_tensor_is_named(tmp_path):
    def crop(arrays):
        arrays["w0"] = arrays["w0"][:, :, 0, 0]

    with pytest.raises(InputError, match="tensor 'w0'"):
        read_program(save_changed(tmp_path, crop))

"""The decoder in numpy answers as the network in torch does, needs no torch, and names weights that do not fit."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from handos_cases import COARSE, topology

from hoi_ros.errors import InputError
from hoi_ros.hand.embedded_detection import detection_from_features
from hoi_ros.hand.embedded_features import COMPACT, DETAIL_CHANNELS
from hoi_ros.hand.handos import HandOs
from hoi_ros.hand.handos_numpy import MAP_SIDES, NumpyDecoder
from hoi_ros.hand.mesh_from_joints import MeshFromJoints
from hoi_ros.hand.numpy_blocks import Sampler
from hoi_ros.hand.skin_numpy import SkinOnJoints
from hoi_ros.hand.weights_file import SHIPPED, WeightsFile, read_weights

SMALL = replace(
    COMPACT, width=64, heads=4, hidden=48, layers_2d=1, layers_interactive=2, coarse_vertices=COARSE, contact_head=True,
    residual_share=0.7, mask_channels=8, detail_channels=DETAIL_CHANNELS,
)  # fmt: skip


def shaken_network(**changes) -> HandOs:
    torch.manual_seed(0)
    network = HandOs(replace(SMALL, **changes), topology()).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def content_of(network: HandOs, **changes) -> WeightsFile:
    arrays = {name: p.detach().numpy() for name, p in network.named_parameters()}
    return WeightsFile(Path("here"), network.config, network.topology, arrays | changes, {})


def features(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    rest = topology().joints - topology().joints.mean(0)
    world = rest + rng.normal(0, 0.004, (count, 21, 3))
    # Some landmarks lie outside the crop, so that sampling at and beyond its rim is compared too.
    image = np.concatenate([112 + 1100 * world[..., :2], 900 * world[..., 2:]], -1)
    made = {
        "landmarks": image.reshape(count, 63), "world_landmarks": world.reshape(count, 63),
        "presence": np.ones((count, 1)), "pooled": rng.random((count, 1152)),
        "shallow": rng.normal(size=(count, 80, 14, 14)), "fine": rng.normal(size=(count, 112, 14, 14)),
        "coarse": rng.normal(size=(count, 192, 7, 7)),
        "detail_28": rng.normal(size=(count, 40, 28, 28)), "detail_56": rng.normal(size=(count, 24, 56, 56)),
    }  # fmt: skip
    return {name: values.astype(np.float32) for name, values in made.items()}


@pytest.mark.parametrize(("count", "told"), [(1, False), (3, False), (2, True)])
def test_it_answers_as_torch_does(count, told):
    network, seen = shaken_network(contact_evidence=told, mask_context=4 if told else 0), features(count)
    view = np.tile(np.array([3.0, 2.5, 0.5, 0.45], np.float32), (count, 1))
    ours = NumpyDecoder(content_of(network))(seen, view)
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(values) for name, values in seen.items()}
        theirs = network(detection_from_features(tensors), torch.from_numpy(view), every_layer=False)[-1]
    for name, tolerance in (("joints_2d", 1e-5), ("vertices", 1e-6), ("joints_3d", 1e-6), ("translation", 1e-5),
                            ("contact", 1e-4)):  # fmt: skip
        expected = getattr(theirs, name)[:, 0].numpy()
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(getattr(ours, name), expected, atol=tolerance, rtol=1e-4, err_msg=name)
    expected = theirs.segments.permute(0, 2, 3, 1).numpy()
    assert expected.shape == (count, 56, 56, 3) and expected.std() > 0.05
    np.testing.assert_allclose(ours.segments, expected, atol=1e-4)
    assert ours.vertices.dtype == np.float32 and ours.segments.dtype == np.float32
    coarse = {name: values for name, values in seen.items() if not name.startswith("detail")}
    without = NumpyDecoder(content_of(network))(coarse, view)
    assert without.segments is None and (without.contact is None) == told


def test_hands_do_not_depend_on_the_others_of_their_batch():
    decoder, seen = NumpyDecoder(content_of(shaken_network())), features(2)
    view = np.tile(np.array([3.0, 3.0, 0.5, 0.5], np.float32), (2, 1))
    both = decoder(seen, view)
    alone = decoder({name: values[1:] for name, values in seen.items()}, view[1:])
    np.testing.assert_allclose(alone.vertices[0], both.vertices[1], atol=1e-7)


def test_an_answer_stays_when_the_next_frame_is_decoded_and_hands_come_and_go():
    decoder, view = NumpyDecoder(content_of(shaken_network())), np.array([[3.0, 3.0, 0.5, 0.5]], np.float32)
    seen = features(3)
    alone = [decoder({name: x[k : k + 1] for name, x in seen.items()}, view) for k in range(3)]
    kept = [replace(answer, vertices=answer.vertices.copy()) for answer in alone]
    both = decoder(seen, np.repeat(view, 3, 0))
    again = decoder({name: x[1:2] for name, x in seen.items()}, view)
    for k, (answer, copy) in enumerate(zip(alone, kept)):
        np.testing.assert_array_equal(answer.vertices, copy.vertices)
        np.testing.assert_allclose(both.vertices[k], copy.vertices[0], atol=1e-6)
    np.testing.assert_array_equal(again.joints_2d, alone[1].joints_2d)


def test_a_frame_allocates_hardly_more_than_its_answer():
    """What the shipped network works in is kept: 2 MB were allocated a hand and frame before."""
    decoder, seen = NumpyDecoder(read_weights(SHIPPED)), features(1)
    seen = {name: values for name, values in seen.items() if not name.startswith("detail")}
    seen = {n: x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2) if x.ndim == 4 else x for n, x in seen.items()}
    view = np.array([[3.0, 3.0, 0.5, 0.5]], np.float32)
    for _ in range(2):
        decoder(seen, view)
    tracemalloc.start()
    try:
        decoder(seen, view)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        decoder(seen, view)
        assert tracemalloc.get_traced_memory()[1] - before < 220_000
    finally:
        tracemalloc.stop()


def test_sampling_is_bilinear_and_zero_outside():
    sampler = Sampler(1, 1, (4,))
    ramp = np.arange(16, dtype=np.float32).reshape(1, 16, 1)
    rows = sampler.with_rims([ramp], 1)[0]

    def at(x: float, y: float) -> float:
        where = np.array([x, y], np.float32).reshape(1, 1, 1, 1, 1, 2)
        return float((sampler.matrix(where, np.full((1, 1, 1, 1, 1), 2.0, np.float32)) @ rows.reshape(-1, 1))[0, 0])

    assert at(1.5 / 4, 2.5 / 4) == pytest.approx(2 * 9)
    assert at(2 / 4, 2 / 4) == pytest.approx(2 * 7.5)
    assert at(4 / 4, 3.5 / 4) == pytest.approx(15), "half of the last pixel, half of nothing"
    assert at(-3.0, 0.5) == at(0.5, 9.0) == 0
    assert sampler.pixels == 7 * 7 and MAP_SIDES == (14, 7)


def test_the_skin_is_that_of_torch():
    joints = (topology().joints + np.random.default_rng(0).normal(0, 0.004, (3, 21, 3))).astype(np.float32)
    share = np.array([[0.0], [0.3], [1.0]], np.float32)
    expected = MeshFromJoints(topology())(torch.from_numpy(joints), torch.from_numpy(share)).numpy()
    np.testing.assert_allclose(SkinOnJoints(topology())(joints, share), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"mirror.weight": np.zeros((1, 3), np.float32)}, "shape \\(1, 3\\), expected \\(1, 64\\)"),
     ({"more": np.zeros(1, np.float32)}, "'more' was found"),
     ({"lift.sizes": np.full((25, 2), np.nan, np.float32)}, "'lift.sizes' is not finite")],
)  # fmt: skip
def test_weights_that_do_not_fit_are_named(change, named):
    with pytest.raises(InputError, match=named):
        NumpyDecoder(content_of(shaken_network(), **change))


def test_variants_for_torch_alone_are_refused():
    with pytest.raises(InputError, match="mask c"):
        NumpyDecoder(content_of(shaken_network(mask="d")))


def test_the_estimator_runs_without_torch():
    code = (
        "import sys\n"
        "from hoi_ros.hand import HandConfig, create_hand_estimator\n"
        "create_hand_estimator(HandConfig(estimator='handos'), 'cpu')\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0

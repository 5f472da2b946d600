"""The pairwise pointmap network: sizes, symmetry, published checkpoints, files."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest
import torch
from on_meta import run_on_meta
from published_pointmap import published_shapes

from hoi_ros.errors import InputError
from hoi_ros.tracking.pointmap_checkpoint import (
    config_of_published,
    load_pointmap_network,
    network_from_published,
    published_name,
    save_pointmap_network,
)
from hoi_ros.tracking.pointmap_network import (
    COMPACT,
    PUBLISHED,
    PointmapNetwork,
    PointmapNetworkConfig,
    Rotary,
)

TINY = PointmapNetworkConfig(8, 32, 32, 2, 2, 24, 2, 2)
SMALL_PUBLISHED = ((64, 2), (64, 4))


def pictures(count: int = 2, size: tuple[int, int] = (32, 32), seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    both = torch.rand(2, count, 3, *size, generator=generator) * 2 - 1
    return both[0], both[1]


def published_state(head: str, descriptors: bool = False, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = published_shapes(*SMALL_PUBLISHED, head=head, descriptors=descriptors)
    return {name: 0.05 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize("size", [(32, 32), (24, 48)])
@pytest.mark.parametrize("head", ["linear", "dpt"])
def test_every_pixel_gets_a_point_and_a_confidence(size, head):
    network = PointmapNetwork(replace(TINY, head=head, dpt_width=16, decoder_depth=4)).eval()
    with torch.no_grad():
        out = network(*pictures(3, size))
    assert out.points.shape == (3, 2, *size, 3)
    assert out.confidence.shape == (3, 2, *size) and (out.confidence > 1).all()
    assert out.mask_logits is not None and out.mask_logits.shape == (3, 2, 3, *size)


def test_swapped_pictures_give_swapped_pointmaps_when_both_decoders_hold_the_same_weights():
    torch.manual_seed(0)
    network = PointmapNetwork(TINY).eval()
    first, second = pictures()
    with torch.no_grad():
        before = network(first, second).points
        assert not torch.allclose(before.flip(1), network(second, first).points, atol=1e-3)
        network.decoders[1].load_state_dict(network.decoders[0].state_dict())
        network.heads[1].load_state_dict(network.heads[0].state_dict())
        there, back = network(first, second), network(second, first)
    torch.testing.assert_close(there.points.flip(1), back.points, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(there.confidence.flip(1), back.confidence, atol=1e-5, rtol=1e-4)


def test_each_view_depends_on_the_other_and_pairs_do_not_mix():
    network = PointmapNetwork(TINY).eval()
    first, second = pictures()
    changed = second.clone()
    changed[0] *= -1
    with torch.no_grad():
        before, after = network(first, second).points, network(first, changed).points
    assert not torch.allclose(before[0, 0], after[0, 0], atol=1e-4)
    torch.testing.assert_close(before[1], after[1], atol=1e-5, rtol=1e-4)


def test_attention_sees_only_how_far_apart_patches_lie():
    rotary = Rotary(16)
    cosine, sine = rotary.phases(6, 6)
    query, key = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(0))

    def product(i: int, j: int) -> torch.Tensor:
        turned = [Rotary.turn(t, (cosine[k : k + 1], sine[k : k + 1])) for t, k in ((query, i), (key, j))]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(product(0, 8), product(14, 22))  # one row down, two columns right
    assert abs(product(0, 8) - product(0, 13)) > 1e-3  # two down, one right


def test_kept_tokens_give_the_same_answer():
    network = PointmapNetwork(TINY).eval()
    first, second = pictures()
    with torch.no_grad():
        whole = network(first, second)
        parts = network.decode(network.encode(first), network.encode(second), (32, 32))
    torch.testing.assert_close(whole.points, parts.points, atol=1e-5, rtol=1e-4)


def test_the_compact_network_fits_its_file_and_the_published_one_its_size():
    with torch.device("meta"):
        compact, published = PointmapNetwork(COMPACT), PointmapNetwork(PUBLISHED)
    assert sum(p.numel() for p in compact.parameters()) * 2 <= 25e6
    shapes = published_shapes()
    ours = {name: tuple(t.shape) for name, t in published.state_dict().items() if not name.startswith("mask_head.")}
    named = {published_name(name): shape for name, shape in ours.items()}
    assert len(named) == len(ours)
    assert named == {name: shapes.get(name) for name in named}
    unused = set(shapes) - set(named)
    assert all("layer_rn." in n or "refinenet4.resConfUnit1" in n or n == "mask_token" for n in unused)


@pytest.mark.parametrize(("head", "descriptors"), [("dpt", False), ("dpt", True), ("linear", False)])
def test_a_published_checkpoint_loads_from_its_file(tmp_path, head, descriptors):
    state = published_state(head, descriptors)
    path = tmp_path / "published.pth"
    torch.save({"args": argparse.Namespace(model="..."), "model": state, "epoch": 3}, path)
    network = load_pointmap_network(path)
    assert (network.config.head, network.config.output, network.config.encoder_depth) == (head, "camera", 2)
    torch.testing.assert_close(
        network.decoders[1][3].cross.value.weight, state["dec_blocks2.3.cross_attn.projv.weight"]
    )
    torch.testing.assert_close(network.encoder[1].mlp.down.bias, state["enc_blocks.1.mlp.fc2.bias"])
    with torch.no_grad():
        out = network(*pictures(1, (32, 48)))
    assert out.mask_logits is None and torch.isfinite(out.confidence).all() and out.points.shape == (1, 2, 32, 48, 3)


def test_one_published_decoder_serves_both_views():
    state = {k: v for k, v in published_state("linear").items() if not k.startswith("dec_blocks2.")}
    network = network_from_published(state)
    torch.testing.assert_close(network.decoders[0][2].attention.qkv.weight, network.decoders[1][2].attention.qkv.weight)


def test_sizes_are_read_off_the_published_shapes():
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in published_shapes().items()}
    assert config_of_published(state) == PUBLISHED


def test_a_saved_network_answers_the_same(tmp_path):
    network = PointmapNetwork(TINY).eval()
    size = save_pointmap_network(network, tmp_path / "net.pt")
    again = load_pointmap_network(tmp_path / "net.pt")
    assert size < 2.5 * sum(p.numel() for p in network.parameters()) + 60000
    with torch.no_grad():
        before, after = network(*pictures()), again(*pictures())
    torch.testing.assert_close(before.points, after.points, atol=2e-2, rtol=2e-2)


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_pointmap_network(tmp_path / "absent.pth")
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(InputError, match="cannot be read"):
        load_pointmap_network(tmp_path / "broken.pth")
    torch.save({"weights": 1}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="neither"):
        load_pointmap_network(tmp_path / "other.pth")
    state = published_state("linear")
    del state["enc_norm.bias"]
    with pytest.raises(InputError, match=r"'enc_norm\.bias' is missing"):
        network_from_published(state)
    state = published_state("linear")
    state["dec_norm.weight"] = torch.zeros(65)
    with pytest.raises(InputError, match=r"'dec_norm\.weight' is \(65,\), expected \(64,\)"):
        network_from_published(state)


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="multiple of 8"):
        PointmapNetwork(replace(TINY, encoder_width=36))
    with pytest.raises(InputError, match="that 8 divides"):
        PointmapNetwork(TINY)(*pictures(1, (30, 32)))


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("changes", [{}, {"head": "dpt", "decoder_depth": 4}, {"output": "camera", "stem": "patches"}])
def test_nothing_inside_lies_on_another_device(changes, learning):
    network = PointmapNetwork(replace(TINY, **changes)).to("meta").train(learning)
    pictures = torch.zeros(2, 3, 32, 48, device="meta")
    with torch.set_grad_enabled(learning):
        prediction = run_on_meta(network, pictures, pictures)
    assert prediction.points.shape == (2, 2, 32, 48, 3)

"""Weights of the pointmap network: this project's files, and checkpoints that DUSt3R's and MASt3R's authors publish."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from hoi_ros.config import make_config
from hoi_ros.errors import InputError
from hoi_ros.tracking.pointmap_network import PointmapNetwork, PointmapNetworkConfig, Rotary

FORMAT = "hoi_ros pointmap network 1"


def published_name(name: str) -> str | None:
    """What the authors' checkpoints call a tensor of `PointmapNetwork`; None for what they do not have."""
    for pattern, replacement in _PUBLISHED_NAMES:
        found, count = re.subn(pattern, replacement, name)
        if count:
            if found.startswith("dec_blocks#"):
                number, rest = found.removeprefix("dec_blocks#").split(".", 1)
                found = f"dec_blocks{'' if number == '0' else '2'}.{rest}"
            for pattern_inside, replacement_inside in _PUBLISHED_INSIDE:
                found = re.sub(pattern_inside, replacement_inside, found)
            return re.sub(r"\{(\d+)\}", lambda m: str(int(m[1]) + 1), found)
    return None


_PUBLISHED_NAMES = (
    (r"^patches\.", "patch_embed.proj."),
    (r"^encoder\.(\d+)\.", r"enc_blocks.\1."),
    (r"^encoder_norm\.", "enc_norm."),
    (r"^bridge\.", "decoder_embed."),
    (r"^decoders\.(\d)\.", r"dec_blocks#\1."),
    (r"^decoder_norm\.", "dec_norm."),
    (r"^heads\.(\d)\.project\.(weight|bias)$", r"downstream_head{\1}.proj.\2"),
    (r"^heads\.(\d)\.project\.(\d)\.", r"downstream_head{\1}.dpt.act_postprocess.\2.0."),
    (r"^heads\.(\d)\.resize\.(\d)\.", r"downstream_head{\1}.dpt.act_postprocess.\2.1."),
    (r"^heads\.(\d)\.adapt\.(\d)\.", r"downstream_head{\1}.dpt.scratch.layer{\2}_rn."),
    (r"^heads\.(\d)\.fuse\.(\d)\.", r"downstream_head{\1}.dpt.scratch.refinenet{\2}."),
    (r"^heads\.(\d)\.smooth\.", r"downstream_head{\1}.dpt.head.0."),
    (r"^heads\.(\d)\.refine\.", r"downstream_head{\1}.dpt.head.2."),
    (r"^heads\.(\d)\.out\.", r"downstream_head{\1}.dpt.head.4."),
)
_PUBLISHED_INSIDE = (
    (r"^(dec_blocks2?\.\d+)\.norm_mlp\.", r"\1.norm3."),
    (r"^(dec_blocks2?\.\d+)\.norm_cross\.", r"\1.norm2."),
    (r"^(dec_blocks2?\.\d+)\.norm_memory\.", r"\1.norm_y."),
    (r"^(enc_blocks\.\d+)\.norm_mlp\.", r"\1.norm2."),
    (r"\.norm_attention\.", ".norm1."),
    (r"\.attention\.out\.", ".attn.proj."),
    (r"\.attention\.", ".attn."),
    (r"\.cross\.out\.", ".cross_attn.proj."),
    (r"\.cross\.(q|k|v)\w+\.", r".cross_attn.proj\1."),
    (r"\.mlp\.up\.", ".mlp.fc1."),
    (r"\.mlp\.down\.", ".mlp.fc2."),
    (r"(refinenet\S+)\.before\.first\.", r"\1.resConfUnit1.conv1."),
    (r"(refinenet\S+)\.before\.second\.", r"\1.resConfUnit1.conv2."),
    (r"(refinenet\S+)\.after\.first\.", r"\1.resConfUnit2.conv1."),
    (r"(refinenet\S+)\.after\.second\.", r"\1.resConfUnit2.conv2."),
    (r"(refinenet\S+)\.out\.", r"\1.out_conv."),
)


def config_of_published(state: Mapping[str, Tensor]) -> PointmapNetworkConfig:
    """Sizes of a published network, read off the shapes of its tensors.

    Raises:
        InputError: a tensor that every such checkpoint holds is missing.
    """

    def shape(name: str) -> torch.Size:
        if name not in state:
            raise InputError(
                f"pointmap checkpoint: tensor '{name}' is missing; give a checkpoint of DUSt3R, MASt3R or this project"
            )
        return state[name].shape

    encoder_width, _, patch_px, _ = shape("patch_embed.proj.weight")
    decoder_width = shape("decoder_embed.weight")[0]
    depths = [
        1 + max((int(k.split(".")[1]) for k in state if k.startswith(p)), default=0)
        for p in ("enc_blocks.", "dec_blocks.")
    ]
    linear = "downstream_head1.proj.weight" in state
    dpt_width = 256 if linear else shape("downstream_head1.dpt.scratch.layer1_rn.weight")[0]
    return PointmapNetworkConfig(
        patch_px=patch_px, image_px=224 if linear else 512,
        encoder_width=encoder_width, encoder_depth=depths[0], encoder_heads=encoder_width // 64,
        decoder_width=decoder_width, decoder_depth=depths[1], decoder_heads=decoder_width // 64,
        head="linear" if linear else "dpt", dpt_width=dpt_width, output="camera", stem="patches",
    )  # fmt: skip


def load_pointmap_network(path: Path | str, device: str = "cpu") -> PointmapNetwork:
    """Read a network of this project, or a DUSt3R or MASt3R checkpoint, from a file.

    Raises:
        InputError: missing or unreadable file, or a tensor that is missing or of another shape.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"pointmap network {path}: no such file; check the path")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"pointmap network {path} cannot be read ({reason}); is it truncated?") from error
    if isinstance(content, dict) and content.get("format") == FORMAT:
        config = make_config(PointmapNetworkConfig, content["config"], where=str(path))
        return _filled(PointmapNetwork(config), content["state"], {}, str(path)).to(device).eval()
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise InputError(
            f"pointmap network {path}: neither this project's format nor a published checkpoint with 'model'"
        )
    return network_from_published(state, str(path)).to(device).eval()


def network_from_published(state: Mapping[str, Tensor], where: str = "checkpoint") -> PointmapNetwork:
    """Build the network of a published state dict; it has no mask head.

    Raises:
        InputError: a tensor is missing or of another shape.
    """
    with torch.device("meta"):
        network = PointmapNetwork(config_of_published(state))
    network.to_empty(device="cpu")
    for rotary, width, heads in (
        (network.encoder_rotary, network.config.encoder_width, network.config.encoder_heads),
        (network.decoder_rotary, network.config.decoder_width, network.config.decoder_heads),
    ):
        rotary.frequencies.copy_(Rotary(width // heads).frequencies)
    names = {name: published for name in network.state_dict() if (published := published_name(name)) is not None}
    if not any(key.startswith("dec_blocks2.") for key in state):
        # One decoder that both views share, as before DUSt3R's training.
        names = {name: published.replace("dec_blocks2.", "dec_blocks.") for name, published in names.items()}
    network.has_mask = False
    return _filled(network, state, names, where)


def save_pointmap_network(network: PointmapNetwork, path: Path | str) -> int:
    """Write config and weights in half precision; returns the file's bytes."""
    path = Path(path)
    state = {name: tensor.detach().cpu().half() for name, tensor in network.state_dict().items()}
    partial = path.with_suffix(path.suffix + ".part")
    torch.save({"format": FORMAT, "config": asdict(network.config), "state": state}, partial)
    partial.replace(path)
    return path.stat().st_size


def _filled(
    network: PointmapNetwork, state: Mapping[str, Tensor], names: Mapping[str, str], where: str
) -> PointmapNetwork:
    """Copy tensors in, each under its own name or the one in `names`."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.startswith("mask_head.") and not network.has_mask:
                tensor.zero_()
                continue
            found = names.get(name, name)
            if found not in state:
                raise InputError(f"{where}: tensor '{found}' is missing; the file belongs to another network")
            if state[found].shape != tensor.shape:
                raise InputError(
                    f"{where}: tensor '{found}' is {tuple(state[found].shape)}, expected {tuple(tensor.shape)}; "
                    "the file belongs to another network"
                )
            tensor.copy_(state[found])
    return network

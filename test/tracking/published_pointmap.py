"""Names and shapes of the tensors in published DUSt3R and MASt3R checkpoints, written out as data."""

from __future__ import annotations


def published_shapes(
    encoder: tuple[int, int] = (1024, 24), decoder: tuple[int, int] = (768, 12), patch: int = 16, head: str = "dpt",
    descriptors: bool = False,
) -> dict[str, tuple[int, ...]]:  # fmt: skip
    """Tensor name to shape; `encoder` and `decoder` are width and depth, `descriptors` adds what MASt3R has besides."""
    e, d = encoder[0], decoder[0]
    out: dict[str, tuple[int, ...]] = {"mask_token": (1, 1, d)}

    def layer(name: str, *shape: int) -> None:
        out[f"{name}.weight"] = shape
        out[f"{name}.bias"] = shape[:1]

    def convolution(name: str, out_channels: int, in_channels: int, size: int) -> None:
        out[f"{name}.weight"] = (out_channels, in_channels, size, size)
        out[f"{name}.bias"] = (out_channels,)

    convolution("patch_embed.proj", e, 3, patch)
    for i in range(encoder[1]):
        block = f"enc_blocks.{i}"
        for norm in ("norm1", "norm2"):
            layer(f"{block}.{norm}", e)
        layer(f"{block}.attn.qkv", 3 * e, e)
        layer(f"{block}.attn.proj", e, e)
        layer(f"{block}.mlp.fc1", 4 * e, e)
        layer(f"{block}.mlp.fc2", e, 4 * e)
    layer("enc_norm", e)
    layer("decoder_embed", d, e)
    for blocks in ("dec_blocks", "dec_blocks2"):
        for i in range(decoder[1]):
            block = f"{blocks}.{i}"
            for norm in ("norm1", "norm2", "norm3", "norm_y"):
                layer(f"{block}.{norm}", d)
            layer(f"{block}.attn.qkv", 3 * d, d)
            for name in ("attn.proj", "cross_attn.projq", "cross_attn.projk", "cross_attn.projv", "cross_attn.proj"):
                layer(f"{block}.{name}", d, d)
            layer(f"{block}.mlp.fc1", 4 * d, d)
            layer(f"{block}.mlp.fc2", d, 4 * d)
    layer("dec_norm", d)
    for number in (1, 2):
        name = f"downstream_head{number}"
        if head == "linear":
            layer(f"{name}.proj", 4 * patch * patch, d)
            continue
        widths = (96, 192, 384, 768)
        for k, width in enumerate(widths):
            out[f"{name}.dpt.scratch.layer{k + 1}_rn.weight"] = (256, width, 3, 3)
            out[f"{name}.dpt.scratch.layer_rn.{k}.weight"] = (256, width, 3, 3)
            stage = f"{name}.dpt.scratch.refinenet{k + 1}"
            convolution(f"{stage}.out_conv", 256, 256, 1)
            for unit in ("resConfUnit1", "resConfUnit2"):
                convolution(f"{stage}.{unit}.conv1", 256, 256, 3)
                convolution(f"{stage}.{unit}.conv2", 256, 256, 3)
            convolution(f"{name}.dpt.act_postprocess.{k}.0", width, e if k == 0 else d, 1)
        for k, shape in ((0, (96, 96, 4, 4)), (1, (192, 192, 2, 2)), (3, (768, 768, 3, 3))):
            out[f"{name}.dpt.act_postprocess.{k}.1.weight"] = shape
            out[f"{name}.dpt.act_postprocess.{k}.1.bias"] = shape[:1]
        convolution(f"{name}.dpt.head.0", 128, 256, 3)
        convolution(f"{name}.dpt.head.2", 128, 128, 3)
        convolution(f"{name}.dpt.head.4", 4, 128, 1)
        if descriptors:
            layer(f"{name}.head_local_features.fc1", 4 * (e + d), e + d)
            layer(f"{name}.head_local_features.fc2", 25 * patch * patch, 4 * (e + d))
    return out

"""Colours and light of what a batch of crops shows, pixel by pixel of the surfaces that were hit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hoi_ros.training.batch_chance import Chance
from hoi_ros.training.batch_hands import turned, turns_about
from hoi_ros.training.batch_raster import Raster
from hoi_ros.training.batch_scene import BatchScene
from hoi_ros.training.batch_stock import BatchStock
from hoi_ros.training.held_things import SKIN_TONES

HAND_HIT, ARM_HIT, HELD_HIT, OTHER_HIT = 0, 1, 2, 3
GLOVE_SHARE, LAYERS, COATS = 0.04, 5, 3


@dataclass(frozen=True)
class Hits:
    """The raster's hits with what is known of their surface."""

    raster: Raster
    values: Tensor
    """(H, 7) of the scene's attributes."""
    kinds: Tensor
    """(H,) HAND_HIT, ARM_HIT, HELD_HIT or OTHER_HIT."""

    @staticmethod
    def of(scene: BatchScene, raster: Raster) -> Hits:
        """Mix the attributes."""
        kinds = sum((raster.faces >= end).long() for end in scene.ends)
        assert isinstance(kinds, Tensor)
        return Hits(raster, raster.mix(scene.attributes, scene.triangles), kinds)


def shade(stock: BatchStock, scene: BatchScene, hits: Hits, pictures: Tensor, chance: Chance, harsh: Tensor) -> Tensor:
    """(H, 3) light 0 to 255 and more that comes from the hits.

    Args:
        stock: skins.
        scene: what was drawn.
        hits: where it was hit.
        pictures: (B, S, S, 3) for prints.
        chance: on their device.
        harsh: (B,) 0 to 1.
    """
    colors = _colors(stock, scene, hits, pictures, chance)
    return _light(colors, hits, chance, harsh)


def _colors(stock: BatchStock, scene: BatchScene, hits: Hits, pictures: Tensor, chance: Chance) -> Tensor:
    """(H, 3) without light."""
    crops, values = hits.raster.crops, hits.values
    count = len(scene.focal)
    skin = chance.below(stock.skin_count, count)
    out = torch.empty_like(values[:, :3])
    hand = torch.nonzero(hits.kinds == HAND_HIT)[:, 0]
    color = _skin_colors(stock, skin[crops[hand]], values[hand])
    gloved = chance.happens(GLOVE_SHARE, count)[crops[hand], None]
    glove = color.mean(1, keepdim=True) / 160 * chance.uniform(20, 230, count, 3)[crops[hand]]
    out[hand] = torch.where(gloved, glove, color)
    arm = torch.nonzero(hits.kinds == ARM_HIT)[:, 0]
    out[arm] = _arm_colors(stock, skin[crops[arm]], values[arm], chance.uniform(15, 240, count, 3)[crops[arm]])
    thing = torch.nonzero(hits.kinds >= HELD_HIT)[:, 0]
    owner = scene.thing_faces[hits.raster.faces[thing] - scene.ends[1]]
    out[thing] = _paint(stock, scene, owner, values[thing, :3], crops[thing], pictures, chance)
    return out * (1 + chance.normal(0, 0.05, count, 3))[crops]


def _skin_colors(stock: BatchStock, skin: Tensor, values: Tensor) -> Tensor:
    """Colours (N, 3) from the skins' pictures of palm and back."""
    pictures = stock.skin_pictures
    _, _, height, width, _ = pictures.shape
    pixels = pictures.view(-1, 3)
    x = values[:, 0].clamp(0, width - 1.001)
    y = values[:, 1].clamp(0, height - 1.001)
    left, top = x.floor(), y.floor()
    first = (skin * 2 * height + top.long()) * width + left.long()
    palm = values[:, 3]
    color = torch.zeros_like(values[:, :3])
    for side, share in ((0, 1 - palm), (1, palm)):
        for dy, by_row in ((0, 1 - y + top), (1, y - top)):
            for dx, by_column in ((0, 1 - x + left), (1, x - left)):
                place = first + (side * height + dy) * width + dx
                color += pixels[place] * (share * by_row * by_column)[:, None]
    return color


def _arm_colors(stock: BatchStock, skin: Tensor, values: Tensor, cloth: Tensor) -> Tensor:
    """Bare skin, or woven cloth."""
    back, palm = stock.skin_bases[skin].unbind(1)
    bare = back + values[:, 2:3] * (palm - back)
    weave = 1 + 0.07 * (values[:, :1] * 2400).sin() * (values[:, 1:2] * 2400).sin()
    return torch.where(values[:, 3:4] > 0.5, cloth * weave, bare)


def _paint(
    stock: BatchStock, scene: BatchScene, owner: Tensor, points: Tensor, crops: Tensor, pictures: Tensor, chance: Chance
) -> Tensor:
    """Colours (N, 3) of points (N, 3) in their things' own frames: a coat, or two or three that meet at planes."""
    count = len(scene.things)
    if not count:
        return points
    out = _coat(stock, scene, owner, points, crops, pictures, chance)
    coats = 1 + chance.happens(0.45, count).int() + chance.happens(0.2, count).int()
    upright = points.new_tensor([0.0, 0.0, 1.0])
    for number in range(1, COATS):
        across = torch.where(chance.happens(0.6, count, 1), upright, F.normalize(chance.normal(0, 1, count, 3), dim=1))
        beyond = (points * across[owner]).sum(1) > chance.normal(0, 0.03, count)[owner]
        other = _coat(stock, scene, owner, points, crops, pictures, chance)
        out = torch.where((beyond & (number < coats)[owner])[:, None], other, out)
    return out


def _coat(
    stock: BatchStock, scene: BatchScene, owner: Tensor, points: Tensor, crops: Tensor, pictures: Tensor, chance: Chance
) -> Tensor:
    """Colours (N, 3) of one coat each: plain, a solid pattern or a print."""
    count = len(scene.things)
    kind = chance.uniform(0, 1, count, 1)[owner]
    plain = _plain(chance, count)[owner]
    pattern = _pattern(stock, scene, owner, points, chance)
    printed = _print(owner, points, crops, pictures, chance, count)
    return torch.where(kind < 0.3, plain, torch.where(kind < 0.7, pattern, printed))


def _plain(chance: Chance, count: int) -> Tensor:
    """Any colour, a grey, or one that skin has too: (T, 3)."""
    kind = chance.uniform(0, 1, count, 1)
    grey = chance.uniform(8, 250, count, 1) * chance.uniform(0.93, 1.05, count, 3)
    tones = torch.from_numpy(SKIN_TONES).float().to(chance.device)[chance.below(len(SKIN_TONES), count)]
    skin = tones * chance.uniform(0.8, 1.15, count, 3)
    return torch.where(kind < 0.45, chance.uniform(8, 247, count, 3), torch.where(kind < 0.8, grey, skin))


def _pattern(stock: BatchStock, scene: BatchScene, owner: Tensor, points: Tensor, chance: Chance) -> Tensor:
    """A base, then up to five layers of stripes, checks, bands, patches or blotches, as `solid_texture` lays them."""
    count = len(scene.things)
    out = chance.uniform(8, 247, count, 3)[owner]
    layers = 1 + chance.below(LAYERS, count, 1)
    for layer in range(LAYERS):
        laid = _laid(stock, scene, owner, points, chance) & (layer < layers)[owner]
        strength = chance.uniform(0.5, 1, count, 1)[owner] * laid
        out = out + strength * (chance.uniform(8, 247, count, 3)[owner] - out)
    grain = chance.uniform(0, 14, count, 1)[owner] * chance.normal(0, 1, len(points), 1)
    return (out + grain).clamp(0, 255)


def _laid(stock: BatchStock, scene: BatchScene, owner: Tensor, points: Tensor, chance: Chance) -> Tensor:
    """(N, 1) bool: where one layer is."""
    count = len(scene.things)
    kind, turn = chance.below(5, count, 1)[owner], turns_about(chance.normal(0, 1.5, count, 3))
    period = chance.uniform(0.008, 0.05, count, 1)
    size = chance.uniform(0, 1, count, 1)[owner]
    local = turned(turn[owner], points)
    cells = local / period[owner]
    stripes = cells[:, :1] % 1 < 0.2 + 0.5 * size
    checks = cells.floor().sum(1, keepdim=True) % 2 < 1
    band = (local[:, :1] - chance.normal(0, 0.03, count, 1)[owner]).abs() < 0.005 + 0.025 * size
    surface = stock.surfaces[scene.things, chance.below(stock.surfaces.shape[1], count)]
    patch = (local - turned(turn, surface)[owner]).abs().amax(1, keepdim=True) < 0.006 + 0.024 * size
    waves = (chance.normal(0, 2, count, 6, 3) / period[:, None])[owner]
    phase = chance.uniform(0, 2 * math.pi, count, 6)[owner]
    blotches = (turned(waves, points) + phase).sin().sum(1, keepdim=True) > -1 + 3 * size
    choices = torch.cat([stripes, checks, band, patch, blotches], 1)
    return choices.gather(1, kind)


def _print(owner: Tensor, points: Tensor, crops: Tensor, pictures: Tensor, chance: Chance, count: int) -> Tensor:
    """The picture behind another crop, laid round the thing or across it."""
    turn = turns_about(chance.normal(0, 1, count, 3))[owner]
    dense, about = chance.uniform(800, 3000, count)[owner], chance.happens(0.5, count)[owner]
    across = turned(turn, points)
    x = torch.where(about, 0.035 * torch.atan2(points[:, 1], points[:, 0]), across[:, 0])
    y = torch.where(about, points[:, 2], across[:, 1])
    side = pictures.shape[1]
    column, row = ((v * dense).floor().long() % side for v in (x, y))
    return pictures.view(-1, 3)[(((crops + 1) % len(pictures)) * side + row) * side + column]


def _light(colors: Tensor, hits: Hits, chance: Chance, harsh: Tensor) -> Tensor:
    """Ambient light, and one or two lamps with their shine."""
    count, crops = len(harsh), hits.raster.crops
    normals = F.normalize(hits.values[:, 4:7], dim=1)
    view = F.normalize(hits.raster.rays, dim=1)
    low = 0.55 - 0.3 * harsh
    ambient = low + chance.uniform(0, 1, count) * (0.75 - low)
    wrap, tilt = chance.uniform(0.1, 0.45, count), chance.uniform(-0.3, 1, count)
    light = (ambient[crops] * (1 - 0.25 * normals[:, 1] * tilt[crops]))[:, None].expand(-1, 3)
    shine = torch.zeros_like(light[:, 0])
    second = chance.happens(0.5, count).float()
    for share in (torch.ones_like(second), second):
        toward = F.normalize(chance.normal(0, 1, count, 3) + harsh.new_tensor([0, -0.7, -1.0]), dim=1)
        tint = chance.uniform(0.25, 0.75, count, 1) * (1 + 0.06 * chance.normal(0, 1, count, 3)) * share[:, None]
        power, strength = chance.uniform(8, 30, count), chance.uniform(0, 45, count) * (0.5 + harsh) * share
        at = torch.cat([toward, tint, torch.stack([wrap, power, strength], 1)], 1)[crops]
        facing = ((normals * at[:, :3]).sum(1) + at[:, 6]) / (1 + at[:, 6])
        light = light + facing.clamp(min=0)[:, None] * at[:, 3:6]
        half = F.normalize(at[:, :3] - view, dim=1)
        sharp = torch.where(hits.kinds >= HELD_HIT, 30.0, at[:, 7])
        shine = shine + (half * normals).sum(1).clamp(0, 1) ** sharp * at[:, 8]
    return colors * light + shine[:, None]


def darken_crevices(image: Tensor, depth: Tensor, middle: Tensor, strength: Tensor) -> Tensor:
    """Pictures (B, S, S, 3) darker where depth (B, S, S) lies deeper than around: light does not reach in there.

    Behind everything lies a wall a little farther than the hands' middle (B,).
    """
    known = depth.isfinite()
    filled = torch.where(known, depth, (middle + 0.03)[:, None, None])
    around = F.pad(filled[:, None], (8, 8, 8, 8), mode="reflect")
    around = F.avg_pool2d(F.avg_pool2d(around, (17, 1), 1), (1, 17), 1)[:, 0]
    shade = ((filled - around - 0.001) / 0.012).clamp(0, 1) * strength[:, None, None] * known
    return image * (1 - shade)[..., None]

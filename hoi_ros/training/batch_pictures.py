"""What lies behind and before synthetic hands, cut for whole batches from pictures that are uploaded once."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hoi_ros.simulation.prints import fractal_noise
from hoi_ros.training.batch_chance import Chance
from hoi_ros.training.batch_photograph import gaussian, soften
from hoi_ros.training.crop_pictures import Backgrounds

NOISES, NOISE_SPREAD = 24, 32.0
NOISE_SHARE, BLURRED_SHARE, FLAT_COVER_SHARE = 0.2, 0.5, 0.3
SURFACES, CORNER_SHARE = 3, 0.4


class BatchBackgrounds:
    """`Backgrounds.cut` for a batch: the same pictures in one list of pixels, halved sizes and noise among them."""

    def __init__(self, seed: int, side: int, folder: Path | None = None, device: torch.device | str = "cpu"):
        rng = np.random.default_rng([seed, 12])
        sizes = Backgrounds(seed, folder).sizes
        self.side = side
        self._pictures = len(sizes)
        noises = [_noise(rng, 2 * side) for _ in range(NOISES)]
        levels = [*sizes, *([noise] for noise in noises)]
        pixels = [level.reshape(-1, 3) for picture in levels for level in picture]
        starts = np.cumsum([0, *map(len, pixels)])
        most = max(map(len, levels))
        self._table = np.zeros((len(levels), most, 3), np.int64)
        """Of each picture's halves: first pixel, height, width; what is not there repeats the last."""
        number = 0
        for row, picture in zip(self._table, levels):
            for k in range(most):
                level = min(k, len(picture) - 1)
                row[k] = starts[number + level], *picture[level].shape[:2]
            number += len(picture)
        self._pixels = torch.from_numpy(np.concatenate(pixels)).to(device)

    def cut(self, chance: Chance, count: int) -> Tensor:
        """(B, S, S, 3) float32 RGB 0 to 255."""
        rng, side = chance.host, self.side
        noisy = rng.random(count) < NOISE_SHARE
        noise, photo = rng.integers(NOISES, size=count), rng.integers(self._pictures, size=count)
        picture = np.where(noisy, self._pictures + noise, photo)
        share = np.where(noisy, 0.5, rng.uniform(0.12, 0.8, count))
        table = self._table[picture]
        sizes = np.maximum((share[:, None] * table[..., 1:].min(2)).astype(np.int64), 1)
        fits = sizes < 2 * side
        level = np.where(fits.any(1), fits.argmax(1), sizes.shape[1] - 1)
        rows = np.arange(count)
        (start, height, width), size = table[rows, level].T, sizes[rows, level]
        top = (rng.random(count) * (height - size + 1)).astype(np.int64)
        left = (rng.random(count) * (width - size + 1)).astype(np.int64)
        place = np.stack([start + top * width + left, width, size, rng.random(count) < 0.5]).astype(np.int64)
        part = self._read(torch.from_numpy(place).to(self._pixels.device, non_blocking=True))
        out = _tint(part, chance, torch.from_numpy(noisy).to(part.device, non_blocking=True))
        blurred = ~noisy & (rng.random(count) < BLURRED_SHARE)
        if blurred.any():
            chosen = chance.some(blurred)
            matrix = gaussian(chance.uniform(0.5, 4, len(chosen)), side)
            out = out.index_copy(0, chosen, soften(out[chosen], matrix).permute(0, 2, 3, 1))
        return out.clamp(0, 255)

    def meet(self, chance: Chance, image: Tensor) -> Tensor:
        """Pictures (N, S, S, 3) with one to three other surfaces laid over them, as table, wall and shelf meet."""
        count = len(image)
        at = (torch.arange(self.side, device=image.device) + 0.0) / self.side - 0.5
        surfaces = 1 + chance.below(SURFACES, count, 1, 1)
        for number in range(SURFACES):
            angle = chance.uniform(0, 2 * math.pi, count, 1, 1)
            soft = chance.uniform(0.002, 0.03, count, 1, 1)
            edge = _along(at, angle) - chance.uniform(-0.4, 0.5, count, 1, 1)
            share = (0.5 + edge / soft).clamp(0, 1)
            edge = _along(at, angle + chance.uniform(1.2, 1.9, count, 1, 1)) - chance.uniform(-0.3, 0.3, count, 1, 1)
            corner = chance.happens(CORNER_SHARE, count, 1, 1)  # of something, not a whole half
            share = share * torch.where(corner, (0.5 + edge / soft).clamp(0, 1), 1.0) * (number < surfaces)
            image = image + share[..., None] * (self.cut(chance, count) - image)
        return image

    def _read(self, place: Tensor) -> Tensor:
        """Squares of the pictures at (B, S, S, 3), by (4, B) first pixel, width of the picture, size, mirrored."""
        start, width, size, mirrored = (row[:, None] for row in place)
        at = ((torch.arange(self.side, device=place.device) + 0.5) * size / self.side - 0.5).clamp(min=0)
        at = at.minimum(size - 1.0)
        low = at.floor()
        share, low = at - low, low.long()
        high = (low + 1).minimum(size - 1)
        columns = [torch.where(mirrored > 0, x.flip(1), x) for x in (low, high, share)]
        out = torch.zeros((), device=place.device)
        for row, by_row in ((low, 1 - share), (high, share)):
            for column, by_column in ((columns[0], 1 - columns[2]), (columns[1], columns[2])):
                where = (start + row * width)[:, :, None] + column.long()[:, None]
                weight = (by_row[:, :, None] * by_column[:, None])[..., None]
                out = out + self._pixels[where.view(-1)].view(*where.shape, 3) * weight
        return out


def _along(at: Tensor, angle: Tensor) -> Tensor:
    """(N, S, S) places along directions (N, 1, 1), of columns and rows at (S,)."""
    return at * angle.cos() + at[:, None] * angle.sin()


def _tint(part: Tensor, chance: Chance, noisy: Tensor) -> Tensor:
    """Another light on pictures (B, S, S, 3); noise gets a colour and a strength."""
    count, shape = len(part), (len(part), 1, 1, 3)
    colored, grey = chance.uniform(0.55, 1.25, *shape), chance.uniform(0.5, 1.2, count, 1, 1, 1)
    tone = torch.where(chance.happens(0.5, count, 1, 1, 1), colored, grey)
    strength = chance.uniform(0, 45, count, 1, 1, 1) * chance.uniform(0.3, 1, *shape) / NOISE_SPREAD
    color = chance.uniform(10, 240, *shape) - 128 * strength
    noisy = noisy[:, None, None, None]
    return part * torch.where(noisy, strength, tone) + torch.where(noisy, color, 0.0)


def _noise(rng: np.random.Generator, side: int) -> np.ndarray:
    """Smooth noise (side, side, 3) uint8 about 128."""
    field = fractal_noise(rng, side, side, base=2 * int(rng.integers(2, 12)), octaves=4)
    return np.repeat(np.clip(128 + NOISE_SPREAD * field, 0, 255).astype(np.uint8)[..., None], 3, 2)


def cover(joints_px: Tensor, chance: Chance, side: int) -> Tensor:
    """Masks (N, S, S) bool of one or two flat things near joints (N, 21, 2) pixels, as `crop_pictures.cover` draws."""
    count, things = len(joints_px), 2
    joint = chance.below(joints_px.shape[1], count, things)
    center = joints_px.gather(1, joint[..., None].expand(-1, -1, 2)) + chance.normal(0, 0.1 * side, count, things, 2)
    size = chance.uniform(0.02, 0.13, count, things, 2) * side
    pixel = torch.arange(side, device=joints_px.device) + 0.5
    x = pixel - center[..., 0, None, None]
    y = pixel[:, None] - center[..., 1, None, None]
    angle = chance.uniform(0, 2 * math.pi, count, things, 1, 1)
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    oval = (along / size[..., 0, None, None]) ** 2 + (across / size[..., 1, None, None]) ** 2 < 1
    points = chance.normal(0, 1, count, things, 5, 2) * size[..., None, :]
    # Fewer corners: the last ones coincide.
    last = 2 + chance.below(3, count, things, 1, 1)
    number = torch.minimum(torch.arange(5, device=points.device)[:, None], last).expand(-1, -1, -1, 2)
    points = points.gather(2, number)
    mask = torch.where(chance.happens(0.5, count, things, 1, 1), oval, _inside(points, x, y))
    second = chance.happens(0.5, count, 1, 1)
    return mask[:, 0] | (mask[:, 1] & second)


def _inside(points: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Whether (N, T, S, S) places lie inside polygons (N, T, P, 2): an odd number of edges passes to their right."""
    inside = torch.zeros_like(x + y, dtype=torch.bool)
    for k in range(points.shape[2]):
        (x0, y0), (x1, y1) = (points[:, :, j, :, None, None].unbind(2) for j in (k - 1, k))
        slope = (x1 - x0) / torch.where(y1 == y0, 1.0, y1 - y0)
        inside = inside ^ (((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * slope))
    return inside

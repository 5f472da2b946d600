"""What a camera does to pictures, for whole batches on any device: `crop_pictures.photograph` as a few matrix products.

Resampling and Gaussian blur along rows and columns are linear, so each picture's are one matrix (S, S) from both sides.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hoi_ros.training.batch_chance import Chance

NOISE_SIDE = 512
_LUMA_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMA_STEPS = (
    (17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99),
)  # fmt: skip
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_FROM_YCC = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


class BatchCamera:
    """Exposure, colour, resolution, blur of focus and of motion, noise and JPEG."""

    def __init__(self, device: torch.device | str = "cpu"):
        stock = np.random.default_rng(5).standard_normal((3, NOISE_SIDE, NOISE_SIDE), np.float32)
        self._noise = torch.from_numpy(stock).to(device)

    def photograph(self, light: Tensor, chance: Chance, harsh: np.ndarray) -> Tensor:
        """Pictures (B, 3, S, S) uint8 of light (B, S, S, 3) float32 0 to 255; harsh (B,) 0 to 1, known to the host."""
        count, reach = len(light), 0.3 + 0.7 * harsh.astype(np.float32)
        far = torch.from_numpy(reach).to(light.device)[:, None, None, None]
        image = _expose(light, chance, far)
        image = soften(image, softening(chance.host, reach, light.shape[1], light.device))
        rows = chance.host.random(count) < 0.15 * reach
        if rows.any():
            image = _moved(image, chance, rows, reach)
        strength = chance.uniform(0, 9, count, 1, 1, 1) * far
        image = (image + self._cut_noise(chance, count, light.shape[1]) * strength).clamp(0, 255).floor()
        rows = chance.host.random(count) < 0.5 * reach
        if rows.any():
            chosen = chance.some(rows)
            quality = chance.host.integers(35, 96, int(rows.sum()))
            image = image.index_copy(0, chosen, jpeg(image[chosen], quality))
        return image.to(torch.uint8)

    def _cut_noise(self, chance: Chance, count: int, side: int) -> Tensor:
        """(B, 3, S, S) windows of the stock, in either sign."""
        at = chance.below(NOISE_SIDE - side + 1, 2, count)
        steps = torch.arange(side, device=self._noise.device)
        rows, columns = (at[0, :, None] + steps) * NOISE_SIDE, at[1, :, None] + steps
        places = (rows[:, :, None] + columns[:, None]).view(-1)
        noise = self._noise.view(3, -1)[:, places].view(3, count, side, side).transpose(0, 1)
        return noise * torch.where(chance.happens(0.5, count, 1, 1, 1), 1.0, -1.0)


def _expose(light: Tensor, chance: Chance, reach: Tensor) -> Tensor:
    """Brightness, white balance, gamma and contrast of light (B, S, S, 3)."""
    count = len(light)
    gain = (1 + chance.uniform(-0.3, 0.3, count, 1, 1, 1) * reach) * (
        1 + 0.06 * reach * chance.normal(0, 1, count, 1, 1, 3)
    )
    gamma = (chance.uniform(-0.35, 0.35, count, 1, 1, 1) * reach).exp()
    image = 255 * ((light * gain).clamp(0, 320) / 255) ** gamma
    contrast = 1 + chance.uniform(-0.4, 0.3, count, 1, 1, 1) * reach * chance.happens(0.5, count, 1, 1, 1)
    mean = image.mean((1, 2, 3), keepdim=True)
    return mean + (image - mean) * contrast


def softening(rng: np.random.Generator, reach: np.ndarray, side: int, device: torch.device) -> Tensor:
    """Matrices (B, S, S) of a coarser resolution here and there, then of a focus that is a little off."""
    count = len(reach)
    coarse = (side * rng.uniform(1 - 0.65 * reach, 1)).astype(np.float32).astype(np.int64)
    coarse = np.where(rng.random(count) < 0.6, coarse, side)
    sigma = np.where(rng.random(count) < 0.6, rng.uniform(0.3, 0.6 + 1.2 * reach), 0)
    resample = resampling(torch.from_numpy(coarse).to(device), side)
    return gaussian(torch.from_numpy(sigma.astype(np.float32)).to(device), side) @ resample


def soften(image: Tensor, matrix: Tensor) -> Tensor:
    """(B, 3, S, S): matrices (B, S, S) applied to rows and columns of pictures (B, S, S, 3)."""
    count, side = image.shape[:2]
    rows = (matrix @ image.reshape(count, side, -1)).view(count, side, side, 3)
    planes = rows.permute(0, 3, 1, 2).reshape(count, 3 * side, side)
    return (planes @ matrix.transpose(1, 2)).view(count, 3, side, side)


def resampling(coarse: Tensor, side: int) -> Tensor:
    """(B, S, S) of going to `coarse` (B,) int64 pixels by area means and back linearly; S stays as it is."""
    at = torch.arange(side, device=coarse.device, dtype=torch.float32)
    step = (side / coarse)[:, None, None]
    low = at[:, None] * step
    shrink = (torch.minimum(at + 1, low + step) - torch.maximum(at.expand_as(low.mT), low)).clamp(min=0) / step
    place = ((at + 0.5) / step[:, 0] - 0.5).clamp(min=0).minimum(coarse[:, None] - 1.0)
    grow = (1 - (place[:, :, None] - at).abs()).clamp(min=0)
    return grow @ shrink


def gaussian(sigma: Tensor, side: int) -> Tensor:
    """(B, S, S) blur by sigma (B,) pixels; the weights that fall beyond the border go to what is inside."""
    at = torch.arange(side, device=sigma.device, dtype=torch.float32)
    weights = torch.exp(-((at - at[:, None]) ** 2) / (2 * sigma.clamp(min=0.05)[:, None, None] ** 2))
    return weights / weights.sum(2, keepdim=True)


def _moved(image: Tensor, chance: Chance, rows: np.ndarray, reach: np.ndarray) -> Tensor:
    """Blur of motion along a line in the chosen pictures."""
    length = torch.from_numpy(chance.host.integers(3, 4 + (12 * reach[rows]).astype(int))).to(image.device)
    kernels = line_kernels(length, chance.uniform(0, math.pi, len(length)))
    chosen = chance.some(rows)
    some = F.pad(image[chosen], (7, 7, 7, 7), mode="reflect").transpose(0, 1)
    return image.index_copy(0, chosen, F.conv2d(some, kernels[:, None], groups=len(length)).transpose(0, 1))


def line_kernels(length: Tensor, angle: Tensor) -> Tensor:
    """(N, 15, 15) kernels of lines of a length (N,) up to 15 pixels through the middle, in any direction (N,)."""
    at = torch.arange(-7.0, 8.0, device=angle.device)
    along = at * angle.cos()[:, None, None] + at[:, None] * angle.sin()[:, None, None]
    across = at[:, None] * angle.cos()[:, None, None] - at * angle.sin()[:, None, None]
    half = length[:, None, None] / 2
    weights = (1 - across.abs()).clamp(min=0) * (half + 0.5 - along.abs()).clamp(0, 1)
    return weights / weights.sum((1, 2), keepdim=True)


def jpeg(image: Tensor, quality: np.ndarray) -> Tensor:
    """Pictures (N, 3, S, S) 0 to 255 after JPEG of a quality (N,) with halved colours; S is a multiple of 16.

    Source: ITU-T T.81, annex K; the scale of its tables as in the libjpeg of the Independent JPEG Group.
    """
    percent = np.where(quality < 50, 5000 / quality, 200 - 2 * quality)[:, None, None]
    chroma = np.full((8, 8), 99)
    chroma[:4, :4] = _CHROMA_STEPS
    luma_steps, chroma_steps = (
        torch.from_numpy(np.clip(np.floor((np.array(steps) * percent + 50) / 100), 1, 255)).to(image.device).float()
        for steps in (_LUMA_STEPS, chroma)
    )
    planes = torch.einsum("kc,nchw->nkhw", image.new_tensor(_TO_YCC), image)
    luma = _quantized(planes[:, :1] - 128, luma_steps) + 128
    colors = _quantized(F.avg_pool2d(planes[:, 1:], 2), chroma_steps)
    colors = F.interpolate(colors, scale_factor=2, mode="bilinear", align_corners=False)
    back = torch.einsum("kc,nchw->nkhw", image.new_tensor(_FROM_YCC), torch.cat([luma, colors], 1))
    return back.round().clamp(0, 255)


def _quantized(planes: Tensor, steps: Tensor) -> Tensor:
    """Planes (N, C, H, W) after their blocks' cosine transforms were rounded to steps (N, 8, 8)."""
    count, channels, height, width = planes.shape
    k = torch.arange(8.0, device=planes.device)
    cosine = torch.cos((2 * k + 1) * k[:, None] * math.pi / 16) / 2
    cosine[0] /= math.sqrt(2)
    blocks = planes.view(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    step = steps[:, None, None, None]
    rounded = (cosine @ blocks @ cosine.T / step).round() * step
    return (cosine.T @ rounded @ cosine).transpose(3, 4).reshape(planes.shape)

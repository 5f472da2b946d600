"""What surrounds a synthetic hand: backgrounds, things in front, and what a camera does to a picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hoi_ros.errors import InputError
from hoi_ros.simulation.background import Room
from hoi_ros.simulation.prints import fractal_noise

ROOMS = 4
_PICTURE_ENDINGS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Harshness:
    """How hard the pictures are made, each 0 (easy) to 1; a curriculum raises it."""

    light: float = 0.5
    occlusion: float = 0.5
    camera: float = 0.5

    @staticmethod
    def even(level: float) -> Harshness:
        """The same level for everything."""
        return Harshness(level, level, level)


class Backgrounds:
    """Pictures to cut backgrounds from: the simulator's rooms, noise, shapes; the user's photos when given."""

    def __init__(self, seed: int, folder: Path | None = None):
        self._pictures = _read_pictures(folder) if folder else []
        if not self._pictures:
            for number in range(ROOMS):
                room = Room(seed + number)
                self._pictures += [room.table.picture, room.wall.picture]
            rng = np.random.default_rng([seed, 11])
            self._pictures += [_clutter(rng, 512) for _ in range(6)]
        self.sizes = [_halves(picture) for picture in self._pictures]
        """Each picture, and it halved again and again."""

    def cut(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """(side, side, 3) float32 RGB 0 to 255."""
        if rng.random() < 0.2:
            noise = fractal_noise(rng, side, side, base=int(rng.integers(2, 12)), octaves=4)[..., None]
            return np.clip(
                rng.uniform(10, 240, 3) + rng.uniform(0, 45) * noise * rng.uniform(0.3, 1, 3), 0, 255
            ).astype(np.float32)
        part = self._part(rng, side)
        part = cv2.flip(part, 1) if rng.random() < 0.5 else part
        tone = rng.uniform(0.55, 1.25, 3) if rng.random() < 0.5 else rng.uniform(0.5, 1.2)
        out = tinted(part, np.broadcast_to(tone, 3))
        if rng.random() < 0.5:
            out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.5, 4)))
        return np.clip(out, 0, 255, out=out)

    def _part(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """A square of a picture at (side, side, 3), read from the halved picture that is nearest in size."""
        sizes = self.sizes[rng.integers(len(self.sizes))]
        share, across, down = rng.uniform(0.12, 0.8), rng.random(), rng.random()
        for picture in sizes:
            height, width = picture.shape[:2]
            size = max(int(share * min(height, width)), 1)
            if size < 2 * side:
                break
        y, x = int(down * (height - size + 1)), int(across * (width - size + 1))
        return cv2.resize(picture[y : y + size, x : x + size], (side, side), interpolation=cv2.INTER_LINEAR)


def _halves(picture: np.ndarray) -> list[np.ndarray]:
    """The picture, and it halved again and again down to 128 pixels."""
    sizes = [picture]
    while min(sizes[-1].shape[:2]) >= 256:
        height, width = sizes[-1].shape[:2]
        sizes.append(cv2.resize(sizes[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return sizes


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    """Unit noise (512, 512, 3) float32, made once."""
    return np.random.default_rng(5).standard_normal((512, 512, 3), np.float32)


def cut_noise(rng: np.random.Generator, side: int) -> tuple[np.ndarray, int]:
    """(side, side, 3) float32 unit noise from anywhere in the stock, to be read only, and its sign; side <= 512."""
    stock = _noise()
    y, x = rng.integers(len(stock) - side + 1, size=2)
    return stock[y : y + side, x : x + side], int(rng.choice((-1, 1)))


def tinted(image: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Picture (H, W, 3) times a factor for each channel, float32; whole rows at once, as runs of three are slow."""
    height, width = image.shape[:2]
    row = np.tile(np.asarray(factors, np.float32), width)
    return (image.reshape(height, -1) * row).reshape(height, width, 3)


def cover(image: np.ndarray, joints_px: np.ndarray, rng: np.random.Generator, filler: np.ndarray) -> np.ndarray:
    """Hide parts of the hand behind one or two flat things near its joints; returns the mask (H, W) bool of them."""
    side = image.shape[0]
    mask = np.zeros((side, side), np.uint8)
    for _ in range(rng.integers(1, 3)):
        center = joints_px[rng.integers(len(joints_px))] + rng.normal(0, 0.1 * side, 2)
        size = rng.uniform(0.02, 0.13, 2) * side
        if rng.random() < 0.5:
            cv2.ellipse(
                mask, center.astype(int).tolist(), size.astype(int).tolist(), rng.uniform(0, 360), 0, 360, 1, -1
            )
        else:
            points = center + rng.normal(0, 1, (rng.integers(3, 6), 2)) * size
            cv2.fillPoly(mask, [points.astype(np.int32)], 1)
    covered = mask.astype(bool)
    image[covered] = filler[covered] if rng.random() < 0.7 else rng.uniform(0, 255, 3)
    return covered


def photograph(image: np.ndarray, rng: np.random.Generator, harsh: float) -> np.ndarray:
    """What a camera makes of light (S, S, 3) float32 0 to 255, as uint8: exposure, colour, blur, noise, JPEG."""
    reach = 0.3 + 0.7 * harsh
    gain = (1 + rng.uniform(-0.3, 0.3) * reach) / 255
    image = tinted(image, gain * (1 + 0.06 * reach * rng.standard_normal(3)))
    gamma = float(np.exp(rng.uniform(-0.35, 0.35) * reach))
    np.clip(image, 0, np.float32(320 / 255), out=image)
    cv2.pow(image, gamma, image)
    image *= 255
    if rng.random() < 0.5:
        mean, contrast = image.mean(), np.float32(1 + rng.uniform(-0.4, 0.3) * reach)
        image *= contrast
        image += mean * (1 - contrast)
    image = _soften(image, rng, reach)
    noise, sign = cut_noise(rng, image.shape[0])
    image = cv2.scaleAdd(noise, sign * float(rng.uniform(0, 9)) * reach, image)
    out: Any = np.clip(image, 0, 255, out=image).astype(np.uint8)
    if rng.random() < 0.5 * reach:
        quality = int(rng.integers(35, 96))
        out = cv2.imdecode(cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return out


def _soften(image: np.ndarray, rng: np.random.Generator, reach: float) -> np.ndarray:
    """Coarser resolution, then blur of focus or of motion."""
    side = image.shape[0]
    if rng.random() < 0.6:
        small = int(side * rng.uniform(1 - 0.65 * reach, 1))
        image = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
    chance = rng.random()
    if chance < 0.15 * reach:
        length = int(rng.integers(3, 4 + int(12 * reach)))
        kernel: Any = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1
        turn = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), float(rng.uniform(0, 180)), 1)
        kernel = cv2.warpAffine(kernel, turn, (length, length))
        return cv2.filter2D(image, -1, kernel / max(float(kernel.sum()), 1e-3))
    if chance < 0.7:
        return cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 0.6 + 1.2 * reach)))
    return image


def _clutter(rng: np.random.Generator, side: int) -> np.ndarray:
    """Overlapping shaded shapes (side, side, 3) uint8."""
    image = np.empty((side, side, 3), np.uint8)
    image[:] = rng.integers(20, 235, 3)
    for _ in range(60):
        color = rng.integers(0, 255, 3).tolist()
        center, size = rng.integers(0, side, 2), rng.uniform(0.02, 0.2, 2) * side
        if rng.random() < 0.5:
            cv2.ellipse(
                image, center.tolist(), size.astype(int).tolist(), rng.uniform(0, 360), 0, 360, color, -1, cv2.LINE_AA
            )
        else:
            points = center + rng.normal(0, 1, (rng.integers(3, 6), 2)) * size
            cv2.fillPoly(image, [points.astype(np.int32)], color, cv2.LINE_AA)
    shade = 1 + 0.15 * fractal_noise(rng, side, side, base=3)[..., None]
    return np.clip(image * shade, 0, 255).astype(np.uint8)


def _read_pictures(folder: Path) -> list[np.ndarray]:
    """The folder's photos, RGB uint8.

    Raises:
        InputError: no readable photo there.
    """
    pictures = []
    for path in sorted(p for p in folder.glob("*") if p.suffix.lower() in _PICTURE_ENDINGS):
        picture = cv2.imread(str(path))
        if picture is not None and min(picture.shape[:2]) >= 64:
            pictures.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    if not pictures:
        raise InputError(f"background folder {folder}: no readable .jpg or .png of at least 64 pixels; check the path")
    return pictures

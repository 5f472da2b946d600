"""Building blocks of the decoder in numpy. What they work in is kept from call to call: a frame allocates hardly any.

The same arithmetic as the blocks of `handos`, rearranged: the detector maps' projections, the last side convolution and
every layer's values are one matrix a level; bilinear sampling is a sparse matrix.

Shapes: N hands, T tokens, d channels, h heads. Arrays that a block returns are its buffers: the next call overwrites
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from hoi_ros.hand.handos_config import HandOsConfig

NORM_EPSILON = 1e-5
Take = Callable[..., np.ndarray]


class Buffers:
    """Arrays to work in, kept by name and shape; zeros when they are new, else what was left in them."""

    def __init__(self) -> None:
        self._kept: dict[tuple, np.ndarray] = {}

    def __call__(self, name: str, *shape: int, kind: Any = np.float32) -> np.ndarray:
        """The array of that name and shape."""
        key = (name, shape)
        if key not in self._kept:
            self._kept[key] = np.zeros(shape, kind)
        return self._kept[key]


class Linear:
    """x @ weight + bias over the last axis."""

    def __init__(self, take: Take, name: str, before: int, after: int):
        shape = (after, before)
        self.weight = np.ascontiguousarray(take(f"{name}.weight", shape).T)
        self.bias = take(f"{name}.bias", (after,))

    def __call__(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(..., before) to (..., after), into `out` (rows, after) where given."""
        out = np.matmul(x.reshape(-1, x.shape[-1]), self.weight, out=out)
        out += self.bias
        return out.reshape(*x.shape[:-1], -1)


class FeedForward:
    """Two linear layers with ReLU between."""

    def __init__(self, take: Take, name: str, before: int, inside: int, after: int):
        self.first, self.second = Linear(take, f"{name}.0", before, inside), Linear(take, f"{name}.2", inside, after)
        self._inside, self._buffers = inside, Buffers()

    def __call__(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(..., before) to (..., after), into `out` (rows, after) where given."""
        inner = self.first(x, self._buffers("inner", x.size // x.shape[-1], self._inside))
        np.maximum(inner, 0, out=inner)
        return self.second(inner, out)


class Norm:
    """Layer norm over the last axis."""

    def __init__(self, take: Take, name: str, width: int):
        self.weight, self.bias = take(f"{name}.weight", (width,)), take(f"{name}.bias", (width,))
        self._mean = np.full(width, 1 / width, np.float32)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(..., d), changed in place."""
        x -= (x @ self._mean)[..., None]
        variance = np.einsum("...c,...c->...", x, x)[..., None] / np.float32(x.shape[-1])
        x *= 1 / np.sqrt(variance + np.float32(NORM_EPSILON))
        x *= self.weight
        x += self.bias
        return x


class MapValues:
    """Values of every layer on one level's map: projection, side tuning and the layers' value matrices in one."""

    def __init__(self, take: Take, config: HandOsConfig, level: int, values: np.ndarray, bias: np.ndarray):
        width, below = config.width, config.shallow_channels[level]
        channels = config.feature_channels[level]
        self.groups, self._buffers = max(width // 32, 1), Buffers()
        project = take(f"project.{level}.weight", (width, channels, 1, 1))[..., 0, 0]
        side = f"side.branches.{level}"
        self.lift = take(f"{side}.0.weight", (width, below, 1, 1))[..., 0, 0].T.copy()
        self.lift_bias = take(f"{side}.0.bias", (width,))
        kernel = take(f"{side}.2.weight", (width, width // self.groups, 3, 3))
        part = width // self.groups
        # One (9 part, part) matrix a group; rows in the order of the patches.
        self.kernel = kernel.reshape(self.groups, part, part, 9).transpose(0, 3, 2, 1).reshape(self.groups, -1, part)
        self.kernel = np.ascontiguousarray(self.kernel)
        self.kernel_bias = take(f"{side}.2.bias", (width,))
        last = take(f"{side}.4.weight", (width, width, 1, 1))[..., 0, 0]
        self.matrix = np.concatenate([values[:, :width] @ project, values[:, width:] @ last], 1).T.copy()
        self.bias = (
            values[:, :width] @ take(f"project.{level}.bias", (width,))
            + values[:, width:] @ take(f"{side}.4.bias", (width,))
            + bias
        )

    def __call__(self, feature: np.ndarray, shallow: np.ndarray) -> np.ndarray:
        """Map (N, H, W, c) and the backbone's (N, H', W', s) to (N, H W, layers d)."""
        count, height, width, channels = feature.shape
        if shallow.shape[1] != height:
            step = shallow.shape[1] // height
            shallow = shallow.reshape(count, height, step, width, step, -1).mean((2, 4))
        rows, inside = count * height * width, self.lift.shape[1]
        lifted = np.matmul(shallow.reshape(rows, -1), self.lift, out=self._buffers("lifted", rows, inside))
        lifted += self.lift_bias
        np.maximum(lifted, 0, out=lifted)
        both = self._buffers("both", rows, channels + inside)
        both[:, :channels] = feature.reshape(rows, channels)
        self._three_by_three(lifted.reshape(count, height, width, inside), both[:, channels:])
        out = np.matmul(both, self.matrix, out=self._buffers("out", rows, self.matrix.shape[1]))
        out += self.bias
        return out.reshape(count, height * width, -1)

    def _three_by_three(self, x: np.ndarray, out: np.ndarray) -> None:
        """Grouped 3x3 convolution with ReLU: (N, H, W, d) into (N H W, d)."""
        count, height, width, channels = x.shape
        # Nothing is ever written to the rim.
        padded = self._buffers("padded", count, height + 2, width + 2, channels)
        padded[:, 1:-1, 1:-1] = x
        part = channels // self.groups
        patches = self._buffers("patches", self.groups, count, height, width, 9, part)
        grouped = padded.reshape(count, height + 2, width + 2, self.groups, part).transpose(3, 0, 1, 2, 4)
        for k in range(9):
            y, x0 = divmod(k, 3)
            patches[..., k, :] = grouped[:, :, y : y + height, x0 : x0 + width]
        rows = count * height * width
        mixed = self._buffers("mixed", self.groups, rows, part)
        np.matmul(patches.reshape(self.groups, rows, 9 * part), self.kernel, out=mixed)
        np.add(mixed.transpose(1, 0, 2), self.kernel_bias.reshape(-1, part), out=out.reshape(rows, self.groups, part))
        np.maximum(out, 0, out=out)


class Layer:
    """Self-attention, deformable attention to the maps, feed-forward."""

    def __init__(self, take: Take, config: HandOsConfig, number: int, sampler: Sampler, buffers: Buffers):
        self.sampler, self._buffers = sampler, buffers
        width, name = config.width, f"layers.{number}"
        self.heads, self.points, self.levels = config.heads, config.points, len(config.feature_channels)
        self.queries_keys = Linear(take, f"{name}.queries_keys", width, 2 * width)
        scale = np.ones(2 * width, np.float32)
        scale[:width] /= math.sqrt(width // config.heads)
        self.queries_keys.weight, self.queries_keys.bias = (
            x * scale for x in (self.queries_keys.weight, self.queries_keys.bias)
        )
        self.values = Linear(take, f"{name}.values", width, width)
        self.out = Linear(take, f"{name}.out", width, width)
        count = self.heads * self.levels * self.points
        self.where = Linear(take, f"{name}.image.offsets", width, 2 * count)
        weights = Linear(take, f"{name}.image.weights", width, count)
        self.where.weight = np.ascontiguousarray(np.concatenate([self.where.weight, weights.weight], 1))
        self.where.bias = np.concatenate([self.where.bias, weights.bias])
        self.image_out = Linear(take, f"{name}.image.out", width, width)
        self.feed_forward = FeedForward(take, f"{name}.feed_forward", width, config.hidden, width)
        self.feed_forward._buffers = buffers
        self.norms = [Norm(take, f"{name}.norms.{k}", width) for k in range(3)]

    def __call__(
        self, tokens: np.ndarray, places: np.ndarray, boxes: np.ndarray, seen: np.ndarray, mask: np.ndarray | None
    ) -> np.ndarray:
        """Change tokens (N, T, d) in place.

        Args:
            tokens: (N, T, d).
            places: (N, T, d). boxes: (N, T, 4).
            seen: this layer's values (N, h, pixels, d / h).
            mask: (T, T) added to the attention, or None.
        """
        placed, more = self._buffers("placed", *tokens.shape), self._buffers("more", *tokens.shape)
        flat = more.reshape(-1, more.shape[-1])
        np.add(tokens, places, out=placed)
        tokens += self._attend(tokens, placed, mask, flat)
        self.norms[0](tokens)
        np.add(tokens, places, out=placed)
        tokens += self._look(placed, boxes, seen, flat)
        self.norms[1](tokens)
        tokens += self.feed_forward(tokens, flat)
        return self.norms[2](tokens)

    def _attend(self, tokens: np.ndarray, placed: np.ndarray, mask: np.ndarray | None, out: np.ndarray) -> np.ndarray:
        count, length, width = tokens.shape
        heads, part, take = self.heads, width // self.heads, self._buffers
        both = self.queries_keys(placed, take("queries_keys", count * length, 2 * width))
        split = both.reshape(count, length, 2 * heads, part).transpose(0, 2, 1, 3)
        values = self.values(tokens, take("values", count * length, width))
        values = values.reshape(count, length, heads, part).transpose(0, 2, 1, 3)
        logits = take("logits", count, heads, length, length)
        np.matmul(split[:, :heads], split[:, heads:].swapaxes(-1, -2), out=logits)
        if mask is not None:
            logits += mask
        logits -= logits.max(-1, keepdims=True)
        np.exp(logits, out=logits)
        mixed = np.matmul(logits, values, out=take("mixed", count, heads, length, part))
        mixed /= logits.sum(-1, keepdims=True)
        together = take("together", count, length, heads, part)
        together[...] = mixed.transpose(0, 2, 1, 3)
        return self.out(together.reshape(count, length, width), out)

    def _look(self, queries: np.ndarray, boxes: np.ndarray, values: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Deformable attention: (N, T, d)."""
        count, length, width = queries.shape
        heads, levels, points, take = self.heads, self.levels, self.points, self._buffers
        answer = self.where(queries, take("where", count * length, 3 * heads * levels * points))
        split = heads * levels * points * 2
        offsets = answer[..., :split].reshape(count, length, heads, levels, points, 2)
        weights = take("weights", count, length, heads, levels * points)
        weights[...] = answer[..., split:].reshape(weights.shape)
        _softmax(weights)
        places = take("places", count, length, heads, levels, points, 2)
        np.multiply(offsets, (boxes[..., 2:] / 2)[:, :, None, None, None], out=places)
        places += boxes[:, :, None, None, None, :2]
        sampler = self.sampler.matrix(places, weights.reshape(count, length, heads, levels, points))
        mixed = (sampler @ values.reshape(-1, width // heads)).reshape(count, length, width)
        return self.image_out(mixed, out)


class Sampler:
    """Bilinear sampling of all levels' maps at once by a sparse matrix; maps have a rim of zeros, 1 before, 2 after."""

    def __init__(self, heads: int, points: int, sides: tuple[int, ...]):
        self.sides = tuple(sides)
        self.scale = np.array(sides, np.float32)[:, None, None]
        self.strides = np.array(sides, np.int32)[:, None] + 3
        sizes = self.strides[:, 0] ** 2
        self.starts = (np.cumsum(sizes) - sizes).astype(np.int32)
        self.pixels = int(sizes.sum())
        self.corners = (self.strides[..., None] * [0, 0, 1, 1] + [0, 1, 0, 1]).astype(np.int32)
        self.heads, self.entries, self._buffers = heads, 4 * points * len(sides), Buffers()

    def with_rims(self, levels: list[np.ndarray], depth: int) -> np.ndarray:
        """Maps (N, H W, depth d) of all levels as rows (depth, N, h, pixels, d / h), zeros around them."""
        count, width = len(levels[0]), levels[0].shape[2] // depth // self.heads
        # Nothing is ever written to the rims.
        out = self._buffers("rims", depth, count, self.heads, self.pixels, width)
        for side, start, flat in zip(self.sides, self.starts, levels):
            inner = flat.reshape(count, side, side, depth, self.heads, width).transpose(3, 0, 4, 1, 2, 5)
            stride = side + 3
            level = out[:, :, :, start : start + stride**2].reshape(*out.shape[:3], stride, stride, width)
            level[:, :, :, 1 : side + 1, 1 : side + 1] = inner
        return out

    def matrix(self, where: np.ndarray, weights: np.ndarray) -> csr_array:
        """Rows (N T h) mixing rows (N h pixels): what lies at points, times their weights; 0 outside.

        Args:
            where: (N, T, h, levels, points, 2) fractions of the maps; changed.
            weights: (N, T, h, levels, points).
        """
        count, length, heads = where.shape[:3]
        where *= self.scale
        where += np.float32(0.5)
        np.clip(where, 0, self.scale + 1, out=where)
        take, shape = self._buffers, weights.shape
        low = take("low", *where.shape, kind=np.int32)
        np.copyto(low, where, casting="unsafe")
        where -= low
        across, down, up = where[..., 0], take("down", *shape), take("up", *shape)
        np.multiply(where[..., 1], weights, out=down)
        np.subtract(weights, down, out=up)
        values = take("values", *shape, 4)
        np.multiply(up, across, out=values[..., 1])
        np.multiply(down, across, out=values[..., 3])
        np.subtract(up, values[..., 1], out=values[..., 0])
        np.subtract(down, values[..., 3], out=values[..., 2])
        columns, rows = self._places(count, length, heads)
        first = take("first", *shape, kind=np.int32)
        np.multiply(low[..., 1], self.strides, out=first)
        first += low[..., 0]
        first += columns
        indices = take("indices", *shape, 4, kind=np.int32)
        np.add(first[..., None], self.corners, out=indices)
        shape_of_all = (count * length * heads, count * heads * self.pixels)
        return csr_array((values.reshape(-1), indices.reshape(-1), rows), shape=shape_of_all)

    def _places(self, count: int, length: int, heads: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the rows of each hand's and head's maps begin, and where each row of the matrix does."""
        columns = self._buffers("columns", count, 1, heads, len(self.sides), 1, kind=np.int32)
        rows = self._buffers("rows", count * length * heads + 1, kind=np.int32)
        if not rows[-1]:
            maps = np.arange(count * heads, dtype=np.int32).reshape(count, 1, heads, 1, 1) * self.pixels
            columns[...] = maps + self.starts[:, None]
            rows[...] = np.arange(len(rows), dtype=np.int32) * np.int32(self.entries)
        return columns, rows


def _softmax(x: np.ndarray) -> None:
    """Over the last axis, in place."""
    x -= x.max(-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(-1, keepdims=True)

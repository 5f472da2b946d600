"""Many triangle meshes drawn at once on any torch device: a z-buffer without custom kernels.

Each triangle is cut into picture rows; the stretch of each row that it covers comes from its edges in closed form, so
exactly the covered pixels are touched. The nearest triangle wins by the smallest of packed keys (depth, face), which
does not depend on the order of writing: the same input gives the same picture on every run. Triangles that pass through
the camera's plane need no clipping, as edges are those of the cone over the triangle.
Source: Olano and Greer, "Triangle Scan Conversion using 2D Homogeneous Coordinates", 1997.

Only the numbers of rows, of covered pixels and of hits are read back from the device: three waits a call, and two more
a part where the covered pixels are more than `pixels_at_once`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from hoi_ros.errors import InputError

NEAR_M = 0.01
PIXELS_AT_ONCE = 8_000_000
_NOTHING = torch.iinfo(torch.int64).max
_INFINITY_BITS = 0x7F800000


@dataclass(frozen=True)
class Triangles:
    """All meshes of a batch in one list, each face in one camera."""

    vertices: Tensor
    """(N, 3) float32 metres, optical axes; faces nearer than 1 cm or behind the camera are not drawn."""
    faces: Tensor
    """(F, 3) int64 numbers of vertices; faces without area are not drawn."""
    crops: Tensor
    """(F,) int64 which camera sees the face."""
    outward: Tensor
    """(F,) 1 where a face is seen only from where its corners run counter-clockwise, -1 only from the other side (a
    mirrored mesh), 0 from both. Closed meshes are drawn twice as fast so."""


@dataclass(frozen=True)
class Raster:
    """What B cameras see: the H pixels that show a surface, in order of crop, row and column."""

    crops: Tensor
    """(H,) int64 number of the crop."""
    pixels: Tensor
    """(H,) int64 number of the pixel among all crops': crop S S + row S + column."""
    faces: Tensor
    """(H,) int64 nearest face."""
    weights: Tensor
    """(H, 3) of the face's corners, sum 1."""
    rays: Tensor
    """(H, 3) through the pixel's middle, z 1."""
    depth: Tensor
    """(B, S, S) metres along the optical axis; infinity where nothing is."""

    def mix(self, values: Tensor, triangles: Triangles) -> Tensor:
        """Values (H, C) of vertices (N, C) at the hits."""
        corners = values[triangles.faces[self.faces].reshape(-1)].view(-1, 3, values.shape[1])
        return (corners * self.weights[..., None]).sum(1)


def rasterize(triangles: Triangles, focal: Tensor, side: int, *, pixels_at_once: int = PIXELS_AT_ONCE) -> Raster:
    """Draw meshes, each through its camera, which looks at the middle of a square picture.

    Args:
        triangles: of all crops.
        focal: (B,) focal lengths in picture sides.
        side: S, pixels.
        pixels_at_once: bounds the memory for covered pixels, about 60 bytes each.

    Raises:
        InputError: shapes that do not fit together.
    """
    _check(triangles, focal)
    rows = _Rows(triangles, focal, side)
    keys = torch.full((len(focal) * side * side,), _NOTHING, dtype=torch.int64, device=focal.device)
    for low, high in rows.parts(pixels_at_once):
        rows.write(keys, low, high)
    return _read(keys, triangles, focal, side)


class _Rows:
    """The picture rows of all triangles, and the stretch that each covers."""

    def __init__(self, triangles: Triangles, focal: Tensor, side: int):
        corners = triangles.vertices[triangles.faces.reshape(-1)].view(-1, 3, 3)
        a, b, c = corners.unbind(1)
        plane = _cross(b - a, c - a)
        # Positive: the camera sees the side from which the corners run clockwise.
        offset = (plane * a).sum(1)
        drawn = (offset != 0) & (triangles.outward * offset <= 0)
        length = focal[triangles.crops]
        first, size = _row_range(corners, length, side, drawn)
        sign = offset.sign()[:, None]
        edges = [_cross(b, c) * sign, _cross(c, a) * sign, _cross(a, b) * sign]
        table = torch.cat([*edges, plane / _safe(offset)[:, None], length[:, None]], 1)
        start = triangles.crops * (side * side)
        ends = size.cumsum(0)
        face = _repeated(size, int(ends[-1]) if len(ends) else 0)
        row = first[face] + _arange(face) - (ends - size)[face]
        self._stretch(table[face], row, start[face], side)
        self.face = face

    def _stretch(self, table: Tensor, row: Tensor, start: Tensor, side: int) -> None:
        """The covered columns of each row, and 1 / depth along them."""
        focal = table[:, 12]
        y = ((row + 0.5) / side - 0.5) / focal
        edges = table[:, :9].view(-1, 3, 3)
        slope, rest = edges[..., 0], edges[..., 1] * y[:, None] + edges[..., 2]
        crossing = ((-rest / _safe(slope)) * focal[:, None] + 0.5) * side - 0.5
        crossing = crossing.clamp(-1, side)
        left = torch.where(slope > 0, crossing, -1.0).amax(1).ceil().clamp(min=0).long()
        right = torch.where(slope < 0, crossing, float(side)).amin(1).floor().clamp(max=side - 1).long()
        empty = ((slope == 0) & (rest < 0)).any(1)
        self.size = torch.where(empty, 0, (right - left + 1).clamp(min=0))
        self.ends = self.size.cumsum(0)
        self.total = int(self.ends[-1]) if len(row) else 0
        x = ((left + 0.5) / side - 0.5) / focal
        step = table[:, 9] / (focal * side)
        self.inverse = torch.stack([table[:, 9] * x + table[:, 10] * y + table[:, 11], step], 1)
        self.before = self.ends - self.size
        self.pixel = start + row * side + left - self.before

    def parts(self, limit: int) -> list[tuple[int, int]]:
        """Ranges of rows that cover about `limit` pixels each."""
        if self.total <= limit:
            return [(0, len(self.size))]
        goals = torch.arange(limit, self.total, limit, device=self.ends.device)
        bounds = [0, *torch.searchsorted(self.ends, goals).tolist(), len(self.size)]
        return list(pairwise(bounds))

    def write(self, keys: Tensor, low: int, high: int) -> None:
        """Lower the keys (pixels,) where rows from low to high cover them."""
        if low == high:
            return
        whole = high - low == len(self.size)
        before = 0 if whole else int(self.before[low])
        total = self.total if whole else int(self.ends[high - 1]) - before
        row = low + _repeated(self.size[low:high], total)
        number = before + _arange(row)
        at = self.inverse[row]
        inverse = at[:, 0] + at[:, 1] * (number - self.before[row])
        key = ((_INFINITY_BITS - inverse.view(torch.int32).long()) << 32) | self.face[row]
        key = torch.where((inverse > 0) & (inverse < 1 / NEAR_M), key, _NOTHING)
        keys.scatter_reduce_(0, self.pixel[row] + number, key, "amin")


def _read(keys: Tensor, triangles: Triangles, focal: Tensor, side: int) -> Raster:
    """Unpack the winners."""
    hit = keys != _NOTHING
    inverse = (_INFINITY_BITS - (keys >> 32)).to(torch.int32).view(torch.float32)
    depth = torch.where(hit, 1 / inverse, torch.inf)
    pixels = torch.nonzero(hit)[:, 0]
    crop, face = pixels // (side * side), keys[pixels] & 0xFFFFFFFF
    place = torch.stack([pixels % side, pixels // side % side], 1)
    rays = torch.ones(len(pixels), 3, device=keys.device)
    rays[:, :2] = ((place + 0.5) / side - 0.5) / focal[crop, None]
    corners = triangles.vertices[triangles.faces[face].reshape(-1)].view(-1, 3, 3)
    weights = _weights(corners, rays * depth[pixels, None])
    return Raster(crop, pixels, face, weights, rays, depth.view(-1, side, side))


def _weights(corners: Tensor, points: Tensor) -> Tensor:
    """Corner weights (H, 3) of points (H, 3) on triangles (H, 3, 3)."""
    e, f, p = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], points - corners[:, 0]
    ee, ef, ff = (e * e).sum(1), (e * f).sum(1), (f * f).sum(1)
    pe, pf = (p * e).sum(1), (p * f).sum(1)
    size = _safe(ee * ff - ef * ef)
    u, v = (ff * pe - ef * pf) / size, (ee * pf - ef * pe) / size
    weights = torch.stack([1 - u - v, u, v], 1).clamp(0, 1)
    return weights / weights.sum(1, keepdim=True)


def _row_range(corners: Tensor, focal: Tensor, side: int, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """First picture row and number of rows (F,) that triangles may touch; all of them through the camera's plane."""
    z = corners[..., 2]
    row = (corners[..., 1] / z.clamp(min=NEAR_M) * focal[:, None] + 0.5) * side - 0.5
    row, behind = row.clamp(-1, side), z < NEAR_M
    crossing = behind.any(1)
    first = torch.where(crossing, 0.0, row.amin(1).ceil().clamp(min=0)).long()
    last = torch.where(crossing, side - 1.0, row.amax(1).floor().clamp(max=side - 1)).long()
    return first, torch.where(drawn & ~behind.all(1), (last - first + 1).clamp(min=0), 0)


def _repeated(sizes: Tensor, total: int) -> Tensor:
    """Each row's number as often as its size says, (total,)."""
    return torch.repeat_interleave(_arange(sizes), sizes, output_size=total)


def _arange(like: Tensor) -> Tensor:
    return torch.arange(len(like), device=like.device)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product whose sign turns exactly when its factors change places, so that neighbours leave no gap."""
    ax, ay, az = a.unbind(-1)
    bx, by, bz = b.unbind(-1)
    return torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)


def _safe(x: Tensor) -> Tensor:
    return torch.where(x == 0, 1, x)


def _check(triangles: Triangles, focal: Tensor) -> None:
    count = len(triangles.faces)
    fits = triangles.faces.shape == (count, 3) and triangles.vertices.shape[1:] == (3,) and focal.ndim == 1
    if not fits or triangles.crops.shape != (count,) or triangles.outward.shape != (count,):
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in vars(triangles).items())
        raise InputError(
            f"rasterize: {shapes}, focal {tuple(focal.shape)}: give (N, 3), (F, 3), (F,), (F,) and (B,), float32"
        )

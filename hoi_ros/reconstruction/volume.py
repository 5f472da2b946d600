"""Truncated signed distances with colour in blocks of voxels that exist only where the surface was seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from hoi_ros.reconstruction.evidence import PixelEvidence

BLOCK = 8
BLOCK_VOXELS = BLOCK**3
_MIN_POINTS_PER_BLOCK = 3
COLORED = 0.75
"""Distance, in truncations, up to which a voxel takes colour: a voxel's diagonal and noise."""


@dataclass(frozen=True)
class DenseField:
    """A copy of the volume's observed box, ready for marching cubes."""

    tsdf: np.ndarray
    """(X, Y, Z) float32 in truncation units, negative inside."""
    weight: np.ndarray
    """(X, Y, Z) float32, 0 where nothing was seen."""
    color: np.ndarray
    """(X, Y, Z, 4) float32: RGB 0 to 255 and the weight of the colour."""
    origin: np.ndarray
    """(3,) metres, object frame, of voxel (0, 0, 0)."""
    voxel_size_m: float
    empty: np.ndarray
    """(X, Y, Z) bool, places known to hold nothing."""

    def emptied(self, empty: np.ndarray) -> DenseField:
        """The field without the surfaces in places (X, Y, Z) bool that are known to be empty."""
        return replace(
            self,
            tsdf=np.where(empty, np.float32(1), self.tsdf),
            weight=np.where(empty, np.maximum(self.weight, 1), self.weight),
            empty=self.empty | empty,
        )


class SparseVolume:
    """Weighted running mean of signed distance and colour; blocks of 8x8x8 voxels found through a dense index table.

    The table spans a cube of `extent_m` around `center`; a block costs 12 kB and the pool doubles as the object shows,
    up to `max_blocks`. Source: Curless and Levoy, SIGGRAPH 1996; blocks as in Niessner et al., TOG 2013.
    """

    def __init__(
        self,
        center: np.ndarray,
        *,
        voxel_size_m: float,
        truncation_m: float,
        extent_m: float,
        max_blocks: int,
        max_weight: float,
        device: torch.device,
    ) -> None:
        self.voxel_size_m, self.truncation_m, self.max_weight = voxel_size_m, truncation_m, max_weight
        self.max_blocks, self.device = max_blocks, device
        self.block_size_m = BLOCK * voxel_size_m
        self.table_size = int(np.ceil(extent_m / self.block_size_m))
        self.origin = np.asarray(center, np.float64) - self.table_size * self.block_size_m / 2
        self._table = np.full(self.table_size**3, -1, np.int32)
        self._coordinates = np.zeros((0, 3), np.int32)
        self._voxels = torch.zeros((0, BLOCK_VOXELS, 6), device=device)
        self._reserve(min(256, max_blocks))
        axis = torch.arange(BLOCK, dtype=torch.float32, device=device) * voxel_size_m
        self._offsets = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)

    @property
    def block_count(self) -> int:
        """Blocks in use."""
        return len(self._coordinates)

    @property
    def full(self) -> bool:
        """True when `max_blocks` are in use: what shows further is not fused."""
        return self.block_count >= self.max_blocks

    @property
    def memory_bytes(self) -> int:
        """Bytes held by voxels and table."""
        return self._table.nbytes + 4 * self._voxels.numel()

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner (3,) of the blocks in use, metres, object frame."""
        low = self._coordinates.min(0) * self.block_size_m + self.origin
        return low, (self._coordinates.max(0) + 1) * self.block_size_m + self.origin

    def allocate(self, points_object: np.ndarray) -> int:
        """Make the blocks within the truncation of (N, 3) surface points; returns how many are new.

        A block needs three points near it: single flying pixels make none. Points beyond the table are left out.
        """
        reach = self.truncation_m
        offsets = np.concatenate([np.zeros((1, 3)), np.eye(3) * reach, -np.eye(3) * reach])
        near = (points_object[:, None] - self.origin + offsets).reshape(-1, 3) / self.block_size_m
        blocks = np.floor(near).astype(np.int64)
        blocks = blocks[((blocks >= 0) & (blocks < self.table_size)).all(1)]
        flat = (blocks[:, 0] * self.table_size + blocks[:, 1]) * self.table_size + blocks[:, 2]
        count = np.bincount(flat, minlength=len(self._table))
        new = np.flatnonzero((count >= _MIN_POINTS_PER_BLOCK) & (self._table < 0))
        new = new[: self.max_blocks - self.block_count]
        if len(new):
            start = self.block_count
            self._table[new] = np.arange(start, start + len(new), dtype=np.int32)
            coordinates = np.stack(np.unravel_index(new, (self.table_size,) * 3), 1).astype(np.int32)
            self._coordinates = np.concatenate([self._coordinates, coordinates])
            if self.block_count > len(self._voxels):
                self._reserve(min(max(2 * len(self._voxels), self.block_count), self.max_blocks))
        return len(new)

    def integrate(
        self, evidence: PixelEvidence, T_camera_object: np.ndarray, *, min_weight: float, free_weight: float
    ) -> int:
        """Fuse one frame's pixels; returns how many voxels became known at the surface or changed their side.

        Args:
            evidence: the pixels.
            T_camera_object: (4, 4).
            min_weight: weight from which a voxel is known.
            free_weight: weight of the free space that a pixel sees through; 0 passes it over, which is faster.
        """
        slots = self._visible_blocks(evidence, T_camera_object)
        with _one_thread():
            index, gap, row = self._project(slots, evidence, T_camera_object, carve=free_weight > 0)
            return self._update(index, gap, row, evidence, min_weight, free_weight) if len(index) else 0

    def snapshot(self) -> DenseField | None:
        """Copy the blocks in use into one dense box; None while nothing was fused."""
        if not self.block_count:
            return None
        low = self._coordinates.min(0)
        size = self._coordinates.max(0) - low + 1
        at = tuple((self._coordinates - low).T)
        fields = []
        voxels = self._voxels[: self.block_count].cpu().numpy()
        for values, fill in ((voxels[..., 0], 1.0), (voxels[..., 1], 0.0), (voxels[..., 2:], 0.0)):
            tail = values.shape[2:]
            box = np.full((size[0], BLOCK, size[1], BLOCK, size[2], BLOCK, *tail), fill, np.float32)
            box[at[0], :, at[1], :, at[2], :] = values.reshape(-1, BLOCK, BLOCK, BLOCK, *tail)
            fields.append(box.reshape(*(size * BLOCK), *tail))
        origin = self.origin + low * self.block_size_m
        nothing = np.zeros(fields[0].shape, bool)
        return DenseField(fields[0], fields[1], fields[2], origin, self.voxel_size_m, nothing)

    def _reserve(self, capacity: int) -> None:
        """Grow the voxel pool; what is in it stays. A row is distance, weight, R, G, B and the colour's weight."""
        voxels = torch.zeros((capacity, BLOCK_VOXELS, 6), device=self.device)
        voxels[..., 0] = 1
        voxels[: len(self._voxels)] = self._voxels
        self._voxels = voxels

    def _visible_blocks(self, evidence: PixelEvidence, T_camera_object: np.ndarray) -> np.ndarray:
        """Slots of the blocks that project onto the evidence and are not wholly behind what is seen there."""
        centers = (self._coordinates + 0.5) * self.block_size_m + self.origin
        centers = centers @ T_camera_object[:3, :3].T + T_camera_object[:3, 3]
        radius = self.block_size_m * 0.87
        z = centers[:, 2]
        in_front = z > radius + 0.02
        z = np.where(in_front, z, 1.0)
        camera = evidence.intrinsics
        u = centers[:, 0] / z * camera.fx + camera.cx - evidence.origin_px[0]
        v = centers[:, 1] / z * camera.fy + camera.cy - evidence.origin_px[1]
        reach = camera.fx * radius / z
        width, height = evidence.size_px
        seen = in_front & (u > -reach) & (v > -reach) & (u < width + reach) & (v < height + reach)
        farthest = evidence.farthest_near(u, v, float(reach[seen].max()) if seen.any() else 0.0)
        return np.flatnonzero(seen & (z - radius < farthest + self.truncation_m))

    def _project(
        self, slots: np.ndarray, evidence: PixelEvidence, T_camera_object: np.ndarray, *, carve: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Flat voxel index, gap in metres to what is seen, and pixel of the voxels of `slots` worth updating."""
        camera, (x0, y0), (width, height) = evidence.intrinsics, evidence.origin_px, evidence.size_px
        lens = np.array([[camera.fx, 0, camera.cx - x0 + 0.5], [0, camera.fy, camera.cy - y0 + 0.5], [0, 0, 1]])
        matrix = lens @ T_camera_object[:3]
        corners = self._coordinates[slots] * self.block_size_m + self.origin + self.voxel_size_m / 2
        corners = corners @ matrix[:, :3].T + matrix[:, 3]
        base = torch.as_tensor(corners.astype(np.float32), device=self.device)
        offset = self._offsets @ torch.as_tensor(matrix[:, :3].T.astype(np.float32), device=self.device)
        z = base[:, 2:] + offset[:, 2]
        inverse = 1.0 / z
        # The rim of the pixels says nothing: what falls outside goes there.
        u = (base[:, :1] + offset[:, 0]).mul_(inverse).clamp_(0, width - 1).to(torch.int32)
        v = (base[:, 1:2] + offset[:, 1]).mul_(inverse).clamp_(0, height - 1).to(torch.int32)
        row = v.mul_(width).add_(u).view(-1)
        gap = evidence.depth.index_select(0, row).sub_(z.view(-1))
        useful = gap > -self.truncation_m
        if not carve:
            useful &= gap < 2 * self.truncation_m
        picked = useful.nonzero()[:, 0]
        slots_tensor = torch.as_tensor(slots, device=self.device)
        block = picked // BLOCK_VOXELS
        index = (slots_tensor.index_select(0, block) - block) * BLOCK_VOXELS + picked
        return index, gap.index_select(0, picked), row.index_select(0, picked)

    def _update(
        self,
        index: torch.Tensor,
        gap: torch.Tensor,
        pixel: torch.Tensor,
        evidence: PixelEvidence,
        min_weight: float,
        free_weight: float,
    ) -> int:
        """Move the running means of voxels `index` towards what their pixels say."""
        seen_weight, to_edge, cosine = evidence.rows.index_select(0, pixel).unbind(1)
        depth_gap = gap / self.truncation_m
        distance = depth_gap * cosine
        # Behind the surface the weight falls to nothing, so that one side of a thin wall does not erase the other.
        surface = seen_weight * (1 + depth_gap.clamp(max=0)) * (distance < 1)
        on_surface = surface > 0
        target, added = torch.where(on_surface, distance, 1.0), surface
        if free_weight:
            z = evidence.depth.index_select(0, pixel)
            # Free pixels near an edge say less: what they see past may be the surface, a fraction of a pixel off.
            beside = (to_edge - 1).clamp_(min=0) * z * (1 / (evidence.intrinsics.fx * self.truncation_m))
            margin = evidence.model.free_margin_m + 3 * evidence.model.noise_per_m2 * z * z
            free = free_weight * beside.clamp_(max=1) * (gap > margin)
            added = torch.where(on_surface, surface, free)

        voxels = self._voxels.view(-1, 6)
        state = voxels.index_select(0, index)
        old, weight = state[:, 0], state[:, 1]
        total = weight + added
        new = old + (target - old) * (added / total.clamp(min=1e-9))
        total = total.clamp_(max=self.max_weight)
        near = (new.abs() < 0.5) & (total >= min_weight)
        changed = near & ((weight < min_weight) | ((old < 0) != (new < 0)))
        count = int(changed.sum())
        state[:, 0], state[:, 1] = new, total
        # Vertices take their colour from voxels beside the surface.
        at = (on_surface & (distance.abs() < COLORED)).nonzero()[:, 0]
        said, old_color = surface.index_select(0, at)[:, None], state.index_select(0, at)[:, 2:]
        new_weight = old_color[:, 3:] + said
        colors = evidence.color.index_select(0, pixel.index_select(0, at)).float()
        mean = old_color[:, :3] + (colors - old_color[:, :3]) * (said / new_weight)
        state[at, 2:] = torch.cat([mean, new_weight.clamp_(max=self.max_weight)], 1)
        voxels.index_copy_(0, index, state)
        return count


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch's CPU work on the caller's thread.

    Two threads gain a fifth on idle cores; with the cores shared, each of some fifty small steps waits for a thread
    that is not running: 10 ms became 20 to 500.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

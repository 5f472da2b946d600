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
        self._tsdf = torch.zeros((0, BLOCK_VOXELS), device=device)
        self._weight, self._color = self._tsdf, torch.zeros((0, BLOCK_VOXELS, 4), device=device)
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
        return self._table.nbytes + sum(t.numel() * 4 for t in (self._tsdf, self._weight, self._color))

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
            if self.block_count > len(self._tsdf):
                self._reserve(min(max(2 * len(self._tsdf), self.block_count), self.max_blocks))
        return len(new)

    def integrate(self, evidence: PixelEvidence, T_camera_object: np.ndarray, *, min_weight: float) -> int:
        """Fuse one frame's pixels; returns how many voxels became known at the surface or changed their side."""
        slots = self._visible_blocks(evidence, T_camera_object)
        with _one_thread():
            index, z, row = self._project(slots, evidence, T_camera_object)
            if not len(index):
                return 0
            return self._update(index, z, evidence.rows.index_select(0, row), evidence, min_weight)

    def snapshot(self) -> DenseField | None:
        """Copy the blocks in use into one dense box; None while nothing was fused."""
        if not self.block_count:
            return None
        low = self._coordinates.min(0)
        size = self._coordinates.max(0) - low + 1
        at = tuple((self._coordinates - low).T)
        fields = []
        for source, fill in ((self._tsdf, 1.0), (self._weight, 0.0), (self._color, 0.0)):
            values = source[: self.block_count].cpu().numpy()
            tail = values.shape[2:]
            box = np.full((size[0], BLOCK, size[1], BLOCK, size[2], BLOCK, *tail), fill, np.float32)
            box[at[0], :, at[1], :, at[2], :] = values.reshape(-1, BLOCK, BLOCK, BLOCK, *tail)
            fields.append(box.reshape(*(size * BLOCK), *tail))
        origin = self.origin + low * self.block_size_m
        nothing = np.zeros(fields[0].shape, bool)
        return DenseField(fields[0], fields[1], fields[2], origin, self.voxel_size_m, nothing)

    def _reserve(self, capacity: int) -> None:
        """Grow the voxel pool; what is in it stays."""
        tsdf = torch.ones((capacity, BLOCK_VOXELS), device=self.device)
        weight = torch.zeros((capacity, BLOCK_VOXELS), device=self.device)
        color = torch.zeros((capacity, BLOCK_VOXELS, 4), device=self.device)
        held = len(self._tsdf)
        if held:
            tsdf[:held], weight[:held], color[:held] = self._tsdf, self._weight, self._color
        self._tsdf, self._weight, self._color = tsdf, weight, color

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
        self, slots: np.ndarray, evidence: PixelEvidence, T_camera_object: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Flat voxel index, camera z and pixel row of every voxel of `slots` that a pixel says something about."""
        rotation = torch.as_tensor(T_camera_object[:3, :3], dtype=torch.float32, device=self.device)
        corners = self._coordinates[slots] * self.block_size_m + self.origin + self.voxel_size_m / 2
        corners = corners @ T_camera_object[:3, :3].T + T_camera_object[:3, 3]
        base = torch.as_tensor(corners.astype(np.float32), device=self.device)
        offset = self._offsets @ rotation.T
        z = base[:, 2:] + offset[:, 2]
        inverse = 1.0 / z
        camera, (x0, y0), (width, height) = evidence.intrinsics, evidence.origin_px, evidence.size_px
        u = ((base[:, :1] + offset[:, 0]) * camera.fx).mul_(inverse).add_(camera.cx - x0 + 0.5).floor_()
        v = ((base[:, 1:2] + offset[:, 1]) * camera.fy).mul_(inverse).add_(camera.cy - y0 + 0.5).floor_()
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        row = v.mul_(width).add_(u).mul_(inside).to(torch.int32)
        seen = evidence.depth.index_select(0, row.view(-1)).view_as(z)
        useful = inside & (z - seen < self.truncation_m * 2) & (seen > 0)
        picked = useful.view(-1).nonzero()[:, 0]
        slots_tensor = torch.as_tensor(slots, device=self.device)
        index = slots_tensor[picked // BLOCK_VOXELS] * BLOCK_VOXELS + picked % BLOCK_VOXELS
        return index, z.view(-1).index_select(0, picked), row.view(-1).index_select(0, picked)

    def _update(
        self, index: torch.Tensor, z: torch.Tensor, rows: torch.Tensor, evidence: PixelEvidence, min_weight: float
    ) -> int:
        """Move the running means of voxels `index` towards what their pixels say."""
        gap = rows[:, 0] - z
        depth_gap = gap / self.truncation_m
        distance = depth_gap * rows[:, 4]
        # Behind the surface the weight falls to nothing, so that one side of a thin wall does not erase the other.
        surface = rows[:, 1] * (1 + depth_gap.clamp(max=0)).clamp(min=0) * (distance < 1)
        # Free pixels near an edge say less: what they see past may be the surface, a fraction of a pixel off.
        beside = (rows[:, 2] - 1).clamp(min=0) * z * (1 / (evidence.intrinsics.fx * self.truncation_m))
        free = evidence.free_weight * beside.clamp(max=1) * (gap > rows[:, 3]) * ((distance >= 1) | (rows[:, 1] == 0))
        on_surface = surface > 0

        old, weight = self._tsdf.view(-1)[index], self._weight.view(-1)[index]
        target = torch.where(on_surface, distance, 1.0)
        added = torch.where(on_surface, surface, free)
        total = weight + added
        new = old + (target - old) * (added / total.clamp(min=1e-9))
        total = total.clamp(max=self.max_weight)
        self._tsdf.view(-1)[index] = new
        self._weight.view(-1)[index] = total
        near = (new.abs() < 0.5) & (total >= min_weight)
        changed = near & ((weight < min_weight) | ((old < 0) != (new < 0)))

        at = on_surface.nonzero()[:, 0]
        color = self._color.view(-1, 4)
        old_color, added = color[index[at]], surface[at, None]
        new_weight = old_color[:, 3:] + added
        mean = old_color[:, :3] + (rows[at, 5:] - old_color[:, :3]) * (added / new_weight)
        color[index[at]] = torch.cat([mean, new_weight.clamp(max=self.max_weight)], 1)
        return int(changed.sum())


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

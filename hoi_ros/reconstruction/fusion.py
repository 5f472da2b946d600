"""One object's fused volume and what is known to be empty around it."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from hoi_ros.datatypes import CameraIntrinsics, ObjectObservation, RgbdFrame
from hoi_ros.geometry import invert_transform, project, transform_points
from hoi_ros.reconstruction.config import ReconstructionConfig
from hoi_ros.reconstruction.evidence import EvidenceModel, PixelEvidence, gather_evidence
from hoi_ros.reconstruction.free_space import FreeSpace
from hoi_ros.reconstruction.volume import DenseField, SparseVolume

_FRAMES_PER_LOOK = 3


class ObjectFusion:
    """Signed distances and free space, fused frame by frame."""

    def __init__(self, config: ReconstructionConfig, device: torch.device, frames_per_look: int = _FRAMES_PER_LOOK):
        """Start empty; every `frames_per_look`-th frame is asked for what it sees through."""
        c = self.config = config
        self.device, self._frames_per_look = device, frames_per_look
        self._evidence_model = EvidenceModel(
            c.edge_px, c.hand_margin_px, c.depth_jump_m, c.min_depth_m, c.max_depth_m, c.free_margin_m, c.noise_per_m2
        )  # fmt: skip
        self.volume: SparseVolume | None = None
        self.free_space: FreeSpace | None = None
        self.frames = 0
        self.changed = 0
        """Voxels changed since the last mesh."""

    def add(self, frame: RgbdFrame, observation: ObjectObservation) -> bool:
        """Fuse a frame with depth, mask and pose; False when too little of it is usable."""
        assert frame.depth_m is not None and observation.mask is not None and observation.T_camera_object is not None
        pose = np.asarray(observation.T_camera_object, np.float64)
        # Space that stays free need not be said so in every frame.
        carve = self.frames % self._frames_per_look == 0
        roi = self._region(observation.mask, frame.intrinsics, pose, carve)
        evidence = gather_evidence(
            frame.color, frame.depth_m, observation.mask, observation.hand_mask, frame.intrinsics, roi,
            self._evidence_model, self.device,
        )  # fmt: skip
        if len(evidence.surface_points_camera) * 9 < self.config.min_mask_px:
            return False
        self._fuse(evidence, pose, self.config.free_weight * self._frames_per_look if carve else 0.0)
        self._see_through(frame, pose)
        return True

    def field(self) -> DenseField | None:
        """Copy of what was fused, without surfaces where frames saw through; None while there is nothing."""
        field = self.volume.snapshot() if self.volume else None
        if field is not None and self.free_space is not None:
            seen_through = self.free_space.counts(field.origin, field.tsdf.shape, field.voxel_size_m)
            field = field.emptied(seen_through >= self.config.free_frames)
        return field

    def _region(
        self, mask: np.ndarray, intrinsics: CameraIntrinsics, pose: np.ndarray, whole: bool
    ) -> tuple[int, int, int, int]:
        """Rectangle of the mask, and of the `whole` volume so far, with a margin, inside the image."""
        x, y, wide, high = cv2.boundingRect(mask.view(np.uint8))
        corners = np.array([[x, y], [x + wide - 1, y + high - 1]], np.float64)
        if whole and self.volume is not None and self.volume.block_count:
            bounds = np.array(self.volume.bounds())
            box = np.stack(np.meshgrid(*bounds.T, indexing="ij"), -1).reshape(-1, 3)
            pixels = project(transform_points(pose, box), intrinsics)
            if np.isfinite(pixels).all():
                corners = np.concatenate([corners, pixels])
        height, width = mask.shape
        low = np.maximum(np.floor(corners.min(0)).astype(int) - 8, 0)
        high = np.ceil(corners.max(0)).astype(int) + 9
        return int(low[0]), int(low[1]), int(min(high[0], width)), int(min(high[1], height))

    def _fuse(self, evidence: PixelEvidence, pose: np.ndarray, free_weight: float) -> None:
        c = self.config
        points = transform_points(invert_transform(pose), evidence.surface_points_camera)
        if self.volume is None:
            center = np.median(points, 0)
            self.volume = SparseVolume(
                center, voxel_size_m=c.voxel_size_m, truncation_m=c.truncation_voxels * c.voxel_size_m,
                extent_m=c.extent_m, max_blocks=c.max_blocks, max_weight=c.max_weight, device=self.device,
            )  # fmt: skip
            if c.free_frames:
                self.free_space = FreeSpace(center, extent_m=c.extent_m, cell_m=3 * c.voxel_size_m)
        self.volume.allocate(points[:: max(1, len(points) // 4000)])
        self.changed += self.volume.integrate(evidence, pose, min_weight=c.min_weight, free_weight=free_weight)
        self.frames += 1

    def _see_through(self, frame: RgbdFrame, pose: np.ndarray) -> None:
        """Now and then, note what a frame sees through."""
        if self.free_space is None or self.frames % self._frames_per_look or frame.depth_m is None:
            return
        assert self.volume is not None
        low, high = self.volume.bounds()
        around = self.volume.block_size_m
        self.free_space.observe(
            frame.depth_m, frame.intrinsics, pose, (low - around, high + around), self.config.free_margin_m
        )

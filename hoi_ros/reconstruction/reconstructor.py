"""Posed frames in, a growing coloured mesh out."""

from __future__ import annotations

import threading

import numpy as np
import torch

from hoi_ros.datatypes import CameraIntrinsics, ObjectObservation, RgbdFrame, TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.geometry import invert_transform, project, transform_points
from hoi_ros.reconstruction.completion import watertight_mesh
from hoi_ros.reconstruction.config import ReconstructionConfig
from hoi_ros.reconstruction.evidence import EvidenceModel, PixelEvidence, gather_evidence
from hoi_ros.reconstruction.extraction import mesh_from_field
from hoi_ros.reconstruction.free_space import FreeSpace
from hoi_ros.reconstruction.volume import SparseVolume

_FRAMES_PER_LOOK = 3


class ObjectReconstructor:
    """Fuses the hand-free pixels of a tracked object; one thread may extract while another integrates."""

    def __init__(self, config: ReconstructionConfig | None = None, device: str = "auto") -> None:
        """Start empty.

        Args:
            config: settings; None takes the defaults.
            device: 'auto', 'cpu' or 'cuda'.

        Raises:
            InputError: unknown device, or 'cuda' without one.
        """
        self.config = config or ReconstructionConfig()
        self.device = _torch_device(device)
        c = self.config
        self._evidence_model = EvidenceModel(
            c.edge_px, c.hand_margin_px, c.depth_jump_m, c.min_depth_m, c.max_depth_m, c.free_margin_m, c.free_weight,
            c.noise_per_m2,
        )  # fmt: skip
        self._lock = threading.Lock()
        self._forget(None)

    @property
    def frames_fused(self) -> int:
        """Frames in the volume since the last reset."""
        return self._frames

    @property
    def memory_bytes(self) -> int:
        """Bytes held by the volume."""
        return self._volume.memory_bytes if self._volume else 0

    @property
    def full(self) -> bool:
        """True when the volume's limit is reached and further parts of the object are not fused."""
        return self._volume is not None and self._volume.full

    def reset(self) -> None:
        """Forget the object."""
        with self._lock:
            self._forget(None)

    def integrate(self, frame: RgbdFrame, observation: ObjectObservation) -> bool:
        """Fuse one frame; an observation of another object starts anew.

        Args:
            frame: with depth.
            observation: state 'tracking', pose and mask; hand_mask keeps the hand's neighbourhood out.

        Returns:
            False when the frame says nothing: no depth, not tracking, too few pixels, or badly explained.

        Raises:
            InputError: masks differ in size from the frame, or the pose is not a finite rigid motion.
        """
        if not self._usable(frame, observation):
            return False
        assert frame.depth_m is not None and observation.mask is not None and observation.T_camera_object is not None
        pose = np.asarray(observation.T_camera_object, np.float64)
        with self._lock:
            if observation.object_id != self._object_id:
                self._forget(observation.object_id)
            roi = self._region(observation.mask, frame.intrinsics, pose)
            evidence = gather_evidence(
                frame.color, frame.depth_m, observation.mask, observation.hand_mask, frame.intrinsics, roi,
                self._evidence_model, self.device,
            )  # fmt: skip
            if len(evidence.surface_points_camera) * 9 < self.config.min_mask_px:
                return False
            self._fuse(evidence, pose)
            self._see_through(frame, pose)
        return True

    def changed_enough(self) -> bool:
        """True when the surface changed by `min_change` since the last mesh, and enough frames came."""
        with self._lock:
            enough = self._frames - self._frames_at_mesh >= self.config.keyframes_between_meshes
            return enough and self._changed > max(self.config.min_change * self._surface_voxels, 20)

    def extract_mesh(self, watertight: bool | None = None) -> TriangleMesh | None:
        """Mesh what was fused, in the object frame, metres; None while there is no surface.

        May run in a thread of its own: only the copy of the volume holds up `integrate`.

        Args:
            watertight: close the surface where nothing was seen; None takes the setting.
        """
        c = self.config
        with self._lock:
            field = self._volume.snapshot() if self._volume else None
            if field is not None and self._free_space is not None:
                seen_through = self._free_space.counts(field.origin, field.tsdf.shape, field.voxel_size_m)
                field = field.emptied(seen_through >= c.free_frames)
            self._frames_at_mesh, self._changed = self._frames, 0
        if field is None:
            return None
        near = (np.abs(field.tsdf) < 0.5) & (field.weight >= c.min_weight)
        mesh = mesh_from_field(field, min_weight=c.min_weight, min_component_fraction=c.min_component_fraction)
        with self._lock:
            self._surface_voxels = int(near.sum())
        if mesh is not None and (c.watertight if watertight is None else watertight):
            mesh = watertight_mesh(field, mesh, min_weight=c.min_weight)
        return mesh

    def _forget(self, object_id: int | None) -> None:
        self._object_id = object_id
        self._volume: SparseVolume | None = None
        self._free_space: FreeSpace | None = None
        self._frames, self._frames_at_mesh = 0, 0
        self._changed, self._surface_voxels = 0, 0

    def _usable(self, frame: RgbdFrame, observation: ObjectObservation) -> bool:
        """Whether the frame speaks of the object; refuses what does not fit together."""
        for name, mask in (("object mask", observation.mask), ("hand mask", observation.hand_mask)):
            if mask is not None and (mask.shape != frame.color.shape[:2] or mask.dtype != bool):
                raise InputError(
                    f"{name} is {mask.dtype} {mask.shape}: give bool of the frame's size {frame.color.shape[:2]}"
                )
        pose = observation.T_camera_object
        if observation.state != "tracking" or frame.depth_m is None or observation.mask is None or pose is None:
            return False
        rigid = pose.shape == (4, 4) and np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-3)
        if not rigid or not np.isfinite(pose).all() or np.linalg.det(pose[:3, :3]) < 0:
            raise InputError("T_camera_object is no rigid motion: give a (4, 4) matrix with a proper rotation")
        judged = np.isfinite(observation.residual_m)
        if judged and observation.inlier_fraction < self.config.min_inlier_fraction:
            return False
        return int(np.count_nonzero(observation.mask)) >= self.config.min_mask_px

    def _region(self, mask: np.ndarray, intrinsics: CameraIntrinsics, pose: np.ndarray) -> tuple[int, int, int, int]:
        """Rectangle of the mask and of the volume so far, with a margin, inside the image."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        corners = np.array([[columns[0], rows[0]], [columns[-1], rows[-1]]], np.float64)
        if self._volume is not None and self._volume.block_count:
            bounds = np.array(self._volume.bounds())
            box = np.stack(np.meshgrid(*bounds.T, indexing="ij"), -1).reshape(-1, 3)
            pixels = project(transform_points(pose, box), intrinsics)
            if np.isfinite(pixels).all():
                corners = np.concatenate([corners, pixels])
        height, width = mask.shape
        low = np.maximum(np.floor(corners.min(0)).astype(int) - 8, 0)
        high = np.ceil(corners.max(0)).astype(int) + 9
        return int(low[0]), int(low[1]), int(min(high[0], width)), int(min(high[1], height))

    def _fuse(self, evidence: PixelEvidence, pose: np.ndarray) -> None:
        c = self.config
        points = transform_points(invert_transform(pose), evidence.surface_points_camera)
        if self._volume is None:
            self._volume = SparseVolume(
                np.median(points, 0), voxel_size_m=c.voxel_size_m, truncation_m=c.truncation_voxels * c.voxel_size_m,
                extent_m=c.extent_m, max_blocks=c.max_blocks, max_weight=c.max_weight, device=self.device,
            )  # fmt: skip
            if c.free_frames:
                center = np.median(points, 0)
                self._free_space = FreeSpace(center, extent_m=c.extent_m, cell_m=2 * c.voxel_size_m)
        self._volume.allocate(points[:: max(1, len(points) // 4000)])
        self._changed += self._volume.integrate(evidence, pose, min_weight=c.min_weight)
        self._frames += 1

    def _see_through(self, frame: RgbdFrame, pose: np.ndarray) -> None:
        """Now and then, note what a frame sees through."""
        if self._free_space is None or self._frames % _FRAMES_PER_LOOK or frame.depth_m is None:
            return
        assert self._volume is not None
        low, high = self._volume.bounds()
        around = self._volume.block_size_m
        self._free_space.observe(
            frame.depth_m, frame.intrinsics, pose, (low - around, high + around), self.config.free_margin_m
        )


def _torch_device(name: str) -> torch.device:
    """The device of a name; 'auto' takes the GPU when there is one."""
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device '{name}': choose one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' asked for, but torch finds no GPU: use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")

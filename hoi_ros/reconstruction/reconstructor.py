"""Posed frames in, a growing coloured mesh out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

import numpy as np
import torch

from hoi_ros.datatypes import ObjectObservation, PoseRevision, RgbdFrame, TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.reconstruction.completion import watertight_mesh
from hoi_ros.reconstruction.config import ReconstructionConfig
from hoi_ros.reconstruction.extraction import mesh_from_field
from hoi_ros.reconstruction.fusion import ObjectFusion
from hoi_ros.reconstruction.kept_frames import KeptFrame, KeptFrames
from hoi_ros.reconstruction.volume import SparseVolume

CAUGHT_UP_FRAMES = 2
"""Kept frames that one live frame adds to an object fused anew: each costs about as much as that frame itself."""


@dataclass
class _KnownObject:
    """One object's fusion, and the frames from which it can be made anew."""

    fusion: ObjectFusion
    kept: KeptFrames
    frames_at_mesh: int = 0
    surface_voxels: int = 0
    anew: Future[ObjectFusion] | None = None
    """Fusion with corrected poses, under way."""
    revised: int = 0
    """Number of the last revision taken over."""
    in_anew: frozenset[int] = frozenset()
    """Stamps of the kept frames in that."""
    due: int = 0
    """Fused frames at which it takes the old one's place, live at the earliest."""


class ObjectReconstructor:
    """Fuses the hand-free pixels of tracked objects; one thread may extract while another integrates.

    The last `max_objects` objects are remembered, so that one that returns grows on. When the poses of keyframes were
    corrected, the object is fused anew from kept frames beside the stream.
    """

    def __init__(self, config: ReconstructionConfig | None = None, device: str = "auto", *, live: bool = False) -> None:
        """Start empty.

        Args:
            config: settings; None takes the defaults.
            device: 'auto', 'cpu' or 'cuda'.
            live: never wait for a fusion with corrected poses, take it over when it is done; otherwise it is taken over
                `refuse_frames` frames after it began, so that the result is the same on every machine.

        Raises:
            InputError: unknown device, or 'cuda' without one.
        """
        self.config = config or ReconstructionConfig()
        self.device = _torch_device(device)
        self._live = live
        self._lock = threading.Lock()
        self._beside = ThreadPoolExecutor(1, "fuse-anew")
        self._objects: dict[int, _KnownObject] = {}
        """By object id, the present one last."""
        self.times_fused_anew = 0

    @property
    def _now(self) -> _KnownObject | None:
        return next(reversed(self._objects.values()), None)

    @property
    def _volume(self) -> SparseVolume | None:
        return self._now.fusion.volume if self._now else None

    @property
    def frames_fused(self) -> int:
        """Frames in the present object's volume."""
        return self._now.fusion.frames if self._now else 0

    @property
    def memory_bytes(self) -> int:
        """Bytes held by volumes and kept frames."""
        volumes = (o.fusion.volume.memory_bytes for o in self._objects.values() if o.fusion.volume)
        return sum(volumes) + sum(o.kept.memory_bytes for o in self._objects.values())

    @property
    def full(self) -> bool:
        """True when the volume's limit is reached and further parts of the object are not fused."""
        return self._volume is not None and self._volume.full

    def reset(self) -> None:
        """Forget every object."""
        with self._lock:
            self._objects = {}

    def close(self) -> None:
        """End the thread that fuses anew."""
        self._beside.shutdown()

    def integrate(self, frame: RgbdFrame, observation: ObjectObservation) -> bool:
        """Fuse one frame; an observation of an object not met before starts anew.

        Args:
            frame: with depth, if the observation brings none.
            observation: state 'tracking', pose and mask; hand_mask keeps the hand's neighbourhood out. Its revision,
                if any, is taken over even when the frame itself says nothing.

        Returns:
            False when the frame says nothing: no depth, not tracking, too few pixels, or badly explained.

        Raises:
            InputError: masks differ in size from the frame, or the pose is not a finite rigid motion.
        """
        if frame.depth_m is None and observation.own_depth_m is not None:
            frame = replace(frame, depth_m=observation.own_depth_m)
        known = self._objects.get(observation.object_id)
        if known is not None and observation.revision is not None:
            self._revise(known, observation.revision)
        if not self._usable(frame, observation):
            return False
        with self._lock:
            known = self._known(observation.object_id)
            if not known.fusion.add(frame, observation):
                return False
            known.kept.add(frame, observation)
            if known.anew is not None and known.fusion.frames >= known.due:
                if not self._live:
                    self._exchange(known)
                elif known.anew.done():
                    self._exchange(known, CAUGHT_UP_FRAMES)
        return True

    def changed_enough(self) -> bool:
        """True when the surface changed by `min_change` since the last mesh, and enough frames came."""
        with self._lock:
            known = self._now
            if known is None:
                return False
            enough = known.fusion.frames - known.frames_at_mesh >= self.config.keyframes_between_meshes
            return enough and known.fusion.changed > max(self.config.min_change * known.surface_voxels, 20)

    def extract_mesh(self, watertight: bool | None = None) -> TriangleMesh | None:
        """Mesh what was fused of the present object, in its frame, metres; None while there is no surface.

        May run in a thread of its own: only the copy of the volume holds up `integrate`.

        Args:
            watertight: close the surface where nothing was seen; None takes the setting.
        """
        c = self.config
        with self._lock:
            known = self._now
            field = known.fusion.field() if known else None
            if known is not None:
                known.frames_at_mesh, known.fusion.changed = known.fusion.frames, 0
        if known is None or field is None:
            return None
        near = (np.abs(field.tsdf) < 0.5) & (field.weight >= c.min_weight)
        mesh = mesh_from_field(field, min_weight=c.min_weight, min_component_fraction=c.min_component_fraction)
        with self._lock:
            known.surface_voxels = int(near.sum())
        if mesh is not None and (c.watertight if watertight is None else watertight):
            mesh = watertight_mesh(field, mesh, min_weight=c.min_weight)
        return mesh

    def settle(self) -> None:
        """Wait for a fusion with corrected poses that is under way, and take it over: before a last mesh.

        May run in a thread of its own: what is waited for does not hold up `integrate`.
        """
        with self._lock:
            under_way = [known.anew for known in self._objects.values() if known.anew is not None]
        wait(under_way)
        with self._lock:
            for known in self._objects.values():
                if known.anew is not None and known.anew.done():
                    self._exchange(known)

    def _known(self, object_id: int) -> _KnownObject:
        """The object, made the present one; the one not seen for longest is forgotten when there are too many."""
        known = self._objects.pop(object_id, None)
        if known is None:
            c = self.config
            known = _KnownObject(ObjectFusion(c, self.device), KeptFrames(c.kept_frames, c.keep_period))
        self._objects[object_id] = known
        while len(self._objects) > self.config.max_objects:
            del self._objects[next(iter(self._objects))]
        return known

    def _revise(self, known: _KnownObject, revision: PoseRevision) -> None:
        """Begin to fuse anew when a kept frame moved by a voxel; a fusion under way with older poses is dropped."""
        if revision.number <= known.revised:
            return
        with self._lock:
            known.revised = revision.number
            frames, farthest = known.kept.revised(revision)
            under_way = known.anew is not None
            known.kept.take(frames, revision)
            if frames and (farthest > self.config.voxel_size_m or under_way):
                if known.anew is not None:
                    known.anew.cancel()  # one that has not begun would only hold up the next
                known.anew = self._beside.submit(_fused, tuple(frames), self.config, self.device)
                known.in_anew = frozenset(kept.stamp_ns for kept in frames)
                known.due = known.fusion.frames + self.config.refuse_frames

    def _exchange(self, known: _KnownObject, most: int | None = None) -> None:
        """Let the object fused anew take the old one's place, with the frames kept since it was begun.

        At most `most` of these are added now; while others are left, the old one stays.
        """
        assert known.anew is not None
        fusion = known.anew.result()
        since = [kept for kept in known.kept.frames if kept.stamp_ns not in known.in_anew]
        added = since[:most]
        for kept in added:
            fusion.add(*kept.frame())
        known.in_anew |= {kept.stamp_ns for kept in added}
        if len(added) < len(since):
            return
        known.anew = None
        fusion.frames = max(known.fusion.frames, fusion.frames)
        known.fusion = fusion
        self.times_fused_anew += 1

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


def _fused(frames: Sequence[KeptFrame], config: ReconstructionConfig, device: torch.device) -> ObjectFusion:
    """An object from its kept frames."""
    fusion = ObjectFusion(config, device, frames_per_look=1)
    for kept in frames:
        fusion.add(*kept.frame())
    return fusion


def _torch_device(name: str) -> torch.device:
    """The device of a name; 'auto' takes the GPU when there is one."""
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device '{name}': choose one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' asked for, but torch finds no GPU: use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")

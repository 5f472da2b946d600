"""Hand estimation, object tracking and reconstruction joined without ROS."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from hoi_ros.datatypes import HandEstimate, ObjectObservation, RgbdFrame, TriangleMesh
from hoi_ros.device import resolve_device
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.reconstruction.reconstructor import ObjectReconstructor, ReconstructionConfig
from hoi_ros.tracking import HeldObjectTracker, TrackerConfig


@dataclass(frozen=True)
class PipelineConfig:
    """Settings of all parts, and which of them run."""

    hand: HandConfig = field(default_factory=HandConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    reconstruction: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    device: str = "auto"
    with_object: bool = True


@dataclass(frozen=True)
class PipelineResult:
    """What one frame gave."""

    hands: list[HandEstimate]
    observation: ObjectObservation | None
    """None when the object part is switched off."""
    mesh: TriangleMesh | None
    """The object's newest mesh when one was finished since the last frame, else None: a few frames after its data."""
    stage_ms: dict[str, float]
    """Milliseconds spent in 'hand', 'tracking' and 'fusion'."""


class HoiPipeline:
    """Frames in, hands, object pose and object mesh out; state is kept from frame to frame."""

    def __init__(self, config: PipelineConfig | None = None) -> None:
        self.config = config or PipelineConfig()
        self.device = resolve_device(self.config.device)
        self.estimator = create_hand_estimator(self.config.hand, self.device)
        self._faces = {side: self.estimator.faces(side) for side in ("left", "right")}
        self.tracker: HeldObjectTracker | None = None
        self.reconstructor: ObjectReconstructor | None = None
        self._mesher = ThreadPoolExecutor(1, "mesher")
        self._meshing: tuple[int, Future[TriangleMesh | None]] | None = None
        """Object whose mesh is being made, and the mesh to come."""
        if self.config.with_object:
            self.tracker = HeldObjectTracker(self.config.tracker, self.device)
            self.reconstructor = ObjectReconstructor(self.config.reconstruction, self.device)

    def process(
        self, frame: RgbdFrame, *, independent: bool = False, init_mask: np.ndarray | None = None
    ) -> PipelineResult:
        """Run every part on one frame.

        Args:
            frame: colour, with depth where there is any.
            independent: the frame has nothing to do with the one before (a folder of photos).
            init_mask: (H, W) bool, the object's pixels given by hand; the track starts anew from them.
        """
        stage_ms: dict[str, float] = {}
        start = time.perf_counter()
        hands = self.estimator.estimate(frame, independent=independent)
        start = _lap(stage_ms, "hand", start)
        if self.tracker is None or self.reconstructor is None or independent:
            return PipelineResult(hands, None, None, stage_ms)
        observation = self.tracker.track(frame, hands, hand_faces=self._faces, init_mask=init_mask)
        start = _lap(stage_ms, "tracking", start)
        self.reconstructor.integrate(frame, observation)
        mesh = self._mesh_beside(self.reconstructor, observation.object_id)
        _lap(stage_ms, "fusion", start)
        return PipelineResult(hands, observation, mesh, stage_ms)

    def _mesh_beside(self, reconstructor: ObjectReconstructor, object_id: int) -> TriangleMesh | None:
        """Take a finished mesh and begin the next when the surface changed enough: frames never wait for meshing."""
        mesh = None
        if self._meshing is not None and self._meshing[1].done():
            (meshed_id, done), self._meshing = self._meshing, None
            mesh = done.result()
            if meshed_id != object_id:
                mesh = None
        if self._meshing is None and reconstructor.changed_enough():
            self._meshing = object_id, self._mesher.submit(reconstructor.extract_mesh)
        return mesh

    def final_mesh(self) -> TriangleMesh | None:
        """The object's mesh from everything seen; None when nothing was fused."""
        if self.reconstructor is None:
            return None
        self.reconstructor.settle()
        return self.reconstructor.extract_mesh()

    def reset(self) -> None:
        """Forget all tracks and the object, and a mesh that is being made of it."""
        self._meshing = None
        for part in (self.estimator, self.tracker, self.reconstructor):
            if part is not None:
                part.reset()

    def close(self) -> None:
        """Give back what the networks hold; a mesh that is being made is waited for."""
        self._mesher.shutdown()
        self.estimator.close()
        if self.tracker is not None and self.reconstructor is not None:
            self.tracker.close()
            self.reconstructor.close()


def _lap(stage_ms: dict[str, float], stage: str, start: float) -> float:
    now = time.perf_counter()
    stage_ms[stage] = (now - start) * 1e3
    return now

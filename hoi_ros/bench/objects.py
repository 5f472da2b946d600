"""Object tracking and reconstruction: this project's pipeline beside registration libraries and VoxelBlockGrid."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from hoi_ros.bench.failures import ObjectDrift, save_gaps
from hoi_ros.bench.hands import estimator_configs
from hoi_ros.bench.inputs import any_frame
from hoi_ros.bench.options import BenchOptions
from hoi_ros.bench.peers.registration import RegistrationTracker, registration_peers
from hoi_ros.bench.peers.voxel_block_grid import VoxelBlockGridFusion
from hoi_ros.bench.results import BenchResult, Curve, Figure, Row, milliseconds
from hoi_ros.datatypes import CameraIntrinsics, ObjectObservation, TriangleMesh
from hoi_ros.evaluation import metrics
from hoi_ros.evaluation.datasets.records import LabelledFrame, LabelledSequence
from hoi_ros.evaluation.joint_shape import HeldHands, JointErrors
from hoi_ros.evaluation.protocols import bundlesdf_errors, hold_errors, seen_errors, seen_surface, truth_samples
from hoi_ros.evaluation.rendering import MeshRenderer
from hoi_ros.evaluation.report import pose_report
from hoi_ros.evaluation.summary import WORST_ROTATION_DEG, WORST_TRANSLATION_M, summarize
from hoi_ros.evaluation.surfaces import SurfaceErrors, sample_surface
from hoi_ros.geometry import invert_transform
from hoi_ros.pipeline import HoiPipeline, PipelineConfig
from hoi_ros.reconstruction.mesh_io import save_mesh
from hoi_ros.reconstruction.reconstructor import ObjectReconstructor, ReconstructionConfig

OURS, FUSION, PIPELINE = "hoi_ros", "hoi_ros, true poses", "hoi_ros, own poses"
LOST = np.full((4, 4), np.nan)


@dataclass
class _Track:
    """What one tracker says of a film."""

    poses: list[np.ndarray] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)

    def add(self, pose: np.ndarray | None, ms: float) -> None:
        self.poses.append(LOST if pose is None else pose)
        self.ms.append(ms)


@dataclass
class _Fusion:
    """What one fusion says of a film."""

    integrate: Callable[[LabelledFrame, np.ndarray], Any]
    extract: Callable[[], TriangleMesh | None]
    ms: list[float] = field(default_factory=list)
    mesh_ms: float = float("nan")
    mesh: TriangleMesh | None = None

    def finish(self) -> None:
        """Extract twice: the first time pays for memory."""
        self.extract()
        self.mesh, self.mesh_ms = timed(self.extract)


def bench_objects(
    options: BenchOptions,
    sequences: Sequence[LabelledSequence],
    targets: tuple[str, ...],
    after_each: Callable[[BenchResult], None] = lambda result: None,
) -> BenchResult:
    """Run tracking, reconstruction or both on every sequence, in one pass over its frames.

    `after_each` is shown the results so far after every sequence.
    """
    result = BenchResult()
    for number, sequence in enumerate(sequences, 1):
        run = _ObjectRun(options, sequence, targets, result, f"{number}/{len(sequences)} {sequence.name}")
        run.process()
        run.judge()
        after_each(result)
    return result


class _ObjectRun:
    def __init__(
        self, options: BenchOptions, sequence: LabelledSequence, targets: tuple[str, ...], result: BenchResult,
        label: str,
    ) -> None:  # fmt: skip
        self.options, self.sequence, self.targets, self.result = options, sequence, targets, result
        self.label = label
        mesh = sequence.object_mesh()
        assert mesh is not None
        self.mesh = mesh
        self.count = min(len(sequence), options.frames) if options.frames else len(sequence)
        self.first_mask = sequence.first_mask()
        self.held = self.first_mask is not None or any_frame(sequence, lambda item: bool(item.hands), self.count)
        if not self.held:
            result.skipped.append(
                f"{sequence.name}: {OURS} itself; in none of {self.count} frames a hand is labelled, and no mask of "
                "the first frame is given, so nothing shows which object is meant"
            )
        hand = next(iter(estimator_configs(options).values()))
        self.pipeline = HoiPipeline(PipelineConfig(hand, device=options.device)) if self.held else None
        self.tracks = {OURS: _Track()} if self.held else {}
        self.trackers: list[RegistrationTracker] = []
        if options.peers and "tracking" in targets:
            self.trackers, missing = registration_peers()
            self.trackers = [t for t in self.trackers if t.name in (options.tracking_peers or (t.name,))]
            result.skipped += [text for text in missing if text not in result.skipped]
        self.peer_tracks = {tracker.name: _Track() for tracker in self.trackers}
        self.fusions = self._fusions() if "reconstruction" in targets else {}
        true_faces = sequence.hand_faces() if "reconstruction" in targets else None
        self.holders: HeldHands | None = None
        if self.pipeline is not None and true_faces is not None:
            estimator = self.pipeline.estimator
            self.holders = HeldHands({side: estimator.faces(side) for side in ("left", "right")}, true_faces)
        self.pipeline_fusion_ms: list[float] = []
        self.drift = ObjectDrift(mesh, sequence[0].frame.intrinsics)
        self.truth: list[np.ndarray] = []
        self.first: LabelledFrame | None = None
        self.free_masks: list[np.ndarray | None] = []
        self.hidden: list[float] = []

    def _fusions(self) -> dict[str, _Fusion]:
        config = ReconstructionConfig()
        ours = ObjectReconstructor(config, "cpu")
        fusions = {
            FUSION: _Fusion(lambda item, mask: ours.integrate(item.frame, _observed(item, mask)), ours.extract_mesh)
        }
        if self.options.peers:
            grid = VoxelBlockGridFusion(config.voxel_size_m, config.truncation_voxels)
            fusions[grid.name] = _Fusion(
                lambda item, mask: grid.integrate(item.frame, mask, _pose_of(item)), grid.extract_mesh
            )
        return fusions

    def process(self) -> None:
        """All methods on all frames."""
        for item in self._frames():
            if item.T_camera_object is None:
                continue
            self.first = self.first or item
            mask = item.object_mask
            if self.pipeline is not None:
                mask = self._ours(item, mask)
            self.truth.append(item.T_camera_object)
            self.free_masks.append(mask)
            self._peers(item, mask)
        for fusion in self.fusions.values():
            fusion.finish()

    def _frames(self) -> Iterator[LabelledFrame]:
        bar = tqdm(self.sequence, total=self.count, desc=self.label, disable=self.options.quiet)
        for number, item in enumerate(bar):
            if number >= self.count:
                break
            yield item

    def _ours(self, item: LabelledFrame, mask: np.ndarray | None) -> np.ndarray | None:
        """Run the whole pipeline; gives the mask for the peers: the true one, else ours."""
        assert self.pipeline is not None
        init = self.first_mask if not self.truth else None
        result = self.pipeline.process(item.frame, init_mask=init)
        seen = result.observation
        self.tracks[OURS].add(seen.T_camera_object if seen else None, result.stage_ms.get("tracking", float("nan")))
        if seen is not None and self.holders is not None and item.T_camera_object is not None:
            self.holders.add(seen, result.hands, item.T_camera_object, item.hands)
        if self.options.out is not None and item.T_camera_object is not None:
            self.drift.add(item.frame, seen.T_camera_object if seen else None, item.T_camera_object)
        self.pipeline_fusion_ms.append(result.stage_ms.get("fusion", float("nan")))
        return mask if mask is not None else (seen.mask if seen else None)

    def _peers(self, item: LabelledFrame, mask: np.ndarray | None) -> None:
        if mask is None:
            for track in self.peer_tracks.values():
                track.add(None, float("nan"))
            return
        for tracker in self.trackers:
            self.peer_tracks[tracker.name].add(*timed(tracker.track, item.frame, mask, _pose_of(item)))
        for fusion in self.fusions.values():
            fusion.ms.append(timed(fusion.integrate, item, mask)[1])

    def judge(self) -> None:
        """Rows, curves and meshes; of a film without any true pose the reason why there are none."""
        if self.truth:
            self._judge(np.array(self.truth))
        else:
            self.result.skipped.append(f"{self.sequence.name}: none of {self.count} frames has a pose of the object")
        if self.pipeline is not None:
            self.pipeline.close()

    def _judge(self, truth: np.ndarray) -> None:
        if "tracking" in self.targets:
            points = sample_surface(self.mesh.vertices, self.mesh.faces, 2000)
            for method, track in (self.tracks | self.peer_tracks).items():
                self._judge_track(method, track, truth, points)
        if "reconstruction" in self.targets:
            self._judge_meshes(truth)
        if self.options.out is not None:
            name = self.sequence.name.replace("/", "_").replace(":", "_")
            self.drift.worst.save(self.options.out / f"failure_tracking_{name}.jpg", "object, worst ADD mm where found")

    def _judge_track(self, method: str, track: _Track, truth: np.ndarray, points: np.ndarray) -> None:
        poses = np.array(track.poses)
        figures: dict[str, Figure] = dict(pose_report(poses, truth, points))
        figures["rpe_deg"] = figures["rpe_mm"] = None
        if len(truth) > 1:
            turn, shift = metrics.relative_errors(poses, truth, steps=(1,))
            figures["rpe_deg"] = summarize(turn, WORST_ROTATION_DEG).median
            figures["rpe_mm"] = summarize(shift, WORST_TRANSLATION_M).median * 1e3
        self.result.rows.append(Row("tracking", self.sequence.name, method, figures | milliseconds(track.ms)))
        self.result.times.setdefault(f"tracking: {method}", []).extend(track.ms)
        aligned = metrics.align_first_pose(poses, truth)
        values = {
            "frame": np.arange(len(truth), dtype=float),
            "rotation deg": metrics.rotation_errors_deg(aligned, truth),
            "translation mm": metrics.translation_errors(aligned, truth) * 1e3,
            "ADD mm": metrics.add_errors(aligned, truth, points) * 1e3,
            "distance m": truth[:, 2, 3],
            "speed deg/s": np.r_[0, metrics.rotation_errors_deg(truth[1:], truth[:-1])] * self.sequence.fps,
            "hidden share": self._hidden(truth),
        }
        self.result.curves.append(Curve("tracking", self.sequence.name, method, values))

    def _hidden(self, truth: np.ndarray) -> np.ndarray:
        """Share of the object's outline that something hides; NaN where no mask is known."""
        camera = self.sequence[0].frame.intrinsics
        small = CameraIntrinsics(
            camera.width // 4, camera.height // 4, camera.fx / 4, camera.fy / 4, camera.cx / 4, camera.cy / 4
        )
        renderer, shares = MeshRenderer(self.mesh), np.full(len(truth), np.nan)
        for i, mask in enumerate(self.free_masks):
            if mask is not None:
                whole = 16 * float((renderer.render(small, truth[i]).depth_m > 0).sum())
                shares[i] = np.clip(1 - mask.sum() / max(whole, 1.0), 0, 1)
        return shares

    def _judge_meshes(self, truth: np.ndarray) -> None:
        masks = [m for m in self.free_masks if m is not None]
        camera = self.sequence[0].frame.intrinsics
        seen = seen_surface(self.mesh, truth, camera, masks if len(masks) == len(truth) else None)
        for method, fusion in self.fusions.items():
            self._judge_mesh(method, fusion.mesh, np.eye(4), seen, fusion.ms, fusion.mesh_ms)
            self.result.times.setdefault(f"fusion: {method}", []).extend(fusion.ms)
        if self.pipeline is None:
            return
        mesh, mesh_ms = timed(self.pipeline.final_mesh)
        poses = np.array(self.tracks[OURS].poses)
        found = np.flatnonzero(np.isfinite(poses).all((1, 2)))
        first = invert_transform(truth[found[0]]) @ poses[found[0]] if len(found) else np.eye(4)
        mesh = mesh if len(found) else None
        joint = None if self.holders is None else self.holders.errors(mesh, self.mesh, first)
        self._judge_mesh(PIPELINE, mesh, first, seen, self.pipeline_fusion_ms, mesh_ms, joint)
        if self.options.out is not None and mesh is not None and seen.any() and self.first is not None:
            name = self.sequence.name.replace("/", "_").replace(":", "_")
            picture = self.options.out / f"failure_mesh_{name}.jpg"
            save_gaps(picture, self.first, truth_samples(self.mesh)[seen], mesh, first)

    def _judge_mesh(
        self, method: str, mesh: TriangleMesh | None, T_true_mesh: np.ndarray, seen: np.ndarray, ms: list[float],
        mesh_ms: float, joint: JointErrors | None = None,
    ) -> None:  # fmt: skip
        raw = seen_errors(mesh, self.mesh, T_true_mesh, seen)
        figures = _mesh_figures(raw, hold_errors(mesh, self.mesh), bundlesdf_errors(mesh, self.mesh, T_true_mesh, seen))
        figures["surface_seen_percent"] = 100 * float(seen.mean())
        figures |= milliseconds(ms[min(5, len(ms) // 2) :]) | {"mesh_ms": mesh_ms}
        figures |= {} if joint is None else _joint_figures(joint)
        self.result.rows.append(Row("reconstruction", self.sequence.name, method, figures))
        if self.options.out is not None and mesh is not None:
            name = (
                f"{self.sequence.name}_{method}".replace("/", "_").replace(":", "_").replace(" ", "_").replace(",", "")
            )
            save_mesh(mesh, self.options.out / f"{name}.ply")


def _mesh_figures(raw: SurfaceErrors, hold: SurfaceErrors, visible: SurfaceErrors) -> dict[str, Figure]:
    """Names of the table: HOLD's protocol, BundleSDF's, and seen surface as it lies without any fitting."""
    return {
        "hold_cd_cm2": hold.chamfer_cm2,
        "hold_f5_percent": hold.f5_percent,
        "hold_f10_percent": hold.f10_percent,
        "bundlesdf_cd_cm": visible.chamfer_mm / 10,
        "seen_accuracy_mm": raw.accuracy_mm,
        "seen_completeness_mm": raw.completeness_mm,
        "seen_f5_percent": raw.f5_percent,
        "seen_f10_percent": raw.f10_percent,
    }


def _joint_figures(joint: JointErrors) -> dict[str, Figure]:
    """Hand and object as one rigid thing, SHOWMe's protocol."""
    return {
        "joint_accuracy_mm": joint.union.accuracy_mm,
        "joint_completeness_mm": joint.union.completeness_mm,
        "joint_f5_percent": joint.union.f5_percent,
        "joint_hand_f5_percent": joint.hand.f5_percent,
        "joint_object_f5_percent": joint.object.f5_percent,
    }


def _observed(item: LabelledFrame, mask: np.ndarray) -> ObjectObservation:
    return ObjectObservation(
        "tracking", T_camera_object=_pose_of(item), mask=mask, hand_mask=item.hand_mask, inlier_fraction=1.0
    )


def _pose_of(item: LabelledFrame) -> np.ndarray:
    assert item.T_camera_object is not None
    return item.T_camera_object


def timed(act: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What `act` gives for the arguments, and its milliseconds."""
    start = time.perf_counter()
    result = act(*arguments)
    return result, (time.perf_counter() - start) * 1e3

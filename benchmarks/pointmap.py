"""Tracking and reconstruction from colour alone: depth is withheld from the simulator's scenes.

    python benchmarks/pointmap.py [--scenes rotate:box replay:FILE.npz#12 ...] [--frames 120] [--masks] [--meshes DIR]
        [--network FILE|none] [--pairs 60] [--rgbd DIR] [--focal]

Hands are HandOS' without depth. The object frame is tied to the true one in the first tracked frame, then nothing is
fitted; of captured grasps the frames count in which the hand holds the thing, forth and back. `hand alone`: the object
takes part in the wrist's motion from the first tracked frame on, nothing else is looked at. `ADD-S, first distance
given`: all distances multiplied by what makes that of the first tracked frame true, since a hand of unknown size
leaves the scale open. `beyond 3 sigma`: tracked frames whose turn, and whose place of the object's middle, is further
off than three stated sigmas; beside it the stated sigmas' medians, since a large one is never exceeded. Frames in which
nothing is tracked though something is held count as the worst value, a film that never starts as 0.
Relative rotation as SHOWMe scores it: between frames 1, 10 and 30 apart. `mesh`: the fused surface as it lies after
that tie; `shape`: after HOLD's alignment with scale, so that a wrong tie does not hide it; `hand and object`: their
union as SHOWMe scores it, the holder's hand carried into the object's frame. --network is that of the tracker, the one
that ships by default; with --pairs also its motion between two views of things not trained on, with --rgbd also its
relief on real colour against real depth. --focal asks the scenes instead what tells the camera's focal length
(`pointmap_focal.py`): each is guessed a quarter wrong, and `follows the truth` is 1 where an answer changes as it does.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from pointmap_focal import measure as measure_focal
from scipy.spatial import cKDTree

from hoi_ros.bench.inputs import labelled
from hoi_ros.datatypes import LABEL_OBJECT, ObjectObservation, RgbdFrame, TriangleMesh
from hoi_ros.evaluation.joint_shape import ABSENT_JOINT, HeldHands
from hoi_ros.evaluation.metrics import area_under_curve, compare_surfaces, hold_errors, sample_surface
from hoi_ros.geometry import invert_transform, rotation_angle, transform_points
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.reconstruction.reconstructor import ObjectReconstructor
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.sources import open_source
from hoi_ros.tracking.pointmap_checkpoint import load_pointmap_network
from hoi_ros.tracking.pointmap_config import ColorTrackerConfig
from hoi_ros.tracking.pointmap_crop import look_at_box
from hoi_ros.tracking.pointmap_guide import SHIPPED
from hoi_ros.tracking.pointmap_hull import ColorDepth
from hoi_ros.tracking.pointmap_motion import MotionConfig, fit_motion
from hoi_ros.tracking.pointmap_network import PointmapNetwork
from hoi_ros.tracking.pointmap_tracker import ColorTracker
from hoi_ros.training.pointmap_pairs import PairConfig, PairStream

GAPS = (1, 10, 30)
BEYOND = 14.16
"""Chi squared of three dimensions that is exceeded as rarely as three sigmas are in one."""
LEAD = 30
"""Frames shown before a captured hand takes hold."""


@dataclass
class Score:
    """One method on one sequence."""

    poses: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """Frame to estimate and truth of T_camera_object."""
    add_m: list[float] = field(default_factory=list)
    adds_m: list[float] = field(default_factory=list)
    overlap: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    lost: int = 0
    restarts: int = 0
    tie: np.ndarray | None = None
    object_id: int = 0
    surfaces: list[str] = field(default_factory=list)
    scaled_adds_m: list[float] = field(default_factory=list)
    beyond: list[tuple[bool, bool]] = field(default_factory=list)
    """Whether turn and place are further off than three stated sigmas."""
    stated: list[tuple[float, float]] = field(default_factory=list)
    """Stated sigma of the turn in degrees, and of the place in millimetres."""
    carried: int = 0

    def missed(self) -> None:
        """A frame that counts, without an answer yet."""
        for errors in (self.add_m, self.adds_m, self.scaled_adds_m):
            errors.append(np.inf)
        self.lost += 1

    def take(self, index: int, pose: np.ndarray | None, truth: np.ndarray, points: np.ndarray, object_id: int = 0):
        """One frame's answer."""
        if pose is None:
            if self.tie is not None:
                self.missed()
            return
        if self.tie is None or object_id != self.object_id:
            self.restarts += self.tie is not None
            self.tie, self.object_id = invert_transform(pose) @ truth, object_id
        found = pose @ self.tie
        self.poses[index] = (found, truth)
        a, b = transform_points(found, points), transform_points(truth, points)
        self.add_m.append(float(np.linalg.norm(a - b, axis=1).mean()))
        self.adds_m.append(float(cKDTree(a).query(b)[0].mean()))

    def weigh(self, index: int, seen: ObjectObservation, middle_object: np.ndarray) -> None:
        """Hold a tracked frame's errors against what its covariance states; the place is that of the middle (3,)."""
        assert seen.covariance is not None and seen.T_camera_object is not None and self.tie is not None
        found, true = self.poses[index]
        turn_sigma = float(np.sqrt(seen.covariance[3:, 3:].max()))
        middle_true = transform_points(invert_transform(self.tie), middle_object[None])
        shift = (transform_points(found, middle_true) - transform_points(true, middle_true))[0]
        surprise = float(shift @ np.linalg.solve(seen.covariance[:3, :3], shift))
        self.beyond.append((rotation_angle(found[:3, :3] @ true[:3, :3].T) > 3 * turn_sigma, surprise > BEYOND))
        self.stated.append((float(np.degrees(turn_sigma)), 1e3 * float(np.sqrt(np.trace(seen.covariance[:3, :3])))))
        self.carried += seen.inlier_fraction == 0

    def row(self, name: str, method: str) -> str:
        """A Markdown row."""
        if not self.poses:
            return f"| {name} | {method} | never started |"
        turns = self.rotation_deg
        shifts = [1e3 * np.linalg.norm(a[:3, 3] - b[:3, 3]) for a, b in self.poses.values()]
        cells = [
            f"{len(self.poses)}", f"{self.lost} / {self.restarts} / {self.carried}",
            " / ".join(f"{np.median(self.relative(gap)):.1f}" if self.relative(gap) else "-" for gap in GAPS),
            f"{np.median(turns):.0f} / {turns[-1]:.0f}", f"{np.median(shifts):.0f} / {shifts[-1]:.0f}",
            f"{area_under_curve(np.array(self.add_m)):.1f}", f"{area_under_curve(np.array(self.adds_m)):.1f}",
            f"{area_under_curve(np.array(self.scaled_adds_m)):.1f}" if self.scaled_adds_m else "-",
            "{:.0f} / {:.0f}".format(*100 * np.mean(self.beyond, axis=0)) if self.beyond else "-",
            "{:.0f} / {:.0f}".format(*np.median(self.stated, axis=0)) if self.stated else "-",
            f"{np.median(self.overlap):.2f}" if self.overlap else "-",
            f"{np.median(self.ms):.0f} / {np.percentile(self.ms, 95):.0f}" if self.ms else "-",
        ]  # fmt: skip
        return f"| {name} | {method} | " + " | ".join(cells) + " |"

    @property
    def rotation_deg(self) -> list[float]:
        """Degrees that each tracked frame's turn is off."""
        return [float(np.degrees(rotation_angle(a[:3, :3] @ b[:3, :3].T))) for a, b in self.poses.values()]

    def relative(self, gap: int) -> list[float]:
        """Degrees that the motion over `gap` frames is off."""
        out = []
        for k, (a, b) in self.poses.items():
            if k + gap in self.poses:
                later = self.poses[k + gap]
                found, true = later[0] @ invert_transform(a), later[1] @ invert_transform(b)
                out.append(float(np.degrees(rotation_angle(found[:3, :3] @ true[:3, :3].T))))
        return out


def joint_row(held: HeldHands, found: TriangleMesh | None, true: TriangleMesh, tie: np.ndarray | None) -> str:
    """Union of hand and object against the true union, aligned from the tie of the first tracked frame on."""
    errors = ABSENT_JOINT if tie is None else held.errors(found, true, invert_transform(tie))
    if errors is ABSENT_JOINT:
        return "hand and object: none"
    whole, parts = errors.union, (errors.hand.f5_percent, errors.object.f5_percent)
    distances = f"accuracy {whole.accuracy_mm:.1f} mm, completeness {whole.completeness_mm:.1f} mm"
    return f"hand and object: {distances}, F5 {whole.f5_percent:.0f} % (hand {parts[0]:.0f}, object {parts[1]:.0f})"


def run(scene: str, frames: int, seed: int, meshes: Path | None, masks: bool, network: str) -> dict[str, Score]:
    """Both methods on one simulated thing."""
    replayed = scene.startswith("replay:")
    simulator = Simulator(scene, SimulatorConfig(seed=seed, object=str(meshes) if replayed and meshes else ""))
    estimator = create_hand_estimator(HandConfig(handos_masks=masks), "cpu")
    faces = {side: estimator.faces(side) for side in ("left", "right")}
    mesh = next(iter(simulator.object_meshes().values()))
    points = np.asarray(mesh.vertices, np.float64)[:: max(1, len(mesh.vertices) // 500)]
    tracker = ColorTracker(ColorTrackerConfig(network=network))
    scores, scaled = {"colour": Score(), "hand alone": Score()}, Score()
    shape, volume, grasp = ColorDepth(), ObjectReconstructor(device="cpu"), HeldHands(faces, faces["right"])
    held = round(simulator.scene.held_from_s * simulator.config.fps) if replayed else 0
    first, end = (max(0, held - LEAD), 2 * simulator.once_frames - held) if replayed else (0, frames)
    scale = np.nan
    for index in range(first, end):
        full = simulator.frame(index)
        assert full.truth is not None
        truth = next(iter(full.truth.T_camera_object.values()))
        frame = replace(full, depth_m=None)
        hands = estimator.estimate(frame)
        begin = time.perf_counter()
        seen = tracker.track(frame, hands, hand_faces=faces)
        scores["colour"].ms.append(1e3 * (time.perf_counter() - begin))
        depth = shape.depth(frame, seen, tracker.middle_object, tracker.pointmap() if seen.is_keyframe else None)
        if depth is not None:
            volume.integrate(replace(frame, depth_m=depth), seen)
        if index >= held:
            grasp.add(seen, hands, truth, labelled(full).hands)
        started = scores["colour"].tie is not None or seen.T_camera_object is not None
        if replayed and index >= held and not started:
            scores["colour"].missed()
        if seen.T_camera_object is not None and not np.isfinite(scale):
            middle = transform_points(seen.T_camera_object, tracker.middle_object[None])[0]
            scale = float(transform_points(truth, points.mean(0)[None])[0, 2] / middle[2])
        scores["colour"].take(index, seen.T_camera_object, truth, points, seen.object_id)
        scaled.take(index, _scaled(seen.T_camera_object, scale), truth, points, seen.object_id)
        if seen.T_camera_object is not None and seen.covariance is not None:
            scores["colour"].weigh(index, seen, tracker.middle_object)
        if seen.mask is not None:
            scores["colour"].overlap.append(_overlap(seen, full))
        if started:
            holder = next((hand for hand in hands if hand.track_id == seen.hand_track_id), hands[0] if hands else None)
            scores["hand alone"].take(index, holder.T_camera_wrist if holder else None, truth, points)
    scores["colour"].scaled_adds_m += scaled.adds_m
    found = volume.extract_mesh()
    tie = scores["colour"].tie
    scores["colour"].surfaces = [_surface_row(found, mesh, tie), joint_row(grasp, found, mesh, tie)]
    return scores


def _mean_row(method: str, scores: list[Score]) -> str:
    """Means over all films; one that never started counts 0, and with no turn."""
    turns = [score.rotation_deg for score in scores if score.poses]
    areas = [[area_under_curve(np.array(errors)) if score.poses else 0.0 for errors in (score.add_m, score.adds_m)]
             for score in scores]  # fmt: skip
    add, add_s = np.mean(areas, axis=0)
    turn = f"{np.mean([np.median(t) for t in turns]):.0f}" if turns else "-"
    return f"| mean of {len(scores)} | {method} | | | | {turn} | | {add:.1f} | {add_s:.1f} |"


def _scaled(pose: np.ndarray | None, scale: float) -> np.ndarray | None:
    """The pose with the camera's distances multiplied."""
    if pose is None:
        return None
    out = pose.copy()
    out[:3, 3] *= scale
    return out


def _surface_row(found: TriangleMesh | None, true: TriangleMesh, tie: np.ndarray | None) -> str:
    """The fused mesh against the whole true one, as it lies after the tie of the first tracked frame."""
    if found is None or tie is None or not len(found.faces):
        return "no mesh"
    placed = transform_points(invert_transform(tie), found.vertices.astype(np.float64))
    clouds = (sample_surface(placed, found.faces, 20000), sample_surface(true.vertices, true.faces, 20000))
    errors = compare_surfaces(*clouds)
    distances = f"accuracy {errors.accuracy_mm:.1f} mm, completeness {errors.completeness_mm:.1f} mm"
    shape = hold_errors(found, true)
    aligned = f"shape: F5 {shape.f5_percent:.0f} %, F10 {shape.f10_percent:.0f} %"
    return f"mesh: {distances}, F10 {errors.f10_percent:.0f} %; {aligned}"


def _overlap(seen: ObjectObservation, frame: RgbdFrame) -> float:
    assert frame.truth is not None and seen.mask is not None
    true = frame.truth.labels == LABEL_OBJECT
    return float((seen.mask & true).sum() / max((seen.mask | true).sum(), 1))


def network_motion(network: PointmapNetwork, count: int, seed: int, built_in: bool) -> str:
    """The network's motion between two views of things it has not seen, with the true masks."""
    config = PairConfig(seed=seed, built_in_share=1.0 if built_in else 0.0, max_turn_deg=45.0, roll_deg=5.0,
                        new_background_share=0.0, masked_share=1.0, harshness=0.2, handover_share=0.0,
                        regrasp_share=0.0, grip_slip_m=1.0)  # fmt: skip
    stream, size = PairStream(network.config.image_px, config), network.config.image_px
    rows = []
    for number in range(count):
        pair = stream.pair(number)
        pictures = torch.from_numpy(pair.pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            one = network(pictures[None, 0], pictures[None, 1])
            other = network(pictures[None, 1], pictures[None, 0])
        masks = [pair.classes[v] == 1 for v in (0, 1)]
        there, own = one.points[0, 1].numpy(), other.points[0, 0].numpy()
        weight = (one.confidence[0, 1] * other.confidence[0, 0]).numpy().astype(float)
        fit = fit_motion(
            own[masks[1]], there[masks[1]], weight[masks[1]], with_scale=True, config=MotionConfig(sigma=0.06)
        )
        truth = pair.T_first_second[:3, :3]
        turned = float(np.degrees(rotation_angle(truth)))
        found = fit.T_target_source[:3, :3]
        off = float(np.degrees(rotation_angle(found @ truth.T))) if np.isfinite(found).all() else 180.0
        errors = [
            np.linalg.norm(one.points[0, v].numpy() - pair.points[v], axis=-1)[pair.valid_mask[v]].mean()
            for v in (0, 1)
        ]
        wrong = (
            (one.mask_logits[0].argmax(1).numpy() == 1)
            if one.mask_logits is not None
            else np.zeros((2, size, size), bool)
        )
        true = pair.classes == 1
        rows.append(
            [turned, off, *(1e3 * pair.half_m * e for e in errors), (wrong & true).sum() / (wrong | true).sum()]
        )
    turned, off, first, second, overlap = np.median(rows, axis=0)
    kind = "built-in" if built_in else "random, unseen"
    return f"| {kind} | {count} | {turned:.0f} | {off:.1f} | {first:.1f} | {second:.1f} | {overlap:.2f} |"


def network_on_real(network: PointmapNetwork, folder: Path) -> str:
    """The network's relief of a real picture's middle against the sensor's depth, scale and offset free."""
    correlations = []
    with open_source(f"rgbd:{folder}") as source:
        for frame in source:
            assert frame.depth_m is not None
            height, width = frame.color.shape[:2]
            box = np.array([width * 0.35, height * 0.3, width * 0.65, height * 0.7])
            crop = look_at_box(box, frame.intrinsics, network.config.image_px)
            depth = crop.depth_along_crop(crop.cut(frame.depth_m, nearest=True))
            picture = torch.from_numpy(crop.cut(frame.color)).permute(2, 0, 1).float()[None] / 127.5 - 1
            with torch.no_grad():
                relief = network(picture, picture).points[0, 0, ..., 2].numpy()
            known = depth > 0
            correlations.append(np.corrcoef(relief[known], depth[known])[0, 1])
    return (
        f"relief against real depth: median correlation {np.median(correlations):.2f} over {len(correlations)} frames"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="the held object from colour alone")
    parser.add_argument("--scenes", nargs="*", default=[f"rotate:{name}" for name in ("box", "mug", "drill", "bottle")])
    parser.add_argument("--meshes", type=Path, help="folder with the meshes of what captured hands hold")
    parser.add_argument("--masks", action="store_true", help="use the hand network's masks (handos_masks)")
    parser.add_argument("--frames", type=int, default=120, help="frames of scenes that are no captured grasp")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--network", default="", help="pointmap network; '' is the one that ships, 'none' for none")
    parser.add_argument("--pairs", type=int, default=0, help="pairs that the network is weighed on by itself")
    parser.add_argument("--rgbd", type=Path, help="folder of real frames with depth, for the network")
    parser.add_argument("--focal", action="store_true", help="what tells the focal length, instead of tracking")
    options = parser.parse_args()
    if options.focal:
        print(measure_focal(options.scenes, options.frames, options.seed, options.meshes, options.masks))
        return
    if options.scenes:
        columns = ("scene", "method", "tracked", "missed / new ids / carried by the hand",
                   "relative rotation deg, 1 / 10 / 30 frames",
                   "rotation deg median / end", "translation mm median / end", "ADD AUC", "ADD-S AUC",
                   "ADD-S, first distance given", "turn / place beyond 3 sigma %", "stated sigma deg / mm", "mask IoU",
                   "ms p50 / p95")  # fmt: skip
        print(f"| {' | '.join(columns)} |\n|" + "---|" * len(columns))
    surfaces, all_scores = [], []
    for scene in options.scenes:
        name = scene if not scene.startswith("replay:") else "#" + scene.partition("#")[2]
        for method, score in run(
            scene, options.frames, options.seed, options.meshes, options.masks, options.network
        ).items():
            print(score.row(name, method), flush=True)
            all_scores.append((method, score))
            surfaces += [f"{name}: {line}" for line in score.surfaces]
    for method in dict.fromkeys(method for method, _ in all_scores):
        print(_mean_row(method, [score for other, score in all_scores if other == method]))
    print("\n".join(["", *surfaces]))
    if options.pairs or options.rgbd:
        network = load_pointmap_network(options.network or SHIPPED)
        print(
            "\n| things | pairs | turned deg | rotation off deg | first view mm | second view mm | object IoU |\n|"
            + "---|" * 7
        )
        for built_in in (False, True) if options.pairs else ():
            print(network_motion(network, options.pairs, 9000, built_in), flush=True)
        if options.rgbd:
            print(network_on_real(network, options.rgbd))


if __name__ == "__main__":
    main()

"""Whole pipeline against the simulator's truth: hands, object pose, object mesh, milliseconds.

./hoi python benchmarks/pipeline_simulator.py --objects mug box drill --frames 300
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hoi_ros.datatypes import HandEstimate, HandTruth, RgbdFrame, TriangleMesh
from hoi_ros.evaluation.metrics import SurfaceErrors, compare_surfaces, sample_surface
from hoi_ros.evaluation.report import hand_report, markdown_table, pose_report
from hoi_ros.geometry import invert_transform, transform_points
from hoi_ros.pipeline import HoiPipeline, PipelineConfig
from hoi_ros.reconstruction.mesh_io import save_mesh
from hoi_ros.simulation import Simulator, SimulatorConfig

VISIBLE = 0.2
"""Share of a hand's pixels that must be visible for it to count as one to be found."""


def match(hands: list[HandEstimate], truth: HandTruth) -> HandEstimate | None:
    """The estimate nearest to a true hand, if its centre lies within a hand's length of it in the picture plane."""
    center = truth.joints_camera.mean(0)
    distances = [np.linalg.norm((hand.joints_camera.mean(0) - center)[:2]) for hand in hands]
    return hands[int(np.argmin(distances))] if distances and min(distances) < 0.1 else None


def hand_rows(frame: RgbdFrame, hands: list[HandEstimate]) -> Iterator[tuple[np.ndarray, np.ndarray, str | None, str]]:
    """Estimated joints (NaN when missed), true joints, both sides, of every visible true hand."""
    assert frame.truth is not None
    for truth in frame.truth.hands:
        if truth.visible_fraction >= VISIBLE:
            found = match(hands, truth)
            joints = np.full((21, 3), np.nan) if found is None else found.joints_camera
            yield joints, truth.joints_camera, found and found.handedness, truth.handedness


def run_scene(scene: str, frames: int, seed: int, with_depth: bool, out: Path | None) -> dict[str, object]:
    """Process one scene; returns a row of the table."""
    simulator = Simulator(scene, SimulatorConfig(seed=seed))
    pipeline = HoiPipeline(PipelineConfig(device="cpu"))
    rows: list[tuple] = []
    poses, truths, stages = [], [], []
    for i in tqdm(range(frames), desc=scene, leave=False):
        frame = simulator.frame(i)
        if not with_depth:
            frame = RgbdFrame(frame.color, frame.intrinsics, frame.stamp_ns, frame.index, truth=frame.truth)
        result = pipeline.process(frame)
        rows += hand_rows(frame, result.hands)
        stages.append(result.stage_ms)
        if frame.truth is not None and frame.truth.T_camera_object:
            truths.append(next(iter(frame.truth.T_camera_object.values())))
            pose = result.observation.T_camera_object if result.observation else None
            poses.append(np.full((4, 4), np.nan) if pose is None else pose)
    row: dict[str, object] = {"scene": scene, "frames": frames}
    if rows:
        joints, truth, sides, truth_sides = zip(*rows)
        report = hand_report(np.stack(joints), np.stack(truth), sides=sides, truth_sides=truth_sides)
        names = ("hands", "missed", "mpjpe_mm", "root_relative_mm", "pa_mpjpe_mm", "handedness_percent")
        row |= {name: report.get(name) for name in names}
    if truths and with_depth:
        row |= object_row(simulator, pipeline, np.stack(poses), np.stack(truths), out)
    for stage in ("hand", "tracking", "fusion"):
        values = [s[stage] for s in stages if stage in s]
        row[f"{stage}_ms"] = f"{np.median(values):.1f} / {np.percentile(values, 95):.1f}" if values else None
    total = [sum(s.values()) for s in stages]
    row["frames_per_s"] = 1e3 / float(np.mean(total))
    return row


def object_row(
    simulator: Simulator, pipeline: HoiPipeline, poses: np.ndarray, truths: np.ndarray, out: Path | None
) -> dict[str, object]:
    """Pose figures; the fused mesh, as seen and closed, against the true one by the first tracked pose (no fitting)."""
    true_mesh = next(iter(simulator.object_meshes().values()))
    points = sample_surface(true_mesh.vertices, true_mesh.faces, 2000)
    report = pose_report(poses, truths, points)
    row: dict[str, object] = {"lost": report["missed"]}
    names = ("rotation_median_deg", "rotation_final_deg", "translation_median_mm", "translation_final_mm")
    row |= {name: report[name] for name in (*names, "add_auc", "add_s_auc")}
    mesh = pipeline.final_mesh()
    if mesh is None or report["missed"] == len(poses):
        return row | {"mesh_to_true_mm": None}
    first = int(np.flatnonzero(np.isfinite(poses).all((1, 2)))[0])
    T_true_fused = invert_transform(truths[first]) @ poses[first]
    surface = sample_surface(true_mesh.vertices, true_mesh.faces, 30000)

    def errors_of(fused: TriangleMesh) -> SurfaceErrors:
        return compare_surfaces(
            transform_points(T_true_fused, sample_surface(fused.vertices, fused.faces, 30000)), surface
        )

    errors = errors_of(mesh)
    assert pipeline.reconstructor is not None
    closed = pipeline.reconstructor.extract_mesh(watertight=True)
    assert closed is not None
    closed_errors = {f"closed_{name}": value for name, value in asdict(errors_of(closed)).items()}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        save_mesh(mesh, out / f"{next(iter(simulator.object_meshes()))}.ply")
    return row | asdict(errors) | closed_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", nargs="*", default=["mug", "box", "drill"])
    parser.add_argument("--scenes", nargs="*", default=[], help="further scenes: bare, handover, ...")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-depth", action="store_true", help="colour only: hands alone")
    parser.add_argument("--out", type=Path, help="folder for the fused meshes")
    options = parser.parse_args()
    for scene in [f"rotate:{name}" for name in options.objects] + options.scenes:
        row = run_scene(scene, options.frames, options.seed, not options.no_depth, options.out)
        print(markdown_table([{"figure": name, "value": value} for name, value in row.items()]))


if __name__ == "__main__":
    main()

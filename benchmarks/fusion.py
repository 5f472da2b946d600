"""Our fusion beside Open3D's VoxelBlockGrid: same frames, poses, masks and voxel size.

    python benchmarks/fusion.py [--meshes FILE ...] [--voxel-size-m 0.003] [--frames 60] [--json FILE]

Meshes are looked at from all sides at 0.5 m with depth noise of 1.5 mm at one metre, against a wall at 1.2 m. Both get
the same masked depth; ours also gets the background, which VoxelBlockGrid has no use for.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable

import numpy as np
import torch
import trimesh

from hoi_ros.datatypes import CameraIntrinsics, ObjectObservation, RgbdFrame, TriangleMesh
from hoi_ros.evaluation.metrics import compare_surfaces, sample_surface
from hoi_ros.evaluation.rendering import MeshRenderer
from hoi_ros.geometry import make_transform, so3_exp
from hoi_ros.reconstruction.reconstructor import ObjectReconstructor, ReconstructionConfig

CAMERA = CameraIntrinsics(640, 480, 610.0, 610.0, 319.5, 239.5)
SAMPLES = 200_000
WARM_UP = 5


def main() -> None:
    """Run both on every mesh and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meshes", nargs="*", default=[], help="mesh files in metres; none takes built-in shapes")
    parser.add_argument("--voxel-size-m", type=float, default=ReconstructionConfig.voxel_size_m)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--json", help="also write the rows to this file")
    options = parser.parse_args()
    torch.set_num_threads(2)
    shapes = {path.rsplit("/", 1)[-1]: load_mesh(path) for path in options.meshes} or built_in_shapes()
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {options.frames} frames 640x480")
    print("| mesh | fusion | ms/frame p50 | p95 | mesh ms | accuracy mm | completeness mm | CD cm2 | F5 % |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = []
    for name, mesh in shapes.items():
        frames = observe(mesh, options.frames)
        truth = sample_surface(mesh.vertices, mesh.faces, SAMPLES)
        for method, run in (("hoi_ros", fuse_ours), ("VoxelBlockGrid", fuse_open3d)):
            fused, frame_ms, mesh_ms = run(frames, options.voxel_size_m)
            s = compare_surfaces(sample_surface(fused.vertices, fused.faces, SAMPLES), truth)
            p50, p95 = np.percentile(frame_ms[WARM_UP:], (50, 95))
            row = [name, method, p50, p95, mesh_ms, s.accuracy_mm, s.completeness_mm, s.chamfer_cm2, s.f5_percent]
            print("| {} | {} | {:.1f} | {:.1f} | {:.0f} | {:.2f} | {:.2f} | {:.4f} | {:.1f} |".format(*row), flush=True)
            rows.append(row)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


def observe(mesh: TriangleMesh, count: int, seed: int = 0) -> list[tuple[RgbdFrame, ObjectObservation]]:
    """Noisy frames of a mesh that turns twice about its own axis while nodding 50 degrees each way."""
    renderer, random, frames = MeshRenderer(mesh), np.random.default_rng(seed), []
    for i in range(count):
        turn = 2 * np.pi * i / count
        rotation = so3_exp(np.array([0.9 * np.sin(turn), 0, 0])) @ so3_exp(np.array([0, 2 * turn, 0]))
        pose = make_transform(rotation, np.array([0.02 * np.sin(turn), 0.01 * np.cos(turn), 0.5]))
        picture = renderer.render(CAMERA, pose)
        mask = picture.depth_m > 0
        depth = np.where(mask, picture.depth_m, 1.2)
        depth = np.round(depth + random.normal(size=depth.shape) * 0.0015 * depth**2, 3).astype(np.float32)
        frame = RgbdFrame(picture.color, CAMERA, stamp_ns=i, index=i, depth_m=depth)
        frames.append((frame, ObjectObservation("tracking", T_camera_object=pose, mask=mask)))
    return frames


def fuse_ours(frames: list, voxel_size_m: float) -> tuple[TriangleMesh, list[float], float]:
    """Mesh, milliseconds of each frame, milliseconds of the mesh."""
    reconstructor = ObjectReconstructor(ReconstructionConfig(voxel_size_m=voxel_size_m))
    frame_ms = [timed(lambda f=f, o=o: reconstructor.integrate(f, o))[1] for f, o in frames]
    reconstructor.extract_mesh()
    mesh, mesh_ms = timed(reconstructor.extract_mesh)
    return mesh, frame_ms, mesh_ms


def fuse_open3d(frames: list, voxel_size_m: float) -> tuple[TriangleMesh, list[float], float]:
    """The same with the library's blocks of 8 voxels, its truncation set to ours, and its largest component kept."""
    import open3d

    core, device = open3d.core, open3d.core.Device("CPU:0")
    grid = open3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"), (core.float32, core.float32, core.float32), ((1,), (1,), (3,)), voxel_size_m, 8,
        4000, device,
    )  # fmt: skip
    intrinsic = core.Tensor(CAMERA.matrix)
    truncation = ReconstructionConfig.truncation_voxels

    def integrate(frame: RgbdFrame, observation: ObjectObservation) -> None:
        depth = open3d.t.geometry.Image(np.where(observation.mask, frame.depth_m, 0).astype(np.float32))
        color = open3d.t.geometry.Image(frame.color.astype(np.float32))
        pose = core.Tensor(observation.T_camera_object)
        blocks = grid.compute_unique_block_coordinates(depth, intrinsic, pose, 1.0, 3.0, truncation)
        grid.integrate(blocks, depth, color, intrinsic, intrinsic, pose, 1.0, 3.0, truncation)

    def extract() -> TriangleMesh:
        mesh = grid.extract_triangle_mesh(1.5).to_legacy()
        label, size, _ = mesh.cluster_connected_triangles()
        mesh.remove_triangles_by_mask(np.asarray(size)[np.asarray(label)] < 0.1 * max(size))
        return TriangleMesh(np.asarray(mesh.vertices, np.float32), np.asarray(mesh.triangles, np.int32))

    frame_ms = [timed(lambda f=f, o=o: integrate(f, o))[1] for f, o in frames]
    extract()
    mesh, mesh_ms = timed(extract)
    return mesh, frame_ms, mesh_ms


def timed(act: Callable) -> tuple:
    """What `act` gives, and its milliseconds."""
    start = time.perf_counter()
    result = act()
    return result, (time.perf_counter() - start) * 1e3


def load_mesh(path: str) -> TriangleMesh:
    """A mesh file, moved to its centre, with its texture as vertex colours."""
    body = trimesh.load(path, force="mesh")
    colors = np.asarray(body.visual.to_color().vertex_colors)[:, :3].astype(np.uint8)
    vertices = (body.vertices - body.bounds.mean(0)).astype(np.float32)
    return TriangleMesh(vertices, body.faces.astype(np.int32), colors if len(colors) == len(vertices) else None)


def built_in_shapes() -> dict[str, TriangleMesh]:
    """A ball, a box and a mug of hand size, coloured by place."""
    place, turn = (
        trimesh.transformations.translation_matrix,
        trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]),
    )
    outer = trimesh.creation.cylinder(0.04, 0.1, sections=64)
    inner = trimesh.creation.cylinder(0.036, 0.1, sections=64, transform=place([0, 0, 0.005]))
    handle = trimesh.creation.torus(0.025, 0.005, transform=place([0.055, 0, 0]) @ turn)
    mug = trimesh.boolean.difference([trimesh.boolean.union([outer, handle], engine="manifold"), inner])
    bodies = {
        "ball": trimesh.creation.icosphere(5, 0.05),
        "box": trimesh.creation.box((0.06, 0.16, 0.21)).subdivide_to_size(0.01),
        "mug": mug.subdivide_to_size(0.01),
    }
    return {name: _coloured(body) for name, body in bodies.items()}


def _coloured(body: trimesh.Trimesh) -> TriangleMesh:
    vertices = np.asarray(body.vertices, np.float32)
    colors = (128 + 100 * np.sin(vertices * 120 + np.array([0, 2, 4], np.float32))).astype(np.uint8)
    return TriangleMesh(vertices, np.asarray(body.faces, np.int32), colors)


if __name__ == "__main__":
    main()

"""Make the README's pictures with the program itself: overlays on simulator frames, the fused object mesh.

./hoi python tools/make_pictures.py --out docs/images
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from hoi_ros.datatypes import CameraIntrinsics, TriangleMesh
from hoi_ros.evaluation.rendering import MeshRenderer
from hoi_ros.geometry import make_transform, so3_exp
from hoi_ros.overlay import draw_overlay
from hoi_ros.pipeline import HoiPipeline, PipelineConfig
from hoi_ros.simulation import Simulator, SimulatorConfig


def overlays(scene: str, frames: int, shown: tuple[int, ...]) -> tuple[np.ndarray, TriangleMesh | None]:
    """Run the pipeline on a scene; returns the shown frames side by side, and the object's mesh."""
    pipeline = HoiPipeline(PipelineConfig(device="cpu"))
    faces = {side: pipeline.estimator.faces(side) for side in ("left", "right")}
    simulator = Simulator(scene, SimulatorConfig(seed=0))
    tiles = []
    for i in tqdm(range(frames), desc=scene):
        frame = simulator.frame(i)
        result = pipeline.process(frame)
        if i in shown:
            tiles.append(
                draw_overlay(frame.color, result.hands, faces, result.observation, intrinsics=frame.intrinsics)
            )
    return np.hstack(tiles), pipeline.final_mesh()


def turntable(mesh: TriangleMesh, views: int = 4, size: int = 320) -> np.ndarray:
    """The mesh from several sides, lit from the camera; shape above, colour below."""
    renderer = MeshRenderer(mesh)
    center = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2
    reach = float(np.linalg.norm(mesh.vertices - center, axis=1).max())
    intrinsics = CameraIntrinsics.from_fov(size, size, 40.0)
    columns = []
    for k in range(views):
        rotation = so3_exp(np.array([0.25, 0, 0])) @ so3_exp(np.array([0, k * 2 * np.pi / views, 0]))
        pose = make_transform(rotation, np.array([0, 0, 3.1 * reach]) - rotation @ center)
        view = renderer.render(intrinsics, pose)
        seen = view.depth_m[..., None] > 0
        light = np.clip(-view.normals[..., 2:], 0.0, 1.0)
        shape = np.where(seen, 60 + 170 * light, 255)
        color = np.where(seen, view.color * (0.5 + 0.5 * light), 255)
        columns.append(np.vstack([np.repeat(shape, 3, 2), color]))
    return np.hstack(columns).astype(np.uint8)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--frames", type=int, default=240)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    box, mesh = overlays("rotate:box", options.frames, (60, 150))
    handover, _ = overlays("handover", 220, (90, 210))
    picture = cv2.resize(np.vstack([box, handover]), None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(options.out / "overlay.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    if mesh is not None:
        cv2.imwrite(str(options.out / "object.jpg"), turntable(mesh)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()

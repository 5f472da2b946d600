"""How cost grows: with image size, hands, object size in voxels and length of the film."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import trimesh
from tqdm import tqdm

from hoi_ros.bench.inputs import SimulatedFilm, Turntable
from hoi_ros.bench.objects import timed
from hoi_ros.bench.options import BenchOptions
from hoi_ros.bench.results import BenchResult, Curve, Row
from hoi_ros.datatypes import ObjectObservation, TriangleMesh
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.pipeline import HoiPipeline, PipelineConfig
from hoi_ros.reconstruction.reconstructor import ObjectReconstructor, ReconstructionConfig

SIZES = ((320, 240), (640, 480), (960, 720), (1280, 960))
HANDS = ((0, "empty"), (1, "rotate:box"), (2, "handover"))
BOX_SIDES_M = (0.04, 0.08, 0.12, 0.16, 0.24)
LENGTHS = (10, 100, 1000)
FRAMES, WARM_UP = 25, 8


def bench_growth(options: BenchOptions, lengths: tuple[int, ...] = LENGTHS) -> BenchResult:
    """All four, the length first: its memory is then that of the pipeline alone."""
    result = BenchResult()
    for name, unit, points in (
        ("length", "frames", _by_length(options, lengths)),
        ("image size", "megapixels", _by_size(options)),
        ("hands", "hands", _by_hands(options)),
        ("object size", "thousand surface voxels", _by_voxels(options)),
    ):
        rows = list(points)
        for at, figures in rows:
            result.rows.append(Row("growth", f"{name}: {at:g} {unit}", "hoi_ros", dict(figures)))
        values = {unit: np.array([at for at, _ in rows])}
        for figure in rows[0][1]:
            values[figure] = np.array([figures[figure] for _, figures in rows], float)
        result.curves.append(Curve("growth", name, "hoi_ros", values))
    return result


def _by_size(options: BenchOptions) -> Iterator[tuple[float, dict[str, float]]]:
    for width, height in SIZES:
        film = SimulatedFilm("rotate:box", FRAMES, options.seed, width, height)
        pipeline = HoiPipeline(PipelineConfig(device=options.device))
        stages = [
            pipeline.process(item.frame).stage_ms
            for item in tqdm(film, desc=f"{width}x{height}", total=len(film), disable=options.quiet)
        ]
        pipeline.close()
        late = stages[WARM_UP:]
        figures = {
            f"{stage}_ms": float(np.median([s[stage] for s in late])) for stage in ("hand", "tracking", "fusion")
        }
        yield width * height / 1e6, figures


def _by_hands(options: BenchOptions) -> Iterator[tuple[float, dict[str, float]]]:
    """Without a hand the picture is searched for one in every frame; a followed hand is looked for where it was."""
    for count, scene in HANDS:
        film = SimulatedFilm(scene, FRAMES, options.seed)
        estimator = create_hand_estimator(HandConfig(), options.device)
        bar = tqdm(film, desc=scene, total=len(film), disable=options.quiet)
        ms = [timed(estimator.estimate, item.frame)[1] for item in bar]
        estimator.close()
        yield float(count), {"hand_ms": float(np.median(ms[WARM_UP:]))}


def _by_voxels(options: BenchOptions) -> Iterator[tuple[float, dict[str, float]]]:
    config = ReconstructionConfig()
    for side in BOX_SIDES_M:
        body = trimesh.creation.box((side, side * 0.8, side * 0.6)).subdivide_to_size(0.02)
        mesh = TriangleMesh(np.asarray(body.vertices, np.float32), np.asarray(body.faces, np.int32))
        fusion, film = ObjectReconstructor(config, "cpu"), Turntable(f"box{side:g}", mesh, FRAMES)
        ms = []
        for item in tqdm(film, desc=f"box {side:g} m", total=len(film), disable=options.quiet):
            seen = ObjectObservation("tracking", T_camera_object=item.T_camera_object, mask=item.object_mask)
            ms.append(timed(fusion.integrate, item.frame, seen)[1])
        fusion.extract_mesh()
        extract_ms = timed(fusion.extract_mesh)[1]
        surface = float(body.area) / config.voxel_size_m**2 / 1e3
        figures = {"fusion_ms": float(np.median(ms[WARM_UP:])), "mesh_ms": extract_ms}
        yield surface, figures | {"field_mb": fusion.memory_bytes / 2**20}


def _by_length(options: BenchOptions, lengths: tuple[int, ...]) -> Iterator[tuple[float, dict[str, float]]]:
    """One film; the figures are those of the frames around each length."""
    film = SimulatedFilm("rotate:box", max(lengths), options.seed)
    pipeline = HoiPipeline(PipelineConfig(device=options.device))
    ms: list[float] = []
    for item in tqdm(film, desc="length", total=len(film), disable=options.quiet):
        ms.append(sum(pipeline.process(item.frame).stage_ms.values()))
        if len(ms) in lengths:
            extract_ms = timed(pipeline.final_mesh)[1]
            last = ms[-max(5, len(ms) // 5) :]
            yield (
                float(len(ms)),
                {"frame_ms": float(np.median(last)), "mesh_ms": extract_ms, "memory_mb": resident_mb()},
            )
    pipeline.close()


def resident_mb() -> float:
    """Memory that this process holds now, MB; NaN where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

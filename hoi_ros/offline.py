"""`hoi run`: the pipeline over a source, without ROS, into a folder of files."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.datatypes import RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.hand import choose_estimator
from hoi_ros.overlay import draw_overlay
from hoi_ros.pipeline import HoiPipeline, PipelineConfig, PipelineResult
from hoi_ros.reconstruction.mesh_io import save_mesh
from hoi_ros.results import (
    HandTable,
    VideoWriter,
    folder_for_results,
    peak_memory_mb,
    percentiles,
    save_report,
    tum_line,
)
from hoi_ros.sources import Source, SourceConfig, open_source
from hoi_ros.sources.image_files import read_mask

ENDLESS_FRAMES = 300
"""Frames taken of a source without an end when no limit is given."""


@dataclass(frozen=True)
class RunOptions:
    """What `hoi run` is asked for."""

    source: str
    out: Path
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
    source_config: SourceConfig = field(default_factory=SourceConfig)
    frames: int = 0
    """Stop after so many frames; 0 takes all (a live source needs a number or Ctrl-C)."""
    duration_s: float = 0.0
    """Stop after so many seconds; 0 has no limit."""
    box: tuple[float, float, float, float] | None = None
    """x0 y0 x1 y1 of the object in the first frame, pixels."""
    mask: Path | None = None
    """Picture of the first frame's size, the object white."""
    overlay: bool = True
    quiet: bool = False


def run_offline(options: RunOptions) -> dict[str, Any]:
    """Process a source and write hands.npz, object_poses.txt, object.ply, overlay.mp4 and report.json.

    Files appear in `options.out` when the run ends (also after Ctrl-C), never half-written.

    Returns:
        The report that was written.

    Raises:
        InputError: unusable source, mask, device or output folder.
    """
    if options.mask is not None:
        read_mask(options.mask)
    with folder_for_results(options.out) as scratch, open_source(options.source, options.source_config) as source:
        pipeline = HoiPipeline(options.pipeline)
        try:
            return _Run(options, source, pipeline, scratch).run()
        finally:
            pipeline.close()


class _Run:
    def __init__(self, options: RunOptions, source: Source, pipeline: HoiPipeline, folder: Path) -> None:
        self.options, self.source, self.pipeline, self.folder = options, source, pipeline, folder
        self.table = HandTable()
        self.poses: list[str] = []
        self.stage_ms: dict[str, list[float]] = {}
        self.frames = self.frames_with_hands = self.frames_with_depth = 0
        self.interrupted = False
        self.video = VideoWriter(folder / "overlay.mp4", source.fps or 30.0)

    def run(self) -> dict[str, Any]:
        start = time.perf_counter()
        try:
            self._loop(start)
        except KeyboardInterrupt:
            self.interrupted = True
        self.seconds = time.perf_counter() - start
        if self.frames == 0:
            raise InputError(f"source '{self.options.source}' gave no frame: check that it is not empty")
        return self._write()

    def _loop(self, start: float) -> None:
        from tqdm import tqdm

        options = self.options
        limit = options.frames
        if self.source.endless and not (limit or options.duration_s):
            limit = ENDLESS_FRAMES
            print(f"'{options.source}' never ends: taking {limit} frames; --frames N or --duration S says otherwise")
        counts = [n for n in (self.source.frame_count, limit or None) if n is not None]
        with tqdm(total=min(counts, default=None), unit="frame", disable=options.quiet) as bar:
            for frame in self.source:
                self._one(frame)
                bar.update()
                if self.frames == limit or 0 < options.duration_s <= time.perf_counter() - start:
                    break

    def _one(self, frame: RgbdFrame) -> None:
        init_mask = first_frame_mask(frame, self.options) if self.frames == 0 else None
        result = self.pipeline.process(frame, independent=self.source.independent_frames, init_mask=init_mask)
        self.frames += 1
        self.frames_with_hands += bool(result.hands)
        self.frames_with_depth += frame.depth_m is not None
        self.table.add(frame, result.hands)
        for stage, value in result.stage_ms.items():
            self.stage_ms.setdefault(stage, []).append(value)
        observation = result.observation
        if observation is not None and observation.T_camera_object is not None:
            self.poses.append(tum_line(frame.stamp_s, observation.T_camera_object))
        if self.options.overlay:
            self.video.write(self._picture(frame, result))

    def _picture(self, frame: RgbdFrame, result: PipelineResult) -> np.ndarray:
        faces = {side: self.pipeline.estimator.faces(side) for side in ("left", "right")}
        return draw_overlay(
            frame.color, result.hands, faces, result.observation, f"frame {frame.index}", intrinsics=frame.intrinsics
        )

    def _write(self) -> dict[str, Any]:
        self.video.close()
        faces = {side: self.pipeline.estimator.faces(side) for side in ("left", "right")}
        self.table.save(self.folder / "hands.npz", faces, int(faces["right"].max()) + 1)
        if self.pipeline.tracker is not None and (self.frames_with_depth or self.poses):
            (self.folder / "object_poses.txt").write_text("".join(f"{line}\n" for line in self.poses), "utf-8")
        mesh = self.pipeline.final_mesh()
        if mesh is not None:
            save_mesh(mesh, self.folder / "object.ply")
        report = self._report()
        save_report(report, self.folder / "report.json")
        return report

    def _report(self) -> dict[str, Any]:
        focal = self.pipeline.tracker.focal if self.pipeline.tracker is not None else None
        core_s = sum(sum(values) for values in self.stage_ms.values()) / 1e3
        return {
            "source": self.options.source,
            "frames": self.frames,
            "frames_with_hands": self.frames_with_hands,
            "frames_with_depth": self.frames_with_depth,
            "object_tracked_frames": len(self.poses),
            "fps": round(self.frames / core_s, 2),
            "fps_with_reading_and_overlay": round(self.frames / self.seconds, 2),
            "stage_ms": {stage: percentiles(values) for stage, values in self.stage_ms.items()},
            "peak_memory_mb": peak_memory_mb(),
            "device": self.pipeline.device,
            "estimator": choose_estimator(self.options.pipeline.hand),
            "intrinsics_guessed": self.source.intrinsics_guessed,
            "focal_seen": None if focal is None else focal.report(),
            "interrupted": self.interrupted,
            "frames_treated_alone": self.source.independent_frames,
            "frames_left_out": self.source.dropped_frames,
            "warnings": [*self.source.warnings, *([] if focal is None else [str(focal)])],
        }


def first_frame_mask(frame: RgbdFrame, options: RunOptions) -> np.ndarray | None:
    """The object's pixels (H, W) bool that the user gave for the first frame, from a box or a picture."""
    height, width = frame.color.shape[:2]
    if options.mask is not None:
        mask = read_mask(options.mask)
        if mask.shape != (height, width):
            raise InputError(f"mask {options.mask} is {mask.shape[1]}x{mask.shape[0]}, the frame {width}x{height}")
    elif options.box is not None:
        x0, y0, x1, y1 = (round(value) for value in options.box)
        mask = np.zeros((height, width), bool)
        mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    else:
        return None
    if not mask.any():
        raise InputError(f"the object's mask or box holds no pixel of the {width}x{height} picture: give x0 y0 x1 y1")
    return mask

"""`hoi simulate`: a scene with exact truth as a folder that `rgbd:` reads, and as a bag that viewers replay."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hoi_ros.datatypes import LABEL_OBJECT, LABEL_STANDING, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.reconstruction.mesh_io import save_mesh
from hoi_ros.results import prepare_folder, tum_line
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.simulation.contact import ContactProbe
from hoi_ros.sources.bag_writer import BagWriter
from hoi_ros.sources.rgbd_writer import RgbdWriter, depth_to_millimetres
from hoi_ros.sources.truth_topics import TruthTopics
from hoi_ros.truth_file import TRUTH_NAME, TruthTable

BAG_NAME = "bag"
DISTURBANCES: dict[str, dict[str, Any]] = {
    "none": {"depth_noise": False, "sensor_noise": 0.0},
    "sensor": {"depth_noise": True},
    "harsh": {"depth_noise": True, "sensor_noise": 5.0, "motion_blur": True, "light_changes": True},
}
"""What disturbs the pictures, by name."""


@dataclass(frozen=True)
class SimulateOptions:
    """What `hoi simulate` is asked for."""

    scene: str
    out: Path
    config: SimulatorConfig = field(default_factory=SimulatorConfig)
    frames: int = 0
    """0 writes the scene once through."""
    bag: bool = True
    quiet: bool = False


def simulate(options: SimulateOptions) -> dict[str, Any]:
    """Render a scene into `options.out`, which appears whole or not at all.

    Returns:
        Counts and rates, as in the `simulation.json` that is written beside the pictures.

    Raises:
        InputError: unknown scene or object, or a folder that is not empty or cannot be written.
    """
    out = options.out
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"output folder {out} is not empty: name a new one with --out")
    simulator = Simulator(options.scene.removeprefix("sim:"), options.config)
    fresh = not out.exists()
    prepare_folder(out)
    scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=out))
    done = False
    try:
        report = _Film(options, simulator, scratch).write()
        for item in scratch.iterdir():
            item.replace(out / item.name)
        done = True
        return report
    except OSError as error:
        raise InputError(
            f"output folder {out}: {error.strerror or error}; free some space or choose another"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if fresh and not done:
            out.rmdir()


class _Film:
    def __init__(self, options: SimulateOptions, simulator: Simulator, folder: Path) -> None:
        self.options, self.simulator, self.folder = options, simulator, folder
        self.count = options.frames or simulator.config.frames or simulator.once_frames
        names = simulator.object_names
        self.held = [simulator.scene.item is not None and k == 0 for k in range(len(names))]
        standing = iter(range(LABEL_STANDING, LABEL_STANDING + len(names)))
        labels = [LABEL_OBJECT if held else next(standing) for held in self.held]
        self.table = TruthTable(names, labels, self.held)
        self.probe = ContactProbe(simulator.scene.item) if simulator.scene.item else None
        self.camera_lines: list[str] = []
        self.object_lines: list[str] = []

    def write(self) -> dict[str, Any]:
        from contextlib import ExitStack

        from tqdm import tqdm

        start = time.perf_counter()
        fps = self.simulator.config.fps
        with ExitStack() as stack:
            writers: list[RgbdWriter | BagWriter | TruthTopics] = [stack.enter_context(RgbdWriter(self.folder, fps))]
            if self.options.bag:
                bag = stack.enter_context(BagWriter(self.folder / BAG_NAME))
                writers += [bag, self._truth_topics(bag)]
            for name in ("masks", "depth_exact", "meshes"):
                (self.folder / name).mkdir()
            bar = stack.enter_context(tqdm(total=self.count, unit="frame", disable=self.options.quiet))
            for index in range(self.count):
                frame = self.simulator.frame(index)
                for writer in writers:
                    writer.write(frame)
                self._write_truth(frame, index)
                bar.update()
        for name, mesh in self.simulator.object_meshes().items():
            save_mesh(mesh, self.folder / "meshes" / f"{name}.ply")
        return self._finish(time.perf_counter() - start)

    def _truth_topics(self, bag: BagWriter) -> TruthTopics:
        simulator = self.simulator
        faces = {side: simulator.model.faces(side) for side in ("left", "right")}
        held = simulator.object_names[0] if simulator.scene.item else None
        return TruthTopics(bag, faces, simulator.object_meshes(), held)

    def _write_truth(self, frame: RgbdFrame, index: int) -> None:
        truth = frame.truth
        assert truth is not None
        _save_png(self.folder / "masks" / f"{index:06d}.png", truth.labels)
        _save_png(self.folder / "depth_exact" / f"{index:06d}.png", depth_to_millimetres(truth.depth_m))
        self.camera_lines.append(tum_line(frame.stamp_s, truth.T_world_camera))
        contacts = [np.zeros(len(hand.vertices_camera), bool) for hand in truth.hands]
        if self.probe is not None:
            pose = truth.T_camera_object[self.simulator.object_names[0]]
            self.object_lines.append(tum_line(frame.stamp_s, pose))
            contacts = [self.probe.touching(hand.vertices_camera, pose) for hand in truth.hands]
        self.table.add(frame, contacts)

    def _finish(self, seconds: float) -> dict[str, Any]:
        simulator = self.simulator
        self.table.save(
            self.folder / TRUTH_NAME,
            shape=simulator.hand_shape,
            faces={side: simulator.model.faces(side) for side in ("left", "right")},
            angle_names=simulator.model.joint_angle_names,
            scene=self.options.scene,
            seed=simulator.config.seed,
        )
        (self.folder / "camera_poses.txt").write_text("".join(f"{line}\n" for line in self.camera_lines), "utf-8")
        if self.object_lines:
            (self.folder / "object_poses.txt").write_text("".join(f"{line}\n" for line in self.object_lines), "utf-8")
        report = {
            "scene": self.options.scene,
            "frames": self.count,
            "loop_frames": simulator.loop_frames,
            "objects": simulator.object_names,
            "frames_per_second": round(self.count / seconds, 2),
            "settings": asdict(simulator.config),
        }
        (self.folder / "simulation.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
        return report


def _save_png(path: Path, pixels: np.ndarray) -> None:
    if not cv2.imwrite(str(path), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise OSError(f"{path.name} could not be written")

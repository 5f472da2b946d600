"""Where bench frames come from: the simulator, a mesh that turns, or a folder of data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hoi_ros.bench.options import BenchOptions
from hoi_ros.datatypes import (
    LABEL_LEFT_HAND,
    LABEL_OBJECT,
    LABEL_RIGHT_HAND,
    CameraIntrinsics,
    RgbdFrame,
    TriangleMesh,
)
from hoi_ros.errors import InputError
from hoi_ros.evaluation.datasets import open_dataset
from hoi_ros.evaluation.datasets.files import read_mesh
from hoi_ros.evaluation.datasets.records import HandLabel, LabelledFrame, LabelledSequence
from hoi_ros.evaluation.rendering import MeshRenderer
from hoi_ros.geometry import make_transform, so3_exp
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.simulation.captured import list_captures
from hoi_ros.simulation.scenes import parse_scene

HAND_SCENES = ("bare", "handover", "rotate:box", "rotate:mug")
OBJECT_SCENES = ("rotate:box", "rotate:drill", "rotate:mug", "rotate:bottle")
FULL_SCENES = (
    "rotate:box", "rotate:drill", "rotate:mug", "rotate:bottle", "rotate:can", "rotate:spray", "handover:bottle",
    "handover:box", "grasp:mug", "grasp:drill",
)  # fmt: skip
FULL_MESHES = (
    ("rotate", ("mustard_bottle", "power_drill", "mug", "cracker_box")), ("grasp", ("mustard_bottle", "sugar_box")),
)  # fmt: skip
"""Scenes of the full table with the meshes of a folder, by their files' stems."""
FULL_REPLAYS = ("mug", "power_drill", "mustard_bottle", "cracker_box")
"""Objects of the full table's captured grasps: the first sequence of each."""
BEFORE_HOLD_S = 0.3
"""Part of a film before its thing is held."""
DEPTH_TRIES = 16
"""Frames of a film that are asked for depth and the object's pose: a data set lacks them in all frames or in few."""
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
MESH_SUFFIXES = (".ply", ".obj", ".glb", ".stl")


class NotLabelled(InputError):
    """The data has no labels of what was to be judged."""


class SimulatedFilm(LabelledSequence):
    """Frames of a simulator scene from shortly before a hand holds the thing."""

    def __init__(
        self, scene: str, frames: int, seed: int = 0, width: int = 640, height: int = 480, meshes: Path | None = None
    ) -> None:
        """Make the scene; `meshes` is the folder in which a replay seeks its thing."""
        item = str(meshes) if meshes and scene.startswith("replay:") else ""
        self.simulator = Simulator(scene, SimulatorConfig(seed=seed, width=width, height=height, object=item))
        kind, _, thing = scene.partition(":")
        if kind == "replay":
            thing = f"{self.simulator.object_names[0]}#{thing.rpartition('#')[2]}"
        self.name = f"sim:{kind}:{Path(thing).name}" if thing else f"sim:{kind}"
        self.fps = self.simulator.config.fps
        self._start = max(0, round((self.simulator.scene.held_from_s - BEFORE_HOLD_S) * self.fps))
        self._frames = min(frames, self.simulator.loop_frames - self._start) if self._start else frames

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, index: int) -> LabelledFrame:
        return labelled(self.simulator.frame(self._start + index))

    def hand_faces(self) -> np.ndarray:
        return self.simulator.model.faces("right")

    def object_mesh(self) -> TriangleMesh | None:
        return next(iter(self.simulator.object_meshes().values()), None)


def labelled(frame: RgbdFrame) -> LabelledFrame:
    """A simulator frame as data sets give theirs; the truth is taken out of the frame itself."""
    truth = frame.truth
    assert truth is not None
    bare = RgbdFrame(frame.color, frame.intrinsics, frame.stamp_ns, frame.index, frame.depth_m, name=frame.name)
    return LabelledFrame(
        bare,
        tuple(
            HandLabel(h.handedness, h.joints_camera, None, h.vertices_camera, h.visible_fraction) for h in truth.hands
        ),
        all_hands_labelled=True,
        T_camera_object=next(iter(truth.T_camera_object.values()), None),
        object_mask=truth.labels == LABEL_OBJECT,
        hand_mask=(truth.labels == LABEL_LEFT_HAND) | (truth.labels == LABEL_RIGHT_HAND),
    )


class Turntable(LabelledSequence):
    """A mesh that turns twice about its own axis while nodding 50 degrees each way, 0.5 m away, before a wall.

    Depth noise of 1.5 mm at one metre, growing with the square of the distance; no hand.
    """

    def __init__(self, name: str, mesh: TriangleMesh, frames: int, seed: int = 0) -> None:
        self.name = f"turntable:{name}"
        self._mesh, self._frames, self._seed = mesh, frames, seed
        self._camera = CameraIntrinsics(640, 480, 610.0, 610.0, 319.5, 239.5)
        self._renderer = MeshRenderer(mesh)

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, index: int) -> LabelledFrame:
        turn = 2 * np.pi * index / self._frames
        rotation = so3_exp(np.array([0.9 * np.sin(turn), 0, 0])) @ so3_exp(np.array([0, 2 * turn, 0]))
        pose = make_transform(rotation, np.array([0.02 * np.sin(turn), 0.01 * np.cos(turn), 0.5]))
        picture = self._renderer.render(self._camera, pose)
        mask = picture.depth_m > 0
        depth = np.where(mask, picture.depth_m, 1.2)
        random = np.random.default_rng([self._seed, index])
        depth = np.round(depth + random.normal(size=depth.shape) * 0.0015 * depth**2, 3).astype(np.float32)
        frame = RgbdFrame(picture.color, self._camera, round(index * 1e9 / self.fps), index, depth, name=self.name)
        return LabelledFrame(frame, (), True, pose, mask)

    def object_mesh(self) -> TriangleMesh:
        return self._mesh


class Film(LabelledSequence):
    """A video file without labels: hands are counted, not judged."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._path = path
        capture = cv2.VideoCapture(str(path))
        self._count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.fps = capture.get(cv2.CAP_PROP_FPS) or 30.0
        if not capture.isOpened() or self._count < 1:
            raise InputError(f"video {path} cannot be read")

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> LabelledFrame:
        raise InputError(f"video {self._path} is read from its beginning only")

    def __iter__(self) -> Iterator[LabelledFrame]:
        capture = cv2.VideoCapture(str(self._path))
        for index in range(self._count):
            good, picture = capture.read()
            if not good:
                break
            color = np.ascontiguousarray(picture[..., ::-1])
            camera = CameraIntrinsics.from_fov(color.shape[1], color.shape[0])
            yield LabelledFrame(RgbdFrame(color, camera, round(index * 1e9 / self.fps), index, name=self._path.name))


def any_frame(sequence: LabelledSequence, wanted: Callable[[LabelledFrame], bool], most: int = 0) -> bool:
    """Whether something holds for any of the first `most` frames (0: of all); read until one is found."""
    count = min(len(sequence), most) if most else len(sequence)
    return any(wanted(sequence[i]) for i in spread(count))


def spread(count: int) -> Iterator[int]:
    """0 to count - 1, each once: first far apart, then ever closer, since what a film shows it shows for a while."""
    step, told = max(count, 1), set[int]()
    while step:
        for index in range(0, count, step):
            if index not in told:
                told.add(index)
                yield index
        step //= 2


def hand_sequences(options: BenchOptions, skipped: list[str] | None = None) -> Sequence[LabelledSequence]:
    """What hands are measured on; sentences about what is left out are appended to `skipped`.

    Raises:
        NotLabelled: the data folder holds nothing with hands.
        InputError: the data folder cannot be read.
    """
    if options.data is None:
        return SimulatedFilms(options, HAND_SCENES)
    films = _files(options.data, VIDEO_SUFFIXES)
    if films and not options.dataset:
        return [Film(path) for path in films]
    found: list[LabelledSequence] = []
    without: list[LabelledSequence] = []
    for sequence in open_dataset(options.data, options.dataset):
        labelled = sequence.independent_frames or any_frame(sequence, lambda item: bool(item.hands), options.frames)
        (found if labelled else without).append(sequence)
    if not found:
        where = f"in the first {options.frames} frames there; --frames takes more" if options.frames else "there"
        raise NotLabelled(f"data folder {options.data}: no hand is labelled {where}; use it with 'tracking'")
    _tell("hands", without, "no hand is labelled in the frames that were asked for", skipped)
    return found


def object_sequences(options: BenchOptions, skipped: list[str] | None = None) -> Sequence[LabelledSequence]:
    """What tracking and reconstruction are measured on; what is left out is appended to `skipped`.

    Raises:
        NotLabelled: the data folder holds no film with depth and object poses.
        InputError: the data folder cannot be read.
    """
    if options.data is None:
        return SimulatedFilms(options, full_scenes(options) if options.full else OBJECT_SCENES)
    meshes = _files(options.data, MESH_SUFFIXES)
    if meshes and not options.dataset:
        return [Turntable(p.stem, _centred(read_mesh(p)), options.frames or 60) for p in meshes]
    found: list[LabelledSequence] = []
    without: list[LabelledSequence] = []
    reasons: list[str] = []
    for sequence in open_dataset(options.data, options.dataset):
        lack = _lack(sequence)
        (without if lack else found).append(sequence)
        reasons += [lack] if lack else []
    if not found:
        raise NotLabelled(
            f"data folder {options.data}: no film there has depth, object poses and the object's mesh;"
            f" {without[0].name}: {reasons[0]}; mend that, or use it with 'hands'"
        )
    for reason in dict.fromkeys(reasons):
        _tell("objects", [s for s, r in zip(without, reasons) if r == reason], reason, skipped)
    return found


def _lack(sequence: LabelledSequence) -> str:
    """What a film lacks of depth, object poses and the object's mesh, with the file; '' when it has them all."""
    if sequence.independent_frames:
        return "photos, not a film"
    depth = False
    for index in itertools.islice(spread(len(sequence)), DEPTH_TRIES):
        item = sequence[index]
        depth = depth or item.frame.depth_m is not None
        if item.frame.depth_m is not None and item.T_camera_object is not None:
            break
    else:
        where = f", expected at {sequence.depth_place}" if sequence.depth_place else ""
        return "no object poses" if depth else f"no depth{where}"
    try:
        return "" if sequence.object_mesh() is not None else "no mesh of the object"
    except InputError as error:
        return str(error)


def _tell(what: str, without: Sequence[LabelledSequence], why: str, skipped: list[str] | None) -> None:
    """Name the films that are left out, the first few of them."""
    if without and skipped is not None:
        names = ", ".join(s.name for s in without[:5]) + (", ..." if len(without) > 5 else "")
        skipped.append(f"{what}: {len(without)} of the films there ({names}): {why}")


def full_scenes(options: BenchOptions) -> tuple[str, ...]:
    """Scenes of the full table: built-in things, and what the folder of meshes and the captured grasps add.

    Raises:
        InputError: the folder has none of the usual meshes, or the grasps cannot be read.
    """
    scenes, folder = list(FULL_SCENES), options.meshes
    if folder is not None:
        files = {path.stem: path for path in _files(folder, MESH_SUFFIXES)}
        added = [f"{scene}:{files[name]}" for scene, names in FULL_MESHES for name in names if name in files]
        if not added:
            wanted = ", ".join(FULL_MESHES[0][1])
            raise InputError(f"--meshes {folder}: expected files such as mug.glb there (any of {wanted})")
        scenes += added
    if options.grasps is not None:
        captures = reversed(list_captures(options.grasps))
        names = {name.lstrip("0123456789").lstrip("_"): number for number, name in captures}
        scenes += [f"replay:{options.grasps}#{names[name]}" for name in FULL_REPLAYS if name in names]
    return tuple(scenes)


class SimulatedFilms(Sequence[LabelledSequence]):
    """Films that are made when they are asked for, since each one's grasps take seconds and its scene memory."""

    def __init__(self, options: BenchOptions, usual: tuple[str, ...]) -> None:
        self._options, self._scenes = options, options.scenes or usual
        for scene in self._scenes:
            parse_scene(scene, "")  # a wrong name is said before hours of work

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: Any) -> Any:
        options = self._options
        return SimulatedFilm(self._scenes[index], options.frames or 300, options.seed, meshes=options.meshes)


def _files(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The file itself, or those of a folder, by their names' ends."""
    return [p for p in ([path] if path.is_file() else sorted(path.glob("*"))) if p.suffix.lower() in suffixes]


def _centred(mesh: TriangleMesh) -> TriangleMesh:
    middle = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2
    return TriangleMesh((mesh.vertices - middle).astype(np.float32), mesh.faces, mesh.colors)

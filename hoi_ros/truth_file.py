"""`truth.npz`: all that a simulated film knows of itself, in plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from hoi_ros.datatypes import HAND_SIDES, JOINT_NAMES, FrameTruth, RgbdFrame
from hoi_ros.errors import InputError

TRUTH_NAME = "truth.npz"


@dataclass(frozen=True)
class FilmTruth:
    """The arrays of `truth.npz`: T frames, O objects, R rows of hands (one a hand and frame), V vertices, A angles.

    Metres, radians, nanoseconds; the camera frame is the optical one; the world has z upwards and the table at z = 0.
    """

    frame: np.ndarray
    """(T,) int64 number of the frame in the scene; row t belongs to picture t of the folder."""
    stamp_ns: np.ndarray
    """(T,) int64."""
    intrinsics: np.ndarray
    """(4,) fx, fy, cx, cy in pixels."""
    image_size: np.ndarray
    """(2,) width, height."""
    T_world_camera: np.ndarray
    """(T, 4, 4) float64."""
    object_names: np.ndarray
    """(O,) str; the mesh of each is `meshes/NAME.ply`, in its own frame."""
    object_labels: np.ndarray
    """(O,) uint8 value of each object's pixels in `masks/`; hands have 2 (left) and 3 (right)."""
    object_held: np.ndarray
    """(O,) bool: handled in this film; False only stands there."""
    T_camera_object: np.ndarray
    """(T, O, 4, 4) float64."""
    object_visible: np.ndarray
    """(T, O) float32 share of the object's pixels that nothing hides and that lie inside the picture."""
    hand_row: np.ndarray
    """(R,) int64 row t of the frame that each hand belongs to."""
    handedness: np.ndarray
    """(R,) 'left' or 'right', the person's own."""
    visible_fraction: np.ndarray
    """(R,) float32, as `object_visible`."""
    joints_camera_m: np.ndarray
    """(R, 21, 3) float32, order of `joint_names`."""
    vertices_camera_m: np.ndarray
    """(R, V, 3) float32."""
    T_camera_wrist: np.ndarray
    """(R, 4, 4) float64 frame of the hand model's wrist bone."""
    joint_angles: np.ndarray
    """(R, A) float32, order of `joint_angle_names`."""
    contact: np.ndarray
    """(R, V) bool: the vertex touches the held object (within 2 mm, or inside)."""
    shape: np.ndarray
    """(10,) shape coefficients of both hands."""
    faces: np.ndarray
    """(F, 3) int32 of a right hand."""
    faces_left: np.ndarray
    """(F, 3) int32 of a left hand."""
    joint_names: np.ndarray
    """(21,) str."""
    joint_angle_names: np.ndarray
    """(A,) str."""
    scene: np.ndarray
    """() str."""
    seed: np.ndarray
    """() int64."""


def read_truth(path: Path | str) -> FilmTruth:
    """Read `truth.npz`, or the one in a folder.

    Raises:
        InputError: missing or damaged file, an array that is absent or of another length.
    """
    path = Path(path)
    path = path / TRUTH_NAME if path.is_dir() else path
    try:
        with np.load(path, allow_pickle=False) as archive:
            truth = FilmTruth(**{item.name: archive[item.name] for item in fields(FilmTruth)})
    except FileNotFoundError as error:
        raise InputError(f"truth file {path}: no such file; './hoi simulate' writes one") from error
    except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"truth file {path} cannot be read ({error}); write it again with './hoi simulate'") from error
    frames, rows, objects = len(truth.frame), len(truth.hand_row), len(truth.object_names)
    for name, count in (("stamp_ns", frames), ("T_world_camera", frames), ("T_camera_object", frames),
                        ("object_visible", frames), ("handedness", rows), ("joints_camera_m", rows),
                        ("vertices_camera_m", rows), ("contact", rows), ("object_labels", objects)):  # fmt: skip
        if len(getattr(truth, name)) != count:
            raise InputError(f"truth file {path}: '{name}' has {len(getattr(truth, name))} rows, expected {count}")
    return truth


class TruthTable:
    """Collects the truth of frames for `truth.npz`."""

    def __init__(self, object_names: list[str], object_labels: list[int], held: list[bool]) -> None:
        self._names, self._labels, self._held = object_names, object_labels, held
        self._frames: list[tuple[RgbdFrame, FrameTruth]] = []
        self._contacts: list[list[np.ndarray]] = []

    def add(self, frame: RgbdFrame, contacts: list[np.ndarray]) -> None:
        """Append a frame; its pictures are not kept.

        Args:
            frame: with truth.
            contacts: (V,) bool for each of its hands.
        """
        assert frame.truth is not None and len(contacts) == len(frame.truth.hands)
        # Pictures would fill the memory of a long film.
        small = FrameTruth(
            frame.truth.hands, frame.truth.T_camera_object, frame.truth.T_world_camera,
            np.zeros((0, 0), np.uint8), np.zeros((0, 0), np.float32), frame.truth.object_visible,
        )  # fmt: skip
        bare = RgbdFrame(np.zeros((1, 1, 3), np.uint8), frame.intrinsics, frame.stamp_ns, frame.index)
        self._frames.append((bare, small))
        self._contacts.append(contacts)

    def save(
        self, path: Path, *, shape: np.ndarray, faces: dict[str, np.ndarray], angle_names: tuple[str, ...],
        scene: str, seed: int,
    ) -> None:  # fmt: skip
        """Write all frames; a film needs at least one.

        Args:
            path: file to write.
            shape: (10,). faces: side to (F, 3). angle_names: of the hand model.
            scene: how it was asked for. seed: its seed.
        """
        camera = self._frames[0][0].intrinsics
        truths = [truth for _, truth in self._frames]
        hands = [(row, hand) for row, truth in enumerate(truths) for hand in truth.hands]
        vertices = int(max(faces[side].max() for side in HAND_SIDES)) + 1

        def stack(rows: list, shape: tuple[int, ...], kind: type) -> np.ndarray:
            return np.asarray(rows, kind).reshape(len(rows), *shape)

        objects = len(self._names)
        poses = [[truth.T_camera_object[name] for name in self._names] for truth in truths]
        seen = [[truth.object_visible[name] for name in self._names] for truth in truths]
        truth = FilmTruth(
            frame=np.array([frame.index for frame, _ in self._frames], np.int64),
            stamp_ns=np.array([frame.stamp_ns for frame, _ in self._frames], np.int64),
            intrinsics=np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
            image_size=np.array([camera.width, camera.height]),
            T_world_camera=stack([truth.T_world_camera for truth in truths], (4, 4), np.float64),
            object_names=np.array(self._names, "U64"),
            object_labels=np.array(self._labels, np.uint8),
            object_held=np.array(self._held, bool),
            T_camera_object=stack(poses, (objects, 4, 4), np.float64),
            object_visible=stack(seen, (objects,), np.float32),
            hand_row=np.array([row for row, _ in hands], np.int64),
            handedness=np.array([hand.handedness for _, hand in hands], "U5"),
            visible_fraction=np.array([hand.visible_fraction for _, hand in hands], np.float32),
            joints_camera_m=stack([hand.joints_camera for _, hand in hands], (21, 3), np.float32),
            vertices_camera_m=stack([hand.vertices_camera for _, hand in hands], (vertices, 3), np.float32),
            T_camera_wrist=stack([hand.T_camera_wrist for _, hand in hands], (4, 4), np.float64),
            joint_angles=stack([hand.joint_angles for _, hand in hands], (len(angle_names),), np.float32),
            contact=stack([mask for masks in self._contacts for mask in masks], (vertices,), bool),
            shape=np.asarray(shape, np.float64),
            faces=faces["right"],
            faces_left=faces["left"],
            joint_names=np.array(JOINT_NAMES),
            joint_angle_names=np.array(angle_names),
            scene=np.array(scene),
            seed=np.array(seed, np.int64),
        )
        np.savez_compressed(path, **{item.name: getattr(truth, item.name) for item in fields(FilmTruth)})

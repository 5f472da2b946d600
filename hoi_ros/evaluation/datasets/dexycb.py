"""DexYCB (Chao et al., CVPR 2021), the user's own copy: a hand grasps one of several YCB objects.

`SUBJECT/DATE_TIME/meta.yml` and `.../SERIAL/` with `color_NNNNNN.jpg`, `aligned_depth_to_color_NNNNNN.png` (mm) and
`labels_NNNNNN.npz` (seg, pose_y, joint_3d, joint_2d); `calibration/intrinsics/SERIAL_640x480.yml`; `models/YCB_ID/`.
Joints are in metres of the camera, -1 where there is no hand. In `seg` 255 is the hand, else the YCB number.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame, TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.evaluation.checks import require_sides, shaped
from hoi_ros.evaluation.datasets.files import (
    expect,
    expect_any,
    need_fields,
    one_line,
    read_color,
    read_depth,
    read_npz,
    read_object,
)
from hoi_ros.evaluation.datasets.records import HandLabel, LabelledFrame, LabelledSequence

NAME = "DexYCB"
HAND_LABEL = 255


class DexYcbSequence(LabelledSequence):
    """One camera's film of one grasp."""

    def __init__(self, folder: Path, root: Path) -> None:
        """Read grasp and camera.

        Raises:
            InputError: a file or field is missing.
        """
        self.name = f"{NAME}/{folder.parent.name}/{folder.name}"
        self._folder, self._root = folder, root
        self._images = expect_any(folder, "color_*.jpg", NAME, "colour pictures")
        path = expect(folder.parent / "meta.yml", NAME, "the recording's description")
        meta = _read_yaml(path)
        need_fields(meta, ("mano_sides", "ycb_ids", "ycb_grasp_ind"), path)
        try:
            self._side = meta["mano_sides"][0]
            self._grasped = int(meta["ycb_grasp_ind"])
            self._ycb_id = int(meta["ycb_ids"][self._grasped])
        except (TypeError, ValueError, LookupError) as error:
            expected = "mano_sides a list of sides, ycb_grasp_ind the number of a row of ycb_ids"
            raise InputError(f"{path}: expected {expected} ({error})") from error
        require_sides(np.array([self._side]), file=str(path), field="mano_sides")
        path = expect(root / "calibration" / "intrinsics" / f"{folder.name}_640x480.yml", NAME, "the camera")
        color = _read_yaml(path).get("color")
        color = color if isinstance(color, dict) else {}
        need_fields(color, ("fx", "fy", "ppx", "ppy"), path)
        fx, fy, cx, cy = shaped([color[k] for k in ("fx", "fy", "ppx", "ppy")], (4,), file=str(path), field="color")
        self._camera = CameraIntrinsics(640, 480, fx, fy, cx, cy)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> LabelledFrame:
        path = self._images[index]
        number = path.stem.removeprefix("color_")
        label_path = expect(self._folder / f"labels_{number}.npz", NAME, f"the labels of {path.name}")
        labels = read_npz(label_path)
        need_fields(labels, ("seg", "pose_y", "joint_3d"), label_path)
        depth = read_depth(expect(self._folder / f"aligned_depth_to_color_{number}.png", NAME, "its depth"))
        frame = RgbdFrame(read_color(path), self._camera, round(index * 1e9 / self.fps), index, depth, name=path.name)
        file = str(label_path)
        joints = shaped(labels["joint_3d"], (1, 21, 3), file=file, field="joint_3d")[0]
        poses = shaped(labels["pose_y"], (-1, 3, 4), file=file, field="pose_y")
        if len(poses) <= self._grasped:
            raise InputError(
                f"{file}, field 'pose_y': {len(poses)} poses, expected one for each of ycb_ids in meta.yml"
            )
        hands = () if (joints == -1).all() else (HandLabel(self._side, joints),)
        pose = np.vstack([poses[self._grasped], [0, 0, 0, 1]]).astype(np.float64)
        return LabelledFrame(
            frame, hands, True, pose if np.abs(pose[:3, :3]).sum() > 0 else None,
            labels["seg"] == self._ycb_id, labels["seg"] == HAND_LABEL,
        )  # fmt: skip

    def object_mesh(self) -> TriangleMesh:
        pattern = f"{self._ycb_id:03d}_*/textured_simple.obj"
        return read_object(expect_any(self._root / "models", pattern, NAME, "the object's mesh")[0], NAME)


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML: {one_line(error)}; copy it again") from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: expected fields with values, found {type(record).__name__}; copy it again")
    return record


def open_dexycb(folder: Path) -> list[LabelledSequence]:
    """Every camera of every recording.

    Raises:
        InputError: none is there, or files are missing.
    """
    expect(folder / "calibration" / "intrinsics", NAME, "the cameras")
    recordings = expect_any(folder, "*subject*/*/meta.yml", NAME, "recordings")
    folders = sorted({p.parent for meta in recordings for p in meta.parent.glob("*/color_000000.jpg")})
    if not folders:
        expect_any(recordings[0].parent, "SERIAL/color_000000.jpg", NAME, "colour pictures")
    return [DexYcbSequence(f, folder) for f in folders]


def open_dexycb_training(folder: Path) -> list[LabelledSequence]:
    """The recordings that the data set's own split s0 trains on: of each subject's, all but every fifth.

    Raises:
        InputError: none is there, or files are missing.
    """
    subjects: dict[Path, list[Path]] = {}
    for meta in expect_any(folder, "*subject*/*/meta.yml", NAME, "recordings"):
        subjects.setdefault(meta.parent.parent, []).append(meta.parent)
    chosen = {r for recordings in subjects.values() for k, r in enumerate(sorted(recordings)) if k % 5 != 4}
    expect(folder / "calibration" / "intrinsics", NAME, "the cameras")
    cameras = sorted({p.parent for recording in chosen for p in recording.glob("*/color_000000.jpg")})
    if not cameras:
        raise InputError(f"{NAME}: no recording to train on in {folder}; expected SERIAL/color_000000.jpg")
    return [DexYcbSequence(camera, folder) for camera in cameras]

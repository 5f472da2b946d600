"""HO3D v3 (Hampali et al., CVPR 2020 and arXiv 2107.00887), the user's own copy: a right hand and a YCB object.

`train/SEQ/` or `evaluation/SEQ/` with `rgb/NNNN.jpg`, `depth/NNNN.png` and `meta/NNNN.pkl`; `models/YCB_ID/` with
`textured_simple.obj` in the same folder. Labels are in OpenGL's camera (y up, z back); depth is stored in two colour
channels, low byte in red. Joints are in MANO's order; evaluation sequences give the wrist alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.datatypes import RgbdFrame, TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.evaluation.checks import shaped
from hoi_ros.evaluation.datasets.files import (
    expect,
    expect_any,
    intrinsics_of,
    need_fields,
    read_color,
    read_object,
    read_pickle,
    read_raw,
)
from hoi_ros.evaluation.datasets.records import LEAST_JOINTS, HandLabel, LabelledFrame, LabelledSequence
from hoi_ros.geometry import make_transform, so3_exp

NAME = "HO3D v3"
FROM_MANO = np.array([0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20])
"""MANO's row of each joint: index, middle, little, ring, thumb, then the five tips from the thumb on."""
DEPTH_STEP_M = 0.00012498664727900177
OPTICAL_FROM_OPENGL = np.diag([1.0, -1.0, -1.0])


class Ho3dSequence(LabelledSequence):
    """One film."""

    def __init__(self, folder: Path, models: Path) -> None:
        """List the pictures.

        Raises:
            InputError: there is none.
        """
        self.name = f"{NAME}/{folder.name}"
        self._folder, self._models = folder, models
        self._matrix: np.ndarray | None = None
        suffix = "*.jpg" if any((folder / "rgb").glob("*.jpg")) else "*.png"
        self._images = expect_any(folder / "rgb", suffix, NAME, "colour pictures")
        self.depth_place = str(folder / "depth" / "NNNN.png")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> LabelledFrame:
        path = self._images[index]
        meta_path = expect(self._folder / "meta" / f"{path.stem}.pkl", NAME, f"the labels of {path.name}")
        meta, color = _labels(meta_path), read_color(path)
        depth_path = self._folder / "depth" / f"{path.stem}.png"
        depth = _depth(depth_path) if depth_path.exists() else None
        camera = intrinsics_of(self._camera_matrix(meta, meta_path), color)
        frame = RgbdFrame(color, camera, round(index * 1e9 / self.fps), index, depth, name=path.name)
        joints = _joints(meta["handJoints3D"], str(meta_path))
        hands = () if joints is None else (HandLabel("right", joints),)
        # A frame without label shows a hand all the same, and a wrist alone does not tell whose it is.
        known = joints is not None and int(np.isfinite(joints).all(1).sum()) >= LEAST_JOINTS
        return LabelledFrame(frame, hands, all_hands_labelled=known, T_camera_object=_pose(meta))

    def _camera_matrix(self, meta: dict, path: Path) -> np.ndarray:
        """K of a frame; frames without labels lack it, and have the film's, which does not change."""
        if meta["camMat"] is not None:
            self._matrix = shaped(meta["camMat"], (3, 3), file=str(path), field="camMat")
        elif self._matrix is None:
            metas = ((p, _labels(p)) for p in sorted((self._folder / "meta").glob("*.pkl")))
            found = next(((p, m) for p, m in metas if m["camMat"] is not None), None)
            if found is None:
                raise InputError(f"{path}, field 'camMat' is empty, and so it is in every frame of the film: no camera")
            self._matrix = shaped(found[1]["camMat"], (3, 3), file=str(found[0]), field="camMat")
        return self._matrix

    def object_mesh(self) -> TriangleMesh:
        paths = expect_any(self._folder / "meta", "*.pkl", NAME, "labels")
        name = next((n for p in paths if (n := _labels(p).get("objName"))), None)
        if name is None:
            raise InputError(f"{paths[0]}, field 'objName' is empty in every frame of the film: no object is named")
        return read_object(self._models / str(name) / "textured_simple.obj", NAME)


def _labels(path: Path) -> dict[str, Any]:
    meta = read_pickle(path)
    need_fields(meta, ("camMat", "handJoints3D", "objRot", "objTrans"), path)
    return meta


def _depth(path: Path) -> np.ndarray:
    raw = read_raw(path)
    if raw.ndim != 3:
        raise InputError(f"depth {path} has {raw.ndim - 1} channel: HO3D stores it in colour channels")
    return ((raw[..., 2].astype(np.float32) + raw[..., 1].astype(np.float32) * 256) * DEPTH_STEP_M).astype(np.float32)


def _joints(values: np.ndarray | None, file: str) -> np.ndarray | None:
    """(21, 3) in the optical frame; all but the wrist NaN where only that is given."""
    if values is None:
        return None
    joints = np.full((21, 3), np.nan)
    if np.size(values) == 3:
        joints[0] = np.asarray(values, np.float64).reshape(3)
    else:
        joints = shaped(values, (21, 3), file=file, field="handJoints3D")[FROM_MANO]
    return joints @ OPTICAL_FROM_OPENGL


def _pose(meta: dict) -> np.ndarray | None:
    if meta["objRot"] is None or meta["objTrans"] is None:
        return None
    rotation = np.asarray(meta["objRot"], np.float64)
    rotation = rotation if rotation.shape == (3, 3) else so3_exp(rotation.reshape(3))
    return make_transform(
        OPTICAL_FROM_OPENGL @ rotation, OPTICAL_FROM_OPENGL @ np.asarray(meta["objTrans"], np.float64).reshape(3)
    )


def open_ho3d(folder: Path, parts: tuple[str, ...] = ("train", "evaluation")) -> list[LabelledSequence]:
    """Every sequence of these parts, or the one that the folder itself is.

    Raises:
        InputError: none is there.
    """
    folders = sorted(p.parent for part in parts for p in folder.glob(f"{part}/*/meta"))
    folders = folders or ([folder] if (folder / "meta").is_dir() else [])
    if not folders:
        expect(folder / "train" / "SEQUENCE" / "meta", NAME, "the labels of a sequence")
    models = next((p for p in (folder / "models", folder.parent.parent / "models") if p.is_dir()), folder / "models")
    return [Ho3dSequence(f, models) for f in folders]

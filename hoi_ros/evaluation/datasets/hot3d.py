"""HOT3D clips (Banerjee et al., CVPR 2025), the user's own copy, unpacked: hands and objects from a head-worn camera.

A clip's folder holds `NNNNNN.image_STREAM.jpg`, `NNNNNN.cameras.json`, `NNNNNN.objects.json` and `NNNNNN.hands.json`;
`object_models/obj_NNNNNN.glb` lies beside the clips. Fisheye pictures (FISHEYE624 of Project Aria) are turned into
pinhole ones. Hand joints need the MANO file, so hands give their side, their visibility and the wrist alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame, TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.evaluation.datasets.files import expect, expect_any, need_fields, read_color, read_json, read_object
from hoi_ros.evaluation.datasets.records import HandLabel, LabelledFrame, LabelledSequence
from hoi_ros.geometry import invert_transform, make_transform, matrix_from_quaternion

NAME = "HOT3D"
STREAMS = ("214-1", "1201-1", "1201-2")


class Hot3dClip(LabelledSequence):
    """One clip seen by one camera; the object is the one that moves most."""

    def __init__(self, folder: Path, stream: str = "") -> None:
        """List the frames.

        Raises:
            InputError: files are missing.
        """
        labels = expect_any(folder, "*.cameras.json", NAME, "cameras (unpack the clip's tar first)")
        self._keys = [path.name.split(".")[0] for path in labels]
        streams = [s for s in STREAMS if (folder / f"{self._keys[0]}.image_{s}.jpg").exists()]
        if stream and stream not in streams:
            expect(folder / f"{self._keys[0]}.image_{stream}.jpg", NAME, "a picture of that camera")
        if not streams:
            expect(folder / f"{self._keys[0]}.image_{STREAMS[0]}.jpg", NAME, "a picture")
        self._stream = stream or streams[0]
        self.name = f"{NAME}/{folder.name}"
        self._folder = folder
        self._object = self._moving_object()

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> LabelledFrame:
        key = self._keys[index]
        camera_path = self._folder / f"{key}.cameras.json"
        cameras = read_json(camera_path)
        need_fields(cameras, (self._stream,), camera_path)
        camera = cameras[self._stream]
        need_fields(camera, ("calibration", "T_world_from_camera"), camera_path)
        picture = read_color(expect(self._folder / f"{key}.image_{self._stream}.jpg", NAME, "a picture"))
        color, intrinsics = pinhole_picture(picture, camera["calibration"], str(camera_path))
        T_camera_world = invert_transform(_transform(camera["T_world_from_camera"]))
        T_world_object = self._objects(key).get(self._object)
        pose = None if T_world_object is None else T_camera_world @ T_world_object
        frame = RgbdFrame(color, intrinsics, round(index * 1e9 / self.fps), index, name=f"{key}.{self._stream}")
        # Wrists alone do not tell whose a found hand is, so none is judged as one too many.
        return LabelledFrame(frame, self._hands(key, T_camera_world), False, pose)

    def object_mesh(self) -> TriangleMesh | None:
        if not self._object:
            return None
        name = f"obj_{int(self._object):06d}.glb" if self._object.isdigit() else f"{self._object}.glb"
        folders = [
            p / kind for p in (self._folder.parent, self._folder.parent.parent)
            for kind in ("object_models_eval", "object_models")
        ]  # fmt: skip
        return read_object(next((f / name for f in folders if (f / name).exists()), folders[1] / name), NAME)

    def _objects(self, key: str) -> dict[str, np.ndarray]:
        """Object id to T_world_object."""
        path = self._folder / f"{key}.objects.json"
        if not path.exists():
            return {}
        record, poses = read_json(path), {}
        need_fields(record, (), path)
        for name, entry in record.items():
            first = entry[0] if isinstance(entry, list) and entry else entry
            need_fields(first, ("T_world_from_object",), path)
            poses[name] = _transform(first["T_world_from_object"])
        return poses

    def _moving_object(self) -> str:
        places: dict[str, list[np.ndarray]] = {}
        for key in self._keys[:: max(1, len(self._keys) // 10)]:
            for name, pose in self._objects(key).items():
                places.setdefault(name, []).append(pose[:3, 3])
        return max(places, key=lambda n: float(np.ptp(np.array(places[n]), axis=0).sum()), default="")

    def _hands(self, key: str, T_camera_world: np.ndarray) -> tuple[HandLabel, ...]:
        path = self._folder / f"{key}.hands.json"
        hands = []
        record = read_json(path) if path.exists() else {}
        need_fields(record, (), path)
        for side, entry in record.items():
            if side not in ("left", "right") or not entry:
                continue
            joints = np.full((21, 3), np.nan)
            if "umetrack_pose" in entry:
                wrist = np.asarray(entry["umetrack_pose"]["wrist_xform"], np.float64).reshape(4, 4)
                joints[0] = (T_camera_world @ wrist)[:3, 3]
            visible = entry.get("visibilities_modeled", {}).get(self._stream, 1.0)
            hands.append(HandLabel(side, joints, visible_fraction=float(visible)))
        return tuple(hands)


def pinhole_picture(picture: np.ndarray, calibration: dict[str, Any], file: str) -> tuple[np.ndarray, CameraIntrinsics]:
    """A picture as a pinhole camera of the same focal length would take it, and that camera.

    Raises:
        InputError: unknown projection model.
    """
    need_fields(calibration, ("projection_model_type", "projection_params"), Path(file))
    kind = str(calibration["projection_model_type"]).rsplit(".", 1)[-1]
    params = np.asarray(calibration["projection_params"], np.float64)
    height, width = picture.shape[:2]
    if kind in ("PINHOLE", "LINEAR"):
        fx, fy, cx, cy = params if len(params) == 4 else (params[0], params[0], params[1], params[2])
        return picture, CameraIntrinsics(width, height, fx, fy, cx, cy)
    if kind != "FISHEYE624" or len(params) != 15:
        raise InputError(f"{file}, field 'projection_model_type': {kind} with {len(params)} numbers is unknown here")
    camera = CameraIntrinsics(width, height, params[0], params[0], (width - 1) / 2, (height - 1) / 2)
    v, u = np.mgrid[:height, :width]
    source = fisheye624(np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy], -1), params)
    return cv2.remap(
        picture, source[..., 0].astype(np.float32), source[..., 1].astype(np.float32), cv2.INTER_LINEAR
    ), camera


def fisheye624(directions: np.ndarray, params: np.ndarray) -> np.ndarray:
    """Pixels (..., 2) of directions x/z, y/z (..., 2). Source: Project Aria's description of its camera models.

    `params`: focal length, centre x y, six radial, two tangential and four thin-prism coefficients.
    """
    focal, center, radial, tangential, prism = params[0], params[1:3], params[3:9], params[9:11], params[11:15]
    radius = np.linalg.norm(directions, axis=-1, keepdims=True)
    theta = np.arctan(radius)
    bent = theta * (1 + sum(k * theta ** (2 * i + 2) for i, k in enumerate(radial)))
    xr = directions / np.maximum(radius, 1e-12) * bent
    square = (xr * xr).sum(-1, keepdims=True)
    out = xr + 2 * xr * (xr @ tangential)[..., None] + square * tangential
    out = out + square * prism[[0, 2]] + square**2 * prism[[1, 3]]
    return focal * out + center


def _transform(record: dict[str, Any]) -> np.ndarray:
    """(4, 4) of translation and quaternion, w first."""
    w, x, y, z = record["quaternion_wxyz"]
    return make_transform(
        matrix_from_quaternion(np.array([x, y, z, w], np.float64)), np.array(record["translation_xyz"])
    )


def open_hot3d(folder: Path) -> list[LabelledSequence]:
    """Every unpacked clip, or the one that the folder itself is.

    Raises:
        InputError: none is there.
    """
    if any(folder.glob("*.cameras.json")):
        return [Hot3dClip(folder)]
    clips = sorted(
        {p.parent for p in folder.glob("*/000000.cameras.json")}
        | {p.parent for p in folder.glob("*/*/000000.cameras.json")}
    )
    if not clips:
        expect_any(folder, "clip-*/000000.cameras.json", NAME, "unpacked clips")
    return [Hot3dClip(clip) for clip in clips]

"""`rgbd_realsense`: colour and depth of objects at rest, a moving camera, its poses, meshes and rough start poses.

`color/NNNN.png`, `depth/NNNN.png`, `cam.json`, `camera_poses.json` (camera_from_taggrid, row NNNN),
`models/NAME/NAME.obj` and `init/NAME.json` (4x4 rough T_camera_object in picture 0000). To a tracker of objects it is
the same whether the object moves or the camera: the true pose is the camera's motion times the rough start pose.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from hoi_ros.datatypes import RgbdFrame, TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.evaluation.checks import shaped
from hoi_ros.evaluation.datasets.files import (
    camera_of_json,
    expect,
    expect_any,
    need_fields,
    read_color,
    read_depth,
    read_json,
    read_object,
)
from hoi_ros.evaluation.datasets.records import LabelledFrame, LabelledSequence
from hoi_ros.geometry import invert_transform, project, transform_points

NAME = "rgbd_realsense"
POSES_FIELD = "camera_from_taggrid"
ITEMS = ("cube", "dragon")
"""Objects that stand on the table of this sequence; the folder has meshes of others too."""


class RestingObject(LabelledSequence):
    """One object of the table."""

    def __init__(self, folder: Path, item: str) -> None:
        """Read camera, poses and the object's start.

        Raises:
            InputError: a file is missing, or a picture's pose.
        """
        self.name = f"{NAME}/{item}"
        self._camera = camera_of_json(expect(folder / "cam.json", NAME, "the camera"))
        self._scale = float(read_json(folder / "cam.json").get("depthScale", 0.001))
        path = expect(folder / "camera_poses.json", NAME, "the camera's poses")
        record = read_json(path)
        need_fields(record, (POSES_FIELD,), path)
        self._colors = expect_any(folder / "color", "*.png", NAME, "colour pictures")
        self._depths = [expect(folder / "depth" / p.name, NAME, f"the depth of {p.name}") for p in self._colors]
        poses = shaped(record[POSES_FIELD], (-1, 4, 4), file=str(path), field=POSES_FIELD)
        start_path = expect(folder / "init" / f"{item}.json", NAME, "the start pose")
        start = shaped(read_json(start_path), (4, 4), file=str(start_path), field="start pose")
        # A picture's number is its row: a copy may lack pictures, and need not have those of all poses.
        numbers = [_number(p, len(poses), f"{path}, field '{POSES_FIELD}'") for p in self._colors]
        self._poses = poses[numbers] @ invert_transform(poses[0]) @ start
        self._mesh_path = expect(folder / "models" / item / f"{item}.obj", NAME, "the mesh")

    def __len__(self) -> int:
        return len(self._colors)

    def __getitem__(self, index: int) -> LabelledFrame:
        color, depth = read_color(self._colors[index]), read_depth(self._depths[index], self._scale)
        frame = RgbdFrame(
            color, self._camera, round(index * 1e9 / self.fps), index, depth, name=self._colors[index].name
        )
        return LabelledFrame(frame, T_camera_object=self._poses[index])

    def object_mesh(self) -> TriangleMesh:
        return read_object(self._mesh_path, NAME)

    def first_mask(self) -> np.ndarray:
        pixels = project(transform_points(self._poses[0], self.object_mesh().vertices.astype(np.float64)), self._camera)
        hull = cv2.convexHull(np.round(pixels).astype(np.int32))
        return cv2.fillConvexPoly(np.zeros((self._camera.height, self._camera.width), np.uint8), hull, 1) > 0


def _number(picture: Path, count: int, poses: str) -> int:
    """Row of the poses that belongs to a picture."""
    if not picture.stem.isdecimal():
        raise InputError(f"{NAME}: {picture} has no number as its name, so no pose; expected 0000.png, ...")
    if int(picture.stem) >= count:
        raise InputError(f"{poses}: {count} poses, and none for {picture.name}; expected one for each number")
    return int(picture.stem)


def open_rgbd_realsense(folder: Path) -> list[LabelledSequence]:
    """Both objects.

    Raises:
        InputError: a file is missing.
    """
    return [RestingObject(folder, item) for item in ITEMS]

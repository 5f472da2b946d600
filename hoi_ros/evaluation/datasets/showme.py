"""SHOWMe (Swamy et al., ICCV workshops 2023), the user's own copy: a hand holds a thing rigidly and turns it.

`SEQUENCE/rgb/NNNNNNNNNN.png`, `icp_res/NNNNNNNNNN/f_trans.txt` (4x4, frame to scan), `gt_mesh/obj_mesh/objmesh.obj`,
`gt_mesh/mano_mesh/mano.obj`; depth as pointmaps in `SHOWMe_depth/SEQUENCE/depth/NNNNNNNNNN.xyz.npz` beside the root.
The camera's intrinsics are not part of it: put a `cam.json` into the sequence or the root, else they are guessed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame, TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.evaluation.datasets.files import (
    camera_of_json,
    expect,
    expect_any,
    read_color,
    read_matrix,
    read_mesh,
    read_npz,
    read_object,
)
from hoi_ros.evaluation.datasets.records import HandLabel, LabelledFrame, LabelledSequence
from hoi_ros.geometry import invert_transform, transform_points

NAME = "SHOWMe"


class ShowMeSequence(LabelledSequence):
    """One film; the object's frame is the scan's."""

    def __init__(self, folder: Path) -> None:
        """List pictures and read the hand's scan.

        Raises:
            InputError: a file is missing.
        """
        self.name = f"{NAME}/{folder.name}"
        self._folder = folder
        self._images = expect_any(folder / "rgb", "*.png", NAME, "colour pictures")
        self._mesh_path = expect(folder / "gt_mesh" / "obj_mesh" / "objmesh.obj", NAME, "the object's scan")
        expect(folder / "icp_res", NAME, "the poses")
        hand = folder / "gt_mesh" / "mano_mesh" / "mano.obj"
        self._hand = read_mesh(hand) if hand.exists() else None
        cameras = [p / "cam.json" for p in (folder, folder.parent) if (p / "cam.json").exists()]
        self._camera = camera_of_json(cameras[0]) if cameras else None
        roots = (folder.parent.parent / "SHOWMe_depth", folder.parent)
        self._depth = next((d for r in roots if (d := r / folder.name / "depth").is_dir()), None)
        self.depth_place = str(self._depth or roots[0] / folder.name / "depth") + "/NNNNNNNNNN.xyz.npz"

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> LabelledFrame:
        path = self._images[index]
        color = read_color(path)
        camera = self._camera or CameraIntrinsics.from_fov(color.shape[1], color.shape[0])
        pose_path = self._folder / "icp_res" / path.stem / "f_trans.txt"
        pose = invert_transform(read_matrix(pose_path, (4, 4))) if pose_path.exists() else None
        depth = None if self._depth is None else _depth(self._depth / f"{path.stem}.xyz.npz", color.shape)
        hands: tuple[HandLabel, ...] = ()
        if self._hand is not None and pose is not None:
            hands = (HandLabel(vertices_camera=transform_points(pose, self._hand.vertices.astype(np.float64))),)
        frame = RgbdFrame(color, camera, round(index * 1e9 / self.fps), index, depth, name=path.name)
        return LabelledFrame(frame, hands, T_camera_object=pose)

    def hand_faces(self) -> np.ndarray | None:
        return None if self._hand is None else self._hand.faces

    def object_mesh(self) -> TriangleMesh:
        return read_object(self._mesh_path, NAME)


def _depth(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """z of a pointmap; None where the frame has none."""
    if not path.exists():
        return None
    arrays = [a for a in read_npz(path).values() if a.size == 3 * shape[0] * shape[1]]
    if not arrays:
        raise InputError(f"{path}: no array holds {shape[0]} x {shape[1]} x 3 numbers")
    return np.nan_to_num(arrays[0].reshape(*shape[:2], 3)[..., 2]).astype(np.float32)


def open_showme(folder: Path) -> list[LabelledSequence]:
    """Every sequence, or the one that the folder itself is.

    Raises:
        InputError: none is there, or files are missing.
    """
    if (folder / "icp_res").is_dir():
        return [ShowMeSequence(folder)]
    return [ShowMeSequence(p.parent) for p in expect_any(folder, "*/icp_res", NAME, "sequences")]

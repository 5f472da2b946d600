"""YCBInEOAT (Wen et al., IROS 2020), the user's own copy: a robot moves YCB objects before a camera at rest.

`SEQUENCE/rgb/*.png`, `depth/*.png` (mm), `cam_K.txt`, `annotated_poses/*.txt` (4x4 T_camera_object), `gt_mask/*.png`;
YCB-Video meshes `models/YCB_ID/textured_simple.obj` in the root.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hoi_ros.datatypes import RgbdFrame, TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.evaluation.checks import require_same_length
from hoi_ros.evaluation.datasets.files import (
    expect,
    expect_any,
    intrinsics_of,
    read_color,
    read_depth,
    read_matrix,
    read_object,
    read_raw,
)
from hoi_ros.evaluation.datasets.records import LabelledFrame, LabelledSequence

NAME = "YCBInEOAT"
OBJECTS = {
    "bleach": "021_bleach_cleanser",
    "cracker": "003_cracker_box",
    "mustard": "006_mustard_bottle",
    "sugar": "004_sugar_box",
    "tomato": "005_tomato_soup_can",
}
"""Object of the sequences whose name begins so."""
NAMES = ", ".join(OBJECTS)


class YcbInEoatSequence(LabelledSequence):
    """One film."""

    def __init__(self, folder: Path) -> None:
        """List the files.

        Raises:
            InputError: something is missing, or counts differ.
        """
        self.name = f"{NAME}/{folder.name}"
        self._folder = folder
        self._colors = expect_any(folder / "rgb", "*.png", NAME, "colour pictures")
        self._poses = expect_any(folder / "annotated_poses", "*.txt", NAME, "the poses")
        require_same_length({"rgb": len(self._colors), "annotated_poses": len(self._poses)}, file=str(folder))
        self._matrix = read_matrix(expect(folder / "cam_K.txt", NAME, "the camera"), (3, 3))

    def __len__(self) -> int:
        return len(self._colors)

    def __getitem__(self, index: int) -> LabelledFrame:
        path = self._colors[index]
        color = read_color(path)
        depth = read_depth(expect(self._folder / "depth" / path.name, NAME, f"the depth of {path.name}"))
        frame = RgbdFrame(
            color, intrinsics_of(self._matrix, color), round(index * 1e9 / self.fps), index, depth, name=path.name
        )
        pose = read_matrix(self._poses[index], (4, 4))
        return LabelledFrame(frame, (), True, pose, self._mask(path.name))

    def object_mesh(self) -> TriangleMesh:
        name = self._folder.name
        item = next((v for k, v in OBJECTS.items() if name.startswith(k)), None)
        if item is None:
            raise InputError(f"{self.name}: its object is not known; begin the folder's name with one of {NAMES}")
        own, beside = (root / "models" / item / "textured_simple.obj" for root in (self._folder, self._folder.parent))
        return read_object(own if own.exists() else beside, NAME)

    def first_mask(self) -> np.ndarray | None:
        return self._mask(self._colors[0].name)

    def _mask(self, name: str) -> np.ndarray | None:
        path = self._folder / "gt_mask" / name
        if not path.exists():
            return None
        mask = read_raw(path) > 0
        return np.asarray(mask.any(-1)) if mask.ndim == 3 else mask


def open_ycbineoat(folder: Path) -> list[LabelledSequence]:
    """Every sequence, or the one that the folder itself is.

    Raises:
        InputError: none is there, or files are missing.
    """
    if (folder / "annotated_poses").is_dir():
        return [YcbInEoatSequence(folder)]
    return [YcbInEoatSequence(p.parent) for p in expect_any(folder, "*/annotated_poses", NAME, "sequences")]

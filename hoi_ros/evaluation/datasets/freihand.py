"""FreiHAND (Zimmermann et al., ICCV 2019), the user's own copy: 224x224 photos of one right hand each.

`SPLIT/rgb/NNNNNNNN.jpg` beside `SPLIT_K.json`, `SPLIT_xyz.json` (21 joints, metres) and `SPLIT_verts.json` (778 MANO
vertices). The training split has four versions of each photo under one label.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hoi_ros.datatypes import RgbdFrame
from hoi_ros.evaluation.checks import (
    require_metres,
    require_rows,
    require_same_length,
    require_vertices_at_joints,
    shaped,
)
from hoi_ros.evaluation.datasets.files import expect, expect_any, intrinsics_of, read_color, read_json
from hoi_ros.evaluation.datasets.records import HandLabel, LabelledFrame, LabelledSequence

NAME = "FreiHAND"
SPLITS = ("evaluation", "training")


class FreiHand(LabelledSequence):
    """One split."""

    independent_frames, fills_picture = True, True

    def __init__(self, folder: Path, split: str = "evaluation") -> None:
        """Read the labels.

        Raises:
            InputError: a file is missing or lengths differ.
        """
        self.name = f"{NAME}/{split}"
        self._images = expect_any(folder / split / "rgb", "*.jpg", NAME, "the pictures")
        paths = {k: folder / f"{split}_{k}.json" for k in ("K", "xyz", "verts")}
        for kind in ("K", "xyz"):
            expect(paths[kind], NAME, f"the labels '{kind}'")
        self._cameras = self._read(paths["K"], "K", (3, 3))
        self._joints = self._read(paths["xyz"], "xyz", (21, 3))
        counts = {"K": len(self._cameras), "xyz": len(self._joints)}
        require_metres(self._joints, file=str(paths["xyz"]), field="xyz", fixed=True)
        self._vertices: np.ndarray | None = None
        if paths["verts"].exists():
            self._vertices = self._read(paths["verts"], "verts", (-1, 3))
            counts["verts"] = len(self._vertices)
        require_same_length(counts, file=str(folder))
        if self._vertices is not None:
            require_vertices_at_joints(self._vertices, self._joints, file=str(paths["verts"]), field="verts")

    @staticmethod
    def _read(path: Path, field: str, shape: tuple[int, ...]) -> np.ndarray:
        """Labels (N, *shape), one at least."""
        rows = read_json(path)
        require_rows(len(rows) if isinstance(rows, list) else 1, file=str(path), field=field)
        return shaped(rows, (-1, *shape), file=str(path), field=field)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> LabelledFrame:
        path = self._images[index]
        row, color = int(path.stem) % len(self._joints), read_color(path)
        frame = RgbdFrame(color, intrinsics_of(self._cameras[row], color), index, index, name=path.name)
        vertices = None if self._vertices is None else self._vertices[row].astype(np.float32)
        return LabelledFrame(frame, (HandLabel("right", self._joints[row], None, vertices),), all_hands_labelled=True)


def open_freihand(folder: Path) -> list[LabelledSequence]:
    """The evaluation split, or the training split where the copy has no other."""
    split = next((s for s in SPLITS if (folder / f"{s}_xyz.json").exists()), SPLITS[0])
    return [FreiHand(folder, split)]

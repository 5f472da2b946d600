"""What `./hoi simulate` writes: the `rgbd:` layout with exact truth.

`color/*.png`, `depth/*.png`, `cam.json`, `masks/*.png` (label of each pixel's surface), `truth.npz` (see `truth_file`)
and `meshes/NAME.ply`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hoi_ros.datatypes import LABEL_LEFT_HAND, LABEL_RIGHT_HAND, RgbdFrame, TriangleMesh
from hoi_ros.evaluation.checks import (
    require_metres,
    require_places,
    require_rows,
    require_same_length,
    require_vertices_at_joints,
)
from hoi_ros.evaluation.datasets.files import (
    camera_of_json,
    expect,
    expect_any,
    read_color,
    read_depth,
    read_json,
    read_object,
    read_raw,
)
from hoi_ros.evaluation.datasets.records import HandLabel, LabelledFrame, LabelledSequence
from hoi_ros.truth_file import TRUTH_NAME, read_truth

NAME = "simulated"


class SimulatedFolder(LabelledSequence):
    """One simulated film; the object is the first one that is held."""

    def __init__(self, folder: Path) -> None:
        """Read the truth and list the pictures.

        Raises:
            InputError: a file is missing, or counts differ.
        """
        self.name = f"{NAME}/{folder.name}"
        self._folder = folder
        self._truth = read_truth(expect(folder / TRUTH_NAME, NAME, "the truth"))
        self._check(str(folder / TRUTH_NAME))
        self._colors = expect_any(folder / "color", "*.png", NAME, "colour pictures")
        self._depths = expect_any(folder / "depth", "*.png", NAME, "depth pictures")
        counts = {"frame": len(self._truth.frame), "color": len(self._colors), "depth": len(self._depths)}
        require_same_length(counts, file=str(folder))
        self._camera = camera_of_json(expect(folder / "cam.json", NAME, "the camera"))
        self._scale = float(read_json(folder / "cam.json").get("depthScale", 0.001))
        steps = np.diff(self._truth.stamp_ns)
        self.fps = 1e9 / float(np.median(steps)) if len(steps) and np.median(steps) > 0 else 30.0
        held = np.flatnonzero(self._truth.object_held)
        self._object = int(held[0]) if len(held) else None

    def _check(self, file: str) -> None:
        """Refuse an empty film and lengths in another unit."""
        truth = self._truth
        require_rows(len(truth.frame), file=file, field="frame")
        require_metres(truth.joints_camera_m, file=file, field="joints_camera_m", fixed=True)
        require_vertices_at_joints(truth.vertices_camera_m, truth.joints_camera_m, file=file, field="vertices_camera_m")
        places = truth.T_camera_object[..., :3, 3].reshape(-1, 3)
        require_places(places, file=file, field="T_camera_object", fixed=True)

    def __len__(self) -> int:
        return len(self._colors)

    def __getitem__(self, index: int) -> LabelledFrame:
        truth = self._truth
        color, depth = read_color(self._colors[index]), read_depth(self._depths[index], self._scale)
        frame = RgbdFrame(color, self._camera, int(truth.stamp_ns[index]), index, depth, name=self._colors[index].name)
        hands = tuple(
            HandLabel(
                str(truth.handedness[row]), truth.joints_camera_m[row].astype(np.float64), None,
                truth.vertices_camera_m[row], float(truth.visible_fraction[row]),
            )
            for row in np.flatnonzero(truth.hand_row == index)
        )  # fmt: skip
        labels = self._labels(index)
        pose = object_mask = hand_mask = None
        if self._object is not None:
            pose = truth.T_camera_object[index, self._object]
        if labels is not None:
            hand_mask = (labels == LABEL_LEFT_HAND) | (labels == LABEL_RIGHT_HAND)
            if self._object is not None:
                object_mask = labels == truth.object_labels[self._object]
        return LabelledFrame(frame, hands, True, pose, object_mask, hand_mask)

    def hand_faces(self) -> np.ndarray:
        return self._truth.faces

    def object_mesh(self) -> TriangleMesh | None:
        if self._object is None:
            return None
        name = str(self._truth.object_names[self._object])
        return read_object(self._folder / "meshes" / f"{name}.ply", NAME)

    def _labels(self, index: int) -> np.ndarray | None:
        path = self._folder / "masks" / self._colors[index].name
        return read_raw(path) if path.exists() else None


def open_simulated(folder: Path) -> list[LabelledSequence]:
    """The film in the folder, or every one below it.

    Raises:
        InputError: none is there, or files are missing.
    """
    if (folder / TRUTH_NAME).exists():
        return [SimulatedFolder(folder)]
    return [SimulatedFolder(path.parent) for path in expect_any(folder, f"*/{TRUTH_NAME}", NAME, "simulated films")]

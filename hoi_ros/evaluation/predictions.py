"""What `./hoi run` wrote, checked and laid beside the labels of the film it was run on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hoi_ros.datatypes import TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.evaluation.checks import (
    metres_of,
    require_extent,
    require_finite,
    require_metres,
    require_places,
    require_rows,
    require_same_length,
    require_sides,
    require_vertices_at_joints,
    shaped,
    whole_numbers,
)
from hoi_ros.evaluation.datasets.files import expect, need_fields, read_mesh, read_npz
from hoi_ros.geometry import make_transform, matrix_from_quaternion

FILES = ("hands.npz", "object_poses.txt", "object.ply")
TUM_LINE = "stamp tx ty tz qx qy qz qw"
HAND_FIELDS = ("frame", "handedness", "track_id", "joints_camera_m", "joints_px")


@dataclass(frozen=True)
class HandRows:
    """Rows of `hands.npz`, one a found hand."""

    frame: np.ndarray
    """(R,) int."""
    handedness: np.ndarray
    """(R,) 'left' or 'right'."""
    track_id: np.ndarray
    """(R,) int."""
    joints_camera: np.ndarray
    """(R, 21, 3) metres."""
    joints_px: np.ndarray
    """(R, 21, 2)."""
    vertices_camera: np.ndarray | None = None
    """(R, V, 3) metres; None where the file has no meshes."""
    faces: np.ndarray | None = None
    """(F, 3) of a right hand; a left one has the same triangles turned round."""

    def faces_of(self, row: int) -> np.ndarray:
        """(F, 3) triangles of a row's mesh, wound outwards."""
        assert self.faces is not None
        return self.faces if self.handedness[row] == "right" else np.ascontiguousarray(self.faces[:, ::-1])


@dataclass(frozen=True)
class Predictions:
    """What a folder of results holds; None for what is not there."""

    folder: Path
    hands: HandRows | None
    stamps_s: np.ndarray | None
    """(P,) of the object poses."""
    T_camera_object: np.ndarray | None
    """(P, 4, 4)."""
    mesh: TriangleMesh | None

    def poses_at(self, stamps_s: np.ndarray) -> np.ndarray:
        """Poses (N, 4, 4) of frames by stamp, NaN where there is none.

        Raises:
            InputError: no pose belongs to any frame: the results are of another film.
        """
        out = np.full((len(stamps_s), 4, 4), np.nan)
        if self.stamps_s is None or self.T_camera_object is None:
            return out
        nearest = np.abs(self.stamps_s[:, None] - stamps_s[None]).argmin(1)
        close = np.abs(self.stamps_s - stamps_s[nearest]) < 2e-3
        if not close.any():
            raise InputError(
                f"{self.folder / 'object_poses.txt'}, field 'stamp': {self.stamps_s[0]:.3f} to {self.stamps_s[-1]:.3f}"
                f" fit no frame of the data ({stamps_s[0]:.3f} to {stamps_s[-1]:.3f}, seconds)"
            )
        out[nearest[close]] = self.T_camera_object[close]
        return out


def read_predictions(folder: Path, units: str = "m", wanted: Collection[str] = FILES) -> Predictions:
    """Read those of `hands.npz`, `object_poses.txt` and `object.ply` that are wanted and there.

    Args:
        folder: as `./hoi run --out` wrote it, or another program in the same form.
        units: of the lengths in it: m, cm or mm.
        wanted: names of the files to read; what is wrong with others does not matter.

    Raises:
        InputError: nothing is there, or a wanted file is empty, of other lengths, units or form; names file and field.
    """
    expect(folder, "results", "a folder that './hoi run --out' wrote")
    hands_path, poses_path, mesh_path = (folder / name for name in FILES)
    if not hands_path.exists() and not poses_path.exists():
        raise InputError(f"results: expected hands.npz or object_poses.txt in {folder}, and neither is there")
    reads = {path for path in (hands_path, poses_path, mesh_path) if path.name in wanted and path.exists()}
    hands = _hands(hands_path, units) if hands_path in reads else None
    stamps, poses = _poses(poses_path, units) if poses_path in reads else (None, None)
    return Predictions(folder, hands, stamps, poses, _mesh(mesh_path, units) if mesh_path in reads else None)


def _mesh(path: Path, units: str) -> TriangleMesh:
    mesh = read_mesh(path)
    require_rows(len(mesh.faces), file=str(path), field="faces")
    vertices = metres_of(mesh.vertices, units, file=str(path), field="vertices")
    mesh = TriangleMesh(vertices.astype(np.float32), mesh.faces, mesh.colors)
    require_extent(mesh, file=str(path), field="vertices", unit=units)
    return mesh


def _hands(path: Path, units: str) -> HandRows:
    data = read_npz(path)
    need_fields(data, HAND_FIELDS, path)
    for name in HAND_FIELDS:
        if not data[name].ndim:
            raise InputError(f"{path}, field '{name}': one value, expected a row for each hand")
    require_rows(len(data["frame"]), file=str(path), field="frame")
    require_same_length({name: len(data[name]) for name in HAND_FIELDS}, file=str(path))
    for name, shape in (("joints_camera_m", (21, 3)), ("joints_px", (21, 2))):
        shaped(data[name], (-1, *shape), file=str(path), field=name)
    joints = metres_of(data["joints_camera_m"], units, file=str(path), field="joints_camera_m")
    require_metres(joints, file=str(path), field="joints_camera_m", unit=units)
    require_sides(data["handedness"], file=str(path), field="handedness")
    frame, track = (whole_numbers(data[name], file=str(path), field=name) for name in ("frame", "track_id"))
    vertices, faces = _meshes(data, joints, units, path)
    return HandRows(
        frame,
        data["handedness"],
        track,
        joints,
        data["joints_px"].astype(np.float64),
        vertices,
        faces,
    )


def _meshes(
    data: Mapping[str, np.ndarray], joints: np.ndarray, units: str, path: Path
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Vertices (R, V, 3) in metres and triangles (F, 3) of the hands, where the file has both."""
    if "vertices_camera_m" not in data or "faces" not in data:
        return None, None
    vertices, faces = data["vertices_camera_m"], data["faces"]
    require_same_length({"frame": len(joints), "vertices_camera_m": len(vertices)}, file=str(path))
    vertices = shaped(vertices, (-1, -1, 3), file=str(path), field="vertices_camera_m")
    if (
        faces.dtype.kind not in "iu"
        or faces.ndim != 2
        or faces.shape[1] != 3
        or faces.min(initial=0) < 0
        or faces.max(initial=0) >= vertices.shape[1]
    ):
        raise InputError(f"{path}, field 'faces': expected (F, 3) numbers of the {vertices.shape[1]} vertices")
    vertices = metres_of(vertices, units, file=str(path), field="vertices_camera_m")
    require_finite(vertices, file=str(path), field="vertices_camera_m")
    require_vertices_at_joints(vertices, joints, file=str(path), field="vertices_camera_m")
    return vertices, faces


def _poses(path: Path, units: str) -> tuple[np.ndarray, np.ndarray]:
    """Stamps and poses of TUM lines."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}; expected lines of {TUM_LINE}") from error
    rows = [_pose(line, f"{path}, line {n}") for n, line in enumerate(lines, 1) if line.strip()[:1] not in ("", "#")]
    require_rows(len(rows), file=str(path), field="pose lines")
    values = np.array(rows)
    offsets = metres_of(values[:, 1:4], units, file=str(path), field="tx ty tz")
    require_places(offsets, file=str(path), field="tx ty tz", unit=units)
    return values[:, 0], make_transform(matrix_from_quaternion(values[:, 4:]), offsets)


def _pose(line: str, place: str) -> list[float]:
    """Eight numbers of a line; those of a lost pose may be NaN."""
    try:
        values = [float(word) for word in line.split()]
    except ValueError as error:
        raise InputError(f"{place}: {error}; expected 8 numbers a line: {TUM_LINE}") from error
    if len(values) != 8:
        raise InputError(f"{place}: {len(values)} numbers, expected 8 numbers a line: {TUM_LINE}")
    if not np.isfinite(values[0]) or not any(values[4:]):
        raise InputError(f"{place}: the stamp is not finite or the quaternion is 0; expected {TUM_LINE}")
    return values

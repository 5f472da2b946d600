"""Reading the files of data sets; what is missing is named with the data set that expects it."""

from __future__ import annotations

import io
import json
import pickle
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame, TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.evaluation.checks import require_extent, require_finite

MESH_SUFFIXES = (".obj", ".ply", ".glb", ".stl")


def expect(path: Path, dataset: str, what: str) -> Path:
    """The path itself, which must exist.

    Raises:
        InputError: it does not; the message names data set, path and what should be there.
    """
    if not path.exists():
        raise InputError(f"{dataset}: expected {what} at {path}, and nothing is there; give the folder that holds it")
    return path


def expect_any(folder: Path, pattern: str, dataset: str, what: str) -> list[Path]:
    """Files below `folder` that match a glob pattern, sorted; at least one.

    Raises:
        InputError: none matches.
    """
    found = sorted(folder.glob(pattern)) if folder.is_dir() else []
    if not found:
        raise InputError(f"{dataset}: expected {what} at {folder / pattern}, and nothing is there")
    return found


def read_color(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB.

    Raises:
        InputError: no readable picture.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise InputError(f"picture {path} cannot be read")
    return np.ascontiguousarray(picture[..., ::-1])


def read_photo(path: Path, index: int, name: str = "") -> RgbdFrame:
    """A photo by an unknown camera: a usual field of view is taken for its own.

    Raises:
        InputError: no readable picture.
    """
    color = read_color(path)
    camera = CameraIntrinsics.from_fov(color.shape[1], color.shape[0])
    return RgbdFrame(color, camera, index, index, name=name or path.name)


def read_raw(path: Path) -> np.ndarray:
    """A picture as it is stored: depth, masks.

    Raises:
        InputError: no readable picture.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise InputError(f"picture {path} cannot be read")
    return picture


def read_depth(path: Path, scale_m: float = 0.001) -> np.ndarray:
    """(H, W) float32 metres of a 16-bit picture.

    Raises:
        InputError: no readable picture of one 16-bit channel.
    """
    raw = read_raw(path)
    if raw.dtype != np.uint16 or raw.ndim != 2:
        raise InputError(f"depth {path} is {raw.dtype} {raw.shape}: expected one channel of 16 bits")
    return raw.astype(np.float32) * np.float32(scale_m)


def read_json(path: Path) -> Any:
    """Parsed JSON.

    Raises:
        InputError: unreadable or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error


def read_matrix(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of a text file in a given shape.

    Raises:
        InputError: unreadable, or another count of numbers.
    """
    try:
        return np.loadtxt(path, dtype=np.float64).reshape(shape)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected {' x '.join(map(str, shape))} numbers ({error})") from error


class _PlainUnpickler(pickle.Unpickler):
    """Numbers, text, lists and arrays only: a data set's pickle may not run code."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if module == "_codecs" and name == "encode":
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it wants to load {module}.{name}, which no label needs")


def read_pickle(path: Path) -> Any:
    """Labels pickled by Python 2 or 3, without running anything.

    Raises:
        InputError: unreadable, or it holds more than numbers and text.
    """
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    # What damaged pickles make the reader raise.
    except (
        OSError,
        pickle.UnpicklingError,
        EOFError,
        AttributeError,
        ImportError,
        ValueError,
        LookupError,
        TypeError,
    ) as error:
        raise InputError(f"{path} cannot be read as labels: {one_line(error)}") from error


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an NPZ file.

    Raises:
        InputError: unreadable, empty or cut short.
    """
    try:
        data = np.load(path, allow_pickle=False)
        if not isinstance(data, np.lib.npyio.NpzFile):
            raise ValueError("one array, not an archive of named ones")
        with data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, BadZipFile, NotImplementedError, zlib.error) as error:
        raise InputError(f"{path} cannot be read as NPZ: {one_line(error)}; write or copy it again") from error


def one_line(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def need_fields(record: Any, names: tuple[str, ...], path: Path) -> None:
    """Refuse a record without some field.

    Raises:
        InputError: names file and field.
    """
    if not isinstance(record, Mapping):
        raise InputError(f"{path}: expected fields {', '.join(names)}, found {type(record).__name__}")
    missing = [name for name in names if name not in record]
    if missing:
        raise InputError(f"{path}: field '{missing[0]}' is missing; there are {', '.join(map(str, list(record)[:12]))}")


def read_mesh(path: Path) -> TriangleMesh:
    """A mesh file in metres, with colours at its vertices where it has any.

    Raises:
        InputError: unreadable, without triangles, or not all its numbers are finite.
    """
    import trimesh

    try:
        raw: Any = trimesh.load(path, force="mesh", process=False)
        body: Any = trimesh.load(path, force="mesh")
    # What the parsers of trimesh raise on damaged files of every kind.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, NotImplementedError, EOFError) as error:
        raise InputError(f"mesh {path} cannot be read: {one_line(error)}; write or copy it again") from error
    # The second reading leaves out vertices that are not finite, and says nothing of it.
    require_finite(np.asarray(raw.vertices), file=f"mesh {path}", field="vertices")
    if not len(body.faces):
        raise InputError(f"mesh {path}, field 'faces': it holds no triangle; write or copy it again")
    if body.faces.min() < 0 or body.faces.max() >= len(body.vertices):
        raise InputError(f"mesh {path}, field 'faces': they name vertices that are not there; write it again")
    colors = None
    if hasattr(body.visual, "to_color"):
        body.visual = body.visual.to_color()
    if getattr(body.visual, "kind", None) == "vertex":
        colors = np.asarray(body.visual.vertex_colors)[:, :3].astype(np.uint8)
    return TriangleMesh(np.asarray(body.vertices, np.float32), np.asarray(body.faces, np.int32), colors)


def read_object(path: Path, dataset: str) -> TriangleMesh:
    """A data set's mesh of its object.

    Raises:
        InputError: it is missing, unreadable or not in metres.
    """
    mesh = read_mesh(expect(path, dataset, "the object's mesh"))
    require_extent(mesh, file=str(path), field="vertices", fixed=True)
    return mesh


def intrinsics_of(matrix: np.ndarray, color: np.ndarray) -> CameraIntrinsics:
    """Camera of a 3x3 K and a picture of its size."""
    k = np.asarray(matrix, np.float64).reshape(3, 3)
    height, width = color.shape[:2]
    return CameraIntrinsics(width, height, float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]))


def camera_of_json(path: Path) -> CameraIntrinsics:
    """Camera of a `cam.json` with w, h, px, py, u0, v0 or width, height, fx, fy, cx, cy.

    Raises:
        InputError: a field is missing.
    """
    record = read_json(path)
    old = ("w", "h", "px", "py", "u0", "v0")
    names = old if "px" in record else ("width", "height", "fx", "fy", "cx", "cy")
    need_fields(record, names, path)
    width, height, fx, fy, cx, cy = (float(record[name]) for name in names)
    return CameraIntrinsics(int(width), int(height), fx, fy, cx, cy)

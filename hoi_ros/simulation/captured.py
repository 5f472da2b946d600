"""Files of captured grasps: for every sequence 21 joints of a left hand and the pose of what it takes, no pictures.

`FILE.npz` holds `KEY/joints21` (T, 21, 3) metres, `KEY/obj_quat_xyzw` (T, 4) and `KEY/obj_trans` (T, 3) metres in one
camera-like frame at 30 Hz; `index.csv` beside it names the object of each `sequence` (its '/' is '__' in KEY).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from hoi_ros.errors import InputError
from hoi_ros.geometry import make_transform, matrix_from_quaternion
from hoi_ros.simulation.surface import SimObject

CAPTURE_HZ = 30.0
MESH_FOLDER = "objects_ycb"


@dataclass(frozen=True)
class CapturedGrasp:
    """One sequence of T frames in the frame in which it was captured."""

    key: str
    object_name: str
    """Such as '003_cracker_box'."""
    joints: np.ndarray
    """(T, 21, 3) metres, left hand; NaN where it was not seen."""
    T_capture_object: np.ndarray
    """(T, 4, 4)."""


def read_capture(text: str, seed: int) -> CapturedGrasp:
    """Read `FILE.npz`, `FILE.npz#12` or `FILE.npz#part-of-key`; without a choice the seed picks one.

    Raises:
        InputError: missing or damaged file, no such sequence, or arrays that do not fit together.
    """
    name, _, choice = text.partition("#")
    path = Path(name).expanduser()
    try:
        with np.load(path, allow_pickle=False) as archive:
            keys = sorted(item.removesuffix("/joints21") for item in archive.files if item.endswith("/joints21"))
            if not keys:
                raise InputError(f"captured grasps {path}: no KEY/joints21 inside; see docs/simulator.md")
            key = _choose(keys, choice, seed, path)
            joints = archive[f"{key}/joints21"].astype(np.float64)
            quaternions = archive[f"{key}/obj_quat_xyzw"].astype(np.float64)
            places = archive[f"{key}/obj_trans"].astype(np.float64)
    except FileNotFoundError as error:
        raise InputError(f"captured grasps {path}: no such file; check the path") from error
    except InputError:
        raise
    except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"captured grasps {path} cannot be read ({error}); see docs/simulator.md") from error
    count = len(joints)
    if joints.shape != (count, 21, 3) or quaternions.shape != (count, 4) or places.shape != (count, 3) or count < 2:
        raise InputError(
            f"captured grasps {path}: '{key}' has joints21 {joints.shape}, obj_quat_xyzw {quaternions.shape} and "
            f"obj_trans {places.shape}; expected (T, 21, 3), (T, 4) and (T, 3) with T > 1"
        )
    joints[(np.abs(joints) < 1e-9).all((1, 2)) | (joints == -1).all((1, 2))] = np.nan
    if not np.isfinite(joints).all((1, 2)).any():
        raise InputError(f"captured grasps {path}: '{key}' shows no hand in any frame; choose another")
    poses = make_transform(matrix_from_quaternion(quaternions), places)
    return CapturedGrasp(key, _object_of(path.parent / "index.csv", key), joints, poses)


def list_captures(path: Path) -> list[tuple[int, str]]:
    """Number (as in `FILE.npz#NUMBER`) and object's name of every sequence of a file.

    Raises:
        InputError: missing or damaged file or index.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            keys = sorted(item.removesuffix("/joints21") for item in archive.files if item.endswith("/joints21"))
    except FileNotFoundError as error:
        raise InputError(f"captured grasps {path}: no such file; check the path") from error
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"captured grasps {path} cannot be read ({error}); see docs/simulator.md") from error
    objects = _objects_by_key(path.parent / "index.csv")
    return [(number, objects[key]) for number, key in enumerate(keys) if key in objects]


def _choose(keys: list[str], choice: str, seed: int, path: Path) -> str:
    if not choice:
        return keys[int(np.random.default_rng([seed, 907]).integers(len(keys)))]
    if choice.isdecimal() and int(choice) < len(keys):
        return keys[int(choice)]
    found = [key for key in keys if choice.replace("/", "__") in key]
    if len(found) != 1 or choice.isdecimal():
        what = "no sequence" if not found or choice.isdecimal() else f"{len(found)} sequences"
        raise InputError(f"captured grasps {path}: {what} '#{choice}'; give #0 to #{len(keys) - 1} or a whole key")
    return found[0]


def _object_of(path: Path, key: str) -> str:
    objects = _objects_by_key(path)
    if key not in objects:
        raise InputError(f"{path} does not name the object of sequence '{key}'")
    return objects[key]


def _objects_by_key(path: Path) -> dict[str, str]:
    """Key of every sequence to its object's name, by the index beside the grasps."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["sequence"].replace("/", "__"): row["object"] for row in csv.DictReader(file)}
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}): it must name sequence and object of each grasp") from error


def find_mesh(grasps: Path, object_name: str, asked: str) -> str:
    """Path of the mesh of a captured object.

    Args:
        grasps: file of the grasps.
        object_name: such as '003_cracker_box'.
        asked: mesh file, folder of meshes, or '' for `objects_ycb` beside the grasps' folder.

    Raises:
        InputError: there is none; the message says where one was sought.
    """
    place = Path(asked).expanduser() if asked else grasps.expanduser().parent.parent / MESH_FOLDER
    if place.is_file() or (asked and not place.is_dir()):
        return asked
    bare = object_name.lstrip("0123456789").lstrip("_")
    for name in (object_name, bare):
        for suffix in (".glb", ".obj", ".ply"):
            for path in (place / f"{name}{suffix}", place / name / f"textured{suffix}"):
                if path.is_file():
                    return str(path)
    raise InputError(
        f"no mesh of '{object_name}' in {place}: give its file or a folder that holds {bare}.glb with --objects"
    )


def support_plane(item: SimObject, grasp: CapturedGrasp) -> np.ndarray:
    """(4,) plane n.x + d = 0 of the table in the captured frame, n upwards.

    The face of the thing's hull on which it rests at first, such that nothing ever reaches below it, the lift leads
    away from it, and up is up in the camera as far as these leave a choice.
    """
    import trimesh

    hull = trimesh.convex.convex_hull(item.vertices)
    normals, areas = _facets(hull)
    T_rest = grasp.T_capture_object[0]
    outward = normals @ T_rest[:3, :3].T
    corners = np.asarray(hull.vertices)
    resting = corners @ T_rest[:3, :3].T + T_rest[:3, 3]
    moved = np.concatenate([corners[::4] @ T[:3, :3].T + T[:3, 3] for T in grasp.T_capture_object[::4]])
    hand = grasp.joints[np.isfinite(grasp.joints).all((1, 2))].reshape(-1, 3)
    lift = grasp.T_capture_object[:, :3, 3] - T_rest[:3, 3]
    lift = lift[np.linalg.norm(lift, axis=1).argmax()]
    lift = lift / max(np.linalg.norm(lift), 1e-6)
    best, least = np.zeros(4), np.inf
    for normal, area in zip(outward, areas):
        up = -normal
        low = float((resting @ up).min())
        sunk = np.mean(np.clip(low - hand @ up, 0, None)) + np.mean(np.clip(low - moved @ up, 0, None))
        cost = 20 * float(sunk) - 0.3 * float(up @ lift) + 0.3 * float(up[1]) - 0.5 * float(np.sqrt(area))
        if cost < least:
            best, least = np.append(up, -low), cost
    return best


def _facets(hull: object) -> tuple[np.ndarray, np.ndarray]:
    """Directions (F, 3) of a hull's flat parts and their share of its surface (F,), small ones left out."""
    normals, areas = np.asarray(hull.face_normals), np.asarray(hull.area_faces)  # type: ignore[attr-defined]
    found: list[np.ndarray] = []
    shares: list[float] = []
    for k in np.argsort(-areas):
        if any(normals[k] @ other > 0.97 for other in found):
            continue
        share = areas[normals @ normals[k] > 0.97].sum() / areas.sum()
        found.append(normals[k])
        shares.append(float(share))
    return np.array(found), np.array(shares)

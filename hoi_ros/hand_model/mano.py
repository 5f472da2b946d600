"""MANO behind the same face as the free hand, read from the user's own licensed file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.errors import InputError
from hoi_ros.hand_model.anatomy import BONE_COUNT, wrist_frame
from hoi_ros.hand_model.kinematics import Skeleton
from hoi_ros.hand_model.model import SHAPE_COUNT, HandModel

VERTEX_COUNT, FACE_COUNT = 778, 1538
TIP_VERTICES = (744, 320, 443, 554, 671)  # thumb, index, middle, ring, little
# MANO's bones: wrist, index 3, middle 3, little 3, ring 3, thumb 3.
BONE_ORDER = np.array([0, 13, 14, 15, 1, 2, 3, 4, 5, 6, 10, 11, 12, 7, 8, 9])
EXPECTED = "expected MANO_RIGHT.pkl of MANO v1.2 (or the same arrays as .npz) from mano.is.tue.mpg.de"
_SHAPES: dict[str, tuple[int, ...]] = {
    "v_template": (VERTEX_COUNT, 3),
    "weights": (VERTEX_COUNT, BONE_COUNT),
    "f": (FACE_COUNT, 3),
    "posedirs": (VERTEX_COUNT, 3, 135),
    "J_regressor": (BONE_COUNT, VERTEX_COUNT),
}


class _Chumpy:
    """Stands in for chumpy's classes inside the pickle: only the array that they carry is kept."""

    def __init__(self, *arguments: Any) -> None:
        self.array = arguments[0] if arguments else None

    def __setstate__(self, state: Any) -> None:
        values = state if isinstance(state, dict) else {}
        self.array = next((values[key] for key in ("x", "r", "a") if key in values), None)


class _SafeUnpickler(pickle.Unpickler):
    """Loads arrays, sparse matrices and stand-ins only; anything else in the file is refused."""

    _NUMPY = ("_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer")

    def find_class(self, module: str, name: str) -> Any:
        root = module.split(".")[0]
        if root == "chumpy":
            return _Chumpy
        if root == "numpy" and name in self._NUMPY:
            return super().find_class(module, name)
        if module.startswith("scipy.sparse") and name.endswith(("_matrix", "_array")):
            import scipy.sparse

            return getattr(scipy.sparse, name)
        if (module, name) in (("_codecs", "encode"), ("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor")):
            return super().find_class(module, name)
        if module in ("__builtin__", "builtins") and name in ("object", "set", "list", "dict"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def load_mano(path: str | Path) -> HandModel:
    """Read a user's MANO right hand; the left is its mirror image.

    Fingertips are the usual vertices 744, 320, 443, 554, 671. Joint angles turn about the same anatomical axes as the
    free hand's, found from MANO's rest joints. Source: Romero et al., SIGGRAPH Asia 2017.

    Args:
        path: MANO_RIGHT.pkl, or an .npz with the same names.

    Raises:
        InputError: missing, unreadable or other file, with what was expected.
    """
    path = Path(path)
    raw = _read(path)
    arrays = {name: _array(path, raw, name, shape) for name, shape in _SHAPES.items()}
    shape_directions = _shape_directions(path, raw)
    template, regressor = arrays["v_template"], arrays["J_regressor"]

    def keypoints_of(vertices: np.ndarray) -> np.ndarray:
        joints = (regressor @ vertices)[BONE_ORDER]
        tips = vertices[list(TIP_VERTICES)]
        fingers = [np.concatenate([joints[1 + 3 * f : 4 + 3 * f], tips[f : f + 1]]) for f in range(5)]
        return np.concatenate([joints[:1], *fingers])

    rest = keypoints_of(template)
    frame = wrist_frame(rest)
    if ((rest[4] - rest[0]) @ frame[0] < 0) or _curls_backwards(rest, frame):
        raise InputError(f"MANO file {path} holds a left hand; {EXPECTED}")
    keypoint_directions = np.stack([keypoints_of(d) for d in shape_directions])
    wrist_motion = keypoint_directions[:, :1]
    pose = arrays["posedirs"].reshape(VERTEX_COUNT, 3, 15, 3, 3)[:, :, BONE_ORDER[1:] - 1]
    turned_pose = np.einsum("cd,vdkab,ea,fb->vckef", frame, pose, frame, frame, optimize=True)
    return HandModel(
        "MANO",
        (template - rest[0]) @ frame.T,
        (shape_directions - wrist_motion) @ frame.T,
        arrays["weights"][:, BONE_ORDER],
        arrays["f"].astype(np.int32),
        Skeleton.build((rest - rest[0]) @ frame.T, (keypoint_directions - wrist_motion) @ frame.T),
        turned_pose.reshape(VERTEX_COUNT, 3, 135),
    )


def choose_hand_model(path: str | Path) -> HandModel:
    """The user's MANO in a file, or for '' the free hand; raises as `load_mano` does."""
    return load_mano(path) if path else HandModel.load()


def _curls_backwards(rest: np.ndarray, frame: np.ndarray) -> bool:
    """In a left hand taken for a right one, the thumb lies behind the palm instead of before it."""
    return bool((rest[3] - 0.5 * (rest[5] + rest[0])) @ frame[2] < 0)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        with path.open("rb") as file:
            content = _SafeUnpickler(file, encoding="latin1").load()
    except OSError as error:
        raise InputError(f"MANO file {path}: {error.strerror or error}; {EXPECTED}") from error
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise InputError(f"MANO file {path} cannot be read ({error}); {EXPECTED}") from error
    if not isinstance(content, dict):
        raise InputError(f"MANO file {path} holds a {type(content).__name__}; {EXPECTED}")
    return content


def _array(path: Path, raw: dict[str, Any], name: str, shape: tuple[int, ...] | None) -> np.ndarray:
    if name not in raw:
        raise InputError(f"MANO file {path} has no '{name}'; {EXPECTED}")
    value = raw[name]
    while isinstance(value, _Chumpy):
        value = value.array
    value = value.toarray() if hasattr(value, "toarray") else value
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"MANO file {path}: '{name}' holds no numbers; {EXPECTED}") from error
    if shape is not None and array.shape != shape:
        raise InputError(f"MANO file {path}: '{name}' is {array.shape}, not {shape}; {EXPECTED}")
    if not np.isfinite(array).all():
        raise InputError(f"MANO file {path}: '{name}' has values that are not finite; {EXPECTED}")
    return array


def _shape_directions(path: Path, raw: dict[str, Any]) -> np.ndarray:
    directions = _array(path, raw, "shapedirs", None)
    if directions.ndim != 3 or directions.shape[:2] != (VERTEX_COUNT, 3) or directions.shape[2] < SHAPE_COUNT:
        raise InputError(f"MANO file {path}: 'shapedirs' is {directions.shape}, not (778, 3, 10); {EXPECTED}")
    return directions[..., :SHAPE_COUNT].transpose(2, 0, 1)

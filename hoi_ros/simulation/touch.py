"""Captured fingers brought to the surface: flesh differs between hand models by millimetres, touch must not."""

from __future__ import annotations

import numpy as np

from hoi_ros.datatypes import FINGERS
from hoi_ros.geometry import invert_transform
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.grasp import AngleMap, GriddedDistance, HandParts, SignedDistance
from hoi_ros.simulation.surface import SimObject

_YIELD_M = 0.0007
_REACH_M = 0.014
_BENDS = np.concatenate([np.linspace(0, 0.6, 13), np.linspace(-0.04, -0.7, 14)])
_CHUNK = 400


class TouchFitter:
    """Moves a captured hand out of a thing, and its fingers onto it.

    Args:
        model: hand model. shape: (10,). side: 'left' or 'right'. item: the thing.
    """

    def __init__(self, model: HandModel, shape: np.ndarray, side: str, item: SimObject) -> None:
        self._model, self._shape, self._side = model, shape, side
        self._distance = GriddedDistance(SignedDistance(item), item)
        self._parts, self._map = HandParts(model, shape), AngleMap(model)

    def fit(self, angles: np.ndarray, T_wrist_object: np.ndarray, holding: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Corrected joint angles (T, A) and T_wrist_object (T, 4, 4).

        Args:
            angles: (T, A) radians. T_wrist_object: (T, 4, 4).
            holding: (T,) 0 to 1; fingers are closed onto the thing only where it is held.
        """
        T_wrist_object = T_wrist_object.copy()
        for _ in range(3):
            gaps = self._gaps(angles, T_wrist_object)[:, self._parts.palm_mask | (self._parts.segment == 1)]
            sunk = _smooth(np.clip(-_YIELD_M - gaps.min(1), 0, 0.02), largest=True)
            T_wrist_object[:, 2, 3] += sunk
        angles = self._bend(angles, T_wrist_object, holding)
        # Smoothing may have left a fingertip inside: the second time fingers only open.
        return self._bend(angles, T_wrist_object, np.zeros(len(angles))), T_wrist_object

    def _bend(self, angles: np.ndarray, T_wrist_object: np.ndarray, holding: np.ndarray) -> np.ndarray:
        out = angles.copy()
        for finger, name in enumerate(FINGERS):
            turned = self._turned(angles, name)
            mask = self._parts.mask(finger, 2)
            count = len(_BENDS)
            gaps = self._gaps(
                turned.reshape(-1, angles.shape[1]), np.repeat(T_wrist_object, count, 0), mask
            ).reshape(len(angles), count, -1).min(2)  # fmt: skip
            bends = np.array([_choose_bend(row, held) for row, held in zip(gaps, holding)])
            bends = _smooth(bends)
            for column in self._columns(name):
                moved = out[:, column] + bends * _share(self._map.names[column])
                out[:, column] = np.clip(moved, *self._map.limits[column])
        return out

    def _columns(self, name: str) -> list[int]:
        return [k for k, angle in enumerate(self._map.names) if angle.startswith(name) and _share(angle)]

    def _turned(self, angles: np.ndarray, name: str) -> np.ndarray:
        """(T, S, A) one finger bent by every step."""
        turned = np.repeat(angles[:, None], len(_BENDS), 1)
        for column in self._columns(name):
            moved = turned[..., column] + _BENDS * _share(self._map.names[column])
            turned[..., column] = np.clip(moved, *self._map.limits[column])
        return turned

    def _gaps(self, angles: np.ndarray, T_wrist_object: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """(B, V) metres from the skin to the thing."""
        mask = np.ones(self._model.vertex_count, bool) if mask is None else mask
        rows = []
        for start in range(0, len(angles), _CHUNK):
            part = slice(start, start + _CHUNK)
            shapes = np.repeat(self._shape[None], len(angles[part]), 0)
            skin = self._model.pose(angles[part], shapes, self._side).vertices[:, mask]
            T = invert_transform(T_wrist_object[part])
            rows.append(self._distance(skin @ np.swapaxes(T[:, :3, :3], 1, 2) + T[:, None, :3, 3]))
        return np.concatenate(rows)


def _share(angle_name: str) -> float:
    """How much of a finger's bend a joint takes."""
    if not angle_name.endswith("flexion"):
        return 0.0
    return 0.5 if "dip" in angle_name or "cmc" in angle_name else 0.8


def _choose_bend(gaps: np.ndarray, holding: float) -> float:
    """Least bend that brings a finger from inside out, or, where it holds and is near, onto the surface."""
    closing, opening = _BENDS >= 0, _BENDS < 0
    if gaps[0] < -_YIELD_M:
        free = opening & (gaps >= -_YIELD_M)
        if free.any():
            return float(_BENDS[np.argmax(free)])
        return float(_BENDS[opening][np.argmax(gaps[opening])])
    if holding > 0.5 and gaps[0] < _REACH_M:
        touching = closing & (gaps <= 0.0005)
        if touching.any():
            first = int(np.argmax(touching))
            # Between the last step that was free and this one.
            share = (gaps[first - 1] if first else 0.0) / max(gaps[first - 1] - gaps[first], 1e-9) if first else 0.0
            before = _BENDS[first - 1] if first else 0.0
            return float(before + min(share, 1.0) * (_BENDS[first] - before)) if first else 0.0
    return 0.0


def _smooth(values: np.ndarray, *, largest: bool = False) -> np.ndarray:
    """(T,) smoothed over about five frames; `largest` keeps peaks."""
    from scipy.ndimage import gaussian_filter1d, maximum_filter1d

    return gaussian_filter1d(maximum_filter1d(values, 3, mode="nearest") if largest else values, 1.2, mode="nearest")

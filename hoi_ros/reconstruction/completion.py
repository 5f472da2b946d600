"""Close a partly seen surface: what was seen stays, what was not is continued smoothly, never through free space."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage
from scipy.sparse.linalg import LinearOperator, cg
from scipy.spatial import cKDTree

from hoi_ros.datatypes import TriangleMesh
from hoi_ros.reconstruction.extraction import mesh_from_field
from hoi_ros.reconstruction.volume import DenseField

_PAD = 6
_BAND_VOXELS = 3
_TENSION = 0.003
_ACCURACY = 1e-4
_WORK = 1.5e8
_COARSEST = 8


def watertight_mesh(field: DenseField, seen: TriangleMesh, *, min_weight: float) -> TriangleMesh:
    """A closed mesh through the seen surface.

    Voxels beside the seen surface and free ones keep their values; between them the field follows the biharmonic
    equation with a little tension, a thin plate that keeps the slopes it starts with (after Davis et al., 3DPVT 2002,
    whose diffusion leaves flat lids). The rim of the box is outside, so the zero level of the whole field is closed.
    About 3 s on one core, whatever the size: the steps are fewer where the voxels are more.

    Args:
        field: copy of the volume, free space marked as empty.
        seen: its mesh; parts of the field that are not in it (floaters) are not believed.
        min_weight: voxels below it are unknown.

    Returns:
        Mesh in the object frame; guessed vertices take the colour of the nearest seen one.
    """
    field = _padded(field)
    tsdf = np.where(field.empty, 1.0, np.clip(field.tsdf, -1, 1)).astype(np.float64)
    known = field.empty | ((field.weight >= min_weight) & (_beside(field, seen) | (tsdf >= 1)))
    for axis in range(3):
        for end in (0, -1):
            rim = tuple(end if i == axis else slice(None) for i in range(3))
            tsdf[rim], known[rim] = 1.0, True
    _continue_smoothly(tsdf, ~known)
    whole = dataclasses.replace(field, tsdf=tsdf.astype(np.float32), weight=np.ones(tsdf.shape, np.float32))
    mesh = mesh_from_field(whole, min_weight=0.5, min_component_fraction=1.0)
    if mesh is None:
        return seen
    distance, nearest = cKDTree(seen.vertices).query(mesh.vertices)
    colors = mesh.colors
    if colors is not None and seen.colors is not None:
        colors = np.where((distance < field.voxel_size_m)[:, None], colors, seen.colors[nearest])
    return TriangleMesh(mesh.vertices, mesh.faces, colors)


def _padded(field: DenseField) -> DenseField:
    """The field with a rim of unknown voxels, so that a guess may reach beyond it."""
    pads = ((_PAD, _PAD),) * 3
    return DenseField(
        np.pad(field.tsdf, pads, constant_values=1.0),
        np.pad(field.weight, pads),
        np.pad(field.color, (*pads, (0, 0))),
        field.origin - _PAD * field.voxel_size_m,
        field.voxel_size_m,
        np.pad(field.empty, pads),
    )


def _beside(field: DenseField, mesh: TriangleMesh) -> np.ndarray:
    """Voxels (X, Y, Z) bool within the truncation band of the mesh's vertices."""
    index = np.floor((mesh.vertices - field.origin) / field.voxel_size_m).astype(int)
    touched = np.zeros(field.tsdf.shape, bool)
    touched[tuple(np.clip(index, 0, np.array(touched.shape) - 1).T)] = True
    return ndimage.binary_dilation(touched, ndimage.generate_binary_structure(3, 1), _BAND_VOXELS)


def _continue_smoothly(values: np.ndarray, unknown: np.ndarray) -> None:
    """Fill values (X, Y, Z) where `unknown`, in place, from what lies around; coarse to fine."""
    if not unknown.any():
        return
    values[unknown] = 0
    if min(values.shape) >= 2 * _COARSEST:
        values[unknown] = _coarse_guess(values, unknown)[unknown]

    def bend(field: np.ndarray) -> np.ndarray:
        curvature = ndimage.laplace(field, mode="nearest")
        return ndimage.laplace(curvature, mode="nearest") - _TENSION * curvature

    def step(guess: np.ndarray) -> np.ndarray:
        field = np.zeros(values.shape)
        field[unknown] = guess
        return bend(field)[unknown]

    # What the first guess leaves is solved for; stopped early, the guess is less smooth and stays a guess.
    residual = -bend(values)[unknown]
    size = len(residual)
    bending = LinearOperator((size, size), matvec=step, dtype=np.float64)
    values[unknown] += cg(bending, residual, rtol=_ACCURACY, maxiter=int(_WORK / values.size))[0]


def _coarse_guess(values: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """The same problem at half the resolution, its solution brought back to (X, Y, Z)."""
    odd = [(0, n % 2) for n in values.shape]
    known = np.pad(~unknown, odd, mode="edge")
    count = _block_sums(known.astype(np.float64))
    total = _block_sums(np.pad(values, odd, mode="edge") * known)
    coarse, missing = total / np.maximum(count, 1), count == 0
    _continue_smoothly(coarse, missing)
    fine = ndimage.zoom(coarse, 2, order=1, mode="nearest", grid_mode=True)
    return fine[tuple(slice(n) for n in values.shape)]


def _block_sums(field: np.ndarray) -> np.ndarray:
    """Sums over blocks of 2x2x2 of a field of even size."""
    x, y, z = (n // 2 for n in field.shape)
    return field.reshape(x, 2, y, 2, z, 2).sum((1, 3, 5))

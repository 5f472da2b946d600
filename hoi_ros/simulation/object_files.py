"""Any mesh file of the user as a thing to hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hoi_ros.errors import InputError
from hoi_ros.simulation.surface import GripSite, SimObject, corner_normals

if TYPE_CHECKING:
    import trimesh


def load_object_file(path: Path) -> SimObject:
    """Load a mesh file (metres) with its texture or vertex colours.

    Raises:
        InputError: no such file, unreadable, no triangles, or not of a hand-held size.
    """
    import trimesh

    if not path.is_file():
        raise InputError(f"object mesh {path}: no such file; check the path")
    try:
        loaded = trimesh.load(path, force="mesh", process=False)
    except Exception as error:
        raise InputError(
            f"object mesh {path} cannot be read ({error}); give a GLB, OBJ, PLY or STL in metres"
        ) from error
    if not isinstance(loaded, trimesh.Trimesh) or len(loaded.faces) == 0:
        raise InputError(f"object mesh {path} holds no triangles; give a GLB, OBJ, PLY or STL in metres")
    size = float(np.max(loaded.extents))
    if not 0.01 <= size <= 0.6:
        raise InputError(f"object mesh {path} is {size:.3g} m long: give a hand-held size in metres (0.01 to 0.6)")
    uv, texture = _file_colors(loaded)
    return SimObject(
        path.stem,
        np.asarray(loaded.vertices, np.float32),
        np.asarray(loaded.faces, np.int32),
        uv,
        corner_normals(np.asarray(loaded.vertices), np.asarray(loaded.faces)),
        texture,
        _guess_grips(np.asarray(loaded.vertices)),
    )


def _file_colors(mesh: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray]:
    """Corner coordinates and picture of a loaded mesh: its texture, else its vertex colours, else grey."""
    import trimesh

    visual: Any = mesh.visual
    if isinstance(visual, trimesh.visual.TextureVisuals) and visual.uv is not None:
        material = visual.material
        image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        if image is not None:
            picture = np.ascontiguousarray(np.asarray(image.convert("RGB")))
            height, width = picture.shape[:2]
            uv = np.stack([visual.uv[:, 0] * width, (1 - visual.uv[:, 1]) * height], -1) - 0.5
            return uv[mesh.faces].astype(np.float32), picture
        visual = visual.to_color()
    colors = np.asarray(visual.vertex_colors)[:, :3].astype(np.uint8)
    return _palette_texture(colors[mesh.faces])


def _palette_texture(corner_colors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Picture in which face i owns a 4x4 tile that blends its corner colours (M, 3, 3) uint8."""
    count = len(corner_colors)
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    tiles = np.zeros((rows * columns, 4, 4, 3), np.float32)
    c = corner_colors.astype(np.float32)
    steps = np.arange(4) / 2 - 0.25
    a, b = np.meshgrid(steps, steps)
    for k, weight in enumerate((1 - a - b, a, b)):
        tiles[:count] += weight[None, ..., None] * c[:, k, None, None]
    picture = tiles.reshape(rows, columns, 4, 4, 3).transpose(0, 2, 1, 3, 4).reshape(rows * 4, columns * 4, 3)
    index = np.arange(count)
    origin = np.stack([index % columns, index // columns], -1)[:, None] * 4.0 + 0.5
    uv = origin + np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    return uv.astype(np.float32), np.clip(picture, 0, 255).astype(np.uint8)


def _guess_grips(vertices: np.ndarray) -> tuple[GripSite, ...]:
    """Places round the longest direction of the cloud, from its middle outwards; the grasp solver takes the best."""
    center = (vertices.min(0) + vertices.max(0)) / 2
    _, _, axes = np.linalg.svd(vertices - vertices.mean(0), full_matrices=False)
    axis = axes[0] * np.sign(axes[0][np.argmax(np.abs(axes[0]))])
    along = (vertices - center) @ axis
    sites = []
    for share in (0.5, 0.3, 0.7):
        level = along.min() + share * np.ptp(along)
        slab = vertices[np.abs(along - level) < 0.12 * np.ptp(along)]
        if not len(slab):
            continue
        flat = slab - center - np.outer((slab - center) @ axis, axis)
        sites.append(GripSite(center + axis * level + (flat.max(0) + flat.min(0)) / 2, axis))
    return tuple(sites)

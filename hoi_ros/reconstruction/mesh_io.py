"""Meshes to files, in metres."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from hoi_ros.datatypes import TriangleMesh
from hoi_ros.errors import InputError

MESH_SUFFIXES = (".ply", ".obj", ".glb", ".stl")


def save_mesh(mesh: TriangleMesh | None, path: Path | str) -> Path:
    """Write a mesh as PLY, OBJ, GLB or STL by suffix, with vertex colours where the format has them (STL has none).

    The file appears whole or not at all.

    Returns:
        The path written.

    Raises:
        InputError: unknown suffix, nothing to write, or the place cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise InputError(f"mesh file {path}: unknown suffix '{path.suffix}', use one of {', '.join(MESH_SUFFIXES)}")
    if mesh is None or not len(mesh.faces):
        raise InputError(f"mesh file {path}: there is no mesh yet; show the object from more sides first")
    content = _encode(mesh, path.suffix.lower()[1:])
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise InputError(f"mesh file {path}: {error.strerror}; choose a folder that exists and is writable") from error
    return path


def _encode(mesh: TriangleMesh, kind: str) -> bytes:
    """File content of a mesh."""
    import trimesh

    body = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=mesh.colors, process=False)
    content: Any = body.export(file_type=kind)
    return content.encode("utf-8") if isinstance(content, str) else content

"""Textured things to hold, by one name: a built-in shape or the user's mesh file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from hoi_ros.errors import InputError, unknown_name
from hoi_ros.simulation.object_files import load_object_file
from hoi_ros.simulation.shapes import BUILDERS
from hoi_ros.simulation.surface import GripSite, SimObject

__all__ = ["MESH_SUFFIXES", "GripSite", "SimObject", "load_object", "object_names"]

MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl")


def object_names() -> tuple[str, ...]:
    """Names of the built-in objects."""
    return tuple(sorted(BUILDERS))


@cache
def load_object(spec: str) -> SimObject:
    """Load a built-in object by name, or a mesh file (metres) by path.

    Raises:
        InputError: no such name or file, or the file holds no closed-enough triangle surface.
    """
    if spec in BUILDERS:
        return BUILDERS[spec]()
    path = Path(spec).expanduser()
    if path.suffix.lower() in MESH_SUFFIXES or "/" in spec:
        return load_object_file(path)
    error = unknown_name("object", spec, BUILDERS)
    raise InputError(f"{error} (or give the path of a mesh file: {' '.join(MESH_SUFFIXES)})")

"""Things as people hold them, 4 to 25 cm, in random shapes: boxes, bottles, cups, cans, tools, flat and free forms.

No one of the simulator's named objects is among them: those stay for tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hoi_ros.simulation.shapes import revolve
from hoi_ros.simulation.surface import GripSite, SimObject, corner_normals
from hoi_ros.training.pointmap_shapes import random_solid

if TYPE_CHECKING:
    import trimesh

KINDS = ("free", "box", "turned", "cup", "tool", "flat")
SHARES = (0.25, 0.22, 0.22, 0.12, 0.12, 0.07)
HANDLE = "handle"


def random_thing(rng: np.random.Generator) -> SimObject:
    """A closed thing without print, long in z, its middle at the origin; a handle is its second place to grip."""
    kind = str(rng.choice(KINDS, p=SHARES))
    mesh = random_solid(rng) if kind == "free" else _MAKERS[kind](rng)
    vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int32)
    middle = (vertices.min(0) + vertices.max(0)) / 2
    vertices, upright = vertices - middle, np.array([0.0, 0.0, 1.0])
    handle = mesh.metadata.get(HANDLE)
    own = () if handle is None else (GripSite(np.asarray(handle) - middle, upright),)
    return SimObject(
        kind,
        vertices.astype(np.float32),
        faces,
        np.zeros((len(faces), 3, 2), np.float32),
        corner_normals(vertices, faces),
        np.zeros((1, 1, 3), np.uint8),
        (GripSite(np.zeros(3), upright), *own),
    )


def _box(rng: np.random.Generator) -> trimesh.Trimesh:
    import trimesh

    thin = rng.uniform(0.02, 0.08)
    return trimesh.creation.box((thin, rng.uniform(max(thin, 0.03), 0.13), rng.uniform(0.05, 0.24)))


def _flat(rng: np.random.Generator) -> trimesh.Trimesh:
    import trimesh

    return trimesh.creation.box((rng.uniform(0.004, 0.025), rng.uniform(0.05, 0.14), rng.uniform(0.08, 0.22)))


def _turned(rng: np.random.Generator) -> trimesh.Trimesh:
    """Can, glass, bottle or spray can: a body, often a shoulder and a neck."""
    radius, height = rng.uniform(0.015, 0.042), rng.uniform(0.06, 0.25)
    waist = radius * rng.uniform(0.8, 1.1)
    profile = [(0.0, 0.0), (radius * rng.uniform(0.85, 1.0), 0.0), (radius, 0.003), (waist, height * 0.4)]
    if rng.random() < 0.65:
        neck, shoulder = radius * rng.uniform(0.25, 0.7), rng.uniform(0.5, 0.85)
        profile += [(radius, height * shoulder), (neck, height * min(shoulder + rng.uniform(0.04, 0.2), 0.96))]
        profile += [(neck * rng.uniform(0.9, 1.3), height * 0.97), (neck, height)]
    else:
        profile += [(radius, height * 0.95), (radius * rng.uniform(0.85, 1.05), height)]
    return revolve([*profile, (0.0, height)], 40).trimesh()


def _cup(rng: np.random.Generator) -> trimesh.Trimesh:
    """Open at the top, with a handle or without."""
    import trimesh

    top, height, wall = rng.uniform(0.028, 0.046), rng.uniform(0.06, 0.14), rng.uniform(0.002, 0.005)
    foot = top * rng.uniform(0.6, 1.05)
    held: np.ndarray | None = None
    cup = revolve([(0.0, 0.0), (foot, 0.0), (top, height), (0.0, height)], 48).trimesh()
    if rng.random() < 0.5:
        size, place = rng.uniform(0.016, 0.03), rng.uniform(0.4, 0.6)
        handle = trimesh.creation.torus(size, rng.uniform(0.003, 0.007), major_sections=24, minor_sections=10)
        handle.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
        handle.apply_scale([rng.uniform(0.8, 1.3), 1.0, rng.uniform(0.9, 1.4)])
        held = np.array([foot + place * (top - foot) + 0.3 * size, 0.0, place * height])
        handle.apply_translation(held)
        held = held + [0.9 * size, 0.0, 0.0]
        cup = trimesh.boolean.union([cup, handle], engine="manifold")
    hollow = revolve(
        [(0.0, 2 * wall), (foot - wall, 2 * wall), (top - wall, height + 0.002), (0.0, height + 0.002)], 48
    )
    cup = trimesh.boolean.difference([cup, hollow.trimesh()], engine="manifold")
    if held is not None:
        cup.metadata[HANDLE] = held
    return cup


def _tool(rng: np.random.Generator) -> trimesh.Trimesh:
    """A handle and a head across its end, or in its course."""
    import trimesh

    radius, length = rng.uniform(0.008, 0.02), rng.uniform(0.1, 0.2)
    if rng.random() < 0.6:
        handle = trimesh.creation.cylinder(radius, length, sections=24)
    else:
        handle = trimesh.creation.box((2 * radius, 2 * radius * rng.uniform(0.6, 1.6), length))
    size = np.array([rng.uniform(0.02, 0.16), rng.uniform(0.015, 0.05), rng.uniform(0.02, 0.07)])
    head = trimesh.creation.box(size) if rng.random() < 0.5 else trimesh.creation.icosphere(2, 0.5)
    if head.extents.max() > 0.9:
        head.apply_scale(size)
    head.apply_translation([rng.uniform(-0.4, 0.4) * size[0], 0.0, length / 2 + rng.uniform(0.0, 0.45) * size[2]])
    return trimesh.boolean.union([handle, head], engine="manifold")


_MAKERS = {"box": _box, "turned": _turned, "cup": _cup, "tool": _tool, "flat": _flat}

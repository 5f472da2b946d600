"""What batches of synthetic crops are made of, built and uploaded once: skins, forearms, things with their holds."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hoi_ros.geometry import so3_exp
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.skin import PIXELS_PER_M, ForearmShape, HandSkin
from hoi_ros.simulation.surface import corner_normals
from hoi_ros.training.batch_hands import BatchHands, SmoothNormals
from hoi_ros.training.held_things import HeldThing, ThingStock, touch

ARMS, BENDS = 48, 12
SURFACE_POINTS = 128
CYLINDER, BALL, BOX = 0, 1, 2
"""Plain solids of unit size, which lie behind the things in the stock."""


class Uploader:
    """Host arrays to the device, without waiting."""

    def __init__(self, device: torch.device):
        self._device = device

    def __call__(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device, non_blocking=True)


class BatchStock:
    """Everything on one device; numbers that decide sizes stay with the host as NumPy arrays."""

    def __init__(self, model: HandModel, seed: int, skins: int, things: int, device: torch.device | str):
        rng = np.random.default_rng([seed, 22])
        self.device = torch.device(device)
        self.hands = BatchHands(model, device)
        self._add_skins(model, rng, skins)
        self._add_arms(model, rng)
        self._add_things(model, rng, things)

    def _put(self, values: np.ndarray) -> Tensor:
        values = np.ascontiguousarray(values)
        return torch.from_numpy(values.astype(np.float32) if values.dtype == np.float64 else values).to(self.device)

    def _add_skins(self, model: HandModel, rng: np.random.Generator, count: int) -> None:
        skins = [
            HandSkin(model, np.zeros(10), float(rng.beta(1.2, 1.6)), int(rng.integers(1 << 30))) for _ in range(count)
        ]
        first = skins[0]
        self.skin_count = count
        self.skin_pictures = self._put(np.stack([[skin.back_picture, skin.palm_picture] for skin in skins]))
        """(K, 2, h, w, 3) uint8 of back and palm."""
        self.skin_bases = self._put(np.stack([[skin.base, skin.palm_base] for skin in skins]))
        """(K, 2, 3) RGB."""
        self.hand_attributes = self._put(first.attributes)
        """(V, 4): place in the skin's pictures in pixels, 0, palm-ness 0 to 1."""
        low = self.hand_attributes[:, :2].amin(0) - 0.006
        self.hand_attributes[:, :2] = (self.hand_attributes[:, :2] - low) * PIXELS_PER_M
        # The cap that closes the wrist must not bend the skin's normals.
        self.hand_normals = SmoothNormals(model.right_faces[first.open_mask], model.vertex_count, self.device)

    def _add_arms(self, model: HandModel, rng: np.random.Generator) -> None:
        rest = model.pose(np.zeros((1, len(model.joint_angle_names))), np.zeros((1, 10)), "right").vertices[0]
        sleeves = np.where(rng.random(ARMS) < 0.55, rng.uniform(-0.01, 0.1, ARMS), 1.0)
        shapes = [
            ForearmShape(rest.astype(np.float64), model.right_faces, float(start), int(rng.integers(1 << 30)))
            for start in sleeves
        ]
        bends = [so3_exp(np.array([rng.uniform(-0.9, 0.9), 0, rng.uniform(-0.5, 0.5)])) for _ in range(ARMS * BENDS)]
        elbows = np.array([bend @ [0, -0.3, 0] for bend in bends]).reshape(ARMS, BENDS, 3)
        built = [[shape.build(np.eye(4), elbow, "right") for elbow in row] for shape, row in zip(shapes, elbows)]
        self.arm_count = ARMS * BENDS
        self.arms = self._put(np.array(built).reshape(self.arm_count, -1, 3))
        """(T, N, 3) right forearms in the wrist frame, bent in several ways."""
        self.arm_attributes = self._put(np.stack([shape.attributes for shape in shapes]))
        """(ARMS, N, 4): place on the cloth in metres, palm-ness, sleeve."""
        self.arm_faces = self._put(shapes[0].faces.astype(np.int64))
        self.arm_normals = SmoothNormals(shapes[0].faces, len(shapes[0].attributes), self.device)

    def _add_things(self, model: HandModel, rng: np.random.Generator, count: int) -> None:
        import trimesh

        stock = ThingStock(model, rng)
        things = [stock.next() for _ in range(count)]
        solids = [trimesh.creation.cylinder(1, 2, sections=24), trimesh.creation.icosphere(2, 1.0),
                  trimesh.creation.box((2, 2, 2))]  # fmt: skip
        sharp = [(np.asarray(s.vertices), np.asarray(s.faces)) for s in solids]
        meshes = [(thing.corners, thing.normals) for thing in things]
        meshes += [(v[f.reshape(-1)], corner_normals(v, f).reshape(-1, 3)) for v, f in sharp]
        self.thing_count = count
        self.corner_counts = np.array([len(corners) for corners, _ in meshes])
        self.corner_starts = np.cumsum(self.corner_counts) - self.corner_counts
        self.corners = self._put(np.concatenate([corners for corners, _ in meshes]))
        """(C, 3) of all things and of the plain solids, three for each face."""
        self.corner_normals = self._put(np.concatenate([normals for _, normals in meshes]))
        self.surfaces = self._put(np.stack([_surface_points(corners, rng) for corners, _ in meshes]))
        """(things and solids, P, 3) points on their surfaces."""
        self._add_holds(model, things)

    def _add_holds(self, model: HandModel, things: list[HeldThing]) -> None:
        holds = [(k, hold) for k, thing in enumerate(things) for hold in thing.holds]
        angles, shapes = np.stack([h.angles for _, h in holds]), np.stack([things[k].shape for k, _ in holds])
        self.hold_things = np.array([k for k, _ in holds])
        self.hold_right = np.array([h.side == "right" for _, h in holds])
        self.holds_of_thing = [np.flatnonzero(self.hold_things == k) for k in range(len(things))]
        self.hold_angles, self.hold_shapes = self._put(angles), self._put(shapes)
        self.thing_in_wrist = self._put(np.stack([h.T_wrist_object for _, h in holds]))
        self.wrist_in_thing = self._put(np.stack([h.T_object_wrist for _, h in holds]))
        posed = {side: model.pose(angles, shapes, side).vertices.astype(np.float64) for side in ("left", "right")}
        contact = [touch(things[k], h, posed[h.side][row]) for row, (k, h) in enumerate(holds)]
        self.hold_contact = self._put(np.stack(contact))
        """(holds, V) 0 to 1."""
        self.partners, self.partner_counts = _partners(self.hold_things, self.hold_right)


def _partners(things: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every hold the other hand's holds of the same thing (H, most), and how many there are (H,)."""
    fits = (things[:, None] == things) & (right[:, None] != right)
    counts = fits.sum(1)
    return np.argsort(~fits, axis=1, kind="stable")[:, : max(int(counts.max(initial=0)), 1)], counts


def _surface_points(corners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(P, 3) points spread evenly by chance over triangles given by their corners (3 M, 3)."""
    a, b, c = corners.reshape(-1, 3, 3).transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    face = rng.choice(len(area), SURFACE_POINTS, p=area / area.sum())
    u, v = rng.random((2, SURFACE_POINTS, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    return a[face] + u * (b - a)[face] + v * (c - a)[face]

"""CPU ray casting of hands and an object before a room: colour with soft light, exact depth, labels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hoi_ros.datatypes import LABEL_BACKGROUND, CameraIntrinsics
from hoi_ros.geometry import invert_transform, vertex_normals
from hoi_ros.simulation.raycast import TriangleScene
from hoi_ros.simulation.skin import HandSkin
from hoi_ros.simulation.surface import SimObject, sample_texture

_AA_OFFSETS = np.array([[-0.375, -0.125], [0.125, -0.375], [0.375, 0.125], [-0.125, 0.375]], np.float32)


@dataclass(frozen=True)
class Light:
    """One key light, a fill and the sky."""

    toward_key: np.ndarray
    """(3,) unit vector from the scene to the key light, optical frame."""
    key: np.ndarray
    """(3,) RGB strength."""
    ambient: np.ndarray
    """(3,) RGB strength from all around."""
    up: np.ndarray
    """(3,) unit vector upwards, optical frame."""

    def shade(self, colors: np.ndarray, normals: np.ndarray, view: np.ndarray, look: Look) -> np.ndarray:
        """(N, 3) RGB of surface points with (N, 3) unit normals seen along unit `view` (N, 3)."""
        facing = normals @ self.toward_key.astype(np.float32)
        diffuse = np.clip((facing + look.wrap) / (1 + look.wrap), 0, None)
        sky = 0.78 + 0.22 * (normals @ self.up.astype(np.float32))
        strength = diffuse[:, None] * self.key.astype(np.float32) + sky[:, None] * self.ambient.astype(np.float32)
        if look.translucence:
            # Light that went through skin comes out red where the surface turns away from it.
            edge = np.clip(1 - np.abs(facing - 0.1) * 2.5, 0, 1) * look.translucence
            strength = strength + edge[:, None] * np.array([0.12, 0.025, 0.015], np.float32)
        half = self.toward_key.astype(np.float32) - view
        aligned = np.einsum("ij,ij->i", half, normals) / np.sqrt(np.einsum("ij,ij->i", half, half) + 1e-9)
        shine = np.clip(aligned, 0, 1) ** look.gloss_power * look.gloss * 255
        return colors * strength + shine[:, None] * self.key.astype(np.float32)


@dataclass(frozen=True)
class Look:
    """How a surface answers light."""

    wrap: float = 0.1
    gloss: float = 0.12
    gloss_power: float = 28.0
    translucence: float = 0.0


SKIN_LOOK = Look(wrap=0.35, gloss=0.07, gloss_power=14.0, translucence=1.0)
CLOTH_LOOK = Look(wrap=0.3, gloss=0.0)
PRINT_LOOK = Look()


@dataclass(frozen=True)
class Hits:
    """What a bundle of rays met; row i belongs to ray i."""

    depth: np.ndarray
    """(N,) metres along the optical axis, inf where missed."""
    triangle: np.ndarray
    """(N,) uint32."""
    barycentric: np.ndarray
    """(N, 2) weights of the triangle's second and third corner."""

    def take(self, index: np.ndarray) -> Hits:
        """The hits of some rays only."""
        return Hits(self.depth[index], self.triangle[index], self.barycentric[index])

    def mix(self, corner_values: np.ndarray, faces: np.ndarray | None = None) -> np.ndarray:
        """(N, C) values inside the triangles, of corners (M, 3, C), or of vertices (V, C) joined by `faces`."""
        u, v = self.barycentric[:, :1], self.barycentric[:, 1:]
        if faces is None:
            a, b, c = (corner_values[self.triangle, k] for k in range(3))
        else:
            picked = faces[self.triangle]
            a, b, c = (corner_values[picked[:, k]] for k in range(3))
        return a + u * (b - a) + v * (c - a)


def _cast(scene: TriangleScene, origins: np.ndarray, directions: np.ndarray) -> Hits:
    hit = scene.cast(origins, directions)
    return Hits(hit["t_hit"], hit["primitive_ids"], hit["primitive_uvs"])


class ObjectActor:
    """A rigid printed thing; its ray structure is built once, rays are moved into its frame."""

    def __init__(self, item: SimObject, label: int) -> None:
        self.label = label
        self._item = item
        self._scene = TriangleScene(item.vertices, item.faces)
        self._low, self._high = item.vertices.min(0), item.vertices.max(0)
        self._splat = _sparse_points(item)
        self.T_camera_object = np.eye(4)

    def place(self, T_camera_object: np.ndarray) -> None:
        """Move it."""
        self.T_camera_object = T_camera_object

    def outline_points(self) -> np.ndarray:
        """(K, 3) points, optical frame, whose bounds hold the whole."""
        corners = np.stack(np.meshgrid(*zip(self._low, self._high)), -1).reshape(-1, 3)
        return corners @ self.T_camera_object[:3, :3].T + self.T_camera_object[:3, 3]

    def shadow_points(self) -> np.ndarray:
        """(K, 3) points spread over the surface, optical frame."""
        return self._splat @ self.T_camera_object[:3, :3].T + self.T_camera_object[:3, 3]

    def cast(self, rays: np.ndarray) -> Hits:
        """Cast rays (N, 3) from the camera centre; z of each is 1, so the ray length is the depth."""
        back = invert_transform(self.T_camera_object).astype(np.float32)
        return _cast(self._scene, back[:3, 3], rays @ back[:3, :3].T)

    def colors(self, hits: Hits, view: np.ndarray, light: Light) -> np.ndarray:
        """(N, 3) float32 RGB of hits."""
        item = self._item
        uv = hits.mix(item.corner_uv)
        normals = _unit(hits.mix(item.corner_normals) @ self.T_camera_object[:3, :3].T.astype(np.float32))
        return light.shade(sample_texture(item.texture, uv).astype(np.float32), normals, view, PRINT_LOOK)


class HandActor:
    """A hand whose shape changes every frame, with its skin."""

    def __init__(self, skin: HandSkin, faces: np.ndarray, label: int) -> None:
        self.label = label
        self._skin, self._faces = skin, faces
        self.vertices = np.zeros((0, 3))

    def place(self, vertices_camera: np.ndarray) -> None:
        """Give it the vertices (V, 3) of this frame, optical frame."""
        self.vertices = vertices_camera
        self._scene = TriangleScene(vertices_camera, self._faces)
        normals = vertex_normals(vertices_camera, self._faces[self._skin.open_mask])
        self._corners = np.concatenate([self._skin.attributes, normals], 1).astype(np.float32)

    def outline_points(self) -> np.ndarray:
        """(K, 3) points, optical frame, whose bounds hold the whole."""
        return self.vertices

    def shadow_points(self) -> np.ndarray:
        """(K, 3) points spread over the surface, optical frame."""
        return self.vertices

    def cast(self, rays: np.ndarray) -> Hits:
        """Cast rays (N, 3) from the camera centre; z of each is 1."""
        return _cast(self._scene, np.zeros(3, np.float32), rays)

    def colors(self, hits: Hits, view: np.ndarray, light: Light) -> np.ndarray:
        """(N, 3) float32 RGB of hits."""
        mixed = hits.mix(self._corners, self._faces)
        normals = _unit(mixed[:, 4:])
        return light.shade(self._skin.colors(mixed[:, :4]), normals, view, SKIN_LOOK)


class ArmActor(HandActor):
    """A forearm: bare skin, then sleeve. Not part of the hand, so its label is background."""

    def __init__(
        self, skin: HandSkin, faces: np.ndarray, attributes: np.ndarray, sleeve: np.ndarray, seed: int
    ) -> None:
        super().__init__(skin, faces, LABEL_BACKGROUND)
        self._attributes = attributes
        rng = np.random.default_rng([seed, 503])
        noise = cv2.GaussianBlur(rng.standard_normal((512, 512)).astype(np.float32), (0, 0), 1.0)
        folds = cv2.GaussianBlur(rng.standard_normal((512, 512)).astype(np.float32), (0, 0), 14)
        grain = 0.04 * noise / noise.std()
        self._skin_grain = (1 + 0.8 * grain).astype(np.float32)
        cloth = sleeve * (1 + grain + 0.09 * folds / folds.std())[..., None]
        self._cloth_picture = np.clip(cloth, 0, 255).astype(np.float32)

    def shadow_points(self) -> np.ndarray:
        """(K, 3) points on the rings and between them, optical frame."""
        corners = self.vertices[self._faces]
        return np.concatenate(
            [corners[:, 0] + share * (corners[:, 2] - corners[:, 0]) for share in (0, 0.2, 0.4, 0.6, 0.8)]
        )

    def place(self, vertices_camera: np.ndarray) -> None:
        """Give it the vertices of this frame, optical frame."""
        self.vertices = vertices_camera
        self._scene = TriangleScene(vertices_camera, self._faces)
        normals = vertex_normals(vertices_camera, self._faces)
        self._corners = np.concatenate([self._attributes, normals], 1).astype(np.float32)

    def colors(self, hits: Hits, view: np.ndarray, light: Light) -> np.ndarray:
        """(N, 3) float32 RGB of hits."""
        mixed = hits.mix(self._corners, self._faces)
        normals = _unit(mixed[:, 4:])
        uv = (mixed[:, :2] * 1500) % 511
        tint = self._skin.base + mixed[:, 2:3] * (self._skin.palm_base - self._skin.base)
        skin = light.shade(sample_texture(self._skin_grain, uv) * tint, normals, view, SKIN_LOOK)
        cloth = light.shade(sample_texture(self._cloth_picture, uv), normals, view, CLOTH_LOOK)
        return skin + (mixed[:, 3:4] > 0.5) * (cloth - skin)


Actor = ObjectActor | HandActor


def _unit(vectors: np.ndarray) -> np.ndarray:
    """(N, 3) scaled to length 1."""
    return vectors / np.sqrt(np.einsum("ij,ij->i", vectors, vectors) + 1e-12)[:, None]


def _sparse_points(item: SimObject, count: int = 1500) -> np.ndarray:
    corners = item.vertices[item.faces].astype(np.float64)
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    rng = np.random.default_rng(0)
    picks = rng.choice(len(corners), count, p=areas / areas.sum())
    weights = rng.dirichlet([1, 1, 1], count)[..., None]
    return (corners[picks] * weights).sum(1)


@dataclass
class Picture:
    """A rendered frame."""

    color: np.ndarray
    """(H, W, 3) float32 RGB 0 to 255."""
    depth_m: np.ndarray
    """(H, W) float32 exact."""
    labels: np.ndarray
    """(H, W) uint8."""
    own_pixels: list[int]
    """For each actor, pixels it would cover if it were alone in the image."""
    seen_pixels: list[int]
    """For each actor, pixels where it is in front."""


class Renderer:
    """Casts one ray a pixel inside each actor's bounds, and four more along the edges."""

    def __init__(self, intrinsics: CameraIntrinsics) -> None:
        self.intrinsics = intrinsics
        x = (np.arange(intrinsics.width, dtype=np.float32) - intrinsics.cx) / intrinsics.fx
        y = (np.arange(intrinsics.height, dtype=np.float32) - intrinsics.cy) / intrinsics.fy
        grid = np.stack(np.broadcast_arrays(x[None], y[:, None], np.float32(1)), -1)
        self._rays = np.ascontiguousarray(grid.astype(np.float32)).reshape(-1, 3)
        """(H * W, 3) through the pixels, row by row; z is 1."""

    def render(
        self, actors: list[Actor], room_color: np.ndarray, room_depth: np.ndarray, light: Light, table: np.ndarray
    ) -> Picture:
        """Draw actors before the room.

        Args:
            actors: placed in the optical frame.
            room_color: (H, W, 3) uint8 of the empty room.
            room_depth: (H, W) float32 of it.
            light: in the optical frame.
            table: (4,) plane n.x + d = 0 of the table, optical frame, n upwards; it takes the shadow.
        """
        height, width = room_depth.shape
        depth = room_depth.copy()
        owner = np.full((height, width), -1, np.int8)
        own: list[int] = []
        found: list[tuple[np.ndarray, Hits]] = []
        for number, actor in enumerate(actors):
            pixels = self._pixels_within(actor)
            hits = actor.cast(self._rays[pixels])
            own.append(int(np.isfinite(hits.depth).sum()))
            there = depth.reshape(-1)[pixels]
            front = hits.depth < np.where(there > 0, there, np.inf)
            depth.reshape(-1)[pixels[front]] = hits.depth[front]
            owner.reshape(-1)[pixels[front]] = number
            found.append((pixels, hits))
        color = self._shadowed(room_color, owner, actors, light, table)
        seen = self._fill(color, owner, actors, found, light)
        shade = self._occlusion(depth, owner)
        color *= shade[..., None]
        self._smooth_edges(color, shade, owner, depth, actors, light)
        label_of = np.array([a.label for a in actors] + [LABEL_BACKGROUND], np.uint8)
        return Picture(color, depth, label_of[owner], own, seen)

    def _pixels_within(self, actor: Actor) -> np.ndarray:
        """(K,) flat numbers of the pixels inside the hull of an actor's outline in the picture, a pixel wider."""
        points = actor.outline_points()
        front = points[:, 2] > 0.03
        k = self.intrinsics
        at = points[front, :2] / points[front, 2:] * [k.fx, k.fy] + [k.cx, k.cy]
        at = np.clip(at, -4 * k.width, 5 * k.width).astype(np.float32)
        if not len(at):
            return np.zeros(0, np.int64)
        low = np.clip(np.floor(at.min(0)).astype(int) - 1, 0, [k.width, k.height])
        high = np.clip(np.ceil(at.max(0)).astype(int) + 2, 0, [k.width, k.height])
        if (high <= low).any():
            return np.zeros(0, np.int64)
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        hull = np.round(cv2.convexHull(at) - low.astype(np.float32)).astype(np.int32)
        cv2.fillConvexPoly(mask, hull, 1)
        cv2.polylines(mask, [hull], True, 1, 3)
        y, x = np.nonzero(mask)
        return (y + low[1]) * k.width + (x + low[0])

    def _fill(
        self,
        color: np.ndarray,
        owner: np.ndarray,
        actors: list[Actor],
        found: list[tuple[np.ndarray, Hits]],
        light: Light,
    ) -> list[int]:
        """Shade every pixel of its front actor, in place."""
        seen = []
        for number, (actor, (pixels, hits)) in enumerate(zip(actors, found)):
            index = np.flatnonzero(owner.reshape(-1)[pixels] == number)
            seen.append(len(index))
            if len(index):
                view = _unit(self._rays[pixels[index]])
                color.reshape(-1, 3)[pixels[index]] = actor.colors(hits.take(index), view, light)
        return seen

    def _shadowed(
        self, room: np.ndarray, owner: np.ndarray, actors: list[Actor], light: Light, table: np.ndarray
    ) -> np.ndarray:
        """The room with the soft shadow that the actors cast on the table."""
        scale = 4
        shape = (room.shape[0] // scale, room.shape[1] // scale)
        normal, offset = table[:3], table[3]
        toward = light.toward_key / max(float(normal @ light.toward_key), 0.2)
        dark: np.ndarray = np.zeros(shape, np.float32)
        for actor in actors:
            points = actor.shadow_points()
            above = points @ normal + offset
            points, above = points[above > -0.002], above[above > -0.002, None]
            if not len(points):
                continue
            # The higher a thing, the softer its shadow; where it touches the table, a dark seam besides.
            sigma = float(np.clip(2 + 40 * max(0.0, np.percentile(above, 20)), 2, 7))
            soft = 0.42 * np.clip(1.3 * self._splat(points - above * toward, shape, scale, sigma), 0, 1)
            touching = above[:, 0] < 0.012
            if touching.any():
                feet = points[touching] - above[touching] * normal
                soft = np.maximum(soft, 0.5 * np.clip(1.5 * self._splat(feet, shape, scale, 1.2), 0, 1))
            dark = np.maximum(dark, soft)
        light_left = 1 - cv2.resize(dark, (room.shape[1], room.shape[0]), interpolation=cv2.INTER_LINEAR)
        return room.astype(np.float32) * light_left[..., None]

    def _splat(self, points: np.ndarray, shape: tuple[int, int], scale: int, sigma: float) -> np.ndarray:
        """Blurred picture of points (N, 3) at 1/scale of the size, 0 to 1."""
        mask = np.zeros(shape, np.float32)
        points = points[points[:, 2] > 0.05]
        x = ((points[:, 0] / points[:, 2] * self.intrinsics.fx + self.intrinsics.cx) / scale).astype(int)
        y = ((points[:, 1] / points[:, 2] * self.intrinsics.fy + self.intrinsics.cy) / scale).astype(int)
        inside = (x >= 0) & (x < shape[1]) & (y >= 0) & (y < shape[0])
        mask[y[inside], x[inside]] = 1
        return cv2.GaussianBlur(cv2.dilate(mask, np.ones((3, 3), np.uint8)), (0, 0), sigma)

    def _occlusion(self, depth: np.ndarray, owner: np.ndarray) -> np.ndarray:
        """Darkening (H, W) of hollows: places behind the mean depth of their neighbourhood."""
        shown = np.where(owner >= 0, depth, np.minimum(depth, 0.9)).astype(np.float32)
        small = cv2.resize(shown, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        near = cv2.erode(small, np.ones((3, 3), np.uint8))
        sigma = 5.0 * self.intrinsics.width / 640
        behind = np.clip((small - cv2.GaussianBlur(near, (0, 0), sigma) - 0.0015) / 0.02, 0, 1)
        # A far wall behind a near hand is not a hollow: fade out over large steps, and spare the room.
        behind *= np.clip(1.6 - (small - cv2.erode(near, np.ones((13, 13), np.uint8))) / 0.05, 0, 1)
        behind *= cv2.resize((owner >= 0).astype(np.float32), (small.shape[1], small.shape[0]))
        dark = cv2.GaussianBlur(behind, (0, 0), 1.2)
        return 1 - 0.55 * cv2.resize(dark, (depth.shape[1], depth.shape[0]), interpolation=cv2.INTER_LINEAR)

    def _smooth_edges(
        self,
        color: np.ndarray,
        shade: np.ndarray,
        owner: np.ndarray,
        depth: np.ndarray,
        actors: list[Actor],
        light: Light,
    ) -> None:
        """Average four more rays in pixels where the front actor or the depth jumps, in place."""
        kernel = np.ones((3, 3), np.uint8)
        marks = (owner + 1).astype(np.uint8)
        held = cv2.dilate(marks, kernel)
        edge = held != cv2.erode(marks, kernel)
        capped = np.where(depth > 0, depth, 9).astype(np.float32)
        edge |= (cv2.dilate(capped, kernel) - cv2.erode(capped, kernel) > 0.012) & (marks > 0)
        y, x = np.nonzero(edge)
        if not len(y):
            return
        k = self.intrinsics
        offsets = _AA_OFFSETS[:, None]
        columns, rows = x + offsets[..., 0], y + offsets[..., 1]
        rays = np.stack([(columns - k.cx) / k.fx, (rows - k.cy) / k.fy, np.ones_like(columns)], -1)
        behind = np.broadcast_to(_nearest_room(color, owner, y, x), (len(offsets), len(y), 3))
        traced = self._trace(rays.reshape(-1, 3).astype(np.float32), actors, behind.reshape(-1, 3), light)
        color[y, x] = traced.reshape(len(offsets), len(y), 3).mean(0) * shade[y, x][:, None]

    @staticmethod
    def _trace(rays: np.ndarray, actors: list[Actor], behind: np.ndarray, light: Light) -> np.ndarray:
        """Colours of single rays: the nearest actor's, else `behind`."""
        if not actors:
            return behind
        nearest = np.full(len(rays), np.inf, np.float32)
        owner = np.full(len(rays), -1)
        found = []
        for number, actor in enumerate(actors):
            index = _rays_within(rays, actor.outline_points())
            hits = actor.cast(rays[index])
            closer = hits.depth < nearest[index]
            nearest[index[closer]] = hits.depth[closer]
            owner[index[closer]] = number
            found.append((index, hits))
        out = behind.copy()
        view = _unit(rays)
        for number, (actor, (index, hits)) in enumerate(zip(actors, found)):
            mine = np.flatnonzero(owner[index] == number)
            if len(mine):
                out[index[mine]] = actor.colors(hits.take(mine), view[index[mine]], light)
        return out


def _rays_within(rays: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Numbers of the rays (N, 3), z = 1, that pass the bounds of points (K, 3) in front of the camera."""
    front = points[points[:, 2] > 0.03]
    if not len(front):
        return np.zeros(0, np.int64)
    flat = front[:, :2] / front[:, 2:]
    low, high = flat.min(0), flat.max(0)
    return np.flatnonzero(((rays[:, :2] >= low) & (rays[:, :2] <= high)).all(1))


def _nearest_room(color: np.ndarray, owner: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Room colour at pixels, taken from free neighbours where an actor covers the pixel itself."""
    top, left = max(0, y.min() - 3), max(0, x.min() - 3)
    window = (slice(top, y.max() + 4), slice(left, x.max() + 4))
    free = (owner[window] < 0).astype(np.float32)
    summed = cv2.blur(color[window] * free[..., None], (5, 5))
    filled = summed / np.maximum(cv2.blur(free, (5, 5)), 1e-3)[..., None]
    out = filled[y - top, x - left]
    plain = owner[y, x] < 0
    out[plain] = color[y[plain], x[plain]]
    return out

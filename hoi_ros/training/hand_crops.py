"""Synthetic crops of a hand with exact mesh, joints, camera and masks, cut as the live estimator cuts them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hoi_ros.geometry import invert_transform, make_transform, so3_exp, transform_points
from hoi_ros.hand.regions import region_from_landmarks
from hoi_ros.hand_model import HandModel
from hoi_ros.hand_model.model import MIRROR
from hoi_ros.simulation.holds import Hold
from hoi_ros.simulation.raycast import TriangleScene
from hoi_ros.simulation.skin import ForearmShape, HandSkin
from hoi_ros.training.crop_parts import (
    ARM_PART,
    HAND_PART,
    HELD_PART,
    OTHER_PART,
    Part,
    View,
    corner_values,
    crevices,
    lengths,
    mix,
    own_places,
    pixel_rays,
    seen_triangles,
    small_solid,
)
from hoi_ros.training.crop_pictures import Backgrounds, Harshness, cover, photograph
from hoi_ros.training.hand_poses import sample_hands
from hoi_ros.training.held_things import HeldThing, Paint, ThingStock, random_paint, touch, touching_share

CROP_SIDE = 224
POSES_AT_ONCE, SKINS, ARMS = 512, 16, 48
HELD_SHARE = 0.12
SMALL_SHARE, DISTRACTED_SHARE, SECOND_SHARE, SAME_THING_SHARE = 0.15, 0.45, 0.25, 0.5
"""Of the held things those that are small and lie between the fingers; of the hands that have company those beside
which things lie that nobody holds, and those with a second hand; of these such as hold the same thing, if they can."""
CLEAR_M = 0.015
"""A thing that is not held, and a hand that holds nothing of the other's, keep at least so far away."""
BACKGROUND, HAND, OBJECT, UNKNOWN = 0, 1, 2, 255
_SEGMENT_OF_KIND = np.array([HAND, BACKGROUND, OBJECT, BACKGROUND], np.uint8)


@dataclass(frozen=True)
class HandCrop:
    """One labelled crop; axes of a camera that looks at the crop's middle, metres."""

    image: np.ndarray
    """(S, S, 3) uint8 RGB."""
    camera: np.ndarray
    """(4,) fx / S, fy / S, cx / S, cy / S."""
    vertices: np.ndarray
    """(V, 3) float32 about the joints' mean."""
    joints: np.ndarray
    """(21, 3) float32 about their mean."""
    translation: np.ndarray
    """(3,) float32 where that mean is."""
    joints_2d: np.ndarray
    """(21, 2) float32 fractions of the crop."""
    right: bool
    """Whether it is a right hand."""
    visible: np.ndarray
    """(21,) bool: nothing lies between joint and camera but the hand's own skin over it."""
    segments: np.ndarray
    """(S, S) uint8: BACKGROUND, HAND (either hand), OBJECT (in a hand) or UNKNOWN."""
    contact: np.ndarray
    """(V,) float32 0 to 1: how surely the vertex touches the held thing; NaN where nobody knows."""
    joint_weights: np.ndarray = field(default_factory=lambda: np.ones(21, np.float32))
    """(21,) 1 where the joint is known, 0 where not."""
    has_3d: bool = True
    """Whether vertices, joints and translation are known."""


@dataclass(frozen=True)
class _DrawnHand:
    """A right hand of usual size, wrist frame."""

    vertices: np.ndarray
    """(V, 3) float32."""
    joints: np.ndarray
    """(21, 3)."""
    holds: bool
    """Whether it is one that holds something."""

    def of_side(self, side: str, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Its vertices and joints as a hand of the side and of another size."""
        factors = scale * (np.ones(3) if side == "right" else MIRROR)
        return self.vertices * factors.astype(np.float32), self.joints * factors


class HandCropSource:
    """Endless labelled crops; the same seed gives the same crops."""

    def __init__(
        self,
        seed: int,
        model: HandModel | None = None,
        backgrounds: Path | None = None,
        held_share: float = HELD_SHARE,
        skins: int = SKINS,
    ):
        self.model = model or HandModel.load()
        self._seed, self._held_share = seed, held_share
        self._rng = np.random.default_rng([seed, 21])
        self._skins = [
            HandSkin(self.model, np.zeros(10), float(self._rng.beta(1.2, 1.6)), int(self._rng.integers(1 << 30)))
            for _ in range(skins)
        ]
        rest = self.model.pose(np.zeros((1, len(self.model.joint_angle_names))), np.zeros((1, 10)), "right")
        self._rest = rest.vertices[0].astype(np.float64)
        # Bare or in sleeves that begin anywhere at the wrist.
        sleeves = np.where(self._rng.random(ARMS) < 0.55, self._rng.uniform(-0.01, 0.1, ARMS), 1.0)
        right = self.model.faces("right")
        self._arms = [
            ForearmShape(self._rest, right, float(start), int(self._rng.integers(1 << 30))) for start in sleeves
        ]
        self._backgrounds = Backgrounds(seed, backgrounds)
        self._pool: list[_DrawnHand] = []
        self._stock = ThingStock(self.model, self._rng)

    def restart(self, number: int) -> None:
        """Go to series `number`: the crops that follow depend on the seed and on it alone."""
        self._rng, self._pool = np.random.default_rng([self._seed, 21, number]), []
        self._stock = ThingStock(self.model, self._rng)

    def crop(self, harsh: Harshness | None = None) -> HandCrop:
        """Draw the next crop."""
        harsh, rng = harsh or Harshness(), self._rng
        drawn = self._next_pose()
        holds = drawn.holds
        side = "right" if rng.random() < 0.5 else "left"
        scale = float(np.clip(rng.normal(1, 0.08), 0.75, 1.25))
        thing, hold = self._stock.draw() if holds and rng.random() > SMALL_SHARE else (None, None)
        if thing is not None and hold is not None:
            side = hold.side
            held = self.model.pose(hold.angles[None], thing.shape[None], side, scale)
            vertices, joints = held.vertices[0], held.joints[0]
        else:
            vertices, joints = drawn.of_side(side, scale)
        vertices = vertices.astype(np.float64)
        rotation, offset, focal = self._camera(joints)
        skin = self._skins[rng.integers(len(self._skins))]
        view = View(rotation, offset, scale)
        parts = [self._hand(vertices, side, skin, view)]
        contact = np.zeros(len(vertices), np.float32)
        if rng.random() < 0.9:
            parts.append(self._arm(side, view))
        if thing is not None and hold is not None:
            parts.append(self._placed(HELD_PART, thing, hold.T_wrist_object, view))
            contact = touch(thing, hold, vertices / scale)
        elif holds and rng.random() < 0.85:
            small = self._thing(joints, view)
            parts.append(small)
            contact = touching_share(TriangleScene(small.vertices, small.faces).signed_distance(parts[0].vertices))
        if holds or rng.random() < self._held_share / 2:
            parts += self._company(thing, hold, skin, view, parts[0].vertices)
        joints = joints @ rotation.T + offset
        return self._finish(parts, skin, joints, focal, side == "right", harsh, contact)

    def _next_pose(self) -> _DrawnHand:
        if not self._pool:
            angles, shapes, holds = sample_hands(self.model, self._rng, POSES_AT_ONCE, self._held_share)
            # Posed by the batch, as a single hand takes as long as dozens.
            for part in np.array_split(np.arange(POSES_AT_ONCE), POSES_AT_ONCE // 64):
                posed = self.model.pose(angles[part], shapes[part], "right")
                self._pool += map(_DrawnHand, posed.vertices, posed.joints, holds[part])
        return self._pool.pop()

    def _camera(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Rotation (3, 3) and offset (3,) from the wrist frame to a crop's camera; its focal length in crop sides."""
        rng = self._rng
        rotation = self._view()
        turned = joints @ rotation.T
        offset = [0, 0, rng.uniform(0.22, 0.95)] - turned.mean(0)
        turned = turned + offset
        # The live estimator's region of these joints, with the errors that it makes.
        seen = turned[:, :2] / turned[:, 2:] * 1000
        region = region_from_landmarks(seen)
        size = region.size_px * rng.uniform(0.86, 1.22)
        center = region.center_px + region.size_px * rng.normal(0, 0.035, 2)
        angle = region.angle_rad + rng.normal(0, 0.16)
        forward = np.array([*(center / 1000), 1.0])
        forward /= np.linalg.norm(forward)
        across = np.cross([0.0, 1.0, 0.0], forward)
        across /= np.linalg.norm(across)
        look = np.stack([across, np.cross(forward, across), forward])
        c, s = math.cos(angle), math.sin(angle)
        roll = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        turn = roll @ look
        return turn @ rotation, turn @ offset, 1000 / size

    def _view(self) -> np.ndarray:
        """Rotation (3, 3) from the wrist frame to a camera that looks at the hand: palm, back, or from anywhere."""
        rng = self._rng
        facing = np.diag([1.0, -1.0, -1.0])
        if rng.random() < 0.65:
            yaw = (0.0 if rng.random() < 0.55 else np.pi) + rng.normal(0, 0.6)
            return facing @ so3_exp(np.array([rng.normal(0, 0.5), 0, 0])) @ so3_exp(np.array([0, yaw, 0]))
        axis = rng.standard_normal(4)
        axis /= np.linalg.norm(axis)
        return so3_exp(2 * math.acos(abs(axis[0])) * axis[1:] / max(float(np.linalg.norm(axis[1:])), 1e-9))

    def _hand(self, vertices: np.ndarray, side: str, skin: HandSkin, view: View) -> Part:
        """Skin (V, 3) of a hand in the wrist frame, already of its size."""
        return Part(HAND_PART, vertices @ view.rotation.T + view.offset, self.model.faces(side), skin.attributes)

    def _arm(self, side: str, view: View) -> Part:
        """Forearm, bare or in a sleeve."""
        rng = self._rng
        arm = self._arms[rng.integers(ARMS)]
        bend = so3_exp(np.array([rng.uniform(-0.9, 0.9), 0, rng.uniform(-0.5, 0.5)]))
        wrist, elbow = np.eye(4), bend @ np.array([0, -0.3, 0])
        tube = arm.build(wrist, elbow, side)
        faces = arm.faces if side == "right" else arm.faces[:, ::-1]
        return Part(ARM_PART, view.see(tube), faces, arm.attributes)

    def _thing(self, joints: np.ndarray, view: View) -> Part:
        """A held cylinder, ball or box between fingers and palm; joints (21, 3) wrist frame, of their size."""
        rng = self._rng
        grip = (joints[[5, 9, 13, 17]].mean(0) + joints[[7, 11, 15]].mean(0) + joints[4]) / 3
        radius = float(rng.uniform(0.004, 0.03))
        vertices, faces = small_solid(rng, radius)
        turn = so3_exp(rng.normal(0, 0.35, 3)) @ so3_exp(np.array([0, math.pi / 2, 0]))
        placed = (vertices @ turn.T + grip) @ view.rotation.T + view.offset
        return Part(HELD_PART, placed, faces, own_places(vertices), self._paint())

    def _paint(self) -> Paint:
        return random_paint(self._rng, self._backgrounds.cut(self._rng, CROP_SIDE))

    def _placed(self, kind: int, thing: HeldThing, T_wrist_thing: np.ndarray, view: View) -> Part:
        """A thing of the stock at a pose in the wrist frame."""
        turn = view.rotation @ T_wrist_thing[:3, :3]
        corners = view.see(transform_points(T_wrist_thing, thing.corners))
        return Part(kind, corners, thing.faces, own_places(thing.corners), self._paint(), thing.normals @ turn.T)

    def _company(
        self, thing: HeldThing | None, hold: Hold | None, skin: HandSkin, view: View, hand: np.ndarray
    ) -> list[Part]:
        """A second hand, and things that nobody holds: behind the hand (V, 3) or beside it, but apart."""
        rng, parts = self._rng, []
        if rng.random() < SECOND_SHARE:
            parts += self._second_hand(thing, hold, skin, view, hand)
        for _ in range(rng.integers(1, 4) if rng.random() < DISTRACTED_SHARE else 0):
            other = self._stock.any()
            reach = rng.uniform(0.05, 0.2) * np.array([1, 1, 0]) + [0, 0, rng.uniform(0.0, 0.3)]
            middle = hand.mean(0) + reach * [*rng.choice([-1, 1], 2), 1]
            pose = make_transform(so3_exp(rng.normal(0, 1.5, 3)), middle)
            seen = transform_points(invert_transform(pose), hand)
            if middle[2] < 0.12 or other.distance_near(seen, CLEAR_M).min() < CLEAR_M:
                continue
            turned = other.normals @ pose[:3, :3].T
            corners = transform_points(pose, other.corners)
            parts.append(Part(OTHER_PART, corners, other.faces, own_places(other.corners), self._paint(), turned))
        return parts

    def _second_hand(
        self, thing: HeldThing | None, hold: Hold | None, skin: HandSkin, view: View, hand: np.ndarray
    ) -> list[Part]:
        """Another hand that holds the same thing, holds nothing, or is not there after all where it would collide."""
        rng = self._rng
        partners = [] if thing is None or hold is None else [h for h in thing.holds if h.side != hold.side]
        if thing is not None and hold is not None and partners and rng.random() < SAME_THING_SHARE:
            partner = partners[rng.integers(len(partners))]
            T_wrist_other = hold.T_wrist_object @ partner.T_object_wrist
            posed = self.model.pose(partner.angles[None], thing.shape[None], partner.side).vertices[0]
            own = View(
                view.rotation @ T_wrist_other[:3, :3],
                view.see(T_wrist_other[None, :3, 3])[0],
                view.scale,
            )
            skinned, side = own.see(posed.astype(np.float64)), partner.side
        else:
            drawn = self._next_pose()
            side = str(rng.choice(["left", "right"]))
            posed, _ = drawn.of_side(side, 1.0)
            shift = rng.uniform(0.06, 0.2) * np.array([math.cos(t := rng.uniform(0, 2 * np.pi)), math.sin(t), 0])
            turn = self._view()
            middle = hand.mean(0) + shift + [0, 0, rng.uniform(-0.06, 0.12)]
            own = View(turn, middle - view.scale * turn @ posed.mean(0), view.scale)
            skinned = own.see(posed.astype(np.float64))
        near = np.linalg.norm(skinned[::6, None] - hand[None, ::6], axis=-1).min()
        if near < CLEAR_M or skinned[:, 2].min() < 0.1:
            return []
        second = Part(HAND_PART, skinned, self.model.faces(side), skin.attributes)
        return [second, self._arm(side, own)] if rng.random() < 0.9 else [second]

    def _finish(
        self,
        parts: list[Part],
        skin: HandSkin,
        joints: np.ndarray,
        focal: float,
        right: bool,
        harsh: Harshness,
        contact: np.ndarray,
    ) -> HandCrop:
        """Cast, shade, compose and photograph."""
        rng, side = self._rng, CROP_SIDE
        starts = np.cumsum([0] + [len(part.vertices) for part in parts])
        vertices = np.concatenate([part.vertices for part in parts])
        triangles = np.concatenate([part.faces + start for part, start in zip(parts, starts)])
        owners = np.repeat(np.arange(len(parts), dtype=np.uint8), [len(part.faces) for part in parts])
        kinds = np.array([part.kind for part in parts])
        kept, pixels = seen_triangles(vertices, triangles, (kinds != ARM_PART)[owners], focal, side)
        rays = pixel_rays(pixels, focal, side)
        corners, owners = triangles[kept], owners[kept]
        hit = TriangleScene(vertices, corners).cast(np.zeros(3), rays)
        # Pixels in order of the parts that they show: what is done by part then needs no picking.
        found = np.flatnonzero(hit["t_hit"] < np.inf)
        found = found[np.argsort(owners[hit["primitive_ids"][found]], kind="stable")]
        where, number = pixels[found], hit["primitive_ids"][found].astype(np.int64)
        ends = np.searchsorted(owners[number], np.arange(len(parts)), side="right")
        spans = [slice(start, end) for start, end in zip([0, *ends], ends)]
        kind = np.repeat(kinds.astype(np.uint8), np.diff(ends, prepend=0))
        values = corner_values(parts, skin, vertices, triangles)
        mixed = mix(values, corners.take(number, 0), hit["primitive_uvs"].take(found, 0))
        shaded = self._colors(mixed, spans, parts, skin)
        self._light(shaded, mixed[4:7], np.ascontiguousarray(rays.take(found, 0).T), kind, harsh.light)
        depth = np.full((side, side), np.inf, np.float32)
        depth.reshape(-1)[where] = hit["t_hit"][found]
        image = self._scenery(len(parts) > 2)
        shaded *= 1 - crevices(depth, where, float(rng.uniform(0.2, 0.7)))
        for channel, values in enumerate(shaded):
            image.reshape(-1)[3 * where + channel] = values
        segments = np.zeros((side, side), np.uint8)
        segments.reshape(-1)[where] = _SEGMENT_OF_KIND[kind]
        joints_2d = joints[:, :2] / joints[:, 2:] * focal + 0.5
        if rng.random() < 0.35 * harsh.occlusion:
            segments[cover(image, joints_2d * side, rng, self._backgrounds.cut(rng, side))] = BACKGROUND
        middle = joints.mean(0)
        hand = parts[0].vertices
        return HandCrop(
            photograph(image, rng, harsh.camera),
            np.array([focal, focal, 0.5, 0.5], np.float32),
            (hand - middle).astype(np.float32),
            (joints - middle).astype(np.float32),
            middle.astype(np.float32),
            joints_2d.astype(np.float32),
            right,
            _visible(joints, joints_2d, depth, segments),
            segments,
            contact,
        )

    def _scenery(self, cluttered: bool) -> np.ndarray:
        """(S, S, 3) float32 behind everything; cluttered: often surfaces that meet, as table, wall and shelf."""
        rng, side = self._rng, CROP_SIDE
        image = self._backgrounds.cut(rng, side)
        if not cluttered or rng.random() < 0.4:
            return image
        y, x = np.mgrid[:side, :side] / side - 0.5
        for _ in range(rng.integers(1, 4)):
            angle, level = rng.uniform(0, 2 * np.pi), rng.uniform(-0.4, 0.5)
            soft = rng.uniform(0.002, 0.03)
            share = np.clip(0.5 + (x * math.cos(angle) + y * math.sin(angle) - level) / soft, 0, 1)
            if rng.random() < 0.4:  # the corner of something, not a whole half
                turned = angle + rng.uniform(1.2, 1.9)
                edge = x * math.cos(turned) + y * math.sin(turned) - rng.uniform(-0.3, 0.3)
                share = share * np.clip(0.5 + edge / soft, 0, 1)
            change = self._backgrounds.cut(rng, side)
            change -= image
            change.reshape(side, -1)[:] *= np.repeat(share.astype(np.float32), 3, 1)
            image += change
        return image

    def _colors(self, mixed: np.ndarray, spans: list[slice], parts: list[Part], skin: HandSkin) -> np.ndarray:
        """(3, N) float32 RGB of hits without light; mixed (7, N) of `corner_values`, and each part's span of them."""
        rng = self._rng
        out = np.empty((3, mixed.shape[1]), np.float32)
        glove = rng.random() < 0.04
        hands = [span.stop > span.start for span, part in zip(spans, parts) if part.kind == HAND_PART]
        glove_color = rng.uniform(20, 230, 3).astype(np.float32) if glove and any(hands) else None
        cloth = rng.uniform(15, 240, 3).astype(np.float32)
        for span, part in zip(spans, parts):
            own = mixed[:4, span]
            if not own.shape[1]:
                continue
            if part.kind == HAND_PART:
                bare = skin.colors(own.T)
                bare = bare if glove_color is None else bare.mean(1, keepdims=True) / 160 * glove_color
                out[:, span] = bare.T
            elif part.kind == ARM_PART:
                x, y, palm, sleeve = own
                weave = 1 + 0.07 * np.sin(x * 2400) * np.sin(y * 2400)
                bare = skin.base[:, None] + palm * (skin.palm_base - skin.base)[:, None]
                out[:, span] = np.where(sleeve > 0.5, cloth[:, None] * weave, bare)
            elif part.paint is not None:
                out[:, span] = part.paint(own[:3].T.astype(np.float64)).T
        out *= (1 + 0.05 * rng.standard_normal(3)).astype(np.float32)[:, None]
        return out

    def _light(self, color: np.ndarray, normals: np.ndarray, rays: np.ndarray, kind: np.ndarray, harsh: float) -> None:
        """Put ambient light and one or two lamps on colours (3, N) in place; normals and rays (3, N), any length."""
        rng = self._rng
        normals = normals / (lengths(normals) + np.float32(1e-9))
        view = rays / lengths(rays)
        ambient = rng.uniform(0.55 - 0.3 * harsh, 0.75)
        light = np.empty_like(color)
        light[:] = np.float32(ambient) * (1 - np.float32(0.25 * rng.uniform(-0.3, 1)) * normals[1])
        shine = np.zeros(color.shape[1], np.float32)
        wrap = rng.uniform(0.1, 0.45)
        seen = (view * normals).sum(0)
        hard = kind >= HELD_PART
        for _ in range(rng.integers(1, 3)):
            toward = rng.standard_normal(3) + [0, -0.7, -1.0]
            toward = (toward / np.linalg.norm(toward)).astype(np.float32)
            tint = rng.uniform(0.25, 0.75) * (1 + 0.06 * rng.standard_normal(3))
            lit = toward @ normals
            light += np.maximum((lit + wrap) / (1 + wrap), 0) * tint.astype(np.float32)[:, None]
            # The vector half way between lamp and eye is their difference here, as `view` leads away from the eye.
            half = np.sqrt(np.maximum(2 - 2 * (toward @ view), 0)) + np.float32(1e-9)
            power = np.where(hard, np.float32(30), np.float32(rng.uniform(8, 30)))
            shine += np.clip((lit - seen) / half, 0, 1) ** power * np.float32(rng.uniform(0, 45) * (0.5 + harsh))
        color *= light
        color += shine


def _visible(joints: np.ndarray, joints_2d: np.ndarray, depth: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """(21,) bool: at the joint's pixel the hand is seen, not much nearer than the joint."""
    side = len(depth)
    at = np.floor(joints_2d * side).astype(int)
    inside = ((at >= 0) & (at < side)).all(1)
    x, y = np.clip(at, 0, side - 1).T
    return inside & (segments[y, x] == HAND) & (depth[y, x] > joints[:, 2] - 0.022)

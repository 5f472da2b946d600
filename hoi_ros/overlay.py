"""Results drawn on the picture they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from hoi_ros.datatypes import SKELETON_EDGES, CameraIntrinsics, HandEstimate, ObjectObservation
from hoi_ros.geometry import project, transform_points

HAND_COLORS = {"left": (96, 190, 255), "right": (255, 170, 96)}
FINGER_COLORS = ((255, 99, 99), (255, 205, 80), (110, 220, 110), (90, 200, 250), (190, 130, 255))
_WRIST_COLOR = (240, 240, 240)
_OBJECT_COLOR = (90, 230, 140)
_AXIS_COLORS = ((255, 70, 70), (80, 220, 80), (80, 120, 255))
_STATE_COLORS = {"tracking": (120, 240, 150), "lost": (255, 110, 90)}
_SUBPIXEL_BITS = 3


def draw_overlay(
    color: np.ndarray,
    hands: Sequence[HandEstimate] = (),
    faces_by_side: Mapping[str, np.ndarray] | None = None,
    observation: ObjectObservation | None = None,
    status: str = "",
    *,
    intrinsics: CameraIntrinsics | None = None,
) -> np.ndarray:
    """Draw hands, object and a status line; the input stays as it is.

    Args:
        color: (H, W, 3) uint8 RGB.
        hands: meshes need `faces_by_side`; what is NaN or behind the camera is left out.
        faces_by_side: 'left'/'right' to (F, 3) faces of the hand model, counter-clockwise from outside.
        observation: mask, pose and state of the object.
        status: a line at the lower edge, such as the rate.
        intrinsics: of the picture; None guesses them from the usual field of view.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    image = np.ascontiguousarray(color).copy()
    camera = intrinsics or CameraIntrinsics.from_fov(color.shape[1], color.shape[0])
    if observation is not None and observation.mask is not None:
        _tint_mask(image, observation.mask)
    far_to_near = sorted(hands, key=_distance, reverse=True)
    for hand in far_to_near:
        faces = (faces_by_side or {}).get(hand.handedness)
        if faces is not None:
            _draw_mesh(image, hand, faces, camera)
    for hand in far_to_near:
        _draw_skeleton(image, hand.joints_px)
        _draw_label(image, hand)
    if observation is not None:
        _draw_pose_and_state(image, observation, camera)
    if status:
        _write(image, status, (8, image.shape[0] - 10), (255, 255, 255))
    return image


def _distance(hand: HandEstimate) -> float:
    """Distance for the painter's order; unknown ones come first."""
    z = hand.joints_camera[:, 2]
    return float(np.mean(z)) if np.isfinite(z).all() else np.inf


def _tint_mask(image: np.ndarray, mask: np.ndarray) -> None:
    """Colour the mask's pixels and outline them."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if not width:
        return
    cut = image[y : y + height, x : x + width]
    inside = np.ascontiguousarray(mask[y : y + height, x : x + width]).astype(np.uint8)
    tinted = cv2.addWeighted(cut, 0.68, np.full_like(cut, _OBJECT_COLOR), 0.32, 0)
    cv2.copyTo(tinted, inside, cut)
    contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(cut, contours, -1, _OBJECT_COLOR, 1)


def _draw_mesh(image: np.ndarray, hand: HandEstimate, faces: np.ndarray, camera: CameraIntrinsics) -> None:
    """Blend the hand's front triangles over the picture, farthest first, lit from the camera."""
    vertices = np.asarray(hand.vertices_camera, np.float32)
    if len(vertices) == 0 or faces.max(initial=-1) >= len(vertices):
        return
    pixels = project(vertices, camera)
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    centers = corners.mean(1)
    facing = -np.einsum("fi,fi->f", normals, centers)
    facing /= np.maximum(np.linalg.norm(normals, axis=1) * np.linalg.norm(centers, axis=1), 1e-12)
    polygons = pixels[faces]
    height, width = image.shape[:2]
    with np.errstate(invalid="ignore"):
        inside = (polygons.max(1) >= 0).all(1) & (polygons.min(1) < (width, height)).all(1)
        near = (np.abs(polygons) < 1e4).all((1, 2))
        drawn = np.flatnonzero((facing > 0) & inside & near)
    if not len(drawn):
        return
    drawn = drawn[np.argsort(-centers[drawn, 2])]
    low = np.maximum(np.floor(polygons[drawn].min((0, 1))).astype(int), 0)
    high = np.minimum(np.ceil(polygons[drawn].max((0, 1))).astype(int) + 2, (width, height))
    cut = image[low[1] : high[1], low[0] : high[0]]
    layer, covered = cut.copy(), np.zeros(cut.shape[:2], np.uint8)
    base = np.array(HAND_COLORS.get(hand.handedness, _WRIST_COLOR), np.float32)
    shades = (base * (0.35 + 0.65 * facing[drawn, None])).astype(int).tolist()
    fixed = np.round((polygons[drawn] - low) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    for polygon, shade in zip(fixed, shades):
        cv2.fillConvexPoly(layer, polygon, shade, cv2.LINE_8, _SUBPIXEL_BITS)
    cv2.fillConvexPoly(covered, fixed[0], 1, cv2.LINE_8, _SUBPIXEL_BITS)
    covered |= (layer != cut).any(2)
    cv2.copyTo(cv2.addWeighted(cut, 0.35, layer, 0.65, 0), covered, cut)


def _draw_skeleton(image: np.ndarray, joints_px: np.ndarray) -> None:
    """Bones and joints, a colour a finger; joints that are NaN or far outside are left out."""
    with np.errstate(invalid="ignore"):
        usable = (np.abs(joints_px) < 1e4).all(1)
    fixed = np.round(np.where(usable[:, None], joints_px, 0) * (1 << _SUBPIXEL_BITS)).astype(int).tolist()
    for start, end in SKELETON_EDGES:
        if usable[start] and usable[end]:
            tone = FINGER_COLORS[(end - 1) // 4]
            cv2.line(image, fixed[start], fixed[end], tone, 2, cv2.LINE_AA, _SUBPIXEL_BITS)
    for joint in np.flatnonzero(usable):
        tone = FINGER_COLORS[(joint - 1) // 4] if joint else _WRIST_COLOR
        cv2.circle(image, fixed[joint], 3 << _SUBPIXEL_BITS, (30, 30, 30), -1, cv2.LINE_AA, _SUBPIXEL_BITS)
        cv2.circle(image, fixed[joint], 2 << _SUBPIXEL_BITS, tone, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_label(image: np.ndarray, hand: HandEstimate) -> None:
    """Side, track and score above the hand's box."""
    if not np.isfinite(hand.box_px).all():
        return
    text = f"{hand.handedness} {hand.track_id} {hand.score:.2f}"
    width = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]
    x = int(np.clip(hand.box_px[0], 2, max(2, image.shape[1] - width - 4)))
    y = int(np.clip(hand.box_px[1] - 6, 14, image.shape[0] - 6))
    _write(image, text, (x, y), HAND_COLORS.get(hand.handedness, _WRIST_COLOR))


def _draw_pose_and_state(image: np.ndarray, observation: ObjectObservation, camera: CameraIntrinsics) -> None:
    """The object's axes, 5 cm long (x red, y green, z blue), and its state in words."""
    pose = observation.T_camera_object
    if pose is not None and np.isfinite(pose).all():
        axes = np.concatenate([np.zeros((1, 3)), 0.05 * np.eye(3)])
        pixels = project(transform_points(pose, axes), camera)
        if np.isfinite(pixels).all() and (np.abs(pixels) < 1e4).all():
            fixed = np.round(pixels * (1 << _SUBPIXEL_BITS)).astype(int).tolist()
            farthest_first = np.argsort(-pose[2, :3])
            for axis in farthest_first:
                tone = _AXIS_COLORS[axis]
                cv2.line(image, fixed[0], fixed[axis + 1], tone, 2, cv2.LINE_AA, _SUBPIXEL_BITS)
    text = f"object: {observation.state}"
    if observation.state == "tracking" and np.isfinite(observation.residual_m):
        text += f"  {observation.inlier_fraction:.0%} explained, {observation.residual_m * 1e3:.1f} mm"
    elif observation.message:
        text += f" ({observation.message})"
    _write(image, text, (8, 20), _STATE_COLORS.get(observation.state, (230, 230, 230)))


def _write(image: np.ndarray, text: str, at: tuple[int, int], tone: tuple[int, int, int]) -> None:
    """Outlined text at its lower left corner; characters the font lacks become '?'."""
    text = text.encode("ascii", "replace").decode()
    # The outline is the same text moved by a pixel: a thicker stroke is a wider font in OpenCV 5.
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        cv2.putText(image, text, (at[0] + dx, at[1] + dy), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (20, 20, 20), 1, cv2.LINE_AA)
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, tone, 1, cv2.LINE_AA)

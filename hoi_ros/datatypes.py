"""Records that cross folders. Frozen; every array states shape, unit and frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from hoi_ros.errors import InputError

HAND_SIDES = ("left", "right")
FINGERS = ("thumb", "index", "middle", "ring", "little")
JOINT_NAMES = (
    "wrist",
    "thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip",
    "index_mcp", "index_pip", "index_dip", "index_tip",
    "middle_mcp", "middle_pip", "middle_dip", "middle_tip",
    "ring_mcp", "ring_pip", "ring_dip", "ring_tip",
    "little_mcp", "little_pip", "little_dip", "little_tip",
)  # fmt: skip
SKELETON_EDGES = tuple((0 if i % 4 == 1 else i - 1, i) for i in range(1, 21))
OPTICAL_FRAME = "camera_color_optical_frame"

LABEL_BACKGROUND, LABEL_OBJECT, LABEL_LEFT_HAND, LABEL_RIGHT_HAND = 0, 1, 2, 3
LABEL_STANDING = 4
"""Of the first thing that only stands there; the next ones follow."""


@dataclass(frozen=True)
class CameraIntrinsics:
    """Pinhole camera, pixels; pixel centres lie at whole numbers."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    guessed: bool = False
    """True when no calibration was given and a field of view was assumed."""

    def __post_init__(self) -> None:
        values = (self.fx, self.fy, self.cx, self.cy)
        if not all(math.isfinite(v) for v in values) or self.fx <= 0 or self.fy <= 0:
            raise InputError(
                f"camera intrinsics fx={self.fx} fy={self.fy} cx={self.cx} cy={self.cy} are not usable: "
                "give finite values with fx, fy > 0, or none at all to have them guessed"
            )
        if self.width < 1 or self.height < 1:
            raise InputError(f"image size {self.width}x{self.height} in the camera intrinsics: give the real one")

    @staticmethod
    def from_fov(width: int, height: int, fov_deg: float = 60.0) -> CameraIntrinsics:
        """Guess a camera from the field of view over the image's longer side, in degrees."""
        focal = max(width, height) / 2 / math.tan(math.radians(fov_deg) / 2)
        return CameraIntrinsics(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2, guessed=True)

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) float64 K."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)


@dataclass(frozen=True)
class HandTruth:
    """Exact state of one simulated hand."""

    handedness: str
    joints_camera: np.ndarray
    """(21, 3) metres, optical frame."""
    vertices_camera: np.ndarray
    """(V, 3) metres, optical frame."""
    visible_fraction: float
    """Share of the hand's pixels that nothing hides and that lie inside the image, 0 to 1."""
    joint_angles: np.ndarray | None = None
    """(A,) radians, in the order of the hand model's `joint_angle_names`."""
    T_camera_wrist: np.ndarray | None = None
    """(4, 4) frame of the hand model's wrist bone."""


@dataclass(frozen=True)
class FrameTruth:
    """What a simulator knows of a frame."""

    hands: tuple[HandTruth, ...]
    T_camera_object: dict[str, np.ndarray]
    """Object name to (4, 4)."""
    T_world_camera: np.ndarray
    """(4, 4)."""
    labels: np.ndarray
    """(H, W) uint8, LABEL_* of the pixel's surface."""
    depth_m: np.ndarray
    """(H, W) float32 without noise, 0 where nothing is."""
    object_visible: dict[str, float] = field(default_factory=dict)
    """Object name to the share of its pixels that nothing hides and that lie inside the image, 0 to 1."""


@dataclass(frozen=True)
class RgbdFrame:
    """One picture of the world, with depth where a sensor gives it."""

    color: np.ndarray
    """(H, W, 3) uint8 RGB."""
    intrinsics: CameraIntrinsics
    stamp_ns: int
    """Time of exposure, nanoseconds; the source's clock."""
    index: int = 0
    """Number of the frame in its source, from 0."""
    depth_m: np.ndarray | None = None
    """(H, W) float32 metres along the optical axis, aligned to colour, 0 where unknown."""
    frame_id: str = OPTICAL_FRAME
    name: str = ""
    """File or topic it came from, for messages."""
    truth: FrameTruth | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.color.ndim != 3 or self.color.shape[2] != 3 or self.color.dtype != np.uint8:
            raise InputError(
                f"colour image {self.name or self.index} is {self.color.dtype} {self.color.shape}: give (H, W, 3) uint8"
            )
        if self.depth_m is not None and self.depth_m.shape != self.color.shape[:2]:
            raise InputError(
                f"depth {self.depth_m.shape} and colour {self.color.shape[:2]} of frame {self.name or self.index} "
                "differ in size: align depth to colour first"
            )

    @property
    def stamp_s(self) -> float:
        """Stamp in seconds."""
        return self.stamp_ns * 1e-9


@dataclass(frozen=True)
class HandSegments:
    """A turned square around a hand: what its pixels are."""

    shares: np.ndarray
    """(S, S, 3) float32 probabilities of background, hand and held object."""
    center_px: np.ndarray
    """(2,) of the square, pixels."""
    size_px: float
    """Side of the square, pixels."""
    angle_rad: float
    """Turn of the square in the image, clockwise as seen."""

    def in_image(self, height: int, width: int) -> np.ndarray:
        """Probabilities (H, W, 3) float32 for an image's pixels; outside of the square all is 0."""
        import cv2

        side = len(self.shares)
        c, s = np.cos(self.angle_rad) * self.size_px / side, np.sin(self.angle_rad) * self.size_px / side
        linear = np.array([[c, -s], [s, c]])
        offset = self.center_px + linear @ np.full(2, 0.5 - side / 2)
        affine = np.concatenate([linear, offset[:, None]], 1)
        return cv2.warpAffine(self.shares.astype(np.float32), affine, (width, height), flags=cv2.INTER_LINEAR)


@dataclass(frozen=True)
class HandEstimate:
    """One hand in one frame."""

    track_id: int
    """Stays with the hand from frame to frame."""
    handedness: str
    """'left' or 'right', the person's own."""
    score: float
    """0 to 1: how sure that this is a hand."""
    joints_px: np.ndarray
    """(21, 2) pixels, JOINT_NAMES order."""
    box_px: np.ndarray
    """(4,) x0 y0 x1 y1 around the hand, pixels."""
    joints_camera: np.ndarray
    """(21, 3) metres, optical frame."""
    vertices_camera: np.ndarray
    """(V, 3) metres, optical frame; faces come from the hand model of this side."""
    T_camera_wrist: np.ndarray
    """(4, 4) frame of the hand model's wrist bone: y to the middle finger, z out of the palm."""
    bone_rotations: np.ndarray
    """(21, 3, 3) bone frames in the optical frame; a tip has its last bone's."""
    joint_angles: np.ndarray
    """(A,) radians, in the order of the hand model's `joint_angle_names`."""
    shape: np.ndarray
    """(10,) shape coefficients, held steady over a track."""
    sigma_m: float
    """One standard deviation of the hand's distance to the camera, metres."""
    depth_used: bool = False
    """True when a depth sensor placed the hand."""
    landmarks_camera: np.ndarray | None = None
    """(21, 3) metres: the network's own joints before the mesh fit, placed like the mesh."""
    segments: HandSegments | None = None
    """What lies around the hand, from an estimator that says so."""
    contact: np.ndarray | None = None
    """(V,) 0 to 1 how surely a vertex touches something, likewise."""


@dataclass(frozen=True)
class PoseRevision:
    """Poses of earlier frames that turned out to be wrong, corrected."""

    stamps_ns: np.ndarray
    """(K,) int64 stamps of those frames: the object's keyframes."""
    T_camera_object: np.ndarray
    """(K, 4, 4) corrected."""
    number: int = 1
    """Counts an object's revisions, from 1: one is said with several frames, since any single one may be skipped."""


@dataclass(frozen=True)
class ObjectObservation:
    """The held object in one frame."""

    state: str
    """'no_depth', 'waiting' (nothing held yet), 'tracking' or 'lost'."""
    object_id: int = 0
    T_camera_object: np.ndarray | None = None
    """(4, 4); None unless tracking."""
    T_hand_object: np.ndarray | None = None
    """(4, 4) in the wrist frame of `hand_track_id`; None when no hand is near."""
    hand_track_id: int | None = None
    mask: np.ndarray | None = None
    """(H, W) bool: pixels of the object, without the hand."""
    hand_mask: np.ndarray | None = None
    """(H, W) bool: pixels of hands."""
    is_keyframe: bool = False
    inlier_fraction: float = 0.0
    """Share of the mask's pixels that the model explains, 0 to 1."""
    residual_m: float = float("nan")
    """Median point-to-plane distance of the inliers, metres."""
    message: str = ""
    """Why it waits or was lost, or which turn it cannot see, in words."""
    covariance: np.ndarray | None = None
    """(6, 6) of translation (m) of the object's middle and rotation (rad), camera axes; None unless tracking."""
    revision: PoseRevision | None = None
    """Keyframes whose poses were corrected lately; this frame's own pose goes with them."""
    own_depth_m: np.ndarray | None = None
    """(H, W) float32 depth of the object's pixels, 0 elsewhere, when it is tracked without a depth camera."""


@dataclass(frozen=True)
class TriangleMesh:
    """Triangles with optional colours."""

    vertices: np.ndarray
    """(N, 3) float32 metres."""
    faces: np.ndarray
    """(M, 3) int32, counter-clockwise seen from outside."""
    colors: np.ndarray | None = None
    """(N, 3) uint8 RGB."""

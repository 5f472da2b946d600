"""What the pairwise network says of a thing that is followed by colour: its relief, and how it turned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from hoi_ros.datatypes import HandEstimate, RgbdFrame
from hoi_ros.device import resolve_device
from hoi_ros.geometry import nearest_rigid, rotation_angle
from hoi_ros.tracking.pointmap_asking import NetworkPairs
from hoi_ros.tracking.pointmap_checkpoint import load_pointmap_network
from hoi_ros.tracking.pointmap_crop import hide_background, look_at_box
from hoi_ros.tracking.pointmap_intrinsics import focal_from_pointmap
from hoi_ros.tracking.pointmap_motion import MotionConfig
from hoi_ros.tracking.pointmap_network import PointmapNetwork
from hoi_ros.tracking.pointmap_object import KeyView
from hoi_ros.tracking.pointmap_places import unprojected
from hoi_ros.tracking.pointmap_relief import ConfidentDepth, pointmap_depth
from hoi_ros.tracking.pointmap_stream import StreamConfig, StreamView, choose_partners, place_view, wants_view
from hoi_ros.tracking.pointmap_structure import PosePrior

SHIPPED = Path(__file__).parent / "weights" / "pointmap_network.pt"
POINT_SIGMA_M = 0.02
"""How far corresponding points of two pointmaps usually lie apart."""
MIN_HAND_CELLS, _CELL_PX = 6, 6
"""Fewest places where hand mesh and relief are compared, and their size in crop pixels."""
MARGIN, MIN_KNOWN, SHOWN_PX = 1.2, 6, 5
TURN_RAD, TURN_SHARE, SHIFT_M = float(np.radians(8.0)), 0.15, np.array([0.01, 0.01, 0.03])
"""How far off the network is: its turn, with a share of what lies between the views; its place, camera axes."""


def load_guide(path: str, device: str = "auto") -> PointmapGuide | None:
    """The guide with the weights of a file, with those that ship for '', and None for 'none'.

    Raises:
        InputError: the file does not hold a pointmap network.
    """
    if path == "none" or (not path and not SHIPPED.exists()):
        return None
    device = resolve_device(device)
    return PointmapGuide(load_pointmap_network(path or SHIPPED, device), device)


class PointmapGuide:
    """Asks the network about views of one object; its answers are metric by the hand's mesh."""

    def __init__(self, network: PointmapNetwork, device: str = "cpu", config: StreamConfig | None = None) -> None:
        """Wrap a network; `config` says which pairs are asked about."""
        self._ask = NetworkPairs(network, device)
        self._size = network.config.image_px
        self._config = config or StreamConfig()
        self._count = 0
        self._known_relief: tuple[int, np.ndarray, np.ndarray] | None = None
        self.sees_focal = network.config.output == "camera"
        """Whether `focal_px` has an answer: a network that counts from the crop's middle knows of no camera."""

    def focal_px(self, frame: RgbdFrame) -> float:
        """Focal length that the network reads off the middle square of a picture, pixels; NaN where it cannot.

        Hands and background stay in the picture: it is the room that shows the perspective.
        """
        height, width = frame.color.shape[:2]
        half, camera = (min(height, width) - 1) / 2, frame.intrinsics
        middle = np.array([camera.cx, camera.cy])
        crop = look_at_box(np.concatenate([middle - half, middle + half]), camera, self._size, margin=1.0)
        self._count += 1
        view = StreamView(self._count, crop, crop.cut(frame.color), np.zeros((self._size,) * 2, bool), 1.0)
        answer = self._ask(view, view)
        self._ask.forget(view.index)
        points = answer.first + [0, 0, 1 / crop.half_tangent]
        return focal_from_pointmap(points, answer.first_confidence) * camera.fx / crop.focal_px

    def look(
        self, frame: RgbdFrame, hands: Sequence[HandEstimate], mask: np.ndarray, hand_mask: np.ndarray | None = None,
        holder: int | None = None,
    ) -> StreamView | None:  # fmt: skip
        """A view of hands and object, its depth from the hand that holds it; None where they show too little.

        Args:
            frame: colour.
            hands: those that may hold it.
            mask: (H, W) bool pixels of the object.
            hand_mask: (H, W) bool pixels of the hands; with it all else is hidden from the network.
            holder: track id of the hand that holds it; without it all hands say how deep the view lies.
        """
        rows, columns = np.nonzero(mask)
        if len(rows) < 12 or not hands:
            return None
        places = [h.joints_px for h in hands] + [np.array([[columns.min(), rows.min()], [columns.max(), rows.max()]])]
        low, high = np.concatenate(places).min(0), np.concatenate(places).max(0)
        middle, half = (low + high) / 2, max(float((high - low).max()) / 2, 8.0)
        crop = look_at_box(np.concatenate([middle - half, middle + half]), frame.intrinsics, self._size, margin=MARGIN)
        inside = crop.cut(mask.astype(np.uint8), nearest=True) > 0
        self._count += 1
        picture = crop.cut(frame.color)
        if hand_mask is not None:
            shown = crop.cut((mask | hand_mask).astype(np.uint8), nearest=True)
            picture = hide_background(picture, cv2.dilate(shown, np.ones((SHOWN_PX, SHOWN_PX), np.uint8)) > 0)
        view = StreamView(self._count, crop, picture, inside, 1.0)
        depth = self._depth_by_hands(view, [hand for hand in hands if hand.track_id == holder] or hands)
        return None if depth is None else replace(view, depth_m=depth)

    def _depth_by_hands(self, view: StreamView, hands: Sequence[HandEstimate]) -> float | None:
        """Depth of the crop's middle that lays the hands' relief on their meshes."""
        points = view.crop.crop_points(np.concatenate([hand.vertices_camera for hand in hands]).astype(np.float64))
        points = points[points[:, 2] > 0]
        pixel = np.rint(points[:, :2] / points[:, 2:] * view.crop.focal_px + (self._size - 1) / 2).astype(int)
        inside = ((pixel >= 0) & (pixel < self._size)).all(1)
        pixel, depth = pixel[inside], points[inside, 2]
        cell = (pixel[:, 1] // _CELL_PX) * self._size + pixel[:, 0] // _CELL_PX
        order = np.lexsort([depth, cell])
        front = order[np.diff(cell[order], prepend=-1) > 0]
        column, row = pixel[front].T
        seen = ~view.object_mask[row, column]
        if seen.sum() < MIN_HAND_CELLS:
            return None
        relief = self._relief(view)[0][row[seen], column[seen]]
        return float(np.median(depth[front][seen] / np.maximum(1 + view.crop.half_tangent * relief, 0.1)))

    def _relief(self, view: StreamView) -> tuple[np.ndarray, np.ndarray]:
        """(S, S) depth beyond the crop's middle in half crop sides, and (S, S) confidence; the last view's are kept."""
        if self._known_relief is None or self._known_relief[0] != view.index:
            found = self._ask(view, view)
            self._known_relief = (view.index, found.first[..., 2], found.first_confidence)
        return self._known_relief[1:]

    def pointmap(self, view: StreamView) -> ConfidentDepth:
        """Depth of all that the view shows, in its camera's image; of the view looked at last without asking again."""
        return pointmap_depth(view, *self._relief(view))

    def depths(self, view: StreamView, places_px: np.ndarray) -> np.ndarray:
        """(N,) metres along the camera's axis of pixels (N, 2) of the view's frame."""
        crop = view.crop
        rays = crop.crop_points(unprojected(places_px, 1.0, crop.intrinsics))
        pixel = np.rint(rays[:, :2] / rays[:, 2:] * crop.focal_px + (self._size - 1) / 2).astype(int)
        column, row = np.clip(pixel, 0, self._size - 1).T
        return view.depth_m * (1 + crop.half_tangent * self._relief(view)[0][row, column]) / rays[:, 2]

    def depths_beside(
        self, view: StreamView, places_px: np.ndarray, known_px: np.ndarray, known_m: np.ndarray
    ) -> np.ndarray:
        """(N,) metres of pixels (N, 2), moved to where those with known depths (K,) lie, if there are some."""
        depths = self.depths(view, places_px)
        if len(known_px) < MIN_KNOWN:
            return depths
        return depths + np.median(known_m - self.depths(view, known_px))

    def place(self, view: StreamView, sides: Sequence[KeyView], guess: np.ndarray) -> tuple[np.ndarray, float] | None:
        """Pose (4, 4) of a view that others agree on, and radians from the nearest of them; None: not settled.

        Args:
            view: as `look` gives it.
            sides: views with known poses.
            guess: (4, 4) where the object is thought to be.
        """
        partners = choose_partners(_posed(sides), None, guess, self._config)
        pose, _ = place_view(view, partners, self._ask, MotionConfig(sigma=POINT_SIGMA_M))
        if pose is None:
            return None
        apart = [
            rotation_angle(p.T_camera_object[:3, :3] @ pose[:3, :3].T)
            for p in partners
            if p.T_camera_object is not None
        ]
        return pose, float(min(apart))

    def prior(
        self, view: StreamView, sides: Sequence[KeyView], guess: np.ndarray, middle: np.ndarray
    ) -> PosePrior | None:
        """What `place` says as a belief, about the object's middle (3,)."""
        found = self.place(view, sides, guess)
        if found is None:
            return None
        return PosePrior(nearest_rigid(found[0]), TURN_RAD + TURN_SHARE * found[1], SHIFT_M, middle)

    def is_new_side(self, sides: Sequence[KeyView], pose: np.ndarray) -> bool:
        """True when no kept view shows the object from near this side, and there is room."""
        return wants_view(_posed(sides), pose, self._config)


def _posed(sides: Sequence[KeyView]) -> list[StreamView]:
    """The network's views of those sides that have one, with the poses that are known of them by now."""
    return [replace(side.view, T_camera_object=side.T_camera_object) for side in sides if side.view is not None]

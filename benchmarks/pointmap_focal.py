"""What of a film from colour alone tells the camera's focal length, when it was guessed a quarter wrong.

Part of `benchmarks/pointmap.py --focal`. Four answers to one question, as logarithms over the true focal length: the
guess; the shipped network, from its centred pointmaps of hand and object; the perspective within the hand, its joints
in 3D against those in 2D; and the followed object, whose key views are adjusted anew to seven focal lengths.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hoi_ros.datatypes import LABEL_OBJECT, CameraIntrinsics, RgbdFrame
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.hand.fit import HandFitter, straighten
from hoi_ros.hand.fit_start import spread_translation
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.tracking import pointmap_points
from hoi_ros.tracking.pointmap_config import ColorTrackerConfig
from hoi_ros.tracking.pointmap_guide import PointmapGuide, load_guide
from hoi_ros.tracking.pointmap_intrinsics import least_distance_factor
from hoi_ros.tracking.pointmap_structure import Observations, PosePrior, bundle_adjust, projected
from hoi_ros.tracking.pointmap_tracker import ColorTracker

WRONG = (0.75, 1.33)
"""Guessed over true focal length, film by film in turns."""
LADDER = np.linspace(-0.45, 0.45, 7)
"""Logarithms of the focal lengths that are tried, over the guess, for key views; and for hands, which stray farther."""
HAND_LADDER = np.linspace(-1.2, 1.2, 25)
EVERY, WINDOW = 6, 7
"""Frames between two that hand and network are asked about; key views between two adjusted windows."""
WIDE_POINT_M, WIDE_TURN_RAD, WIDE_SHIFT_M = 0.03, 0.5, np.array([0.05, 0.05, 0.1])


@dataclass
class Answers:
    """One film's logarithms of found over true focal length."""

    name: str
    guess: float
    network: list[float] = field(default_factory=list)
    perspective: list[tuple[float, float]] = field(default_factory=list)
    """Tangent of half the crop's field of view, said and true."""
    hand_cost: list[np.ndarray] = field(default_factory=list)
    distance_m: list[float] = field(default_factory=list)
    object_cost: list[np.ndarray] = field(default_factory=list)

    @property
    def hand(self) -> float:
        """The film's answer by the hand."""
        return self.guess + _lowest(HAND_LADDER, self.hand_cost)

    @property
    def object(self) -> float:
        """The film's answer by the followed object."""
        return self.guess + _lowest(LADDER, self.object_cost)


def measure(scenes: list[str], frames: int, seed: int, meshes: Path | None, masks: bool) -> str:
    """Ask every film; the table."""
    guide = load_guide("", "cpu")
    assert guide is not None
    rows = [_film(s, frames, seed, meshes, masks, WRONG[k % 2], guide) for k, s in enumerate(scenes)]
    return _table(rows)


def _film(scene, frames: int, seed: int, meshes, masks: bool, wrong: float, guide: PointmapGuide) -> Answers:
    replayed = scene.startswith("replay:")
    simulator = Simulator(scene, SimulatorConfig(seed=seed, object=str(meshes) if replayed and meshes else ""))
    estimator = create_hand_estimator(HandConfig(handos_masks=masks), "cpu")
    faces = {side: estimator.faces(side) for side in ("left", "right")}
    tracker, out = ColorTracker(ColorTrackerConfig()), Answers(scene.rpartition("#")[2], float(np.log(wrong)))
    held = round(simulator.scene.held_from_s * simulator.config.fps) if replayed else 0
    first, end = (max(0, held - 30), 2 * simulator.once_frames - held) if replayed else (0, frames)
    with _landmarks() as seen, _windows() as windows:
        for index in range(first, end):
            full = simulator.frame(index)
            true = full.intrinsics
            guess = replace(true, fx=true.fx * wrong, fy=true.fy * wrong)
            frame = replace(full, depth_m=None, intrinsics=guess)
            seen.clear()
            hands = estimator.estimate(frame)
            if index >= held and index % EVERY == 0:
                out.hand_cost += [_hand_cost(pixels, world, guess) for pixels, world in seen]
                _ask(guide, frame, hands, true, out)
            tracker.track(replace(frame, truth=None), hands, hand_faces=faces)
        out.object_cost = [_object_cost(*window) for window in windows[WINDOW - 1 :: WINDOW]]
    return out


@contextmanager
def _landmarks():
    """Collects 2D and 3D landmarks of every hand before the mesh is fitted to them."""
    seen, fit = [], HandFitter.fit

    def watched(self, landmarks_px, landmarks_world, *rest, **named):
        seen.append((np.array(landmarks_px), np.array(landmarks_world)))
        return fit(self, landmarks_px, landmarks_world, *rest, **named)

    HandFitter.fit = watched  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        HandFitter.fit = fit  # type: ignore[method-assign]


@contextmanager
def _windows():
    """Collects adjusted poses, points, observations and camera of the key views."""
    seen, adjust = [], pointmap_points.bundle_adjust

    def watched(poses, points, observations, camera, **named):
        answer = adjust(poses, points, observations, camera, **named)
        seen.append((answer[0].copy(), answer[1].copy(), observations, camera))
        return answer

    pointmap_points.bundle_adjust = watched  # type: ignore[assignment]
    try:
        yield seen
    finally:
        pointmap_points.bundle_adjust = adjust


def _ask(guide: PointmapGuide, frame: RgbdFrame, hands, true: CameraIntrinsics, out: Answers) -> None:
    assert frame.truth is not None
    mask, hand_mask = frame.truth.labels == LABEL_OBJECT, frame.truth.labels > LABEL_OBJECT
    view = guide.look(frame, hands, mask, hand_mask)
    if view is None:
        return
    out.distance_m.append(float(np.median(frame.truth.depth_m[hand_mask])))
    answer, shown = guide._ask(view, view), view.crop.cut((mask | hand_mask).astype(np.uint8), nearest=True) > 0
    said = perspective_from_centred(answer.first, answer.first_confidence, shown)
    if said > 0:
        half = view.crop.half_tangent * frame.intrinsics.fx / true.fx
        out.perspective.append((said, half))
        out.network.append(float(np.log(half / said)))


def perspective_from_centred(points: np.ndarray, confidence: np.ndarray, mask: np.ndarray) -> float:
    """Tangent of half the field of view of a square crop from its centred pointmap (S, S, 3) in half crop sides.

    A point at (x, y, z) half sides about the crop's middle shows at (x, y) / (1 + tangent * z).
    """
    side = len(points)
    axis = (np.arange(side) - (side - 1) / 2) / (side / 2)
    pixels, cloud = np.stack(np.meshgrid(axis, axis), -1)[mask], points[mask].astype(np.float64)
    return least_distance_factor(pixels * cloud[:, 2:], cloud[:, :2] - pixels, confidence[mask].astype(np.float64))


def _hand_cost(pixels: np.ndarray, world: np.ndarray, guess: CameraIntrinsics) -> np.ndarray:
    """How badly each focal length explains 2D landmarks (21, 2) by 3D ones (21, 3), the hand's place being free."""
    sigma_px, costs = 0.03 * np.ptp(pixels, axis=0).max(), np.zeros(len(HAND_LADDER))
    for rung, log in enumerate(HAND_LADDER):
        focal = guess.fx * np.exp(log)
        rays, _ = straighten(pixels, replace(guess, fx=focal, fy=focal))
        place = spread_translation(world, rays)
        for _ in range(8):
            points = world + place
            z = points[:, 2:]
            error = focal * (points[:, :2] / z - rays)
            jacobian = np.zeros((len(points), 2, 3))
            jacobian[:, 0, 0] = jacobian[:, 1, 1] = focal / z[:, 0]
            jacobian[:, :, 2] = -focal * points[:, :2] / z**2
            weight = 1 / (1 + (error**2).sum(1) / 81)
            normal = np.einsum("n,nij,nik->jk", weight, jacobian, jacobian)
            place = place - np.linalg.solve(normal, np.einsum("n,nij,ni->j", weight, jacobian, error))
        costs[rung] = np.log1p((error**2).sum(1) / sigma_px**2).sum()
    return costs


def _object_cost(poses: np.ndarray, points: np.ndarray, seen: Observations, camera: CameraIntrinsics) -> np.ndarray:
    """How badly each focal length explains the followed pixels; priors so wide that they fix little but the scale."""
    costs = np.zeros(len(LADDER))
    for rung, log in enumerate(LADDER):
        tried, start = replace(camera, fx=camera.fx * np.exp(log), fy=camera.fy * np.exp(log)), poses.copy()
        start[:, 2, 3] *= np.exp(log)
        priors: list[PosePrior | None] = [PosePrior(p, WIDE_TURN_RAD, WIDE_SHIFT_M, points.mean(0)) for p in start]
        firm = np.broadcast_to(np.eye(3) / WIDE_POINT_M**2, (len(points), 3, 3))
        now, shape, _ = bundle_adjust(
            start, points, seen, tried, point_prior=points, point_information=firm, motion_priors=priors, iterations=20
        )
        for number, pose in enumerate(now):
            mine = seen.view == number
            error = projected(shape[seen.point[mine]], pose, tried)[0] - seen.pixels[mine]
            costs[rung] += 4 * np.log1p((error**2).sum(1) / 4).sum()
    return costs


def _lowest(ladder: np.ndarray, costs: list[np.ndarray]) -> float:
    """Bottom of the parabola through the three lowest rungs of the films' summed costs; NaN without costs."""
    if not costs:
        return float("nan")
    total = np.sum(costs, axis=0)
    middle = int(np.clip(np.argmin(total), 1, len(ladder) - 2))
    a, b, _ = np.polyfit(ladder[middle - 1 : middle + 2], total[middle - 1 : middle + 2], 2)
    return float(np.clip(-b / 2 / a, ladder[0], ladder[-1])) if a > 0 else float(ladder[np.argmin(total)])


def _table(films: list[Answers]) -> str:
    """Films, bias, spread and root mean square of the logarithms, and how far each answer follows the truth."""
    guess = np.array([film.guess for film in films])
    network = np.array([np.median(film.network) if film.network else np.nan for film in films])
    hand, thing = np.array([film.hand for film in films]), np.array([film.object for film in films])
    tangents = np.log(np.concatenate([film.perspective for film in films if film.perspective]))
    distance = np.log([np.median(film.distance_m) if film.distance_m else np.nan for film in films])
    moved, wanted = thing - guess, -guess
    follows = [
        0.0, _slope(tangents[:, 1], tangents[:, 0]), _slope(distance, distance + hand), _slope(wanted, moved)
    ]  # fmt: skip
    lines = ["| focal length by | films | bias | spread | rms of the logarithm | follows the truth |", "|" + "---|" * 6]
    names = ("guess", "network's perspective", "hand's perspective", "followed object")
    for name, errors, follow in zip(names, (guess, network, hand, thing), follows):
        known = errors[np.isfinite(errors)]
        rms = float(np.sqrt((known**2).mean()))
        lines.append(f"| {name} | {len(known)} | {known.mean():+.2f} | {known.std():.2f} | {rms:.2f} | {follow:.2f} |")
    each = (f"{f.name} {n:+.2f} {h:+.2f} {t:+.2f}" for f, n, h, t in zip(films, network, hand, thing))
    return "\n".join([*lines, "", "network, hand, object of each film: " + "; ".join(each)])


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    both = np.isfinite(x) & np.isfinite(y)
    return float(np.polyfit(x[both], y[both], 1)[0]) if len(set(x[both])) > 1 else float("nan")

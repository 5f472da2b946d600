"""HandOS beside the embedded estimator: real photos, simulator, clips; its engines are in handos_engines.py.

    python benchmarks/handos.py real DATA/hands_real [--out PICTURES] [--blur 12]
    python benchmarks/handos.py simulator [--frames 60]
    python benchmarks/handos.py video FILE.mp4 ...
    python benchmarks/handos.py smoothing video:FILE.mp4 ...
    python benchmarks/handos.py masks [--frames 30]

PA errors align without reflection. What was chosen while looking at the photos is said in docs/handos.md. Times are
medians.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from handos_distance import RegionDecoder, distance_error_percent

from hoi_ros.datatypes import HandEstimate, HandTruth, RgbdFrame
from hoi_ros.evaluation.datasets import open_dataset
from hoi_ros.evaluation.joints import pa_mpjpe, pa_mpvpe, root_relative_mpjpe
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.hand.regions import region_from_landmarks
from hoi_ros.overlay import draw_overlay

ESTIMATORS = ("embedded", "handos")
MASK_SCENES = ("rotate:mug", "rotate:box", "rotate:drill", "rotate:bottle", "rotate:can", "grasp:drill", "grasp:spray",
               "handover:mug", "bare")  # fmt: skip


def run_real(options: argparse.Namespace) -> None:
    """PA-MPJPE without reflection, root-relative, 2D, found, handedness; pictures of the best and worst."""
    sequence = open_dataset(options.folder, "hands_real")[0]
    print(
        "estimator  found  left  PA-MPJPE mm (median)  own joints PA  root-relative mm  2D px  ms"
        "  distance off % (scatter): fit, decoder"
    )
    decoder = RegionDecoder(options.weights)
    for name in ESTIMATORS:
        estimator = create_hand_estimator(HandConfig(estimator=name, handos_weights=options.weights), "cpu")
        rows, times, shown, off = [], [], [], []
        for labelled in sequence:
            frame, label = smeared(labelled.frame, options.blur, len(rows)), labelled.hands[0]
            joints = np.asarray(label.joints_camera, np.float64) * 1e3
            start = time.perf_counter()
            hands = estimator.estimate(frame, independent=True)
            times.append(time.perf_counter() - start)
            hand = max(hands, key=lambda h: h.score, default=None)
            if hand is None or hand.landmarks_camera is None:
                error = float(np.linalg.norm(joints - joints.mean(0), axis=1).mean())
                rows.append((0, 0, error, error, error, 128.0))
                continue
            px = float(np.linalg.norm(hand.joints_px - label.pixels(frame.intrinsics), axis=1).mean())
            pa, own = (one(pa_mpjpe, x * 1e3, joints) for x in (hand.joints_camera, hand.landmarks_camera))
            root = one(root_relative_mpjpe, hand.joints_camera * 1e3, joints)
            rows.append((1, hand.handedness == "left", pa, own, root, px))
            shown.append((pa, frame, hand))
            off.append(distances_off(joints * 1e-3, hand, frame, decoder))
        found, left, pa, own, root, px = np.array(rows, float).T
        print(
            f"{name:10s} {int(found.sum()):5d} {int(left.sum()):5d}  {pa.mean():8.2f} ({np.median(pa):.2f})"
            f"  {own.mean():13.2f}  {root.mean():16.2f}  {px.mean():5.2f}  {np.median(times) * 1e3:.1f}"
            f"  {spread_of(off)}"
        )
        if options.out is not None:
            _write_extremes(shown, estimator, options.out / f"{name}.jpg")


def smeared(frame: RgbdFrame, length_px: int, seed: int) -> RgbdFrame:
    """The frame as if the hand had moved by so many pixels while the shutter was open, in a direction by the seed."""
    if length_px < 2:
        return frame
    angle, size = np.random.default_rng(seed).uniform(0, np.pi), length_px | 1
    end = 0.5 * (length_px - 1) * np.array([np.cos(angle), np.sin(angle)])
    places = np.linspace(-1, 1, 8 * size)[:, None] * end + size // 2
    kernel = np.zeros((size, size), np.float32)
    np.add.at(kernel, tuple(np.rint(places[:, ::-1]).astype(int).T), 1.0)
    return replace(frame, color=cv2.filter2D(frame.color, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT))


def one(metric, points: np.ndarray, truth: np.ndarray) -> float:
    """A metric of many hands for one."""
    return float(metric(points[None].astype(np.float64), truth[None].astype(np.float64))[0])


def _write_extremes(shown: list[tuple[float, RgbdFrame, HandEstimate]], estimator, path: Path) -> None:
    """The ten best above the ten worst."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = sorted(shown, key=lambda item: item[0])
    rows = []
    for part in (shown[:10], shown[-10:]):
        tiles = []
        for error, frame, hand in part:
            faces = {side: estimator.faces(side) for side in ("left", "right")}
            tile = draw_overlay(frame.color, [hand], faces, intrinsics=frame.intrinsics)
            cv2.putText(tile, f"{error:.1f} mm", (6, 20), 0, 0.6, (255, 255, 0), 2)
            tiles.append(tile)
        rows.append(np.hstack(tiles))
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def run_simulator(options: argparse.Namespace) -> None:
    """Errors against exact joints and vertices; a missed hand, at least half visible, counts as its own spread.

    Distances are those of the hands found: placed by the fit, and by the decoder's own translation.
    """
    from hoi_ros.simulation import Simulator, SimulatorConfig

    print(
        "scene         estimator   hands  found  side right  PA-MPJPE mm  PA-MPVPE  root-relative mm  MPJPE mm  ms"
        "  distance off % (scatter): fit, decoder"
    )
    decoder = RegionDecoder(options.weights)
    for scene in options.scenes:
        for name in ESTIMATORS:
            estimator = create_hand_estimator(HandConfig(estimator=name, handos_weights=options.weights), "cpu")
            simulator = Simulator(scene, SimulatorConfig(seed=options.seed))
            rows, times, off = [], [], []
            for index in range(options.frames):
                frame = simulator.frame(4 * index)
                plain = RgbdFrame(frame.color, frame.intrinsics, frame.stamp_ns, frame.index)
                start = time.perf_counter()
                hands = estimator.estimate(plain)
                times.append(time.perf_counter() - start)
                assert frame.truth is not None
                for truth in frame.truth.hands:
                    if truth.visible_fraction > 0.5:
                        hand = nearest_hand(truth, hands)
                        rows.append(score_hand(truth, hand))
                        if hand is not None:
                            off.append(distances_off(truth.joints_camera, hand, plain, decoder))
            found, side, pa, pv, root, plain_error = np.array(rows, float).T
            print(
                f"{scene:13s} {name:10s} {len(rows):6d} {int(found.sum()):6d} {int(side.sum()):11d} {pa.mean():12.2f}"
                f" {pv.mean():12.2f} {root.mean():17.2f} {plain_error.mean():9.1f}  {np.median(times) * 1e3:.1f}"
                f"  {spread_of(off)}"
            )


def nearest_hand(truth: HandTruth, hands: list[HandEstimate]) -> HandEstimate | None:
    """The estimate whose middle is nearest to the true hand's, None where none is within 25 cm."""
    middle = truth.joints_camera.mean(0)
    near = [(float(np.linalg.norm(h.joints_camera.mean(0) - middle)), h) for h in hands]
    distance, hand = min(near, key=lambda item: item[0], default=(np.inf, None))
    return hand if distance <= 0.25 else None


def distances_off(
    joints_camera: np.ndarray, hand: HandEstimate, frame: RgbdFrame, decoder: RegionDecoder
) -> tuple[float, float]:
    """Signed errors of the hand's distance in percent: of its estimate, and of the decoder's own translation."""
    middle = joints_camera.mean(0)
    _, own, _ = decoder(frame.color, region_from_landmarks(hand.joints_px), frame.intrinsics)
    return distance_error_percent(hand.joints_camera.mean(0), middle), distance_error_percent(own, middle)


def spread_of(errors: list[tuple[float, float]]) -> str:
    """Mean size and scatter of signed errors, column by column."""
    return "  ".join(f"{np.abs(e).mean():.1f} ({e.std():.1f})" for e in np.array(errors).reshape(-1, 2).T)


def score_hand(truth: HandTruth, hand: HandEstimate | None) -> tuple[float, ...]:
    """Found, side right, PA-MPJPE, PA-MPVPE, root-relative and plain MPJPE in mm of the estimate of a true hand."""
    joints, vertices = truth.joints_camera * 1e3, truth.vertices_camera * 1e3
    if hand is None:
        spread = float(np.linalg.norm(joints - joints.mean(0), axis=1).mean())
        return 0, 0, spread, spread, spread, spread
    error = float(np.linalg.norm(hand.joints_camera * 1e3 - joints, axis=1).mean())
    pa = one(pa_mpjpe, hand.joints_camera * 1e3, joints)
    pv = one(pa_mpvpe, hand.vertices_camera * 1e3, vertices)
    root = one(root_relative_mpjpe, hand.joints_camera * 1e3, joints)
    return 1, hand.handedness == truth.handedness, pa, pv, root, error


def run_video(options: argparse.Namespace) -> None:
    """Frames with hands, flips of side, jitter of the wrist-relative mesh with smoothing and without, time."""
    from hoi_ros.sources import open_source

    print("clip                 estimator   smoothing  frames  with hands  side flips  jitter mm  ms p50 / p95")
    for file in options.files:
        for name in ESTIMATORS:
            for smoothing in (True, False):
                config = HandConfig(estimator=name, handos_weights=options.weights, smoothing=smoothing)
                estimator = create_hand_estimator(config, "cpu")
                times, tracks, seen, count = [], {}, 0, 0
                with open_source(f"video:{file}") as frames:
                    for frame in frames:
                        start = time.perf_counter()
                        hands = estimator.estimate(frame)
                        times.append(time.perf_counter() - start)
                        count, seen = count + 1, seen + bool(hands)
                        for hand in hands:
                            tracks.setdefault(hand.track_id, []).append((count, hand.handedness, hand.vertices_camera))
                        if options.frames and count >= options.frames:
                            break
                flips = sum(a[1] != b[1] for track in tracks.values() for a, b in pairwise(track))
                p50, p95 = np.percentile(np.array(times) * 1e3, (50, 95))
                print(
                    f"{Path(file).stem:20s} {name:10s} {smoothing!s:10s} {count:7d} {seen:11d} {flips:11d}"
                    f" {jitter_mm(tracks.values()):10.2f}  {p50:.1f} / {p95:.1f}"
                )


def jitter_mm(tracks) -> float:
    """Median length of a vertex's change of velocity from frame to frame, about the hand's middle, mm."""
    found = []
    for track in tracks:
        for (i, _, a), (_, _, b), (k, _, c) in zip(track, track[1:], track[2:]):
            if k - i == 2:
                a, b, c = (v.astype(np.float64) - v.mean(0) for v in (a, b, c))
                found.append(np.linalg.norm(a - 2 * b + c, axis=1).mean() * 1e3)
    return float(np.median(found)) if found else float("nan")


def run_masks(options: argparse.Namespace) -> None:
    """Overlap of the mask head's hand and object with the simulator's labels, inside the square it looks at; contact.

    A vertex touches within 5 mm of the held thing, and is said to from a probability of 0.5.
    """
    from hoi_ros.datatypes import LABEL_LEFT_HAND, LABEL_OBJECT, LABEL_RIGHT_HAND
    from hoi_ros.geometry import invert_transform, transform_points
    from hoi_ros.simulation import Simulator, SimulatorConfig
    from hoi_ros.simulation.grasp import SignedDistance

    config = HandConfig(estimator="handos", handos_masks=True, handos_weights=options.weights)
    print(
        "scene          hands    hand IoU   precision  object IoU   precision   of object in squares"
        "  contact precision, recall (share that touches)"
    )
    for scene in options.scenes:
        estimator, rows, reached, touching = create_hand_estimator(config, "cpu"), [], [], []
        simulator = Simulator(scene, SimulatorConfig(seed=options.seed))
        item = simulator.scene.item
        distance = None if item is None else SignedDistance(item)
        for index in range(options.frames):
            frame = simulator.frame(8 * index)
            assert frame.truth is not None and frame.truth.labels is not None
            labels = frame.truth.labels
            hand = (labels == LABEL_LEFT_HAND) | (labels == LABEL_RIGHT_HAND)
            plain = RgbdFrame(frame.color, frame.intrinsics, frame.stamp_ns, frame.index)
            any_square = np.zeros(labels.shape, bool)
            for found in estimator.estimate(plain):
                assert found.segments is not None and found.contact is not None
                shares = found.segments.in_image(*labels.shape)
                inside, said = shares.sum(-1) > 0.5, shares.argmax(-1)
                any_square |= inside
                own = [truth for truth in frame.truth.hands if truth.handedness == found.handedness]
                if own and distance is not None:
                    T_object_camera = invert_transform(next(iter(frame.truth.T_camera_object.values())))
                    gap = distance(transform_points(T_object_camera, own[0].vertices_camera.astype(np.float64)))
                    touching.append((gap < 0.005, found.contact > 0.5))
                row = []
                for kind, true in ((1, hand), (2, labels == LABEL_OBJECT)):
                    seen, true = inside & (said == kind), inside & true
                    row += [(seen & true).sum() / max((seen | true).sum(), 1), (seen & true).sum() / max(seen.sum(), 1)]
                rows.append(row)
            if (labels == LABEL_OBJECT).any():
                reached.append((any_square & (labels == LABEL_OBJECT)).sum() / (labels == LABEL_OBJECT).sum())
        values = "  ".join(f"{value:10.2f}" for value in np.mean(rows, 0))
        more = f"{np.mean(reached):10.2f}" if reached else ""
        if touching:
            true, seen = (np.stack(column) for column in zip(*touching))
            both = (true & seen).sum()
            more += f"  {both / max(seen.sum(), 1):.2f}, {both / max(true.sum(), 1):.2f} ({true.mean():.2f})"
        print(f"{scene:14s} {len(rows):5d}  {values}  {more}")


def run_smoothing(options: argparse.Namespace) -> None:
    """Jitter with smoothing and without, and by how many frames the smoothed hand comes later."""
    from hoi_ros.sources import open_source

    print("source                    estimator   hands  jitter raw mm  smoothed mm  ratio  lag frames: place, pose")
    for source in options.sources:
        for name in ESTIMATORS:
            pairs = [
                create_hand_estimator(HandConfig(estimator=name, handos_weights=options.weights, smoothing=s), "cpu")
                for s in (False, True)
            ]
            tracks: list[dict] = [{}, {}]
            with open_source(source) as frames:
                for count, frame in enumerate(frames):
                    for estimator, kept in zip(pairs, tracks):
                        for hand in estimator.estimate(frame):
                            row = (count, hand.handedness, hand.vertices_camera, hand.joints_px)
                            kept.setdefault(hand.track_id, []).append(row)
                    if count + 1 >= options.frames:
                        break
            raw, calm = (jitter_mm([[r[:3] for r in t] for t in kept.values()]) for kept in tracks)
            place, pose = (lag_frames(tracks, which) for which in (3, 2))
            hands = sum(len(t) for t in tracks[1].values())
            print(
                f"{source[-25:]:25s} {name:10s} {hands:6d} {raw:14.2f} {calm:12.2f} {calm / raw:6.2f}"
                f"  {place:8.2f}, {pose:.2f}"
            )


def lag_frames(tracks, which: int) -> float:
    """Frames L for which raw(t - L) explains smoothed(t) best: least squares of their difference on the speed."""
    above = below = 0.0
    for key, track in tracks[0].items():
        calm = {row[0]: row[which] for row in tracks[1].get(key, [])}
        for (i, *a), b, (k, *c) in zip(track, track[1:], track[2:]):
            if k - i != 2 or b[0] not in calm:
                continue
            before, now, after, smooth = (
                np.asarray(x, np.float64) for x in (a[which - 1], b[which], c[which - 1], calm[b[0]])
            )
            if which == 2:
                before, now, after, smooth = (x - x.mean(0) for x in (before, now, after, smooth))
            speed = (after - before) / 2
            above -= float((speed * (smooth - now)).sum())
            below += float((speed**2).sum())
    return above / max(below, 1e-12)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(required=True)
    real = parts.add_parser("real")
    real.add_argument("folder", type=Path)
    real.add_argument("--out", type=Path, help="folder for pictures of the ten best and ten worst")
    real.add_argument("--blur", type=int, default=0, help="pixels by which the hand moves during the exposure")
    real.set_defaults(run=run_real)
    simulator = parts.add_parser("simulator")
    simulator.add_argument("--frames", type=int, default=60)
    simulator.add_argument("--scenes", nargs="+", default=["bare", "rotate", "handover"])
    simulator.add_argument("--seed", type=int, default=3)
    simulator.set_defaults(run=run_simulator)
    video = parts.add_parser("video")
    video.add_argument("files", nargs="+")
    video.add_argument("--frames", type=int, default=0)
    video.set_defaults(run=run_video)
    masks = parts.add_parser("masks")
    masks.add_argument("--frames", type=int, default=30)
    masks.add_argument("--scenes", nargs="+", default=list(MASK_SCENES))
    masks.add_argument("--seed", type=int, default=3)
    masks.set_defaults(run=run_masks)
    smoothing = parts.add_parser("smoothing")
    smoothing.add_argument("sources", nargs="+", help="as for hoi run: video:FILE, sim:SCENE")
    smoothing.add_argument("--frames", type=int, default=200)
    smoothing.set_defaults(run=run_smoothing)
    for part in (real, simulator, video, masks, smoothing):
        part.add_argument("--weights", default="", help="other HandOS weights than those that ship")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()

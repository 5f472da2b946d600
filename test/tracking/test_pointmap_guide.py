"""What the tracker from colour asks the pairwise network, answered by one that is always right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import box_layer, frame, hand, mask_of, pose

from hoi_ros.errors import InputError
from hoi_ros.geometry import invert_transform, rotation_angle, transform_points
from hoi_ros.tracking.pointmap_checkpoint import load_pointmap_network, save_pointmap_network
from hoi_ros.tracking.pointmap_config import ColorTrackerConfig
from hoi_ros.tracking.pointmap_guide import SHIPPED, PointmapGuide, load_guide
from hoi_ros.tracking.pointmap_motion import MotionConfig, fit_motion
from hoi_ros.tracking.pointmap_network import PointmapNetwork, PointmapNetworkConfig
from hoi_ros.tracking.pointmap_object import KeyView
from hoi_ros.tracking.pointmap_points import MOST_POINTS, forget_old
from hoi_ros.tracking.pointmap_stream import PairPointmaps, StreamView
from hoi_ros.tracking.pointmap_structure import PosePrior
from hoi_ros.tracking.pointmap_tracker import ColorTracker
from hoi_ros.training.pointmap_pairs import PairConfig, PairStream

TINY = PointmapNetworkConfig(8, 64, 32, 1, 2, 32, 1, 2)
LARGE = (0.055, 0.06, 0.03)
MIDDLE_M = 0.41


class Scene:
    """A box in a hand, and exact pointmaps of its pictures in the order in which they are looked at."""

    def __init__(self, turns_deg) -> None:
        self.poses = [pose((10, 20 + turn, 0), (0, -0.02, 0.42)) for turn in turns_deg]
        self.depths, self.frames, self.hands = [], [], []
        for index, T in enumerate(self.poses):
            estimate, layers = hand(T)
            box = box_layer(T, LARGE)
            self.depths.append(np.minimum.reduce([box[0], *(layer[0] for layer in layers)]))
            self.frames.append(replace(frame(box, *layers, index=index), depth_m=None))
            self.hands.append(estimate)
        self.shown: dict[int, int] = {}

    def mask(self, index: int) -> np.ndarray:
        box = box_layer(self.poses[index], LARGE)
        return mask_of(box) & (box[0] <= self.depths[index])

    def __call__(self, first: StreamView, second: StreamView) -> PairPointmaps:
        maps = []
        for view in (first, second):
            plain = self.depths[self.shown[view.index]]
            cut = view.crop.cut(np.where(np.isfinite(plain), plain, MIDDLE_M).astype(np.float32), nearest=True)
            points = view.crop.camera_points(view.crop.pointmap(view.crop.depth_along_crop(cut)).astype(float))
            T = self.poses[self.shown[first.index]] @ invert_transform(self.poses[self.shown[view.index]])
            crop = first.crop.crop_points(transform_points(T, points.reshape(-1, 3))).reshape(points.shape)
            maps.append((crop - [0, 0, MIDDLE_M]) / (MIDDLE_M * first.crop.half_tangent))
        ones = np.ones(maps[0].shape[:2])
        return PairPointmaps(maps[0], maps[1], ones, ones)

    def guide(self) -> PointmapGuide:
        guide = PointmapGuide(PointmapNetwork(TINY))
        guide._ask = self
        look = guide.look

        def looked(picture, hands, mask, hand_mask=None, holder=None):
            self.shown[guide._count + 1] = picture.index
            return look(picture, hands, mask, hand_mask, holder)

        guide.look = looked
        return guide


def test_depth_is_metric_by_the_hand_and_relief_the_network_s():
    scene = Scene([0])
    guide = scene.guide()
    view = guide.look(scene.frames[0], [scene.hands[0]], scene.mask(0))
    assert view.depth_m == pytest.approx(MIDDLE_M, rel=0.02)
    rows, columns = np.nonzero(scene.mask(0))
    found = guide.depths(view, np.stack([columns, rows], 1)[::7].astype(float))
    true = scene.depths[0][rows, columns][::7]
    assert np.median(np.abs(found - true)) < 0.01
    assert np.median(np.abs(found - true - np.median(found - true))) < 0.002
    assert guide.look(scene.frames[0], [], scene.mask(0)) is None
    assert guide.look(scene.frames[0], [scene.hands[0]], np.zeros_like(scene.mask(0))) is None


def test_another_hand_s_distance_says_nothing_of_what_one_holds():
    scene = Scene([0])
    guide, holder = scene.guide(), scene.hands[0]
    other = replace(holder, track_id=7, vertices_camera=0.7 * holder.vertices_camera)
    depths = [
        guide.look(scene.frames[0], [holder, other], scene.mask(0), holder=who).depth_m
        for who in (holder.track_id, None)
    ]
    assert depths[0] == pytest.approx(MIDDLE_M, rel=0.02) and depths[1] < 0.9 * MIDDLE_M


def test_a_key_view_s_pointmap_costs_no_further_look_at_it():
    scene = Scene([0] * 6)
    asked, tracker = [], ColorTracker(ColorTrackerConfig(network="none"))
    assert tracker.pointmap() is None
    tracker._guide = scene.guide()
    ask = tracker._guide._ask
    tracker._guide._ask = lambda first, second: asked.append(first.index) or ask(first, second)
    keys = []
    for picture, estimate in zip(scene.frames, scene.hands):
        seen = tracker.track(picture, [estimate])
        keys.append(seen.is_keyframe)
        if seen.is_keyframe:
            before = len(asked)
            found, true = tracker.pointmap(), scene.depths[picture.index]
            assert len(asked) == before and found is not None
            off = (found.depth_m - true)[seen.mask & np.isfinite(true)]
            assert np.percentile(np.abs(off - np.median(off)), 75) < 0.003
    assert any(keys)
    tracker._guide = None
    assert tracker.pointmap() is None


def test_a_view_is_placed_beside_known_ones():
    scene = Scene([0, 15, 40])
    guide = scene.guide()
    views = [guide.look(scene.frames[k], [scene.hands[k]], scene.mask(k)) for k in range(3)]
    prior = PosePrior(scene.poses[0], 1.0, np.ones(3), np.zeros(3))
    sides = [KeyView(scene.poses[k], prior, np.zeros(0, int), np.zeros((0, 2)), views[k]) for k in (0, 1)]
    found, apart = guide.place(views[2], sides, scene.poses[1])
    assert np.degrees(rotation_angle(found[:3, :3] @ scene.poses[2][:3, :3].T)) < 1.5
    assert np.degrees(apart) == pytest.approx(25, abs=2)
    assert np.linalg.norm(found[:3, 3] - scene.poses[2][:3, 3]) < 0.02
    assert not guide.is_new_side(sides, scene.poses[1]) and guide.is_new_side(sides, scene.poses[2])
    assert guide.place(views[2], [], scene.poses[1]) is None


def end_error_deg(scene: Scene, guide: PointmapGuide | None) -> float:
    tracker, start, turn = ColorTracker(ColorTrackerConfig(network="none")), None, np.nan
    tracker._guide = guide
    for index, picture in enumerate(scene.frames):
        still = replace(scene.hands[index], T_camera_wrist=scene.hands[0].T_camera_wrist)  # a hand of no help
        seen = tracker.track(picture, [still])
        if seen.T_camera_object is not None:
            start = start or (seen.T_camera_object, scene.poses[index])
            found, true = (
                seen.T_camera_object @ invert_transform(start[0]),
                scene.poses[index] @ invert_transform(start[1]),
            )
            turn = float(np.degrees(rotation_angle(found[:3, :3] @ true[:3, :3].T)))
    return turn


def test_a_network_that_is_right_mends_the_turn():
    turns = [*[0] * 5, *range(4, 64, 4)]
    alone, guided = end_error_deg(Scene(turns), None), end_error_deg(scene := Scene(turns), scene.guide())
    assert guided < 6 and guided < 0.6 * alone, (alone, guided)


def test_old_key_views_and_points_are_dropped():
    scene = Scene([0])
    tracker = ColorTracker(ColorTrackerConfig(network="none"))
    for k in range(5):
        tracker.track(replace(scene.frames[0], index=k, stamp_ns=k * 33_000_000), [scene.hands[0]])
    track = tracker._object
    assert track is not None
    count = 3 * MOST_POINTS
    for name, shape in (("points", (3,)), ("prior", (3,)), ("information", (3, 3)), ("prior_information", (3, 3)),
                        ("pixels", (2,)), ("alive", ())):  # fmt: skip
        old = getattr(track, name)
        setattr(track, name, np.concatenate([old, np.zeros((count, *shape), old.dtype)]))
    kept = track.points[track.keyframes[-1].points].copy()
    track.keyframes = track.keyframes[-1:] * 9
    forget_old(track, 4)
    assert len(track.keyframes) == 4 and len(track.points) < 0.6 * MOST_POINTS + len(kept)
    assert len(track.points) == len(track.information) == len(track.alive)
    np.testing.assert_array_equal(track.points[track.keyframes[-1].points], kept)


def test_a_network_s_file_is_named_when_it_is_wrong(tmp_path):
    assert load_guide("none") is None
    save_pointmap_network(PointmapNetwork(TINY), tmp_path / "network.pt")
    assert load_guide(str(tmp_path / "network.pt")) is not None
    (tmp_path / "broken.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"broken\.pt"):
        ColorTracker(ColorTrackerConfig(network=str(tmp_path / "broken.pt")))
    with pytest.raises(InputError, match=r"absent\.pt.*no such file"):
        load_guide(str(tmp_path / "absent.pt"))


def test_attention_is_the_same_with_and_without_gradients():
    network = PointmapNetwork(TINY)
    pictures = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        fused = network(*pictures)
    torch.testing.assert_close(network(*pictures).points, fused.points, atol=1e-5, rtol=1e-4)


def test_a_stem_of_convolutions_needs_a_patch_that_halves():
    with pytest.raises(InputError, match="power of 2"):
        PointmapNetwork(replace(TINY, patch_px=12))
    assert PointmapNetwork(replace(TINY, patch_px=12, stem="patches")) is not None


def test_the_network_that_ships_sees_relief_and_turns_of_things_not_trained_on():
    config = PairConfig(seed=9000, max_turn_deg=45.0, roll_deg=5.0, new_background_share=0.0, masked_share=1.0,
                        harshness=0.2, handover_share=0.0, regrasp_share=0.0, open_sequences=3)  # fmt: skip
    network = load_pointmap_network(SHIPPED)
    stream, rows = PairStream(network.config.image_px, config), []
    for number in range(12):
        pair = stream.pair(number)
        pictures = torch.from_numpy(pair.pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            there, back = (network(pictures[None, a], pictures[None, 1 - a]) for a in (0, 1))
        mask = pair.classes[1] == 1
        weight = (there.confidence[0, 1] * back.confidence[0, 0]).numpy()[mask].astype(float)
        source, target = back.points[0, 0].numpy()[mask], there.points[0, 1].numpy()[mask]
        fit = fit_motion(source, target, weight, with_scale=True, config=MotionConfig(sigma=0.06))
        true = pair.T_first_second[:3, :3]
        relief = np.abs(there.points[0, 0, ..., 2].numpy() - pair.points[0, ..., 2])[pair.valid_mask[0]].mean()
        flat = np.abs(pair.points[0, ..., 2])[pair.valid_mask[0]].mean()
        found = there.mask_logits[0, 0].argmax(0).numpy() == pair.classes[0]
        off = rotation_angle(fit.T_target_source[:3, :3] @ true.T)
        rows.append((np.degrees(rotation_angle(true)), np.degrees(off), relief / flat, found.mean()))
    turned, off, relief, found = np.median(rows, axis=0)
    assert turned > 10 and off < 0.6 * turned and relief < 0.5 and found > 0.9, (turned, off, relief, found)

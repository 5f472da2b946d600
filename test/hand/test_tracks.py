"""Tracks: ids outlive misses, sides do not flip, one hand is followed once."""

import numpy as np
import pytest

from hoi_ros.hand.landmarks import HandLandmarks
from hoi_ros.hand.tracks import Handedness, TrackSet, is_same_hand, plausible, sides_alone

DT = 1 / 30
SHAPE = np.zeros((21, 2))
for _finger, _x in enumerate((-40, -20, 0, 20, 38)):
    for _joint in range(4):
        SHAPE[1 + 4 * _finger + _joint] = (_x * (1 + 0.1 * _joint), -40 - 25 * _joint)


def hand(x: float, y: float = 200.0, *, right: float = 0.95, presence: float = 0.99) -> HandLandmarks:
    return HandLandmarks(SHAPE + [x, y], np.zeros((21, 3)), presence, right)


class Scene:
    """Feeds a track set frame by frame: what is at the places it looks, then what a detector finds."""

    def __init__(self, **options):
        self.tracks = TrackSet(options.pop("max_hands", 2), options.pop("keep_lost_s", 1.0), **options)
        self.time_s = 0.0

    def frame(self, *hands: HandLandmarks, detect: bool = True) -> dict[int, str]:
        """Advance one frame; return live ids with their sides."""
        looked = self.tracks.to_follow()
        seen = []
        for track in looked:
            center = track.next_region(self.time_s).center_px
            near = [h for h in hands if np.linalg.norm(h.landmarks_px[9] - center) < 90]
            seen.append(
                min(near, key=lambda h: np.linalg.norm(h.landmarks_px[9] - center), default=hand(0, presence=0.0))
            )
        self.tracks.follow(looked, seen, 0.5, self.time_s)
        if detect:
            self.tracks.admit(hands, 0.5, self.time_s)
        self.tracks.judge_sides()
        self.time_s += DT
        return {track.track_id: track.handedness.side for track in self.tracks.live}


def test_ids_stay_with_moving_hands():
    scene = Scene()
    for i in range(60):
        sides = scene.frame(hand(100 + 4 * i, right=0.95), hand(500 - 4 * i, 500, right=0.05))
    assert sides == {0: "right", 1: "left"}
    places = {track.track_id: track.center_px[0] for track in scene.tracks.live}
    assert places[0] > places[1]


def test_an_id_survives_a_short_miss_elsewhere():
    scene = Scene()
    scene.frame(hand(100))
    for _ in range(10):
        assert scene.frame() == {}
    assert scene.frame(hand(230)) == {0: "right"}


def test_a_long_miss_makes_a_new_hand():
    scene = Scene()
    scene.frame(hand(100))
    for _ in range(40):
        scene.frame()
    assert list(scene.frame(hand(100))) == [1]


def test_a_far_hand_is_another_hand():
    scene = Scene()
    scene.frame(hand(100))
    scene.frame()
    assert list(scene.frame(hand(1500))) == [1]


def test_a_missed_hand_is_found_without_a_detector():
    scene = Scene()
    scene.frame(hand(100))
    scene.frame(detect=False)
    assert scene.frame(hand(104), detect=False) == {0: "right"}


def test_no_more_than_max_hands():
    scene = Scene(max_hands=2)
    for _ in range(3):
        assert len(scene.frame(hand(100), hand(500, right=0.1), hand(900))) == 2
    crowd = Scene(max_hands=5)
    assert len(crowd.frame(*[hand(100 + 300 * i) for i in range(7)])) == 5


def test_one_hand_seen_twice_is_one_track():
    scene = Scene(max_hands=4, one_person=False)
    assert len(scene.frame(hand(100), hand(108), hand(100, 205))) == 1


def test_tracks_that_run_together_leave_the_one_whose_side_is_there():
    scene = Scene()
    for _ in range(5):
        sides = scene.frame(hand(100, right=0.95), hand(500, right=0.05))
    assert sides == {0: "right", 1: "left"}
    seen = hand(500, right=0.05)
    scene.tracks.follow(scene.tracks.live, [seen, seen], 0.5, scene.time_s)
    assert [track.track_id for track in scene.tracks.live] == [1]


def test_the_side_does_not_flip_for_a_few_wrong_frames():
    scene = Scene(max_hands=1)
    for _ in range(15):
        scene.frame(hand(100, right=0.97))
    for _ in range(10):
        assert scene.frame(hand(100, right=0.03)) == {0: "right"}
    for _ in range(40):
        sides = scene.frame(hand(100, right=0.03))
    assert sides == {0: "left"}, "strong evidence wins in the end"


def test_a_doubtful_first_look_is_corrected():
    side = Handedness()
    assert side.observe(-0.3) == "left"
    for _ in range(6):
        answer = side.observe(1.5)
    assert answer == "right"


@pytest.mark.parametrize("one_person", [True, False])
def test_two_hands_of_one_person_differ(one_person):
    scene = Scene(one_person=one_person)
    for _ in range(5):
        scene.frame(hand(100, right=0.99))
    for _ in range(30):
        sides = scene.frame(hand(100, right=0.99), hand(500, right=0.97))
    assert sides == ({0: "right", 1: "left"} if one_person else {0: "right", 1: "right"})


def test_a_weak_side_gives_way_to_a_sure_one():
    scene = Scene()
    for _ in range(3):
        scene.frame(hand(100, right=0.45))
    for _ in range(20):
        sides = scene.frame(hand(100, right=0.45), hand(500, right=0.01))
    assert sides == {0: "right", 1: "left"}


def test_a_new_hand_takes_the_side_that_is_left_over():
    scene = Scene()
    for _ in range(5):
        scene.frame(hand(100, right=0.65))
    for _ in range(3):
        assert scene.frame(hand(100, right=0.65), hand(500, right=0.999)) == {0: "right", 1: "left"}


def test_sides_of_a_single_picture():
    both = [hand(100, right=0.99), hand(500, right=0.7)]
    assert sides_alone(both, True) == ["right", "left"]
    assert sides_alone(both, False) == ["right", "right"]
    assert sides_alone([hand(0, right=0.2)], True) == ["left"]


def test_leaps_in_size_are_no_hand():
    small = HandLandmarks(SHAPE * 0.2, np.zeros((21, 3)), 0.99, 0.9)
    broken = HandLandmarks(SHAPE * np.nan, np.zeros((21, 3)), 0.99, 0.9)
    assert plausible(hand(0), hand(50)) and not plausible(small, hand(0)) and not plausible(broken, hand(0))


def test_neighbours_are_two_hands():
    assert is_same_hand(hand(100), hand(115)) and not is_same_hand(hand(100), hand(200))

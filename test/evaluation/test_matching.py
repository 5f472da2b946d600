"""Which found hand is which labelled one."""

import numpy as np

from hoi_ros.evaluation.matching import match_hands

HAND = np.stack([np.linspace(0, 40, 21), np.tile([0.0, 50.0, 25.0], 7)], 1)


def test_each_label_gets_its_nearest_hand():
    labels = [HAND, HAND + (100, 0), HAND + (0, 200)]
    assert match_hands([labels[1] + 2, labels[0] - 1], labels) == [1, 0, None]
    assert match_hands([], labels) == [None] * 3 and match_hands(labels, []) == []


def test_a_far_hand_is_no_match_and_takes_no_place():
    assert match_hands([HAND + (30, 0)], [HAND]) == [None]
    assert match_hands([HAND + (20, 0)], [HAND]) == [0]
    labels = [HAND, HAND + (40, 0)]
    assert match_hands([HAND + (38, 0), HAND + (300, 0)], labels) == [None, 0]


def test_unknown_joints_do_not_count():
    label = HAND.copy()
    label[5:] = np.nan
    found = HAND.copy()
    found[5:] += 500
    assert match_hands([found], [label]) == [0]


def test_a_wrist_alone_is_matched_within_the_found_hands_size():
    wrist = np.full((21, 2), np.nan)
    wrist[0] = HAND[0] + (1, 0)
    assert match_hands([HAND], [wrist]) == [0]
    assert match_hands([HAND + 300, HAND + (20, 0)], [wrist]) == [1]
    assert match_hands([HAND + (60, 0)], [wrist]) == [None]


def test_a_label_of_which_nothing_is_known_matches_nothing(recwarn):
    nothing = np.full((21, 2), np.nan)
    assert match_hands([HAND], [nothing, HAND]) == [None, 0] and match_hands([nothing], [HAND]) == [None]
    assert not recwarn.list

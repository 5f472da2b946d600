"""SimOTA on cases worked out by hand, and what is decoded when running."""

import math

import pytest
import torch

from hoi_ros.hand.query_filter import assign_instances, best_instances, box_overlap, keep_instances, matching_cost

HAND = (0.5, 0.5, 0.2, 0.2)


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def test_overlap_of_shifted_boxes():
    # Half of the box is shared: 1 / 3 of the union.
    assert box_overlap(boxes(HAND), boxes((0.6, 0.5, 0.2, 0.2))).item() == pytest.approx(1 / 3, abs=1e-5)
    assert box_overlap(boxes(HAND), boxes((0.9, 0.5, 0.2, 0.2))).item() == 0


def test_cost_is_cross_entropy_minus_log_overlap():
    cost = matching_cost(torch.tensor([0.5]), boxes((0.6, 0.5, 0.2, 0.2)), boxes(HAND))
    assert cost.item() == pytest.approx(math.log(2) + math.log(3), abs=1e-4)


def test_as_many_instances_as_the_overlaps_add_up_to():
    # Overlaps 1, 1, 1/3, 0: they add up to 2.33, so two.
    found = boxes(HAND, HAND, (0.6, 0.5, 0.2, 0.2), (0.9, 0.9, 0.1, 0.1))
    positive, hands = assign_instances(torch.tensor([0.9, 0.6, 0.9, 0.9]), found, boxes(HAND))
    assert positive.tolist() == [0, 1] and hands.tolist() == [0, 0]
    # With a score of 0.2 the copy costs log 5 = 1.61, the shifted one log 3 - log 0.9 = 1.20.
    assert assign_instances(torch.tensor([0.9, 0.2, 0.9, 0.9]), found, boxes(HAND))[0].tolist() == [0, 2]


def test_of_equal_boxes_the_better_scored_is_taken():
    # Overlaps add up to 0.999 + ...: one of two equal boxes of overlap 1/3 each.
    found = boxes((0.6, 0.5, 0.2, 0.2), (0.6, 0.5, 0.2, 0.2))
    positive, _ = assign_instances(torch.tensor([0.3, 0.8]), found, boxes(HAND))
    assert positive.tolist() == [1]


def test_each_of_two_hands_gets_its_own_and_a_shared_one_goes_to_the_cheaper():
    left, right = (0.3, 0.5, 0.2, 0.2), (0.5, 0.5, 0.2, 0.2)
    found = boxes(left, right, (0.36, 0.5, 0.2, 0.2))
    positive, hands = assign_instances(torch.tensor([0.9, 0.9, 0.9]), found, boxes(left, right))
    # Hand 0: overlaps 1 and 0.54, one instance; hand 1: 1 and 0.18, one instance.
    assert positive.tolist() == [0, 1] and hands.tolist() == [0, 1]
    only = boxes((0.36, 0.5, 0.2, 0.2))
    positive, hands = assign_instances(torch.tensor([0.9]), only, boxes(right, left))
    assert positive.tolist() == [0] and hands.tolist() == [1]


def test_a_hand_that_nothing_overlaps_takes_the_cheapest():
    positive, hands = assign_instances(
        torch.tensor([0.2, 0.9]), boxes((0.1, 0.1, 0.1, 0.1), (0.9, 0.9, 0.1, 0.1)), boxes(HAND)
    )
    assert positive.tolist() == [1] and hands.tolist() == [0]


def test_no_hands_or_no_instances():
    assert assign_instances(torch.zeros(2), boxes(HAND, HAND), boxes())[0].tolist() == []
    assert assign_instances(torch.zeros(0), boxes(), boxes(HAND))[0].tolist() == []


def test_running_keeps_the_well_scored_and_drops_copies():
    found = boxes(HAND, (0.505, 0.5, 0.2, 0.2), (0.6, 0.5, 0.2, 0.2), (0.2, 0.2, 0.1, 0.1))
    # The second overlaps the first by 0.95, the third by a third; the last scores below 0.1.
    assert keep_instances(torch.tensor([0.5, 0.9, 0.4, 0.05]), found).tolist() == [1, 2]
    assert keep_instances(torch.tensor([0.05] * 4), found).tolist() == []


def test_a_fixed_number_of_instances_is_the_beginning_of_those_kept():
    make = torch.Generator().manual_seed(4)
    centers = torch.rand(3, 50, 2, generator=make) * 0.1 + 0.4
    found = torch.cat([centers, torch.full((3, 50, 2), 0.4)], -1)
    scores = torch.rand(3, 50, generator=make)
    scores[2, 2:] = 0.05
    for nms in (0.9, 0.7):
        index, kept = best_instances(scores, found, 6, nms_threshold=nms)
        for image in range(3):
            expected = keep_instances(scores[image], found[image], nms_threshold=nms)[:6]
            assert index[image][kept[image]].tolist() == expected.tolist()
    assert kept[2].sum() <= 2

from hoi_ros.nodes.synchronizer import FrameSynchronizer, HandCollector, StampJoin, StampOrder

MS = 1_000_000
SECOND = 1000 * MS


def stamps(pairs):
    return [(p.stamp_ns // MS, p.depth) for p in pairs]


def make(**kwargs):
    return FrameSynchronizer(slop_ns=5 * MS, wait_ns=50 * MS, **kwargs)


def test_pairs_in_either_order_within_the_slop():
    s = make()
    assert s.add_depth(1003 * MS, "d0", 0) == []
    assert stamps(s.add_color(1000 * MS, "c0", 0)) == [(1000, "d0")]
    assert s.add_color(1033 * MS, "c1", 0) == [] and s.waiting
    assert stamps(s.add_depth(1030 * MS, "d1", 0)) == [(1033, "d1")] and not s.waiting


def test_a_depth_outside_the_slop_is_no_pair():
    s = make()
    s.add_color(1000 * MS, "c", 0)
    assert s.add_depth(1006 * MS, "d", 0) == []


def test_colour_whose_depth_never_comes_goes_alone_after_the_wait():
    s = make()
    assert s.add_color(1000 * MS, "c", 0) == [] and s.poll(49 * MS) == []
    assert stamps(s.poll(50 * MS)) == [(1000, None)]


def test_colour_stops_waiting_when_depth_stays_away_and_waits_again_when_it_is_back():
    s = make()
    for i in range(3):
        assert s.add_color((1000 + 33 * i) * MS, "c", i * 100 * MS) == []
        assert len(s.poll((i * 100 + 60) * MS)) == 1
    assert s.depth_missing
    assert stamps(s.add_color(1200 * MS, "c", 400 * MS)) == [(1200, None)]
    s.add_depth(1233 * MS, "d", 500 * MS)
    assert not s.depth_missing and s.add_color(1300 * MS, "c", 501 * MS) == []


def test_without_a_depth_publisher_nothing_waits():
    s = make(depth_available=lambda: False)
    assert stamps(s.add_color(1000 * MS, "c", 0)) == [(1000, None)]


def test_a_later_pair_lets_an_earlier_colour_go_first():
    s = make()
    s.add_color(1000 * MS, "c0", 0)
    s.add_color(1033 * MS, "c1", 0)
    assert stamps(s.add_depth(1033 * MS, "d1", 0)) == [(1000, None), (1033, "d1")]


def test_clock_that_jumps_back_starts_anew_and_late_frames_are_dropped():
    s = make()
    s.add_depth(9000 * MS, "d", 0)
    assert len(s.add_color(9000 * MS, "c", 0)) == 1
    assert s.add_color(8990 * MS, "late", 0) == [] and s.order.late == 1
    s.add_color(9033 * MS, "old", 0)
    s.add_color(100 * MS, "c", 0)
    assert s.order.jumps == 1
    assert stamps(s.add_depth(100 * MS, "d", 0)) == [(100, "d")]


def test_stamp_order_survives_equal_stamps():
    order = StampOrder()
    assert [order.check(t) for t in (0, 0, SECOND * 5, SECOND * 5 - MS, SECOND)] == [
        "next", "next", "next", "late", "jump",
    ]  # fmt: skip


def test_join_completes_by_stamp_and_forgets_older():
    join = StampJoin(("a", "b"), capacity=3)
    assert join.add("a", 1, "a1") is None and join.add("a", 2, "a2") is None
    assert join.add("b", 2, "b2") == {"a": "a2", "b": "b2"}
    assert join.add("b", 1, "b1") is None
    for i in range(10, 20):
        join.add("a", i, i)
    assert join.add("b", 16, 0) is None and join.add("b", 17, 0) is not None


def test_join_recovers_from_a_clock_set_back():
    join = StampJoin(("a", "b"))
    join.add("a", 100 * SECOND, 0)
    join.add("b", 100 * SECOND, 0)
    assert join.add("a", SECOND, 1) is None
    assert join.add("b", SECOND, 2) == {"a": 1, "b": 2}


def test_hands_are_complete_when_every_part_of_each_is_there():
    collector = HandCollector()
    kinds = HandCollector.KINDS
    for track in (5, 6):
        for kind in kinds:
            assert collector.add_part(kind, "right", 7, f"{kind}{track}") is None
    assert collector.add_part("vertices", "left", 7, "vertices9") is None
    assert collector.add_skeleton(7, [("right", 5), ("left", 9), ("right", 6)]) is None
    assert collector.add_part("joints", "left", 7, "joints9") is None
    hands = collector.add_part("wrist", "left", 7, "wrist9")
    assert [(h.side, h.track_id) for h in hands] == [("right", 5), ("left", 9), ("right", 6)]
    assert all(h.messages == {kind: f"{kind}{h.track_id}" for kind in kinds} for h in hands)


def test_an_empty_frame_is_complete_at_once():
    assert HandCollector().add_skeleton(7, []) == []

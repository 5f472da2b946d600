import os
import sys
import threading
import time

import pytest

from hoi_ros.nodes.worker import LatestSlot, Worker

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux alone")


def test_the_newest_wins_and_drops_are_counted():
    slot = LatestSlot()
    for i in range(5):
        slot.put(i)
    assert slot.take(0) == 4 and slot.dropped == 4 and slot.take(0) is None


def test_waiting_put_drops_nothing():
    slot, got = LatestSlot(), []
    worker = Worker("w", slot, lambda i: (time.sleep(0.001), got.append(i)), lambda e: None)
    worker.start()
    for i in range(20):
        slot.put(i, wait=True)
    assert worker.wait_idle(30.0)
    worker.stop()
    assert got == list(range(20)) and slot.dropped == 0


def test_closing_frees_a_waiting_put():
    slot = LatestSlot()
    slot.put(1)
    thread = threading.Thread(target=slot.put, args=(2,), kwargs={"wait": True})
    thread.start()
    slot.close()
    thread.join(1.0)
    assert not thread.is_alive() and slot.take(0) is None


def test_a_crash_does_not_end_the_worker():
    slot, got, errors = LatestSlot(), [], []

    def process(i):
        if i % 2:
            raise RuntimeError(str(i))
        got.append(i)

    worker = Worker("w", slot, process, errors.append)
    worker.start()
    for i in range(6):
        slot.put(i, wait=True)
    assert worker.wait_idle(30.0)
    worker.stop()
    assert got == [0, 2, 4] and [str(e) for e in errors] == ["1", "3", "5"]


def test_a_worker_starts_again_after_stop():
    slot, got = LatestSlot(), []
    worker = Worker("w", slot, got.append, lambda e: None)
    for i in range(2):
        worker.start()
        slot.put(i)
        assert worker.wait_idle(30.0)
        worker.stop()
        slot.put(99)
    assert got == [0, 1]


@ON_LINUX
def test_a_nice_thread_stands_back_and_others_do_not():
    slot, seen = LatestSlot(), []
    own = os.getpriority(os.PRIO_PROCESS, 0)
    worker = Worker("w", slot, lambda i: seen.append(os.getpriority(os.PRIO_PROCESS, 0)), lambda e: None, niceness=5)
    worker.start()
    for i in range(3):
        slot.put(i, wait=True)
    assert worker.wait_idle(30.0)
    worker.stop()
    assert seen == [own, *[min(own + 5, 19)] * 2] and os.getpriority(os.PRIO_PROCESS, 0) == own

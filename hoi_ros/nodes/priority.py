"""Who stands back when processors are short: hands first, then the object's pose, then its mesh."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

TRACKING, FUSION, MESHING = 5, 10, 15
"""Niceness of the parts that may lag; hands keep the user's own."""
SWITCH_INTERVAL_S = 1e-4
"""Longest that a thread waits for the interpreter while another one computes. Python's own 5 ms is paid anew after
every library call of a frame's work, of which there are hundreds: 48 ms to a hand mesh (p95) became 37."""


def share_interpreter() -> None:
    """Make the threads of this process take turns often enough for a frame's work."""
    sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL_S))


def lower_thread(niceness: int) -> None:
    """Let the calling thread stand back by so much; on Linux alone, where threads have a niceness of their own."""
    if niceness > 0 and sys.platform == "linux":
        with contextlib.suppress(OSError):
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, 0) + niceness)


def lower_process(niceness: int) -> None:
    """Let this process stand back by so much; call before it has threads, which inherit it."""
    if niceness > 0 and sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.nice(niceness)


def yield_to_all() -> None:
    """Let the calling thread run only where nothing else wants to; it never comes back from there.

    A nice thread still finishes its slice of some milliseconds when another wakes up, and a frame's way to the hand
    mesh has a dozen wake-ups: 50 ms (p95) became 33 to 38. Not for a thread that shares an interpreter with hands:
    it would keep the interpreter while it waits for a processor.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))

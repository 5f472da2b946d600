"""Who stands back when processors are short: hands first, then the object's pose, then its mesh."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

TRACKING, FUSION, MESHING = 5, 10, 15
"""Niceness of the parts that may lag; hands keep the user's own."""
APART = 5
"""What a process stands back further: it holds no interpreter that hands wait for."""
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
    """Let this process stand back, by `APART` more than a thread would; call before it has threads, which inherit it.

    The idle class (SCHED_IDLE) is quicker out of the way still, but on a busy machine a process in it starves while it
    holds its own interpreter, and then neither answers nor ends.
    """
    if niceness > 0 and sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.nice(niceness + APART)

"""Child processes that never outlive this one: started, watched, started again with back-off, stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hoi_ros.errors import InputError

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 10.0
STEADY_AFTER_S = 20.0
"""A child that lived so long starts its back-off anew."""
STOP_TIMEOUT_S = 10.0
BAD_INPUT = 2

# The kernel ends the child when this process dies, however it dies; the setting survives exec.
_BOUND_START = """
import ctypes, os, signal, sys
os.setpgid(0, 0)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(0)
os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass
class Child:
    """One program to keep running."""

    name: str
    command: Sequence[str]
    essential: bool = True
    """Started again when it ends; otherwise its end is only reported."""
    process: subprocess.Popen | None = None
    restarts: int = 0
    _backoff_s: float = field(default=FIRST_BACKOFF_S, repr=False)
    _started: float = field(default=0.0, repr=False)
    _due: float = field(default=0.0, repr=False)


class Supervisor:
    """Keeps children running until told to stop."""

    def __init__(self, children: Sequence[Child], say: Callable[[str], None]) -> None:
        """Nothing starts yet; `say` gets one line for each event."""
        self.children = list(children)
        self._say = say

    def start(self, check: Callable[[], None] = lambda: None) -> None:
        """Start every child; `check` is called before each and may raise."""
        for child in self.children:
            check()
            self._start(child)

    def watch(self) -> None:
        """Look after the children; call a few times a second.

        Raises:
            InputError: a child refused what it was given (exit code 2); it has said why on stderr.
        """
        now = time.monotonic()
        for child in self.children:
            if child.process is None:
                if child.essential and now >= child._due:
                    child.restarts += 1
                    self._start(child)
            elif child.process.poll() is not None:
                self._ended(child, now)

    def stop(self) -> None:
        """End every child and all that it started; kill what does not end by itself."""
        running = [child for child in self.children if child.process is not None]
        for child in running:
            _signal_group(child.process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for child in running:
            assert child.process is not None
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._say(f"{child.name} does not stop: killing it")
            _signal_group(child.process, signal.SIGKILL)
            child.process.wait()
            child.process = None

    def kill(self) -> None:
        """End every child at once."""
        for child in self.children:
            _signal_group(child.process, signal.SIGKILL)
        for child in self.children:
            if child.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(1.0)

    def _start(self, child: Child) -> None:
        command = [sys.executable, "-I", "-S", "-c", _BOUND_START, str(os.getpid()), *child.command]
        # A group of its own: Ctrl-C in the terminal reaches this process alone, which stops the others in order. Not a
        # session of its own: Linux shares processors between sessions first, and niceness counts within one only.
        child.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        child._started = time.monotonic()

    def _ended(self, child: Child, now: float) -> None:
        assert child.process is not None
        code = child.process.returncode
        _signal_group(child.process, signal.SIGKILL)
        child.process = None
        if code == BAD_INPUT and child.restarts == 0:
            raise InputError(f"{child.name} could not start: its message stands above")
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if not child.essential:
            self._say(f"{child.name} ended ({how})")
            return
        if now - child._started > STEADY_AFTER_S:
            child._backoff_s = FIRST_BACKOFF_S
        self._say(f"{child.name} died ({how}): starting it again in {child._backoff_s:g} s")
        child._due = now + child._backoff_s
        child._backoff_s = min(2 * child._backoff_s, LONGEST_BACKOFF_S)


def _signal_group(process: subprocess.Popen | None, number: signal.Signals) -> None:
    if process is None:
        return
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        # Nothing is left of it, or it has yet to make its group.
        process.send_signal(number)

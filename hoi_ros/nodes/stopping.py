"""Ctrl-C and SIGTERM, noted by the handler and acted on where it is safe. Needs no ROS: it guards the imports too."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_STOP_S = 0.5
"""Signals nearer than this are one wish: a launcher sends its own right after the terminal's."""
NOTED = b"stopping; once more ends it at once\n"


class Stop:
    """Set by the first signal.

    The handler raises nothing: an exception that comes up inside an import can leave a lock taken for good. While
    starting, a later signal ends the process at once, after `undo`; a running system closes its recordings in peace.
    """

    def __init__(self) -> None:
        self.asked = False
        """A signal came."""
        self.starting = True
        """Until the system is up."""
        self.undo: list[Callable[[], object]] = []
        """What a process that ends at once must not leave behind, the last first."""
        self._asked_s = 0.0

    def check(self) -> None:
        """Break off here, between two steps of a start, when a signal came.

        Raises:
            KeyboardInterrupt: it did; `stop_signals` takes it.
        """
        if self.asked:
            raise KeyboardInterrupt

    def ask(self, number: int, frame: Any) -> None:
        """The handler."""
        now = time.monotonic()
        if not self.asked:
            self.asked, self._asked_s = True, now
            if self.starting:
                with contextlib.suppress(OSError):
                    os.write(2, NOTED)
        elif self.starting and now - self._asked_s >= SAME_STOP_S:
            for undo in reversed(self.undo):
                with contextlib.suppress(Exception):
                    undo()
            os._exit(0)


@contextlib.contextmanager
def stop_signals(stop: Stop | None = None) -> Iterator[Stop]:
    """Handle the signals inside; one that already does is handed through. Ends quietly at a `check` that broke off.

    The handlers of before come back unless a signal was taken: the process then ends, and the next must not spoil that.
    """
    if stop is not None:
        yield stop
        return
    stop = Stop()
    before = {number: signal.signal(number, stop.ask) for number in SIGNALS}
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield stop
    finally:
        if stop.asked:
            stop.starting = True
            stop.undo.clear()
            atexit.register(_ignore)
        else:
            for number, handler in before.items():
                signal.signal(number, handler)


def _ignore() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)

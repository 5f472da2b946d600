"""What a node says of itself on /diagnostics: state, rate, latency, drops, and each trouble once in the log."""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

TROUBLE_SHOWN_S = 5.0
"""A trouble that has not come again for so long no longer turns the node's status to WARN."""
LATENCY_LIMIT_MS = 60_000.0
"""More is a stamp of another clock (a bag, a simulator), not a latency."""


def kind_of(error: BaseException) -> str:
    """Name of an error for `say`: its type and the place it was raised at."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} at {place}"


class NodeDiagnostics:
    """Counts frames and troubles; any thread may tell it, `report` makes the message."""

    def __init__(
        self, name: str, log: Callable[[str, str], None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start with nothing seen.

        Args:
            name: the node's.
            log: called with 'info'|'warn'|'error' and a line; None logs nowhere.
            clock: seconds; for tests.
        """
        self._name, self._clock = name, clock
        self._log = log or (lambda level, text: None)
        self._lock = threading.Lock()
        self._moments: deque[tuple[float, float, float]] = deque(maxlen=600)
        self._troubles: dict[str, list] = {}
        self._counters: dict[str, Callable[[], int]] = {}
        self._values: dict[str, str] = {}
        self.frames = 0
        """Frames worked on."""
        self.bad_frames = 0
        """Frames that could not be read."""
        self.crashes = 0
        """Frames whose work raised."""
        self.state = "starting"
        """One or two words; shown first."""

    def frame_done(self, process_ms: float, latency_ms: float) -> None:
        """Count a frame: how long it took, and how old its stamp was when its results were out."""
        with self._lock:
            self.frames += 1
            self._moments.append((self._clock(), process_ms, latency_ms))

    def count(self, name: str, read: Callable[[], int]) -> None:
        """Show a counter that lives elsewhere, such as a slot's drops."""
        self._counters[name] = read

    def value(self, name: str, text: object) -> None:
        """Show a value until it is overwritten."""
        with self._lock:
            self._values[name] = str(text)

    def say(self, kind: str, text: str, level: str = "warn") -> None:
        """Report a trouble: logged the first time of its kind, shown on /diagnostics while it lasts."""
        with self._lock:
            known = self._troubles.get(kind)
            if known is None:
                self._troubles[kind] = [text, 1, self._clock()]
            else:
                known[0], known[1], known[2] = text, known[1] + 1, self._clock()
        if known is None:
            self._log(level, text)

    def note(self, kind: str, text: str) -> None:
        """Say something once that is no trouble: to the log, and as a value."""
        known = kind in self._values
        self.value(kind, text)
        if not known:
            self._log("info", text)

    def over(self, kind: str) -> None:
        """A trouble is over: say it again when it comes back."""
        with self._lock:
            self._troubles.pop(kind, None)

    def seconds_since_frame(self) -> float:
        """Time since the last frame was done; infinite before the first."""
        with self._lock:
            return self._clock() - self._moments[-1][0] if self._moments else float("inf")

    def report(self, header) -> DiagnosticArray:
        """The message for /diagnostics; rate and percentiles over the last five seconds."""
        with self._lock:
            now = self._clock()
            recent = [m for m in self._moments if now - m[0] <= 5.0]
            troubles = {k: tuple(v) for k, v in self._troubles.items()}
            values = {"state": self.state, **self._values}
        fresh = [text for text, _, when in troubles.values() if now - when <= TROUBLE_SHOWN_S]
        span = max(now - recent[0][0], 1e-3) if recent else 0.0
        rate = (len(recent) - 1) / span if len(recent) > 1 else 0.0
        values |= {"rate_hz": f"{rate:.1f}", "frames": str(self.frames)}
        values |= {"bad_frames": str(self.bad_frames), "crashes": str(self.crashes)}
        values |= {name: str(read()) for name, read in self._counters.items()}
        values |= _percentiles("process_ms", [m[1] for m in recent])
        values |= _percentiles("latency_ms", [m[2] for m in recent if 0 <= m[2] < LATENCY_LIMIT_MS])
        values |= {f"trouble: {kind}": f"{text} ({count} times)" for kind, (text, count, _) in troubles.items()}
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if fresh else DiagnosticStatus.OK,
            name=self._name,
            message=f"{self.state}; {fresh[-1]}" if fresh else f"{self.state}, {rate:.1f} Hz",
            hardware_id="hoi_ros",
            values=[KeyValue(key=k, value=v) for k, v in values.items()],
        )
        return DiagnosticArray(header=header, status=[status])


def _percentiles(name: str, samples: list[float]) -> dict[str, str]:
    if not samples:
        return {}
    p50, p95 = np.percentile(samples, [50, 95])
    return {f"{name}_p50": f"{p50:.1f}", f"{name}_p95": f"{p95:.1f}"}

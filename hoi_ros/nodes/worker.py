"""A thread that works on the newest item: what an executor hands over and never waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from hoi_ros.nodes.priority import lower_thread

Item = TypeVar("Item")


class LatestSlot(Generic[Item]):
    """Room for one item: a newer one takes the place of an older one that nobody took."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: Item | None = None
        self._closed = False
        self.dropped = 0
        """Items that were overwritten before anyone took them."""

    def put(self, item: Item, *, wait: bool = False, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Lay down an item; with `wait`, first let the older one be taken, unless closed or cancelled meanwhile."""
        with self._condition:
            while wait and self._item is not None and not self._closed:
                if cancelled():
                    return
                self._condition.wait(0.1)
            if self._closed:
                return
            self.dropped += self._item is not None
            self._item = item
            self._condition.notify_all()

    def wait(self, timeout_s: float) -> None:
        """Wait until an item lies here or the slot is closed, without taking it."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._closed, timeout_s)

    def take(self, timeout_s: float | None = None) -> Item | None:
        """Newest item, or None when nothing came in time or the slot was closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._closed, timeout_s)
            item, self._item = self._item, None
            self._condition.notify_all()
            return item

    @property
    def pending(self) -> bool:
        """True while an item waits to be taken."""
        return self._item is not None

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._closed

    def close(self) -> None:
        """Let everyone go who waits; later items are ignored."""
        with self._condition:
            self._closed, self._item = True, None
            self._condition.notify_all()

    def open(self) -> None:
        """Take items again after `close`."""
        with self._condition:
            self._closed, self._item = False, None


class Worker(Generic[Item]):
    """One thread that calls `process` with each item taken from a slot; `on_error` gets what it raises."""

    def __init__(
        self,
        name: str,
        slot: LatestSlot[Item],
        process: Callable[[Item], None],
        on_error: Callable[[Exception], None],
        niceness: int = 0,
    ) -> None:
        """Nothing runs yet.

        Args:
            name: of the thread.
            slot: where items come from.
            process: called with each item.
            on_error: called with what `process` raises.
            niceness: how far the thread stands back for others.
        """
        self.slot = slot
        self._name, self._process, self._on_error = name, process, on_error
        self._niceness = niceness
        self._busy = False
        self._thread: threading.Thread | None = None

    @property
    def idle(self) -> bool:
        """True when nothing waits and nothing is worked on."""
        return not (self.slot.pending or self._busy)

    def start(self) -> None:
        """Start the thread; does nothing when it runs."""
        if self._thread is None:
            self.slot.open()
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish the current item and end the thread."""
        self.slot.close()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until there is nothing to do; False when there still is."""
        deadline = time.monotonic() + timeout_s
        while not self.idle and time.monotonic() < deadline:
            time.sleep(0.002)
        return self.idle

    def _run(self) -> None:
        lowered = False
        while not self.slot.closed:
            # Busy from before the slot empties, so that `idle` never blinks between the two.
            self._busy = True
            item = self.slot.take(timeout_s=0.0)
            if item is None:
                self._busy = False
                self.slot.wait(1.0)
                continue
            try:
                self._process(item)
            except Exception as error:  # one frame's crash must not end the node; the caller logs it whole
                self._on_error(error)
            self._busy = False
            if not lowered:
                # Only now: the first item imports libraries, and others need the interpreter that it holds meanwhile.
                lowered = True
                lower_thread(self._niceness)

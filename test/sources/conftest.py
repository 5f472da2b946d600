"""Watch for what a source leaves behind."""

from __future__ import annotations

import os
import threading

import pytest


def open_descriptors() -> int:
    """Number of file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def nothing_leaks():
    """Fail when the test leaves more threads or file descriptors than it found."""
    threads, descriptors = threading.active_count(), open_descriptors()
    yield
    assert threading.active_count() <= threads
    assert open_descriptors() <= descriptors

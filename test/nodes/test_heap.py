import ctypes
import subprocess
import sys

import pytest

from hoi_ros.nodes.heap import bound_heap

GROW = """
import ctypes, sys, threading
import numpy as np
from hoi_ros.nodes.heap import bound_heap
if sys.argv[1] == "bound":
    assert bound_heap({})
keep = []
def frames(seed):
    sizes = np.random.default_rng(seed).integers(600_000, 3_000_000, 300)
    for i, size in enumerate(sizes):
        picture = np.ones(size, np.uint8)
        if i % 3 == 0:
            keep.append(bytes(20_000))  # what stays lies between pictures that go
threads = [threading.Thread(target=frames, args=(i,)) for i in range(6)]
[t.start() for t in threads]
[t.join() for t in threads]
library = ctypes.CDLL(None)
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena a b c d e f used free g".split()]
library.mallinfo2.restype = Info
print(library.mallinfo2().free)
"""


def free_bytes(how):
    return int(subprocess.run([sys.executable, "-c", GROW, how], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="speaks of glibc 2.33 and later")
def test_free_room_between_blocks_stays_small():
    bound, unbound = free_bytes("bound"), free_bytes("not")
    assert bound < 4_000_000 < unbound


def test_a_users_own_limits_stand():
    assert not bound_heap({"MALLOC_ARENA_MAX": "1"})

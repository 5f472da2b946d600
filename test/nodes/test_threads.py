"""Nodes keep their small steps to one thread; in processes of their own, since the setting stays."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

REPORT = """
import cv2, numpy, scipy.linalg, threadpoolctl
from hoi_ros.nodes.threads import share_cores
share_cores()
pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
print(cv2.getNumThreads(), max(pools))
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: nothing to keep back from")
@pytest.mark.parametrize("own, blas", [({}, 1), ({"OPENBLAS_NUM_THREADS": "2"}, 2)])
def test_one_thread_each_but_what_the_user_set_stands(own, blas):
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")} | own
    run = subprocess.run([sys.executable, "-c", REPORT], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1", str(blas)]

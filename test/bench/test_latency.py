"""Reading the latency program's table, and watching processes."""

import os
import subprocess
import sys
import time

from hoi_ros.bench.latency import ProcessWatch, descendants, figures_of


def test_a_row_is_read():
    figures = figures_of("| sim:rotate | composed | 480 | 18.9 | 27.9 | 35.7 | 3 of 483 | 12.0 |")
    assert figures == {
        "meshes": 480, "ms_p50": 18.9, "ms_p95": 27.9, "ms_p99": 35.7, "dropped": 3, "pictures": 483,
    }  # fmt: skip
    assert figures_of("| sim:rotate | apart | no mesh came | | | | | |") == "no mesh came"


def test_children_and_their_load_are_seen():
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'x = bytearray(10**8)\\nwhile True: pass'])\n"
        "time.sleep(2.5)\np.kill()"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    watch = ProcessWatch(process.pid, 0.2)
    time.sleep(1.0)
    assert len(descendants(process.pid)) == 1 and process.pid in descendants(os.getpid())
    process.wait()
    watch.stop()
    assert watch.memory_mb() > 90 and watch.cpu_percent() > 1

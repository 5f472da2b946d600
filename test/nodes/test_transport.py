"""What other processes do to us: readers that hang, a node without its camera, Ctrl-C, bad input."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from sensor_msgs.msg import Image

from hoi_ros.nodes.conversions import image_message, make_header
from hoi_ros.nodes.qos import IMAGE_OUT

pytestmark = pytest.mark.ros

READER = """
import sys, rclpy
from sensor_msgs.msg import Image
from hoi_ros.nodes.qos import {qos}
rclpy.init()
node = rclpy.create_node("slow_reader")
got = []
node.create_subscription(Image, "big/image", lambda m: got.append(m.header.stamp.nanosec), {qos})
print("ready", flush=True)
while not got or got[-1] < {last}:
    rclpy.spin_once(node, timeout_sec=0.5)
print(len(got), got[0], flush=True)
"""
PICTURE = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)


def start(code_or_module, *args):
    command = [sys.executable, "-m", code_or_module] if code_or_module.startswith("hoi_ros") else [
        sys.executable, "-c", code_or_module]  # fmt: skip
    return subprocess.Popen([*command, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def publisher(ros):
    node = ros.create_node("big_camera")
    yield node.create_publisher(Image, "big/image", IMAGE_OUT)
    node.destroy_node()


def wait_for_reader(publisher):
    end = time.monotonic() + 10
    while not publisher.get_subscription_count() and time.monotonic() < end:
        time.sleep(0.02)
    assert publisher.get_subscription_count()


@pytest.mark.parametrize("qos", ["IMAGE_IN", "RESULT"])
def test_pictures_arrive_in_another_process(publisher, qos):
    """Without the profile 1 of 100 arrives. Counted from the first, since discovery takes its time."""
    reader = start(READER.format(qos=qos, last=120))
    try:
        wait_for_reader(publisher)
        for i in range(1, 121):
            publisher.publish(image_message(PICTURE, "rgb8", make_header(i, "cam")))
            time.sleep(1 / 30)
        out, _ = reader.communicate(timeout=60)
    finally:
        reader.kill()
        reader.communicate()
    count, first = map(int, out.split()[-2:])
    assert first < 100 and count >= 0.7 * (121 - first)


@pytest.mark.parametrize("qos", ["IMAGE_IN", "RESULT"])
def test_a_reader_that_never_reads_does_not_hold_up_the_camera(publisher, qos):
    reader = start(READER.format(qos=qos, last=10**9))
    try:
        wait_for_reader(publisher)
        os.kill(reader.pid, signal.SIGSTOP)
        slowest = 0.0
        for i in range(1, 61):
            begin = time.perf_counter()
            publisher.publish(image_message(PICTURE, "rgb8", make_header(i, "cam")))
            slowest = max(slowest, time.perf_counter() - begin)
            time.sleep(0.01)
    finally:
        reader.kill()
        reader.communicate()
    assert slowest < 0.15


@pytest.mark.parametrize(
    ("node", "number"),
    [
        ("hand_node", signal.SIGINT),
        ("hand_node", signal.SIGTERM),
        ("tracker_node", signal.SIGINT),
        ("reconstruction_node", signal.SIGINT),
    ],
)
def test_a_node_waits_for_its_camera_and_ends_cleanly(node, number):
    process = start(f"hoi_ros.nodes.{node}", "--ros-args", "-p", "device:=cpu", "-p", "diagnostics_period_s:=0.2")
    try:
        lines, end = "", time.monotonic() + 60
        while "waiting for" not in lines and time.monotonic() < end:
            lines += process.stderr.readline()
        assert "waiting for" in lines
        process.send_signal(number)
        _, rest = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0 and "Traceback" not in rest


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("-p", "source:=vidio:x"), "did you mean 'video'"),
        (("-p", "sourc:=sim"), "did you mean 'source'"),
        (("-p", "source:=images:/nowhere"), "/nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, text):
    process = start("hoi_ros.nodes.camera_node", "--ros-args", *arguments)
    _, errors = process.communicate(timeout=60)
    last = errors.strip().splitlines()[-1]
    assert process.returncode == 2 and last.startswith("error: ") and text in last and "Traceback" not in errors

"""The live system: refusals before anything starts, children that never outlive it, a clean end."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from foxglove_client import FoxgloveClient
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from visualization_msgs.msg import MarkerArray

from hoi_ros.errors import InputError
from hoi_ros.nodes.live_plan import LiveOptions, make_plan
from hoi_ros.nodes.live_processes import Child, Supervisor
from hoi_ros.nodes.live_status import LiveStatus
from hoi_ros.nodes.stopping import SAME_STOP_S
from hoi_ros.sources.bag_writer import BagWriter

pytestmark = pytest.mark.ros

QUIET = {"foxglove": False, "source": "sim:empty"}


def plan_of(**options):
    return make_plan(LiveOptions(**{**QUIET, **options}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "video:/nowhere.mp4"}, "nowhere.mp4"),
        ({"source": "vidoe:/nowhere.mp4"}, "did you mean 'video'"),
        ({"source": "sim:rotat"}, "did you mean 'rotate'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"parameters": {"hand_node": {"max_hand": 1}}}, "did you mean 'max_hands'"),
        ({"parameters": {"hands_node": {}}}, "did you mean 'hand_node'"),
        ({"parameters": {"camera_node": {"rate_hz": -1.0}}}, "range"),
        ({"parameters": {"recorder_node": {"compression": "zip"}}}, "choose one of zstd, none"),
        ({"parameters": {"**": {"devise": "cpu"}}}, "did you mean 'device'"),
    ],
)
def test_bad_input_is_refused_in_one_line(options, words):
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        plan_of(**options)
    assert "\n" not in str(caught.value)


def test_port_in_use_is_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="in use"):
            plan_of(foxglove=True, foxglove_port=taken.getsockname()[1])


def test_paths_are_checked_and_nothing_is_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        plan_of(out=tmp_path / "file" / "results")
    with pytest.raises(InputError, match="exists already"):
        plan_of(record=tmp_path / "file")
    plan = plan_of(out=tmp_path / "results", record=tmp_path / "bag")
    assert plan.mesh_file == tmp_path / "results" / "object.ply"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_rviz_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="rviz2 is not on the PATH"):
        plan_of(rviz=True)


def test_photos_are_treated_alone_and_films_are_not(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((24, 32, 3), np.uint8))
    photos, film = plan_of(source=f"images:{tmp_path}"), plan_of()
    for node in ("hand_node", "tracker_node"):
        assert photos.parameters[node]["independent"] is True and "independent" not in film.parameters[node]


def test_command_line_defaults_leave_the_file_its_say():
    files = {"**": {"device": "cpu"}, "hand_node": {"max_hands": 1}, "foxglove_node": {"port": 9123}}
    plan = plan_of(parameters=files, foxglove=True, frames=5)
    assert plan.parameters["hand_node"] == {"device": "cpu", "max_hands": 1, "estimator": "auto"}
    assert plan.foxglove_port == 9123
    assert plan.parameters["camera_node"]["max_frames"] == 5
    assert "recorder_node" not in plan.parameters
    assert plan_of(parameters=files, foxglove=True, foxglove_port=9124).foxglove_port == 9124


def test_a_process_a_node_plays_files_from_their_begin_to_their_last_frame(ros, tmp_path):
    assert "readers" not in plan_of().parameters["camera_node"]
    readers = plan_of(composed=False, record=tmp_path / "bag").parameters["camera_node"]["readers"].split()
    assert readers == ["hand_node", "tracker_node", "reconstruction_node", "recorder_node"]
    node = Node("drain_test")
    status = LiveStatus(node, quiet=True, stream=io.StringIO())

    def report(name, state, frames):
        values = [KeyValue(key="state", value=state), KeyValue(key="frames", value=frames)]
        status.take(DiagnosticArray(status=[DiagnosticStatus(name=name, values=values)]))

    report("hand_node", "waiting", "0")
    report("hand_node", "waiting", "0")
    report("camera_node", "finished", "3")
    assert not status.drained(["hand_node"]), "what it said before the end does not count"
    for frames, done in (("1", False), ("3", False), ("3", True)):
        report("hand_node", "1 hand", frames)
        assert status.drained(["hand_node"]) == done
    assert not status.drained(["hand_node", "tracker_node"])
    node.destroy_node()


def test_status_line_tells_what_nodes_report(ros):
    node, stream = Node("status_test"), io.StringIO()
    status = LiveStatus(node, quiet=False, stream=stream)
    values = {"state": "2 hands", "rate_hz": "29.9", "frames": "60", "latency_ms_p50": "21.0", "latency_ms_p95": "30.0"}
    told = DiagnosticStatus(name="hand_node", values=[KeyValue(key=k, value=v) for k, v in values.items()])
    status.take(DiagnosticArray(status=[told]))
    assert "2 hands | 29.9 fps | latency 21.0 ms (p95 30.0)" in status.line()
    assert "60 looked at for hands" in status.summary()
    assert not status.camera_finished
    broken = [KeyValue(key="state", value="source failed"), KeyValue(key="failure", value="film.mp4 is cut off")]
    status.take(DiagnosticArray(status=[DiagnosticStatus(name="camera_node", values=broken)]))
    assert status.camera_finished and status.camera_failure == "film.mp4 is cut off"
    node.destroy_node()


SLEEPER = "import time, sys; print('up', flush=True); time.sleep(60)"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_child_that_dies_is_started_again_and_stopped_in_the_end():
    said = []
    child = Child("worker", [sys.executable, "-c", SLEEPER])
    supervisor = Supervisor([child], said.append)
    supervisor.start()
    first = child.process.pid
    os.kill(first, signal.SIGKILL)
    end = time.monotonic() + 10
    while time.monotonic() < end and not (child.process and child.process.pid != first):
        supervisor.watch()
        time.sleep(0.02)
    second = child.process.pid
    assert child.restarts == 1
    assert "worker died (signal SIGKILL): starting it again in 0.5 s" in said
    supervisor.stop()
    assert not alive(first) and not alive(second)


def test_back_off_grows():
    said = []
    supervisor = Supervisor([Child("broken", [sys.executable, "-c", "raise SystemExit(1)"])], said.append)
    supervisor.start()
    end = time.monotonic() + 15
    while len(said) < 3 and time.monotonic() < end:
        supervisor.watch()
        time.sleep(0.02)
    supervisor.stop()
    assert [line.split()[-2] for line in said[:3]] == ["0.5", "1", "2"]


def test_bad_input_in_a_child_ends_the_whole():
    supervisor = Supervisor([Child("picky", [sys.executable, "-c", "raise SystemExit(2)"])], print)
    supervisor.start()
    with pytest.raises(InputError, match="picky"):
        for _ in range(500):
            supervisor.watch()
            time.sleep(0.02)
    supervisor.stop()


def test_a_stubborn_child_and_its_children_are_killed(monkeypatch):
    monkeypatch.setattr("hoi_ros.nodes.live_processes.STOP_TIMEOUT_S", 0.5)
    stubborn = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen(['sleep', '61']).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    said = []
    supervisor = Supervisor([Child("stubborn", [sys.executable, "-c", stubborn])], said.append)
    supervisor.start()
    pid = supervisor.children[0].process.pid
    time.sleep(0.5)
    supervisor.stop()
    assert said == ["stubborn does not stop: killing it"]
    assert not alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_children_die_with_a_killed_parent():
    program = (
        "import sys, time\n"
        "from hoi_ros.nodes.live_processes import Child, Supervisor\n"
        f"supervisor = Supervisor([Child('worker', [sys.executable, '-c', {SLEEPER!r}])], print)\n"
        "supervisor.start()\n"
        "print(supervisor.children[0].process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert parent.stdout.readline().strip() == "up"
    assert alive(child)
    parent.kill()
    parent.wait()
    end = time.monotonic() + 5
    while alive(child) and time.monotonic() < end:
        time.sleep(0.02)
    assert not alive(child)


@pytest.fixture(scope="module")
def short_bag(tmp_path_factory):
    """Twenty-five simulated frames."""
    from hoi_ros.simulation import Simulator, SimulatorConfig

    path = tmp_path_factory.mktemp("live") / "camera"
    simulator = Simulator("rotate", SimulatorConfig(width=320, height=240))
    with BagWriter(path) as writer:
        for i in range(25):
            writer.write(simulator.frame(i))
    return path


def start_live(*options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "hoi_ros.nodes.live", "--port", "0", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_bag_plays_to_its_end_and_is_recorded(short_bag, tmp_path):
    process = start_live("--source", f"bag:{short_bag}", "--record", str(tmp_path / "again"))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "as asked" in output and "stopped: 25 frames from the camera" in output, output
    from hoi_ros.sources import open_source

    with open_source(f"bag:{tmp_path / 'again'}") as source:
        assert sum(1 for _ in source) >= 20


def test_a_file_that_breaks_off_ends_with_its_reason(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8))
    whole = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(whole[: len(whole) // 2])
    process = start_live("--source", f"images:{folder}", "--foxglove", "false")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert "live_node: " in output.splitlines()[-1] and "2.png" in output.splitlines()[-1], output
    assert "stopped: 2 frames from the camera" in output


HANGING = """
import os, signal, sys, threading
from pathlib import Path
from hoi_ros.nodes import camera_node, live
from hoi_ros.nodes.hand_node import HandNode

class Careless:
    def __del__(self):  # what is raised here is lost, as in the import machinery
        os.kill(os.getpid(), signal.SIGINT)

def setup(node):
    Careless()
    super(HandNode, node).setup()

camera_node.open_source = lambda *_: threading.Event().wait()
camera_node.OPENING_TIMEOUT_S = float(sys.argv[2])
HandNode.setup = setup
sys.exit(live.run_live(live.LiveOptions(source="sim:empty", foxglove=False, record=Path(sys.argv[1]))))
"""


@pytest.mark.parametrize("again", [False, True])
def test_a_stop_while_starting_is_kept_and_a_second_one_ends_at_once(tmp_path, again):
    bag = tmp_path / "bag"
    command = [sys.executable, "-c", HANGING, str(bag), "60" if again else "0.1"]
    # A domain of its own: who ends without farewell stays in the others' graph for half a minute.
    apart = {**os.environ, "ROS_DOMAIN_ID": str(101 + int(os.environ["ROS_DOMAIN_ID"]) % 100)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=apart)
    try:
        if again:
            while not process.stdout.readline().startswith("stopping"):
                assert process.poll() is None
            time.sleep(SAME_STOP_S + 0.1)
            process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert not bag.exists() and "Traceback" not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal_it_ends_cleanly(short_bag, tmp_path, number):
    process = start_live("--source", f"bag:{short_bag}", "--loop", "true", "--record", str(tmp_path / "bag"))
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "first hand mesh" in line:
            break
    address = next(line for line in lines if "Foxglove: ws://localhost:" in line)
    client = FoxgloveClient(int(re.search(r"localhost:(\d+)", address)[1]))
    shown = ["/hands/mesh", "/hands/overlay/compressed", "/color/image_raw/compressed", "/color/camera_info", "/tf"]
    client.subscribe(*shown)
    got = client.receive(shown, timeout_s=60)
    client.close()
    markers = deserialize_message(got["/hands/mesh"], MarkerArray).markers
    assert markers[0].header.frame_id == "camera_color_optical_frame"
    process.send_signal(number)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert "stopped:" in rest
    assert (tmp_path / "bag" / "metadata.yaml").exists()
    assert "Traceback" not in rest, rest

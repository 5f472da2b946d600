import time
from dataclasses import dataclass

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import LoggingSeverity
from std_srvs.srv import SetBool, Trigger

from hoi_ros.config import setting
from hoi_ros.errors import InputError
from hoi_ros.nodes.base_node import FrameNode
from hoi_ros.nodes.conversions import make_header
from hoi_ros.nodes.diagnostics import NodeDiagnostics
from hoi_ros.nodes.qos import RESULT
from hoi_ros.nodes.worker import LatestSlot

pytestmark = pytest.mark.ros


@dataclass(frozen=True)
class CounterConfig:
    """A node that counts."""

    step: int = setting(1, "how far it counts", low=1, high=10)
    scale_m: float = setting(0.5, "some length", low=0.0)
    mode: str = setting("up", "direction", choices=("up", "down"))


class CounterNode(FrameNode):
    node_name = "counter_node"
    config_classes = (CounterConfig,)

    def setup(self):
        super().setup()
        if self.setting(CounterConfig).mode == "down":
            raise InputError("counting down needs a ladder: use mode up")
        self.total, self.resets = 0, 0
        self.slot = LatestSlot()
        self.work_on(self.slot)

    def process(self, item):
        if item is None or item < 0:
            raise ZeroDivisionError("a negative frame")
        if item == 13:
            raise InputError("frame 13 is unreadable: skip it")
        self.total += item
        return self.get_clock().now().nanoseconds - 5_000_000

    def reset_core(self):
        self.total, self.resets = 0, self.resets + 1

    def feed(self, *items):
        for item in items:
            self.slot.put(item, wait=True)
        assert self.worker.wait_idle(30.0)


@pytest.fixture
def make_node(ros):
    nodes = []

    def make(parameters=None):
        nodes.append(CounterNode(parameters))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


def spin_until(executor, condition, timeout_s=60.0):
    """Spin until it holds; a loaded machine may need seconds for what takes milliseconds."""
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.05)
    assert condition()


def test_settings_become_described_parameters(make_node):
    node = make_node({"step": 3, "scale_m": 2})
    config = node.setting(CounterConfig)
    assert config == CounterConfig(step=3, scale_m=2.0)
    described = node.describe_parameter("step")
    assert described.description == "how far it counts"
    assert (described.integer_range[0].from_value, described.integer_range[0].to_value) == (1, 10)
    assert "up, down" in node.describe_parameter("mode").additional_constraints
    assert not node.set_parameters([type(node.get_parameter("step"))("step", value=11)])[0].successful


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"stepp": 1}, "did you mean 'step'"),
        ({"step": 11}, "range is 1 to 10"),
        ({"step": 1.5}, "give a whole number"),
        ({"scale_m": float("nan")}, "finite"),
        ({"mode": "sideways"}, "choose one of up, down"),
    ],
)
def test_bad_parameters_are_refused_by_name(ros, parameters, text):
    with pytest.raises(InputError, match=text):
        CounterNode(parameters)


def test_what_setup_refuses_reaches_autostart(make_node):
    node = make_node({"mode": "down"})
    with pytest.raises(InputError, match="ladder"):
        node.autostart()
    assert not node.active


def test_a_fault_while_configuring_comes_out_as_it_was_raised(make_node, monkeypatch):
    def break_down(self):
        raise ZeroDivisionError("no such thing")

    monkeypatch.setattr(CounterNode, "setup", break_down)
    node = make_node()
    with pytest.raises(ZeroDivisionError, match="no such thing"):
        node.autostart()
    assert node.diagnostics.state == "unconfigured"


@pytest.mark.parametrize("stopped", [False, True])
def test_a_stop_while_configuring_is_no_fault(make_node, monkeypatch, stopped, capfd):
    node = make_node()

    def setup():
        if stopped:
            monkeypatch.setattr(node.context, "ok", lambda: False)
        raise RuntimeError("context is invalid")

    monkeypatch.setattr(node, "setup", setup)
    with pytest.raises(RuntimeError, match="context is invalid"):
        node.autostart()
    node.get_logger().set_level(LoggingSeverity.INFO)
    assert ("configure failed" in capfd.readouterr().err) is not stopped


def test_a_crash_is_skipped_said_once_and_three_in_a_row_reset(make_node, monkeypatch):
    node, said = make_node(), []
    monkeypatch.setattr(node.diagnostics, "_log", lambda level, text: said.append((level, text)))
    node.autostart()
    node.feed(5, -1, 5, -1, -1)
    assert node.total == 10 and node.resets == 0 and node.diagnostics.crashes == 3
    node.feed(-1)
    assert node.resets == 1 and node.total == 0
    node.feed(13, 13, 4)
    assert node.total == 4 and node.diagnostics.bad_frames == 2
    crashes = [text for level, text in said if level == "error"]
    assert len(crashes) == 1 and "ZeroDivisionError" in crashes[0] and 'raise ZeroDivisionError("a neg' in crashes[0]
    assert sum("frame 13" in text for _, text in said) == 1


def test_services_and_diagnostics_over_the_wire(make_node, ros):
    node = make_node({"diagnostics_period_s": 0.05})
    node.autostart()
    reader = ros.create_node("reader")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(reader)
    reports = []
    reader.create_subscription(DiagnosticArray, "/diagnostics", lambda m: reports.append(m.status[0]), RESULT)
    try:
        pause = reader.create_client(SetBool, "counter_node/pause")
        reset = reader.create_client(Trigger, "counter_node/reset")
        assert pause.wait_for_service(30.0) and reset.wait_for_service(30.0)
        node.feed(7, -1)
        spin_until(executor, lambda: any(r.level == DiagnosticStatus.WARN for r in reports))
        status = [r for r in reports if r.level == DiagnosticStatus.WARN][-1]
        values = {v.key: v.value for v in status.values}
        assert status.name == "counter_node" and "a frame was skipped" in status.message
        assert values["frames"] == "1" and values["crashes"] == "1" and 5 <= float(values["latency_ms_p50"]) < 100
        future = pause.call_async(SetBool.Request(data=True))
        spin_until(executor, future.done)
        node.feed(1, 1)
        assert node.total == 7
        spin_until(executor, lambda: any("paused" in r.message for r in reports))
        future = pause.call_async(SetBool.Request(data=False))
        spin_until(executor, future.done)
        node.feed(2)
        assert node.total == 9
        future = reset.call_async(Trigger.Request())
        spin_until(executor, future.done)
        assert future.result().success and node.total == 0
    finally:
        reader.destroy_node()
        executor.shutdown()


def test_lifecycle_by_a_manager(make_node, ros):
    node = make_node({"autostart": False})
    node.autostart()
    assert not node.active
    client_node = ros.create_node("manager")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(client_node)
    client = client_node.create_client(ChangeState, "counter_node/change_state")
    assert client.wait_for_service(30.0)

    def change(transition):
        future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        spin_until(executor, future.done)
        return future.result().success

    try:
        for _ in range(2):
            assert change(Transition.TRANSITION_CONFIGURE) and change(Transition.TRANSITION_ACTIVATE)
            node.feed(3)
            assert node.active and node.total == 3
            assert change(Transition.TRANSITION_DEACTIVATE)
            node.slot.put(3)
            assert node.total == 3 and not node.active
            assert change(Transition.TRANSITION_ACTIVATE)
            node.feed(3)
            assert node.total == 6
            assert change(Transition.TRANSITION_DEACTIVATE) and change(Transition.TRANSITION_CLEANUP)
    finally:
        client_node.destroy_node()
        executor.shutdown()


def test_rate_and_percentiles():
    now = [100.0]
    diagnostics = NodeDiagnostics("n", clock=lambda: now[0])
    for i in range(31):
        now[0] = 100 + i / 10
        diagnostics.frame_done(process_ms=i, latency_ms=1e9 if i % 2 else 20)
    values = {v.key: v.value for v in diagnostics.report(make_header(0, "")).status[0].values}
    assert values["rate_hz"] == "10.0" and values["process_ms_p50"] == f"{np.median(range(31)):.1f}"
    assert values["latency_ms_p95"] == "20.0"
    now[0] += 60
    assert {v.key: v.value for v in diagnostics.report(make_header(0, "")).status[0].values}["rate_hz"] == "0.0"


def test_a_trouble_warns_while_it_lasts_and_is_said_again_after_it_was_over():
    now, said = [0.0], []
    diagnostics = NodeDiagnostics("n", lambda level, text: said.append(text), clock=lambda: now[0])
    diagnostics.say("depth", "no depth")
    diagnostics.say("depth", "no depth")
    assert said == ["no depth"]
    assert diagnostics.report(make_header(0, "")).status[0].level == DiagnosticStatus.WARN
    now[0] = 10
    assert diagnostics.report(make_header(0, "")).status[0].level == DiagnosticStatus.OK
    diagnostics.over("depth")
    diagnostics.say("depth", "no depth")
    assert len(said) == 2

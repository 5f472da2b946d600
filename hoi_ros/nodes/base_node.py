"""What every node shares: life cycle, parameters, diagnostics, services, and a worker that no frame can kill."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.exceptions import NotInitializedException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.logging import LoggingSeverity
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from std_srvs.srv import SetBool, Trigger

from hoi_ros.errors import InputError
from hoi_ros.nodes.conversions import make_header
from hoi_ros.nodes.dds_profile import use_shared_memory_profile
from hoi_ros.nodes.diagnostics import NodeDiagnostics, kind_of
from hoi_ros.nodes.frame_bus import FrameBus
from hoi_ros.nodes.heap import bound_heap
from hoi_ros.nodes.node_configs import NodeConfig
from hoi_ros.nodes.parameters import configs_from_node, declare_settings
from hoi_ros.nodes.priority import lower_process, share_interpreter
from hoi_ros.nodes.qos import RESULT
from hoi_ros.nodes.threads import share_cores
from hoi_ros.nodes.worker import LatestSlot, Worker

Config = TypeVar("Config")
CRASHES_BEFORE_RESET = 3
WAITING_AFTER_S = 2.0


class HoiNode(LifecycleNode):
    """A lifecycle node whose parameters are settings; subclasses fill setup, start, stop and release."""

    node_name = ""
    config_classes: tuple[type, ...] = ()
    niceness = 0
    """How far it stands back for others when processors are short."""

    def __init__(
        self, parameters: Mapping[str, Any] | None = None, bus: FrameBus | None = None, context: Any = None
    ) -> None:
        """Declare parameters; nothing runs before `autostart` or a lifecycle manager says so.

        Args:
            parameters: overrides by name, beside those of files and command line.
            bus: records of the same process; None means topics.
            context: rclpy context; None is the default one.

        Raises:
            InputError: an unknown or unusable parameter.
        """
        overrides = [Parameter(name, value=value) for name, value in (parameters or {}).items()]
        super().__init__(self.node_name, parameter_overrides=overrides, context=context)
        self.bus = bus
        self.active = False
        self._configured = False
        self._setup_error: Exception | None = None
        self._made: list[Any] = []
        self._classes = tuple(dict.fromkeys((NodeConfig, *self.config_classes)))
        self.diagnostics = NodeDiagnostics(self.get_fully_qualified_name().lstrip("/"), self._write_log)
        try:
            declare_settings(self, self._classes)
            self.settings: dict[type, Any] = configs_from_node(self, self._classes)
        except InputError:
            self.destroy_node()
            raise
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", RESULT)
        period = self.setting(NodeConfig).diagnostics_period_s
        self._diagnostics_timer = self.create_timer(period, self._publish_diagnostics)

    def setting(self, config_class: type[Config]) -> Config:
        """The node's config of one class, as of the last configure."""
        return self.settings[config_class]

    def setup(self) -> None:
        """Create core, publishers and subscriptions (configure). InputError leaves the node unconfigured."""

    def start(self) -> None:
        """Begin to work (activate)."""

    def stop(self) -> None:
        """Cease to work; what was set up stays (deactivate)."""

    def release(self) -> None:
        """Give back what `setup` took (cleanup)."""

    def make_publisher(self, message_type: type, topic: str, qos: QoSProfile) -> Any:
        """Create a publisher that cleanup destroys."""
        publisher: Any = self.create_publisher(message_type, topic, qos)
        self._made.append(publisher)
        return publisher

    def refresh_state(self) -> None:
        """Bring `diagnostics.state` up to date; called before each report."""

    def autostart(self) -> None:
        """Configure and activate, unless parameter `autostart` is false.

        Raises:
            InputError: what `setup` refused.
            Exception: what went wrong in it otherwise, as it was raised.
        """
        if not self.setting(NodeConfig).autostart:
            self.diagnostics.state = "unconfigured"
            return
        self.trigger_configure()
        if self._setup_error is not None:
            raise self._setup_error
        if not self._configured:
            raise RuntimeError(f"{self.get_name()} could not be configured; its log says why")
        self.trigger_activate()

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        self._setup_error = None
        try:
            self.settings = configs_from_node(self, self._classes)
            self.setup()
        except InputError as error:
            self._setup_error = error
        except ImportError as error:
            self._setup_error = InputError(str(error))
        except Exception as error:  # rclpy drops what leaves a transition; `autostart` raises it again
            self._setup_error = error
            if not self.context.ok():  # stopped meanwhile: what was being created lost its context, and so has the log
                self.get_logger().set_level(LoggingSeverity.FATAL)
            self.get_logger().error(traceback.format_exc())
        if self._setup_error is not None:
            self.get_logger().error(f"configure failed: {self._setup_error}")
            self.diagnostics.state = "unconfigured"
            self._give_back()
            return TransitionCallbackReturn.FAILURE
        self._configured = True
        self.diagnostics.state = "inactive"
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        self.active = True
        self.diagnostics.state = "active"
        self.start()
        return super().on_activate(state)

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        self._halt()
        self.diagnostics.state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: Any) -> TransitionCallbackReturn:
        self._tear_down()
        self.diagnostics.state = "unconfigured"
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: Any) -> TransitionCallbackReturn:
        self._tear_down()
        self.diagnostics.state = "shut down"
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Stop and destroy the node; works after the context was shut down, and twice."""
        self._tear_down()
        if self.executor is not None:
            self.executor.remove_node(self)
        self.destroy_node()

    def _halt(self) -> None:
        if self.active:
            self.active = False
            self.stop()

    def _tear_down(self) -> None:
        self._halt()
        if self._configured:
            self._configured = False
            self._give_back()

    def _give_back(self) -> None:
        self.release()
        for publisher in self._made:
            self.destroy_publisher(publisher)
        self._made = []

    def _publish_diagnostics(self) -> None:
        if self.active:
            self.refresh_state()
        stamp = self.get_clock().now().nanoseconds
        self._diagnostics_publisher.publish(self.diagnostics.report(make_header(stamp, "")))

    def _write_log(self, level: str, text: str) -> None:
        # rclpy allows one severity per call site, so each has a line of its own.
        logger = self.get_logger()
        if level == "error":
            logger.error(text)
        elif level == "info":
            logger.info(text)
        else:
            logger.warning(text)


class FrameNode(HoiNode):
    """A node that works on frames in its worker thread: reset and pause services, troubles said once, recovery."""

    waits_for = "color/image_raw"
    """What it says it waits for while nothing comes."""

    def setup(self) -> None:
        self.paused = False
        self._crashes_in_a_row = 0
        self.core_lock = threading.RLock()
        """Held while the core works: services wait for the frame to end."""
        self.worker: Worker | None = None
        self._own_services = [
            self.create_service(Trigger, "~/reset", self._on_reset),
            self.create_service(SetBool, "~/pause", self._on_pause),
        ]

    def work_on(self, slot: LatestSlot) -> None:
        """Take frames from this slot once active."""
        # In a process of its own the whole process stands back, see `run_node`.
        niceness = 0 if self.bus is None else self.niceness
        self.worker = Worker(self.node_name, slot, self._work, self._on_crash, niceness)
        self.diagnostics.count("dropped", lambda: slot.dropped)

    def process(self, item: Any) -> int | None:
        """Work on one item, publish, and return its stamp in nanoseconds (None: there was nothing to do)."""
        raise NotImplementedError

    def reset_core(self) -> None:
        """Forget what was seen."""

    def frame_state(self) -> str:
        """State to show while frames come."""
        return "running"

    def start(self) -> None:
        if self.worker is not None:
            self.worker.start()

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.stop()

    def release(self) -> None:
        for service in getattr(self, "_own_services", ()):
            self.destroy_service(service)
        self._own_services = []
        worker = getattr(self, "worker", None)
        if self.bus is not None and worker is not None:
            for channel in self.bus.channels:
                channel.unsubscribe(worker.slot)

    def refresh_state(self) -> None:
        if self.paused:
            self.diagnostics.state = "paused"
        elif self.diagnostics.seconds_since_frame() > WAITING_AFTER_S:
            self.diagnostics.state = f"waiting for {self.waits_for}"
            self.diagnostics.say("waiting", f"no frames: waiting for {self.waits_for}", "info")
        else:
            self.diagnostics.over("waiting")
            self.diagnostics.state = self.frame_state()

    def _work(self, item: Any) -> None:
        if not self.active or self.paused:
            return
        begin = time.perf_counter()
        with self.core_lock:
            stamp_ns = self.process(item)
        self._crashes_in_a_row = 0
        if stamp_ns is not None:
            latency_ns = self.get_clock().now().nanoseconds - stamp_ns
            self.diagnostics.frame_done((time.perf_counter() - begin) * 1e3, latency_ns * 1e-6)

    def _on_crash(self, error: Exception) -> None:
        if not self.context.ok():
            return
        if isinstance(error, InputError):
            self.diagnostics.bad_frames += 1
            self.diagnostics.say(kind_of(error), str(error))
            return
        self.diagnostics.crashes += 1
        trace = "".join(traceback.format_exception(error))
        self.diagnostics.say(f"crash, {kind_of(error)}", f"a frame was skipped: {error}\n{trace}", "error")
        self._crashes_in_a_row += 1
        if self._crashes_in_a_row >= CRASHES_BEFORE_RESET:
            self._crashes_in_a_row = 0
            self.diagnostics.say("reset", f"{CRASHES_BEFORE_RESET} frames in a row failed: starting anew")
            with self.core_lock:
                self.reset_core()

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self.core_lock:
            self.reset_core()
        response.success, response.message = True, "reset"
        return response

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.paused = request.data
        response.success, response.message = True, "paused" if request.data else "running"
        return response


def run_node(make_node: Callable[[], HoiNode], args: list[str] | None = None) -> int:
    """Run one node until Ctrl-C, SIGTERM or a shutdown.

    Args:
        make_node: its class, or a function that makes it.
        args: command line; None is the process's.

    Returns:
        Exit code: 0, or 2 after one line on stderr when the input was bad.
    """
    lower_process(getattr(make_node, "niceness", 0))
    share_interpreter()
    bound_heap()
    share_cores()
    use_shared_memory_profile()
    rclpy.init(args=args)
    node = None
    try:
        node = make_node()
        node.autostart()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (RuntimeError, NotInitializedException):
        # Stopped while configuring: what was being created had lost its context.
        if rclpy.ok():
            raise
    finally:
        with _unbroken():
            if node is not None:
                node.close()
            rclpy.try_shutdown()
    return 0


@contextlib.contextmanager
def _unbroken() -> Iterator[None]:
    """Ignore signals: a second one (launch sends its own after the terminal's) must not break closing off."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

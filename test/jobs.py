"""Work beside the frames that is done at a known moment, whatever the machine's speed."""

import threading
from concurrent.futures import Executor, Future


class LateJob(Future):
    """Done only when somebody waits for it."""

    def __init__(self, work):
        super().__init__()
        self.work = work

    def result(self, timeout=None):
        if not self.done():
            self.set_result(self.work())
        return super().result(timeout)


class LateExecutor(Executor):
    """As slow as can be."""

    def submit(self, work, *args):
        return LateJob(lambda: work(*args))


class PromptExecutor(LateExecutor):
    """As fast as can be."""

    def submit(self, work, *args):
        job = super().submit(work, *args)
        job.result()
        return job


def held_back(work, go):
    """The same work, done once the event `go` is set; who waits for it before sees it fail. Its `begun` is an event."""

    def held(*args):
        held.begun.set()
        assert go.wait(20.0), "waited for"
        return work(*args)

    held.begun = threading.Event()
    return held

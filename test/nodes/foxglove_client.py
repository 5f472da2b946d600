"""A Foxglove client as small as a test needs: what the app does on connecting, and raw messages."""

from __future__ import annotations

import contextlib
import json
import struct
import time

from websockets.sync.client import connect


class FoxgloveClient:
    def __init__(self, port: int) -> None:
        self._stack = contextlib.ExitStack()
        self.socket = self._stack.enter_context(
            connect(f"ws://127.0.0.1:{port}", subprotocols=["foxglove.sdk.v1"], max_size=None, close_timeout=1)
        )
        self.channels: dict[str, dict] = {}
        self._topics: dict[int, str] = {}

    def wait_for_channels(self, names, timeout_s: float = 5.0) -> None:
        end = time.monotonic() + timeout_s
        while not set(names) <= set(self.channels):
            self._take(self.socket.recv(timeout=max(0.01, end - time.monotonic())))

    def subscribe(self, *topics: str) -> None:
        self.wait_for_channels(topics)
        wanted = []
        for topic in topics:
            number = len(self._topics) + 1
            self._topics[number] = topic
            wanted.append({"id": number, "channelId": self.channels[topic]["id"]})
        self.socket.send(json.dumps({"op": "subscribe", "subscriptions": wanted}))

    def receive(self, topics, timeout_s: float = 10.0) -> dict[str, bytes]:
        """First message of each topic."""
        got: dict[str, bytes] = {}
        end = time.monotonic() + timeout_s
        while not set(topics) <= set(got):
            try:
                message = self._take(self.socket.recv(timeout=max(0.01, end - time.monotonic())))
            except TimeoutError:
                raise AssertionError(f"no message on {set(topics) - set(got)}") from None
            if message is not None:
                got.setdefault(*message)
        return got

    def close(self) -> None:
        self._stack.close()

    def _take(self, data):
        if isinstance(data, str):
            for channel in json.loads(data).get("channels", ()):
                self.channels[channel["topic"]] = channel
            return None
        if data[0] != 1:
            return None
        (number,) = struct.unpack_from("<I", data, 1)
        return self._topics[number], data[13:]

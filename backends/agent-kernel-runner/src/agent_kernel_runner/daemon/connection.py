"""The connection to the agent: made again for ever, whoever is at the other end."""

from __future__ import annotations

# The C module itself: socket, with the enums that it makes, would cost a third of the start.
import _socket
import os

from agent_kernel_runner.daemon.channel import Channel
from agent_kernel_runner.daemon.framing import encode
from agent_kernel_runner.daemon.journal import note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from socket import socket
    from typing import Any, cast

    from agent_kernel_runner.daemon.loop import Loop, Timer
    from agent_kernel_runner.daemon.outbox import Outbox
    from agent_kernel_runner.daemon.settings import Settings

PROTOCOL = 1
"""The version of the messages that this daemon speaks."""

FIRST_BACKOFF = 0.05
LAST_BACKOFF = 1.0
HELLO_DEADLINE = 10.0
"""Seconds within which whoever accepts must say hello."""

PATIENCE = 5.0
"""Seconds that an agent may be away before the kernel's log says so."""

_SOCKET_NAME = "runner.sock"
_WRITE_AHEAD = 1 << 18
_ABOUT = ("run_id", "seq", "mode", "stream", "status", "exit_code", "name", "state", "bytes")
_LONGEST_SUMMARY = 300


class Connection:
    """Sends the outbox to the agent and hands the agent's messages on.

    Args:
        loop: The event loop.
        outbox: What to send.
        settings: Whose runner this is, and where the agent's socket lies.
        runs: Returns the ids of the runs whose end the agent has not acknowledged.
    """

    def __init__(
        self, loop: Loop, outbox: Outbox, settings: Settings, runs: Callable[[], list[str]]
    ) -> None:
        self.on_message: Callable[[dict[str, Any]], None] = lambda message: None
        self._loop = loop
        self._outbox = outbox
        self._settings = settings
        self._runs = runs
        self._stream = os.urandom(8).hex()
        self._channel: Channel | None = None
        self._deadline: Timer | None = None
        self._absence: Timer | None = None
        self._backoff = FIRST_BACKOFF
        outbox.on_added = self._pump

    def open(self) -> None:
        """Connect and say hello; on failure try again later, for ever."""
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            # A full backlog is an error here, and waiting for it would stop everything else.
            sock.setblocking(False)
            sock.connect(f"{self._settings.run_dir}/{_SOCKET_NAME}")
        except OSError:
            sock.close()
            self._retry()
            return
        if TYPE_CHECKING:
            sock = cast("socket", sock)
        self._channel = Channel(self._loop, sock, self._received, self._lost)
        self._channel.on_drained = self._pump
        self._deadline = self._loop.call_later(HELLO_DEADLINE, self._unanswered)
        self._channel.send(encode(self._hello()))

    def _hello(self) -> dict[str, Any]:
        return {
            "type": "hello",
            "protocol": PROTOCOL,
            "kernel_id": self._settings.kernel_id,
            "incarnation": self._settings.incarnation,
            "pid": os.getpid(),
            "runs": self._runs(),
            "stream": self._stream,
        }

    def close(self) -> None:
        """Hang up for good."""
        if self._channel is not None:
            self._channel.close()

    def _retry(self) -> None:
        self._loop.call_later(self._backoff, self.open)
        self._backoff = min(2 * self._backoff, LAST_BACKOFF)

    def _lost(self, reason: str) -> None:
        if self._absence is None:
            self._absence = self._loop.call_later(PATIENCE, lambda: self._missed(reason))
        self._ended()

    def _missed(self, reason: str) -> None:
        """Say that the agent stays away; at each end of a kernel, and restart, it goes for good."""
        self._absence = None
        note(f"the connection to the agent was lost: {reason}")

    def _drop(self, reason: str) -> None:
        note(f"the connection to the agent was dropped: {reason}")
        if self._channel is not None:
            self._channel.close()
        self._ended()

    def _unanswered(self) -> None:
        self._drop(f"no hello within {HELLO_DEADLINE:g} s")

    def _ended(self) -> None:
        self._channel = None
        if self._deadline is not None:
            self._deadline.cancel()
        self._outbox.disconnect()
        self._retry()

    def _received(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if self._settings.debug:
            note(f"heard {_summary(message)}")
        if kind == "hello":
            self._greeted(message)
        elif not self._outbox.connected:
            self._drop(f"the agent said {kind} before hello")
        elif kind == "ack":
            self._outbox.ack(_count(message.get("seq")))
        elif kind == "credit":
            self._outbox.give(_count(message.get("bytes")))
            self._pump()
        else:
            self.on_message(message)

    def _greeted(self, hello: dict[str, Any]) -> None:
        if hello.get("protocol") != PROTOCOL:
            self._drop(f"the agent speaks protocol {hello.get('protocol')!r}, this is {PROTOCOL}")
            return
        if self._deadline is not None:
            self._deadline.cancel()
        if self._absence is not None:
            self._absence.cancel()
            self._absence = None
        self._backoff = FIRST_BACKOFF
        self._outbox.connect(_count(hello.get("acked")))
        self._pump()

    def _pump(self) -> None:
        channel = self._channel
        while channel is not None and channel.pending < _WRITE_AHEAD:
            frame = self._outbox.next_frame()
            if frame is None:
                return
            if self._settings.debug:
                note(f"said {_summary(self._outbox.said())} of {len(frame)} bytes")
            channel.send(frame)
            channel = self._channel


def _summary(message: Mapping[str, Any]) -> str:
    """Name a message and whom it is about, but nothing of what the user wrote."""
    about = [f"{key}={message[key]!r}" for key in _ABOUT if key in message]
    return " ".join([str(message["type"]), *about])[:_LONGEST_SUMMARY]


def _count(value: object) -> int:
    """Read a number of the agent's; what is none counts as zero."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0

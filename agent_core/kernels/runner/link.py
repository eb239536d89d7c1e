"""One kernel's link to its runner: a unix socket that the runner connects to, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from agent_core.contracts.errors import InvalidConfig, MalformedFrame, RunnerUnavailable
from agent_core.contracts.runner import SOCKET_NAME
from agent_core.contracts.versions import RUNNER_PROTOCOL
from agent_core.kernels.runner.messages import (
    Hello,
    Report,
    encode,
    read_frame,
    read_hello,
    read_report,
)

WINDOW: Final = 1 << 20
"""Bytes of output that a runner may have on the way: the most that one kernel's output costs."""

_HELLO_DEADLINE: Final = 5.0
_SOCKET_PATH_BOUND: Final = 107
_ACK_EVERY: Final = 32
_WRITE_BOUND: Final = 4 << 20


class RunnerLink:
    """The agent's end of the protocol of `agent_core.contracts.runner`, for one incarnation.

    Args:
        kernel_id: The kernel.
        incarnation: Its incarnation; a runner of another one is turned away.
        run_dir: The directory to listen in; it exists.
        deliver: Called with each report, in order, exactly once.
        greeted: Called with each runner's hello, once messages can be sent to it.
    """

    def __init__(
        self,
        kernel_id: str,
        incarnation: int,
        run_dir: Path,
        deliver: Callable[[Report], None],
        greeted: Callable[[Hello], None],
    ) -> None:
        self._greeted = greeted
        self.kernel_id = kernel_id
        self.incarnation = incarnation
        self._path = run_dir / SOCKET_NAME
        self._deliver = deliver
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._received = 0
        self._acked = 0
        self._credit_used = 0
        self._credit_owed = 0
        self._up = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        """Whether a runner is connected now."""
        return self._up.is_set()

    async def open(self) -> None:
        """Listen for the runner; a socket left by an earlier agent is replaced.

        Raises:
            InvalidConfig: when the path is longer than a socket's path can be.
        """
        if len(os.fsencode(self._path)) > _SOCKET_PATH_BOUND:
            raise InvalidConfig(
                f"the socket path {self._path} is longer than {_SOCKET_PATH_BOUND} bytes",
                hint="Set [agent] ipc-base-path to a shorter directory.",
            )
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=1 << 16)

    async def close(self) -> None:
        """Stop listening and drop the connection; the runner goes on and tries again."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._drop()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def wait_connected(self, timeout: float) -> None:
        """Wait until a runner is connected.

        Raises:
            RunnerUnavailable: when none is within `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._up.wait()
        except TimeoutError as exc:
            raise RunnerUnavailable(
                f"the runner of kernel {self.kernel_id} did not connect within {timeout:g} s"
            ) from exc

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message to the runner.

        Raises:
            RunnerUnavailable: when none is connected, or it does not read.
        """
        if self._writer is None:
            raise RunnerUnavailable(f"the runner of kernel {self.kernel_id} is not connected")
        if self._writer.transport.get_write_buffer_size() > _WRITE_BOUND:
            self._drop()
            raise RunnerUnavailable(f"the runner of kernel {self.kernel_id} does not read")
        self._writer.write(encode(message))

    def consumed(self, cost: int) -> None:
        """Say that output of this cost has been taken, so that as much more may come."""
        self._credit_used -= cost
        self._credit_owed += cost
        if self._credit_owed >= WINDOW // 4 and self._writer is not None:
            self.send({"type": "credit", "bytes": self._credit_owed})
            self._credit_owed = 0

    # ---- one connection ----

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(self._converse(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._greet(reader, writer)
            while True:
                self._take(await read_frame(reader))
        except (MalformedFrame, RunnerUnavailable, OSError, EOFError):
            pass  # hostile or gone: the connection ends, and an honest runner comes again
        finally:
            if self._writer is writer:
                self._drop()
            # A peer that does not read would keep a connection that is closed politely for ever.
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_HELLO_DEADLINE):
            hello = read_hello(await read_frame(reader))
        expected = (self.kernel_id, self.incarnation)
        if (hello.kernel_id, hello.incarnation) != expected or self._writer is not None:
            raise MalformedFrame("a runner of another kernel, or a second one")
        self._writer = writer
        self._credit_owed = 0
        self.send({"type": "hello", "protocol": RUNNER_PROTOCOL, "acked": self._received})
        self.send({"type": "credit", "bytes": max(0, WINDOW - self._credit_used)})
        self._greeted(hello)
        self._up.set()

    def _take(self, message: Mapping[str, Any]) -> None:
        report = read_report(message)
        if report is None:
            return
        if report.seq <= self._received:
            return  # sent again after a lost acknowledgement
        if report.seq != self._received + 1 and self._received:
            raise MalformedFrame(f"number {report.seq} after {self._received}")
        self._credit_used += report.cost
        if self._credit_used > 2 * WINDOW:
            raise MalformedFrame("the runner sends more than its credit")
        self._received = report.seq
        self._deliver(report)
        self._acknowledge(now=report.status is not None)

    def _acknowledge(self, *, now: bool) -> None:
        if now or self._received - self._acked >= _ACK_EVERY:
            self._acked = self._received
            self.send({"type": "ack", "seq": self._acked})

    def _drop(self) -> None:
        self._up.clear()
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None

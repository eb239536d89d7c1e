"""One kernel's link to its runner: a unix socket that the runner connects to, again and again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from agent_core import clock
from agent_core.contracts.errors import MalformedFrame, RunnerUnavailable
from agent_core.contracts.runner import SOCKET_NAME
from agent_core.contracts.versions import RUNNER_PROTOCOL
from agent_core.kernels.runner.allowance import Allowance
from agent_core.kernels.runner.door import Door
from agent_core.kernels.runner.messages import (
    Hello,
    Report,
    encode,
    read_frame,
    read_hello,
    read_report,
)

log = structlog.get_logger(__name__)

WINDOW: Final = 1 << 20
"""Bytes of output that a runner may have on the way: the most that one kernel's output costs."""

HELD: Final = 4 * WINDOW
"""Bytes that reports may take in memory until their callers read them; then no more is read."""

_HELLO_DEADLINE: Final = 5.0
_ACK_EVERY: Final = 32
_WRITE_BOUND: Final = 4 << 20
_TURN_FRAMES: Final = 8
_TURN_BYTES: Final = 64 << 10


class RunnerLink:
    """The agent's end of the protocol of `agent_core.contracts.runner`, for one incarnation.

    Args:
        kernel_id: The kernel.
        incarnation: Its incarnation; a runner of another one is turned away.
        run_dir: The directory to listen in; it exists.
        deliver: Called with each report, in order, exactly once.
        greeted: Called with each runner's hello, once messages can be sent to it.

    Attributes:
        offences: How often a peer broke the protocol; each time it lost its connection.
        offence: What the last one was.
    """

    def __init__(
        self,
        kernel_id: str,
        incarnation: int,
        run_dir: Path,
        deliver: Callable[[Report], None],
        greeted: Callable[[Hello], None],
    ) -> None:
        self.kernel_id = kernel_id
        self.incarnation = incarnation
        self.offences = 0
        self.offence = ""
        self._greeted = greeted
        self._deliver = deliver
        self._door = Door(run_dir / SOCKET_NAME, self._converse)
        self._writer: asyncio.StreamWriter | None = None
        self._received = 0
        self._acked = 0
        self._credit_used = 0
        self._credit_owed = 0
        self._held = 0
        self._room = asyncio.Event()
        self._room.set()
        self._up = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether a runner is connected now."""
        return self._up.is_set()

    async def open(self) -> None:
        """Listen for the runner; a socket left by an earlier agent is replaced.

        Raises:
            InvalidConfig: when the path is longer than a socket's path can be.
            OSError: when something else is in the way.
        """
        self._door.open()

    async def close(self) -> None:
        """Stop listening and drop the connection; the runner goes on and tries again."""
        self._drop()
        await self._door.close()

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
        if self._writer is None or self._writer.transport.is_closing():
            raise RunnerUnavailable(f"the runner of kernel {self.kernel_id} is not connected")
        if self._writer.transport.get_write_buffer_size() > _WRITE_BOUND:
            self._drop()
            raise RunnerUnavailable(f"the runner of kernel {self.kernel_id} does not read")
        self._writer.write(encode(message))

    def consumed(self, report: Report) -> None:
        """Say that a delivered report has been taken, so that as much more may come."""
        self._held -= report.weight
        if self._held <= HELD:
            self._room.set()
        self._credit_used -= report.cost
        self._credit_owed += report.cost
        if self._credit_owed >= WINDOW // 4:
            # A runner that is away, or does not read, is told anew when it comes again.
            with contextlib.suppress(RunnerUnavailable):
                self.send({"type": "credit", "bytes": self._credit_owed})
                self._credit_owed = 0

    # ---- one connection ----

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._greet(reader, writer)
            await self._listen(reader)
        except MalformedFrame as exc:
            self._offended(exc.message)
        except (RunnerUnavailable, OSError, EOFError):
            pass  # gone, or not reading: an honest runner comes again
        except Exception:  # whatever a peer says must not cost more than its connection
            log.exception("a runner's message was mishandled", kernel_id=self.kernel_id)
            self._offended("a message that the agent mishandled")
        finally:
            if self._writer is writer:
                self._drop()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HELLO_DEADLINE):
                hello = read_hello((await read_frame(reader))[0])
        except TimeoutError as exc:
            raise MalformedFrame(f"no hello within {_HELLO_DEADLINE:g} s") from exc
        expected = (self.kernel_id, self.incarnation)
        if (hello.kernel_id, hello.incarnation) != expected:
            raise MalformedFrame("a runner of another kernel or incarnation")
        if self._writer is not None:
            raise MalformedFrame("a second runner, while the first is connected")
        self._writer = writer
        self._credit_owed = 0
        self.send({"type": "hello", "protocol": RUNNER_PROTOCOL, "acked": self._received})
        self.send({"type": "credit", "bytes": max(0, WINDOW - self._credit_used)})
        self._greeted(hello)
        self._up.set()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Take what comes: in short turns, and only as far as callers read."""
        allowance, turn = Allowance(clock.monotonic()), 0
        while True:
            await self._room.wait()
            message, size = await read_frame(reader)
            pause = allowance.pause(size, self._take(message), clock.monotonic())
            # What is in the reader's buffer is read without waiting, and others wait meanwhile.
            turn += max(size, _TURN_BYTES // _TURN_FRAMES)
            if pause or turn >= _TURN_BYTES:
                turn = 0
                await asyncio.sleep(pause)

    def _take(self, message: Mapping[str, Any]) -> int:
        """Take one message; returns the credit that it used."""
        report = read_report(message)
        if report is None or report.seq <= self._received:
            return 0  # of a later protocol, or sent again after a lost acknowledgement
        if report.seq != self._received + 1 and self._received:
            raise MalformedFrame(f"number {report.seq} after {self._received}")
        self._credit_used += report.cost
        self._held += report.weight
        self._received = report.seq
        if self._held > HELD:
            self._room.clear()
        self._deliver(report)
        if self._credit_used > 2 * WINDOW:
            raise MalformedFrame("the runner sends more than its credit")
        self._acknowledge(now=report.status is not None)
        return report.cost

    def _acknowledge(self, *, now: bool) -> None:
        if now or self._received - self._acked >= _ACK_EVERY:
            self._acked = self._received
            self.send({"type": "ack", "seq": self._acked})

    def _offended(self, what: str) -> None:
        """Count it, and log the first, the tenth, the hundredth: no code can fill the log."""
        self.offences += 1
        self.offence = what
        if str(self.offences).strip("0") == "1":
            log.warning(
                "a runner broke the protocol, and lost its connection",
                kernel_id=self.kernel_id,
                what=what,
                times=self.offences,
            )

    def _drop(self) -> None:
        self._up.clear()
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None

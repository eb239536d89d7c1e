"""One connection: TLS on the caller's side, plain bytes on the kernel's.

asyncio's own TLS ends both directions when one side says that it has sent all; protocols that
answer only then would lose their answer. So TLS is done here, over plain transports.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast

HANDSHAKE: Final = 10.0
"""Seconds that a caller has to shake hands."""

CONNECT: Final = 5.0
"""Seconds that the kernel's port has to accept."""

CHUNK: Final = 256 << 10
"""Bytes that are read at once; with what a transport keeps, twice this waits at the most."""

_LEAST: Final = 16 << 10  # a record of TLS holds no more
_LINGER: Final = 10.0

Address = tuple[str, int]


class Buffers:
    """Where bytes lie while they are passed on: the loop does that for one connection at a time.

    So all connections share them, and one more costs little.
    """

    def __init__(self) -> None:
        self.received = memoryview(bytearray(CHUNK))
        self.plain = memoryview(bytearray(CHUNK))


class Relay:
    """Passes on what both ends say, until both have said all, one is lost, or nothing is said.

    Args:
        context: The certificate, and what goes with it.
        target: The kernel's port.
        buffers: What is read lies there until it has been passed on, which is at once.
        idle: Seconds without a byte after which the connection is ended; None for no limit.
        ended: Called once, at the end.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        target: Address,
        buffers: Buffers,
        idle: float | None,
        ended: Callable[[Relay], None],
    ) -> None:
        self.buffers = buffers
        self._target = target
        self._idle = idle
        self._ended: Callable[[Relay], None] | None = ended
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._loop = asyncio.get_running_loop()
        self._caller: asyncio.Transport | None = None
        self._kernel: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._shaken = self._caller_left = False
        self._caller_done = self._kernel_done = False
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(HANDSHAKE, self.abort)

    def abort(self) -> None:
        """Drop both ends at once."""
        self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        for transport in (self._caller, self._kernel):
            if transport is not None:
                transport.abort()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(self)

    # ---- the caller's side ----

    def met(self, transport: asyncio.Transport) -> None:
        """Take the caller's connection."""
        self._caller = transport
        transport.set_write_buffer_limits(high=CHUNK)
        # A caller whose node is gone says nothing, for ever.
        if (sock := transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def received(self, data: memoryview) -> None:
        """Take what the caller has sent, which is TLS or should be."""
        self._incoming.write(data)
        self._advance()

    def caller_left(self) -> None:
        """See the caller's side closed without a word of TLS, as many callers do.

        TLS itself is not told: it would take that for an attack, and let nobody answer any more.
        """
        self._caller_left = True
        self._advance()

    def _advance(self) -> None:
        try:
            if not self._shaken:
                self._shake_hands()
            if self._shaken and self._kernel is not None:
                self._pass_on(self._kernel)
        except ssl.SSLWantReadError:
            self._flush()
            if self._caller_left:
                self._close()
        except ssl.SSLError:
            self._flush()  # an alert says why
            self._close()

    def _shake_hands(self) -> None:
        self._tls.do_handshake()
        self._shaken = True
        self._flush()
        if self._caller is not None:
            self._caller.pause_reading()
        self._timer.cancel()
        self._connecting = self._loop.create_task(self._connect())

    def _pass_on(self, kernel: asyncio.Transport) -> None:
        """Decrypt what has come; a caller that has said all can still be answered."""
        view, size, had_ended = self.buffers.plain, 0, self._caller_done
        try:
            while not self._caller_done:
                if len(view) - size < _LEAST:
                    kernel.write(bytes(view[:size]))
                    size = 0
                # With a buffer it returns how much it has read.
                got = cast("int", self._tls.read(CHUNK, view[size:]))
                self._caller_done = got == 0
                size += got
        except ssl.SSLWantReadError:
            self._caller_done = self._caller_left
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._caller_done = True
        finally:
            if size:
                kernel.write(bytes(view[:size]))
        self._flush()
        if self._caller_done and not had_ended and not kernel.is_closing():
            kernel.write_eof()
            self._finish_if_done()

    def _flush(self) -> None:
        """Send the caller what TLS has made of it."""
        if self._outgoing.pending and self._caller is not None and not self._caller.is_closing():
            self._caller.write(self._outgoing.read())

    # ---- the kernel's side ----

    async def _connect(self) -> None:
        host, port = self._target
        try:
            async with asyncio.timeout(CONNECT):
                await self._loop.create_connection(lambda: _KernelSide(self), host, port)
        except (OSError, TimeoutError):
            self._say_goodbye()
            self._close()

    def reached(self, transport: asyncio.Transport) -> None:
        """Take the connection to the kernel, and let both sides talk."""
        self._kernel, self._connecting = transport, None
        transport.set_write_buffer_limits(high=CHUNK)
        self._heard = self._loop.time()
        self._watch()
        if self._caller is not None and not self._caller.is_closing():
            self._caller.resume_reading()
        self._advance()

    def answered(self, data: memoryview) -> None:
        """Take what the kernel has sent, and encrypt it."""
        try:
            self._tls.write(data)
        except ssl.SSLError:
            self.abort()
            return
        self._flush()

    def kernel_left(self) -> None:
        """See that the kernel has said all; the caller may go on."""
        self._kernel_done = True
        self._say_goodbye()
        self._finish_if_done()

    def _say_goodbye(self) -> None:
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()

    # ---- the end, and how long nothing may happen ----

    def _finish_if_done(self) -> None:
        if self._caller_done and self._kernel_done:
            self._close()

    def _close(self) -> None:
        """Let both ends go once they have taken what was said."""
        for transport in (self._caller, self._kernel):
            if transport is not None:
                transport.close()
        self._timer.cancel()
        # An end that takes nothing any more would stay for ever.
        self._timer = self._loop.call_later(_LINGER, self.abort)

    def lost(self, *, by_caller: bool) -> None:
        """See one end gone: the other gets what was said, and goes too."""
        if by_caller:
            self._caller = None
            if self._connecting is not None:
                self._connecting.cancel()
        else:
            self._kernel = None
            if not self._kernel_done:
                self._say_goodbye()
        if self._caller is None and self._kernel is None:
            self.abort()
        else:
            self._close()

    def heard(self) -> None:
        """Remember that something was said just now."""
        self._heard = self._loop.time()

    def _watch(self) -> None:
        if self._idle is None:
            return
        left = self._heard + self._idle - self._loop.time()
        if left <= 0:
            self.abort()
        else:
            self._timer.cancel()
            self._timer = self._loop.call_later(left, self._watch)

    # ---- who is too fast waits ----

    def pause(self, *, caller_is_full: bool) -> None:
        """Read no more from the one whose words the other does not take."""
        source = self._kernel if caller_is_full else self._caller
        if source is not None and not source.is_closing():
            source.pause_reading()

    def resume(self, *, caller_is_full: bool) -> None:
        """Read again."""
        source = self._kernel if caller_is_full else self._caller
        if source is not None and not source.is_closing():
            source.resume_reading()


class _Side(asyncio.BufferedProtocol):
    """One end of a relay, as its transport sees it."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._view = relay.buffers.received

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view


class CallerSide(_Side):
    """The caller's end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._relay.met(transport)  # type: ignore[arg-type]

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on what has come."""
        self._relay.heard()
        self._relay.received(self._view[:nbytes])

    def eof_received(self) -> bool:
        """Tell that no more comes, and keep the connection for what goes out."""
        self._relay.caller_left()
        return True

    def pause_writing(self) -> None:
        """Wait for a caller that does not read."""
        self._relay.pause(caller_is_full=True)

    def resume_writing(self) -> None:
        """Go on."""
        self._relay.resume(caller_is_full=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that it is gone."""
        self._relay.lost(by_caller=True)


class _KernelSide(_Side):
    """The kernel's end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._relay.reached(transport)  # type: ignore[arg-type]

    def buffer_updated(self, nbytes: int) -> None:
        self._relay.heard()
        self._relay.answered(self._view[:nbytes])

    def eof_received(self) -> bool:
        self._relay.kernel_left()
        return True

    def pause_writing(self) -> None:
        self._relay.pause(caller_is_full=False)

    def resume_writing(self) -> None:
        self._relay.resume(caller_is_full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._relay.lost(by_caller=False)

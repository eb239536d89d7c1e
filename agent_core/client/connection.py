"""One connection to an agent: frames out and in, and a word for whatever goes wrong with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket as sockets
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import zmq

from agent_core.client.address import TcpAddress, UnixAddress
from agent_core.contracts.errors import AgentError, AgentUnreachable
from agent_core.wire.frames import MAX_MESSAGE, Frame, decode
from agent_core.wire.keys import ClientKeys

_LINGER_MS: Final = 100
_POLLIN: Final = int(zmq.POLLIN)
_BATCH: Final = 256
_FAILURES: Final = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_CONNECT_RETRIED
)
_WATCHED: Final = _FAILURES | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED


class Connection:
    """A DEALER socket on the event loop, and a monitor that tells why it is not connected.

    Args:
        address: Where the agent listens.
        keys: For CURVE; None connects without.
        received: Called with each frame and its length in bytes.
        lost: Called when the connection breaks after it stood; libzmq then tries to renew it.
    """

    def __init__(
        self,
        address: UnixAddress | TcpAddress,
        keys: ClientKeys | None,
        received: Callable[[Frame, int], None],
        lost: Callable[[AgentUnreachable], None],
    ) -> None:
        self.address = address
        self._keys = keys
        self._received = received
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._socket = _dealer(keys, remote=isinstance(address, TcpAddress))
        self._monitor = self._socket.get_monitor_socket(_WATCHED)
        self._directory: int | None = None
        self._endpoint = ""
        self._stands = False
        self._problem: AgentUnreachable | None = None
        self._only_retried = False
        self._changed: asyncio.Future[None] = self._loop.create_future()
        self._drain_due = False
        self._draining = False
        self._loop.add_reader(self._socket.fileno(), self._drain)
        self._loop.add_reader(self._monitor.fileno(), self._watch)

    async def open(self, timeout: float) -> None:
        """Connect, and wait until the handshake is done.

        Raises:
            AgentUnreachable: when nobody listens, the key is refused, or time is up.
        """
        try:
            self._endpoint = self._resolve()
            self._socket.connect(self._endpoint)
        except zmq.ZMQError as exc:
            raise self._unreachable(exc.strerror) from exc
        self._watch()
        await self._stand(timeout, patient=False)

    async def renewed(self, timeout: float) -> None:
        """Wait until a broken connection stands again; AgentUnreachable when time is up."""
        await self._stand(timeout, patient=True)

    def send(self, data: bytes) -> bool:
        """Send without waiting; False when the connection does not take it now."""
        if not self._stands:
            return False  # libzmq would keep it for an agent that may come much later
        try:
            self._socket.send(data, zmq.NOBLOCK)
            sent = True
        except zmq.ZMQError:
            sent = False
        # A send may swallow the sign that something arrived.
        if not self._draining and self._readable():
            self._drain_soon()
        return sent

    @property
    def stands(self) -> bool:
        """Whether the connection stands."""
        return self._stands

    @property
    def closed(self) -> bool:
        """Whether it was closed on this side."""
        return bool(self._socket.closed)

    def close(self) -> None:
        """Close the connection; nothing is called any more."""
        if self._socket.closed:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_reader(self._monitor.fileno())
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=_LINGER_MS)
        self._stands = False
        if self._directory is not None:
            os.close(self._directory)
            self._directory = None

    # ---- connecting ----------------------------------------------------------------------------

    def _resolve(self) -> str:
        if isinstance(self.address, TcpAddress):
            self._socket.ipv6 = self.address.host.startswith("[")
            return str(self.address)
        path = self.address.path
        try:
            self._directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            # A socket's address holds 107 bytes; through a descriptor it is always short.
            short = f"/proc/self/fd/{self._directory}/{path.name}"
            _knock(short)
        except ConnectionRefusedError as exc:
            raise self._unreachable("nobody listens; the agent that made it has ended") from exc
        except FileNotFoundError as exc:
            raise self._unreachable("there is no such socket") from exc
        except OSError as exc:
            raise self._unreachable(str(exc.strerror)) from exc
        return f"ipc://{short}"

    async def _stand(self, timeout: float, *, patient: bool) -> None:
        deadline = self._loop.time() + timeout
        while not self._stands:
            if self._problem is not None and not patient:
                raise self._problem
            if self._changed.done():
                self._changed = self._loop.create_future()
            await asyncio.wait([self._changed], timeout=max(0.0, deadline - self._loop.time()))
            if self._loop.time() >= deadline and not self.stands:
                raise self._problem or self._unreachable(f"no answer within {timeout:g} s")

    def _watch(self) -> None:
        while not self._monitor.closed:
            try:
                event, _ = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            kind, _value = struct.unpack("=Hi", event)
            self._note(kind)

    def _note(self, kind: int) -> None:
        if kind == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._stands, self._problem = True, None
        elif kind == zmq.EVENT_DISCONNECTED:
            self._break()
        elif self._problem is None or self._only_retried:
            # A refusal says more than that it is tried again; of two refusals the first one does.
            self._problem = self._refusal(kind)
            self._only_retried = kind == zmq.EVENT_CONNECT_RETRIED
        if not self._changed.done():
            self._changed.set_result(None)

    def _break(self) -> None:
        if not self._stands:
            self._problem = self._problem or self._unreachable("it closed the connection")
            return
        while self._readable():  # what arrived before the break still counts
            self._read()
        self._stands = False
        # What was sent since then must not reach the agent once it is back: nobody waits for it.
        with contextlib.suppress(zmq.ZMQError):
            self._socket.disconnect(self._endpoint)
        self._socket.connect(self._endpoint)
        self._lost(self._unreachable("the connection was lost"))

    # ---- what went wrong -----------------------------------------------------------------------

    def _refusal(self, kind: int) -> AgentUnreachable:
        if kind == zmq.EVENT_CONNECT_RETRIED:
            return self._unreachable("nothing accepts connections there")
        if kind == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return self._unreachable(
                "the agent refused this key",
                "Put the key's public half (NAME.key) into the agent's key directory.",
            )
        # Both sides see that one of them uses keys and the other does not, and hang up: whoever is
        # second learns no details.
        if self._keys is None:
            return self._unreachable(
                "it wants a key, or is no agent",
                "Use the keys that the agent made at its first start.",
            )
        return self._unreachable(
            "it uses no keys, or is not the agent of this server.key",
            "Take the agent's present server.key, or connect without keys if it is insecure.",
        )

    def _unreachable(self, reason: str, hint: str | None = None) -> AgentUnreachable:
        return AgentUnreachable(
            f"no agent at {self.address}: {reason}",
            hint=hint,
            details={"address": str(self.address), "reason": reason},
        )

    # ---- frames --------------------------------------------------------------------------------

    def _drain_soon(self) -> None:
        if not self._drain_due:
            self._drain_due = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._drain_due = False
        self._draining = True
        try:
            for _ in range(_BATCH):
                if not self._readable():
                    return
                self._read()
        finally:
            self._draining = False
        self._drain_soon()

    def _readable(self) -> bool:
        # Cheaper than to try and catch the exception.
        return not self._socket.closed and bool(
            cast("int", self._socket.getsockopt(zmq.EVENTS)) & _POLLIN
        )

    def _read(self) -> None:
        data = self._socket.recv(zmq.NOBLOCK)
        # A frame that this side cannot read answers nothing that it asked.
        with contextlib.suppress(AgentError):
            self._received(decode(data), len(data))


def _dealer(keys: ClientKeys | None, *, remote: bool) -> zmq.Socket[bytes]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.set(zmq.MAXMSGSIZE, MAX_MESSAGE)
    socket.set(zmq.RECONNECT_IVL_MAX, 1_000)
    if remote:
        socket.set(zmq.HEARTBEAT_IVL, 10_000)
        socket.set(zmq.HEARTBEAT_TIMEOUT, 30_000)
    if keys is not None:
        socket.curve_serverkey = keys.server
        socket.curve_publickey = keys.pair.public
        socket.curve_secretkey = keys.pair.secret
    return socket


def _knock(path: str) -> None:
    """Connect to a unix socket and go, so that a missing listener has its own error."""
    if not Path(path).is_socket():
        raise FileNotFoundError(path)
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        probe.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            probe.connect(path)

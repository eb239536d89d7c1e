"""Where the RPC server listens, and how each address is bound."""

from __future__ import annotations

import contextlib
import os
import socket as sockets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zmq

from agent_core.contracts.errors import Conflict, InvalidConfig
from agent_core.wire.keys import ServerKeys

ZAP_DOMAIN: Final = "agent-core"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP address to listen at: CURVE with these keys, or nothing at all when `insecure`.

    Attributes:
        host: An interface's address, or ``*``.
        port: 0 lets the system choose.
        keys: The agent's own pair and where its callers' keys lie; required unless insecure.
        insecure: Anybody who can connect may do everything.
    """

    host: str
    port: int
    keys: ServerKeys | None = None
    insecure: bool = False


class UnixBinding:
    """A bound unix socket: its directory stays open, and its file goes when it is released."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._directory: int | None = None

    def bind(self, socket: zmq.Socket[bytes]) -> str:
        """Bind with mode 0600, replacing the file of a server that is gone; returns the address.

        Raises:
            Conflict: when a server answers there.
            InvalidConfig: when the path cannot be used.
        """
        try:
            self._bind(socket)
        except (OSError, zmq.ZMQError) as exc:
            self.release()
            raise InvalidConfig(
                f"cannot listen at {self.path}: {exc.strerror}",
                hint="The state directory must exist and be writable; see `var-base-path`.",
            ) from exc
        return f"unix://{self.path}"

    def release(self) -> None:
        """Remove the socket's file and close the directory; call it after the socket is closed."""
        if self._directory is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path.name, dir_fd=self._directory)
            os.close(self._directory)
            self._directory = None

    def _bind(self, socket: zmq.Socket[bytes]) -> None:
        directory = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # A socket's address holds 107 bytes; through the directory's descriptor it is always short.
        short = f"/proc/self/fd/{directory}/{self.path.name}"
        try:
            _clear(short, self.path)
        except BaseException:
            os.close(directory)
            raise
        self._directory = directory
        previous = os.umask(0o077)
        try:
            socket.bind(f"ipc://{short}")
        finally:
            os.umask(previous)
        Path(short).chmod(0o600)


def _clear(short: str, path: Path) -> None:
    """Remove what a server that is gone has left; never what somebody still uses."""
    try:
        mode = os.lstat(short).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise InvalidConfig(f"cannot listen at {path}: there is a file that is not a socket")
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(short)
        except ConnectionRefusedError:
            Path(short).unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass
    raise Conflict(f"another process answers at {path}", hint="Stop it, or use another directory.")


def bind_tcp(socket: zmq.Socket[bytes], address: TcpAddress) -> str:
    """Bind to TCP with CURVE, or without where that was asked for; returns the address.

    Raises:
        InvalidConfig: when the address cannot be used, or has neither keys nor `insecure`.
    """
    if not address.insecure:
        _secure(socket, address)
    # A peer at the other end of a network can vanish without a word.
    socket.set(zmq.HEARTBEAT_IVL, 10_000)
    socket.set(zmq.HEARTBEAT_TIMEOUT, 30_000)
    socket.set(zmq.HEARTBEAT_TTL, 30_000)
    host = f"[{address.host}]" if ":" in address.host else address.host
    socket.ipv6 = ":" in address.host
    try:
        socket.bind(f"tcp://{host}:{address.port or '*'}")
    except zmq.ZMQError as exc:
        raise InvalidConfig(
            f"cannot listen at tcp://{host}:{address.port}: {exc.strerror}",
            hint="Another process may use the port; see `rpc-listen-addr`.",
        ) from exc
    endpoint = socket.get(zmq.LAST_ENDPOINT)
    return bytes(endpoint).rstrip(b"\0").decode()


def _secure(socket: zmq.Socket[bytes], address: TcpAddress) -> None:
    if address.keys is None:
        raise InvalidConfig(
            f"tcp://{address.host}:{address.port} has no keys",
            hint="Give it keys, or set `rpc-insecure = true` to let anybody in.",
        )
    socket.curve_server = True
    socket.curve_publickey = address.keys.pair.public
    socket.curve_secretkey = address.keys.pair.secret
    socket.zap_domain = ZAP_DOMAIN.encode()

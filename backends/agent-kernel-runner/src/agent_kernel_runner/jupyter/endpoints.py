"""Where a Jupyter kernel listens: names or ports that are chosen here and written into its file."""

from __future__ import annotations

import _socket
import json
import os
import shutil

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_kernel_runner.jupyter.link import Address

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
"""The five sockets that a kernel opens; its heartbeat is not listened to, for it is a child."""

_LONGEST_PATH = 100  # a socket's holds 107 bytes, and names of five sockets are added


class Endpoints:
    """The sockets of one life of a kernel.

    Unix sockets where possible: no port, and nobody else's process may connect.

    Args:
        state_dir: The kernel's directory for what must survive; the files here do not.
        over_tcp: Whether the kernel is to listen on the loopback, as some can do no other; it also
            does where the directory's path is too long for a socket.

    Raises:
        OSError: when nothing can be written there.
    """

    def __init__(self, state_dir: str, *, over_tcp: bool) -> None:
        self.key = os.urandom(16).hex()
        self._directory = f"{state_dir}/jupyter"
        self.file = f"{self._directory}/kernel.json"
        self._place, self._ports = f"{self._directory}/k", list(range(1, len(CHANNELS) + 1))
        self._over_tcp = over_tcp or len(os.fsencode(self._place)) > _LONGEST_PATH
        if self._over_tcp:
            self._place, self._ports = "127.0.0.1", _free_ports(len(CHANNELS))
        self.remove()
        os.mkdir(self._directory, 0o700)
        self._write()

    def _write(self) -> None:
        content = {
            "transport": "tcp" if self._over_tcp else "ipc",
            "ip": self._place,
            "key": self.key,
            "signature_scheme": "hmac-sha256",
            **{f"{name}_port": port for name, port in zip(CHANNELS, self._ports, strict=True)},
        }
        fd = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(content, file)

    def addresses(self, channel: str) -> Sequence[Address]:
        """Say where a channel may be reached; not every kernel writes such names in one way."""
        port = self._ports[CHANNELS.index(channel)]
        if self._over_tcp:
            return [(self._place, port)]
        return [f"{self._place}-{port}", f"{self._place}:{port}"]

    def remove(self) -> None:
        """Remove the files; succeeds when there are none."""
        shutil.rmtree(self._directory, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    """Find ports where nobody listens now; held all at once, so that they differ."""
    held = []
    try:
        for _ in range(count):
            sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
            held.append(sock)
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in held]
    finally:
        for sock in held:
            sock.close()

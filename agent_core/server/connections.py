"""The TCP connection under a message, which libzmq names and never cuts for us."""

from __future__ import annotations

import contextlib
import os
import socket as sockets
from dataclasses import dataclass
from typing import Self

import zmq


@dataclass(frozen=True, slots=True)
class TcpConnection:
    """One accepted TCP connection: libzmq's descriptor, and who is at the other end."""

    descriptor: int
    far_end: object

    @classmethod
    def of(cls, part: zmq.Frame) -> Self | None:
        """Find the connection by which a message came; None when it has gone meanwhile."""
        descriptor = int(part.get(zmq.SRCFD))
        try:
            with _twin(descriptor) as twin:
                return cls(descriptor, twin.getpeername())
        except OSError:
            return None

    def cut(self) -> None:
        """Hang up. libzmq notices, and forgets the client with all that waits for it."""
        with contextlib.suppress(OSError), _twin(self.descriptor) as twin:
            # The number may long be another connection's; of the twin we know that it is not.
            if twin.getpeername() == self.far_end:
                twin.shutdown(sockets.SHUT_RDWR)


def _twin(descriptor: int) -> sockets.socket:
    """Duplicate a descriptor, so that it stays the same connection while it is looked at."""
    duplicate = os.dup(descriptor)
    try:
        return sockets.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        raise

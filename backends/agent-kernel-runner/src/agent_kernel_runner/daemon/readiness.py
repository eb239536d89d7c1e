"""Readiness: whether somebody answers at a port of a service."""

from __future__ import annotations

from agent_kernel_runner.daemon.attempt import Attempt, open_socket, reachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_kernel_runner.daemon.loop import Loop, Timer

PAUSE = 0.03
LONGEST_PAUSE = 0.5
"""Seconds between two tries: few at first, and more the longer nobody answers."""

ATTEMPT = 10.0
"""Seconds that one try may take."""

_ANSWER = b"HTTP/"


def is_taken(host: str, port: int) -> bool:
    """Whether somebody listens at a port now."""
    sock = open_socket(reachable(host))
    try:
        sock.settimeout(0.2)
        sock.connect((reachable(host), port))
        return bool(sock.getsockname() != sock.getpeername())
    except OSError:
        return False
    finally:
        sock.close()


class Probe:
    """Tries a port until somebody answers, or until it is told to stop.

    Args:
        loop: The event loop.
        host: Where the service listens.
        port: Its port.
        http: Whether an answer is one of HTTP, whatever it says; else to accept is enough.
        ready: Called once, when somebody has answered.
    """

    def __init__(
        self, loop: Loop, host: str, port: int, *, http: bool, ready: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._address = (host, port)
        self._http = http
        self._ready = ready
        self._attempt: Attempt | None = None
        self._timer: Timer | None = None
        self._pause = PAUSE
        self._try()

    def stop(self) -> None:
        """Try no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._attempt is not None:
            self._attempt.stop()

    def _try(self) -> None:
        path = "/" if self._http else ""
        self._attempt = Attempt(self._loop, self._address, path, ATTEMPT, self._tried)

    def _tried(self, answer: bytes | None, _why: str) -> None:
        if answer is not None and (not self._http or answer.startswith(_ANSWER)):
            self._ready()
            return
        self._timer = self._loop.call_later(self._pause, self._try)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

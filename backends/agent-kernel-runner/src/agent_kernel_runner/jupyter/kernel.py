"""One life of a Jupyter kernel: its process, its links, and whether it can be talked to yet."""

from __future__ import annotations

import os
import signal
from string import Template

from agent_kernel_runner.jupyter.endpoints import Endpoints
from agent_kernel_runner.jupyter.link import Link
from agent_kernel_runner.jupyter.messages import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from agent_kernel_runner.daemon.loop import Loop, Timer
    from agent_kernel_runner.daemon.process import Process, Processes
    from agent_kernel_runner.daemon.settings import Settings
    from agent_kernel_runner.jupyter.kernelspecs import KernelSpec
    from agent_kernel_runner.jupyter.messages import Message

    Events = Mapping[str, Callable[[Message], None]]

START_DEADLINE = 60.0
"""Seconds that a kernel has from its start until it answers."""

_ASK_AGAIN = 0.5
_PATIENCE = 3.0  # seconds for a first sign on the channel of outputs; a few kernels never give one
_LAST_MOMENTS = 0.2  # seconds between the end of a link and that of its process
_KINDS = {"shell": "DEALER", "stdin": "DEALER", "control": "DEALER", "iopub": "SUB"}


class Kernel:
    """Starts a kernel and talks to it, until it ends.

    Args:
        loop: The event loop.
        spec: Which kernel.
        events: Called with each message of a channel, by the channel's name, once it is ready.
        on_ready: Called once it answers and its outputs arrive.
        on_end: Called once, with its exit status and why this side has killed it, if it has.

    Attributes:
        spec: Which kernel it is.
        ready: Whether it answers.
        started: Whether it ever did.
    """

    def __init__(
        self,
        loop: Loop,
        spec: KernelSpec,
        events: Events,
        on_ready: Callable[[], None],
        on_end: Callable[[int, str], None],
    ) -> None:
        self.spec = spec
        self.ready = self.started = False
        self._loop = loop
        self._events = events
        self._on_ready = on_ready
        self._on_end = on_end
        self._why = ""
        self._heard = self._answered = False
        self._links: dict[str, Link] = {}
        self._timers: list[Timer] = []
        self._process: Process | None = None

    def start(self, processes: Processes, settings: Settings, *, over_tcp: bool) -> None:
        """Start it; it is ready some time later.

        Raises:
            OSError: when it cannot be started.
        """
        self._endpoints = Endpoints(settings.state_dir, over_tcp=over_tcp)
        self._session = Session(self._endpoints.key)
        path = os.environ.get("PATH") or os.defpath
        argv = self.spec.command(self._endpoints.file, settings.runtime_path, path)
        try:
            self._process = processes.spawn(argv, _environment(self.spec), self._exited)
        except OSError:
            self._endpoints.remove()
            raise
        self._process.ends_group = True
        self._later(START_DEADLINE, self._overdue)
        self._connect()

    def _connect(self) -> None:
        identity = os.urandom(8).hex().encode()  # one for all: the kernel asks for input by it
        for channel, kind in _KINDS.items():
            link = self._links[channel] = Link(
                self._loop,
                kind,
                identity,
                self._endpoints.addresses(channel),
                lambda parts, channel=channel: self._received(channel, parts),  # type: ignore[misc]
                self._linked,
                lambda reason, channel=channel: self._garbled(f"{channel}: {reason}"),  # type: ignore[misc]
            )
            link.connect()

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(seconds, callback))

    # ---- until it is ready ----------------------------------------------------------------------

    def _linked(self) -> None:
        if all(link.up for link in self._links.values()):
            self._later(_PATIENCE, self._heard_nothing)
            self._ask()

    def _ask(self) -> None:
        """Ask who it is; until its outputs arrive as well, for a subscription takes its time."""
        if not self.ready:
            self.request("shell", "kernel_info_request", {})
            self._later(_ASK_AGAIN, self._ask)

    def _heard_nothing(self) -> None:
        self._heard = True
        self._settle()

    def _settle(self) -> None:
        if self._heard and self._answered and not self.ready:
            self.ready = self.started = True
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()
            self._on_ready()

    def _overdue(self) -> None:
        self.give_up(f"killed, since it did not answer within {START_DEADLINE:g} s of its start")

    # ---- the conversation -----------------------------------------------------------------------

    def request(
        self,
        channel: str,
        kind: str,
        content: Mapping[str, Any],
        parent: Mapping[str, Any] | None = None,
    ) -> str:
        """Send a message and return its id, by which what answers it is known."""
        request_id, parts = self._session.request(kind, content, parent)
        self._links[channel].send(parts)
        return request_id

    def _received(self, channel: str, parts: list[bytes]) -> None:
        message = self._session.read(parts)
        if message is None:
            return
        if self.ready:
            self._events[channel](message)
            return
        if channel == "iopub":
            self._heard = True
        elif message.kind == "kernel_info_reply":
            self._answered = True
        self._settle()

    def signal(self, number: int) -> None:
        """Signal it and the programs that it started."""
        if self._process is not None:
            self._process.signal(number)

    def interrupt(self) -> None:
        """Interrupt what it runs, in the way that its specification names."""
        if self.spec.by_message:
            self.request("control", "interrupt_request", {})
        else:
            self.signal(signal.SIGINT)

    # ---- its end --------------------------------------------------------------------------------

    def give_up(self, why: str) -> None:
        """Kill it, with its process group."""
        self._why = self._why or why
        self.signal(signal.SIGKILL)

    def _garbled(self, reason: str) -> None:
        """Give up a kernel that cannot be talked to, unless it is just about to end."""
        self._later(
            _LAST_MOMENTS, lambda: self.give_up(f"killed, since its link was lost: {reason}")
        )

    def _exited(self, status: int) -> None:
        self._process = None
        self.ready = False
        for timer in self._timers:
            timer.cancel()
        for link in self._links.values():
            link.close()
        self._endpoints.remove()
        self._on_end(status, self._why)


def _environment(spec: KernelSpec) -> dict[str, str]:
    """Make the environment: the user's, with what the specification adds, which may refer to it."""
    added = {name: Template(value).safe_substitute(os.environ) for name, value in spec.env.items()}
    # By this a kernel knows that it is somebody's, and says nothing of how to reach it.
    parent = {"JPY_PARENT_PID": str(os.getpid())}
    return {"PYTHONUNBUFFERED": "1", **os.environ, **parent, **added}

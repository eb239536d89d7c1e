"""The user's bootstrap script: run to its end, within its time, before any code and any service."""

from __future__ import annotations

import os
import signal

from agent_kernel_runner.daemon.executor import exit_code
from agent_kernel_runner.daemon.journal import note
from agent_kernel_runner.daemon.process import shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agent_kernel_runner.daemon.loop import Loop
    from agent_kernel_runner.daemon.process import Process, Processes
    from agent_kernel_runner.daemon.settings import Settings

    Handler = Callable[[dict[str, Any]], None]


class Bootstrap:
    """Runs the script, and holds up what is to come after it.

    What the script says is for the kernel's log. However it ends, the kernel goes on: only the
    user can tell whether what it had to prepare is needed. What it started and left in the
    background stays.

    Args:
        loop: The event loop.
        processes: Starts it.
        settings: Says where it is, and how long it may run.
        done: Called once it has ended.
    """

    def __init__(
        self, loop: Loop, processes: Processes, settings: Settings, done: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._processes = processes
        self._settings = settings
        self._done = done
        self._held: list[Callable[[], None]] = []
        self._over = False

    def begin(self) -> None:
        """Start it."""
        try:
            process = self._start(self._settings.bootstrap)
        except OSError as exc:
            note(f"the bootstrap script cannot be started: {exc}")
            self._end()
            return
        seconds = self._settings.bootstrap_timeout
        self._timer = self._loop.call_later(seconds, lambda: self._late(process))

    def _start(self, path: str) -> Process:
        env = {"PYTHONUNBUFFERED": "1", **os.environ}
        with open(path, "rb") as file:
            names_its_own = file.read(2) == b"#!"
        if names_its_own:
            try:
                return self._processes.spawn([path], env, self._exited)
            except OSError as exc:
                note(f"the bootstrap script is run by {shell()}: {exc}")
        return self._processes.spawn([shell(), path], env, self._exited)

    def _late(self, process: Process) -> None:
        note(f"the bootstrap script is killed after {self._settings.bootstrap_timeout:g} s")
        process.ends_group = True
        process.signal(signal.SIGKILL)

    def _exited(self, status: int) -> None:
        self._timer.cancel()
        if status:
            note(f"the bootstrap script ended with exit code {exit_code(status)}")
        self._end()

    def _end(self) -> None:
        self._over = True
        held, self._held = self._held, []
        self._done()
        for each in held:
            each()

    def after(self, handle: Handler) -> Handler:
        """Return a handler of messages that waits for the end of the script."""

        def handle_after(message: dict[str, Any]) -> None:
            if self._over:
                handle(message)
            else:
                self._held.append(lambda: handle(message))

        return handle_after

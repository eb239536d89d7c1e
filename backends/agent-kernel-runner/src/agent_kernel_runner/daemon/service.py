"""One service of the kernel: started, waited for until it answers, watched, and ended."""

from __future__ import annotations

import os
import signal

from agent_kernel_runner.daemon.definitions import BadDefinition
from agent_kernel_runner.daemon.executor import exit_code
from agent_kernel_runner.daemon.journal import note, record
from agent_kernel_runner.daemon.prestart import Preparation
from agent_kernel_runner.daemon.readiness import Probe, is_taken
from agent_kernel_runner.daemon.recipe import Recipe, Refusal, find_definition
from agent_kernel_runner.daemon.tail import Tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_kernel_runner.daemon.loop import Loop, Timer
    from agent_kernel_runner.daemon.process import Process, Processes
    from agent_kernel_runner.daemon.requests import ServiceStart
    from agent_kernel_runner.daemon.settings import Settings

    Answer = Callable[[str, "Service", "Refusal | None"], None]

STOPPED, STARTING, RUNNING, ENDING = "stopped", "starting", "running", "ending"

LOG_BOUND = 2 << 10
"""Bytes of a service's output that come with the news of its failure."""


class Service:
    """A named service, from its first start to the end of the kernel.

    Args:
        loop: The event loop.
        processes: Starts it.
        settings: Of the kernel.
        name: Its name.
        answer: Takes the request, the service, and why it was refused if it was.

    Attributes:
        state: stopped, starting, running or ending.
        exit_code: How its last process ended; None while it runs, and when we ended it.
    """

    def __init__(
        self, loop: Loop, processes: Processes, settings: Settings, name: str, answer: Answer
    ) -> None:
        self.name = name
        self.state = STOPPED
        self.exit_code: int | None = None
        self._loop = loop
        self._processes = processes
        self._settings = settings
        self._answer = answer
        self._directory = f"{settings.state_dir}/services/{name}"
        self._request: ServiceStart | None = None
        self._starters: list[str] = []
        self._enders: list[str] = []
        self._failure: Refusal | None = None
        self._preparation: Preparation | None = None
        self._process: Process | None = None
        self._tail: Tail | None = None
        self._probe: Probe | None = None
        self._timers: list[Timer] = []

    # ---- what is asked --------------------------------------------------------------------------

    def start(self, request: ServiceStart) -> None:
        """Start it, or wait with whoever has asked for that already."""
        if self.state == RUNNING:
            self._answer(request.run_id, self, None)
        elif self.state == ENDING:
            why = Refusal("conflict", "it is being ended; start it once it has")
            self._answer(request.run_id, self, why)
        else:
            self._starters.append(request.run_id)
            if self.state == STOPPED:
                self._begin(request)

    def stop(self, run_id: str) -> None:
        """End it; one that does not run is ended."""
        if self.state == STOPPED:
            self._answer(run_id, self, None)
        elif self.state == RUNNING and self._process is None:
            why = Refusal("unsupported", "what serves it was not started by us, and ends by itself")
            self._answer(run_id, self, why)
        else:
            self._enders.append(run_id)
            if self.state == STARTING:
                self._fail("conflict", "it was ended while it started")
            elif self.state == RUNNING:
                self._end()

    # ---- starting -------------------------------------------------------------------------------

    def _begin(self, request: ServiceStart) -> None:
        self._request = request
        self.state, self.exit_code, self._failure = STARTING, None, None
        self._timers = [self._loop.call_later(request.timeout, self._late)]
        try:
            if request.protocol == "preopen":
                self._await_answer()
            else:
                self._prepare(request)
        except Refusal as exc:
            self._fail(exc.code, exc.message)
        except BadDefinition as exc:
            self._fail("bad-definition", f"its definition cannot be used: {exc}")
        except OSError as exc:
            self._fail("failed", f"{exc.filename or self._directory}: {exc.strerror}")

    def _prepare(self, request: ServiceStart) -> None:
        for port in request.ports:
            if is_taken(request.host, port):
                raise Refusal("conflict", f"something else listens on its port {port}")
        definition, program = find_definition(self.name, self._settings)
        if definition.noop:
            self._await_answer()
            return
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        recipe = Recipe(definition, program, request, self._settings, self._directory)
        if self._tail is not None:
            self._tail.text()  # what its last life has said is for the log
            self._tail.close()
        self._tail = Tail(self._loop, lambda data: record(1, data), LOG_BOUND)
        self._preparation = Preparation(
            recipe.actions,
            recipe.values,
            self._directory,
            lambda command, ended: self._spawn(recipe, command, ended),
            lambda failure: self._launch(recipe, failure),
        )
        self._preparation.go_on()

    def _spawn(self, recipe: Recipe, command: list[str], ended: Callable[[int], None]) -> Process:
        assert self._tail is not None  # noqa: S101 - made before anything is started
        words, output = recipe.resolved(command), self._tail.writer
        process = self._processes.spawn(words, recipe.env, ended, output=output)
        process.ends_group = True
        return process

    def _launch(self, recipe: Recipe, failure: str) -> None:
        if failure:
            self._fail("failed", failure)
            return
        try:
            self._process = self._spawn(recipe, recipe.command(), self._exited)
        except BadDefinition as exc:
            self._fail("bad-definition", f"its definition cannot be used: {exc}")
            return
        except OSError as exc:
            self._fail("failed", f"it cannot be started: {exc.strerror or exc}")
            return
        if self._tail is not None:
            self._tail.started()
        self._await_answer()

    def _await_answer(self) -> None:
        request = self._request
        assert request is not None  # noqa: S101 - we are starting
        http = request.protocol == "http"
        self._probe = Probe(
            self._loop, request.host, request.ports[0], http=http, ready=self._ready
        )

    def _ready(self) -> None:
        self._settle()
        self.state = RUNNING
        for run_id in _taken(self._starters):
            self._answer(run_id, self, None)

    def _late(self) -> None:
        request = self._request
        assert request is not None  # noqa: S101 - we are starting
        what = "answered no HTTP" if request.protocol == "http" else "did not listen"
        where = f"on port {request.ports[0]} within {request.timeout:g} s"
        self._fail("not-ready", f"it {what} {where}")

    # ---- ending ---------------------------------------------------------------------------------

    def _fail(self, code: str, message: str) -> None:
        """Give the start up: what runs is ended, and then everybody who waits is told."""
        if self.state != STARTING:
            return
        self._failure = Refusal(code, message)
        self._settle()
        if self._process is None and self._pending() is None:
            self._stopped()
        else:
            self._end()

    def _end(self) -> None:
        self.state = ENDING
        if self._preparation is not None:
            self._preparation.stop()
        self._signal(signal.SIGTERM)
        grace = self._settings.interrupt_grace
        self._timers = [self._loop.call_later(grace, lambda: self._signal(signal.SIGKILL))]
        if (pending := self._pending()) is not None:
            pending.on_exit = self._exited

    def _pending(self) -> Process | None:
        return None if self._preparation is None else self._preparation.process

    def _signal(self, number: int) -> None:
        for process in (self._process, self._pending()):
            if process is not None:
                process.signal(number)

    def _exited(self, status: int) -> None:
        self._process, self._preparation = None, None
        code = exit_code(status)
        if self.state == STARTING:
            self.exit_code = code
            self._fail("failed", f"it ended with exit code {code} before it answered")
            return
        if self.state == RUNNING:
            self.exit_code = code
            note(f"service {self.name} has ended with exit code {code}")
        self._stopped()

    def _stopped(self) -> None:
        self._settle()
        self.state = STOPPED
        failure, self._failure = self._failure, None
        if failure is not None and self._tail is not None:
            failure.log = self._tail.text()
        for run_id in _taken(self._starters):
            self._answer(run_id, self, failure)
        for run_id in _taken(self._enders):
            self._answer(run_id, self, None)

    def _settle(self) -> None:
        """Wait for nothing any more."""
        for timer in self._timers:
            timer.cancel()
        self._timers = []
        if self._probe is not None:
            self._probe.stop()
            self._probe = None


def _taken(waiting: list[str]) -> list[str]:
    """Take everything out of a list: an answer may bring the next request."""
    taken = [*waiting]
    waiting.clear()
    return taken

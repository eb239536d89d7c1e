"""One model of the kernel: prepared, started, asked how it is, and started again when it ends."""

from __future__ import annotations

import os
import re
import signal
import time

from agent_kernel_runner.daemon.attempt import Attempt
from agent_kernel_runner.daemon.builtin_services import find_program, search_path
from agent_kernel_runner.daemon.definitions import Action
from agent_kernel_runner.daemon.executor import exit_code
from agent_kernel_runner.daemon.journal import note, record
from agent_kernel_runner.daemon.prestart import Preparation
from agent_kernel_runner.daemon.readiness import is_taken
from agent_kernel_runner.daemon.tail import Tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_kernel_runner.daemon.loop import Loop, Timer
    from agent_kernel_runner.daemon.model_requests import ModelStart
    from agent_kernel_runner.daemon.process import Process, Processes
    from agent_kernel_runner.daemon.settings import Settings

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
FAILED, STOPPED = "failed", "stopped"

PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds between two checks of one that starts: few at first, and no more than its interval."""

BACKOFF = 0.5
LONGEST_BACKOFF = 30.0
"""Seconds before one that has ended is started again, twice as many each time."""

STEADY = 60.0
"""Seconds of health after which its starts are counted anew."""

LOG_BOUND = 2 << 10
_LONGEST_LINE = 200
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})(?!\d)")


class Model:
    """One model, from its first start to the end of the kernel.

    Args:
        loop: The event loop.
        processes: Starts it.
        settings: Of the kernel.
        request: What is served, and how.
        changed: Called whenever something of it has changed, and when somebody asks.

    Attributes:
        run_id: The id of what was asked last.
        status: How it is.
        message: Why it is so, where there is more to say.
        restarts: How often it was started again since it was last well for a while.
        exit_code: How its last process ended; None when it has not, and when we ended it.
    """

    def __init__(
        self,
        loop: Loop,
        processes: Processes,
        settings: Settings,
        request: ModelStart,
        changed: Callable[[Model], None],
    ) -> None:
        self.name = request.name
        self.run_id = request.run_id
        self.status = ""
        self.message = ""
        self.restarts = 0
        self.exit_code: int | None = None
        self._loop = loop
        self._processes = processes
        self._request = request
        self._check = request.check
        self._changed = changed
        self._grace = settings.interrupt_grace
        self._directory = os.path.join(settings.work_dir, request.path)
        self._path = search_path(os.environ, settings.runtime_path)
        self._prepared = False
        self._ending = False
        self._again = False
        self._misses = 0
        self._pause = PAUSE
        self._since = 0.0
        self._preparation: Preparation | None = None
        self._process: Process | None = None
        self._tail: Tail | None = None
        self._attempt: Attempt | None = None
        self._timer: Timer | None = None

    # ---- what is asked --------------------------------------------------------------------------

    def start(self, request: ModelStart) -> None:
        """Start it for the first time or anew; one that somebody keeps running only tells."""
        self.run_id = request.run_id
        if self._ending and request.anew:
            self._again = True  # its beginning will tell
        elif not self.status or (request.anew and self.status in (FAILED, STOPPED)):
            self._begin()
        else:
            self._changed(self)

    def stop(self, run_id: str) -> None:
        """End it; its state tells once nothing of it runs."""
        self.run_id = run_id
        self._again = False
        if self._ending:
            return
        self._settle()
        if self._process is None and self._pending() is None:
            self._become(STOPPED, "")
            return
        self._ending = True
        if self._preparation is not None:
            self._preparation.stop()
        if (pending := self._pending()) is not None:
            pending.on_exit = self._exited
        self._signal(signal.SIGTERM)
        self._timer = self._loop.call_later(self._grace, lambda: self._signal(signal.SIGKILL))

    def _pending(self) -> Process | None:
        return None if self._preparation is None else self._preparation.process

    def _signal(self, number: int) -> None:
        for process in (self._process, self._pending()):
            if process is not None:
                process.signal(number)

    # ---- starting -------------------------------------------------------------------------------

    def _begin(self) -> None:
        self.restarts, self.exit_code = 0, None
        self._become(STARTING, "")
        port = self._request.port
        if is_taken(self._request.host, port):
            self._fail(f"something else listens on its port {port}")
        elif not os.path.isdir(self._directory):
            self._fail(f"its model_path {self._directory} is no directory of the kernel")
        elif self._prepared:
            self._launch()
        else:
            self._listen_to()
            self._preparation = Preparation(
                [_placed(action, self._directory) for action in self._request.actions],
                None,
                self._directory,
                self._spawn_found,
                self._prepare,
            )
            self._preparation.go_on()

    def _prepare(self, failure: str) -> None:
        self._preparation = None
        if failure:
            self._fail(failure + self._last_words())
        else:
            self._prepared = True
            self._launch()

    def _launch(self) -> None:
        self._listen_to()
        request = self._request
        command = request.command
        words = [self._shell(), "-c", command] if isinstance(command, str) else command
        try:
            self._process = self._spawn_found(words, self._exited)
        except OSError as exc:
            where = f"{exc.filename}: " if exc.filename else ""
            self._fail(f"it cannot be started: {where}{exc.strerror or exc}")
            return
        if self._tail is not None:
            self._tail.started()
        self._since = time.monotonic()
        self._misses, self._pause = 0, PAUSE
        self._later(self._check.delay, self._look)

    def _shell(self) -> str:
        return self._request.shell or find_program("bash", self._path) or "/bin/sh"

    def _listen_to(self) -> None:
        """Keep the last words of one life apart from those of the one before."""
        if self._tail is not None:
            self._tail.text()  # what it has said is for the log
            self._tail.close()
        self._tail = Tail(self._loop, lambda data: record(1, data), LOG_BOUND)

    def _spawn_found(self, words: list[str], ended: Callable[[int], None]) -> Process:
        assert self._tail is not None  # noqa: S101 - made before anything is started
        program = find_program(words[0], self._path)
        if program is None:
            raise OSError(2, "there is no such program", words[0])
        process = self._processes.spawn(
            [program, *words[1:]],
            os.environ,
            ended,
            output=self._tail.writer,
            directory=self._directory,
        )
        process.ends_group = True
        return process

    # ---- health ---------------------------------------------------------------------------------

    def _look(self) -> None:
        address = (self._request.host, self._request.port)
        self._attempt = Attempt(self._loop, address, self._check.path, self._check.wait, self._seen)

    def _seen(self, answer: bytes | None, why: str) -> None:
        self._attempt = None
        fault = why if answer is None else self._fault_of(answer)
        pause = self._check.interval
        if not fault:
            self._misses = 0
            if self.status != HEALTHY:
                self._since = time.monotonic()
                self._become(HEALTHY, "")
        elif self.status == STARTING:
            pause = min(self._pause, pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            if time.monotonic() - self._since >= self._check.patience:
                self._become(UNHEALTHY, f"{fault}, {self._check.patience:g} s after its start")
        else:
            self._missed(fault)
        self._later(pause, self._look)

    def _missed(self, fault: str) -> None:
        self._misses += 1
        if self.status == HEALTHY and self._misses >= self._check.retries:
            times = f", {self._misses} times in a row" if self._misses > 1 else ""
            self._become(UNHEALTHY, fault + times)

    def _fault_of(self, answer: bytes) -> str:
        if not self._check.path:
            return ""
        found = _STATUS.match(answer)
        if found is None:
            return "it answers, but not with HTTP"
        code, expected = int(found[1]), self._check.expected
        if code == expected:
            return ""
        return f"it answers {self._check.path} with {code} instead of {expected}"

    # ---- ending ---------------------------------------------------------------------------------

    def _exited(self, status: int) -> None:
        self._process = self._preparation = None
        self._settle()
        if self._ending:
            self.exit_code = None
            self._ended()
            return
        self.exit_code = exit_code(status)
        if self.status == HEALTHY and time.monotonic() - self._since >= STEADY:
            self.restarts = 0
        why = f"it ended with exit code {self.exit_code}"
        most = self._check.retries
        if self.restarts >= most:
            times = ", and was started again once" if most == 1 else ""
            times = f", and was started again {most} times" if most > 1 else times
            self._fail(why + times + self._last_words())
            return
        pause = min(BACKOFF * 2**self.restarts, LONGEST_BACKOFF)
        self.restarts += 1
        again = f"; it is started again ({self.restarts} of {most}) after {pause:g} s"
        self._become(STARTING, why + again + self._last_words())
        self._later(pause, self._launch)

    def _ended(self) -> None:
        self._ending = False
        if self._again:
            self._again = False
            self._begin()
        else:
            self._become(STOPPED, "")

    def _fail(self, why: str) -> None:
        self._settle()
        self._become(FAILED, why)

    def _last_words(self) -> str:
        text = self._tail.text() if self._tail is not None else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"; it said at last: {lines[-1][:_LONGEST_LINE]}" if lines else ""

    # ---- telling --------------------------------------------------------------------------------

    def _become(self, status: str, message: str) -> None:
        if status != self.status:
            note(f"model {self.name} is {status}{message and ': '}{message}")
        self.status, self.message = status, message
        self._changed(self)

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._timer = self._loop.call_later(seconds, callback)

    def _settle(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._attempt is not None:
            self._attempt.stop()
            self._attempt = None


def _placed(action: Action, directory: str) -> Action:
    """Let the file of an action lie below the model's directory, unless its path is a whole one."""
    paths = {
        key: os.path.join(directory, value)
        for key, value in action.args.items()
        if key in ("filename", "path")
    }
    return Action(action.name, {**action.args, **paths}, "")

"""The Python interpreter: a child that keeps the namespace of queries between runs.

It is told what to do over a control channel of its own. Whatever comes back over it may have been
written by the user's code, which lives in the same process.
"""

from __future__ import annotations

import _socket
import os
import signal

from agent_kernel_runner.daemon.channel import Channel
from agent_kernel_runner.daemon.executor import DIED, INTERRUPTED, NORMAL, Executor, exit_code
from agent_kernel_runner.daemon.framing import MAX_CONTROL_FRAME, encode
from agent_kernel_runner.daemon.journal import note
from agent_kernel_runner.daemon.process import CONTROL_FD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket
    from typing import Any, cast

    from agent_kernel_runner.daemon.completion import Completion
    from agent_kernel_runner.daemon.executor import Report, Run
    from agent_kernel_runner.daemon.loop import Loop
    from agent_kernel_runner.daemon.process import Process, Processes
    from agent_kernel_runner.daemon.settings import Settings

_SCRIPT = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/interpreters/python.py"
_MAX_PROMPT = 8 << 10
_LAST_MOMENTS = 0.2  # seconds between the end of a channel and that of its process


class PythonInterpreter(Executor):
    """Owns the interpreter process: starts it, talks to it, replaces it when it is gone.

    Args:
        loop: The event loop.
        processes: Starts it.
        settings: Says which interpreter.
        report: Is told of the current run.
    """

    def __init__(
        self, loop: Loop, processes: Processes, settings: Settings, report: Report
    ) -> None:
        self._loop = loop
        self._processes = processes
        self._settings = settings
        self._report = report
        self._process: Process | None = None
        self._channel: Channel | None = None
        self._run: Run | None = None
        self._begun = False
        self._interrupted = False
        self._why = ""
        self._prompt: int | None = None
        self._completion: Completion | None = None
        self._lost = ""
        self._notice = ""

    # ---- the process ----------------------------------------------------------------------------

    def launch(self) -> None:
        """Start the interpreter when there is none; it is ready some time later.

        Raises:
            OSError: when it cannot be started.
        """
        if self._process is not None:
            return
        ours, theirs = _socket.socketpair()
        env = {"PYTHONUNBUFFERED": "1", **os.environ}
        argv = [*self._program(), "-u", _SCRIPT, str(CONTROL_FD)]
        try:
            self._process = self._processes.spawn(argv, env, self._exited, theirs.fileno())
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        if TYPE_CHECKING:
            ours = cast("socket", ours)
        self._process.ends_group = True
        self._why = ""
        self._channel = Channel(self._loop, ours, self._received, self._garbled)

    def _program(self) -> list[str]:
        """Name the image's interpreter, or that of the bundle where the image has none."""
        path, bundle = self._settings.runtime_path, self._settings.runner_dir
        if not bundle or os.path.exists(path):
            return [path]
        from agent_kernel_runner.daemon.bundled import python_of

        self._notice = f"[runner] there is no {path}: the runner's own Python takes its place\n"
        return python_of(bundle)

    def _garbled(self, reason: str) -> None:
        """Give up an interpreter that cannot be talked to, unless it is just about to end."""
        process = self._process
        self._loop.call_later(_LAST_MOMENTS, lambda: self._abandon(process, reason))

    def _abandon(self, process: Process | None, reason: str) -> None:
        if process is not None and process is self._process:
            self._why = f"killed, since its control channel was lost: {reason}"
            process.signal(signal.SIGKILL)

    def _exited(self, status: int) -> None:
        if self._channel is not None:
            self._channel.drain()
            self._channel.close()
        self._process = self._channel = None
        what = f"the interpreter ended ({self._why or _describe(status)})"
        held = self._completion is not None and not self._why
        if self._completion is not None:
            self._completion.fail()
        if self._run is None:
            self._lost = what
            return
        self._report.say(_farewell(what))
        if held:
            self._resubmit()
        else:
            self._end(exit_code(status), DIED)
            self._relaunch()

    def _resubmit(self) -> None:
        """Give a run that had only waited for a completion to a fresh interpreter."""
        self._relaunch()
        if self._process is None:
            self._end(127, DIED)
        else:
            self._submit()

    def _relaunch(self) -> None:
        try:
            self.launch()
        except OSError as exc:
            note(f"no fresh interpreter: {exc}")

    # ---- a run ----------------------------------------------------------------------------------

    def start(self, run: Run) -> None:
        """Run code in the namespace that all queries share."""
        self._run = run
        self._begun = self._interrupted = False
        self._prompt = None
        if self._lost:
            self._report.say(_farewell(self._lost))
            self._lost = ""
        try:
            self.launch()
        except OSError as exc:
            self._report.say(f"[runner] cannot start {self._settings.runtime_path}: {exc}\n")
            self._end(127, DIED)
            return
        if self._notice:
            self._report.say(self._notice)
            self._notice = ""
        if self._completion is None:
            self._submit()

    def _submit(self) -> None:
        if self._run is not None:
            self._send({"type": "run", "code": self._run.code})

    def _send(self, message: dict[str, Any]) -> None:
        if self._channel is not None:
            self._channel.send(encode(message, MAX_CONTROL_FRAME))

    def _end(self, code: int | None, cause: str) -> None:
        if self._run is not None:
            self._run = None
            self._prompt = None
            self._report.ended(code, cause)

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the code, and interrupt the programs that it started."""
        self._interrupted = True
        # Before the code has begun nothing in the interpreter would know what the signal means.
        if self._begun and self._process is not None:
            self._process.signal(signal.SIGINT)

    def urge(self) -> None:
        """Interrupt again: a signal just before a blocking call is only seen after that call."""
        self.interrupt()

    def kill(self) -> None:
        """Kill the interpreter and its process group; a fresh one takes its place."""
        if self._process is not None:
            self._why = (
                f"killed, since the code did not stop within {self._settings.interrupt_grace:g} s"
            )
            self._process.signal(signal.SIGKILL)

    def answer(self, text: str) -> None:
        """Give the input that the code waits for."""
        if self._prompt is not None:
            number, self._prompt = self._prompt, None
            self._send({"type": "input", "number": number, "text": text})

    # ---- completion -----------------------------------------------------------------------------

    def complete(self, request_id: str, code: str, cursor: int, report: Report) -> None:
        """Ask the interpreter when it is idle; a busy one knows nothing."""
        from agent_kernel_runner.daemon.completion import Completion

        if self._run is not None or self._completion is not None or not self._idle():
            report.completed(request_id, [])
            return
        self._completion = Completion(self._loop, request_id, self._answered, self._overdue)
        self._send({"type": "complete", "code": code, "cursor": cursor})

    def _idle(self) -> bool:
        self._relaunch()
        return self._process is not None

    def _answered(self, request_id: str, matches: list[str]) -> None:
        self._completion = None
        self._report.completed(request_id, matches)
        self._submit()

    def _overdue(self, hopeless: bool) -> None:  # noqa: FBT001 - the one argument of a callback
        if self._process is not None:
            self._process.signal(signal.SIGKILL if hopeless else signal.SIGINT)

    # ---- what the interpreter says --------------------------------------------------------------

    def _received(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "completions" and self._completion is not None:
            self._completion.answer(message.get("matches"))
        elif self._run is None:
            return
        elif kind == "begun":
            self._begun = True
            if self._interrupted:
                self.interrupt()
        elif kind == "waiting":
            self._waits(message)
        elif kind == "done":
            self._done(message)

    def _waits(self, message: dict[str, Any]) -> None:
        number, prompt = message.get("number"), message.get("prompt")
        if isinstance(number, int) and isinstance(prompt, str):
            self._prompt = number
            self._report.waiting(prompt[:_MAX_PROMPT], password=message.get("password") is True)

    def _done(self, message: dict[str, Any]) -> None:
        code = message.get("exit_code")
        if self._prompt is not None:
            # A thread of the user still waits, and there is nobody left who could answer it.
            self._send({"type": "input", "number": self._prompt, "text": None})
        cause = INTERRUPTED if message.get("interrupted") is True else NORMAL
        self._end(code if isinstance(code, int) and abs(code) < 1 << 31 else 1, cause)


def _describe(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    try:
        return f"{signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


def _farewell(what: str) -> str:
    return f"[runner] {what}; its variables are lost, and a fresh one takes its place\n"

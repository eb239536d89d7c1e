"""Queries in a Jupyter kernel: each run is one request, and what the kernel says is passed on."""

from __future__ import annotations

import os

from agent_kernel_runner.daemon.completion import Completion
from agent_kernel_runner.daemon.executor import DIED, INTERRUPTED, NORMAL, Executor, exit_code
from agent_kernel_runner.daemon.journal import note
from agent_kernel_runner.jupyter.backlog import Backlog
from agent_kernel_runner.jupyter.completions import words
from agent_kernel_runner.jupyter.kernel import Kernel
from agent_kernel_runner.jupyter.kernelspecs import chosen, found
from agent_kernel_runner.jupyter.outputs import page, shown
from agent_kernel_runner.jupyter.replies import exit_code_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agent_kernel_runner.daemon.executor import Report, Run
    from agent_kernel_runner.daemon.loop import Loop, Timer
    from agent_kernel_runner.daemon.process import Processes
    from agent_kernel_runner.daemon.settings import Settings
    from agent_kernel_runner.jupyter.kernelspecs import KernelSpec
    from agent_kernel_runner.jupyter.messages import Message

NOT_STARTED = 127
"""The exit code of a run for which there is no kernel."""

_STRAGGLERS = 3.0  # seconds between the two signs of a run's end, which take different ways
_BEHIND = 0.02  # seconds that output may come after a question: they take different ways
_MAX_PROMPT = 8 << 10


class Jupyter(Executor):
    """Owns the kernel: starts it, runs code in it, replaces it when it is gone.

    Args:
        loop: The event loop.
        processes: Starts the kernel.
        settings: Says which kernel, and where its sockets may lie.
        room: Returns how many bytes of output may be passed on now.
        report: Is told of the current run.
    """

    def __init__(
        self,
        loop: Loop,
        processes: Processes,
        settings: Settings,
        room: Callable[[], int],
        report: Report,
    ) -> None:
        self._loop = loop
        self._processes = processes
        self._settings = settings
        self._report = report
        self._name = settings.runtime_type.partition(":")[2]
        self._backlog = Backlog(room, report)
        self._kernel: Kernel | None = None
        self._over_tcp = False
        self._lost = ""
        self._completion: Completion | None = None
        self._asked = self._code = ""
        self._cursor = 0
        self._clear(None)

    def _clear(self, run: Run | None) -> None:
        """Forget the last run."""
        self._run = run
        self._request = ""
        self._begun = self._idle = self._failed = self._interrupted = False
        self._reply: int | None = None
        self._question: dict[str, Any] | None = None
        self._timer: Timer | None = None

    def resume(self) -> None:
        """Pass on more output: there may be room now."""
        self._backlog.pump()

    # ---- the kernel -----------------------------------------------------------------------------

    def launch(self) -> None:
        """Start the kernel when there is none; it is ready some time later.

        Raises:
            OSError: when there is none in the image, or it cannot be started.
        """
        if self._kernel is not None:
            return
        events = {"shell": self._replied, "iopub": self._said, "stdin": self._asks}
        events["control"] = _ignored
        kernel = Kernel(self._loop, self._spec(), events, self._ready, self._ended)
        kernel.start(self._processes, self._settings, over_tcp=self._over_tcp)
        self._kernel = kernel

    def _spec(self) -> KernelSpec:
        specs = found(self._settings.runtime_path, os.environ)
        spec = chosen(specs, self._name)
        if spec is None:
            wanted = f"no Jupyter kernel {self._name!r}" if self._name else "no Jupyter kernel"
            names = ", ".join(sorted(spec.name for spec in specs)) or "none at all"
            raise OSError(f"the image has {wanted}; it has {names}")
        return spec

    def _ready(self) -> None:
        if self._run is not None:
            self._submit()

    def _ended(self, status: int, why: str) -> None:
        """Deal with the end of the kernel, whoever ended it."""
        kernel, self._kernel = self._kernel, None
        name = kernel.spec.name if kernel is not None else self._name
        what = f"the Jupyter kernel {name} ended ({why or _describe(status)})"
        self._fail_completion()
        if kernel is not None and not kernel.started:
            self._start_otherwise(what, by_itself=not why)
        elif self._run is None:
            self._lost = what
        else:
            self._report.say(_farewell(what))
            self._end(exit_code(status), DIED)
            self._relaunch()

    def _start_otherwise(self, what: str, *, by_itself: bool) -> None:
        """Start a kernel that never answered once more, over TCP: some know nothing else."""
        self._over_tcp = by_itself and not self._over_tcp
        if self._over_tcp:
            note(f"{what} before it answered over unix sockets; it is started over TCP")
            self._relaunch()
        if self._kernel is None and self._run is not None:
            self._report.say(f"[runner] {what} before it answered\n")
            self._end(NOT_STARTED, DIED)

    def _relaunch(self) -> None:
        try:
            self.launch()
        except OSError as exc:
            note(f"no fresh Jupyter kernel: {exc}")

    # ---- a run ----------------------------------------------------------------------------------

    def start(self, run: Run) -> None:
        """Run code in the kernel, as soon as it is ready."""
        self._clear(run)
        if self._lost:
            self._report.say(_farewell(self._lost))
            self._lost = ""
        try:
            self.launch()
        except OSError as exc:
            self._report.say(f"[runner] {exc}\n")
            self._end(NOT_STARTED, DIED)
            return
        if self._kernel is not None and self._kernel.ready:
            self._submit()

    def _submit(self) -> None:
        if self._kernel is None or self._run is None:
            return
        content = {
            "code": self._run.code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": True,
            "stop_on_error": False,
        }
        self._request = self._kernel.request("shell", "execute_request", content)

    def _end(self, code: int | None, cause: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._run is not None:
            self._clear(None)
            self._backlog.settle(lambda: self._report.ended(code, cause))

    def interrupt(self) -> None:
        """Interrupt the code; a run whose kernel is not ready yet ends at once."""
        self._interrupted = True
        if self._run is not None and not self._request:
            self._end(exit_code(-2), INTERRUPTED)
        # Before the code has begun nothing in the kernel would know what is meant.
        elif self._kernel is not None and self._begun and not self._idle:
            self._kernel.interrupt()

    def urge(self) -> None:
        """Interrupt again: kernels miss interrupts at the edges of a call."""
        self.interrupt()

    def kill(self) -> None:
        """Kill the kernel and its process group; a fresh one takes its place."""
        if self._run is None:
            self._backlog.drop()  # the code has ended, and nobody takes what it has said
        elif self._kernel is not None:
            grace = self._settings.interrupt_grace
            self._kernel.give_up(f"killed, since the code did not stop within {grace:g} s")

    def answer(self, text: str) -> None:
        """Give the input that the code waits for."""
        question, self._question = self._question, None
        if self._kernel is not None and question is not None:
            self._kernel.request("stdin", "input_reply", {"value": text}, question)

    # ---- what the kernel says -------------------------------------------------------------------

    def _said(self, message: Message) -> None:
        """Take a message of the channel of outputs."""
        if message.kind == "status":
            if message.parent == self._request and self._run is not None:
                self._became(message.content.get("execution_state"))
            return
        if message.kind == "error" and message.parent == self._request:
            self._failed = True
        output = shown(message.kind, message.content)
        if output is not None:
            self._backlog.add(output)

    def _became(self, state: object) -> None:
        if state == "busy":
            self._begun = True
            if self._interrupted:
                self.interrupt()
        elif state == "idle" and self._begun:
            self._idle = True
            self._await_rest()

    def _replied(self, message: Message) -> None:
        if self._completion is not None and message.parent == self._asked:
            matches = words(message.content, self._code, self._cursor)
            self._completion.answer(matches)
        elif message.parent == self._request and message.kind == "execute_reply" and self._run:
            self._reply = exit_code_of(message.content)
            for output in page(message.content):
                self._backlog.add(output)
            self._await_rest()

    def _await_rest(self) -> None:
        """End the run when it was answered, and all that it said has come; not every one does."""
        if self._idle and self._reply is not None:
            self._close()
        elif self._timer is None:
            self._timer = self._loop.call_later(_STRAGGLERS, self._close)

    def _close(self) -> None:
        code = self._reply if self._reply is not None else int(self._failed)
        stopped = self._interrupted and code != 0
        self._end(exit_code(-2) if stopped else code, INTERRUPTED if stopped else NORMAL)

    def _asks(self, message: Message) -> None:
        run, prompt = self._run, message.content.get("prompt")
        if message.kind != "input_request" or message.parent != self._request or run is None:
            return
        self._question = message.header
        text = prompt[:_MAX_PROMPT] if isinstance(prompt, str) else ""
        hidden = message.content.get("password") is True
        ask = lambda: self._report.waiting(text, password=hidden)  # noqa: E731
        self._loop.call_later(_BEHIND, lambda: self._ask_for(run, ask))

    def _ask_for(self, run: Run, ask: Callable[[], None]) -> None:
        if self._run is run:
            self._backlog.settle(ask)

    # ---- completion -----------------------------------------------------------------------------

    def complete(self, request_id: str, code: str, cursor: int, report: Report) -> None:
        """Ask the kernel when it is idle; a busy one knows nothing."""
        kernel = self._kernel
        if (
            self._run is not None
            or self._completion is not None
            or kernel is None
            or not kernel.ready
        ):
            report.completed(request_id, [])
        else:
            self._code, self._cursor = code, cursor
            self._completion = Completion(
                self._loop, request_id, self._answered, lambda _: self._fail_completion()
            )
            content = {"code": code, "cursor_pos": min(cursor, len(code))}
            self._asked = kernel.request("shell", "complete_request", content)

    def _fail_completion(self) -> None:
        if self._completion is not None:
            self._completion.fail()

    def _answered(self, request_id: str, matches: list[str]) -> None:
        self._completion = None
        self._report.completed(request_id, matches)


def _ignored(message: Message) -> None:
    """Take a reply that says nothing of interest."""


def _describe(status: int) -> str:
    return f"exit code {status}" if status >= 0 else f"signal {-status}"


def _farewell(what: str) -> str:
    return f"[runner] {what}; its variables are lost, and a fresh one takes its place\n"

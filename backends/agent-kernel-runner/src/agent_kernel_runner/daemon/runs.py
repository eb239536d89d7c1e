"""The runs of a kernel: one after the other, each answered for exactly once."""

from __future__ import annotations

from collections import OrderedDict, deque

from agent_kernel_runner.daemon.executor import BATCH, DIED, NORMAL, QUERY, Executor, Run
from agent_kernel_runner.daemon.history import History
from agent_kernel_runner.daemon.journal import note, record
from agent_kernel_runner.daemon.requests import BadRequest, parse_completion, parse_run
from agent_kernel_runner.daemon.results import is_run_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from agent_kernel_runner.daemon.capture import Capture
    from agent_kernel_runner.daemon.loop import Loop, Timer
    from agent_kernel_runner.daemon.outbox import Outbox
    from agent_kernel_runner.daemon.results import Results

    Ending = tuple[str, int | None]

FINISHED, INTERRUPTED, TIMEOUT = "finished", "interrupted", "exec-timeout"
CANCELLED, LOST = "cancelled", "lost"

QUEUE_LIMIT = 256
"""Runs that may wait; one more is cancelled."""

_REMEMBERED = 10_000  # ended runs whose repetition is recognised
_UNBOUNDED = 1 << 62


class Runs:
    """The queue, the current run, and what is remembered of those that ended.

    Args:
        loop: The event loop.
        outbox: Takes every message about a run.
        results: Keeps the ends of batches on disk.
        grace: Seconds between asking code to stop and killing it.
    """

    def __init__(self, loop: Loop, outbox: Outbox, results: Results, grace: float) -> None:
        self._loop = loop
        self._outbox = outbox
        self._results = results
        self._grace = grace
        self._queue: deque[Run] = deque()
        self._current: Run | None = None
        self._clearing = False
        self._on_hold = False
        self._ending = False
        self._stopping = ""
        self._timers: list[Timer] = []
        self._ended: OrderedDict[str, Ending] = OrderedDict()
        self._unacked = set(results.ids())
        self._history = History()
        outbox.on_acked = self._acked

    def serve(
        self,
        capture: Capture,
        executors: Mapping[str, Executor],
        others: Mapping[str, Callable[[dict[str, Any]], None]],
    ) -> None:
        """Begin: tell again of the results on disk, and take runs.

        Args:
            capture: Where their output comes from.
            executors: For each mode, what runs its code.
            others: For each type of message that is not about runs, what handles it.
        """
        self._capture = capture
        self._others = others
        self._executors = executors
        for run_id in sorted(self._unacked):
            ending = self._results.load(run_id)
            if ending is None:
                self._unacked.discard(run_id)
            else:
                self._tell(run_id, ending)

    def hold(self) -> None:
        """Let runs wait until `release` is called."""
        self._on_hold = True

    def release(self) -> None:
        """Begin with what waits."""
        self._on_hold = False
        self._advance()

    def unacknowledged(self) -> list[str]:
        """List the runs of whose end the agent does not know yet."""
        running = [run.run_id for run in (self._current, *self._queue) if run is not None]
        return sorted({*running, *self._unacked})

    # ---- what the agent asks --------------------------------------------------------------------

    def handle(self, message: dict[str, Any]) -> None:
        """Do what the agent asks; what is unknown or malformed is noted and ignored."""
        handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "execute": self._execute,
            "input": self._input,
            "interrupt": self._interrupt,
            "complete": self._complete,
            "cancel": self._cancel,
            "history": self._tell_history,
        }
        handler = handlers.get(message["type"], self._others.get(message["type"]))
        if handler is None:
            note(f"a message of the unknown type {message['type'][:64]!r} was ignored")
            return
        try:
            handler(message)
        except BadRequest as exc:
            note(f"a message {message['type']} was malformed: {exc}")
            if message["type"] == "execute":
                self._refuse(message.get("run_id"), f"the request is malformed: {exc}")

    def _execute(self, message: dict[str, Any]) -> None:
        run = parse_run(message)
        if run.run_id in self._ended:
            if run.run_id not in self._unacked:
                self._tell(run.run_id, self._ended[run.run_id])
        elif run.run_id in self.unacknowledged():
            return
        elif run.mode not in self._executors:
            self._refuse(run.run_id, f"there is no mode {run.mode!r}")
        elif len(self._queue) >= QUEUE_LIMIT:
            self._refuse(run.run_id, f"{QUEUE_LIMIT} runs are waiting already")
        else:
            self._queue.append(run)
            self._history.accepted(run)
            self._advance()

    def _refuse(self, run_id: object, reason: str) -> None:
        """Answer for what cannot be run, so that nobody waits for it."""
        if isinstance(run_id, str) and is_run_id(run_id) and run_id not in self.unacknowledged():
            self._outbox.add_output(run_id, "stderr", f"[runner] not run: {reason}\n")
            self._tell(run_id, (CANCELLED, None))

    def _input(self, message: dict[str, Any]) -> None:
        text = message.get("text")
        if self._is_current(message) and isinstance(text, str):
            self._executor().answer(text)

    def _interrupt(self, message: dict[str, Any]) -> None:
        if self._is_current(message):
            self._stop(INTERRUPTED)
        else:
            self._withdraw(message, INTERRUPTED)

    def _cancel(self, message: dict[str, Any]) -> None:
        self._withdraw(message, CANCELLED)

    def _withdraw(self, message: dict[str, Any], status: str) -> None:
        for run in self._queue:
            if run.run_id == message.get("run_id"):
                self._queue.remove(run)
                self._settle(run, (status, None))
                return

    def _complete(self, message: dict[str, Any]) -> None:
        request_id, code, cursor = parse_completion(message)
        self._executors[QUERY].complete(request_id, code, cursor, self)

    def _tell_history(self, message: dict[str, Any]) -> None:
        self._outbox.add("history", run_id=str(message.get("run_id")), runs=self._history.rows())

    def _is_current(self, message: dict[str, Any]) -> bool:
        return self._current is not None and message.get("run_id") == self._current.run_id

    # ---- the current run ------------------------------------------------------------------------

    def _executor(self) -> Executor:
        mode = self._current.mode if self._current is not None else QUERY
        return self._executors[mode]

    def _advance(self) -> None:
        if self._current is None and self._queue and not (self._clearing or self._on_hold):
            self._clearing = True
            self._loop.call_later(0, self._clear)

    def _clear(self) -> None:
        """Leave what was written between the runs to the kernel's log: it belongs to none."""
        self._capture.settle(self._start)

    def _start(self) -> None:
        self._clearing = self._ending = False
        self._stopping = ""
        if not self._queue:
            return
        run = self._current = self._queue.popleft()
        self._capture.prepare()
        self._history.began(run)
        self._outbox.add("started", run_id=run.run_id)
        if run.timeout is not None:
            self._timers.append(self._loop.call_later(run.timeout, lambda: self._stop(TIMEOUT)))
        self._executor().start(run)

    def _stop(self, status: str) -> None:
        if self._current is None or self._ending or self._stopping == TIMEOUT:
            return
        if not self._stopping:
            self._timers.append(self._loop.call_later(self._grace / 2, self._urge))
            self._timers.append(self._loop.call_later(self._grace, self._kill))
        self._stopping = status
        self._executor().interrupt()

    def _urge(self) -> None:
        if self._current is not None and not self._ending:
            self._executor().urge()

    def _kill(self) -> None:
        if self._current is not None and not self._ending:
            self._executor().kill()

    def _ending_of(self, exit_code: int | None, cause: str) -> Ending:
        if self._stopping == TIMEOUT:
            return TIMEOUT, exit_code
        if self._stopping and cause != NORMAL:
            return INTERRUPTED, exit_code
        return (LOST if cause == DIED else FINISHED), exit_code

    def _finish(self, run: Run, ending: Ending) -> None:
        self._capture.finish()
        self._current = None
        self._settle(run, ending)
        self._advance()

    def _settle(self, run: Run, ending: Ending) -> None:
        self._history.ended(run, *ending)
        if run.mode == BATCH:
            self._results.save(run.run_id, *ending)
        self._tell(run.run_id, ending)

    def _tell(self, run_id: str, ending: Ending) -> None:
        self._unacked.add(run_id)
        self._ended[run_id] = ending
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)
        self._outbox.add("finished", run_id=run_id, status=ending[0], exit_code=ending[1])

    def _acked(self, fields: dict[str, Any]) -> None:
        if fields["type"] == "finished":
            self._unacked.discard(fields["run_id"])
            self._results.discard(fields["run_id"])

    # ---- what the pipes and the executors say ---------------------------------------------------

    def room(self) -> int:
        """Return how much output may be read now; between runs only the log has it, unbounded."""
        return self._outbox.room() if self._current is not None else _UNBOUNDED

    def write(self, stream: str, text: str) -> None:
        """Take output for the current run; the kernel's log has a copy of all, as far as it can."""
        record(1 if stream == "stdout" else 2, text.encode("utf-8", "replace"))
        if self._current is not None:
            self._outbox.add_output(self._current.run_id, stream, text)

    def rich(self, mime: str, data: str, alt: str) -> None:
        """Take an output that is no text; the kernel's log only says that there was one."""
        record(1, f"{alt}\n[{mime}, {len(data)} bytes]\n".encode("utf-8", "replace"))
        if self._current is not None:
            self._outbox.add_rich(self._current.run_id, mime, data, alt)

    def truncated(self, size: int) -> None:
        """Tell that output was dropped before it came here."""
        if self._current is not None:
            self._outbox.add("truncated", run_id=self._current.run_id, bytes=size)

    def say(self, text: str) -> None:
        """Tell the user of the current run something, after all that the code has written."""
        run = self._current
        if run is not None:
            self._capture.settle(lambda: self._outbox.add_output(run.run_id, "stderr", text))

    def step(self, step: str, exit_code: int) -> None:
        """Tell that a step of a batch has ended."""
        if self._current is not None:
            run_id = self._current.run_id
            self._outbox.add("step-finished", run_id=run_id, step=step, exit_code=exit_code)

    def waiting(self, prompt: str, *, password: bool) -> None:
        """Tell that the code waits for input, after all that it has written."""
        run = self._current
        if run is not None and not self._ending:
            self._capture.settle(lambda: self._prompt(run, prompt, password))

    def _prompt(self, run: Run, prompt: str, password: bool) -> None:  # noqa: FBT001 - of the message
        self._outbox.add("waiting-input", run_id=run.run_id, prompt=prompt, password=password)

    def ended(self, exit_code: int | None, cause: str) -> None:
        """End the current run, after all that its code has written."""
        run, self._ending = self._current, True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if run is not None:
            ending = self._ending_of(exit_code, cause)
            self._capture.settle(lambda: self._finish(run, ending))

    def completed(self, request_id: str, matches: Sequence[str]) -> None:
        """Answer a completion."""
        self._outbox.add("completions", run_id=request_id, matches=list(matches))

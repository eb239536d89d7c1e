"""Batches: shell commands in the working directory, one after the other: clean, build, exec."""

from __future__ import annotations

import os
import signal

from agent_kernel_runner.daemon.executor import INTERRUPTED, NORMAL, Executor, exit_code
from agent_kernel_runner.daemon.process import shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_kernel_runner.daemon.capture import Capture
    from agent_kernel_runner.daemon.executor import Report, Run
    from agent_kernel_runner.daemon.process import Process, Processes
    from agent_kernel_runner.daemon.settings import Settings

CLEAN, BUILD, EXEC = "clean", "build", "exec"
GUESS = "*"
SKIPPED = 127
"""The exit code of a batch whose exec was skipped, since its build failed."""


class Batch(Executor):
    """Runs batches.

    Args:
        processes: Starts the commands.
        capture: Is settled between two steps, so that each step's end follows its output.
        settings: Says where, and which interpreter a guessed command uses.
        report: Is told of the current run.
    """

    def __init__(
        self, processes: Processes, capture: Capture, settings: Settings, report: Report
    ) -> None:
        self._processes = processes
        self._capture = capture
        self._settings = settings
        self._report = report
        self._shell = shell()
        self._steps: list[tuple[str, str]] = []
        self._process: Process | None = None
        self._stopped = False

    def start(self, run: Run) -> None:
        """Run the steps that the options name."""
        self._stopped = False
        self._steps = plan(run.code, run.options)
        self._advance()

    def _advance(self) -> None:
        while self._steps:
            step, command = self._steps.pop(0)
            if command == GUESS:
                command = guess(step, self._settings)
            if command:
                self._spawn(step, command)
                return
        self._report.ended(0, NORMAL)

    def _spawn(self, step: str, command: str) -> None:
        env = {"PYTHONUNBUFFERED": "1", **os.environ}
        try:
            self._process = self._processes.spawn(
                [self._shell, "-c", command], env, lambda status: self._exited(step, status)
            )
        except OSError as exc:
            self._report.say(f"[runner] cannot start {self._shell}: {exc}\n")
            self._report.ended(SKIPPED, NORMAL)

    def _exited(self, step: str, status: int) -> None:
        self._process = None
        self._capture.settle(lambda: self._stepped(step, exit_code(status)))

    def _stepped(self, step: str, code: int) -> None:
        if step != EXEC:
            self._report.step(step, code)
        if self._stopped:
            cut = code != 0 or bool(self._steps)
            self._report.ended(code, INTERRUPTED if cut else NORMAL)
        elif step == EXEC:
            self._report.ended(code, NORMAL)
        elif step == BUILD and code:
            self._report.ended(SKIPPED if self._steps else code, NORMAL)
        else:
            self._advance()

    def interrupt(self) -> None:
        """Interrupt the present command; no further step follows."""
        self._signal(signal.SIGINT)

    def urge(self) -> None:
        """Terminate: a shell that is just starting a program can miss an interrupt."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the present command's process group; no further step follows."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        self._stopped = True
        if self._process is not None:
            self._process.ends_group = True
            self._process.signal(number)


def plan(code: str, options: Mapping[str, str]) -> list[tuple[str, str]]:
    """List the steps and their commands; without options the code is the exec command."""
    wanted = options or {EXEC: code}
    steps = [(step, wanted.get(step, "")) for step in (CLEAN, BUILD, EXEC)]
    return [(step, command) for step, command in steps if command.strip()]


def guess(step: str, settings: Settings) -> str:
    """Guess a step's command from what lies in the working directory; empty where nothing does."""
    if step == EXEC:
        return _guess_exec(settings)
    if not any(_exists(settings, name) for name in ("Makefile", "makefile", "GNUmakefile")):
        return ""
    return "make clean" if step == CLEAN else "make"


def _guess_exec(settings: Settings) -> str:
    from shlex import quote

    if _exists(settings, "main.py"):
        python = settings.runtime_type == "python"
        return f"{quote(settings.runtime_path) if python else 'python3'} main.py"
    if _exists(settings, "main.sh"):
        return "sh main.sh"
    if _exists(settings, "main"):
        return "./main"
    return "echo 'nothing to run: there is no main.py, main.sh or main' >&2; exit 127"


def _exists(settings: Settings, name: str) -> bool:
    return os.path.exists(f"{settings.work_dir}/{name}")

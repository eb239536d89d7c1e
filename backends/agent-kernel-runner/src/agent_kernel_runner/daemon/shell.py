"""Queries of shell images: one shell for each run, which begins with the state of the last one.

A shell that lived from run to run would end with every ``exit`` and every interrupt. So each run
has a fresh one that takes over directory, variables, functions, aliases and options, and hands
them on however it ends, short of being killed. Job control does not pass from run to run.
"""

from __future__ import annotations

import os
import shutil
import signal

from agent_kernel_runner.daemon.executor import DIED, INTERRUPTED, NORMAL, Executor, exit_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent_kernel_runner.daemon.executor import Report, Run
    from agent_kernel_runner.daemon.process import Process, Processes
    from agent_kernel_runner.daemon.settings import Settings

_SCRIPTS = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/interpreters"
_COMMAND = '. "$1"; eval "$__agent_code"'
_END = b"# end of state\n"
_LONGEST = 96 << 10  # bytes of one argument; Linux takes 128 KiB


class Shell(Executor):
    """Runs queries in the image's shell.

    Args:
        processes: Starts it.
        settings: Says which shell, and where state may be kept.
        report: Is told of the current run.
    """

    def __init__(self, processes: Processes, settings: Settings, report: Report) -> None:
        self._processes = processes
        self._shell = settings.runtime_path
        self._dir = f"{settings.state_dir}/shell"
        self._report = report
        self._process: Process | None = None
        self._interrupted = False
        # A shell's variables are those of one life of the runner, as an interpreter's are.
        shutil.rmtree(self._dir, ignore_errors=True)

    def _dialect(self) -> str:
        name = os.path.basename(os.path.realpath(self._shell))
        return "state.bash" if name.startswith("bash") else "state.sh"

    def start(self, run: Run) -> None:
        """Run code with the state that the last run left."""
        self._interrupted = False
        state = f"{self._dir}/state"
        try:
            os.makedirs(self._dir, mode=0o700, exist_ok=True)
            code = self._as_arguments(run.code)
            # The state holds the whole environment, and what it lacks was unset.
            env = {} if os.path.exists(state) else {"PYTHONUNBUFFERED": "1", **os.environ}
            argv = [self._shell, "-c", _COMMAND, os.path.basename(self._shell)]
            argv += [f"{_SCRIPTS}/{self._dialect()}", state, *code]
            self._process = self._processes.spawn(argv, env, self._exited)
        except OSError as exc:
            self._report.say(f"[runner] cannot start {self._shell}: {exc}\n")
            self._report.ended(127, DIED)

    def _as_arguments(self, code: str) -> list[str]:
        """Hand the code over as an argument, or in a file where no argument is that long."""
        data = code.encode("utf-8", "replace")
        if len(data) < _LONGEST and b"\0" not in data:
            return [data.decode(), ""]
        path = f"{self._dir}/code"
        with open(path, "wb") as file:
            file.write(data)
        return ["", path]

    def interrupt(self) -> None:
        """Interrupt the shell and the programs that it waits for."""
        if self._process is not None:
            self._interrupted = True
            self._process.signal(signal.SIGINT)

    def urge(self) -> None:
        """Terminate: a shell that is just starting a program can miss an interrupt."""
        if self._process is not None:
            self._process.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the shell and its process group."""
        if self._process is not None:
            self._process.ends_group = True
            self._process.signal(signal.SIGKILL)

    def _exited(self, status: int) -> None:
        self._process = None
        self._keep_state()
        if self._interrupted and status != 0:
            cause = INTERRUPTED
        elif status < 0:
            cause = DIED
            self._report.say(f"[runner] the shell was killed by signal {-status}\n")
        else:
            cause = NORMAL
        self._report.ended(exit_code(status), cause)

    def _keep_state(self) -> None:
        """Take over what the shell wrote at its end, if it came to writing all of it."""
        new = f"{self._dir}/state.new"
        try:
            with open(new, "rb") as file:
                whole = file.read().endswith(_END)
            if whole:
                self._keep_directory(new)
                os.replace(new, f"{self._dir}/state")
        except OSError:
            return

    def _keep_directory(self, state: str) -> None:
        """Let the next shell begin where this one was, where the dialect has not said so itself."""
        try:
            with open(f"{self._dir}/state.dir", "rb") as file:
                place = file.read().removesuffix(b"\n")
        except FileNotFoundError:
            return
        quoted = place.replace(b"'", b"'\\''")
        with open(state, "ab") as file:
            file.write(b"cd -- '" + quoted + b"'\n")

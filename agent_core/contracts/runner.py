"""Running code in a kernel: the messages between the agent and its runner, and who brings one.

**Transport.** The agent listens on a unix socket in a directory that the kernel sees; the runner
connects, and connects again whenever the connection is lost, so that an agent's restart loses
nothing. A frame is a 4-byte big-endian length and that many bytes of JSON (UTF-8), an object with
the key ``type``. No frame is longer than `MAX_FRAME`.

**Opening.** Both sides first send ``hello``. The runner's: ``{type, protocol, kernel_id,
incarnation, pid, runs: [unfinished run ids]}``. The agent's: ``{type, protocol, acked}``, the
highest number that it has safely received; the runner sends everything above that again, in order.

**Numbers.** Every message of the runner but ``hello`` carries ``seq``, counting from 1. The agent
acknowledges with ``ack {seq}``. What is not acknowledged the runner keeps, output up to
`OUTPUT_BOUND` bytes: beyond that it drops the run's output and says how much in ``truncated``.

**Credit.** The runner sends at most as many bytes of output as the agent has given in ``credit
{bytes}`` since the connection's hello; what user code writes beyond that waits in its pipe.

agent to runner: ``hello``, ``ack``, ``credit``, ``execute {run_id, mode, code, options, timeout}``,
``input {run_id, text}``, ``interrupt {run_id}``, ``complete {run_id, code, cursor}``, ``cancel
{run_id}`` (drop a queued run), ``start-service {run_id, name, protocol, host, ports, options,
timeout}``, ``shutdown-service {run_id, name}``, ``services {run_id}``, ``start-model {run_id, name,
host, port, service, anew}``, ``stop-model {run_id, name}``, ``history {run_id}``.

runner to agent: ``hello``; ``started {run_id}``, ``output {run_id, stream, text}`` (stream: stdout
or stderr), ``media {run_id, mime, data, alt, more}``, ``html {run_id, text, alt, more}``,
``truncated {run_id, bytes}``, ``waiting-input {run_id, prompt, password}``,
``step-finished {run_id, step, exit_code}`` (batch: clean, build), ``completions {run_id,
matches}``, ``service-state {run_id, name, state, exit_code}`` with ``error, message, log`` when it
was refused, ``services {run_id, services: [{name, state, exit_code}]}``, ``model-state {run_id,
name, status, message, restarts, exit_code}`` with a `ModelStatus`, ``history
{run_id, runs: [{run_id, mode, code, started_at, ended_at, status, exit_code}]}``, and last
``finished {run_id, status, exit_code}`` with a `RunStatus`.

Whatever comes from a runner is hostile input: the user's code runs beside it.

In detail:

- A frame's length counts the JSON alone and is at most `MAX_FRAME`. What is no frame, or no object
  with a ``type``, ends the connection; unknown types and keys are ignored by both sides.
- Messages are flat, and a long one is long by its text: a frame of more than 64 KiB has at most 16
  lists and objects and 20,000 commas. What comes beside output the agent reads at 1 MiB a second,
  after 4 MiB that may come at once; what its callers have not read holds up what follows.
- The runner's hello comes first and has a ``stream``, a random name of this runner process.
  Nothing of it was acknowledged before its first connection, so an ``acked`` in the first hello
  that it gets belongs to an earlier process of the kernel, and its own numbers go on after that.
- ``runs`` names every run that waits, runs, or has a ``finished`` that is not acknowledged. A run
  that is missing there after a reconnect was never received (execute it again: the runner runs no
  run_id twice) or, when the ``stream`` is another one, was lost with the runner.
- Executing a run again whose ``finished`` is acknowledged repeats that ``finished`` only.
- ``ack`` covers everything up to ``seq``. An agent that is connected must go on acknowledging:
  the runner stops reading output when `OUTPUT_BOUND` bytes are unacknowledged.
- Bytes of output, in ``credit`` and ``truncated``, are those of ``text`` in UTF-8. Only ``output``
  costs credit, but order is kept: what follows a waiting output waits with it. An output message
  holds at most `OUTPUT_CHUNK` bytes and is sent when the credit covers it whole, so an agent lets
  at least that much be on the way. Credit spent is given again as the output is passed on.
- ``media`` and ``html`` are output that is no plain text, such as a figure: they cost credit and
  are kept as output is, their ``data``, ``text`` and ``alt`` in UTF-8. A long one comes in pieces
  one after the other, of at most `OUTPUT_CHUNK` bytes, ``more`` being true in all but the last.
  ``data`` of a type whose form is binary is in base64. ``alt``, in the first piece, is text in its
  place for whoever cannot show it.
- While the agent is away output is kept up to `OUTPUT_BOUND`, then counted as truncated; while it
  is connected nothing is dropped and the code waits.
- Runs go one after the other in the order received. ``timeout`` is seconds from ``started``, None
  for none. ``run_id`` is 1 to 64 of the characters A-Z a-z 0-9 . _ - and names one run for ever.
- An interrupt of the current run is a SIGINT to its processes, then SIGKILL after a grace; of a
  waiting run it is its end. ``interrupted`` and ``exec-timeout`` carry the exit code that the code
  came to; code that survives an interrupt and ends by itself is ``finished``.
- ``exit_code`` is 128 + signal when a signal ended the code, 1 after an exception, None when there
  is none to tell (the run never started, or the runner died).
- ``options`` of a batch: ``clean``, ``build``, ``exec``, each a shell command, ``*`` to guess it
  from the files there, empty or absent to skip it; without options the ``code`` is the exec
  command. After a failed build exec is skipped and the exit code is 127.
- ``complete`` has a ``run_id`` of its own that only names the request. ``cursor`` counts
  characters. ``completions`` is empty when the interpreter is busy; each match replaces the dotted
  word before the cursor.
- The messages about services have a ``run_id`` of their own too, which only names the request; one
  that is sent again, after a connection was lost, does no more than the first.
- ``start-service`` says where the service has to listen: ``ports`` of ``host``, as the kernel's
  processes see them. It is answered once somebody answers at the first port (with HTTP where
  that is the ``protocol``), or after ``timeout`` seconds, when what was started is ended first.
  Of a service that runs it says so; one that is just starting is waited for. A ``preopen`` service
  is started by the image itself and only waited for.
- A service is a process group of its own; ``shutdown-service`` ends all of it: SIGTERM, and after
  a grace SIGKILL. It succeeds when the service does not run.
- ``history`` has at most the last 64 runs, in the order in which they were asked for; a run that
  waits has not started, and one without a ``status`` has not ended. ``code`` is the beginning of
  it, at most 60 characters; times are seconds since the epoch by the kernel's clock.
- The ``state`` of a service is stopped, starting, running or ending; ``exit_code`` is that of one
  that ended by itself. ``services`` has those that were ever asked for. ``error`` is one of
  not-found (nothing says how it is started), bad-definition, invalid (an option), conflict (its
  port is taken, or it is being ended), failed (it ended, or could not be started), not-ready (it
  did not answer in time) and unsupported; ``log`` has at most the last 2 KiB of what it said.
- ``start-model`` has what serves it in ``service``: the fields of `ModelService` that a definition
  has there, ``model_path``, and ``health_check`` whole. It is answered at once with how the model
  is, and starts one that was never started or, when it is to be ``anew``, one that has failed or
  was stopped. The agent asks it of every model each time that a runner connects.
- ``model-state`` comes, with the ``run_id`` of what was asked last, whenever something of it
  changes. A change while the agent is away is not kept: the next ``start-model`` tells what is,
  and what bears the ``run_id`` of an earlier one is of the past.
- ``stop-model`` ends a model as a service is ended; once nothing of it runs its state tells.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from agent_core.contracts.edits import Mount
from agent_core.contracts.errors import Unsupported
from agent_core.contracts.info import Plugin
from agent_core.contracts.models import ModelService, ModelState, ModelStatus

MAX_FRAME: Final = 1 << 20
"""Bytes of the longest frame."""

OUTPUT_BOUND: Final = 4 << 20
"""Bytes of unacknowledged output that a runner keeps."""

OUTPUT_CHUNK: Final = 32 << 10
"""Bytes of the text of the longest output message."""

SOCKET_NAME: Final = "runner.sock"
"""The socket's name in the run directory."""


class RunMode(StrEnum):
    """How code is run."""

    QUERY = "query"
    """In the kernel's persistent namespace."""
    BATCH = "batch"
    """As shell commands: clean, build, exec."""


class RunStatus(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    """It ran to its end; the exit code says how well."""
    INTERRUPTED = "interrupted"
    TIMEOUT = "exec-timeout"
    CANCELLED = "cancelled"
    LOST = "lost"
    """The interpreter or the runner died under it."""


@dataclass(frozen=True, slots=True)
class LaunchContext:
    """What a runner needs to know to be started in a kernel.

    Attributes:
        kernel_id: The kernel.
        incarnation: How often it has been (re)created.
        run_dir: The directory with the socket, as the kernel sees it.
        work_dir: The user's working directory, as the kernel sees it.
        state_dir: A directory of the kernel for results that must survive, as the kernel sees it.
        runtime_type: Of the image's labels, such as ``python`` or ``shell``.
        runtime_path: The image's interpreter, as the kernel sees it.
        runner_dir: Where the kernel sees what `KernelRunner.bundle` made; empty where it sees the
            host's own files.
        bootstrap: A script of the user's, as the kernel sees it, that is run to its end before any
            run or service; empty for none.
        debug: Whether the runner notes in the kernel's log what it hears and says.
    """

    kernel_id: str
    incarnation: int
    run_dir: str
    work_dir: str
    state_dir: str
    runtime_type: str
    runtime_path: str
    runner_dir: str = ""
    bootstrap: str = ""
    debug: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start the runner: command line, environment, and what it needs mounted."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()


class KernelRunner(Plugin):
    """A plugin that brings the runner's side of the protocol into a kernel."""

    @abstractmethod
    def launch(self, context: LaunchContext) -> Launch:
        """Say how to start the runner in a kernel: pure, without any side effect."""
        raise NotImplementedError

    def bundle(self, directory: str, *, anew: bool = False) -> str:
        """Make what kernels have mounted that see none of this host's files; return where it is.

        Called in a thread before the first `launch` with a ``runner_dir``, and idempotent: what is
        there and whole is taken as it is. It is made beside its place, so that one which was cut
        short is never taken for a whole one.

        Args:
            directory: Where it may keep such things; the same at each call.
            anew: Whether it is made again in any case.

        Raises:
            Unsupported: when this runner starts in such kernels with nothing of its own, or not at
                all; the default.
        """
        raise Unsupported(f"runner {self.info.name!r} does not start where no host's file is seen")

    def forget_bundles(self, directory: str) -> None:
        """Remove what `bundle` made earlier, but for what it returns now.

        Called in a thread, and only while no container of this agent exists that may use it.
        """

    def bundle_faults(self, directory: str, *, thorough: bool = False) -> Sequence[str]:
        """Say what is wrong with what `bundle` made; thoroughly to its last byte.

        An empty list means that all is well, or that there is nothing of the kind.
        """
        return ()


@dataclass(frozen=True, slots=True)
class Run:
    """Code to run: `options` and `timeout` mean what they do in ``execute`` above."""

    run_id: str
    mode: RunMode
    code: str
    options: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One service of a kernel: its ports as the kernel sees them, and whether it was started.

    `exit_code` is that of one that was started and has ended by itself; `model` is how it is when
    it is a model service.
    """

    name: str
    protocol: str
    ports: tuple[int, ...]
    running: bool = False
    exit_code: int | None = None
    model: ModelState | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What is remembered of one run.

    Attributes:
        run_id: The run.
        mode: A `RunMode`.
        code: How its code begins.
        started_at: Seconds since the epoch, by the kernel's clock; None while it waits.
        ended_at: The same, of its end.
        status: How it ended; None before that.
        exit_code: Of its code, where there is one to tell.
    """

    run_id: str
    mode: str
    code: str
    started_at: float | None = None
    ended_at: float | None = None
    status: RunStatus | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class RunnerContext:
    """The kernel that a code runner is made for, in one of its incarnations.

    Attributes:
        kernel_id: The kernel.
        incarnation: How often it has been (re)created.
        container: The name of its container.
        services: What it publishes.
    """

    kernel_id: str
    incarnation: int
    container: str
    services: tuple[ServiceState, ...] = ()


class CodeRunner(ABC):
    """Runs code in one incarnation of one kernel, for a backend that brings its own runner.

    Other backends' kernels have the core's client of the protocol above. An instance does nothing
    before `open`; after a restart of the agent another one is made and opened for the kernel that
    still runs.
    """

    @abstractmethod
    async def open(self) -> None:
        """Get ready; the kernel counts as running once this has returned.

        Raises:
            RunnerUnavailable: when the kernel's side does not answer.
        """
        raise NotImplementedError

    @abstractmethod
    async def close(self) -> None:
        """Give back what `open` took; the kernel goes on. Closing twice does nothing."""
        raise NotImplementedError

    @abstractmethod
    def execute(self, run: Run) -> AsyncIterator[Mapping[str, Any]]:
        """Run code, yielding messages as a runner sends them, ``finished`` last.

        ``run_id`` and ``seq`` may be left out. Abandoning the iterator interrupts the run.
        """
        raise NotImplementedError

    @abstractmethod
    async def send_input(self, run_id: str, text: str) -> None:
        """Answer a run that waits for input."""
        raise NotImplementedError

    @abstractmethod
    async def interrupt(self, run_id: str | None) -> None:
        """Interrupt a run, by default the one under way."""
        raise NotImplementedError

    @abstractmethod
    async def complete(self, code: str, cursor: int) -> Sequence[str]:
        """List completions at a position of a text, best first."""
        raise NotImplementedError

    async def history(self) -> Sequence[RunRecord]:
        """List the last runs in the order in which they were asked for; the default is none."""
        return ()

    async def services(self) -> Sequence[ServiceState]:
        """List the kernel's services; the default is none."""
        return ()

    async def start_service(self, name: str, options: Mapping[str, str]) -> ServiceState:
        """Start a service, or say how it is when it runs; the default is that it cannot.

        Raises:
            NotFound: when the kernel has no such service.
            ServiceFailed: when it ends, or does not answer in time; nothing of it runs.
        """
        raise Unsupported(f"this runner cannot start services, such as {name!r}")

    async def start_model(self, model: ModelService) -> ModelState:
        """Start a model service and keep it running; the default is that it fails.

        A model is a service too: `start_service` starts it anew, `shutdown_service` ends it.
        """
        return ModelState(model.name, ModelStatus.FAILED, "this runner serves no models")

    async def shutdown_service(self, name: str) -> None:
        """End a service; succeeds when it does not run. The default is that it cannot."""
        raise Unsupported(f"this runner cannot end services, such as {name!r}")

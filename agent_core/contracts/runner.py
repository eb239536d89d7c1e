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
{run_id}`` (drop a queued run).

runner to agent: ``hello``; ``started {run_id}``, ``output {run_id, stream, text}`` (stream: stdout
or stderr), ``truncated {run_id, bytes}``, ``waiting-input {run_id, prompt, password}``,
``step-finished {run_id, step, exit_code}`` (batch: clean, build), ``completions {run_id,
matches}``, and last ``finished {run_id, status, exit_code}`` with a `RunStatus`.

Whatever comes from a runner is hostile input: the user's code runs beside it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from agent_core.contracts.edits import Mount
from agent_core.contracts.info import Plugin

MAX_FRAME: Final = 1 << 20
"""Bytes of the longest frame."""

OUTPUT_BOUND: Final = 4 << 20
"""Bytes of unacknowledged output that a runner keeps."""

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
        runtime_type: Of the image's labels: ``python`` or ``shell``.
        runtime_path: The image's interpreter, as the kernel sees it.
    """

    kernel_id: str
    incarnation: int
    run_dir: str
    work_dir: str
    state_dir: str
    runtime_type: str
    runtime_path: str


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

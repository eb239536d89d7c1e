"""Batch sessions: a kernel's startup command is run once, and the kernel ends with it.

The command is a run like any other, under an id that no caller can use. Its runner runs no id
twice and keeps the end of a batch until somebody has it, so an agent that comes back asks for the
very same run and goes on waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import structlog

from agent_core.contracts.backend import ExitStatus
from agent_core.contracts.errors import AgentError, InvalidArgument, KernelFailed, RunnerUnavailable
from agent_core.contracts.runner import RunMode, RunStatus
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.intents import Ending
from agent_core.kernels.runner.execution import Execution
from agent_core.kernels.spec import KernelSpec
from agent_core.kernels.states import Reason
from agent_core.wire.models import RunResult
from agent_core.wire.params import ExecuteCode

log = structlog.get_logger(__name__)

RUN_ID: Final = "batch-job"
"""How the ids of these runs begin, one for each incarnation."""

_REASONS: Final = {
    RunStatus.INTERRUPTED: Reason.TASK_CANCELLED,
    RunStatus.CANCELLED: Reason.TASK_CANCELLED,
    RunStatus.TIMEOUT: Reason.TASK_TIMEOUT,
    RunStatus.LOST: Reason.TASK_FAILED,
}


def refuse_own(run_id: str) -> None:
    """Refuse a caller's run under an id of these.

    Raises:
        InvalidArgument: when it is one.
    """
    if run_id == RUN_ID or run_id.startswith(f"{RUN_ID}."):
        raise InvalidArgument(
            f"run_id: {run_id!r} is of the agent's own, for startup commands",
            hint="Give the run another id.",
        )


@asynccontextmanager
async def startup_of(
    build: Assembly,
    together: Callable[[], Awaitable[None]],
    post: Callable[[Ending], None],
    pauses: Iterator[float],
) -> AsyncIterator[None]:
    """Run a kernel's startup command, where it has one, for as long as the context is open.

    It is left running at the end: what becomes of it is its container's end.

    Args:
        build: The incarnation, which runs.
        together: Waits for what the command may need of its session.
        post: Is told how the kernel ends.
        pauses: The seconds before each time that an absent runner is asked again.
    """
    runs = build.runs
    if not build.spec.startup.command or runs is None:
        yield
        return
    job = asyncio.get_running_loop().create_task(_follow(build, runs, together, post, pauses))
    try:
        yield
    finally:
        runs.detach()
        job.cancel()
        await asyncio.wait({job})


async def _follow(
    build: Assembly,
    runs: Execution,
    together: Callable[[], Awaitable[None]],
    post: Callable[[Ending], None],
    pauses: Iterator[float],
) -> None:
    """Run the command to its end, whoever is away meanwhile, and ask for the end of the kernel."""
    await together()
    params = _run_of(build.spec, build.incarnation)
    while True:
        try:
            post(ending_of(await _result(runs, params), build.spec))
        except KernelFailed:
            return
        except AgentError as exc:
            # It may be back at any time, with the result; where it ended so did the container.
            log.warning("a batch is waited for", kernel_id=build.spec.kernel_id, error=exc.message)
        except Exception:  # a batch that nobody waits for any more would never end
            log.exception("a batch is waited for", kernel_id=build.spec.kernel_id)
        else:
            return
        await asyncio.sleep(next(pauses))


def _run_of(spec: KernelSpec, incarnation: int) -> ExecuteCode:
    return ExecuteCode(
        kernel_id=spec.kernel_id,
        run_id=RUN_ID if incarnation == 1 else f"{RUN_ID}.{incarnation}",
        mode=RunMode.BATCH.value,
        code=spec.startup.command,
        timeout=spec.startup.timeout,
    )


async def _result(runs: Execution, params: ExecuteCode) -> RunResult:
    """Wait for the result; what the command says meanwhile is in the kernel's log."""
    stream: Any = runs.execute(params)
    async with aclosing(stream) as items:
        async for item in items:
            if isinstance(item, RunResult):
                return item
    raise RunnerUnavailable(f"run {params.run_id} ended without a result")


def ending_of(result: RunResult, spec: KernelSpec) -> Ending:
    """Say how a kernel ends whose startup command has."""
    status, code = RunStatus(result.status), result.exit_code
    finished = Reason.TASK_FINISHED if code == 0 else Reason.TASK_FAILED
    exit_status = None if code is None else ExitStatus(code=code)
    return Ending(_REASONS.get(status, finished), _in_words(status, code, spec), exit_status)


def _in_words(status: RunStatus, code: int | None, spec: KernelSpec) -> str:
    what = "the startup command"
    if status is RunStatus.TIMEOUT:
        return f"{what} was ended after {spec.startup.timeout:g} s"
    if status is RunStatus.LOST:
        return f"what ran {what} died under it"
    if status is RunStatus.FINISHED:
        return f"{what} ended with exit code {code}"
    return f"{what} was {status.value}"

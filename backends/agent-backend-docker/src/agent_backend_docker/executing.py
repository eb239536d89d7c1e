"""Running a further process in a container."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent_backend_docker.engine import Engine, EngineError
from agent_backend_docker.observation import signal_of
from agent_core.contracts.backend import ExitStatus
from agent_core.contracts.errors import KernelFailed, NotFound, WrongState

_GONE: Final = 404
_CONFLICT: Final = 409


async def execute(engine: Engine, name: str, argv: Sequence[str]) -> ExitStatus:
    """Run a command to its end; what it prints is read and dropped.

    Raises:
        NotFound: when there is no such container.
        WrongState: when it does not run.
        KernelFailed: when the command cannot be started.
    """
    body = {"Cmd": [*argv], "AttachStdout": True, "AttachStderr": True}
    try:
        made = await engine.ask("POST", f"containers/{name}/exec", body=body)
        path = f"exec/{made['Id']}"
        async with engine.answer("POST", f"{path}/start", body={"Detach": False}) as response:
            async for _ in response.content.iter_any():
                pass
    except EngineError as exc:
        if exc.status == _GONE:
            raise NotFound(f"there is no container {name!r}") from exc
        if exc.status == _CONFLICT:
            raise WrongState(f"container {name} does not run") from exc
        raise KernelFailed(f"container {name} cannot run {argv[0]}: {exc.said}") from exc
    code = (await engine.ask("GET", f"{path}/json")).get("ExitCode")
    return ExitStatus(code if isinstance(code, int) else None, signal_of(code))

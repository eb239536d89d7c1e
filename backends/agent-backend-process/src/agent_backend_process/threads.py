"""The backend's own threads, so that a slow disk never holds up the loop or another plugin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from agent_core.contracts.errors import DeadlineExceeded

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 4
_DEADLINE = 60.0


class Threads:
    """Runs blocking calls, each with a deadline for whoever waits for it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="backend-process")

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call and return its result.

        Raises:
            DeadlineExceeded: when it takes more than a minute; the call itself goes on.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_DEADLINE):
                return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))
        except TimeoutError as exc:
            name = getattr(function, "__qualname__", repr(function))
            raise DeadlineExceeded(
                f"the process backend waited {_DEADLINE:.0f} s for {name}",
                hint="Look whether the disk under the state directory answers.",
            ) from exc

    def close(self) -> None:
        """Take no more calls; those that run go on to their end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

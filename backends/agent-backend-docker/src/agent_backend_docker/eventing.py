"""What happens to containers: told by the engine, and looked up where it has forgotten.

The engine remembers its last 256 events, and none over its own restart. Whoever asks from a cursor
on is told those that it remembers, then the ends that the containers themselves still show, and
then what comes. A stream that breaks is an error: the caller asks again with its last cursor.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any, Final

from agent_backend_docker.arguments import OWNER
from agent_backend_docker.containers import Containers
from agent_backend_docker.engine import Engine
from agent_backend_docker.observation import exit_of, signal_of
from agent_core.contracts.backend import BackendEvent, ContainerState, ExitStatus
from agent_core.contracts.errors import InvalidArgument, PluginUnavailable

_KINDS: Final = {"start": "started", "die": "exited", "died": "exited"}
"""What Podman tells as `die` it finds as `died`, which no Docker engine minds."""
_KILLED: Final = 137
_CAUSE: Final = 0.05
"""Seconds after which the cause of an end has come as well."""

_RECENT: Final = 10 * 1_000_000_000
_NANO: Final = 1_000_000_000


class Events:
    """The events of one owner's containers."""

    def __init__(self, engine: Engine, containers: Containers, owner: str) -> None:
        self._engine = engine
        self._containers = containers
        self._owner = owner

    async def after(self, cursor: str | None) -> AsyncGenerator[BackendEvent, None]:
        """Yield what happened after the cursor, and then what happens.

        Raises:
            InvalidArgument: when the cursor is none of ours.
            PluginUnavailable: when the engine has gone away.
        """
        now = time.time_ns()
        if cursor is not None:
            told: set[str] = set()
            last = _nanoseconds(cursor)
            async for event in self._remembered(last, now):
                told |= {event.name} if event.kind == "exited" else set()
                yield event
            async for event in self._ended_since(last, told):
                yield event
        async for event in self._coming(now):
            yield event
        raise PluginUnavailable(
            "the Docker engine has ended its events", plugin="docker", stage="events"
        )

    def _filters(self) -> Mapping[str, list[str]]:
        label = f"{OWNER}={self._owner}"
        return {"type": ["container"], "event": [*_KINDS], "label": [label]}

    async def _remembered(self, last: int, until: int) -> AsyncGenerator[BackendEvent, None]:
        params = {"since": _text(last), "until": _text(until), "filters": self._filters()}
        patience = self._engine.deadline
        async for said in self._engine.stream("GET", "events", params=params, patience=patience):
            if last < _time_of(said) <= until:
                yield await self._event(said)

    async def _coming(self, since: int) -> AsyncGenerator[BackendEvent, None]:
        params = {"since": _text(since), "filters": self._filters()}
        async for said in self._engine.stream("GET", "events", params=params):
            if _time_of(said) > since:
                yield await self._event(said)

    async def _ended_since(self, last: int, told: set[str]) -> AsyncGenerator[BackendEvent, None]:
        for seen in await self._containers.list(self._owner):
            if seen.state is not ContainerState.EXITED or seen.name in told or seen.exit is None:
                continue
            ended = int((seen.exit.finished_at or 0) * _NANO)
            if ended > last:
                yield BackendEvent(_cursor(ended), "exited", seen.name, seen.exit)

    async def _event(self, said: Mapping[str, Any]) -> BackendEvent:
        attributes = said.get("Actor", {}).get("Attributes", {})
        name, kind = str(attributes.get("name", "")), _KINDS.get(str(said.get("Action")), "")
        ending = await self._exit(name, said, attributes) if kind == "exited" else None
        return BackendEvent(_cursor(_time_of(said)), kind, name, ending)

    async def _exit(
        self, name: str, said: Mapping[str, Any], attributes: Mapping[str, Any]
    ) -> ExitStatus:
        """Read how it ended; what was killed is looked at while it is there: for its memory?"""
        text = str(attributes.get("exitCode", ""))
        code = int(text) if text.isdecimal() else None
        if code == _KILLED:
            shown = await self._containers.show(name)
            seen = exit_of(shown.get("State", {})) if shown else None
            if seen is not None:
                oom = seen.oom or await self._was_for_memory(said)
                return replace(seen, oom=oom)
        return ExitStatus(code, signal_of(code), finished_at=_time_of(said) / _NANO)

    async def _was_for_memory(self, said: Mapping[str, Any]) -> bool:
        """Ask whether the engine has learned yet that a kill was for memory.

        It learns of the end and of its cause from two sources, in either order, and what it knows
        of an ended container it does not change any more.
        """
        await asyncio.sleep(_CAUSE)
        ended = _time_of(said)
        container = str(said.get("Actor", {}).get("ID", ""))
        params = {
            "since": _text(ended - _RECENT),
            "until": _text(time.time_ns()),
            "filters": {"container": [container], "event": ["oom"]},
        }
        patience = self._engine.deadline
        async for _ in self._engine.stream("GET", "events", params=params, patience=patience):
            return True
        return False


def _time_of(said: Mapping[str, Any]) -> int:
    nano = said.get("timeNano")
    return nano if isinstance(nano, int) else 0


def _cursor(nanoseconds: int) -> str:
    return f"{nanoseconds:020d}"


def _nanoseconds(cursor: str) -> int:
    if not cursor.isdecimal():
        raise InvalidArgument(f"{cursor!r} is no cursor of the Docker backend's events")
    return int(cursor)


def _text(nanoseconds: int) -> str:
    return f"{nanoseconds // _NANO}.{nanoseconds % _NANO:09d}"

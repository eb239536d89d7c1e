"""The networks of sessions."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Final

from agent_backend_docker.arguments import OWNER
from agent_backend_docker.engine import Engine, EngineError
from agent_core.contracts.errors import KernelFailed, Unsupported, WrongState

_GONE: Final = 404
_CONFLICT: Final = 409
_UNFIT: Final = re.compile(r"[^A-Za-z0-9]+")
_READABLE: Final = 40
_LOOKS: Final = 50
_PAUSE: Final = 0.1


class Networks:
    """Makes and removes networks by name: bridges, or overlays where this node is in a swarm."""

    def __init__(self, engine: Engine, owner: str, *, overlay: bool) -> None:
        self._engine = engine
        self._owner = owner
        self._overlay = overlay

    def called(self, name: str) -> str:
        """Say what the engine calls a network: one of a swarm has to have a name of the DNS."""
        if not self._overlay or not name.startswith(f"{self._owner}."):
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        return f"{_UNFIT.sub('-', name)[:_READABLE].strip('-')}-{digest}"

    async def create(self, name: str) -> None:
        """Make a network; does nothing when it is there.

        Raises:
            Unsupported: when an overlay is wanted and the engine is in no swarm.
            KernelFailed: when the engine makes none, with its reason.
        """
        if await self._exists(self.called(name)):
            return
        body = {
            "Name": self.called(name),
            "Driver": "overlay" if self._overlay else "bridge",
            "Attachable": self._overlay,
            "CheckDuplicate": True,
            "Labels": {OWNER: self._owner},
        }
        try:
            await self._engine.ask("POST", "networks/create", body=body, seconds=60)
        except EngineError as exc:
            if exc.status == _CONFLICT:
                return
            if "swarm" in exc.said:
                raise Unsupported(
                    f"network {name}: this engine is in no swarm",
                    hint="Run `docker swarm init` or `docker swarm join`, or leave swarm-enabled"
                    " off.",
                ) from exc
            raise KernelFailed(f"network {name} cannot be made: {exc.said}") from exc

    async def remove(self, name: str) -> None:
        """Remove a network; succeeds when there is none.

        Raises:
            WrongState: when a container is still in it, or a swarm has it for longer.
        """
        try:
            await self._engine.ask("DELETE", f"networks/{self.called(name)}", seconds=60)
        except EngineError as exc:
            if exc.status != _GONE:
                raise WrongState(f"network {name} cannot be removed: {exc.said}") from exc
        if self._overlay:
            await self._see_gone(name)

    async def _see_gone(self, name: str) -> None:
        """Wait until a swarm, which answers before it has removed anything, has done so."""
        for _ in range(_LOOKS):
            if not await self._exists(self.called(name)):
                return
            await asyncio.sleep(_PAUSE)
        raise WrongState(f"network {name} is not removed yet by the swarm")

    async def _exists(self, name: str) -> bool:
        try:
            shown = await self._engine.ask("GET", f"networks/{name}")
        except EngineError as exc:
            if exc.status == _GONE:
                return False
            raise
        return bool(shown.get("Name") == name)

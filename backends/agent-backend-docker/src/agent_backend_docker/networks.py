"""The networks of sessions."""

from __future__ import annotations

from typing import Final

from agent_backend_docker.arguments import OWNER
from agent_backend_docker.engine import Engine, EngineError
from agent_core.contracts.errors import KernelFailed, Unsupported, WrongState

_GONE: Final = 404
_CONFLICT: Final = 409


class Networks:
    """Makes and removes networks by name: bridges, or overlays where this node is in a swarm."""

    def __init__(self, engine: Engine, owner: str, *, overlay: bool) -> None:
        self._engine = engine
        self._owner = owner
        self._overlay = overlay

    async def create(self, name: str) -> None:
        """Make a network; does nothing when it is there.

        Raises:
            Unsupported: when an overlay is wanted and the engine is in no swarm.
            KernelFailed: when the engine makes none, with its reason.
        """
        if await self._exists(name):
            return
        body = {
            "Name": name,
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
            WrongState: when a container is still in it.
        """
        try:
            await self._engine.ask("DELETE", f"networks/{name}", seconds=60)
        except EngineError as exc:
            if exc.status != _GONE:
                raise WrongState(f"network {name} cannot be removed: {exc.said}") from exc

    async def _exists(self, name: str) -> bool:
        try:
            shown = await self._engine.ask("GET", f"networks/{name}")
        except EngineError as exc:
            if exc.status == _GONE:
                return False
            raise
        return bool(shown.get("Name") == name)

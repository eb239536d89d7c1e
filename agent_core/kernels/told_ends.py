"""Ends of containers that the backend told of: believed at once, or looked at first.

A restart that a crash interrupted is gone through again, and its container may get the name of one
that was given back a moment ago. The end of that one may be told late: it is no end of the kernel.
"""

from __future__ import annotations

import asyncio

from agent_core.contracts.backend import ContainerState, ContainerStatus, ExitStatus, Presence
from agent_core.contracts.errors import AgentError
from agent_core.kernels.asking import ask
from agent_core.kernels.intents import Ending
from agent_core.kernels.owner import Owner
from agent_core.kernels.owners import Owners
from agent_core.kernels.services import Services
from agent_core.kernels.states import KernelState, Reason


class ToldEnds:
    """Tells owners of the ends of their containers."""

    def __init__(self, services: Services, owners: Owners) -> None:
        self._services = services
        self._owners = owners
        self._looks: set[asyncio.Task[None]] = set()

    def told(self, container: str, status: ExitStatus | None) -> None:
        """Hear that a container of this name has ended."""
        owner = self._owners.of_container(container)
        if owner is None:
            return
        ending = Ending(Reason.SELF_TERMINATED, None, status)
        if owner.journal.state is not KernelState.RESTARTING:
            owner.post(ending)
            return
        looking = asyncio.get_running_loop().create_task(
            self._look(owner, container, ending), name=f"end of {container}"
        )
        self._looks.add(looking)
        looking.add_done_callback(self._looks.discard)

    def close(self) -> None:
        """Look no more."""
        for looking in self._looks:
            looking.cancel()

    async def _look(self, owner: Owner, container: str, ending: Ending) -> None:
        """Post the end once it is certain that the container that was started has ended."""
        for pause in self._services.settings.pauses():
            if self._owners.of_container(container) is not owner:
                return
            # What is seen before the start is over may be of the namesake.
            started = owner.started
            seen = await self._seen(container)
            if started and seen is not None and seen.presence is not Presence.UNKNOWN:
                if seen.state is not ContainerState.RUNNING:
                    owner.post(ending)
                return
            await asyncio.sleep(pause)

    async def _seen(self, container: str) -> ContainerStatus | None:
        try:
            return await ask(self._services, self._services.backend.inspect(container), "inspect")
        except AgentError:
            return None

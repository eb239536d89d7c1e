"""The session's network: shared by its kernels, made by the first and removed by the last."""

from __future__ import annotations

from collections.abc import Sequence

from agent_core.contracts.edits import ContainerEdits, MergedEdits
from agent_core.contracts.info import Support
from agent_core.failpoints import Effect
from agent_core.kernels.asking import ask
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.steps.base import Step
from agent_core.ledger import HoldRow

CREATE = Effect("network-create", "a session's network is created")
REMOVE = Effect("network-remove", "a session's network is removed")


class NetworkStep(Step):
    """Gives the kernels of one session a network of their own, where the backend has any."""

    name = "network"
    kind = "network"

    def holds(self, build: Assembly) -> Sequence[HoldRow]:
        """One use of the session's network."""
        if build.spec.cluster.alone or not self._supported():
            return ()
        key = f"{self.services.settings.agent_id}.{build.spec.session_id}"
        return [HoldRow(self.kind, key, build.spec.kernel_id, build.incarnation, shared=True)]

    async def take(self, build: Assembly) -> None:
        """Create the network where it is not there yet, and let the container join it."""
        if build.spec.cluster.alone:
            return
        if not self._supported():
            backend = self.services.backend.info.name
            build.warnings.append(
                f"network: backend {backend!r} has none; the session's kernels share the host's"
            )
            return
        for hold in self.holds(build):
            with CREATE:
                await ask(
                    self.services, self.services.backend.create_network(hold.key), "create_network"
                )
            edits = ContainerEdits(networks=(hold.key,))
            build.edits = build.edits | MergedEdits.of("session", edits)

    async def give_back(self, hold: HoldRow) -> None:
        """Remove the network; called for the last kernel that uses it."""
        with REMOVE:
            await ask(
                self.services, self.services.backend.remove_network(hold.key), "remove_network"
            )

    def _supported(self) -> bool:
        return self.services.backend.capabilities().get("networks") is Support.YES

"""The node as the RPC sees it: status, plugins, devices, slots, images, leaks and configuration."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from agent_core import __version__, clock
from agent_core.contracts.device import Device
from agent_core.contracts.errors import NotFound, PluginContractBroken
from agent_core.contracts.info import Support
from agent_core.contracts.plain import to_plain
from agent_core.contracts.versions import RPC_PROTOCOL
from agent_core.host.plugin_host import PluginHost
from agent_core.kernels.asking import ask
from agent_core.kernels.leaks import find_leaks
from agent_core.kernels.mending import Mending
from agent_core.kernels.reconciler import Reconciler
from agent_core.kernels.service import KernelService
from agent_core.kernels.services import Services
from agent_core.ledger import BackupKeeper
from agent_core.ledger.report import conditions_of, contents, row_of, view
from agent_core.reloading import Reloader
from agent_core.wire import content as c
from agent_core.wire import ledger as led
from agent_core.wire import models as m
from agent_core.wire import reconciling as r


class NodeService:
    """Answers questions about the node from the rooms that know.

    Attributes:
        state: starting, ready or stopping; set by the agent.
        addresses: Where the RPC is served; set by the agent.
    """

    def __init__(
        self,
        reloader: Reloader,
        host: PluginHost,
        services: Services,
        kernels: KernelService,
        reconciler: Reconciler,
        backups: BackupKeeper,
        warnings: Sequence[str],
    ) -> None:
        self._reloader = reloader
        self._host = host
        self._services = services
        self._kernels = kernels
        self._reconciler = reconciler
        self._mending = Mending(services, reconciler)
        self._backups = backups
        self._warnings = warnings
        self._started_at = clock.wall()
        self.state: Literal["starting", "ready", "stopping"] = "starting"
        self.addresses: tuple[str, ...] = ()

    def status(self) -> m.Status:
        """Describe the agent at a glance."""
        ledger = conditions_of(self._services.ledger, self._backups)
        conditions = [*ledger, *self._reloader.conditions()]
        agent = self._reloader.config.agent
        return m.Status(
            agent_id=agent.id,
            version=__version__,
            protocol=RPC_PROTOCOL,
            pid=os.getpid(),
            state=self.state,
            started_at=self._started_at,
            backend=self._services.backend.info.name,
            isolation=self._isolation(),
            scaling_group=agent.scaling_group,
            region=agent.region,
            instance_type=agent.instance_type,
            public_host=agent.public_host,
            advertised_rpc_addr=str(agent.advertised_rpc_addr or ""),
            state_dir=str(self._reloader.config.paths.state),
            addresses=list(self.addresses),
            kernels=self._kernels.counts(),
            plugins=dict(Counter(record.state.value for record in self._host.records())),
            warnings=[*(each.message for each in conditions), *self._warnings, *self._faults()],
            conditions=conditions,
        )

    def _isolation(self) -> str:
        backend = self._services.backend
        if backend.capabilities().get("processes") is Support.NO:
            return f"simulated: backend {backend.info.name!r} runs nothing"
        if backend.capabilities().get("isolation") is Support.YES:
            return "containers"
        return f"none: backend {backend.info.name!r} isolates nothing"

    def _faults(self) -> list[str]:
        faults = self._services.devices.faults
        failing = [f"plugin {name}: {fault}" for name, fault in sorted(faults.items())]
        strange = self._reconciler.strangers.reported
        told = [f"things that nobody holds: {strange}; see `agentctl leaks`"] if strange else []
        return failing + self._services.allocator.idle_masks() + told

    def plugins(self) -> Sequence[m.PluginRow]:
        """List every plugin found, with its state."""
        return [m.PluginRow.model_validate(record.row()) for record in self._host.records()]

    def plugin(self, name: str) -> m.PluginDetail:
        """Show one plugin with its decision trail."""
        detail = self._host.detail(name)
        backend = self._services.backend
        if (detail["kind"], detail["name"]) == ("backend", backend.info.name):
            # What a backend can do is known exactly only once it has met its runtime.
            detail["capabilities"] = {k: v.value for k, v in backend.capabilities().items()}
            detail["facts"] = dict(backend.facts())
        return m.PluginDetail.model_validate(detail)

    async def reset_plugin(self, name: str) -> m.PluginRow:
        """Lift a plugin's quarantine and start its worker anew."""
        return m.PluginRow.model_validate((await self._host.reset(name)).row())

    def devices(self) -> Sequence[m.DeviceRow]:
        """List the devices of all ready plugins."""
        return [
            _device_row(usage.plugin, usage.device, usage.used, usage.withheld)
            for usage in self._services.allocator.devices()
        ]

    def slots(self) -> Sequence[m.SlotRow]:
        """List the slots of this node."""
        return [
            m.SlotRow(
                slot=usage.slot,
                plugin=usage.plugin,
                type=usage.type.value,
                quantum=str(usage.quantum),
                total=str(usage.total),
                used=str(usage.used),
                free=str(usage.free),
                description=usage.display.description,
                display_unit=usage.display.display_unit,
                state="known" if usage.known else "unknown",
            )
            for usage in self._services.allocator.slots()
        ]

    async def images(self) -> Sequence[m.ImageRow]:
        """List the images that can be started."""
        images = await ask(self._services, self._services.backend.images(), "images")
        return [
            m.ImageRow(
                name=image.name,
                digest=image.digest,
                architecture=image.architecture,
                labels=dict(image.labels),
            )
            for image in images
        ]

    def commands(self) -> Sequence[c.CommandRow]:
        """List the commands of the backend's own."""
        commands = self._services.backend.commands
        return [c.CommandRow(name=name, summary=summary) for name, summary in commands.items()]

    async def command(self, name: str, params: Mapping[str, Any]) -> c.CommandResult:
        """Call a command of the backend's own.

        Raises:
            NotFound: when the backend has none of that name.
            PluginContractBroken: when it answers something else than plain data.
        """
        backend = self._services.backend
        if name not in backend.commands:
            known = ", ".join(backend.commands) or "none"
            what = f"backend {backend.info.name!r} has no command {name!r}"
            raise NotFound(what, hint=f"Its commands: {known}.")
        answer = await ask(self._services, backend.command(name, params), "command")
        try:
            return c.CommandResult(values=to_plain(answer))
        except (TypeError, ValidationError) as exc:
            raise PluginContractBroken(
                f"backend {backend.info.name!r} answered {name} with no plain data: {exc}",
                plugin=backend.info.name,
                stage="command",
            ) from exc

    async def leaks(self) -> Sequence[m.Leak]:
        """Compare the ledger with the world in both directions."""
        return await find_leaks(self._services)

    async def ledger(self) -> led.LedgerView:
        """Say what is in the ledger."""
        ledger = self._services.ledger
        found = await ledger.read(contents)
        shown = await asyncio.to_thread(view, found, ledger.path, ledger.backups)
        return shown.model_copy(update={"reconciling": ledger.reconciling})

    async def back_up(self, to: str | None) -> led.BackupRow:
        """Copy the ledger to a path, or to one of those that are kept."""
        return row_of(await self._backups.back_up(None if to is None else Path(to)), sound=True)

    async def fix_leaks(self) -> Sequence[r.MendedLeak]:
        """Give back what is provably ours and held by nobody, and say what was done or why not."""
        return await self._mending.mend()

    async def reconcile(self, *, act: bool) -> r.Reconciliation:
        """Compare the ledger with the world once; without `act` only say what would be done."""
        return await self._reconciler.look(act=act)

    def config(self) -> Mapping[str, Any]:
        """Return the configuration in effect."""
        return self._reloader.config.rendered()

    async def reload(self) -> m.Reloaded:
        """Read the configuration again, and take over what can be while kernels run."""
        return await self._reloader.reload()


def _device_row(plugin: str, device: Device, used: Mapping[str, Any], withheld: str) -> m.DeviceRow:
    return m.DeviceRow(
        id=device.id,
        plugin=plugin,
        model=device.model,
        health=device.health.value,
        evidence=device.evidence,
        withheld=withheld,
        numa_node=device.numa_node,
        parent=device.parent,
        physical_key=device.physical_key,
        links=dict(device.links),
        offers=[offer.slot for offer in device.offers],
        used={slot: str(amount) for slot, amount in used.items()},
        attributes=dict(device.attributes),
    )

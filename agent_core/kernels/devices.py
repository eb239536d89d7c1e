"""Devices between the plugins, which know them, and the allocator, which gives them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from agent_core.contracts.device import (
    Claim,
    Measurement,
    PrepareContext,
    Subject,
)
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import AgentError, NotFound, PluginContractBroken
from agent_core.host.supervisor import LoadedPlugin
from agent_core.resources.allocator import Allocator

log = structlog.get_logger(__name__)


class DeviceService:
    """Calls device plugins, checks what they say, and keeps the allocator's inventory.

    Args:
        plugins: The ready device plugins by name.
        allocator: What learns of their devices.
    """

    def __init__(self, plugins: Mapping[str, LoadedPlugin], allocator: Allocator) -> None:
        self._plugins = plugins
        self._allocator = allocator
        self.faults: dict[str, str] = {}
        self._reported: set[str] = set()
        self._back: set[str] = set()
        self._returned = asyncio.Event()

    def changed(self, name: str, why: str | None) -> None:
        """Take a plugin's devices for unknown, or ask it again now that it is back.

        Args:
            name: The plugin.
            why: Why nothing is known of it any more; None when it is back.
        """
        if name not in self._plugins:
            return
        if why is None:
            self._back.add(name)
            self._returned.set()
            return
        self._reported.discard(name)
        self._unknown(name, why)

    async def follow(self) -> None:
        """Ask, for ever, each plugin that came back for its devices."""
        while True:
            await self._returned.wait()
            self._returned.clear()
            names, self._back = self._back, set()
            await asyncio.gather(*(self._refresh_one(name) for name in names))

    async def refresh(self) -> None:
        """Ask every plugin for its devices; what cannot be learnt leaves the last inventory."""
        await asyncio.gather(*(self._refresh_one(name) for name in self._plugins))

    async def _refresh_one(self, name: str) -> None:
        plugin = self._plugins[name]
        try:
            devices = await plugin.call("devices")
            # Only now: a plugin may learn of new slots by looking at its devices.
            self._allocator.update(name, plugin.info, devices)
        except AgentError as exc:
            self._unknown(name, exc.message)
        except Exception as exc:  # an inventory of nonsense is the plugin's fault alone
            log.exception("devices are not known", plugin=name)
            self._unknown(name, f"its inventory cannot be used: {type(exc).__name__}: {exc}")
        else:
            self._reported.add(name)
            self.faults.pop(name, None)

    def _unknown(self, name: str, why: str) -> None:
        if self.faults.get(name) != why:
            log.warning("devices are not known", plugin=name, error=why)
        self.faults[name] = why
        if name not in self._reported:
            self._allocator.update(name, self._plugins[name].info, None)

    def is_taken(self, plugin: str) -> bool:
        """Whether a plugin has anything to give back; one that only describes has not."""
        return self._plugin(plugin).overrides("prepare", "release")

    async def describe(self, claim: Claim) -> ContainerEdits:
        """Learn what the container of a claim needs, from a plugin that only describes."""
        edits = await self._plugin(claim.plugin).call("describe", claim.grants)
        return _edits(edits, claim.plugin, "describe")

    async def prepare(self, claim: Claim, config_dir: str) -> ContainerEdits:
        """Take the devices of a claim and learn what its container needs."""
        edits = await self._plugin(claim.plugin).call("prepare", claim, PrepareContext(config_dir))
        return _edits(edits, claim.plugin, "prepare")

    async def release(self, claim: Claim) -> None:
        """Give the devices of a claim back."""
        await self._plugin(claim.plugin).call("release", claim)

    async def prepared(self) -> dict[str, Sequence[str]]:
        """List the claims that hold something outside, by plugin; failing plugins are left out."""
        found = await self._each("prepared", "control")
        return {
            name: [each for each in ids if isinstance(each, str)]
            for name, ids in found.items()
            if isinstance(ids, Iterable)
        }

    async def measure(self, subjects: Sequence[Subject]) -> list[tuple[str, Measurement]]:
        """Read every plugin's series once; what fails is missing, and counted by its lane.

        Args:
            subjects: Kernels with all that they hold; each plugin is told of its own claims only.
        """
        found = await self._each("measure", "measure", lambda name: [_own(subjects, name)])
        return [
            (name, reading)
            for name, readings in found.items()
            if isinstance(readings, Iterable)
            for reading in readings
            if isinstance(reading, Measurement)
        ]

    def unit(self, plugin: str, metric: str) -> str:
        """Look the base unit of a declared series up."""
        info = self._plugins[plugin].info
        return next((m.unit for m in info.metrics if m.name == metric), "")

    async def _each(
        self, method: str, lane: str, arguments: Callable[[str], Sequence[Any]] = lambda _: ()
    ) -> dict[str, Any]:
        async def one(name: str, plugin: LoadedPlugin) -> tuple[str, Any]:
            try:
                return name, await plugin.call(method, *arguments(name), lane=lane)
            except AgentError:
                return name, None

        pairs = await asyncio.gather(*(one(n, p) for n, p in self._plugins.items()))
        return {name: result for name, result in pairs if result is not None}

    def _plugin(self, name: str) -> LoadedPlugin:
        plugin = self._plugins.get(name)
        if plugin is None:
            raise NotFound(
                f"device plugin {name!r} is not ready",
                hint=f"`agentctl plugins why {name}` says why; its devices stay held until it is.",
            )
        return plugin


def _edits(edits: object, plugin: str, method: str) -> ContainerEdits:
    if not isinstance(edits, ContainerEdits):
        raise PluginContractBroken(
            f"plugin {plugin!r} answered {method} with {type(edits).__name__}",
            plugin=plugin,
            stage=method,
        )
    return edits


def _own(subjects: Sequence[Subject], plugin: str) -> list[Subject]:
    return [
        replace(each, claims=tuple(claim for claim in each.claims if claim.plugin == plugin))
        for each in subjects
    ]

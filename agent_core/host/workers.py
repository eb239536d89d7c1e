"""All workers of one agent: which plugins have one, and what is done with them together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from agent_core.contracts.errors import PluginError, Unsupported
from agent_core.host import loader
from agent_core.host.report import PluginRecord
from agent_core.host.stray_workers import StrayWorkers
from agent_core.host.supervisor import LoadedPlugin
from agent_core.host.worker_adapter import Described, WorkerAdapter
from agent_core.host.worker_keeper import Listener, WorkerKeeper, WorkerPolicy


class Workers:
    """The adapters of isolated plugins and, once these are open, their keepers.

    Args:
        policy: How workers are kept.
        tell: Told when nothing is known of a plugin any more, and when it is back.
    """

    def __init__(self, policy: WorkerPolicy, tell: Listener) -> None:
        self._policy = policy
        self._tell = tell
        self._adapters: dict[PluginRecord, WorkerAdapter] = {}
        self._keepers: dict[PluginRecord, WorkerKeeper] = {}
        self.strays = StrayWorkers(self.pids)

    def pids(self) -> list[int]:
        """List the process ids of the present workers."""
        present = [adapter.process for adapter in self._adapters.values()]
        return [process.pid for process in present if process is not None]

    def begin(self, record: PluginRecord) -> None:
        """Start a plugin's worker without waiting for it.

        Raises:
            PluginError: when it cannot be started.
        """
        adapter = WorkerAdapter(record.candidate, record.label)
        self._adapters[record] = adapter
        adapter.begin()

    def load(self, record: PluginRecord) -> tuple[WorkerAdapter, Described]:
        """Wait until the worker has loaded its plugin; it is ended where it cannot.

        Raises:
            PluginError: when the import fails, hangs or kills the worker.
        """
        adapter = self._adapters[record]
        try:
            return adapter, adapter.load(loader.IMPORT_DEADLINE)
        except PluginError:
            adapter.close()
            raise

    def keep(self, plugin: LoadedPlugin) -> None:
        """Watch the worker of a plugin that is open; does nothing for others."""
        adapter = self._adapters.get(plugin.record)
        if adapter is not None:
            self._keepers[plugin.record] = WorkerKeeper(plugin, adapter, self._policy, self._tell)

    async def end(self, record: PluginRecord) -> None:
        """End the worker of a plugin that is of no use here."""
        adapter = self._adapters.get(record)
        if adapter is not None:
            await asyncio.to_thread(adapter.close)

    async def reset(self, record: PluginRecord) -> None:
        """Lift the quarantine of a plugin and start its worker anew.

        Raises:
            Unsupported: when it has no worker.
            WrongState: when there is nothing to lift.
        """
        keeper = self._keepers.get(record)
        if keeper is None:
            raise Unsupported(
                f"{record.label} is {record.state} and has no worker to start anew",
                hint="Restart the agent; running kernels go on.",
            )
        await keeper.reset()

    def describe(self, record: PluginRecord) -> Mapping[str, Any] | None:
        """Render the worker of a plugin as plain data; None where it has none."""
        keeper = self._keepers.get(record)
        return None if keeper is None else keeper.describe()

    async def release(self) -> None:
        """Stop watching, so that closing a plugin is not taken for its death."""
        keepers = [keeper.end() for keeper in self._keepers.values()]
        self._keepers.clear()
        await asyncio.gather(*keepers)

    async def close(self) -> None:
        """End every worker that is left."""
        adapters = [asyncio.to_thread(each.close) for each in self._adapters.values()]
        self._adapters.clear()
        await asyncio.gather(*adapters)

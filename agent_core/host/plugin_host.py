"""The plugin host as the agent uses it: load what the operator wants, open it, close it.

    host = PluginHost(selection, PluginTables({"acme": {"mode": "shared"}}))
    host.load()                      # scan, decide, import: blocking, before the loop matters
    await host.open_all()            # every plugin in parallel, each with its own deadline
    await host.start_backend(owner="node-1", state_dir="/var/lib/agent-core/node-1/backend")
    devices = await host.devices()["acme"].call(ComputeDevice.devices)
    await host.close_all()

A plugin that fails is recorded and the others go on; only asking for one that is not ready raises.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

from agent_core.config.selection import Selection
from agent_core.contracts.errors import (
    AgentError,
    InvalidConfig,
    PluginError,
    bullet_list,
)
from agent_core.contracts.info import PluginInfo, Reconfigured
from agent_core.contracts.schema import section_fault
from agent_core.host import loader
from agent_core.host.candidates import Candidate, ScanProblem, Survey, survey
from agent_core.host.lists import is_isolated
from agent_core.host.notices import SELECTED_BY, Notice, selected_names
from agent_core.host.outcomes import record_failure, record_import, record_opening
from agent_core.host.policy import Plan, decide, is_trusted
from agent_core.host.report import PluginRecord, find, records_of
from agent_core.host.states import PluginState
from agent_core.host.stray_workers import StrayWorkers
from agent_core.host.supervisor import DEFAULT_DEADLINE, Adapter, InlineAdapter, LoadedPlugin
from agent_core.host.tables import PluginTables, Table
from agent_core.host.worker_keeper import Listener, WorkerPolicy
from agent_core.host.workers import Workers

_log = logging.getLogger(__name__)


class PluginHost:
    """Holds every plugin of one agent from the scan to the last close.

    Args:
        selection: The operator's choice.
        tables: What the configuration says to plugins.
        candidates: What is installed; by default it is scanned for.
        deadline: Seconds for each call that nobody gives another deadline (``[plugins] deadline``).
        workers: How the worker processes of isolated plugins are kept.
    """

    def __init__(
        self,
        selection: Selection,
        tables: PluginTables,
        candidates: Iterable[Candidate] | None = None,
        *,
        deadline: float = DEFAULT_DEADLINE,
        workers: WorkerPolicy | None = None,
    ) -> None:
        self._listeners: list[Listener] = []
        self._observers: list[Callable[[LoadedPlugin], None]] = []
        self._workers = Workers(workers or WorkerPolicy(), self._tell)
        self._deadline = deadline
        self._selection = selection
        self._tables = tables
        self._candidates = None if candidates is None else tuple(candidates)
        self._plan = Plan(())
        self._records: tuple[PluginRecord, ...] = ()
        self._loaded: list[LoadedPlugin] = []
        self._opened: list[LoadedPlugin] = []
        self._started: LoadedPlugin | None = None
        self._problems: tuple[ScanProblem, ...] = ()

    # ---- lifetime ------------------------------------------------------------------------------

    def load(self) -> None:
        """Scan, decide and import what may load; blocks, and raises nothing of a plugin's."""
        found = survey() if self._candidates is None else Survey(self._candidates)
        self._problems = found.problems
        self._plan = decide(found.candidates, self._selection)
        self._selection = self._plan.selection
        self._records = records_of(self._plan)
        wanted = [record for record in self._records if record.state is PluginState.FOUND]
        isolated = [r for r in wanted if is_isolated(r.candidate, self._selection)]
        # The workers start and import while the agent imports what is its own.
        begun = [record for record in isolated if self._begin(record)]
        for record in wanted:
            if record not in isolated:
                self._load(record)
        for record in begun:
            self._load_isolated(record)

    async def open_all(
        self, deadline: float | None = None, *, kinds: Collection[str] | None = None
    ) -> None:
        """Open every loaded plugin, all at once; returns when each is ready or has failed.

        Args:
            deadline: Seconds that no plugin may exceed, whatever deadline it has itself.
            kinds: Of which kinds; by default of all.
        """
        await self._ask_for_stand_ins(deadline)
        async with asyncio.TaskGroup() as group:
            for plugin in self._loaded:
                wanted = kinds is None or plugin.record.kind in kinds
                if wanted and plugin.record.state is PluginState.FOUND:
                    group.create_task(self._open(plugin, deadline))

    async def start_backend(self, owner: str, state_dir: str) -> LoadedPlugin:
        """Connect the selected backend to its runtime and return it.

        Raises:
            PluginError: when it is not ready or fails to start; its record says why.
        """
        backend = self.backend
        self._started = backend
        starting = backend.instance.start_up(owner, state_dir)
        try:
            await backend.guard(starting, "start_up")
        except AgentError as exc:
            record_opening(backend.record, "start_up", exc)
            raise
        backend.record.note("start_up", "connected")
        return backend

    def listen(self, listener: Listener) -> None:
        """Tell a listener when nothing is known of a plugin any more, and when it is back."""
        self._listeners.append(listener)

    def observe(self, observer: Callable[[LoadedPlugin], None]) -> None:
        """Tell an observer, on the loop, of each change of an open plugin's state."""
        self._observers.append(observer)

    async def reset(self, name: str) -> PluginRecord:
        """Lift the quarantine of a plugin and start its worker anew; returns when it was tried.

        Raises:
            NotFound: as `record`.
            Unsupported: when it lives in this process.
            WrongState: when it is neither quarantined nor down.
        """
        record = self.record(name)
        await self._workers.reset(record)
        return record

    def check(self, own: Mapping[str, Table], sections: Mapping[str, Table]) -> None:
        """Judge changed tables of the plugins that are open by their schemas.

        Raises:
            InvalidConfig: naming each plugin whose table has a fault.
        """
        tables = self._tables.renewed(own, sections)
        faults = [
            fault.message
            for plugin in self._loaded
            if plugin.record.state.usable and (fault := _table_fault(plugin, tables)) is not None
        ]
        if faults:
            raise InvalidConfig(bullet_list(faults), hint="Mend what is listed and reload again.")

    async def reconfigure(
        self, own: Mapping[str, Table], sections: Mapping[str, Table]
    ) -> dict[str, bool]:
        """Hand changed tables to the plugins that are open; whether each took its over, by name."""
        new, told = self._tables.renewed(own, sections), dict[str, bool]()
        for plugin in self._loaded:
            record = plugin.record
            table = new.of(plugin.info, record.name) if record.state.usable else None
            if table is None or table == self._tables.of(plugin.info, record.name):
                continue
            try:
                reply = await plugin.call("reconfigure", table)
            except AgentError as exc:
                record.note("reconfigure", "failed", exc.message)
                reply = None
            applied = reply == Reconfigured.APPLIED
            record.note("reconfigure", "applied" if applied else "needs a restart")
            told[record.name] = applied
            if applied:
                self._tables.take_over(plugin.info, record.name, new)
        return told

    async def close_all(self, deadline: float | None = None) -> None:
        """Close every plugin that was opened, in reverse order; a failing one stops no other.

        Args:
            deadline: Seconds that no plugin may exceed, whatever deadline it has itself.
        """
        if self._started is not None:
            await self._shut_down(self._started, deadline)
            self._started = None
        await self._workers.release()
        for plugin in reversed(self._opened):
            seconds = _shorter(plugin.deadline("close"), deadline)
            await self._attempt(plugin, "close", plugin.run("close", deadline=seconds))
        for plugin in self._loaded:
            plugin.end_lanes()
        await self._workers.close()
        self._opened.clear()
        self._loaded.clear()

    # ---- what is there -------------------------------------------------------------------------

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Remarks on the configuration: items that match nothing, selected plugins not there."""
        return self._plan.notices

    @property
    def problems(self) -> tuple[ScanProblem, ...]:
        """Metadata that could not be read, or is not what it should be."""
        return self._problems

    def devices(self) -> Mapping[str, LoadedPlugin]:
        """Return the device plugins that are ready or degraded, by name."""
        return {
            plugin.record.name: plugin
            for plugin in self._loaded
            if plugin.record.kind == "device" and plugin.record.state.usable
        }

    @property
    def backend(self) -> LoadedPlugin:
        """The selected backend.

        Raises:
            PluginError: when it is not ready; says why, and how to install it.
        """
        return self._selected("backend")

    @property
    def scratch(self) -> LoadedPlugin:
        """The selected scratch manager.

        Raises:
            PluginError: when it is not ready; says why, and how to install it.
        """
        return self._selected("scratch")

    @property
    def runner(self) -> LoadedPlugin:
        """The selected kernel runner.

        Raises:
            PluginError: when it is not ready; says why, and how to install it.
        """
        return self._selected("runner")

    @property
    def stray_workers(self) -> StrayWorkers:
        """Finds the workers of this agent that nobody keeps."""
        return self._workers.strays

    def records(self) -> tuple[PluginRecord, ...]:
        """Return the record of every candidate, sorted by kind and name."""
        return self._records

    def record(self, name: str) -> PluginRecord:
        """Look a record up by name, ``kind:name`` or ``distribution:name``.

        Raises:
            NotFound: when there is none; the hint suggests a near name.
            AmbiguousId: when plugins of several kinds have the name.
        """
        return find(self._records, name)

    def rows(self) -> list[dict[str, Any]]:
        """Render every record with the fields of the wire model PluginRow."""
        return [record.row() for record in self._records]

    def detail(self, name: str) -> dict[str, Any]:
        """Render one record with the fields of the wire model PluginDetail.

        Raises:
            NotFound: as `record`.
        """
        record = self.record(name)
        lanes = [lane for p in self._loaded if p.record is record for lane in p.lanes()]
        return record.detail(lanes, self._workers.describe(record))

    # ---- how it is done ------------------------------------------------------------------------

    def _begin(self, record: PluginRecord) -> bool:
        try:
            self._workers.begin(record)
        except PluginError as exc:
            record_import(record, exc)
            return False
        return True

    def _load_isolated(self, record: PluginRecord) -> None:
        try:
            adapter, loaded = self._workers.load(record)
        except PluginError as exc:
            record_import(record, exc)
            return
        self._admit(record, adapter, loaded.info, loaded.class_name, loaded.load_ms)

    def _load(self, record: PluginRecord) -> None:
        try:
            loaded = loader.load(record.candidate)
        except PluginError as exc:
            record_import(record, exc)
            return
        adapter = InlineAdapter(loaded.plugin_class)
        self._admit(record, adapter, loaded.info, loaded.plugin_class.__name__, loaded.load_ms)

    def _admit(
        self, record: PluginRecord, adapter: Adapter, info: PluginInfo, cls: str, load_ms: float
    ) -> None:
        where = "" if isinstance(adapter, InlineAdapter) else ", in a worker"
        detail = f"{cls} in {load_ms:.1f} ms{where}"
        record.note("import", "loaded", detail, load_ms=load_ms, info=info)
        trusted = is_trusted(record.candidate, self._plan)
        self._loaded.append(
            LoadedPlugin(record, info, adapter, self._deadline, self._observe, trusted=trusted)
        )

    def _observe(self, plugin: LoadedPlugin) -> None:
        for observer in self._observers:
            observer(plugin)

    def _tell(self, name: str, why: str | None) -> None:
        for listener in self._listeners:
            listener(name, why)

    async def _ask_for_stand_ins(self, deadline: float | None) -> None:
        """Let a backend whose node is not this host say what cpu and mem are to be."""
        for plugin in self._loaded:
            if plugin.record.kind != "backend":
                continue
            config = self._tables.of(plugin.info, plugin.record.name)
            if section_fault(plugin.record.name, config, plugin.info.config_schema) is None:
                seconds = _shorter(plugin.deadline("open"), deadline)
                try:
                    stand_ins = await plugin.run("stand_ins", (config,), deadline=seconds)
                    self._tables.stand_in(plugin.record.name, stand_ins)
                except AgentError as exc:
                    record_opening(plugin.record, "stand_ins", exc)

    async def _open(self, plugin: LoadedPlugin, deadline: float | None) -> None:
        record = plugin.record
        config = self._tables.of(plugin.info, record.name)
        fault = section_fault(record.name, config, plugin.info.config_schema)
        if fault is not None:
            reason = fault.message
            record_failure(record, "configure", PluginState.INIT_FAILED, reason, fault)
            return
        self._opened.append(plugin)
        try:
            seconds = _shorter(plugin.deadline("open"), deadline)
            await plugin.run("open", (config,), deadline=seconds)
        except AgentError as exc:
            record_opening(record, "open", exc)
            await self._workers.end(record)
        else:
            record.note("open", "ready", state=PluginState.READY, info=plugin.info)
            self._workers.keep(plugin)

    async def _shut_down(self, backend: LoadedPlugin, deadline: float | None) -> None:
        seconds = _shorter(backend.deadline("shut_down"), deadline)
        shutting_down = backend.guard(backend.instance.shut_down(), "shut_down", seconds)
        await self._attempt(backend, "shut_down", shutting_down)

    async def _attempt(self, plugin: LoadedPlugin, stage: str, closing: Awaitable[object]) -> None:
        try:
            await closing
        except AgentError as exc:
            plugin.record.note(stage, "failed", exc.message)
            _log.warning("%s: %s", stage, exc.message)
        else:
            plugin.record.note(stage, "done")

    def _selected(self, kind: str) -> LoadedPlugin:
        name = selected_names(self._selection)[kind]
        for plugin in self._loaded:
            record = plugin.record
            if (record.kind, record.name) == (kind, name) and record.state.usable:
                return plugin
        raise self._not_ready(kind, name)

    def _not_ready(self, kind: str, name: str) -> PluginError:
        notice = next((n for n in self.notices if n.key == SELECTED_BY[kind]), None)
        if notice is not None:
            return PluginError(notice.message, plugin=name, stage="select", hint=notice.hint)
        record = next((r for r in self._records if (r.kind, r.name) == (kind, name)), None)
        if record is None:
            what = f"{kind} {name!r} is not loaded: the plugin host has not loaded anything yet"
            return PluginError(what, plugin=name, stage="select")
        what = f"{record.label} is selected and is {record.state}: {record.reason}"
        return PluginError(what, plugin=name, stage="select", hint=record.hint or None)


def _table_fault(plugin: LoadedPlugin, tables: PluginTables) -> AgentError | None:
    name = plugin.record.name
    return section_fault(name, tables.of(plugin.info, name), plugin.info.config_schema)


def _shorter(own: float, bound: float | None) -> float:
    return own if bound is None else min(own, bound)

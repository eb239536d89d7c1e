"""Supervises one loaded plugin: its lanes, its deadlines, and when it is called no more.

The plugin itself is behind an `Adapter`, the one place that knows where its object lives: here in
this process, or in a worker process of its own. Everything above it sees methods by name and plain
data.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar, overload

from agent_core.contracts.errors import AgentError, InternalError, PluginError, PluginTimeout
from agent_core.contracts.info import Plugin, PluginInfo
from agent_core.host.failures import said
from agent_core.host.lanes import Lane
from agent_core.host.report import PluginRecord
from agent_core.host.states import PluginState

R = TypeVar("R")

ABANDONED_BOUND: Final = 3
"""Calls in a row, or threads at once, that may be overdue before a plugin is quarantined."""

DEFAULT_DEADLINE: Final = 15.0
"""Seconds for a method that neither the plugin nor this module gives a deadline."""

DEADLINES: Final[Mapping[str, float]] = {
    "open": 30.0,
    "close": 10.0,
    "start_up": 30.0,
    "shut_down": 10.0,
    "measure": 5.0,
    "destroy": 120.0,
}
"""Seconds for each method for which the default is not right."""

LANES: Final[Mapping[str, Mapping[str, int]]] = {
    "device": {"control": 1, "measure": 1},
    "backend": {"control": 1},
    "scratch": {"control": 1, "storage": 4},
    "runner": {"control": 1},
}
"""For each kind, its lanes and how many calls each runs at once."""

LANE_OF: Final[Mapping[tuple[str, str], str]] = {
    ("device", "measure"): "measure",
    **{("scratch", method): "storage" for method in ("create", "destroy", "usage", "list", "grow")},
}

_log = logging.getLogger(__name__)


class Adapter(Protocol):
    """Where the plugin's object lives; blocking, and called in the threads of lanes only."""

    def invoke(self, method: str, args: tuple[Any, ...]) -> Any:
        """Call a method of the plugin and return its reply; ``open`` makes the object first."""
        ...

    def info(self) -> object:
        """Return what the open object says of itself, which may be more exact than its class."""
        ...

    def overdue(self, method: str, deadline: float) -> None:
        """Learn, on the loop, that a call was abandoned; frees its thread where that can be."""
        ...

    def overrides(self, methods: Sequence[str]) -> bool:
        """Say whether the class has one of these methods of its own, or may have."""
        ...


_CONTRACTS: Final = "agent_core.contracts."


class InlineAdapter:
    """The plugin's object in this process."""

    def __init__(self, plugin_class: type[Plugin]) -> None:
        self._class = plugin_class
        self.instance: Plugin | None = None

    def invoke(self, method: str, args: tuple[Any, ...]) -> Any:
        """Call a method of the object; closing what was never made does nothing."""
        if method == "stand_ins":  # asked of the class, before there is an object
            return self._class.stand_ins(*args)  # type: ignore[attr-defined]
        if method == "open":
            self.instance = self._class()
        if self.instance is None:
            return None
        return getattr(self.instance, method)(*args)

    def info(self) -> object:
        """Return the object's own description."""
        return getattr(self.instance, "info", None)

    def overdue(self, method: str, deadline: float) -> None:
        """Leave the thread to itself: nothing can stop it here."""

    def overrides(self, methods: Sequence[str]) -> bool:
        """Look at where the class has each method from."""
        found = (getattr(self._class, method) for method in methods)
        return any(not method.__module__.startswith(_CONTRACTS) for method in found)


class LoadedPlugin:
    """A plugin that was imported, as the rest of the agent uses it.

    Args:
        record: Its record.
        info: What its class says of itself.
        adapter: Where it lives.
        default_deadline: Seconds that a method may take which nobody says more of.
        changed: Told, on the loop, of each change of its state.
        trusted: Whether its instant methods are called on the loop, in no lane.

    Attributes:
        record: Its record.
        is_down: Whether its worker is gone, and no call can reach it.
    """

    def __init__(
        self,
        record: PluginRecord,
        info: PluginInfo,
        adapter: Adapter,
        default_deadline: float = DEFAULT_DEADLINE,
        changed: Callable[[LoadedPlugin], None] = lambda _: None,
        *,
        trusted: bool = False,
    ) -> None:
        self._default_deadline = default_deadline
        self._changed = changed
        self.record = record
        self._info = info
        self._adapter = adapter
        self._instant = frozenset(info.instant if trusted else ())
        self.is_down = False
        self._lanes = {
            name: Lane(
                name,
                record.name,
                label=record.label,
                concurrency=concurrency,
                on_abandoned=partial(self._abandoned, name),
                on_returned=self._returned,
            )
            for name, concurrency in LANES[record.kind].items()
        }

    @property
    def info(self) -> PluginInfo:
        """The plugin's description: the open object's, as far as it is about the same plugin."""
        refined = self._adapter.info()
        if not isinstance(refined, PluginInfo):
            return self._info
        same = (refined.kind, refined.name) == (self._info.kind, self._info.name)
        return refined if same else self._info

    def __repr__(self) -> str:
        return f"<{self.record.label}: {self.record.state}>"

    @property
    def instance(self) -> Any:
        """The plugin's object, for the asynchronous methods of backends.

        Raises:
            PluginError: when it is not open, or lives in another process.
        """
        instance = getattr(self._adapter, "instance", None)
        if instance is None:
            raise self._refusal("instance", "has no object in this process")
        return instance

    @overload
    async def call(
        self,
        method: Callable[..., R],
        *args: Any,
        lane: str | None = None,
        deadline: float | None = None,
    ) -> R: ...
    @overload
    async def call(
        self, method: str, *args: Any, lane: str | None = None, deadline: float | None = None
    ) -> Any: ...
    async def call(
        self,
        method: Callable[..., Any] | str,
        *args: Any,
        lane: str | None = None,
        deadline: float | None = None,
    ) -> Any:
        """Call a synchronous method of the plugin in one of its lanes.

        Args:
            method: The contract's method, such as ``ComputeDevice.devices``, or its name.
            *args: Its arguments, plain data.
            lane: The lane; by default the one that the method belongs to.
            deadline: Seconds; by default the plugin's own, else the host's.

        Raises:
            PluginTimeout: when it passed its deadline.
            PluginError: when it raised, or when the plugin is not ready or is quarantined.
            AgentError: when it raised one, unchanged.
        """
        name = method if isinstance(method, str) else method.__name__
        if not self.record.state.usable:
            raise self._refusal(name, f"is {self.record.state}: {self.record.reason}")
        return await self.run(name, args, lane, deadline)

    async def run(
        self,
        method: str,
        args: tuple[Any, ...] = (),
        lane: str | None = None,
        deadline: float | None = None,
    ) -> Any:
        """Call a method whatever the plugin's state, as opening and closing need it."""
        if method in self._instant:
            return self._at_once(method, args)
        name = lane or LANE_OF.get((self.record.kind, method), "control")
        if name not in self._lanes:
            raise InternalError(f"{self.record.label} has no lane {name!r}")
        action = partial(self._adapter.invoke, method, args)
        seconds = self.deadline(method) if deadline is None else deadline
        return await self._lanes[name].call(action, method, seconds)

    def _at_once(self, method: str, args: tuple[Any, ...]) -> Any:
        try:
            return self._adapter.invoke(method, args)
        except AgentError:
            raise
        except Exception as exc:
            what = f"{self.record.label} failed in {method}(): {said(exc)}"
            raise PluginError(what, plugin=self.record.name, stage=method) from exc

    def overrides(self, *methods: str) -> bool:
        """Whether it does more in one of these methods than its contract does by default.

        What lives in another process is taken to do so.
        """
        return self._adapter.overrides(methods)

    async def guard(self, awaitable: Awaitable[R], method: str, deadline: float | None = None) -> R:
        """Await what an asynchronous method returned, with a deadline and our errors.

        Raises:
            PluginTimeout: when it passed its deadline; the awaitable was cancelled.
            PluginError: when it raised; the plugin's exception is the cause.
            AgentError: when it raised one, unchanged.
        """
        seconds = self.deadline(method) if deadline is None else deadline
        bound = asyncio.timeout(seconds)
        try:
            async with bound:
                return await awaitable
        except AgentError:
            raise
        except (Exception, SystemExit) as exc:
            if bound.expired() and isinstance(exc, TimeoutError):
                what = f"{self.record.label} is still in {method}() after {seconds:g} s"
                raise PluginTimeout(what, plugin=self.record.name, stage=method) from exc
            what = f"{self.record.label} failed in {method}(): {said(exc)}"
            raise PluginError(what, plugin=self.record.name, stage=method) from exc

    def deadline(self, method: str) -> float:
        """Seconds that a method may take."""
        return self.info.deadlines.get(method) or DEADLINES.get(method, self._default_deadline)

    def lanes(self) -> list[dict[str, Any]]:
        """Describe every lane with its statistics, as plain data."""
        return [lane.describe() for lane in self._lanes.values()]

    def end_lanes(self) -> None:
        """End the lanes' idle threads; nothing can be called afterwards."""
        for lane in self._lanes.values():
            lane.close()

    # ---- when its worker dies ------------------------------------------------------------------

    def went_down(self, reason: str, *, quietly: bool = False) -> None:
        """Note that its worker is gone and, unless quietly, log it."""
        self.is_down = True
        self._note(PluginState.DEGRADED, "worker", reason, _DOWN, quietly=quietly)

    def came_back(self, detail: str) -> None:
        """Note that it is open again in a new worker."""
        self.is_down = False
        self._note(PluginState.READY, "worker", "", detail=detail)

    def give_up(self, reason: str) -> None:
        """Quarantine it: it is not called any more, and what waits is refused."""
        self._note(PluginState.QUARANTINED, "quarantine", reason)
        for each in self._lanes.values():
            each.refuse_waiting("was quarantined")

    def forgive(self) -> None:
        """Forget the calls that were overdue, as a reset by the operator does."""
        for lane in self._lanes.values():
            lane.overdue_in_a_row = 0

    def _abandoned(self, lane: str, method: str, deadline: float) -> None:
        self._adapter.overdue(method, deadline)
        if not self.record.state.usable:
            return
        row = self._lanes[lane].overdue_in_a_row
        stuck = sum(each.stuck for each in self._lanes.values())
        reason = f"still in {method}() after {deadline:g} s"
        self._note(PluginState.DEGRADED, f"call {method}", reason)
        if max(row, stuck) >= ABANDONED_BOUND:
            self.give_up(
                f"{reason}; {row} calls in a row were overdue and {stuck} threads are stuck"
            )

    def _returned(self) -> None:
        if self.is_down or self.record.state is not PluginState.DEGRADED:
            return
        if all(lane.overdue_in_a_row == 0 for lane in self._lanes.values()):
            self._note(PluginState.READY, "call", "")

    def _note(
        self,
        state: PluginState,
        step: str,
        reason: str,
        hint: str = "",
        *,
        detail: str = "",
        quietly: bool = False,
    ) -> None:
        hint = hint or _HINTS[state]
        self.record.note(step, state.value, reason or detail, state=state, reason=reason, hint=hint)
        self._changed(self)
        if not quietly:
            _log.warning("%s is %s%s", self.record.label, state, f": {reason}" if reason else "")

    def _refusal(self, method: str, what: str) -> PluginError:
        return PluginError(
            f"{self.record.label} {what}",
            plugin=self.record.name,
            stage=method,
            hint=self.record.hint or None,
        )


_HINTS: Final[Mapping[PluginState, str]] = {
    PluginState.READY: "",
    PluginState.DEGRADED: "Nothing yet: it is ready again once a call returns in time.",
    PluginState.QUARANTINED: (
        "Look for what hangs (its driver, its daemon), then `agentctl plugins reset NAME`,"
        " or restart the agent where the plugin is inline; kernels go on."
    ),
}

_DOWN: Final = "Nothing yet: it is started again; kernels go on, and keep their devices."

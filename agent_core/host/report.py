"""The one record of each plugin: list, show and why all read it, and nothing else knows more.

Rows and details are plain dictionaries with the fields of the wire models PluginRow and
PluginDetail, so that a listing without an agent needs no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agent_core.host.candidates import Candidate
from agent_core.host.policy import Decision, Plan
from agent_core.host.states import PluginState, TrailStep

if TYPE_CHECKING:
    from agent_core.contracts.info import PluginInfo, SlotInfo


class Standing(NamedTuple):
    """What is known of a plugin at one moment; never changed, only replaced.

    Attributes:
        state: Its state.
        reason: Why it is in that state, in one line; empty where there is nothing to say.
        hint: What to do about it.
        trail: Every step so far, in order.
        traceback: The traceback of what failed, as text.
        load_ms: Milliseconds that importing took; None before.
        info: What it says of itself; None before it was imported.
    """

    state: PluginState
    reason: str = ""
    hint: str = ""
    trail: tuple[TrailStep, ...] = ()
    traceback: str = ""
    load_ms: float | None = None
    info: PluginInfo | None = None


class PluginRecord:
    """One candidate and all that became of it; only `note` changes it."""

    __slots__ = ("_standing", "candidate")

    def __init__(self, decision: Decision) -> None:
        self.candidate: Candidate = decision.candidate
        self._standing = Standing(
            decision.state, decision.reason, decision.hint, trail=decision.trail
        )

    @property
    def standing(self) -> Standing:
        """What is known now, all of one moment."""
        return self._standing

    @property
    def kind(self) -> str:
        """The plugin's kind."""
        return self.candidate.kind

    @property
    def name(self) -> str:
        """The plugin's name."""
        return self.candidate.name

    @property
    def label(self) -> str:
        """The plugin as messages name it: ``device 'acme' (acme-accel 1.4)``."""
        return f"{self.kind} {self.name!r} ({self.candidate.origin})"

    @property
    def state(self) -> PluginState:
        """The plugin's present state."""
        return self._standing.state

    @property
    def reason(self) -> str:
        """Why it is in that state."""
        return self._standing.reason

    @property
    def hint(self) -> str:
        """What to do about it."""
        return self._standing.hint

    @property
    def info(self) -> PluginInfo | None:
        """What it says of itself, once imported."""
        return self._standing.info

    def note(self, step: str, outcome: str, detail: str = "", **changes: Any) -> None:
        """Add a step to the trail and take over what it changed.

        Args:
            step: What was done, such as ``import``.
            outcome: What came out.
            detail: Why, in one line.
            **changes: New values of fields of `Standing`; a state that may not follow the present
                one is a defect of the host.

        Raises:
            ValueError: when the new state may not follow the present one.
        """
        state = changes.get("state", self.state)
        if state is not self.state and not self.state.may_become(state):
            raise ValueError(f"{self.label} cannot go from {self.state} to {state}")
        # A plugin that comes and goes for months must not grow its trail for months.
        trail = self._standing.trail
        kept = trail if len(trail) < _TRAIL_BOUND else (*trail[:_TRAIL_KEPT], *trail[-_TRAIL_KEPT:])
        trail = (*kept, TrailStep(step, outcome, detail))
        self._standing = self._standing._replace(trail=trail, **changes)

    def row(self) -> dict[str, Any]:
        """Render the fields of PluginRow."""
        load_ms = self._standing.load_ms
        return {
            "name": self.name,
            "kind": self.kind,
            "state": self.state.value,
            "distribution": self.candidate.dist,
            "version": self.candidate.version,
            "contract": f"v{self.candidate.contract}",
            "reason": self.reason,
            "load_ms": None if load_ms is None else round(load_ms, 1),
        }

    def detail(
        self,
        lanes: Sequence[Mapping[str, Any]] = (),
        worker: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Render the fields of PluginDetail.

        Args:
            lanes: The statistics of its calls.
            worker: Its worker process, where it has one.
        """
        now = self._standing
        info = now.info
        capabilities = info.capabilities if info else {}
        return {
            **self.row(),
            "summary": (info.summary if info else "") or self.candidate.summary,
            "entry_point": f"{self.candidate.group}: {self.name} = {self.candidate.value}",
            "location": self.candidate.location,
            "slots": [_slot_fields(slot) for slot in info.slots] if info else [],
            "capabilities": {key: str(value) for key, value in capabilities.items()},
            "facts": {},
            "trail": [step._asdict() for step in now.trail],
            "traceback": now.traceback,
            "hint": now.hint,
            "lanes": [dict(lane) for lane in lanes],
            "worker": None if worker is None else dict(worker),
        }


_TRAIL_BOUND = 64
_TRAIL_KEPT = 24


def records_of(plan: Plan) -> tuple[PluginRecord, ...]:
    """Open a record for every decision of a plan, in its order."""
    return tuple(PluginRecord(decision) for decision in plan.decisions)


def find(records: Sequence[PluginRecord], name: str) -> PluginRecord:
    """Look a plugin up by its name, ``kind:name`` or ``distribution:name``.

    Of several records of one kind and name, the one that came furthest is returned.

    Raises:
        NotFound: when there is none; the hint suggests a near name.
        AmbiguousId: when plugins of several kinds have the name.
    """
    from agent_core.host.requirement import canonical

    qualifier, _, bare = name.rpartition(":")
    named = [r for r in records if r.name == bare]
    if qualifier:
        wanted = canonical(qualifier)
        named = [r for r in named if wanted in (r.kind, canonical(r.candidate.dist))]
    kinds = sorted({record.kind for record in named})
    if not named:
        raise _not_found(records, name)
    if len(kinds) > 1:
        raise _ambiguous(name, [f"{kind}:{bare}" for kind in kinds])
    return max(named, key=lambda record: _PROGRESS[record.state])


def _not_found(records: Sequence[PluginRecord], name: str) -> Exception:
    from agent_core.contracts.errors import NotFound
    from agent_core.host.notices import suggestion

    known = [name for r in records for name in (r.name, f"{r.kind}:{r.name}")]
    hint = suggestion(name, known) or "`agentctl plugins list` shows what is installed."
    return NotFound(f"no installed plugin is named {name!r}", hint=hint, details={"name": name})


def _ambiguous(name: str, matches: list[str]) -> Exception:
    from agent_core.contracts.errors import AmbiguousId

    return AmbiguousId(
        f"{name!r} names plugins of several kinds: {', '.join(matches)}",
        hint=f"Name one of them, such as {matches[0]}.",
        details={"matches": matches},
    )


_PROGRESS = {
    state: progress
    for progress, state in enumerate(
        [
            PluginState.WRONG_CONTRACT,
            PluginState.BLOCKED,
            PluginState.NOT_ALLOWED,
            PluginState.NOT_SELECTED,
            PluginState.DUPLICATE,
            PluginState.FOUND,
            PluginState.IMPORT_FAILED,
            PluginState.INIT_FAILED,
            PluginState.DISABLED,
            PluginState.QUARANTINED,
            PluginState.DEGRADED,
            PluginState.READY,
        ]
    )
}


def _slot_fields(slot: SlotInfo) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(slot), "type": str(slot.type)}

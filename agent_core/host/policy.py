"""What may load, and why: a pure function from candidates and the operator's choice to a plan.

Nothing is read and nothing is imported here. Each candidate passes the checks in order; the first
that refuses it decides its state, and every check that was made is a step of its trail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from agent_core import __version__
from agent_core.config.selection import Selection
from agent_core.contracts.versions import CONTRACTS
from agent_core.host.candidates import Candidate, distinct
from agent_core.host.lists import allow_lists, block_lists, is_intrinsic, resolved
from agent_core.host.notices import (
    SELECTED_BY,
    Notice,
    list_notices,
    missing,
    selected_names,
    suggestion,
)
from agent_core.host.requirement import CORE, admits, canonical
from agent_core.host.states import PluginState, TrailStep


class Decision(NamedTuple):
    """What was decided of one candidate.

    Attributes:
        candidate: The candidate.
        state: FOUND when it may load, else why not.
        reason: The refusal in one line; empty when it may load.
        hint: What would change the decision.
        trail: Every check that was made, in order.
    """

    candidate: Candidate
    state: PluginState
    reason: str
    hint: str
    trail: tuple[TrailStep, ...]

    @property
    def allowed(self) -> bool:
        """Whether it may be imported."""
        return self.state is PluginState.FOUND


class Plan(NamedTuple):
    """The decision about every candidate, sorted by kind and name, and remarks on the lists.

    Attributes:
        decisions: One for each candidate.
        notices: Remarks on the configuration.
        selection: The operator's choice, with what was left open filled in.
    """

    decisions: tuple[Decision, ...]
    notices: tuple[Notice, ...] = ()
    selection: Selection = Selection()

    @property
    def allowed(self) -> tuple[Candidate, ...]:
        """The candidates that may be imported."""
        return tuple(d.candidate for d in self.decisions if d.allowed)


class _Rules(NamedTuple):
    selection: Selection
    contracts: Mapping[str, tuple[int, ...]]
    core_version: str


class _Verdict(NamedTuple):
    step: TrailStep
    state: PluginState | None = None
    hint: str = ""


def decide(
    candidates: Iterable[Candidate],
    selection: Selection,
    *,
    contracts: Mapping[str, tuple[int, ...]] = CONTRACTS,
    core_version: str = __version__,
) -> Plan:
    """Decide about every candidate.

    Args:
        candidates: What was found, in any order.
        selection: The operator's choice.
        contracts: For each kind, the contract versions that this host speaks.
        core_version: The version of agent-core to compare distributions' ranges with.
    """
    found = distinct(candidates)
    selection = resolved(selection, found)
    rules = _Rules(selection, contracts, core_version)
    decisions = tuple(_settle_names([_judge(candidate, rules) for candidate in found]))
    remarks = (*list_notices(found, selection), *_selection_notices(decisions, selection))
    return Plan(decisions, remarks, selection)


def is_trusted(candidate: Candidate, plan: Plan) -> bool:
    """Whether it may run on the agent's loop: ours, or of the selected backend's distribution."""
    backends = (c for c in plan.allowed if c.kind == "backend")
    homes = {CORE, *(canonical(backend.dist) for backend in backends)}
    return canonical(candidate.dist) in homes


def _judge(candidate: Candidate, rules: _Rules) -> Decision:
    trail = [TrailStep("found", "yes", f"{candidate.value} of {candidate.origin}")]
    for check in _CHECKS:
        verdict = check(candidate, rules)
        trail.append(verdict.step)
        if verdict.state is not None:
            reason = verdict.step.detail
            return Decision(candidate, verdict.state, reason, verdict.hint, tuple(trail))
    return Decision(candidate, PluginState.FOUND, "", "", tuple(trail))


def _check_kind(candidate: Candidate, rules: _Rules) -> _Verdict:
    if candidate.kind in rules.contracts:
        return _Verdict(TrailStep("kind", "known", candidate.kind))
    known = ", ".join(sorted(rules.contracts))
    detail = f"agent-core {rules.core_version} knows no kind {candidate.kind!r}, only {known}"
    hint = suggestion(candidate.kind, rules.contracts) or "Upgrade: pip install -U agent-core"
    return _Verdict(TrailStep("kind", "unknown", detail), PluginState.WRONG_CONTRACT, hint)


def _check_block(candidate: Candidate, rules: _Rules) -> _Verdict:
    if is_intrinsic(candidate):
        return _Verdict(TrailStep("block lists", "exempt", "agent-core's own"))
    for block in block_lists(rules.selection):
        item = block.match(candidate) if block.governs(candidate) else None
        if item is not None:
            step = TrailStep("block lists", "blocked", f"{item!r} is in {block.key}")
            hint = f"Take {item!r} out of {block.key} to load it."
            return _Verdict(step, PluginState.BLOCKED, hint)
    return _Verdict(TrailStep("block lists", "passed"))


def _check_allow(candidate: Candidate, rules: _Rules) -> _Verdict:
    if is_intrinsic(candidate):
        return _Verdict(TrailStep("allow lists", "exempt", "agent-core's own"))
    consents = []
    for allow in allow_lists(rules.selection):
        if not allow.governs(candidate):
            continue
        item = allow.match(candidate)
        if item is None:
            step = TrailStep("allow lists", "not allowed", f"not in {allow.key}")
            hint = f"Add {candidate.name!r} to {allow.key} to load it."
            return _Verdict(step, PluginState.NOT_ALLOWED, hint)
        consents.append(f"{item!r} is in {allow.key}")
    return _Verdict(TrailStep("allow lists", "passed", "; ".join(consents) or "no list is set"))


def _check_selected(candidate: Candidate, rules: _Rules) -> _Verdict:
    selected = selected_names(rules.selection).get(candidate.kind)
    if selected in (None, candidate.name):
        return _Verdict(TrailStep("selection", "passed"))
    key = SELECTED_BY[candidate.kind]
    step = TrailStep("selection", "not selected", f"{key} selects {selected!r}")
    hint = f'Set {key} = "{candidate.name}" to load it instead.'
    return _Verdict(step, PluginState.NOT_SELECTED, hint)


def _check_contract(candidate: Candidate, rules: _Rules) -> _Verdict:
    spoken = rules.contracts[candidate.kind]
    if candidate.contract in spoken:
        return _Verdict(TrailStep("contract", "spoken", f"v{candidate.contract}"))
    ours = ", ".join(f"v{version}" for version in spoken)
    detail = (
        f"{candidate.origin} is made for {candidate.kind} contract v{candidate.contract};"
        f" agent-core {rules.core_version} speaks {ours}"
    )
    older = "agent-core" if candidate.contract > max(spoken) else candidate.dist
    step = TrailStep("contract", "not spoken", detail)
    return _Verdict(step, PluginState.WRONG_CONTRACT, f"Upgrade: pip install -U {older}")


def _check_core_range(candidate: Candidate, rules: _Rules) -> _Verdict:
    wanted = candidate.requires_core
    if admits(wanted, rules.core_version):
        return _Verdict(TrailStep("core range", "fits", wanted or "none declared"))
    detail = f"{candidate.origin} needs agent-core {wanted}, and this is {rules.core_version}"
    step = TrailStep("core range", "does not fit", detail)
    hint = f"Let pip find versions that fit: pip install -U agent-core {candidate.dist}"
    return _Verdict(step, PluginState.WRONG_CONTRACT, hint)


_CHECKS: Final[tuple[Callable[[Candidate, _Rules], _Verdict], ...]] = (
    _check_kind,
    _check_block,
    _check_allow,
    _check_selected,
    _check_contract,
    _check_core_range,
)


def _settle_names(decisions: Sequence[Decision]) -> Iterator[Decision]:
    for _, group in groupby(decisions, key=lambda d: (d.candidate.kind, d.candidate.name)):
        same_name = list(group)
        rivals = _contenders([d.candidate for d in same_name if d.allowed])
        for decision in same_name:
            yield _settle(decision, rivals) if decision.allowed else decision


def _contenders(candidates: Sequence[Candidate]) -> list[Candidate]:
    newest: dict[str, int] = {}
    for candidate in candidates:
        dist = canonical(candidate.dist)
        newest[dist] = max(newest.get(dist, 0), candidate.contract)
    return [c for c in candidates if c.contract == newest[canonical(c.dist)]]


def _settle(decision: Decision, rivals: Sequence[Candidate]) -> Decision:
    candidate = decision.candidate
    if candidate not in rivals:
        newer = next(r for r in rivals if canonical(r.dist) == canonical(candidate.dist))
        detail = f"superseded by v{newer.contract} of the same plugin"
        return _refuse(decision, PluginState.WRONG_CONTRACT, detail, "Nothing to do.")
    others = [rival for rival in rivals if rival != candidate]
    if not others or (is_intrinsic(candidate) and not any(map(is_intrinsic, others))):
        step = TrailStep("name", "unique", f"{candidate.kind}:{candidate.name}")
        return decision._replace(trail=(*decision.trail, step))
    named = ", ".join(f"{other.value} of {other.origin}" for other in others)
    detail = f"{candidate.kind} {candidate.name!r} of {candidate.origin} is also {named}"
    return _refuse(decision, PluginState.DUPLICATE, detail, _duplicate_hint(candidate, others))


def _duplicate_hint(candidate: Candidate, others: Sequence[Candidate]) -> str:
    if any(is_intrinsic(other) for other in others):
        return "That name is agent-core's own; the plugin's author has to choose another."
    if all(canonical(other.dist) == canonical(candidate.dist) for other in others):
        return f"Its author has to mend this: {candidate.dist} declares the name twice."
    return f'Uninstall one of them, or set [plugins] block = ["{canonical(candidate.dist)}"].'


def _refuse(decision: Decision, state: PluginState, detail: str, hint: str) -> Decision:
    step = TrailStep("name", state.value, detail)
    trail = (*decision.trail, step)
    return decision._replace(state=state, reason=detail, hint=hint, trail=trail)


def _selection_notices(decisions: Sequence[Decision], selection: Selection) -> Iterator[Notice]:
    candidates = [decision.candidate for decision in decisions]
    for kind, name in selected_names(selection).items():
        chosen = [d for d in decisions if (d.candidate.kind, d.candidate.name) == (kind, name)]
        if not chosen:
            yield missing(kind, name, candidates)
        elif not any(decision.allowed for decision in chosen):
            first = chosen[0]
            message = f"{kind} {name!r} is selected and cannot load: {first.reason}"
            yield Notice("error", SELECTED_BY[kind], name, message, first.hint)

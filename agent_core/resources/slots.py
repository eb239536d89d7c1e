"""Reading what a user asks for: every fault of a request is found at once."""

from __future__ import annotations

from collections.abc import Mapping

from agent_core.contracts.amount import Amount
from agent_core.contracts.errors import (
    AgentError,
    InsufficientResource,
    InvalidAmount,
    ResourceRefused,
    UnknownSlot,
)
from agent_core.contracts.info import SlotType
from agent_core.resources.catalogue import Catalogue, SlotSpec

_ONE = Amount(1)
_POOL = "Ask for whole cores, or set [resource] shared-cpu to keep cores for fractions of them."


def parse_request(
    request: Mapping[str, str], catalogue: Catalogue
) -> tuple[dict[str, Amount], list[AgentError]]:
    """Read amounts by slot, such as ``{"cpu": "1", "mem": "256m", "cuda.shares": "0.5"}``.

    Returns:
        The amounts that could be read, and every fault found; a request is only good when there
        are no faults. What is free is not looked at here.
    """
    amounts: dict[str, Amount] = {}
    faults: list[AgentError] = []
    for slot, text in request.items():
        try:
            amounts[slot] = _read(slot, text, catalogue)
        except AgentError as fault:
            faults.append(fault)
    faults.extend(exclusions(request, catalogue))
    return amounts, faults


def check_request(request: Mapping[str, Amount], catalogue: Catalogue) -> list[AgentError]:
    """Find every fault of a request that has already been read."""
    faults: list[AgentError] = []
    for slot, amount in request.items():
        try:
            check_amount(slot, amount, str(amount), find_slot(slot, catalogue))
        except AgentError as fault:
            faults.append(fault)
    return faults + exclusions(request, catalogue)


def exclusions(request: Mapping[str, object], catalogue: Catalogue) -> list[AgentError]:
    """Find the slots of a request that exclude each other within one kernel."""
    return [
        ResourceRefused(
            f"{' and '.join(group)} exclude each other within one kernel",
            hint="Ask for one of them only.",
            details={"slots": list(group)},
        )
        for group in catalogue.excluded(request)
    ]


def find_slot(slot: str, catalogue: Catalogue) -> SlotSpec:
    """Look a slot up.

    Raises:
        UnknownSlot: when nobody offers it; the hint says which was probably meant.
    """
    spec = catalogue.find(slot)
    if spec is not None and spec.offered:
        return spec
    meant = catalogue.suggest(slot)
    why = (
        f"plugin {spec.plugin!r} declares the slot {slot!r}, but none of its devices offers it"
        if spec
        else f"no ready plugin offers the slot {slot!r}"
    )
    hint = f"Did you mean {meant!r}? {UnknownSlot.hint}" if meant else None
    raise UnknownSlot(why, hint=hint, details={"slot": slot, "suggestion": meant})


def check_amount(slot: str, amount: Amount, text: str, spec: SlotSpec) -> None:
    """Check an amount against the slot's type, quantum and total.

    Raises:
        InvalidAmount: when no kernel can ever have this amount.
        InsufficientResource: when the whole node has less than that.
    """
    if not amount:
        raise _invalid(slot, text, "asks for nothing; leave the slot out")
    if spec.type is SlotType.UNIQUE and amount != _ONE:
        raise _invalid(slot, text, "is refused: a kernel has exactly 1 of it or none")
    if spec.type is SlotType.BYTES and amount.scale:
        raise _invalid(slot, text, "is refused: whole bytes only")
    if spec.quantum is not None and amount.quanta(spec.quantum) is None:
        hint = _POOL if slot == "cpu" and spec.quantum == _ONE else None
        raise _invalid(slot, text, f"is refused: {_grain(spec, spec.quantum)}", hint)
    if spec.total is not None and amount > spec.total:
        raise InsufficientResource(
            f"{slot}={text} is more than this node has: {spec.total} in total",
            hint="No kernel that ends will make room for this; ask for less, or another node.",
            details={"slot": slot, "requested": str(amount), "total": str(spec.total)},
        )


def _grain(spec: SlotSpec, quantum: Amount) -> str:
    if quantum == _ONE:
        return f"whole {spec.units} only"
    return f"multiples of {quantum} only"


def _read(slot: str, text: object, catalogue: Catalogue) -> Amount:
    spec = find_slot(slot, catalogue)
    if isinstance(text, int) and not isinstance(text, bool):
        text = str(text)
    if not isinstance(text, str):
        raise _invalid(slot, text, "is not an amount; write it as a string")
    if text.strip().startswith("-"):
        raise _invalid(slot, text, "is negative")
    try:
        parse = Amount.parse_size if spec.type is SlotType.BYTES else Amount.parse
        amount = parse(text)
    except ValueError as exc:
        raise _invalid(slot, text, f"is not an amount: {exc}") from exc
    check_amount(slot, amount, text.strip(), spec)
    return amount


def _invalid(slot: str, text: object, why: str, hint: str | None = None) -> InvalidAmount:
    shown = str(text)[:80]
    details = {"slot": slot, "requested": shown}
    return InvalidAmount(f"{slot}={shown} {why}", hint=hint, details=details)

"""Overcommit: an exact decimal that multiplies what is there."""

from __future__ import annotations

from agent_core.contracts.amount import Amount
from agent_core.contracts.errors import InvalidConfig


def overcommit(plugin: str, value: object) -> Amount:
    """Read a factor; a float is the shortest decimal that it prints as.

    Raises:
        InvalidConfig: when it is no decimal of at least 1.
    """
    try:
        factor = Amount.parse(str(value))
    except ValueError as exc:
        raise InvalidConfig(f"{plugin}: overcommit: {exc}") from exc
    if factor < Amount(1):
        raise InvalidConfig(
            f"{plugin}: overcommit: {factor} is less than 1",
            hint="What kernels must not have is kept from them by [resource] reserved-*.",
        )
    return factor


def whole(factor: Amount, times: int) -> int:
    """Multiply and leave the fraction out."""
    return int(factor.value * times // 10**factor.scale)

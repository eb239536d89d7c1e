"""The claims that stand, what each draws, and the sums over them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Claim, Grant

_NONE = Amount(0)


@dataclass(frozen=True, slots=True)
class Holding:
    """One claim with what each of its grants draws; None where nobody could tell so far."""

    claim: Claim
    draws: tuple[Mapping[str, int] | None, ...]

    def total(self) -> dict[str, int]:
        """Sum what the whole claim is known to draw, by counter."""
        total: dict[str, int] = {}
        for draws in self.draws:
            for counter, amount in (draws or {}).items():
                total[counter] = total.get(counter, 0) + amount
        return total


class Holdings:
    """Claims by id, with sums that are kept up to date claim by claim."""

    def __init__(self) -> None:
        self._held: dict[str, Holding] = {}
        self._by_plugin: dict[str, dict[str, None]] = {}
        self._amounts: dict[tuple[str, str], Amount] = {}
        self._of_device: dict[tuple[str, str], dict[str, Amount]] = {}

    def __contains__(self, claim_id: str) -> bool:
        return claim_id in self._held

    def __iter__(self) -> Iterator[Holding]:
        return iter(self._held.values())

    def of_plugin(self, plugin: str) -> list[Holding]:
        """List the claims on one plugin."""
        return [self._held[claim_id] for claim_id in self._by_plugin.get(plugin, ())]

    def over(self, plugins: Iterable[str]) -> Iterator[Holding]:
        """Yield the claims on some plugins."""
        for plugin in plugins:
            for claim_id in self._by_plugin.get(plugin, ()):
                yield self._held[claim_id]

    def put(self, holding: Holding) -> None:
        """Add a claim, or replace what it draws."""
        claim = holding.claim
        if claim.id not in self._held:
            self._by_plugin.setdefault(claim.plugin, {})[claim.id] = None
            for grant in claim.grants:
                self._sum(claim.plugin, grant)
        self._held[claim.id] = holding

    def pop(self, claim_id: str) -> Holding:
        """Remove a claim that is there and return it."""
        holding = self._held.pop(claim_id)
        plugin = holding.claim.plugin
        self._by_plugin[plugin].pop(claim_id)
        if not self._by_plugin[plugin]:
            del self._by_plugin[plugin]
        for grant in holding.claim.grants:
            self._unsum(plugin, grant)
        return holding

    def amount(self, plugin: str, slot: str) -> Amount:
        """Sum what is granted of a slot."""
        return self._amounts.get((plugin, slot), _NONE)

    def slots(self, plugin: str) -> list[str]:
        """List the slots of a plugin of which something is granted."""
        return [slot for of, slot in self._amounts if of == plugin]

    def of_device(self, plugin: str, device_id: str) -> dict[str, Amount]:
        """Sum what is granted of a device, by slot."""
        return dict(self._of_device.get((plugin, device_id), {}))

    def _sum(self, plugin: str, grant: Grant) -> None:
        slot, device = (plugin, grant.slot), (plugin, grant.device_id)
        self._amounts[slot] = self._amounts.get(slot, _NONE) + grant.amount
        of_device = self._of_device.setdefault(device, {})
        of_device[grant.slot] = of_device.get(grant.slot, _NONE) + grant.amount

    def _unsum(self, plugin: str, grant: Grant) -> None:
        slot, device = (plugin, grant.slot), (plugin, grant.device_id)
        self._amounts[slot] -= grant.amount
        if not self._amounts[slot]:
            del self._amounts[slot]
        of_device = self._of_device[device]
        of_device[grant.slot] -= grant.amount
        if not of_device[grant.slot]:
            del of_device[grant.slot]
        if not of_device:
            del self._of_device[device]

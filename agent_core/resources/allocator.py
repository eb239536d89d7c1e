"""Who has what of this node: the one place where slots are given, restored and taken back.

The allocator does no I/O and is not safe for threads: it belongs to the event loop. One decision
costs the same however many kernels run, since every sum is kept up to date claim by claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Claim, Device, Grant, Health
from agent_core.contracts.errors import (
    AgentError,
    DevicesUnknown,
    InsufficientResource,
    NotFound,
    WrongState,
)
from agent_core.contracts.info import PluginInfo
from agent_core.resources.catalogue import Catalogue, SlotSpec
from agent_core.resources.counters import Room
from agent_core.resources.deciding import Outcome, Outcomes, Want, decide, fits, in_order
from agent_core.resources.holdings import Holding, Holdings
from agent_core.resources.placement import Strategy, available
from agent_core.resources.refusal import combined, insufficient, overdrawn, raise_all
from agent_core.resources.remedies import Ground, Remedy, remedies
from agent_core.resources.shelf import Shelf, empty_slot
from agent_core.resources.slots import check_request, find_slot
from agent_core.resources.stockroom import Stockroom
from agent_core.resources.usage import Decision, DeviceUsage, Plan, SlotUsage


class Allocator:
    """The slots, devices and claims of one node.

    allocator = Allocator()
    allocator.update("cpu", CpuDevice.info, cpu.devices())
    decision = allocator.reserve("k-1", 1, {"cpu": Amount(2)})
    allocator.release(decision.claims[0].id)

    Args:
        strategy: How a request that fits no single device is split.
        masks: By plugin, globs of the devices that get no new grants.
    """

    def __init__(
        self,
        strategy: Strategy = Strategy.FILL,
        masks: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._strategy = strategy
        self._stock = Stockroom(masks)
        self._counters = self._stock.counters
        self._holdings = Holdings()

    @property
    def catalogue(self) -> Catalogue:
        """The slots by name, to read requests against."""
        return self._stock.catalogue

    def update(self, plugin: str, info: PluginInfo, devices: Sequence[Device] | None) -> None:
        """Take a plugin's inventory, or None when what it has is not known.

        Claims stand whatever is reported; a claim on a device that has gone keeps what it drew.

        Raises:
            PluginContractBroken: when the inventory cannot be used, or clashes with that of
                another plugin; the previous one stands.
        """
        if self._stock.update(plugin, info, devices):
            self._recount(self._stock.shelves[plugin])

    def mask(self, masks: Mapping[str, Sequence[str]]) -> None:
        """Withhold other devices from new grants, from the next report of each plugin on."""
        self._stock.mask(masks)

    def forget(self, plugin: str) -> None:
        """Withdraw a plugin's slots; its claims stand, and keep what they drew."""
        self._stock.forget(plugin)

    def _recount(self, shelf: Shelf) -> None:
        for holding in self._holdings.of_plugin(shelf.plugin):
            grants = zip(holding.claim.grants, holding.draws, strict=True)
            draws = (shelf.draws(g) or shelf.whole(g) or last for g, last in grants)
            counted = Holding(holding.claim, tuple(draws))
            self._counters.undraw(holding.total())
            self._counters.draw(counted.total())
            self._holdings.put(counted)

    # ---- giving and taking back ----------------------------------------------------------------

    def reserve(self, kernel_id: str, incarnation: int, request: Mapping[str, Amount]) -> Decision:
        """Grant exactly what is asked, of all plugins together, or nothing at all.

        Raises:
            UnknownSlot: when nobody offers a slot.
            InvalidAmount: when an amount is zero or finer than the slot's quantum.
            ResourceRefused: when two slots exclude each other.
            DevicesUnknown: when a plugin has not reported its devices.
            InsufficientResource: when less is free; details name slot, requested, free, trace
                and remedies.
            WrongState: when this incarnation already holds a claim.
        """
        plan = self.plan(kernel_id, incarnation, request)
        if plan.refusal is not None:
            raise plan.refusal
        for claim in plan.claims:
            self._hold(claim)
        return Decision(plan.claims, plan.outcomes)

    def plan(self, kernel_id: str, incarnation: int, request: Mapping[str, Amount]) -> Plan:
        """Decide as `reserve` does, and take nothing; what does not fit is in the plan.

        Raises:
            AgentError: as `reserve`, but for InsufficientResource.
        """
        raise_all(check_request(request, self.catalogue))
        specs = [find_slot(slot, self.catalogue) for slot in request]
        raise_all(self._unready(kernel_id, incarnation, specs))
        wants = in_order(
            self._want(spec, request[slot]) for slot, spec in zip(request, specs, strict=True)
        )
        # The room is a copy: what was decided can be explained after others have drawn.
        room = Room(dict(self._counters.left))
        outcomes = decide(wants, room, self._strategy)
        if fits(outcomes):
            return Plan(_claims(kernel_id, incarnation, outcomes), outcomes, {}, None)
        short = [outcome for outcome in outcomes if outcome.placed is None]
        found = {o.want.name: remedies(o, wants, self._ground(o)) for o in short}
        return Plan((), outcomes, found, self._refusal(short, found))

    def _want(self, spec: SlotSpec, amount: Amount) -> Want:
        shelf = self._stock.shelves[spec.plugin]
        slot = shelf.slots[spec.name].serving(amount)
        return Want(spec.name, shelf, slot, amount.quanta(slot.quantum) or 0)

    def _ground(self, outcome: Outcome) -> Ground:
        drawn = {c for option in outcome.want.slot.options for c in option.draws}
        plugins = self._counters.plugins(drawn)
        return Ground(self._counters, self._holdings.over(plugins), self._strategy)

    def _refusal(
        self, short: Sequence[Outcome], found: Mapping[str, tuple[Remedy, ...]]
    ) -> AgentError:
        refusals = [
            insufficient(o, self._stock.held_by(o.want.slot), found[o.want.name]) for o in short
        ]
        return combined(refusals)

    def _unready(
        self, kernel_id: str, incarnation: int, specs: Sequence[SlotSpec]
    ) -> Iterator[AgentError]:
        for plugin in sorted({spec.plugin for spec in specs}):
            if not self._stock.shelves[plugin].known:
                waiting = sorted(spec.name for spec in specs if spec.plugin == plugin)
                yield DevicesUnknown(
                    f"plugin {plugin!r} has not reported its devices, so {', '.join(waiting)} "
                    "cannot be given now",
                    details={"plugin": plugin, "slots": waiting},
                )
            if f"{kernel_id}.{incarnation}.{plugin}" in self._holdings:
                yield WrongState(
                    f"kernel {kernel_id!r} (incarnation {incarnation}) already holds a claim on "
                    f"plugin {plugin!r}",
                    hint="Release it before reserving again.",
                )

    def apply(self, claim: Claim) -> None:
        """Restore a claim that was granted before a restart.

        A claim on a device that nobody reports now is remembered, and counted when it appears.

        Raises:
            WrongState: when this claim is already there; nothing changed.
            InsufficientResource: when a counter does not hold it any more; nothing changed.
        """
        if claim.id in self._holdings:
            raise WrongState(f"claim {claim.id!r} is already applied")
        shelf = self._stock.shelves.get(claim.plugin)
        told = [shelf.draws(grant) for grant in claim.grants] if shelf else []
        draws = Holding(claim, tuple(told)).total()
        left = {counter: self._counters.room(counter) for counter in draws}
        over = {counter: n for counter, n in draws.items() if n > left[counter]}
        if over:
            raise overdrawn(claim.id, over, {counter: left[counter] for counter in over})
        self._hold(claim)

    def restore(self, claim: Claim) -> str:
        """Apply a claim that a kernel really has, whatever the counters say.

        Where less is left than it draws, since a device or a limit shrank meanwhile, it is drawn
        all the same: what is overdrawn is never given to anybody else.

        Returns:
            Why it does not fit, or nothing when it does.

        Raises:
            WrongState: when this claim is already there; nothing changed.
        """
        try:
            self.apply(claim)
        except InsufficientResource as exc:
            self._hold(claim)
            return exc.message
        return ""

    def release(self, claim_id: str) -> Claim:
        """Take a claim back and return it.

        Raises:
            NotFound: when there is no such claim, or it was released before; nothing changed.
        """
        if claim_id not in self._holdings:
            raise NotFound(f"there is no claim {claim_id!r}; it was never given or is released")
        holding = self._holdings.pop(claim_id)
        self._counters.undraw(holding.total())
        return holding.claim

    def _hold(self, claim: Claim) -> None:
        holding = self._holding(claim)
        self._counters.draw(holding.total())
        self._holdings.put(holding)

    def _holding(self, claim: Claim) -> Holding:
        shelf = self._stock.shelves.get(claim.plugin)
        if shelf is None:
            return Holding(claim, (None,) * len(claim.grants))
        return Holding(claim, tuple(shelf.draws(g) or shelf.whole(g) for g in claim.grants))

    # ---- looking -------------------------------------------------------------------------------

    def slots(self) -> list[SlotUsage]:
        """List all slots by name; those of a plugin that has not reported are marked."""
        usages = [usage for shelf in self._stock.shelves.values() for usage in self._usages(shelf)]
        return sorted(usages, key=lambda u: (u.slot, u.plugin))

    def _usages(self, shelf: Shelf) -> Iterator[SlotUsage]:
        declared = [d.name for d in shelf.info.slots if "*" not in d.name and not shelf.known]
        names = dict.fromkeys([*shelf.slots, *declared, *self._holdings.slots(shelf.plugin)])
        room = Room(self._counters.left)
        for name in names:
            slot = shelf.slots.get(name) or empty_slot(name, shelf.info)
            free = [s.amount(available(s.options, room, are_apart=s.apart)) for s in slot.grains]
            yield SlotUsage(
                slot=name,
                plugin=shelf.plugin,
                type=slot.display.type,
                quantum=slot.grains[-1].quantum,
                total=self._stock.total(shelf.plugin, name),
                used=self._holdings.amount(shelf.plugin, name),
                free=max(free) if shelf.known else Amount(0),
                display=slot.display,
                known=shelf.known,
            )

    def devices(self) -> list[DeviceUsage]:
        """List the devices of all plugins with what is granted of each."""
        return [
            DeviceUsage(
                plugin,
                device,
                self._holdings.of_device(plugin, device.id),
                shelf.known,
                shelf.withheld(device),
            )
            for plugin, shelf in sorted(self._stock.shelves.items())
            for device in shelf.devices.values()
        ]

    def given(self, plugin: str, grant: Grant) -> tuple[Device | None, int | None]:
        """Return the device of a grant and how much of its memory that is, as far as is known."""
        shelf = self._stock.shelves.get(plugin)
        return (shelf.devices.get(grant.device_id), shelf.memory(grant)) if shelf else (None, None)

    def idle_masks(self) -> list[str]:
        """Say for each mask that matches no device what it is."""
        return [
            f"[resource.device-mask] {plugin}: {glob!r} matches none of its devices"
            for plugin, glob in self._stock.idle_masks()
        ]

    def claims(self) -> tuple[Claim, ...]:
        """List the claims that stand."""
        return tuple(holding.claim for holding in self._holdings)

    def quarantined(self) -> dict[str, str]:
        """Say for each claim that stands on something that has gone, or that nobody reports."""
        found = ((h.claim.id, self._missing(h.claim)) for h in self._holdings)
        return {claim_id: why for claim_id, why in found if why}

    def _missing(self, claim: Claim) -> str:
        shelf = self._stock.shelves.get(claim.plugin)
        if shelf is None or not shelf.known:
            return f"plugin {claim.plugin!r} has not reported its devices"
        gone = [f"{g.slot} of {g.device_id}" for g in claim.grants if shelf.draws(g) is None]
        if gone:
            return f"plugin {claim.plugin!r} does not report {', '.join(gone)}"
        held = dict.fromkeys(g.device_id for g in claim.grants)
        lost = [d for d in held if shelf.devices[d].health is Health.LOST]
        return f"plugin {claim.plugin!r} reports {', '.join(lost)} as lost" if lost else ""


def _claims(kernel_id: str, incarnation: int, outcomes: Outcomes) -> tuple[Claim, ...]:
    grants: dict[str, list[Grant]] = {}
    for want, placed in ((o.want, o.placed) for o in outcomes):
        for device, quanta in placed.quanta.items() if placed else ():
            grant = Grant(want.name, device, want.slot.amount(quanta))
            grants.setdefault(want.shelf.plugin, []).append(grant)
    return tuple(
        Claim(f"{kernel_id}.{incarnation}.{plugin}", kernel_id, incarnation, plugin, tuple(of))
        for plugin, of in sorted(grants.items())
    )

"""The allocator against a simple model: whatever is done in whatever order, the sums are right."""

from collections import Counter as Tally
from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Claim, Counter, Device, Grant, Offer
from agent_core.contracts.errors import AgentError, InsufficientResource, NotFound, WrongState
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.resources.allocator import Allocator
from agent_core.resources.placement import Strategy

CPU = PluginInfo("device", "cpu", slots=(SlotInfo("cpu", SlotType.COUNT),))
GPU = PluginInfo("device", "gpu", slots=(SlotInfo("gpu.*", SlotType.COUNT),))
CORES = [
    Device(f"c{n}", "", (Counter(f"c{n}", 1),), (Offer("cpu", Amount(1), {f"c{n}": 1}),),
           numa_node=n % 2)
    for n in range(4)
]  # fmt: skip


def card(name: str, parts: int, node: int | None) -> Device:
    draw = [
        Offer("gpu.whole", Amount(1), {name: parts}),
        Offer("gpu.part", Amount(1, 1), {name: 1}),
    ]
    return Device(name, "", (Counter(name, parts),), tuple(draw), numa_node=node)


REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "cpu": st.integers(1, 5).map(Amount),
        "gpu.whole": st.integers(1, 3).map(Amount),
        "gpu.part": st.integers(1, 25).map(lambda n: Amount(n, 1)),
    },
).filter(bool)


def number(amount: Amount) -> Fraction:
    return Fraction(str(amount))


class AllocatorMachine(RuleBasedStateMachine):
    """Reserve, release, restart and vanishing devices, with every number checked by hand."""

    claims = Bundle("claims")

    @initialize(
        strategy=st.sampled_from(Strategy),
        sizes=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    )
    def start(self, strategy: Strategy, sizes: list[int]) -> None:
        self.strategy = strategy
        self.cards = [card(f"g{i}", size, i % 2 or None) for i, size in enumerate(sizes)]
        self.draws = {
            (d.id, o.slot): {c: (n, o.quantum) for c, n in o.draws.items()}
            for d in [*CORES, *self.cards]
            for o in d.offers
        }
        self.capacity = {c.id: c.capacity for d in [*CORES, *self.cards] for c in d.counters}
        self.held: dict[str, Claim] = {}
        self.kernels = 0
        self.allocator = self.fresh()

    def fresh(self) -> Allocator:
        allocator = Allocator(self.strategy)
        allocator.update("cpu", CPU, CORES)
        allocator.update("gpu", GPU, self.cards)
        return allocator

    def drawn(self, claims: list[Claim]) -> Tally[str]:
        total: Tally[str] = Tally()
        for claim in claims:
            for grant in claim.grants:
                for counter, (n, quantum) in self.draws[grant.device_id, grant.slot].items():
                    total[counter] += int(number(grant.amount) / number(quantum)) * n
        return total

    def snapshot(self) -> object:
        a = self.allocator
        return a.claims(), a.slots(), a.devices(), a.quarantined()

    @rule(target=claims, request=REQUESTS)
    def reserve(self, request: dict[str, Amount]) -> object:
        before = self.snapshot()
        free = {s.slot: s.free for s in self.allocator.slots()}
        self.kernels += 1
        kernel = f"k{self.kernels}"
        try:
            decision = self.allocator.reserve(kernel, 1, request)
        except InsufficientResource:
            assert self.snapshot() == before
            if len(request) == 1:
                ((slot, asked),) = request.items()
                assert asked > free[slot]
            return multiple()
        granted: Tally[str] = Tally()
        for claim in decision.claims:
            assert claim.id == f"{kernel}.1.{claim.plugin}"
            for grant in claim.grants:
                granted[grant.slot] += number(grant.amount)  # type: ignore[assignment]
        assert granted == {slot: number(amount) for slot, amount in request.items()}
        assert all(request[slot] <= free[slot] for slot in request)
        self.held.update({c.id: c for c in decision.claims})
        return multiple(*decision.claims)

    @rule(claim=consumes(claims))
    def release(self, claim: Claim) -> None:
        assert self.allocator.release(claim.id) == claim
        del self.held[claim.id]
        self.refused(NotFound, lambda: self.allocator.release(claim.id))

    @rule(claim=claims)
    def apply_again(self, claim: Claim) -> None:
        self.refused(WrongState, lambda: self.allocator.apply(claim))

    @rule(name=st.sampled_from(["g0", "g1", "g2"]), whole=st.booleans())
    def apply_another(self, name: str, whole: bool) -> None:
        grant = Grant("gpu.whole" if whole else "gpu.part", name, Amount(1))
        claim = Claim(f"x.{name}.{whole}.gpu", "x", 1, "gpu", (grant,))
        if claim.id in self.held or (name, grant.slot) not in self.draws:
            return
        wanted = self.drawn([claim, *self.held.values()])
        if all(n <= self.capacity[c] for c, n in wanted.items()):
            self.allocator.apply(claim)
            self.held[claim.id] = claim
        else:
            self.refused(InsufficientResource, lambda: self.allocator.apply(claim))

    @rule(order=st.randoms(use_true_random=False), late=st.booleans())
    def restart(self, order: object, late: bool) -> None:
        claims = list(self.held.values())
        order.shuffle(claims)  # type: ignore[attr-defined]
        before = self.snapshot()[1:]  # type: ignore[index]
        self.allocator = Allocator(self.strategy) if late else self.fresh()
        for claim in claims:
            self.allocator.apply(claim)
        if late:
            assert set(self.allocator.quarantined()) == set(self.held)
            self.allocator.update("gpu", GPU, self.cards)
            self.allocator.update("cpu", CPU, CORES)
        assert self.snapshot()[1:] == before  # type: ignore[index]

    @rule(name=st.sampled_from(["g0", "g1", "g2"]))
    def lose_and_find(self, name: str) -> None:
        before = self.snapshot()
        self.allocator.update("gpu", GPU, [c for c in self.cards if c.id != name])
        on_it = {c.id for c in self.held.values() if any(g.device_id == name for g in c.grants)}
        assert set(self.allocator.quarantined()) == on_it
        self.allocator.update("gpu", GPU, None)
        self.allocator.update("gpu", GPU, self.cards)
        assert self.snapshot() == before

    def refused(self, error: type[AgentError], call: object) -> None:
        before = self.snapshot()
        try:
            call()  # type: ignore[operator]
        except error:
            assert self.snapshot() == before
        else:
            raise AssertionError(f"{error.__name__} expected")

    @invariant()
    def nothing_is_given_twice(self) -> None:
        drawn = self.drawn(list(self.held.values()))
        assert all(drawn[c] <= self.capacity[c] for c in drawn)
        assert sorted(c.id for c in self.allocator.claims()) == sorted(self.held)

    @invariant()
    def used_and_free_agree_with_the_claims(self) -> None:
        drawn = self.drawn(list(self.held.values()))
        used: Tally[str] = Tally()
        for claim in self.held.values():
            for grant in claim.grants:
                used[grant.slot] += number(grant.amount)  # type: ignore[assignment]
        for slot in self.allocator.slots():
            left = sum(
                min((self.capacity[c] - drawn[c]) // n for c, (n, _) in draws.items())
                for (_, name), draws in self.draws.items()
                if name == slot.slot
            )
            assert number(slot.used) == used[slot.slot]
            assert number(slot.free) == left * number(slot.quantum)
            if slot.slot == "cpu":
                assert slot.used + slot.free == slot.total


TestAllocator = AllocatorMachine.TestCase
TestAllocator.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

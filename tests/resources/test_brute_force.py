"""Never over and never under-served: the allocator beside a search of everything."""

import random
from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Claim, Counter, Device, Grant, Offer
from agent_core.contracts.errors import (
    AgentError,
    InsufficientResource,
    NotFound,
    ResourceRefused,
    WrongState,
)
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.resources.allocator import Allocator
from agent_core.resources.placement import Strategy

STEPS = 100_000
CPU = PluginInfo("device", "cpu", slots=(SlotInfo("cpu", SlotType.COUNT),))
MEM = PluginInfo("device", "mem", slots=(SlotInfo("mem", SlotType.BYTES),))
ACME = PluginInfo(
    "device",
    "acme",
    slots=(SlotInfo("acme.device", SlotType.COUNT), SlotInfo("acme.part:*-mig", SlotType.UNIQUE)),
    exclusive_slots=("acme.*",),
)
SHARE = PluginInfo(
    "device",
    "share",
    slots=(SlotInfo("share.tenth", SlotType.COUNT), SlotInfo("share.quarter", SlotType.COUNT)),
)

Left = dict[str, int]


class Node:
    """A small node of several plugins, two of them on the same cards."""

    def __init__(self, cores: int, cards: int, shared: int, masked: Sequence[str]) -> None:
        self.cores = [
            Device(
                f"c{n}",
                "",
                (Counter(f"c{n}", shared),),
                (Offer("cpu", Amount(1), {f"c{n}": 1}, most=1),),
                numa_node=n % 2,
            )
            for n in range(cores)
        ]
        self.mem = [Device("root", "", (Counter("m", 64),), (Offer("mem", Amount(1), {"m": 1}),))]
        self.cards = [d for n in range(cards) for d in _card(f"g{n}", n % 2)]
        self.shares = [_shares(f"g{n}", n % 2) for n in range(cards)]
        self.masks = {"acme": tuple(masked), "share": ("s-g2",)}
        self.by_plugin = {
            "cpu": (CPU, self.cores),
            "mem": (MEM, self.mem),
            "acme": (ACME, self.cards),
            "share": (SHARE, self.shares),
        }

    @property
    def devices(self) -> list[Device]:
        return [d for _, devices in self.by_plugin.values() for d in devices]

    @property
    def capacity(self) -> Left:
        return {c.id: c.capacity for d in self.devices for c in d.counters}

    def grantable(self) -> list[Device]:
        """What no mask withholds: with a card go its parts, with a part the whole of its card."""
        masked = self.masks["acme"]
        cards = {d.id for d in self.cards if d.id in masked or d.parent in masked}
        cards |= {d.parent or "" for d in self.cards if d.id in masked and d.parent}
        return [d for d in self.devices if d.id not in cards and d.id != "s-g2"]

    def allocator(self, strategy: Strategy) -> Allocator:
        allocator = Allocator(strategy, self.masks)
        for plugin, (info, devices) in self.by_plugin.items():
            allocator.update(plugin, info, devices)
        return allocator


def _card(name: str, node: int) -> list[Device]:
    """A card of 20 parts, with two partitions that draw on the card and on what is theirs."""
    whole = Device(
        name,
        "",
        (Counter(name, 20), Counter(f"{name}.mem", 8)),
        (Offer("acme.device", Amount(1), {name: 20, f"{name}.mem": 8}),),
        numa_node=node,
    )
    parts = [
        Device(
            f"{name}.{n}",
            "",
            (Counter(f"{name}.{n}", 1),),
            (Offer("acme.part:1-mig", Amount(1), {f"{name}.{n}": 1, name: 5, f"{name}.mem": 3}),),
            parent=name,
            numa_node=node,
        )
        for n in range(2)
    ]
    return [whole, *parts]


def _shares(name: str, node: int) -> Device:
    """Shares of the same card, of another plugin: tenths of its parts, quarters of its memory."""
    return Device(
        f"s-{name}",
        "",
        (Counter(name, 20), Counter(f"{name}.mem", 8)),
        (
            Offer("share.tenth", Amount(1, 1), {name: 2}),
            Offer("share.quarter", Amount(25, 2), {f"{name}.mem": 2, name: 1}),
        ),
        numa_node=node,
    )


REQUESTS: Mapping[str, tuple[Amount, int]] = {
    "cpu": (Amount(1), 5),
    "mem": (Amount(1), 40),
    "acme.device": (Amount(1), 3),
    "acme.part:1-mig": (Amount(1), 1),
    "share.tenth": (Amount(1, 1), 14),
    "share.quarter": (Amount(25, 2), 6),
}


def draws(devices: Sequence[Device], claims: Sequence[Claim]) -> Left:
    """Sum what claims draw, counter by counter, straight from the offers."""
    offers = {(d.id, o.slot): o for d in devices for o in d.offers}
    total: Left = {}
    for claim in claims:
        for grant in claim.grants:
            offer = offers[grant.device_id, grant.slot]
            times = grant.amount.quanta(offer.quantum)
            assert times, "a grant is a whole number of quanta"
            assert offer.most is None or times <= offer.most
            for counter, drawn in offer.draws.items():
                total[counter] = total.get(counter, 0) + drawn * times
    return total


def can_place(devices: Sequence[Device], room: Left, request: Mapping[str, Amount]) -> bool:
    """Try every way to split every slot over every device."""
    offers = [(slot, o) for slot in request for d in devices for o in d.offers if o.slot == slot]
    need = {slot: amount.quanta(REQUESTS[slot][0]) or 0 for slot, amount in request.items()}
    return any(True for _ in _ways(offers, need, dict(room)))


def _ways(offers: list[tuple[str, Offer]], need: dict[str, int], room: Left) -> Iterator[None]:
    if not any(need.values()):
        yield None
        return
    for slot, asked in need.items():
        if asked > sum(_most(o, room) for s, o in offers if s == slot):
            return
    (slot, offer), *rest = offers
    for times in range(min(need[slot], _most(offer, room)), -1, -1):
        after = {c: n - offer.draws.get(c, 0) * times for c, n in room.items()}
        yield from _ways(rest, {**need, slot: need[slot] - times}, after)


def _most(offer: Offer, room: Left) -> int:
    fits = min(room[c] // n for c, n in offer.draws.items())
    return fits if offer.most is None else min(fits, offer.most)


class Trial:
    """The allocator and the model, step by step, with a seeded choice of what to do."""

    def __init__(self, node: Node, strategy: Strategy, seed: int) -> None:
        self.node, self.strategy = node, strategy
        self.random = random.Random(seed)
        self.allocator = node.allocator(strategy)
        self.devices, self.grantable = node.devices, node.grantable()
        self.left = node.capacity
        self.held: dict[str, tuple[Claim, ...]] = {}
        self.count = self.refused = 0

    def step(self) -> None:
        choice = self.random.random()
        if choice < 0.5 or not self.held:
            self.reserve()
        elif choice < 0.98:
            self.release()
        else:
            self.random.choice([self.free_twice, self.apply_twice, self.apply_too_much])()

    def request(self) -> dict[str, Amount]:
        slots = self.random.sample(sorted(REQUESTS), self.random.choice([1, 1, 1, 2, 3]))
        return {s: REQUESTS[s][0].times(self.random.randint(1, REQUESTS[s][1])) for s in slots}

    def reserve(self) -> None:
        request = self.request()
        self.count += 1
        kernel = f"k{self.count}"
        try:
            claims = self.allocator.reserve(kernel, 1, request).claims
        except InsufficientResource:
            self.refused += 1
            excluded = sum(slot.startswith("acme") for slot in request) > 1
            assert excluded or not can_place(self.grantable, self.left, request), request
            return
        except ResourceRefused:
            assert sum(slot.startswith("acme") for slot in request) > 1
            return
        self.check(request, claims)
        self.draw(claims, 1)
        self.held[kernel] = claims

    def check(self, request: Mapping[str, Amount], claims: Sequence[Claim]) -> None:
        given: dict[str, Amount] = {}
        grants = [g for claim in claims for g in claim.grants]
        for grant in grants:
            given[grant.slot] = given.get(grant.slot, Amount(0)) + grant.amount
        assert given == dict(request)
        assert len({(g.slot, g.device_id) for g in grants}) == len(grants)
        assert {g.device_id for g in grants} <= {d.id for d in self.grantable}

    def draw(self, claims: Sequence[Claim], sign: int) -> None:
        for counter, drawn in draws(self.devices, claims).items():
            self.left[counter] -= drawn * sign
            assert self.left[counter] >= 0, "never over"

    def release(self) -> None:
        kernel = self.random.choice(list(self.held))
        claims = self.held.pop(kernel)
        for claim in claims:
            assert self.allocator.release(claim.id) == claim
        self.draw(claims, -1)

    def free_twice(self) -> None:
        self.unchanged(NotFound, lambda: self.allocator.release("gone.1.cpu"))

    def apply_twice(self) -> None:
        claim = self.random.choice(self.random.choice(list(self.held.values())))
        self.unchanged(WrongState, lambda: self.allocator.apply(claim))

    def apply_too_much(self) -> None:
        claim = Claim("x.1.share", "x", 1, "share", (Grant("share.tenth", "s-g0", Amount(1)),))
        if self.left["g0"] < 20:
            self.unchanged(InsufficientResource, lambda: self.allocator.apply(claim))

    def unchanged(self, error: type[AgentError], act: object) -> None:
        before = self.snapshot()
        with pytest.raises(error):
            act()  # type: ignore[operator]
        assert self.snapshot() == before

    def snapshot(self) -> object:
        a = self.allocator
        return a.claims(), a.slots(), a.devices(), a.quarantined()

    def restart(self) -> None:
        """Restore every claim in another order, some before the devices are known."""
        before = self.snapshot()[1:]  # type: ignore[index]
        claims = list(self.allocator.claims())
        self.random.shuffle(claims)
        self.allocator = Allocator(self.strategy, self.node.masks)
        for number, (plugin, (info, devices)) in enumerate(self.node.by_plugin.items()):
            for claim in claims[number::5]:
                self.allocator.apply(claim)
            self.allocator.update(plugin, info, devices)
        for claim in claims[4::5]:
            self.allocator.apply(claim)
        assert self.snapshot()[1:] == before  # type: ignore[index]

    def empty(self) -> None:
        for kernel in list(self.held):
            for claim in self.held.pop(kernel):
                self.allocator.release(claim.id)
        assert all(not slot.used for slot in self.allocator.slots())
        assert all(not device.used for device in self.allocator.devices())


@pytest.mark.parametrize("strategy", Strategy)
def test_a_hundred_thousand_random_steps_never_give_too_much_nor_too_little(
    strategy: Strategy,
) -> None:
    trial = Trial(Node(4, 3, 1, ["g1.1"]), strategy, seed=20_000 + len(strategy))
    for number in range(STEPS // 2):
        trial.step()
        if number % 1000 == 0:
            trial.restart()
    assert trial.refused > STEPS // 50, "a trial that never refuses proves little"
    trial.empty()


@settings(max_examples=80, deadline=None)
@given(
    cores=st.integers(1, 3),
    cards=st.integers(1, 3),
    shared=st.integers(1, 2),
    masked=st.lists(st.sampled_from(["g0", "g0.0", "g1.1", "g2"]), max_size=2),
    strategy=st.sampled_from(Strategy),
    seed=st.integers(0, 2**16),
)
def test_any_small_node_serves_what_can_be_served(
    *, cores: int, cards: int, shared: int, masked: list[str], strategy: Strategy, seed: int
) -> None:
    trial = Trial(Node(cores, cards, shared, masked), strategy, seed)
    for _ in range(60):
        trial.step()
    trial.restart()
    trial.empty()


@given(seed=st.integers(0, 2**16), strategy=st.sampled_from(Strategy))
@settings(max_examples=20, deadline=None)
def test_the_same_steps_give_the_same_devices(seed: int, strategy: Strategy) -> None:
    trials = [Trial(Node(3, 2, 2, []), strategy, seed) for _ in range(2)]
    for trial in trials:
        for _ in range(50):
            trial.step()
    assert trials[0].allocator.claims() == trials[1].allocator.claims()


@pytest.mark.parametrize("quantum", [Amount(1, 1), Amount(25, 2)])
def test_every_valid_fraction_of_a_card_can_be_had(quantum: Amount) -> None:
    parts = 10 if quantum == Amount(1, 1) else 4
    info = PluginInfo("device", "acme", slots=(SlotInfo("acme.shares", SlotType.COUNT),))
    for asked in range(1, 2 * parts + 1):
        allocator = Allocator()
        cards = [
            Device(n, "", (Counter(n, parts),), (Offer("acme.shares", quantum, {n: 1}),))
            for n in ("a", "b")
        ]
        allocator.update("acme", info, cards)
        allocator.reserve("k", 1, {"acme.shares": quantum.times(asked)})
        rest = 2 * parts - asked
        if rest:
            allocator.reserve("l", 1, {"acme.shares": quantum.times(rest)})
        with pytest.raises(InsufficientResource):
            allocator.reserve("m", 1, {"acme.shares": quantum})

"""mock: how many shares a device makes, and what one is, whatever the units."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from accel_mock.bay import Placed
from accel_mock.inventory import devices_of, slots_of
from accel_mock.kind import Kind
from accel_mock.model import Card, Rack
from accel_mock.plugin import MockDevice
from accel_mock.settings import Dealing, read_settings
from hypothesis import given
from hypothesis import strategies as st

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Grant, Health
from agent_core.contracts.errors import InsufficientResource
from agent_core.contracts.info import PluginInfo
from agent_core.resources.allocator import Allocator

QUANTA = st.sampled_from(["1", "0.5", "0.25", "0.2", "0.1", "0.05", "0.01", "0.001"])
GIB = 1 << 30


def kind_of(**dealing: Any) -> Kind:
    return Kind(Rack(Path("x"), "cuda", "CUDADevice", ()), Dealing(**dealing))


def card_of(memory: int, processors: int) -> Card:
    return Card("d", 0, "d", "CUDA GPU", None, processors, memory)


@given(
    st.integers(1, 1 << 40), st.integers(1, 1000), st.integers(1000, 1 << 36),
    st.integers(1, 200), QUANTA,
)  # fmt: skip
def test_the_scarcer_of_memory_and_processors_counts_and_nothing_is_promised_twice(
    memory: int, processors: int, unit_memory: int, unit_processors: int, quantum: str
) -> None:
    kind = kind_of(
        unit_memory=unit_memory, unit_processors=unit_processors, quantum=Amount.parse(quantum)
    )
    card = card_of(memory, processors)
    per = kind.dealing.per_share

    quanta = kind.quanta(card)

    exact = min(memory / unit_memory, processors / unit_processors)
    assert quanta <= exact * per * (1 + 1e-9)
    assert quanta > exact * per * (1 - 1e-9) - 1
    assert quanta * kind.quantum_memory(card) <= memory
    everything = Grant("cuda.shares", "d", Amount.parse(quantum).times(quanta))
    assert kind.memory(card, everything) <= memory
    if quanta >= per:
        one = Grant("cuda.shares", "d", Amount(1))
        assert kind.memory(card, one) == unit_memory
        assert kind.processors(card, one) == unit_processors


@given(st.integers(1 << 20, 1 << 40), st.integers(1, 1000), QUANTA)
def test_without_units_the_whole_device_is_one_share(
    memory: int, processors: int, quantum: str
) -> None:
    kind = kind_of(quantum=Amount.parse(quantum))
    card = card_of(memory, processors)

    assert kind.quanta(card) == kind.dealing.per_share
    assert kind.memory(card, Grant("cuda.shares", "d", Amount(1))) == memory


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=12),
    st.sampled_from(["0.05", "0.1", "0.25"]),
    st.lists(st.sampled_from([5, 10, 20]), max_size=3),
)
def test_shares_partitions_and_whole_cards_never_take_more_memory_than_there_is(
    asked: list[int], quantum: str, sizes: list[int]
) -> None:
    cards = [card_of(40 * GIB, 108)]
    cards += [
        Card(f"MIG-d/{n}/0", n + 1, "d", f"MIG-{size}g", None, 14, size * GIB, f"{size}g")
        for n, size in enumerate(sizes)
    ]
    rack = Rack(Path("x"), "cuda", "CUDADevice", tuple(cards))
    kind = Kind(rack, Dealing(quantum=Amount.parse(quantum)))
    placed = [Placed(kind, card, Health.HEALTHY, "") for card in cards]
    allocator = Allocator()
    info = PluginInfo("device", "mock", slots=tuple(slots_of([kind])))
    allocator.update("mock", info, tuple(devices_of(placed)))
    by_id = {card.id: card for card in cards}
    taken = 0

    for number, want in enumerate(asked):
        request = _request(want, quantum, sizes)
        try:
            decision = allocator.reserve(f"k{number}", 1, request)
        except InsufficientResource:
            continue
        grants = [grant for claim in decision.claims for grant in claim.grants]
        taken += sum(kind.memory(by_id[grant.device_id], grant) for grant in grants)
        assert taken <= 40 * GIB


def _request(want: int, quantum: str, sizes: list[int]) -> Mapping[str, Amount]:
    if want == 60:
        return {"cuda.device": Amount(1)}
    if want > 40 and sizes:
        return {f"cuda.device:{sizes[want % len(sizes)]}g-mig": Amount(1)}
    most = Amount(1).quanta(Amount.parse(quantum)) or 1
    return {"cuda.shares": Amount.parse(quantum).times(want % most + 1)}


def test_the_seeds_units_make_the_seeds_shares() -> None:
    """Ten sub-processors and one gibibyte are one share of a card of 108 and 40."""
    settings = read_settings({"unit_mem": 1073741824, "unit_proc": 10, "quantum_size": "0.1"})
    kind, card = Kind(kind_of().rack, settings.dealing), card_of(40 * GIB, 108)

    assert kind.quanta(card) == 108
    half = Grant("cuda.shares", "d", Amount(5, 1))
    assert (kind.memory(card, half), kind.processors(card, half)) == (GIB // 2, 5)


@pytest.mark.parametrize(
    "config",
    [
        {"allocation_mode": "discrete", "unit_mem": "2g", "reserved_memory": 0, "device_mask": "a"},
        {"allocation-mode": "discrete", "unit-mem": 2 * GIB, "reserved-memory": "0",
         "device-mask": ["a"]},
    ],
)  # fmt: skip
def test_both_spellings_say_the_same(config: Mapping[str, Any]) -> None:
    dealing = read_settings(config).dealing

    assert dealing == Dealing(shares=False, unit_memory=2 * GIB, reserved=0, mask=("a",))


def test_one_kind_is_dealt_out_otherwise_and_like_the_others_in_all_else() -> None:
    settings = read_settings(
        {"quantum": "0.1", "unit-mem": "1g", "kinds": {"rocm": {"quantum_size": "0.5"}}}
    )

    assert settings.of_kind("cuda") == Dealing(quantum=Amount(1, 1), unit_memory=GIB)
    assert settings.of_kind("rocm") == Dealing(quantum=Amount(5, 1), unit_memory=GIB)


def test_every_key_of_the_section_is_described() -> None:
    properties = dict(MockDevice.info.config_schema["properties"])
    kinds = properties["kinds"]["additionalProperties"]["properties"]

    assert all(schema["description"] for schema in [*properties.values(), *kinds.values()])
    assert {key.replace("_", "-") for key in kinds} | {
        "file",
        "files",
        "script",
        "seed",
        "kinds",
    } == {key.replace("_", "-") for key in properties}

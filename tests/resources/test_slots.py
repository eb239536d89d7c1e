"""Reading requests: everything wrong is named at once."""

import pytest

from agent_core.contracts.amount import Amount
from agent_core.contracts.errors import InsufficientResource, InvalidAmount, UnknownSlot
from agent_core.contracts.info import SlotInfo, SlotType
from agent_core.resources.catalogue import Catalogue, SlotSpec
from agent_core.resources.slots import parse_request


def spec(
    name: str, type_: SlotType, quantum: str | None, total: str, unit: str = "", plugin: str = "p"
) -> SlotSpec:
    return SlotSpec(
        name,
        plugin,
        SlotInfo(name, type_, display_unit=unit),
        Amount.parse(quantum) if quantum else None,
        Amount.parse(total),
    )


CATALOGUE = Catalogue(
    {
        s.name: s
        for s in (
            spec("cpu", SlotType.COUNT, "1", "8", "Core"),
            spec("mem", SlotType.BYTES, "1", str(1 << 40), plugin="mem"),
            spec("cuda.device", SlotType.COUNT, "1", "4", "GPU"),
            spec("cuda.shares", SlotType.COUNT, "0.1", "4", "fGPU"),
            spec("cuda.device:10g-mig", SlotType.UNIQUE, "1", "7"),
            SlotSpec("acme.shares", "acme", SlotInfo("acme.shares", SlotType.COUNT), offered=False),
        )
    },
    exclusive={"p": ("cuda.*",)},
)


def faults_of(**request: str) -> list[str]:
    return [f.message for f in parse_request(request, CATALOGUE)[1]]


def test_counts_sizes_and_fractions_are_read_exactly() -> None:
    request = {"cpu": "2.0", "mem": "1.5g", "cuda.shares": "0.5"}

    amounts, faults = parse_request(request, CATALOGUE)

    assert faults == []
    assert amounts == {"cpu": Amount(2), "mem": Amount(3 << 29), "cuda.shares": Amount(5, 1)}


@pytest.mark.parametrize(
    ("text", "size"),
    [("256m", 256 << 20), ("1g", 1 << 30), ("1Gi", 1 << 30), ("1 GiB", 1 << 30), ("12", 12)],
)
def test_sizes_have_binary_suffixes(text: str, size: int) -> None:
    assert parse_request({"mem": text}, CATALOGUE) == ({"mem": Amount(size)}, [])


def test_every_fault_is_named_at_once() -> None:
    request = {"cpu": "-1", "mem": "lots", "cuda.device": "0.5", "cuda.divice": "1", "gpu": "1"}

    amounts, faults = parse_request(request, CATALOGUE)

    assert amounts == {}
    assert [type(f) for f in faults] == [InvalidAmount] * 3 + [UnknownSlot] * 2
    assert all(f.hint for f in faults)


@pytest.mark.parametrize(
    ("slot", "text", "words"),
    [
        ("cpu", "0.5", "cpu=0.5 is refused: whole cores only"),
        ("cuda.device", "0.5", "whole GPUs only"),
        ("cuda.shares", "0.25", "multiples of 0.1 only"),
        ("cpu", "-1", "is negative"),
        ("cpu", "nan", "is not an amount"),
        ("cpu", "1e3", "is not an amount"),
        ("cpu", "", "is not an amount"),
        ("cpu", "٣", "is not an amount"),
        ("cpu", "0", "asks for nothing"),
        ("mem", "0.3", "not a whole number of bytes"),
        ("cuda.device:10g-mig", "2", "exactly 1"),
    ],
)
def test_an_amount_that_can_never_be_is_refused_with_its_reason(
    slot: str, text: str, words: str
) -> None:
    amounts, faults = parse_request({slot: text}, CATALOGUE)

    assert amounts == {}
    assert [type(f) for f in faults] == [InvalidAmount]
    assert words in faults[0].message
    assert faults[0].details["slot"] == slot


def test_an_unknown_slot_comes_with_a_suggestion() -> None:
    faults = parse_request({"cuda.share": "1", "cuda": "1", "zzz": "1"}, CATALOGUE)[1]

    assert [f.details["suggestion"] for f in faults] == ["cuda.shares", "cuda.device", None]
    assert "Did you mean 'cuda.shares'?" in str(faults[0].hint)


def test_a_declared_slot_that_no_device_offers_says_so() -> None:
    assert "none of its devices offers it" in faults_of(**{"acme.shares": "1"})[0]


def test_more_than_the_whole_node_has_is_refused_when_read() -> None:
    faults = parse_request({"cpu": "9"}, CATALOGUE)[1]

    assert [type(f) for f in faults] == [InsufficientResource]
    assert "8 in total" in faults[0].message


def test_slots_that_exclude_each_other_are_named_together() -> None:
    message = faults_of(**{"cuda.device": "1", "cuda.shares": "1", "cpu": "1"})

    assert message == ["cuda.device and cuda.shares exclude each other within one kernel"]


def test_slots_exclude_each_other_only_within_one_kind_of_device() -> None:
    names = ("cuda.device", "cuda.shares", "rocm.device")
    slots = {n: SlotSpec(n, "mock", SlotInfo(n, SlotType.COUNT), Amount(1)) for n in names}
    catalogue = Catalogue(slots, exclusive={"mock": ("*.device", "*.shares")})

    assert catalogue.excluded(["cuda.device", "rocm.device"]) == []
    assert catalogue.excluded(names) == [("cuda.device", "cuda.shares")]


@pytest.mark.parametrize("value", [True, 0.5, None, ["1"]])
def test_what_is_not_text_is_a_fault_and_not_a_crash(value: object) -> None:
    request: dict[str, str] = {"cpu": value}  # type: ignore[dict-item]

    assert [type(f) for f in parse_request(request, CATALOGUE)[1]] == [InvalidAmount]


def test_a_slot_of_a_plugin_that_has_not_reported_is_read_without_its_quantum() -> None:
    pattern = SlotSpec("x.device:*-mig", "x", SlotInfo("x.device:*-mig", SlotType.UNIQUE))
    catalogue = Catalogue(patterns=(pattern,))

    assert parse_request({"x.device:5g-mig": "1"}, catalogue) == (
        {"x.device:5g-mig": Amount(1)},
        [],
    )

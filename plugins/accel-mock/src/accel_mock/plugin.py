"""The device plugin ``mock``: accelerators that a file declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from accel_mock import readings
from accel_mock.file import find_file, read_file
from accel_mock.model import Card, Rack
from accel_mock.settings import SCHEMA, Settings, read_settings
from agent_core.contracts.amount import Amount
from agent_core.contracts.device import (
    ComputeDevice,
    Counter,
    Device,
    Grant,
    Measurement,
    Offer,
    Subject,
)
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import InvalidConfig, NotFound, bullet_list
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.hookspecs import hookimpl

_WHOLE = Amount(1)
_VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "HIP_VISIBLE_DEVICES"}


class MockDevice(ComputeDevice):
    """Mock accelerators of one kind, as the file declares them.

    Which slots and series there are depends on the file: the class declares slots by globs and the
    series of the usual kinds, and an opened instance what the file really has, with its formats.
    """

    info = PluginInfo(
        kind="device",
        name="mock",
        summary="Accelerators that a file declares, for developing without the hardware",
        config_schema=SCHEMA,
        slots=(
            SlotInfo("*.device", SlotType.COUNT, "Whole mock accelerators"),
            SlotInfo("*.shares", SlotType.COUNT, "Shares of mock accelerators"),
            SlotInfo("*.device:*-mig", SlotType.UNIQUE, "Partitions of mock accelerators"),
        ),
        exclusive_slots=("*.device", "*.shares", "*.device:*-mig"),
        metrics=tuple(series for kind in _VISIBLE for series in readings.declared(kind)),
    )

    def __init__(self) -> None:
        self._settings = Settings()
        self._rack = Rack("mock", "MockDevice", ())
        self._cards: dict[str, Card] = {}
        self._shares: dict[str, int] = {}
        self._cycle = 0

    def open(self, config: Mapping[str, Any]) -> None:
        """Find and read the file.

        Raises:
            PluginDisabled: when there is no file.
            InvalidConfig: when the section or the file has faults.
        """
        settings = read_settings(config)
        rack = read_file(find_file(settings.file))
        shares = {card.id: _shares_of(card, settings) for card in rack.cards if not card.profile}
        faults = [f"device {i} makes less than one share of {settings.quantum}"
                  for i, quanta in shares.items() if not quanta]  # fmt: skip
        if faults and settings.shares:
            raise InvalidConfig(f"[plugin.mock]: {bullet_list(faults)}", details={"faults": faults})
        self._settings, self._rack, self._cycle = settings, rack, 0
        self._cards = {card.id: card for card in rack.cards}
        self._shares = {device: max(1, quanta) for device, quanta in shares.items()}
        # The class's info is what is known without a file; this instance knows more.
        vars(self)["info"] = replace(
            type(self).info,
            slots=tuple(self._slots()),
            exclusive_slots=tuple(f"{rack.slot}{glob[1:]}" for glob in self._globs()),
            metrics=readings.declared(self._prefix),
        )

    @property
    def _prefix(self) -> str:
        return self._rack.slot.replace("-", "_")

    def _globs(self) -> Iterator[str]:
        partitions = any(card.profile for card in self._rack.cards)
        whole = any(not card.profile for card in self._rack.cards)
        yield from ["*.device"] * whole
        yield from ["*.shares"] * (whole and self._settings.shares)
        yield from ["*.device:*-mig"] * partitions

    def _slots(self) -> Iterator[SlotInfo]:
        names = {offer.slot for device in self.devices() for offer in device.offers}
        for name in sorted(names):
            shown = self._rack.format_of(name)
            yield SlotInfo(
                name,
                SlotType.UNIQUE if ":" in name else SlotType.COUNT,
                shown.description,
                shown.human_readable_name,
                shown.display_unit,
                shown.display_icon,
                shown.number_format,
            )

    def devices(self) -> Sequence[Device]:
        """List the devices of the file; they are always healthy."""
        return [self._device(card) for card in self._cards.values()]

    def _device(self, card: Card) -> Device:
        counters, offers = self._partition(card) if card.profile else self._card(card)
        has_mother = bool(card.profile) and card.mother in self._cards
        return Device(
            id=card.id,
            model=card.model,
            counters=counters,
            offers=offers,
            parent=card.mother if has_mother else None,
            physical_key=f"0000:99:{card.index:02x}.0",
            numa_node=card.numa_node,
            attributes={
                **self._rack.attributes,
                "memory": str(card.memory),
                "processors": str(card.processors),
            },
        )

    def _card(self, card: Card) -> tuple[tuple[Counter, ...], tuple[Offer, ...]]:
        """Offer a card whole and, beside it, in shares; both draw on its parts and its memory."""
        slot, shares = self._rack.slot, self._shares[card.id]
        parts, memory = _counters(card.id)
        counters = (Counter(parts, shares, "share"), Counter(memory, card.memory, "bytes"))
        whole = Offer(f"{slot}.device", _WHOLE, {parts: shares, memory: card.memory})
        if not self._settings.shares:
            return counters, (whole,)
        draws = {parts: 1, memory: max(1, card.memory // shares)}
        return counters, (whole, Offer(f"{slot}.shares", self._settings.quantum, draws))

    def _partition(self, card: Card) -> tuple[tuple[Counter, ...], tuple[Offer, ...]]:
        """Offer a partition as it is; it takes its memory from the mother, if that is there."""
        draws = {card.id: 1}
        if card.mother in self._cards:
            draws[_counters(card.mother)[1]] = min(card.memory, self._cards[card.mother].memory)
        slot = f"{self._rack.slot}.device:{card.profile}-mig"
        return (Counter(card.id, 1, "partition"),), (Offer(slot, _WHOLE, draws),)

    def describe(self, grants: Sequence[Grant]) -> ContainerEdits:
        """Tell the container which devices it has, as a real accelerator's plugin would.

        Raises:
            NotFound: when a device is not in the file any more.
        """
        given = sorted(((self._find(grant), grant) for grant in grants), key=lambda g: g[0].index)
        if not given:
            return ContainerEdits()
        slot, kind = self._rack.slot, self._rack.slot.upper().replace("-", "_")
        devices = list(dict.fromkeys(card.id for card, _ in given))
        env = {
            f"BACKENDAI_MOCK_{kind}_DEVICES": ",".join(devices),
            f"BACKENDAI_MOCK_{kind}_DEVICE_COUNT": str(len(devices)),
        }
        if slot in _VISIBLE:
            env[_VISIBLE[slot]] = ",".join(devices)
        if slot == "cuda":
            env["TF_MIN_GPU_MULTIPROCESSOR_COUNT"] = "4"
        virtual = any(grant.slot.endswith(".shares") for _, grant in given)
        return ContainerEdits(
            env=env,
            resource_data={
                f"{kind}_GLOBAL_DEVICE_IDS": _numbered(self._cards[d].index for d in devices),
                f"{kind}_RESOURCE_VIRTUALIZED": str(int(virtual)),
                f"{kind}_MEMORY_LIMITS": _numbered(
                    sum(self._memory(c, g) for c, g in given if c.id == d) for d in devices
                ),
                f"{kind}_PROCESSOR_LIMITS": _numbered(
                    sum(self._part(c, g, c.processors) for c, g in given if c.id == d)
                    for d in devices
                ),
            },
        )

    def _find(self, grant: Grant) -> Card:
        card = self._cards.get(grant.device_id)
        if card is None:
            raise NotFound(f"mock: there is no device {grant.device_id!r} in the file")
        return card

    def _part(self, card: Card, grant: Grant, whole: int) -> int:
        if not grant.slot.endswith(".shares"):
            return whole
        quanta = grant.amount.quanta(self._settings.quantum) or 0
        return whole * quanta // self._shares[card.id]

    def _memory(self, card: Card, grant: Grant) -> int:
        return self._part(card, grant, card.memory)

    def measure(self, subjects: Sequence[Subject]) -> Sequence[Measurement]:
        """Make up readings of each device and of each kernel that holds some of them."""
        self._cycle += 1
        seed, cycle, found = self._settings.seed, self._cycle, list[Measurement]()
        for card in self._cards.values():
            found.extend(readings.of_device(self._prefix, card.id, card.memory, seed, cycle))
        for subject in subjects:
            grants = [grant for claim in subject.claims for grant in claim.grants]
            known = [(self._cards[g.device_id], g) for g in grants if g.device_id in self._cards]
            memory = sum(self._memory(card, grant) for card, grant in known)
            if memory:
                made = readings.of_kernel(self._prefix, subject.kernel_id, memory, seed, cycle)
                found.extend(made)
        return found


def _shares_of(card: Card, settings: Settings) -> int:
    """Count the quanta of shares that a card makes: the scarcer of memory and processors."""
    unit_memory = settings.unit_memory or card.memory
    unit_processors = settings.unit_processors or card.processors
    per_share = _WHOLE.quanta(settings.quantum) or 1
    return min(
        card.memory * per_share // unit_memory, card.processors * per_share // unit_processors
    )


def _counters(device: str) -> tuple[str, str]:
    return f"{device}.parts", f"{device}.mem"


def _numbered(values: Iterator[int]) -> str:
    return ",".join(f"{number}:{value}" for number, value in enumerate(values))


@hookimpl
def register_device() -> type[ComputeDevice]:
    """Register the mock plugin."""
    return MockDevice

"""Looking at all cards: one that fails hides no other, and one that is gone is remembered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from accel_cuda.driver import NOT_FOUND, Driver, NvmlFailed
from accel_cuda.host import HostFiles
from accel_cuda.model import Card, Partition, Rack
from agent_core.contracts.device import Health

_UNCORRECTED, _VOLATILE = 1, 0


def survey(driver: Driver, known: Rack, host: HostFiles) -> Rack:
    """Look at every card; one that was known and is not seen now is reported as lost.

    Raises:
        NvmlFailed: when the driver does not even tell how many there are.
    """
    before = {card.id: card for card in known.cards}
    found = {card.id: card for card in _seen(driver, before, host)}
    for identity, card in before.items():
        if identity not in found:
            found[identity] = _missed(driver, card)
    version = driver.maybe("nvmlSystemGetCudaDriverVersion") or 0
    return Rack(
        driver=driver.maybe("nvmlSystemGetDriverVersion") or known.driver,
        cuda=f"{version // 1000}.{version % 1000 // 10}" if version else known.cuda,
        cards=tuple(sorted(found.values(), key=lambda card: (card.address, card.id))),
    )


def unknown(known: Rack, why: NvmlFailed) -> Rack:
    """Say of all cards that nothing is known, since the driver itself does not answer."""
    cards = (replace(c, health=Health.UNKNOWN, evidence=why.message) for c in known.cards)
    return replace(known, cards=tuple(cards))


def _seen(driver: Driver, before: Mapping[str, Card], host: HostFiles) -> Iterator[Card]:
    for index in range(driver.call("nvmlDeviceGetCount")):
        try:
            handle = driver.call("nvmlDeviceGetHandleByIndex", index)
            identity = driver.call("nvmlDeviceGetUUID", handle)
        except NvmlFailed:
            # Which card this is cannot be told; `_missed` asks for it by its id.
            continue
        known = before.get(identity, Card(identity))
        try:
            yield _read(driver, handle, known, index, host)
        except NvmlFailed as exc:
            yield replace(known, index=index, health=exc.health, evidence=exc.message)


def _missed(driver: Driver, card: Card) -> Card:
    try:
        driver.call("nvmlDeviceGetHandleByUUID", card.id)
    except NvmlFailed as exc:
        health = Health.LOST if exc.value == NOT_FOUND else exc.health
        return replace(card, health=health, evidence=exc.message)
    return replace(card, health=Health.UNKNOWN, evidence="the driver does not list this card")


def _read(driver: Driver, handle: Any, known: Card, index: int, host: HostFiles) -> Card:
    # Its condition first: a card that fails is then shown by what was known of it, all unmixed.
    health, evidence = _condition(driver, handle)
    address = _address(driver.call("nvmlDeviceGetPciInfo", handle))
    minor = driver.maybe("nvmlDeviceGetMinorNumber", handle)
    memory = driver.maybe("nvmlDeviceGetMemoryInfo", handle)
    mode = driver.maybe("nvmlDeviceGetMigMode", handle)
    return Card(
        id=known.id,
        model=driver.call("nvmlDeviceGetName", handle),
        index=index,
        minor=minor,
        address=address,
        numa_node=host.numa_node(address),
        memory=memory.total if memory else 0,
        mig=bool(mode[0]) if mode else None,
        partitions=tuple(_partitions(driver, handle, minor, host)) if mode and mode[0] else (),
        health=health,
        evidence=evidence,
    )


def _address(pci: Any) -> str:
    return f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0"


def _partitions(
    driver: Driver, card: Any, minor: int | None, host: HostFiles
) -> Iterator[Partition]:
    for place in range(driver.call("nvmlDeviceGetMaxMigDeviceCount", card)):
        handle = driver.maybe(
            "nvmlDeviceGetMigDeviceHandleByIndex", card, place, absent=(NOT_FOUND,)
        )
        if handle is None:
            continue
        attributes = driver.call("nvmlDeviceGetAttributes", handle)
        gpu_instance = driver.call("nvmlDeviceGetGpuInstanceId", handle)
        compute_instance = driver.call("nvmlDeviceGetComputeInstanceId", handle)
        yield Partition(
            id=driver.call("nvmlDeviceGetUUID", handle),
            model=driver.call("nvmlDeviceGetName", handle),
            memory=attributes.memorySizeMB << 20,
            gpu_instance=gpu_instance,
            compute_instance=compute_instance,
            slices=attributes.computeInstanceSliceCount,
            instance_slices=attributes.gpuInstanceSliceCount,
            access=host.access(minor, gpu_instance, compute_instance),
        )


def _condition(driver: Driver, handle: Any) -> tuple[Health, str]:
    """Read what the card says of its own memory; what it cannot tell is no evidence."""
    evidence = list[str]()
    if driver.maybe("nvmlDeviceGetRetiredPagesPendingStatus", handle):
        evidence.append("retired memory pages are pending until the GPU is reset")
    _, _, pending, failed = driver.maybe("nvmlDeviceGetRemappedRows", handle) or (0, 0, 0, 0)
    if failed:
        evidence.append("a memory row could not be remapped")
    if pending:
        evidence.append("remapped memory rows are pending until the GPU is reset")
    errors = driver.maybe("nvmlDeviceGetTotalEccErrors", handle, _UNCORRECTED, _VOLATILE)
    if errors:
        evidence.append(f"{errors} uncorrectable memory errors since the driver was loaded")
    return (Health.UNHEALTHY if evidence else Health.HEALTHY), "; ".join(evidence)

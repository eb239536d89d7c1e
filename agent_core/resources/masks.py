"""Devices that the operator withholds from new grants, by id or glob."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from agent_core.contracts.device import Device
from agent_core.contracts.inventory import ancestors


def matches(device: Device, glob: str) -> bool:
    """Say whether a glob names a device: by its id or its physical key."""
    return fnmatchcase(device.id, glob) or fnmatchcase(device.physical_key or "", glob)


def masked(devices: Mapping[str, Device], mask: Sequence[str]) -> dict[str, str]:
    """Say why devices are withheld, by id.

    A part of what is masked is masked with it; and what contains a masked part is withheld where
    taking it would take the part too, since both draw on one counter.
    """
    if not mask:
        return {}
    own = {d: glob for d in devices if (glob := _named(devices[d], mask))}
    why = {d: f"masked by [resource.device-mask] {glob!r}" for d, glob in own.items()}
    for device in devices.values():
        above = ancestors(device, devices)
        owner = next((a.id for a in above if a.id in own), None)
        if owner is not None:
            why.setdefault(device.id, f"its parent {owner} is masked")
        for parent in above if device.id in own else ():
            if _drawn(parent) & _drawn(device):
                why.setdefault(parent.id, f"its part {device.id} is masked")
    return why


def _named(device: Device, mask: Sequence[str]) -> str:
    return next((glob for glob in mask if matches(device, glob)), "")


def _drawn(device: Device) -> set[str]:
    return {counter for offer in device.offers for counter in offer.draws}

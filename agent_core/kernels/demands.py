"""What an image demands of the node and of its kernel: an architecture, and least amounts."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from typing import Final

from agent_core.contracts.amount import Amount
from agent_core.contracts.backend import Image
from agent_core.contracts.errors import InsufficientResource, Unsupported
from agent_core.resources.catalogue import Catalogue
from agent_core.resources.slots import parse_request

LEAST: Final = "ai.backend.resource.min."
"""The labels by which an image names the least of each slot that it runs with."""

_NAMES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def check_architecture(image: Image, machine: str | None = None) -> None:
    """Refuse an image that is made for another machine; one that does not say is let through.

    Raises:
        Unsupported: naming both architectures.
    """
    own, its = _name(machine or platform.machine()), _name(image.architecture)
    if its and its != own:
        raise Unsupported(
            f"image {image.name} is made for {its}, and this node is {own}",
            hint=f"Use an image that is made for {own}, too.",
            details={"image": image.name, "architecture": its, "node": own},
        )


def _name(machine: str) -> str:
    return _NAMES.get(machine.lower(), machine.lower())


def check_amounts(image: Image, slots: Mapping[str, str], catalogue: Catalogue) -> Iterator[str]:
    """Refuse a kernel that asks for less than its image needs; yields labels that say nothing.

    Raises:
        InsufficientResource: with every shortfall.
    """
    asked, _ = parse_request(slots, catalogue)
    short = []
    for label in sorted(label for label in image.labels if label.startswith(LEAST)):
        slot, text = label.removeprefix(LEAST), image.labels[label].strip()
        if text == "0":
            continue
        least, faults = parse_request({slot: text}, catalogue)
        if faults:
            yield f"label {label}={text!r} is passed over: {faults[0].message}"
        elif asked.get(slot, Amount(0)) < least.get(slot, Amount(0)):
            short.append(f"{slot}={text}")
    if short:
        needs = " ".join(short)
        raise InsufficientResource(
            f"image {image.name} needs at least {needs}",
            hint=f"Ask for as much: {' '.join(f'--slot {each}' for each in short)}",
            details={"image": image.name, "least": short},
        )

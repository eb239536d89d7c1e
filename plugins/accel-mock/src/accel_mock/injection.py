"""What a container is told of the devices that it was given: pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from accel_mock.bay import Placed
from accel_mock.kind import Kind, is_share
from agent_core.contracts.device import Grant
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import NotFound

_Given = tuple[Placed, Grant]


def edits_for(grants: Sequence[Grant], there: Mapping[str, Placed]) -> ContainerEdits:
    """Describe grants, those of each vendor by that vendor's variables.

    Raises:
        NotFound: when a device was never there.
    """
    families: dict[str, list[_Given]] = {}
    for placed, grant in sorted(((_find(g, there), g) for g in grants), key=_order):
        families.setdefault(placed.kind.family, []).append((placed, grant))
    env: dict[str, str] = {}
    data: dict[str, str] = {}
    for family, given in sorted(families.items()):
        env.update(_environment(family, given))
        data.update(_resource_data(family, given))
    return ContainerEdits(env=env, resource_data=data)


def _find(grant: Grant, there: Mapping[str, Placed]) -> Placed:
    placed = there.get(grant.device_id)
    if placed is None:
        raise NotFound(f"mock: there is no device {grant.device_id!r} in the files")
    return placed


def _order(given: _Given) -> tuple[int, int, str]:
    placed, grant = given
    return placed.kind.number, placed.card.index, grant.slot


def _environment(family: str, given: Sequence[_Given]) -> Iterator[tuple[str, str]]:
    devices = ",".join(_devices(given))
    yield f"BACKENDAI_MOCK_{family}_DEVICES", devices
    yield f"BACKENDAI_MOCK_{family}_DEVICE_COUNT", str(devices.count(",") + 1)
    visible = given[0][0].kind.visible
    if visible is not None:
        yield visible, devices
    if family == "CUDA":
        # Below eight multiprocessors TensorFlow would pass a GPU over.
        yield "TF_MIN_GPU_MULTIPROCESSOR_COUNT", "4"


def _resource_data(family: str, given: Sequence[_Given]) -> Iterator[tuple[str, str]]:
    by_device = _devices(given)
    virtual = any(is_share(grant) for _, grant in given)
    yield f"{family}_GLOBAL_DEVICE_IDS", _numbered(p.card.index for p, _ in _firsts(by_device))
    yield f"{family}_RESOURCE_VIRTUALIZED", str(int(virtual))
    for what, amount in (("MEMORY", Kind.memory), ("PROCESSOR", Kind.processors)):
        sums = (sum(amount(p.kind, p.card, g) for p, g in of) for of in by_device.values())
        yield f"{family}_{what}_LIMITS", _numbered(sums)
    if virtual:
        reserved = max(p.kind.dealing.reserved for p, grant in given if is_share(grant))
        yield f"{family}_RESERVED_MEMORY", str(reserved)


def _devices(given: Sequence[_Given]) -> dict[str, list[_Given]]:
    found: dict[str, list[_Given]] = {}
    for placed, grant in given:
        found.setdefault(placed.card.id, []).append((placed, grant))
    return found


def _firsts(by_device: Mapping[str, list[_Given]]) -> list[_Given]:
    return [of[0] for of in by_device.values()]


def _numbered(values: Iterable[int]) -> str:
    return ",".join(f"{number}:{value}" for number, value in enumerate(values))

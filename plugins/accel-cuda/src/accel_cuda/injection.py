"""What a container needs for the devices that it was given: pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from accel_cuda.model import Card, Partition, Rack
from accel_cuda.settings import Injection, Settings
from agent_core.contracts.device import Grant
from agent_core.contracts.edits import ContainerEdits, DeviceNode, DeviceRequest
from agent_core.contracts.errors import NotFound

_CONTROL = ("/dev/nvidiactl", "/dev/nvidia-uvm")
_KIND = "nvidia.com/gpu"

_Given = tuple[Card, Partition | None]


def edits_for(grants: Sequence[Grant], rack: Rack, settings: Settings) -> ContainerEdits:
    """Describe grants in the configured way; several are in the order of their PCI addresses.

    Raises:
        NotFound: when a device is not on this node any more.
    """
    wanted = {grant.device_id for grant in grants}
    if not wanted:
        return ContainerEdits()
    given = {_id(item): item for item in _everything(rack) if _id(item) in wanted}
    for missing in sorted(wanted - given.keys()):
        raise NotFound(
            f"cuda: there is no GPU or MIG instance {missing!r} on this node",
            hint="It was taken out, or the MIG instances were changed; `nvidia-smi -L` lists them.",
        )
    ids = tuple(given)
    return ContainerEdits(
        env=dict(_environment(ids, settings)),
        device_nodes=tuple(_nodes(given.values(), settings)),
        cdi_names=tuple(f"{_KIND}={i}" for i in ids if settings.injection is Injection.CDI),
        device_requests=tuple(_requests(ids, settings)),
        resource_data={
            "CUDA_GLOBAL_DEVICE_IDS": ",".join(
                f"{number}:{card.index}" for number, (card, _) in enumerate(given.values())
            ),
            "CUDA_RESOURCE_VIRTUALIZED": "0",
        },
    )


def _everything(rack: Rack) -> Iterator[_Given]:
    for card in rack.cards:
        yield card, None
        yield from ((card, partition) for partition in card.partitions)


def _id(item: _Given) -> str:
    card, partition = item
    return partition.id if partition else card.id


def _environment(ids: tuple[str, ...], settings: Settings) -> Iterator[tuple[str, str]]:
    yield "CUDA_VISIBLE_DEVICES", ",".join(ids)
    if settings.injection in (Injection.NODES, Injection.ENV):
        # CDI and the runtime's own driver set these themselves; twice would be injected twice.
        yield "NVIDIA_VISIBLE_DEVICES", ",".join(ids)
        yield "NVIDIA_DRIVER_CAPABILITIES", ",".join(settings.capabilities)


def _nodes(given: Iterable[_Given], settings: Settings) -> Iterator[DeviceNode]:
    if settings.injection is not Injection.NODES:
        return
    paths = dict.fromkeys(_CONTROL)
    for card, partition in given:
        if card.minor is not None:
            paths[f"/dev/nvidia{card.minor}"] = None
        for number in partition.access if partition else ():
            paths[f"/dev/nvidia-caps/nvidia-cap{number}"] = None
    yield from (DeviceNode(path, path) for path in paths)


def _requests(ids: tuple[str, ...], settings: Settings) -> Iterator[DeviceRequest]:
    if settings.injection is Injection.REQUEST:
        capabilities = tuple(sorted({"gpu", *settings.capabilities}))
        yield DeviceRequest("nvidia", tuple(sorted(ids)), capabilities)

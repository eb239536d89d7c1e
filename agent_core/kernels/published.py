"""Published ports: as plain data in holds and records, and as a kernel's processes learn them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from agent_core.contracts.backend import PublishedPort
from agent_core.kernels.service_ports import ServicePort
from agent_core.kernels.tls.fronts import Front
from agent_core.ledger import HoldRow

KIND: Final = "port"
"""The kind of their holds; the key is the host's port."""

LEADS_TO: Final = "leads_to"
"""In a hold of a port at which the agent listens: the port of the kernel behind it."""

VARIABLES: Final[Mapping[str, str]] = {
    "BACKENDAI_SERVICE_PORTS": "what is published, as `name:protocol:port,...`",
    "BACKENDAI_SERVICE_HOST": "the address to listen at",
    "BACKENDAI_PORT_<NAME>": "the port or ports on which the service of this name has to listen",
}
"""What the variables of `environment` say; they are there where anything is published."""


@dataclass(frozen=True, slots=True)
class ServicePlace:
    """Where a service has to listen, as the kernel's processes see it."""

    name: str
    protocol: str
    host: str
    ports: tuple[int, ...]


def port_to_data(port: PublishedPort) -> dict[str, Any]:
    """Render a published port."""
    return asdict(port)


def ports_of(holds: Iterable[HoldRow]) -> Iterator[PublishedPort]:
    """Rebuild the published ports among some holds, in the order of taking.

    A row that another version wrote must not hide the others: what it lacks stays empty.
    """
    for hold in holds:
        if hold.kind == KIND and hold.key.isdecimal() and LEADS_TO not in hold.undo:
            yield _port(int(hold.key), hold.undo)


def fronts_of(holds: Iterable[HoldRow]) -> Iterator[Front]:
    """Find the ports among some holds at which the agent itself listens, with TLS."""
    for hold in holds:
        behind = hold.undo.get(LEADS_TO) if hold.kind == KIND else None
        if isinstance(behind, int) and hold.key.isdecimal():
            yield Front(int(hold.key), behind)


def _port(number: int, data: Mapping[str, Any]) -> PublishedPort:
    inside = data.get("container_port")
    return PublishedPort(
        name=str(data.get("name", "")),
        protocol=str(data.get("protocol", "")),
        container_port=inside if isinstance(inside, int) else 0,
        host_port=number,
        host_ip=str(data.get("host_ip", "")),
    )


def environment(ports: Sequence[PublishedPort], *, mapped: bool) -> dict[str, str]:
    """Tell a kernel's processes on which ports and address they have to listen.

    Args:
        ports: What is published.
        mapped: Whether the backend leads the host's ports to those of the container; otherwise
            the processes listen on the host's ports themselves.
    """
    if not ports:
        return {}
    found = places(ports, mapped=mapped)
    said = {
        f"BACKENDAI_PORT_{ServicePort(place.name, place.protocol, ()).variable}": _listed(place)
        for place in found
    }
    return {
        "BACKENDAI_SERVICE_PORTS": ",".join(map(_text, found)),
        "BACKENDAI_SERVICE_HOST": found[0].host,
        **said,
    }


def places(ports: Sequence[PublishedPort], *, mapped: bool) -> tuple[ServicePlace, ...]:
    """Say where each service has to listen, in the order that they were asked for."""
    found: dict[tuple[str, str], list[PublishedPort]] = {}
    for port in ports:
        found.setdefault((port.name, port.protocol), []).append(port)
    return tuple(
        ServicePlace(
            name,
            protocol,
            "0.0.0.0" if mapped else of[0].host_ip,  # noqa: S104 - inside of the container
            tuple(port.container_port if mapped else port.host_port for port in of),
        )
        for (name, protocol), of in found.items()
    )


def _listed(place: ServicePlace) -> str:
    return ",".join(map(str, place.ports))


def _text(place: ServicePlace) -> str:
    listening = _listed(place) if len(place.ports) == 1 else f"[{_listed(place)}]"
    return f"{place.name}:{place.protocol}:{listening}"

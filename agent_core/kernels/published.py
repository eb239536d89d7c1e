"""Published ports: as plain data in holds and records, and as a kernel's processes learn them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from agent_core.contracts.backend import PublishedPort
from agent_core.kernels.service_ports import ServicePort
from agent_core.ledger import HoldRow

KIND: Final = "port"
"""The kind of their holds; the key is the host's port."""

VARIABLES: Final[Mapping[str, str]] = {
    "BACKENDAI_SERVICE_PORTS": "what is published, as `name:protocol:port,...`",
    "BACKENDAI_SERVICE_HOST": "the address to listen at",
    "BACKENDAI_PORT_<NAME>": "the port or ports on which the service of this name has to listen",
}
"""What the variables of `environment` say; they are there where anything is published."""


def port_to_data(port: PublishedPort) -> dict[str, Any]:
    """Render a published port."""
    return asdict(port)


def ports_of(holds: Iterable[HoldRow]) -> Iterator[PublishedPort]:
    """Rebuild the published ports among some holds, in the order of taking.

    A row that another version wrote must not hide the others: what it lacks stays empty.
    """
    for hold in holds:
        if hold.kind == KIND and hold.key.isdecimal():
            yield _port(int(hold.key), hold.undo)


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
    services: dict[tuple[str, str], list[str]] = {}
    for port in ports:
        listening = port.container_port if mapped else port.host_port
        services.setdefault((port.name, port.protocol), []).append(str(listening))
    said = {
        f"BACKENDAI_PORT_{ServicePort(name, protocol, ()).variable}": ",".join(listening)
        for (name, protocol), listening in services.items()
    }
    return {
        "BACKENDAI_SERVICE_PORTS": ",".join(_text(*key, of) for key, of in services.items()),
        "BACKENDAI_SERVICE_HOST": "0.0.0.0" if mapped else ports[0].host_ip,  # noqa: S104 - inside of the container
        **said,
    }


def _text(name: str, protocol: str, ports: Sequence[str]) -> str:
    listening = ports[0] if len(ports) == 1 else f"[{','.join(ports)}]"
    return f"{name}:{protocol}:{listening}"

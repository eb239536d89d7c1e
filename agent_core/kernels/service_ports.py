"""What a kernel publishes: named services and their ports, as tables or as labels of images say it.

A label says ``jupyter:http:8080,tb:tcp:[6006,6007]``. The system's own services need their names
alone: ``sshd`` and ``ttyd``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

LABEL: Final = "ai.backend.service-ports"
"""The label by which an image says what its kernels publish."""

PROTOCOLS: Final = ("tcp", "http", "preopen", "vnc", "rdp")

_LOWEST, _HIGHEST = 1025, 65534
BUILT_IN: Final[Mapping[str, tuple[str, int]]] = {"sshd": ("tcp", 2200), "ttyd": ("http", 7681)}
"""The system's own services: their protocols and the ports that are theirs alone."""

_RESERVED: Final = frozenset({2000, 2001, 2002, 2003, *(port for _, port in BUILT_IN.values())})
"""Ports inside of a container that the system itself has always used."""

_MOST: Final = 64
"""Ports that one kernel may publish; also what bounds the work for a caller who means harm."""

_LONGEST: Final = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_PORT = r"\d{1,5}"
_ITEM = re.compile(
    rf"([^\s:,\[\]]+):([^\s:,\[\]]+):({_PORT}|\[\s*{_PORT}(?:\s*,\s*{_PORT})*\s*\])", re.ASCII
)
_BETWEEN = re.compile(r",(?![^\[]*\])")
_FORM: Final = "NAME:PROTOCOL:PORT or NAME:PROTOCOL:[PORT,PORT]"
_KEYS: Final = ("name", "protocol", "container_ports")
_PASSED_OVER: Final = "pty"
"""A protocol of labels that says how a service is reached inside; it has nothing to publish."""


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One service and the ports on which it is reached inside of its container."""

    name: str
    protocol: str
    container_ports: tuple[int, ...]

    @property
    def variable(self) -> str:
        """The name as it stands in a variable of the environment."""
        return self.name.upper().replace("-", "_")

    def to_data(self) -> dict[str, Any]:
        """Render as plain JSON data."""
        ports = [*self.container_ports]
        return {"name": self.name, "protocol": self.protocol, "container_ports": ports}


def read_services(value: object) -> tuple[tuple[ServicePort, ...], list[str]]:
    """Read what a caller asks for: a list of tables or texts, or one text in the labels' grammar.

    Returns:
        The services without a fault, and every fault in words.
    """
    if value is None:
        return (), []
    items = _items(value) if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        return (), [f"{items!r} is not a list of services, nor text such as jupyter:http:8080"]
    if len(items) > _MOST:
        return (), [f"more than {_MOST} ports in all"]
    faults: list[str] = []
    found: list[ServicePort] = []
    for item in items:
        service = _service(_table(item), faults)
        if service is not None:
            _add(service, found, faults)
    return tuple(found), faults


def with_label(
    asked: Sequence[ServicePort], label: str
) -> tuple[tuple[ServicePort, ...], list[str]]:
    """Add the services of an image's label to those that a caller asks for.

    Where both want the same name or port the caller's stands. Whoever starts a kernel cannot mend
    its image, so what cannot be read is left out.

    Returns:
        All services, and what of the label was left out, in words.
    """
    told = [item for item in _items(label) if _protocol_of(item) != _PASSED_OVER]
    labelled, faults = read_services(told)
    services = [*asked]
    for service in labelled:
        if service not in services:
            _add(service, services, faults)
    left_out = [f"image label {LABEL}: {fault}; it is not published" for fault in faults]
    return tuple(services), left_out


def with_built_in(
    services: Sequence[ServicePort], names: Sequence[str]
) -> tuple[tuple[ServicePort, ...], list[str]]:
    """Add the system's own services that every kernel of this node publishes.

    Returns:
        All services, and what could not be added, in words.
    """
    everything, left_out = [*services], list[str]()
    for name in names:
        protocol, port = BUILT_IN[name]
        service = ServicePort(name, protocol, (port,))
        if service not in everything:
            _add(service, everything, left_out)
    return tuple(everything), [f"{fault}; it is not published" for fault in left_out]


def _add(service: ServicePort, services: list[ServicePort], faults: list[str]) -> None:
    why = _objection(service, services)
    if why is None:
        services.append(service)
    else:
        faults.append(f"{service.name!r}: {why}")


def _items(text: str) -> list[str]:
    """Split a text at the commas that are not between brackets."""
    if len(text) > _LONGEST:
        return [f"{text[:40]}..."]
    return _BETWEEN.split(text) if text.strip() else []


def _protocol_of(item: str) -> str:
    _, _, rest = item.partition(":")
    return rest.partition(":")[0].strip()


def _table(item: object) -> object:
    """Turn an item of the labels' grammar into a table; what is none stays as it is."""
    if isinstance(item, str) and item.strip() in BUILT_IN:
        protocol, port = BUILT_IN[item.strip()]
        return {"name": item.strip(), "protocol": protocol, "container_ports": [port]}
    match = _ITEM.fullmatch(item.strip()) if isinstance(item, str) else None
    if match is None:
        return item
    ports = [int(port) for port in re.findall(_PORT, match[3])]
    return {"name": match[1], "protocol": match[2], "container_ports": ports}


def _service(table: object, faults: list[str]) -> ServicePort | None:
    if not isinstance(table, Mapping):
        faults.append(f"{table!r} is not {_FORM}")
        return None
    found = [*_table_faults(table)]
    faults.extend(found)
    if found:
        return None
    return ServicePort(table["name"], table["protocol"], tuple(table["container_ports"]))


def _table_faults(table: Mapping[Any, Any]) -> Iterator[str]:
    name, protocol, ports = (table.get(key) for key in _KEYS)
    said = repr(name)
    for key in sorted(table.keys() - set(_KEYS), key=str):
        yield f"{said}: unknown key {key!r}; known: {', '.join(_KEYS)}"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield f"{said} is not a name of 1 to 63 letters, digits, '-' and '_'"
    if protocol not in PROTOCOLS:
        yield f"{said}: protocol {protocol!r} is none of {', '.join(PROTOCOLS)}"
    if not isinstance(ports, list | tuple) or not ports:
        yield f"{said}: container_ports {ports!r} is not a list of ports"
        return
    if len(ports) > _MOST:
        yield f"{said}: more than {_MOST} ports"
        return
    for port in ports:
        if why := _port_fault(port, own=(protocol, port) == BUILT_IN.get(str(name))):
            yield f"{said}: {why}"
    if len({*map(str, ports)}) < len(ports):
        yield f"{said}: a port is named twice"


def _port_fault(port: object, *, own: bool) -> str | None:
    if not isinstance(port, int) or isinstance(port, bool):
        return f"{port!r} is not a port"
    if not _LOWEST <= port <= _HIGHEST:
        return f"port {port} is not between {_LOWEST} and {_HIGHEST}"
    return f"port {port} is the system's own" if port in _RESERVED and not own else None


def _objection(service: ServicePort, others: Sequence[ServicePort]) -> str | None:
    """Say why a service cannot stand beside others."""
    for other in others:
        if service.variable == other.variable:
            return f"another service is named {other.name!r}"
        both = {*service.container_ports} & {*other.container_ports}
        if both:
            return f"port {min(both)} is also of {other.name!r}"
    count = sum(len(each.container_ports) for each in (service, *others))
    return f"with it there are more than {_MOST} ports" if count > _MOST else None

"""A kernel's place among the kernels of its session."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from agent_core.kernels.key_pairs import KeyPair, read_pair

_ROLE = re.compile(r"[a-z][a-z0-9-]{0,30}[a-z]|[a-z]")
_HOST = re.compile(r"[a-z][a-z0-9-]{0,36}[0-9]")

MOST: Final = 256
"""The most kernels of one session."""

SINGLE_NODE, MULTI_NODE = "single-node", "multi-node"
MODES: Final = (SINGLE_NODE, MULTI_NODE)
"""Whether the kernels of a session are all on one node."""

FIELDS: Final[Mapping[str, str]] = {
    "role": "what it is for, such as main or worker",
    "index": "its number among those of its role, from 1",
    "hosts": "the host names of all kernels of the session: role and index",
    "mode": "single-node, or multi-node where its kernels are on several nodes",
    "ssh_keypair": "public_key and private_key for the session; by default made by this node",
    "ssh_ports": "for each host the address and the port of its SSH service",
}

VARIABLES: Final[Mapping[str, str]] = {
    "BACKENDAI_CLUSTER_MODE": "`single-node` or `multi-node`",
    "BACKENDAI_CLUSTER_ROLE": "what the kernel is for",
    "BACKENDAI_CLUSTER_IDX": "its number among those of its role, from 1",
    "BACKENDAI_CLUSTER_HOST": "its host name: role and number",
    "BACKENDAI_CLUSTER_HOSTS": "the host names of all kernels of the session, with commas",
    "BACKENDAI_CLUSTER_SIZE": "how many they are",
    "BACKENDAI_CLUSTER_REPLICAS": "how many there are of each role: `main:1,sub:2`",
    "BACKENDAI_CLUSTER_LOCAL_RANK": "the kernel's place among the hosts, from 0",
}
"""What the variables of `Cluster.environment` say."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The kernels of one session as one of them sees them.

    Attributes:
        role: What this one is for.
        index: Its number among those of its role, from 1.
        hosts: The host names of all of them, each a role and an index.
        mode: Whether they are on one node or on several.
        ssh_ports: Where their SSH services are reached, by host; empty when nobody said.
        ssh_keypair: The pair that the caller gave; secret, so that nothing that is kept has it.
    """

    role: str = "main"
    index: int = 1
    hosts: tuple[str, ...] = ("main1",)
    mode: str = SINGLE_NODE
    ssh_ports: Mapping[str, tuple[str, int]] = field(default_factory=lambda: MappingProxyType({}))
    ssh_keypair: KeyPair | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """The kernel's own host name."""
        return f"{self.role}{self.index}"

    @property
    def alone(self) -> bool:
        """Whether it is the only kernel of its session."""
        return len(self.hosts) == 1

    @property
    def has_keys(self) -> bool:
        """Whether it has an SSH key pair: its own kernels share one, and others are given one."""
        return self.ssh_keypair is not None or not (self.alone or self.mode == MULTI_NODE)

    @property
    def replicas(self) -> Mapping[str, int]:
        """The number of kernels of each role."""
        return Counter(host.rstrip("0123456789") for host in self.hosts)

    def environment(self) -> dict[str, str]:
        """Return the variables that tell a kernel of its place."""
        return {
            "BACKENDAI_CLUSTER_MODE": self.mode,
            "BACKENDAI_CLUSTER_ROLE": self.role,
            "BACKENDAI_CLUSTER_IDX": str(self.index),
            "BACKENDAI_CLUSTER_HOST": self.host,
            "BACKENDAI_CLUSTER_HOSTS": ",".join(self.hosts),
            "BACKENDAI_CLUSTER_SIZE": str(len(self.hosts)),
            "BACKENDAI_CLUSTER_REPLICAS": ",".join(
                f"{role}:{number}" for role, number in self.replicas.items()
            ),
            "BACKENDAI_CLUSTER_LOCAL_RANK": str(self.hosts.index(self.host)),
        }

    def to_data(self) -> dict[str, Any]:
        """Render as plain JSON data; never with the key pair, and what came later only if set."""
        data: dict[str, Any] = {"role": self.role, "index": self.index, "hosts": [*self.hosts]}
        if self.mode != SINGLE_NODE:
            data["mode"] = self.mode
        if self.ssh_ports:
            data["ssh_ports"] = {host: [*place] for host, place in self.ssh_ports.items()}
        return data


ALONE: Final = Cluster()
"""The place of a kernel that is its whole session."""


def is_role(text: object) -> bool:
    """Say whether a text can be a role: a host name without the number at its end."""
    return isinstance(text, str) and _ROLE.fullmatch(text) is not None


def arranged(roles: Iterable[str]) -> list[Cluster]:
    """Give each kernel of a session its place, in their order."""
    numbers: Counter[str] = Counter()
    places = []
    for role in roles:
        numbers[role] += 1
        places.append((role, numbers[role]))
    hosts = tuple(f"{role}{index}" for role, index in places)
    return [Cluster(role, index, hosts) for role, index in places]


def read_cluster(value: object) -> tuple[Cluster, list[str]]:
    """Read a caller's place of a kernel; returns it with every fault in words."""
    if value is None:
        return ALONE, []
    if not isinstance(value, Mapping):
        return ALONE, [f"cluster: a {type(value).__name__} is not a table of {', '.join(FIELDS)}"]
    faults = [f"cluster: unknown field {name!r}" for name in value if name not in FIELDS]
    role, index = value.get("role", "main"), value.get("index", 1)
    if not is_role(role):
        faults.append(f"cluster.role: {role!r} is not 1 to 32 of a-z, 0-9 and '-', ending in a-z")
    if not isinstance(index, int) or isinstance(index, bool) or not 1 <= index <= MOST:
        faults.append(f"cluster.index: {index!r} is not a number from 1 to {MOST}")
    hosts = value.get("hosts", [f"{role}{index}"])
    faults += _host_faults(hosts, f"{role}{index}")
    mode = value.get("mode", SINGLE_NODE)
    if mode not in MODES:
        faults.append(f"cluster.mode: {mode!r} is none of {', '.join(MODES)}")
    pair, pair_faults = read_pair(value.get("ssh_keypair"))
    faults += [f"cluster.ssh_keypair: {fault}" for fault in pair_faults]
    ports, port_faults = _read_ports(value.get("ssh_ports", {}))
    faults += port_faults
    if faults:
        return ALONE, faults
    return Cluster(str(role), int(index), tuple(hosts), str(mode), ports, pair), []


def _read_ports(value: object) -> tuple[Mapping[str, tuple[str, int]], list[str]]:
    if not isinstance(value, Mapping) or len(value) > MOST:
        return {}, [f"cluster.ssh_ports: not a table of at most {MOST} hosts"]
    bad = [host for host, place in value.items() if not _is_reached(host, place)]
    faults = [f"cluster.ssh_ports: {host!r} is not a host with [address, port]" for host in bad]
    return ({}, faults) if faults else ({host: (at, n) for host, (at, n) in value.items()}, [])


def _is_reached(host: object, place: object) -> bool:
    if not (isinstance(host, str) and isinstance(place, list | tuple) and len(place) == 2):
        return False
    address, port = place
    is_port = isinstance(port, int) and not isinstance(port, bool) and 1 <= port <= 65535
    return is_port and isinstance(address, str) and 1 <= len(address) <= 255


def _host_faults(hosts: object, own: str) -> list[str]:
    if not isinstance(hosts, list | tuple) or not 1 <= len(hosts) <= MOST:
        return [f"cluster.hosts: a list of 1 to {MOST} host names is required"]
    bad = [host for host in hosts if not (isinstance(host, str) and _HOST.fullmatch(host))]
    faults = [f"cluster.hosts: {host!r} is not a role and an index" for host in bad]
    if not bad and len({*hosts}) != len(hosts):
        faults.append("cluster.hosts: a name is there twice")
    if not bad and own not in hosts:
        faults.append(f"cluster.hosts: the kernel's own name {own!r} is missing")
    return faults

"""A kernel's place among the kernels of its session."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

_ROLE = re.compile(r"[a-z][a-z0-9-]{0,30}[a-z]|[a-z]")
_HOST = re.compile(r"[a-z][a-z0-9-]{0,36}[0-9]")

MOST: Final = 256
"""The most kernels of one session."""

FIELDS: Final[Mapping[str, str]] = {
    "role": "what it is for, such as main or worker",
    "index": "its number among those of its role, from 1",
    "hosts": "the host names of all kernels of the session: role and index",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """The kernels of one session as one of them sees them.

    Attributes:
        role: What this one is for.
        index: Its number among those of its role, from 1.
        hosts: The host names of all of them, each a role and an index.
    """

    role: str = "main"
    index: int = 1
    hosts: tuple[str, ...] = ("main1",)

    @property
    def host(self) -> str:
        """The kernel's own host name."""
        return f"{self.role}{self.index}"

    @property
    def alone(self) -> bool:
        """Whether it is the only kernel of its session."""
        return len(self.hosts) == 1

    def environment(self) -> dict[str, str]:
        """Return the variables that tell a kernel of its place."""
        replicas = Counter(host.rstrip("0123456789") for host in self.hosts)
        return {
            "BACKENDAI_CLUSTER_ROLE": self.role,
            "BACKENDAI_CLUSTER_IDX": str(self.index),
            "BACKENDAI_CLUSTER_HOST": self.host,
            "BACKENDAI_CLUSTER_HOSTS": ",".join(self.hosts),
            "BACKENDAI_CLUSTER_SIZE": str(len(self.hosts)),
            "BACKENDAI_CLUSTER_REPLICAS": ",".join(f"{r}:{n}" for r, n in replicas.items()),
            "BACKENDAI_CLUSTER_LOCAL_RANK": str(self.hosts.index(self.host)),
        }

    def to_data(self) -> dict[str, Any]:
        """Render as plain JSON data."""
        return {"role": self.role, "index": self.index, "hosts": list(self.hosts)}


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
        return ALONE, [f"cluster: {value!r} is not a table of {', '.join(FIELDS)}"]
    faults = [f"cluster: unknown field {name!r}" for name in value if name not in FIELDS]
    role, index = value.get("role", "main"), value.get("index", 1)
    if not is_role(role):
        faults.append(f"cluster.role: {role!r} is not 1 to 32 of a-z, 0-9 and '-', ending in a-z")
    if not isinstance(index, int) or isinstance(index, bool) or not 1 <= index <= MOST:
        faults.append(f"cluster.index: {index!r} is not a number from 1 to {MOST}")
    hosts = value.get("hosts", [f"{role}{index}"])
    faults += _host_faults(hosts, f"{role}{index}")
    if faults:
        return ALONE, faults
    return Cluster(str(role), int(index), tuple(hosts)), []


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

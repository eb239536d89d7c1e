"""Keys that this agent knows and does not do: why, and what to do instead.

A value that asks for nothing is accepted, so that files which spell out such defaults load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from agent_core.config.vocabulary import KeyPath


class Refusal(NamedTuple):
    """Why a key is refused.

    Attributes:
        why: What is not done.
        instead: What to do instead.
        harmless: Values that ask for nothing, and are accepted.
    """

    why: str
    instead: str
    harmless: tuple[Any, ...] = ()


_CONSOLE = Refusal(
    "there is no console in the agent that runs whatever connects to it",
    "leave it out; `agentctl status` and [debug] asyncio tell what the agent does",
)
_KEYS = Refusal(
    "keys are not named in the configuration",
    "leave it out; `agentctl keys` makes the agent's key and admits callers",
)
_JAIL = Refusal(
    "the jail sandbox is not part of this agent",
    'leave it out, or write sandbox-type = "docker" and jail-args = []',
)
_NFS = Refusal(
    "scratch storage is made on this node",
    "leave it out, or set scratch-root to a directory that is mounted by NFS",
    harmless=("",),
)
_POLLING = Refusal(
    "a kernel's runner is awaited, not polled",
    "leave it out; init-timeout is how long it has to connect",
)

REFUSED: Final[Mapping[KeyPath, Refusal]] = {
    ("agent", "aiomonitor-termui-port"): _CONSOLE,
    ("agent", "aiomonitor-webui-port"): _CONSOLE,
    ("agent", "docker-mode"): Refusal(
        "the engine and the agent share this node's files",
        "leave it out; [plugin.docker] host is where the engine listens",
        harmless=("native",),
    ),
    ("agent", "rpc-auth-manager-public-key"): _KEYS,
    ("agent", "rpc-auth-agent-keypair"): _KEYS,
    ("container", "sandbox-type"): _JAIL._replace(harmless=("docker",)),
    ("container", "jail-args"): _JAIL._replace(harmless=([],)),
    ("container", "krunner-volumes"): Refusal(
        "the kernel runner is not kept in volumes",
        "leave it out; `agentctl runner build` makes it, and every kernel has it mounted",
        harmless=({},),
    ),
    ("container", "scratch-nfs-address"): _NFS,
    ("container", "scratch-nfs-options"): _NFS,
    ("resource", "allocation-mode"): Refusal(
        "an agent has its node's devices to itself",
        "leave it out; for several agents on one node, give each its own by device-mask",
        harmless=("shared",),
    ),
    ("resource", "allocations"): Refusal(
        "devices are not counted out to agents",
        "leave it out; device-mask and reserved-cpu keep devices and cores from an agent",
        harmless=({},),
    ),
    ("resource", "allocation-order"): Refusal(
        "all slots of a kernel are decided together, so there is no order among them",
        "leave it out",
        harmless=(["cuda", "rocm", "tpu", "cpu", "mem"],),
    ),
    ("resource", "memory-align-size"): Refusal(
        "memory is granted to the byte, as it was asked for",
        "leave it out",
        harmless=("16M",),
    ),
    ("container-logs", "chunk-size"): Refusal(
        "logs are streamed as they come",
        "leave it out; max-length bounds what is kept",
        harmless=("64K",),
    ),
    ("resource", "affinity-policy"): Refusal(
        "a kernel is always kept to the fewest NUMA nodes that hold it",
        "leave it out; allocation-strategy says how a request is split over devices",
        harmless=("PREFER_SINGLE_NODE", "prefer-single-node"),
    ),
    ("kernel-lifecycles", "init-polling-attempt"): _POLLING,
    ("kernel-lifecycles", "init-polling-timeout-sec"): _POLLING,
    ("agents",): Refusal(
        "one process is one agent",
        "start an agent for each, with a file of its own: the guide 'Two agents on one node'",
        harmless=([],),
    ),
}
"""Every key that is refused."""

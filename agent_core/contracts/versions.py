"""The versions that both sides of every seam agree on, and nothing else."""

from typing import Final

CONTRACTS: Final[dict[str, tuple[int, ...]]] = {
    "backend": (1,),
    "device": (1,),
    "scratch": (1,),
    "runner": (1,),
}
"""For each plugin kind, the contract versions that this host speaks, oldest first."""

RPC_PROTOCOL: Final = 1
"""Version of the frames between a client and the agent."""

RUNNER_PROTOCOL: Final = 1
"""Version of the messages between the agent and a kernel's runner."""

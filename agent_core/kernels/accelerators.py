"""What a kernel's environment says of its accelerators: of one kind of them, the first by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from agent_core.contracts.device import Claim
from agent_core.contracts.info import CORE_SLOTS
from agent_core.resources.allocator import Allocator

_MEBI: Final = 1 << 20
_SUFFIXES: Final = "kmgtpe"

VARIABLES: Final[Mapping[str, str]] = {
    "GPU_TYPE": "the kind of accelerators: what their slots begin with",
    "GPU_MODEL_NAME": "the model of the first",
    "GPU_CONFIG": "the memory that the kernel has of each, exactly: `0:40g,1:1500000000`",
    "TF_GPU_MEMORY_ALLOC": "the same in whole MiB, not more than there is: `0:40960`",
    "GPU_COUNT": "how many devices they are, whole or in part",
    "N_GPUS": "the same",
}
"""What the variables say; they are there where a kernel has accelerators."""


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One device that a kernel holds a part or the whole of.

    Attributes:
        kind: What its slots begin with, such as ``cuda``.
        model: What a person calls it; empty when nobody can tell now.
        memory: Bytes of its memory that are the kernel's; None when nobody can tell.
    """

    kind: str
    model: str
    memory: int | None


def accelerators_of(claims: Iterable[Claim], allocator: Allocator) -> list[Accelerator]:
    """List a kernel's accelerators in the order of granting, each device once."""
    grants = [(claim.plugin, grant) for claim in claims for grant in claim.grants]
    found: dict[tuple[str, str], Accelerator] = {}
    for plugin, grant in grants:
        if grant.slot in CORE_SLOTS:
            continue
        device, memory = allocator.given(plugin, grant)
        key = (plugin, grant.device_id)
        if (known := found.get(key)) is not None:
            memory = _sum(known.memory, memory)
        kind = grant.slot.partition(".")[0]
        found[key] = Accelerator(kind, device.model if device else "", memory)
    return [*found.values()]


def variables(accelerators: Iterable[Accelerator]) -> dict[str, str]:
    """Return the variables that tell a kernel of its accelerators; none when it has none."""
    every = [*accelerators]
    if not every:
        return {}
    kind = min(each.kind for each in every)
    own = [each for each in every if each.kind == kind]
    count = str(len(own))
    model = own[0].model
    return {
        "GPU_TYPE": kind,
        **({"GPU_MODEL_NAME": model} if model else {}),
        **_memory([each.memory for each in own]),
        "GPU_COUNT": count,
        "N_GPUS": count,
    }


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _memory(sizes: list[int | None]) -> Mapping[str, str]:
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return {}
    return {
        "GPU_CONFIG": ",".join(f"{n}:{size_text(size)}" for n, size in enumerate(known)),
        "TF_GPU_MEMORY_ALLOC": ",".join(f"{n}:{size // _MEBI}" for n, size in enumerate(known)),
    }


def size_text(size: int) -> str:
    """Write bytes with the largest binary suffix that is exact, or none."""
    suffix = ""
    for each in _SUFFIXES if size else "":
        if size % 1024:
            break
        size, suffix = size // 1024, each
    return f"{size}{suffix}"

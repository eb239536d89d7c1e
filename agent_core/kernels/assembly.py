"""What a create gathers on its way from a specification to a running container."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent_core.contracts.backend import Image, Paths, PublishedPort
from agent_core.contracts.device import Claim
from agent_core.contracts.edits import MergedEdits
from agent_core.contracts.runner import Launch
from agent_core.contracts.scratch import Scratch
from agent_core.kernels.claims import claim_from_data
from agent_core.kernels.runner.execution import Execution
from agent_core.kernels.service_ports import ServicePort
from agent_core.kernels.spec import KernelSpec
from agent_core.kernels.tls.fronts import Front
from agent_core.ledger import HoldRow, KernelRow

_PARTS: Final = ("incarnation", "kind", "number")
"""What a container's name has after the kernel."""


@dataclass(slots=True)
class Assembly:
    """The parts of one incarnation; each step fills in what the later ones need.

    `row` and `held` are what the ledger has of the kernel, for steps that are `recorded`.
    """

    spec: KernelSpec
    incarnation: int
    container: str
    run_dir: Path
    claims: tuple[Claim, ...] = ()
    why: list[dict[str, Any]] = field(default_factory=list)
    image: Image | None = None
    publishes: tuple[ServicePort, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    fronts: tuple[Front, ...] = ()
    scratch: Scratch | None = None
    edits: MergedEdits = field(default_factory=MergedEdits)
    bundle: str = ""
    paths: Paths | None = None
    launch: Launch | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    runs: Execution | None = None
    warnings: list[str] = field(default_factory=list)
    row: KernelRow | None = None
    held: Sequence[HoldRow] = ()

    def next(self, incarnation: int, container: str, held: Iterable[HoldRow]) -> Assembly:
        """Begin the next incarnation with what this one leaves to it."""
        return Assembly(
            spec=self.spec,
            incarnation=incarnation,
            container=container,
            run_dir=self.run_dir,
            claims=tuple(claim_from_data(hold.undo) for hold in held if hold.kind == "claim"),
        )


def container_name(agent_id: str, kernel_id: str, incarnation: int) -> str:
    """Name a kernel's main container before it exists: agent, kernel, incarnation, kind, number."""
    return f"{agent_id}.{kernel_id}.{incarnation}.main.0"


def kernel_of_container(agent_id: str, name: str) -> str | None:
    """Read a kernel's id from the name that `container_name` gave; None when it is no such name."""
    kernel_id, *rest = name.removeprefix(f"{agent_id}.").rsplit(".", 3)
    is_ours = name.startswith(f"{agent_id}.") and len(rest) == len(_PARTS) and kernel_id
    return kernel_id if is_ours and rest[0].isdigit() and rest[2].isdigit() else None


def kernel_of_claim(claim_id: str, plugin: str) -> str | None:
    """Read a kernel's id from that of a claim: kernel, incarnation, plugin; None from others."""
    kernel_id, _, incarnation = claim_id.removesuffix(f".{plugin}").rpartition(".")
    is_ours = claim_id.endswith(f".{plugin}") and incarnation.isdigit() and kernel_id
    return kernel_id if is_ours else None


def run_dir(run_root: Path, kernel_id: str) -> Path:
    """Choose a kernel's run directory: short, since a socket's path is bounded."""
    return run_root / hashlib.sha256(kernel_id.encode()).hexdigest()[:12]

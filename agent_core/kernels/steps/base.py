"""What a step of a create is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from agent_core.kernels.assembly import Assembly
from agent_core.kernels.services import Services
from agent_core.kernels.states import Reason
from agent_core.ledger import HoldRow


class Step:
    """One step: what it is about to take, the taking, and the giving back.

    `holds` is written to the ledger before `take`, so that a crash leaves rows that say what to
    undo. `give_back` sees nothing but such a row: it must succeed when the thing was never taken,
    or has been given back already.

    Attributes:
        name: What people see.
        kind: The kind of its holds; empty for a step that acquires nothing.
        interruptible: Whether a destroy may cancel `take` in the middle. A step that hands work
            to a thread or to a runtime is waited for: what it takes must be known to be undone.
        explains: Whether its failure says best why the container has ended by itself meanwhile.
        kept: Whether a restart keeps what it holds; the rest is given back and taken anew.
        recorded: Whether `take` needs `row` and `held` of the assembly.
        failure: The reason of a kernel that fails here.
    """

    name: ClassVar[str]
    kind: ClassVar[str] = ""
    interruptible: ClassVar[bool] = False
    explains: ClassVar[bool] = False
    kept: ClassVar[bool] = True
    recorded: ClassVar[bool] = False
    failure: ClassVar[Reason] = Reason.FAILED_TO_CREATE

    def __init__(self, services: Services) -> None:
        self.services = services

    def holds(self, build: Assembly) -> Sequence[HoldRow]:
        """Name what `take` will take, in order."""
        return ()

    async def take(self, build: Assembly) -> None:
        """Take it, and add to the assembly what later steps need."""

    async def take_again(self, build: Assembly, held: Sequence[HoldRow]) -> None:
        """Add to the assembly what later steps need of what an earlier incarnation holds."""
        await self.take(build)

    async def give_back(self, hold: HoldRow) -> None:
        """Undo one hold of this kind; succeeds when there is nothing left to undo."""

    def freed(self, hold: HoldRow) -> None:
        """Forget one hold that is durably gone, or was never written; may be told twice."""

"""One kind of accelerator: what its file says, and how its devices are dealt out.

How many shares a device makes is the formula of the system that the file's format comes from:
``min(memory / unit_mem, processors / unit_proc)``, rounded down, there to two decimals and here to
the quantum. One share is therefore ``unit_mem`` of memory and ``unit_proc`` of processors, and of
what is scarcer nothing is left. Where a unit is not given it is all that the device has, so that
the whole device is 1.0 share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from accel_mock.file import CUDA
from accel_mock.model import Card, Rack
from accel_mock.settings import Dealing
from agent_core.contracts.device import Grant

_VISIBLE: Final = {
    "CUDA": "CUDA_VISIBLE_DEVICES",
    "ROCM": "HIP_VISIBLE_DEVICES",
    "TPU": "TPU_VISIBLE_DEVICES",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One file and how its devices are dealt out.

    Attributes:
        rack: The file.
        dealing: How its devices are offered.
        number: Its position among the files.
    """

    rack: Rack
    dealing: Dealing
    number: int = 0

    @property
    def slot(self) -> str:
        """What its slots' names begin with."""
        return self.rack.slot

    @property
    def prefix(self) -> str:
        """What the names of its series begin with."""
        return self.rack.slot.replace("-", "_")

    @property
    def family(self) -> str:
        """Whose environment variables a container finds.

        A ``CUDADevice`` under a name of its own is taken for CUDA; under the name of another
        vendor it is what its name says.
        """
        own = self.prefix.upper()
        return "CUDA" if own not in _VISIBLE and self.rack.implementation == CUDA else own

    @property
    def visible(self) -> str | None:
        """The variable by which the family's libraries are told of their devices."""
        return _VISIBLE.get(self.family)

    def quanta(self, card: Card) -> int:
        """Count the quanta of shares that a card makes; see this module for the formula."""
        per_share, dealing = self.dealing.per_share, self.dealing
        of_memory = card.memory * per_share // (dealing.unit_memory or card.memory)
        unit = dealing.unit_processors or card.processors
        return min(of_memory, card.processors * per_share // unit, card.memory)

    def memory(self, card: Card, grant: Grant) -> int:
        """Say how many bytes of a card's memory a grant is."""
        unit = self.dealing.unit_memory or card.memory
        return self._part(grant, card.memory, unit)

    def processors(self, card: Card, grant: Grant) -> int:
        """Say how many of a card's sub-processors a grant is: at least one."""
        unit = self.dealing.unit_processors or card.processors
        return max(1, self._part(grant, card.processors, unit))

    def quantum_memory(self, card: Card) -> int:
        """Say how many bytes one quantum draws."""
        return max(1, (self.dealing.unit_memory or card.memory) // self.dealing.per_share)

    def _part(self, grant: Grant, whole: int, unit: int) -> int:
        if not is_share(grant):
            return whole
        quanta = grant.amount.quanta(self.dealing.quantum) or 0
        return min(whole, unit * quanta // self.dealing.per_share)


def is_share(grant: Grant) -> bool:
    """Tell a share from a whole device and a partition."""
    return grant.slot.endswith(".shares")
